"""The bias diagnosis in tomograms: tomograms and a map in; null picks, averages, evidence and a verdict out."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_pickbias.bias.subtomogram_figures import VolumeDiagnosis, diagnose_volumes
from napari_pickbias.bias.subtomogram_span import LARGEST_BOX
from napari_pickbias.bias.subtomograms import VolumeFrame, VolumeSums, make_volume_frame, tomogram_evidence
from napari_pickbias.bias.verdict import Rate, Verdict, judge
from napari_pickbias.errors import InputError
from napari_pickbias.jobs.bias_tomograms_parameters import BiasTomogramsParameters
from napari_pickbias.jobs.pick_templates import TemplateInput, particle_diameter
from napari_pickbias.jobs.pick_threshold import highest_noise, highest_score, rates_at
from napari_pickbias.jobs.pick_tomograms import (
    Plan,
    TomogramCandidates,
    TomogramPeaks,
    coarse_tomogram,
    make_plan,
    match_tomograms,
)
from napari_pickbias.jobs.pick_tomograms_decide import ADVICE, calibrate_volumes
from napari_pickbias.jobs.pick_tomograms_volumes import scratch_array
from napari_pickbias.jobs.progress import Checkpoints, NoCheckpoints, Progress
from napari_pickbias.matching.calibrate import Calibration
from napari_pickbias.matching.volume_bank import VolumeBank, seen_by_tilts
from napari_pickbias.matching.volume_noise import surrogate_volume, volume_power, volume_tile
from napari_pickbias.records.tomograms import TomogramSet

BEYOND = 1.8
"""The search's voxels hold detail finer than the low-pass by this factor: there the evidence lies."""
NOISE_PICKS = 200
"""Where no threshold keeps the FDR, as on noise, the one above which noise alone gives so many picks."""


@dataclass(frozen=True)
class BiasTomogramsResult:
    """Everything the report needs.

    Attributes
    ----------
    parameters : BiasTomogramsParameters
    candidates : TomogramCandidates
    calibration : Calibration
    picks, twins : dict of peak tables, by the tomogram's name
        Of the tomograms and of noise, in voxels of the files.
    threshold : float
    recommended : float or None
        What ``--fdr`` asks for.
    rate : Rate
        Share of the picks that noise gives.
    expected_null_picks : float
        On all tomograms.
    diagnosis : VolumeDiagnosis
    verdict : Verdict
    frame : VolumeFrame
    lowpass : float
        Å.
    twin_cubes : ndarray, shape (m, b, b, b), float32
        Sub-tomograms of the twins, in their order.
    warnings : tuple of str
    """

    parameters: BiasTomogramsParameters
    candidates: TomogramCandidates
    calibration: Calibration
    picks: dict[str, NDArray[np.void]]
    twins: dict[str, NDArray[np.void]]
    threshold: float
    recommended: float | None
    rate: Rate
    expected_null_picks: float
    diagnosis: VolumeDiagnosis
    verdict: Verdict
    frame: VolumeFrame
    lowpass: float
    twin_cubes: NDArray[np.float32]
    warnings: tuple[str, ...]

    @property
    def count(self) -> int:
        """Picks in all tomograms."""
        return sum(len(table) for table in self.picks.values())


def bias_tomograms_job(
    tomograms: TomogramSet,
    template: TemplateInput,
    parameters: BiasTomogramsParameters,
    scratch: Path,
    *,
    threads: int = 1,
    checkpoints: Checkpoints | None = None,
) -> Generator[Progress, None, BiasTomogramsResult]:
    """Diagnose what a search of tomograms with a map finds; yields :class:`Progress`, returns the result.

    Parameters
    ----------
    tomograms : TomogramSet
    template : TemplateInput
        A map, not low-passed.
    parameters : BiasTomogramsParameters
    scratch : Path
        A folder for volumes, as :func:`napari_pickbias.jobs.pick_tomograms.match_tomograms` needs it.
    threads : int
        No result depends on it.
    checkpoints : Checkpoints, optional
        Finished tomograms, for resumption.

    Raises
    ------
    InputError
        When the data contradict each other or the parameters, or nothing is picked.
    """
    checkpoints = checkpoints or NoCheckpoints()
    diameter = parameters.diameter or particle_diameter(template)
    lowpass = parameters.lowpass or diameter / 3
    picking = parameters.picking(lowpass)
    plan = make_plan(tomograms, template, picking, lowpass / BEYOND)
    if plan.bank.box_px > LARGEST_BOX:
        raise InputError(
            f"--lowpass {lowpass:.4g}: is too fine for the diagnosis, whose boxes of {plan.bank.box_px} voxels may "
            f"have {LARGEST_BOX}; give {diameter / 5:.4g} Å or more, and pick with it"
        )
    candidates = yield from match_tomograms(
        tomograms, template, picking, scratch, threads=threads, checkpoints=checkpoints, finest=lowpass / BEYOND
    )
    plan = plan._replace(sign=1 if candidates.facts["contrast"] == "white" else -1)
    calibration = calibrate_volumes(candidates, np.random.default_rng([parameters.seed, 2]))
    recommended = calibration.threshold_at(parameters.fdr)
    threshold = parameters.threshold or recommended or noise_threshold(candidates, NOISE_PICKS)
    yield Progress("averages", 0, len(candidates.names), "finding what the search can have put into averages")
    frame = make_volume_frame(plan.bank, unfiltered(plan), lowpass, plan.min_distance / plan.voxel_size)
    picks: dict[str, NDArray[np.void]] = {}
    twins: dict[str, NDArray[np.void]] = {}
    cubes: list[NDArray[np.float32]] = []
    sums: VolumeSums | None = None
    for number, (name, found) in enumerate(zip(candidates.names, candidates.found, strict=True)):
        if found is None:
            continue
        picks[name] = found.peaks[found.peaks["score"] >= threshold]
        twins[name] = found.null_peaks[0][: len(picks[name])]
        piece = checkpoints.load(f"evidence_{number:06d}")
        if piece is None:
            piece = _evidence(plan, number, picks[name], twins[name], frame, parameters, scratch)
            checkpoints.save(f"evidence_{number:06d}", piece)
        cubes.append(np.asarray(piece["cubes"], np.float32))
        own = VolumeSums(**{field.name: np.array(piece[field.name]) for field in fields(VolumeSums)})
        if sums is None:
            sums = own
        else:
            sums.add(own)
        yield Progress("averages", number + 1, len(candidates.names))
    assert sums is not None
    result = _concluded(
        parameters, candidates, calibration, picks, twins, threshold, recommended, sums, frame, lowpass,
        np.concatenate(cubes),
    )  # fmt: skip
    if result.count == 0:
        raise InputError(
            f"no pick reaches {threshold:.2f}: the highest score is {highest_score(candidates.used):.2f}, and noise "
            f"alone reaches {highest_noise(candidates.used):.2f}; {ADVICE}"
        )
    yield Progress("conclude", 1, 1, f"{result.verdict.name}: {result.verdict.why}")
    return result


def noise_threshold(candidates: TomogramCandidates, count: int) -> float:
    """Return the score above which noise alone gives ``count`` picks in all tomograms, or all there are."""
    heights = np.sort(np.concatenate([table["score"] for each in candidates.used for table in each.null_peaks]))[::-1]
    surrogates = np.mean([len(each.null_peaks) for each in candidates.used])
    return float(heights[min(round(count * surrogates), len(heights)) - 1])


def unfiltered(plan: Plan) -> VolumeBank:
    """Return the plan's templates without low-pass and high-pass; what no tilt has seen stays out."""
    bank, tilts = plan.bank, plan.parameters.tilt_range
    size = bank.box_px
    weight = np.ones_like(bank.filter) if tilts is None else seen_by_tilts(size, tilts).astype(np.float32)
    return replace(bank, filter=weight)


def _evidence(
    plan: Plan,
    number: int,
    picks: NDArray[np.void],
    twin: NDArray[np.void],
    frame: VolumeFrame,
    parameters: BiasTomogramsParameters,
    scratch: Path,
) -> dict[str, NDArray[Any]]:
    """Gather the evidence of one tomogram and of the surrogate that its null peaks come from."""
    volume, steps = coarse_tomogram(plan, number, scratch)
    power = volume_power(volume, volume_tile(volume.shape, plan.bank.box_px))
    noise = scratch_array(scratch, "noise", np.float32, volume.shape)
    surrogate_volume(power, noise, np.random.default_rng([parameters.seed, 1, number, 1]))
    sums, cubes = tomogram_evidence(
        volume,
        noise,
        power,
        in_search_voxels(picks, steps, volume.shape),
        in_search_voxels(twin, steps, volume.shape),
        frame,
        np.random.default_rng([parameters.seed, 3, number]),
        repeats=parameters.nulls,
    )
    return {**sums.arrays(), "cubes": cubes}


def in_search_voxels(table: NDArray[np.void], steps: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.void]:
    """Move places from voxels of the file to those of the search; both grids share the voxel at ``n // 2``."""
    moved = table.copy()
    for axis, name in enumerate("zyx"):
        side = round(shape[axis] * steps[axis])
        moved[name] = (moved[name].astype(np.float64) - side // 2) / steps[axis] + shape[axis] // 2
    return moved


def _concluded(
    parameters: BiasTomogramsParameters,
    candidates: TomogramCandidates,
    calibration: Calibration,
    picks: dict[str, NDArray[np.void]],
    twins: dict[str, NDArray[np.void]],
    threshold: float,
    recommended: float | None,
    sums: VolumeSums,
    frame: VolumeFrame,
    lowpass: float,
    cubes: NDArray[np.float32],
) -> BiasTomogramsResult:
    diagnosis = diagnose_volumes(sums, frame)
    interval, _ = rates_at(calibration, threshold)
    rate = Rate(*(interval or (float("nan"),) * 3))
    # One average of all orientations counts as one view: the stricter rule.
    verdict = judge(
        diagnosis.picks, rate, diagnosis.beyond, diagnosis.inside, diagnosis.agreement, views=1,
        trusted_share=calibration.trusted_share,
    )  # fmt: skip
    warnings = [*candidates.facts["notes"], *(f"left out {n}: {why}" for n, why in candidates.faults.items())]
    if recommended is None and parameters.threshold is None:
        warnings.append(
            f"no threshold keeps the share of false picks at {parameters.fdr:.0%}: the picks above {threshold:.2f} are "
            "judged, as many as noise alone gives there"
        )
    if frame.bands.beyond.last < frame.bands.beyond.first:
        warnings.append(
            f"at {frame.voxel_size:.3g} Å a voxel nothing finer than the map's band ({lowpass:.3g} Å) can be seen; "
            "give a larger --lowpass, and pick with it, or tomograms of smaller voxels"
        )
    if parameters.tilt_range is None:
        warnings.append(
            "without --tilt-range the unfiltered map is compared as if all tilts had been seen: agreement comes out low"
        )
    null = sum(_above(each, threshold) for each in candidates.used)
    return BiasTomogramsResult(
        parameters, candidates, calibration, picks, twins, threshold, recommended, rate, null, diagnosis, verdict,
        frame, lowpass, cubes, tuple(warnings),
    )  # fmt: skip


def _above(each: TomogramPeaks, threshold: float) -> float:
    return float(np.mean([(table["score"] >= threshold).sum() for table in each.null_peaks]))
