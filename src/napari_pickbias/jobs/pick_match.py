"""The long part of picking: every micrograph is matched with the templates, and so is noise like its own."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import replace
from typing import Any, Literal, NamedTuple

import numpy as np
import scipy.fft
import scipy.signal
from numpy.typing import NDArray

from napari_pickbias.errors import InputError
from napari_pickbias.jobs.pick_candidates import PickCandidates, match_arrays, match_of_arrays
from napari_pickbias.jobs.pick_parameters import PickParameters
from napari_pickbias.jobs.pick_templates import TemplateInput, Views, bank_for, make_views, particle_diameter
from napari_pickbias.jobs.progress import Checkpoints, NoCheckpoints, Progress
from napari_pickbias.matching.calibrate import MatchSettings, MicrographMatch, match_micrograph, working_pixel
from napari_pickbias.matching.contrast import Contrast, clearest, contrast_tails
from napari_pickbias.matching.preprocess import prepare
from napari_pickbias.records import Micrographs
from napari_pickbias.records.micrographs import MicrographSet, one_pixel_size, read_headers

MIN_DISTANCE = 0.55
"""Default least distance of two picks, in particle diameters."""
CONTRAST_FROM = 5
"""Most micrographs on which the particles' contrast is measured."""
CtfMode = Literal["none", "flip", "multiply"]
WriteMap = Callable[[int, NDArray[np.float32], float], None]


class Plan(NamedTuple):
    """All that the micrographs share."""

    micrographs: Micrographs
    parameters: PickParameters
    shapes: list[tuple[int, int]]
    pixel_size: float
    settings: MatchSettings
    """At the pixel size of the search."""
    views: Views
    ctf: CtfMode
    border_px: int
    sign: int
    notes: tuple[str, ...]


class Searched(NamedTuple):
    """One micrograph on the pixels of the search, particles as they are in the file."""

    image: NDArray[np.float32]
    ratio: tuple[float, float]
    """Pixel of the search in pixels of the file, rows and columns."""


def match_all(
    found: MicrographSet,
    templates: TemplateInput,
    parameters: PickParameters,
    *,
    threads: int = 1,
    checkpoints: Checkpoints | None = None,
    write_map: WriteMap | None = None,
) -> Generator[Progress, None, PickCandidates]:
    """Match every micrograph; yields :class:`Progress`, returns all candidates.

    One micrograph is in memory at a time. What ``checkpoints`` holds is not matched again, and the result is the same.

    Parameters
    ----------
    found : MicrographSet
    templates : TemplateInput
    parameters : PickParameters
    threads : int
        No result depends on it.
    checkpoints : Checkpoints, optional
        Finished micrographs, for resumption.
    write_map : callable, optional
        Called with the number of the micrograph, its score map ``(h, w)`` and the map's pixel size in Å.

    Raises
    ------
    InputError
        When the data contradict each other or the parameters, or no micrograph can be used.
    """
    yield Progress("prepare", 0, 2, "reading headers, making templates")
    plan = make_plan(found, templates, parameters)
    _, candidates = yield from match_plan(plan, threads, checkpoints or NoCheckpoints(), write_map)
    return candidates


def match_plan(
    plan: Plan, threads: int, checkpoints: Checkpoints, write_map: WriteMap | None = None
) -> Generator[Progress, None, tuple[Plan, PickCandidates]]:
    """Match every micrograph of a plan; returns the plan with the particles' sign as well. See :func:`match_all`.

    Raises
    ------
    InputError
        When no micrograph can be used.
    """
    yield Progress("prepare", 1, 2)
    plan, facts = _with_contrast(plan, threads, checkpoints)
    yield Progress("prepare", 2, 2, f"{len(plan.views.images)} templates, {facts['contrast']} particles")
    total = len(plan.micrographs)
    matches: list[MicrographMatch | None] = []
    faults: dict[str, str] = {}
    yield Progress("match", 0, total)
    for number, name in enumerate(plan.micrographs.names):
        piece = f"micrograph_{number:06d}"
        arrays = checkpoints.load(piece)
        if arrays is None:
            arrays = _matched(plan, number, threads, write_map)
            checkpoints.save(piece, arrays)
        message = ""
        if "fault" in arrays:
            faults[name] = str(arrays["fault"])
            message = f"left out {name}: {faults[name]}"
            matches.append(None)
        else:
            matches.append(match_of_arrays(arrays))
        yield Progress("match", number + 1, total, message)
    if len(faults) == total:
        first = next(iter(faults))
        raise InputError(f"{first}: {faults[first]}" + (f" (so are all {total} micrographs)" if total > 1 else ""))
    return plan, PickCandidates(
        names=plan.micrographs.names,
        matches=tuple(matches),
        faults=faults,
        pixel_size_angstrom=plan.pixel_size,
        diameter_angstrom=plan.settings.diameter,
        min_distance_angstrom=plan.settings.min_distance,
        view=plan.views.view,
        euler_deg=plan.views.euler_deg,
        facts=facts,
    )


def make_plan(found: MicrographSet, templates: TemplateInput, parameters: PickParameters) -> Plan:
    """Check the data against each other and make the templates.

    Raises
    ------
    InputError
        See :func:`match_all`.
    """
    micrographs = found.micrographs
    pixel = one_pixel_size(micrographs)
    headers = read_headers(micrographs)
    shapes = [(header.shape[1], header.shape[2]) for header in headers]
    notes = list(found.notes)
    stated = headers[0].voxel_size_angstrom[0]
    if stated is not None and stated != 1.0 and abs(stated - pixel) > 0.02 * pixel:
        notes.append(
            f"{micrographs.names[0]}: its header says {stated:.4g} Å a pixel, but {pixel:.4g} Å is used; check the "
            "pixel size"
        )
    if pixel == 1.0 and parameters.pixel_size is None and found.list_file is None:
        notes.append("the micrographs' headers say 1 Å a pixel, as headers do that were never set; check --pixel-size")
    diameter = parameters.diameter or particle_diameter(templates)
    border = round(parameters.border / pixel)
    _check_sizes(micrographs, shapes, pixel, diameter, border)
    distance = parameters.min_distance or MIN_DISTANCE * diameter
    settings = MatchSettings(
        pixel,
        parameters.lowpass,
        diameter,
        distance,
        noise=parameters.noise,
        surrogates=parameters.surrogates,
        whiten=parameters.whiten,
        rule=parameters.peaks,
        rotation_basis=parameters.rotation_basis,
    )
    side = min(shapes[0]) - 2 * border
    settings = replace(settings, pixel_size=pixel * side / coarse_side(side, pixel / working_pixel(settings)))
    views = make_views(templates, parameters, settings.pixel_size, diameter)
    mode = parameters.ctf
    if mode == "auto":
        mode = "none" if micrographs.ctf is None else "multiply"
    elif mode != "none" and micrographs.ctf is None:
        raise InputError(f"--ctf {mode}: the micrographs' CTF is not known; give a STAR file with it, or --ctf none")
    return Plan(micrographs, parameters, shapes, pixel, settings, views, mode, border, -1, (*notes, *views.notes))


def _check_sizes(
    micrographs: Micrographs, shapes: list[tuple[int, int]], pixel: float, diameter: float, border: int
) -> None:
    for name, shape in zip(micrographs.names, shapes, strict=True):
        side = min(shape) - 2 * border
        if side * pixel < 4 * diameter:
            less = f" less a border of {border} px" if border else ""
            raise InputError(
                f"{name}: is {shape[0]} × {shape[1]} px{less}, {max(side, 0) * pixel:.4g} Å at {pixel:g} Å a pixel; "
                f"the search needs four particle diameters ({diameter:.4g} Å); check --pixel-size, --diameter and the "
                "templates' pixel size"
            )


def coarse_side(side: int, ratio: float) -> int:
    """Return the even number of coarse pixels that hold ``side`` pixels."""
    return side if ratio >= 1 else min(side, 2 * int(np.ceil(side * ratio / 2)))


def searched(plan: Plan, number: int) -> Searched:
    """Read a micrograph, cut its border, and bring it to the pixel size of the search.

    Raises
    ------
    InputError
        When it cannot be read, is not finite, or constant.
    """
    image = plan.micrographs.read(number)
    border = plan.border_px
    if border:
        image = image[border:-border, border:-border]
    if not np.isfinite(image).all():
        raise InputError("holds NaN or infinite pixels; mend or leave out that micrograph")
    if float(np.ptp(image)) == 0:
        raise InputError("is constant; leave out that micrograph")
    ratio = plan.pixel_size / plan.settings.pixel_size
    shape = (coarse_side(image.shape[0], ratio), coarse_side(image.shape[1], ratio))
    steps = (image.shape[0] / shape[0], image.shape[1] / shape[1])
    if shape != image.shape:
        image = image - image.mean(dtype=np.float64).astype(np.float32)
        for axis in (0, 1):
            image = scipy.signal.resample(image, shape[axis], axis=axis)
    return Searched(np.ascontiguousarray(image, np.float32), steps)


def _with_contrast(plan: Plan, threads: int, checkpoints: Checkpoints) -> tuple[Plan, dict[str, Any]]:
    """Return the plan with the sign of the particles, and what is worth keeping about it all."""
    stated = plan.parameters.contrast
    arrays = checkpoints.load("contrast")
    if arrays is None:
        arrays = {"tails": np.array(_tails(plan, threads), np.int64)}
        checkpoints.save("contrast", arrays)
    bright, dark = (int(count) for count in arrays["tails"])
    tails = Contrast(1 if bright >= dark else -1, bright, dark, (bright - dark) / max(bright + dark, 1) ** 0.5)
    measured = ("white" if tails.sign > 0 else "black") if tails.clear else "undecided"
    notes = list(plan.notes)
    contrast = stated if stated != "auto" else measured
    if contrast == "undecided":
        contrast = "black"
        notes.append(
            f"of the {bright + dark} highest peaks {dark} are dark and {bright} bright, too few or too even to tell "
            "which the particles are; dark ones are assumed, as in raw micrographs: state --contrast if you know better"
        )
    elif stated != "auto" and measured not in (stated, "undecided"):
        notes.append(
            f"--contrast {stated} was asked for, but of the highest peaks {bright} are bright and {dark} dark; check it"
        )
    sign = 1 if contrast == "white" else -1
    facts: dict[str, Any] = {
        "kind": "map" if plan.views.euler_deg[:, :2].any() else "images",
        "sign": sign,
        "contrast": contrast,
        "measured_contrast": measured,
        "bright_peaks": bright,
        "dark_peaks": dark,
        "ctf": plan.ctf,
        "working_pixel_size": plan.settings.pixel_size,
        "templates": len(plan.views.images),
        "views": int(plan.views.view.max()) + 1,
        "border_px": plan.border_px,
        "notes": notes,
    }
    return plan._replace(sign=sign), facts


def _tails(plan: Plan, threads: int) -> tuple[int, int]:
    """Count bright and dark peaks among the highest of five micrographs from the first to the last."""
    total = len(plan.micrographs)
    pixel = plan.settings.pixel_size
    diameter, distance = plan.settings.diameter / pixel, plan.settings.min_distance / pixel
    tails = []
    for number in np.unique(np.linspace(0, total - 1, min(total, CONTRAST_FROM)).round().astype(int)):
        try:
            bank = _bank(plan, int(number))
            prepared = prepare(searched(plan, int(number)).image, diameter, bank.box_px)
            tails.append(contrast_tails(prepared, bank, diameter, distance, threads=threads))
        except InputError:
            continue  # it is left out with its reason when its turn comes
    return clearest(tails)[1:3]


def _bank(plan: Plan, number: int) -> Any:
    optics = None if plan.micrographs.ctf is None else plan.micrographs.ctf.take(np.array([number]))
    return bank_for(plan.views, optics, plan.ctf)


def _matched(plan: Plan, number: int, threads: int, write_map: WriteMap | None) -> dict[str, NDArray[Any]]:
    """Match one micrograph; a fault of its own is a result too."""
    rng = np.random.default_rng([plan.parameters.seed, 1, number])
    try:
        image, ratio = searched(plan, number)
        image *= np.float32(plan.sign)
        match = match_micrograph(
            image, _bank(plan, number), plan.settings, rng, threads=threads, keep_maps=write_map is not None
        )
    except InputError as fault:
        path = str(plan.micrographs.paths[number])
        return {"fault": np.array(str(fault).removeprefix("micrograph: ").removeprefix(f"{path}: "))}
    if write_map is not None and match.scores is not None:
        scores = np.where(np.isfinite(match.scores), match.scores, 0).astype(np.float32)
        write_map(number, scores, plan.settings.pixel_size * max(match.ratio))
    tables = [_in_file_pixels(table, ratio, plan.border_px) for table in (match.peaks, *match.null_peaks)]
    full = (match.ratio[0] * ratio[0], match.ratio[1] * ratio[1])
    distance = plan.settings.min_distance / plan.pixel_size
    return match_arrays(replace(match, peaks=tables[0], null_peaks=tables[1:], ratio=full, min_distance_px=distance))


def _in_file_pixels(table: NDArray[np.void], ratio: tuple[float, float], border: int) -> NDArray[np.void]:
    moved = table.copy()
    moved["y"] = moved["y"] * ratio[0] + border
    moved["x"] = moved["x"] * ratio[1] + border
    return moved
