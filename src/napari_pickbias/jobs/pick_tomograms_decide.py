"""Where the threshold of picks in tomograms lies, and what the picks above it are worth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_pickbias.errors import InputError
from napari_pickbias.jobs.pick_threshold import UNSURE, asked_threshold, highest_noise, highest_score, rates_at
from napari_pickbias.jobs.pick_tomograms import TomogramCandidates
from napari_pickbias.jobs.pick_tomograms_parameters import PickTomogramsParameters
from napari_pickbias.matching.calibrate import GRID, Calibration
from napari_pickbias.matching.significance import fit_null, free_area_fdr, p_values, q_values

Columns = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class TomogramResult:
    """Everything the report and the adapters need.

    Attributes
    ----------
    parameters : PickTomogramsParameters
    candidates : TomogramCandidates
    calibration : Calibration
        ``expected_false`` is per tomogram; no local FDR.
    threshold : float
    picks : dict of columns, by the tomogram's name
        ``x_px``, ``y_px``, ``z_px`` (voxels of the file from 0), ``score``, ``rot_deg``, ``tilt_deg``, ``psi_deg``,
        ``p_value``, ``q_value``; highest score first.
    fdr : (float, float, float) or None
        Expected share of false picks with a 95 % interval; None without picks.
    expected_false : float
        False picks expected on all tomograms.
    warnings : tuple of str
    """

    parameters: PickTomogramsParameters
    candidates: TomogramCandidates
    calibration: Calibration
    threshold: float
    picks: dict[str, Columns]
    fdr: tuple[float, float, float] | None
    expected_false: float
    warnings: tuple[str, ...]

    @property
    def count(self) -> int:
        """Picks in all tomograms."""
        return sum(len(columns["score"]) for columns in self.picks.values())


def check(parameters: PickTomogramsParameters) -> None:
    """Refuse parameters that contradict each other.

    Raises
    ------
    InputError
        For a threshold and an FDR at once.
    """
    if parameters.threshold is not None and parameters.fdr is not None:
        raise InputError(
            f"--threshold {parameters.threshold:g} --fdr {parameters.fdr:g}: each sets the threshold; give one of them"
        )


def decide(candidates: TomogramCandidates, parameters: PickTomogramsParameters) -> TomogramResult:
    """Draw the threshold and gather the picks above it; nothing is searched.

    Raises
    ------
    InputError
        When no threshold keeps the FDR asked for, or there is too little noise to learn from.
    """
    check(parameters)
    calibration = calibrate_volumes(candidates, np.random.default_rng([parameters.seed, 2]))
    threshold = asked_threshold(candidates.used, calibration, parameters.threshold, parameters.fdr, ADVICE)
    picks = _picks(candidates, calibration, threshold)
    fdr, expected = rates_at(calibration, threshold)
    count = sum(len(columns["score"]) for columns in picks.values())
    warnings = [*candidates.facts["notes"]]
    warnings += [f"left out {name}: {why}" for name, why in candidates.faults.items()]
    warnings += calibration.warnings
    if fdr is not None and fdr[2] > UNSURE and count:
        warnings.append(f"as many as {fdr[2]:.0%} of the picks may be false; {ADVICE}")
    if count == 0:
        warnings.append(
            f"no pick reaches {threshold:g}: the highest score is {highest_score(candidates.used):.2f}, and noise "
            f"alone reaches {highest_noise(candidates.used):.2f}; {ADVICE}"
        )
    false = expected[0] * len(candidates.used)
    return TomogramResult(
        parameters, candidates, calibration, threshold, picks, fdr if count else None, false, tuple(warnings)
    )


ADVICE = "check --pixel-size, --contrast, --tilt-range and --diameter, and whether this map is in these tomograms"


def calibrate_volumes(candidates: TomogramCandidates, rng: np.random.Generator) -> Calibration:
    """Compare the peaks of tomograms with those of their noise, as :func:`napari_pickbias.matching.calibrate` does.

    Parameters
    ----------
    candidates : TomogramCandidates
    rng : numpy.random.Generator
        For the interval.

    Raises
    ------
    InputError
        When there are too few peaks of noise.
    """
    used, distance = candidates.used, candidates.min_distance_px
    null = fit_null(np.concatenate([table["score"] for each in used for table in each.null_peaks]))
    p = [p_values(each.peaks["score"], null) for each in used]
    ends = np.cumsum([len(values) for values in p])[:-1]
    q = [np.asarray(part) for part in np.split(q_values(np.concatenate(p)), ends)]
    picks, surrogates = [each.peaks for each in used], [list(each.null_peaks) for each in used]
    trusted = [sure_from(table, noise) for table, noise in zip(picks, surrogates, strict=True)]
    share = float(np.mean(np.isfinite(trusted)))
    heights = np.concatenate([table["score"] for table in picks] + [null.heights])
    first = GRID * np.floor(max(float(heights.min()), 1.0) / GRID)
    last = max(float(heights.max()), first + 1.0)
    thresholds = np.round(np.arange(first, last + GRID, GRID), 6)
    curve = free_area_fdr(picks, surrogates, thresholds, distance, trusted, rng)
    expected = np.column_stack([curve.false_picks, curve.false_low, curve.false_high]) / len(used)
    warnings: tuple[str, ...] = ()
    if share < 0.5:
        warnings = (f"most of the tomograms do not differ from noise; {ADVICE}",)
    unknown = [np.full(len(values), np.nan) for values in p]
    return Calibration(p, q, unknown, curve, expected, None, share, None, warnings)


def sure_from(real: NDArray[np.void], noise: list[NDArray[np.void]]) -> float:
    """Return the lowest score from which on, and from every higher one on, noise peaks are at most half the real ones.

    Noise peaks count in the whole tomogram: its own peaks take most of the free volume on pure noise too.

    Parameters
    ----------
    real : ndarray of (z, y, x, score, template)
    noise : list of such arrays
        Those of each surrogate.

    Returns
    -------
    float
        Infinity when there is no such score.
    """
    scores = np.sort(real["score"])[::-1].astype(np.float64)
    null = np.sort(np.concatenate(noise)["score"].astype(np.float64))
    false = (len(null) - np.searchsorted(null, scores, side="left")) / len(noise)
    good = np.logical_and.accumulate(false <= 0.5 * np.arange(1, len(scores) + 1))
    return float(scores[good][-1]) if good.any() else np.inf


def _picks(candidates: TomogramCandidates, calibration: Calibration, threshold: float) -> dict[str, Columns]:
    values = iter(zip(calibration.p, calibration.q, strict=True))
    found: dict[str, Columns] = {}
    for name, each in zip(candidates.names, candidates.found, strict=True):
        if each is None:
            continue
        p, q = next(values)
        taken = each.peaks["score"] >= threshold
        table = each.peaks[taken]
        euler = candidates.euler_deg[table["template"]]
        found[name] = {
            **{f"{axis}_px": table[axis].astype(np.float64) for axis in "xyz"},
            "score": table["score"].astype(np.float64),
            "rot_deg": euler[:, 0],
            "tilt_deg": euler[:, 1],
            "psi_deg": euler[:, 2],
            "p_value": p[taken],
            "q_value": q[taken],
        }
    return found
