"""The diagnosis in three dimensions: picks back-projected at their matched angles, and noise treated alike."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_pickbias.bias.evidence import PER_SURROGATE, Frame, make_frame
from napari_pickbias.bias.frc import Null, summarise
from napari_pickbias.bias.likelihood import (
    Grid,
    Images,
    coefficient_variance,
    maximise,
    weighted_density,
    weighted_map,
    weighted_sum,
)
from napari_pickbias.bias.reconstruction import reconstruct
from napari_pickbias.bias.volume_diagnosis import VolumeDiagnosis, band_mean, comparison_mask, diagnose_volume
from napari_pickbias.bias.volume_evidence import (
    VolumeSums,
    micrograph_volumes,
    random_patches,
    treatment,
    volume_size,
)
from napari_pickbias.errors import InputError
from napari_pickbias.imaging.correlation import fourier_correlation
from napari_pickbias.imaging.ctf import ctf
from napari_pickbias.imaging.fourier import apply_filter
from napari_pickbias.imaging.rotations import matrices_from_euler, super_fibonacci_rotations
from napari_pickbias.jobs.bias import BiasResult
from napari_pickbias.jobs.bias_match import make_bias_plan
from napari_pickbias.jobs.pick_match import Plan, searched
from napari_pickbias.jobs.pick_templates import TemplateInput, Views, bank_for, make_views
from napari_pickbias.jobs.progress import Checkpoints, NoCheckpoints, Progress
from napari_pickbias.matching import TemplateBank
from napari_pickbias.matching.noise_model import surrogate
from napari_pickbias.matching.preprocess import Prepared, prepare
from napari_pickbias.matching.views import symmetry_rotations
from napari_pickbias.records.micrographs import MicrographSet

__all__ = ["Likelihood", "Null", "Tools", "VolumeResult", "likelihood", "make_tools", "one_micrograph", "volume_job"]

REPEATS = 16
"""Free nulls."""
TWINS = 2
"""Noise micrographs that go through the whole pipeline, of each micrograph."""
FEWEST = 40
"""Picks below which no map is made."""
MOST_PATCHES, GRID_ROTATIONS = 2000, 576
"""For maximum likelihood: picks at most, and rotations of its grid (about 30 degrees apart)."""


@dataclass(frozen=True)
class Likelihood:
    """The second reconstruction: discretised maximum likelihood on a grid of rotations that is not the templates'.

    Attributes
    ----------
    picks, rotations : int
        Used of each kind.
    fsc_plain, fsc_removed, twin_plain : ndarray, shape (s,)
        Half-set FSC: weights of whole patches; weights that know only the templates' span, on bias-removed patches;
        and of picked noise, whole patches.
    null_curves : ndarray, shape (R, s)
        Bias-removed patches at random places of noise with the weights of the picks.
    inside, beyond : Null
        Mean of ``fsc_removed`` in the template's band and beyond it.
    plain, twin : float
        Means of the plain curves in the template's band.
    template_correlation, twin_template_correlation : float
        Of the plain map of the picks, and of picked noise, with the templates' map.
    """

    picks: int
    rotations: int
    fsc_plain: NDArray[np.float64]
    fsc_removed: NDArray[np.float64]
    twin_plain: NDArray[np.float64]
    null_curves: NDArray[np.float64]
    inside: Null
    beyond: Null
    plain: float
    twin: float
    template_correlation: float
    twin_template_correlation: float


@dataclass(frozen=True)
class VolumeResult:
    """The diagnosis in three dimensions.

    Attributes
    ----------
    diagnosis : VolumeDiagnosis
        By the matched angles.
    likelihood : Likelihood
        By maximum likelihood.
    frame : Frame
    """

    diagnosis: VolumeDiagnosis
    likelihood: Likelihood
    frame: Frame


class Tools(NamedTuple):
    """What every pass over the micrographs of a finished diagnosis needs."""

    plan: Plan
    sharp: Views
    result: BiasResult
    group: NDArray[np.float64]

    def frame(self, number: int) -> tuple[Frame, TemplateBank]:
        """Return bank, span and bands of one micrograph, and its unfiltered bank."""
        bank, every = self.bank(number, self.plan.views), self.bank(number, self.sharp)
        first = np.flatnonzero(np.abs(every.euler_deg[:, 2]) < 1e-6)
        pixel = self.plan.settings.pixel_size
        distance = self.plan.settings.min_distance / pixel
        return make_frame(bank, every.images[first], pixel, self.result.lowpass, distance, (0.0,)), every

    def bank(self, number: int, views: Views) -> TemplateBank:
        """Return templates seen through the CTF of one micrograph."""
        optics = self.plan.micrographs.ctf
        return bank_for(views, None if optics is None else optics.take(np.array([number])), self.plan.ctf)

    def prepared(self, number: int, box: int) -> tuple[Prepared, tuple[float, float]]:
        """Return one micrograph as it was matched, and its pixel in pixels of the file."""
        image, ratio = searched(self.plan, number)
        image *= np.float32(self.result.candidates.facts["sign"])
        return prepare(image, self.plan.settings.diameter / self.plan.settings.pixel_size, box), ratio

    def picks(self, number: int, ratio: tuple[float, float]) -> NDArray[np.void]:
        """Return the picks of one micrograph on the matched pixels."""
        table = self.result.picks[self.result.candidates.names[number]].copy()
        table["y"] = (table["y"] - self.plan.border_px) / ratio[0]
        table["x"] = (table["x"] - self.plan.border_px) / ratio[1]
        return table

    def transfer(self, number: int, box: int, size: int) -> NDArray[np.float64] | None:
        """Return the CTF of one micrograph on patches of ``size`` px that have the extent of a box; None without."""
        optics = self.plan.micrographs.ctf
        if optics is None or self.plan.ctf == "none":
            return None
        o = optics.take(np.array([number]))
        found = ctf(
            (size, size), self.plan.settings.pixel_size * box / size, defocus_u_angstrom=o.defocus_u_angstrom,
            defocus_v_angstrom=o.defocus_v_angstrom, defocus_angle_deg=o.defocus_angle_deg, voltage_kv=o.voltage_kv,
            spherical_aberration_mm=o.spherical_aberration_mm, amplitude_contrast=o.amplitude_contrast,
            phase_shift_deg=o.phase_shift_deg,
        )[0]  # fmt: skip
        return np.sign(found).astype(np.float64) if self.plan.ctf == "flip" else np.asarray(found, np.float64)

    @property
    def used(self) -> list[int]:
        """Numbers of the micrographs that were matched."""
        return [number for number, match in enumerate(self.result.candidates.matches) if match is not None]


def make_tools(found: MicrographSet, templates: TemplateInput, result: BiasResult) -> Tools:
    """Prepare a further pass over the micrographs of a diagnosis.

    Raises
    ------
    InputError
        When the templates are no projections of a map: then picks have no angles.
    """
    if templates.kind != "map":
        raise InputError(
            f"--volume: {templates.name} holds class averages, so picks have no angles in space; give the map they "
            "came from as --map, or leave --volume out"
        )
    parameters = result.parameters
    picking = parameters.picking(result.lowpass)
    plan = make_bias_plan(found, templates, picking)
    pixel = plan.settings.pixel_size
    sharp = make_views(templates, picking.model_copy(update={"lowpass": 2 * pixel}), pixel, plan.settings.diameter)
    return Tools(plan, sharp, result, symmetry_rotations(parameters.symmetry))


def volume_job(
    found: MicrographSet,
    templates: TemplateInput,
    result: BiasResult,
    *,
    threads: int = 1,
    checkpoints: Checkpoints | None = None,
) -> Generator[Progress, None, VolumeResult]:
    """Reconstruct maps of the picks of a finished diagnosis; yields :class:`Progress`.

    Parameters
    ----------
    found : MicrographSet
    templates : TemplateInput
        A map.
    result : BiasResult
    threads : int
        No result depends on it.
    checkpoints : Checkpoints, optional
        Finished pieces, for resumption.

    Raises
    ------
    InputError
        When the templates are no map, or the picks are too few.
    """
    tools = make_tools(found, templates, result)
    if result.count < FEWEST:
        raise InputError(f"--volume: {result.count} picks are too few for a map; leave it out, or lower --threshold")
    checkpoints = checkpoints or NoCheckpoints()
    sums: VolumeSums | None = None
    pieces: list[dict[str, NDArray[Any]]] = []
    done, finished = tools.used, 0
    if (saved := checkpoints.load("volume")) is not None:
        finished = int(saved.pop("finished"))
        sums = VolumeSums(**{field.name: np.array(saved[field.name]) for field in fields(VolumeSums)})
        pieces = [checkpoints.load(f"volume_{number:06d}") or {} for number in done[:finished]]
    frame = tools.frame(done[0])[0]
    yield Progress("volume", finished, len(done))
    for step, number in enumerate(done[finished:], finished):
        own, piece = one_micrograph(tools, number, threads)
        if sums is None:
            sums = own
        else:
            sums.add(own)
        pieces.append(piece)
        # the small piece first: sums that count a micrograph must find it
        checkpoints.save(f"volume_{number:06d}", piece)
        checkpoints.save("volume", {**sums.arrays(), "finished": np.array(step + 1)})
        yield Progress("volume", step + 1, len(done))
    assert sums is not None
    extent, diameter = frame.box * frame.pixel_size, tools.plan.settings.diameter
    diagnosis = diagnose_volume(sums, frame.bands, tools.group, extent, diameter)
    yield Progress("volume", len(done), len(done), "maximum likelihood")
    return VolumeResult(diagnosis, likelihood(tools, frame, diagnosis, pieces), frame)


def one_micrograph(tools: Tools, number: int, threads: int) -> tuple[VolumeSums, dict[str, NDArray[Any]]]:
    """Back-project the picks of one micrograph, and of noise like it; returns also patches for maximum likelihood."""
    frame, every = tools.frame(number)
    prepared, ratio = tools.prepared(number, frame.box)
    match = tools.result.candidates.matches[number]
    assert match is not None
    rng = np.random.default_rng([tools.result.parameters.seed, 5, number])
    transfer = tools.transfer(number, frame.box, volume_size(frame))
    sums, picked, twin = micrograph_volumes(
        prepared, match.noise, tools.picks(number, ratio), frame, every.images, rng, transfer=transfer,
        repeats=REPEATS, twins=TWINS, threads=threads,
    )  # fmt: skip
    most = -(-MOST_PATCHES // len(tools.used))
    piece: dict[str, NDArray[Any]] = {}
    for name, patches in (("picked", picked), ("twin", twin)):
        for part in ("plain", "removed", "label", "half"):
            piece[f"{name}_{part}"] = getattr(patches, part)[:most]
    shape = (prepared.image.shape[0], prepared.image.shape[1])
    treated = treatment(match.noise, shape, frame, transfer)
    count, nulls = len(piece["picked_label"]), []
    plain = white = np.zeros(shape, np.float32)
    for repeat in range(REPEATS if count else 0):
        if repeat % PER_SURROGATE == 0:
            plain = surrogate(match.noise, shape, rng)
            white = np.asarray(apply_filter(plain, treated.whitening), np.float32)
        nulls.append(random_patches(plain, white, prepared.inside, count, treated, frame, rng))
    piece["nulls"] = np.stack(nulls) if nulls else np.zeros((REPEATS, 0, *(treated.size,) * 2), np.float32)
    return sums, piece


def likelihood(
    tools: Tools, frame: Frame, diagnosis: VolumeDiagnosis, pieces: list[dict[str, NDArray[Any]]]
) -> Likelihood:
    """Make maps by maximum likelihood of halves of the picks and of picked noise, started from their matched angles."""
    size = diagnosis.maps["picks"].shape[0]
    grid = Grid(
        super_fibonacci_rotations(GRID_ROTATIONS), coefficient_variance(size, frame.box), frame.bands.beyond.last,
        tools.group,
    )  # fmt: skip
    transfers = tuple(tools.transfer(number, frame.box, size) for number in tools.used)
    matched = grid._replace(rotations=matrices_from_euler(frame.bank.euler_deg))
    mask = comparison_mask(size, tools.plan.settings.diameter / diagnosis.pixel_size)

    def joined(name: str, axis: int = 0) -> NDArray[Any]:
        return np.concatenate([piece[name] for piece in pieces], axis=axis)

    def images(patches: NDArray[np.float32], chosen: NDArray[np.bool_], kind: str) -> Images:
        where = np.concatenate([np.full(len(piece[f"{kind}_label"]), k) for k, piece in enumerate(pieces)])
        return Images(patches[chosen], where[chosen], transfers)

    def halves(kind: str, patches: NDArray[np.float32]) -> list[tuple[Images, NDArray[np.float64], Any]]:
        made = []
        for number in range(2):
            chosen = joined(f"{kind}_half") == number
            own = images(patches, chosen, kind)
            labels = joined(f"{kind}_label")[chosen]
            exact = np.zeros((len(labels), len(matched.rotations)), np.float32)
            exact[np.arange(len(labels)), labels] = 1
            volume, weights = maximise(own, weighted_map(exact, own, matched), grid)
            made.append((own, volume, weights))
        return made

    def curve(pair: list[NDArray[np.float64]]) -> NDArray[np.float64]:
        return fourier_correlation(pair[0] * mask, pair[1] * mask, 3)

    def alike(pair: list[NDArray[np.float64]]) -> float:
        values = (pair[0] + pair[1]) * mask, diagnosis.maps["template"] * mask
        return float(np.corrcoef(values[0].ravel(), values[1].ravel())[0, 1])

    whole, twin = halves("picked", joined("picked_plain")), halves("twin", joined("twin_plain"))
    rests, nulls = joined("picked_removed"), joined("nulls", axis=1)
    span = halves("picked", joined("picked_plain") - rests)
    chosen = [joined("picked_half") == number for number in range(2)]

    densities = [weighted_density(weights, own, grid) for own, _, weights in span]

    def by_span(patches: NDArray[np.float32]) -> NDArray[np.float64]:
        sums = [weighted_sum(span[k][2], images(patches, chosen[k], "picked"), grid) for k in range(2)]
        return curve([reconstruct(one, density) for one, density in zip(sums, densities, strict=True)])

    removed, null_curves = by_span(rests), np.stack([by_span(each) for each in nulls])
    plain, noise = curve([one[1] for one in whole]), curve([one[1] for one in twin])
    inside, beyond = (
        summarise(band_mean(removed, band), np.array([band_mean(one, band) for one in null_curves]))
        for band in frame.bands
    )
    return Likelihood(
        len(rests), len(grid.rotations), plain, removed, noise, null_curves, inside, beyond,
        band_mean(plain, frame.bands.inside), band_mean(noise, frame.bands.inside),
        alike([one[1] for one in whole]), alike([one[1] for one in twin]),
    )  # fmt: skip
