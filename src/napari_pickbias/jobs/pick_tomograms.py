"""Picking in tomograms: tomograms and a map in; picks with orientations, p-values, q-values and an FDR out."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_pickbias.errors import InputError
from napari_pickbias.imaging.projection import resample_volume
from napari_pickbias.jobs.pick_match import MIN_DISTANCE
from napari_pickbias.jobs.pick_templates import FEWEST_PX, MASK, TemplateInput, particle_diameter
from napari_pickbias.jobs.pick_tomograms_parameters import PickTomogramsParameters
from napari_pickbias.jobs.pick_tomograms_volumes import (
    SCORE_FILES,
    coarse_shape,
    coarsen,
    negate,
    scratch_array,
    volume_peaks,
    watched,
)
from napari_pickbias.jobs.progress import Checkpoints, NoCheckpoints, Progress
from napari_pickbias.matching.match import MatchSettings, working_pixel
from napari_pickbias.matching.significance import FEWEST_PEAKS
from napari_pickbias.matching.volume_bank import VolumeBank, volume_bank
from napari_pickbias.matching.volume_noise import surrogate_volume, volume_power, volume_template_sd, volume_tile
from napari_pickbias.records.mrc import open_data
from napari_pickbias.records.tomograms import TomogramSet

CONTRAST_ORIENTATIONS, CLEAR = 48, 7
"""Orientations at which the contrast is measured; peaks above all of the other contrast from which it is clear."""
MOST_SURROGATES = 12
"""Of a small tomogram, beyond those asked for."""

WriteMaps = Callable[[int, NDArray[np.float32], NDArray[np.integer], float], None]
"""Takes a tomogram's number, its scores, the winning orientations, and the voxel size of both in Å."""


@dataclass(frozen=True)
class TomogramPeaks:
    """Peaks of one tomogram and of its noise, places in voxels of its file.

    Attributes
    ----------
    peaks : ndarray of (z, y, x, score, template)
        All local maxima, highest first.
    null_peaks : tuple of such arrays
        Those of each surrogate.
    """

    peaks: NDArray[np.void]
    null_peaks: tuple[NDArray[np.void], ...]


@dataclass(frozen=True)
class TomogramCandidates:
    """All peaks of all tomograms.

    Attributes
    ----------
    names : tuple of str
    found : tuple of (TomogramPeaks or None)
        None where the tomogram was left out.
    faults : dict
        Why, by name.
    voxel_size_angstrom, diameter_angstrom, min_distance_angstrom : float
    euler_deg : ndarray, shape (L, 3)
        RELION's rot, tilt and psi of each orientation.
    facts : dict
        What is worth keeping for summary and report.
    """

    names: tuple[str, ...]
    found: tuple[TomogramPeaks | None, ...]
    faults: dict[str, str]
    voxel_size_angstrom: float
    diameter_angstrom: float
    min_distance_angstrom: float
    euler_deg: NDArray[np.float64]
    facts: dict[str, Any]

    @property
    def used(self) -> list[TomogramPeaks]:
        """Of the tomograms that were not left out."""
        return [each for each in self.found if each is not None]

    @property
    def min_distance_px(self) -> float:
        """In voxels of the files."""
        return self.min_distance_angstrom / self.voxel_size_angstrom


class Plan(NamedTuple):
    """What is searched for, and how coarse."""

    tomograms: TomogramSet
    parameters: PickTomogramsParameters
    bank: VolumeBank
    voxel_size: float
    """Å, of the search."""
    diameter: float
    min_distance: float
    notes: tuple[str, ...]
    sign: int = 1


def match_tomograms(
    tomograms: TomogramSet,
    template: TemplateInput,
    parameters: PickTomogramsParameters,
    scratch: Path,
    *,
    threads: int = 1,
    checkpoints: Checkpoints | None = None,
    write_maps: WriteMaps | None = None,
    finest: float | None = None,
) -> Generator[Progress, None, TomogramCandidates]:
    """Search every tomogram and its noise; yields :class:`Progress`, returns all candidates.

    One tomogram is worked on at a time, its volumes in files of ``scratch``, so that memory does not grow with it.

    Parameters
    ----------
    tomograms : TomogramSet
    template : TemplateInput
        A map.
    parameters : PickTomogramsParameters
    scratch : Path
        A folder for volumes; five times the coarsened tomogram's size is needed, and its sections once.
    threads : int
        No result depends on it.
    checkpoints : Checkpoints, optional
        Finished tomograms, for resumption.
    write_maps : callable, optional
        Called with the score map of each tomogram; the arrays are memory-mapped, and gone afterwards.
    finest : float, optional
        Of :func:`make_plan`.

    Raises
    ------
    InputError
        When the data contradict each other or the parameters, or no tomogram can be used.
    """
    checkpoints = checkpoints or NoCheckpoints()
    yield Progress("prepare", 0, 2, "making templates")
    plan = make_plan(tomograms, template, parameters, finest)
    yield Progress("prepare", 1, 2, f"{len(plan.bank)} orientations in boxes of {plan.bank.box_px} px")
    plan, facts = _with_contrast(plan, scratch, threads, checkpoints)
    yield Progress("prepare", 2, 2, f"{facts['contrast']} particles")
    found: list[TomogramPeaks | None] = []
    faults: dict[str, str] = {}
    each = len(plan.bank) * (1 + parameters.surrogates)
    total = each * len(tomograms)
    for number, name in enumerate(tomograms.names):
        arrays = checkpoints.load(f"tomogram_{number:06d}")
        if arrays is None:
            try:
                steps = _searched(plan, number, scratch, threads, write_maps)
                arrays = yield from _counted(steps, number * each, (number + 1) * each, total)
                checkpoints.save(f"tomogram_{number:06d}", arrays)
            except InputError as fault:
                faults[name] = str(fault).removeprefix("tomogram: ")
        found.append(None if arrays is None else _of_arrays(arrays))
        message = f"left out {name}: {faults[name]}" if name in faults else f"{name} searched"
        yield Progress("match", (number + 1) * each, total, message)
    if len(faults) == len(tomograms):
        first = next(iter(faults))
        also = f" (so are all {len(faults)} tomograms)" if len(faults) > 1 else ""
        raise InputError(f"{tomograms.paths[0]}: {faults[first]}{also}")
    return TomogramCandidates(
        tomograms.names,
        tuple(found),
        faults,
        tomograms.voxel_size_angstrom,
        plan.diameter,
        plan.min_distance,
        plan.bank.euler_deg,
        facts,
    )


def make_plan(
    tomograms: TomogramSet, template: TemplateInput, parameters: PickTomogramsParameters, finest: float | None = None
) -> Plan:
    """Check the data against each other and make the templates.

    Parameters
    ----------
    tomograms : TomogramSet
    template : TemplateInput
    parameters : PickTomogramsParameters
    finest : float, optional
        Detail, Å, that the voxels of the search are to hold; default: that of the low-pass.

    Raises
    ------
    InputError
        When the map is too small or too large for these tomograms, or the parameters contradict each other.
    """
    diameter = parameters.diameter or particle_diameter(template)
    distance = parameters.min_distance or MIN_DISTANCE * diameter
    settings = MatchSettings(tomograms.voxel_size_angstrom, finest or parameters.lowpass, diameter, distance)
    shape = tomograms.shapes[0]
    # the thinnest side, where rounding to whole voxels weighs most, sets the voxel size exactly
    thin = min(shape)
    ratio = tomograms.voxel_size_angstrom / working_pixel(settings)
    voxel = tomograms.voxel_size_angstrom * thin / min(coarse_shape(shape, ratio))
    if diameter / voxel < FEWEST_PX:
        raise InputError(
            f"{template.name}: the particle ({diameter:.4g} Å) is {diameter / voxel:.1f} px wide at {voxel:.4g} Å a "
            "voxel; check --pixel-size, --templates-pixel-size and --diameter"
        )
    box = 2 * int(np.ceil(MASK * diameter / voxel / 2)) + 2
    for name, each in zip(tomograms.names, tomograms.shapes, strict=True):
        if min(each) * tomograms.voxel_size_angstrom < (box + 2) * voxel:
            sides = " × ".join(str(side) for side in reversed(each))
            raise InputError(
                f"{name}: is {sides} voxels of {tomograms.voxel_size_angstrom:.4g} Å, too thin for a particle of "
                f"{diameter:.4g} Å (a box of {box * voxel:.4g} Å); check --pixel-size, --templates-pixel-size and "
                "--diameter"
            )
    lowpass = parameters.lowpass if parameters.lowpass > 2.02 * voxel else None
    volume = resample_volume(template.data, template.pixel_size_angstrom, box, voxel)
    bank = volume_bank(
        volume,
        voxel,
        parameters.angular_step,
        symmetry=parameters.symmetry,
        lowpass=lowpass,
        highpass=parameters.highpass,
        mask_diameter=(box - 2) * voxel,
        tilt_range=parameters.tilt_range,
    )
    return Plan(tomograms, parameters, bank, voxel, diameter, distance, tomograms.notes)


def coarse_tomogram(plan: Plan, number: int, scratch: Path) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Return a tomogram at the voxel size of the search, particles bright, and voxels of the file a voxel (z, y, x)."""
    shape = plan.tomograms.shapes[number]
    smaller = coarse_shape(shape, plan.tomograms.voxel_size_angstrom / plan.voxel_size)
    out = scratch_array(scratch, "tomogram", np.float32, smaller)
    data = open_data(plan.tomograms.paths[number])
    coarsen(data.reshape(shape), out, scratch)
    if plan.sign < 0:
        negate(out)
    return out, np.array(shape) / np.array(smaller)


def _with_contrast(plan: Plan, scratch: Path, threads: int, checkpoints: Checkpoints) -> tuple[Plan, dict[str, Any]]:
    """Return the plan with the sign of the particles, and what is worth keeping about it all."""
    stated = plan.parameters.contrast
    bright, dark, notes = 0, 0, list(plan.notes)
    if stated == "auto":
        arrays = checkpoints.load("contrast")
        if arrays is None:
            arrays = {"above": np.array(_above(plan, scratch, threads), np.int64)}
            if arrays["above"].any():  # else no tomogram could be used
                checkpoints.save("contrast", arrays)
        bright, dark = arrays["above"].tolist()
    measured = "white" if bright >= CLEAR else "black" if dark >= CLEAR else "undecided"
    contrast = stated if stated != "auto" else measured
    if contrast == "undecided":
        contrast = "black"
        notes.append(
            "dark and bright particles match the map about equally well; dark ones are assumed, as in tomograms that "
            "nobody inverted: state --contrast if you know better"
        )
    facts: dict[str, Any] = {
        "contrast": contrast,
        "measured_contrast": measured if stated == "auto" else "not measured",
        "working_pixel_size": plan.voxel_size,
        "orientations": len(plan.bank),
        "box_px": plan.bank.box_px,
        "notes": notes,
    }
    return plan._replace(sign=1 if contrast == "white" else -1), facts


def _above(plan: Plan, scratch: Path, threads: int) -> tuple[int, int]:
    """Count bright peaks above all dark ones and dark ones above all bright ones, at few orientations.

    Of the first usable tomogram. On Gaussian noise a count of ``n`` or more has a chance of ``2 ** -n``, whatever
    its spectrum, and a tomogram with few particles is told from noise by its highest peaks alone.
    """
    rows = np.linspace(0, len(plan.bank) - 1, min(CONTRAST_ORIENTATIONS, len(plan.bank))).round().astype(int)
    few = plan.bank.take(np.unique(rows))
    for number in range(len(plan.tomograms)):
        try:
            volume, _ = coarse_tomogram(plan, number, scratch)
            sd = volume_template_sd(few, volume_power(volume, volume_tile(volume.shape, few.box_px)))
        except InputError:
            continue  # it is left out with its reason when its turn comes
        heights = []
        for _ in range(2):
            peaks = volume_peaks(volume, few, sd, plan.min_distance / plan.voxel_size, threads, scratch)
            heights.append(peaks["score"])
            negate(volume)
        return tuple((own > other.max(initial=-np.inf)).sum() for own, other in (heights, heights[::-1]))
    return 0, 0


def _searched(
    plan: Plan, number: int, scratch: Path, threads: int, write_maps: WriteMaps | None
) -> Generator[int, None, dict[str, NDArray[Any]]]:
    """Search one tomogram and its noise; yields the number of orientations done, returns the peaks."""
    volume, steps = coarse_tomogram(plan, number, scratch)
    distance = plan.min_distance / plan.voxel_size
    power = volume_power(volume, volume_tile(volume.shape, plan.bank.box_px))
    sd = volume_template_sd(plan.bank, power)

    def search(base: int) -> Generator[int, None, NDArray[np.void]]:
        steps_done = watched(lambda told: volume_peaks(volume, plan.bank, sd, distance, threads, scratch, told))
        while True:
            try:
                done = next(steps_done)
            except StopIteration as end:
                table: NDArray[np.void] = end.value
                return table
            try:
                yield base + done
            except GeneratorExit:
                steps_done.close()
                raise

    tables = [_in_file_voxels((yield from search(0)), steps, volume.shape)]
    if write_maps is not None:
        scores, best = (np.load(scratch / name, mmap_mode="r") for name in SCORE_FILES)
        write_maps(number, scores, best, plan.voxel_size)
    wanted, known, made = plan.parameters.surrogates, 0, 0
    while made < wanted or (known < FEWEST_PEAKS and made < wanted + MOST_SURROGATES):
        made += 1
        surrogate_volume(power, volume, np.random.default_rng([plan.parameters.seed, 1, number, made]))
        tables.append(_in_file_voxels((yield from search(made * len(plan.bank))), steps, volume.shape))
        known += len(tables[-1])
    return {f"peaks_{index:03d}": table for index, table in enumerate(tables)}


def _counted(
    steps: Generator[int, None, dict[str, NDArray[Any]]], first: int, last: int, total: int
) -> Generator[Progress, None, dict[str, NDArray[Any]]]:
    """Turn orientations done into progress; small tomograms' further surrogates do not count."""
    while True:
        try:
            done = next(steps)
        except StopIteration as end:
            arrays: dict[str, NDArray[Any]] = end.value
            return arrays
        try:
            yield Progress("match", min(first + done, last), total)
        except GeneratorExit:
            steps.close()
            raise


def _in_file_voxels(table: NDArray[np.void], steps: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.void]:
    """Move places from coarse voxels to those of the file; both grids share the voxel at ``n // 2``."""
    moved = table.copy()
    for axis, name in enumerate("zyx"):
        side = round(shape[axis] * steps[axis])
        moved[name] = (moved[name].astype(np.float64) - shape[axis] // 2) * steps[axis] + side // 2
    return moved


def _of_arrays(arrays: Mapping[str, NDArray[Any]]) -> TomogramPeaks:
    tables = [arrays[name] for name in sorted(arrays)]
    return TomogramPeaks(tables[0], tuple(tables[1:]))
