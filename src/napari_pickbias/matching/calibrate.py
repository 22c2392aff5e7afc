"""What the picks of all micrographs are worth: p-values, q-values, and the share of false ones at every threshold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import ks_2samp

from napari_pickbias.errors import InputError
from napari_pickbias.matching.contrast import Contrast
from napari_pickbias.matching.match import MatchSettings, MicrographMatch, match_micrograph, working_pixel
from napari_pickbias.matching.significance import (
    FreeAreaFdr,
    LocalFdr,
    fit_null,
    free_area_fdr,
    local_fdr,
    p_values,
    q_values,
)

__all__ = ["Calibration", "MatchSettings", "MicrographMatch", "calibrate", "match_micrograph", "working_pixel"]

GRID, LOWEST_THRESHOLD = 0.05, 1.0
"""Steps of the thresholds at which the FDR is given, and the lowest."""

BIN = 0.5
"""Width of the local FDR's bins."""

UNLIKE_NOISE = 0.1
"""Kolmogorov-Smirnov distance from which the peaks of micrographs are unlike those of their noise."""


@dataclass(frozen=True)
class Calibration:
    """What thresholds mean, over all micrographs.

    Attributes
    ----------
    p, q : list of ndarray
        For each micrograph, of each of its peaks: chance that a peak of its noise is as high, and Benjamini-Hochberg
        q-value over all peaks of all micrographs.
    local_fdr : list of ndarray
        For each micrograph, of each of its peaks: chance that a peak of this height is false; NaN when failed.
    fdr : FreeAreaFdr or None
        FDR against threshold with its 95 % interval; None when failed.
    expected_false : ndarray, shape (t, 3)
        Expected false picks per micrograph at each threshold of ``fdr``, and the ends of a 95 % interval; empty when
        failed.
    local : LocalFdr or None
        Share of false picks in bins of the score; None when failed.
    trusted_share : float
        Share of micrographs where a trusted score was found.
    failed : str or None
        Why no FDR is given, one sentence; q-values are not to be used then either.
    warnings : tuple of str
        One line each, of all micrographs together.
    """

    p: list[NDArray[np.float64]]
    q: list[NDArray[np.float64]]
    local_fdr: list[NDArray[np.float64]]
    fdr: FreeAreaFdr | None
    expected_false: NDArray[np.float64]
    local: LocalFdr | None
    trusted_share: float
    failed: str | None = None
    warnings: tuple[str, ...] = ()

    def threshold_at(self, fdr: float) -> float | None:
        """Return the lowest threshold from which on the FDR stays at or below a level; None where there is none."""
        if self.fdr is None:
            return None
        known = self.fdr.picks > 0
        good = np.where(known, self.fdr.fdr <= fdr, True)
        from_here = np.logical_and.accumulate(good[::-1])[::-1] & known
        return float(self.fdr.thresholds[np.argmax(from_here)]) if from_here.any() else None


def calibrate(matches: Sequence[MicrographMatch], rng: np.random.Generator) -> Calibration:
    """Compare the picks of micrographs with those of their noise.

    Parameters
    ----------
    matches : sequence of MicrographMatch
        Made with the same settings and bank.
    rng : numpy.random.Generator
        For the bootstrap.

    Raises
    ------
    InputError
        When there are too few peaks of noise to tell.

    Notes
    -----
    p-values are those of noise all over the micrograph, so that where particles take much of the area q is too high;
    the FDR counts free area only. Where on most micrographs no trusted score is found although they are not noise,
    particles stayed in the noise spectrum: such an FDR says nothing and is not given.
    """
    if not matches:
        raise InputError("micrographs: none was matched; give at least one")
    null = fit_null(np.concatenate([table["score"] for match in matches for table in match.null_peaks]))
    p = [p_values(match.peaks["score"], null) for match in matches]
    ends = np.cumsum([len(values) for values in p])[:-1]
    q = [np.asarray(part) for part in np.split(q_values(np.concatenate(p)), ends)]
    share = float(np.mean([np.isfinite(match.noise.trusted_from) for match in matches]))
    failed, warnings = _verdict(matches, share)
    if failed is not None:
        unknown = [np.full(len(values), np.nan) for values in p]
        return Calibration(p, q, unknown, None, np.zeros((0, 3)), None, share, failed, warnings)
    picks, surrogates = [match.peaks for match in matches], [match.null_peaks for match in matches]
    heights = np.concatenate([table["score"] for table in picks] + [null.heights])
    first = GRID * np.floor(max(float(heights.min()), LOWEST_THRESHOLD) / GRID)
    last = max(float(heights.max()), first + 1.0)
    thresholds = np.round(np.arange(first, last + GRID, GRID), 6)
    distance = matches[0].min_distance_px
    curve = free_area_fdr(picks, surrogates, thresholds, distance, [match.trusted_from for match in matches], rng)
    local = local_fdr(picks, surrogates, np.arange(first, last + BIN, BIN), distance)
    expected = np.column_stack([curve.false_picks, curve.false_low, curve.false_high]) / len(matches)
    each = [local.at(table["score"]) for table in picks]
    return Calibration(p, q, each, curve, expected, local, share, None, warnings)


def _verdict(matches: Sequence[MicrographMatch], share: float) -> tuple[str | None, tuple[str, ...]]:
    """Tell why no FDR can be given, if so, and what to warn of.

    Either the particles are dark (bright fringes around them are matched then), or particles are there and yet no score
    is trusted.
    """
    tails = [match.tails for match in matches if match.tails is not None]
    bright, dark = sum(tail.bright for tail in tails), sum(tail.dark for tail in tails)
    both = Contrast(1 if bright >= dark else -1, bright, dark, (bright - dark) / max(float(bright + dark), 1.0) ** 0.5)
    if both.clear and both.sign < 0:
        line = f"{dark} of the {bright + dark} highest peaks are dark: invert the contrast of the micrographs"
        return line, ()
    if share >= 0.5:
        return None, ()
    if both.clear or (not tails and _unlike_noise(matches)):
        return (
            "particles are there, but with these templates they cannot be told from the noise: they stayed in its "
            "spectrum; give templates nearer to the particle"
        ), ()
    return None, ("the micrographs do not differ from noise; check the pixel size, the templates and the contrast",)


def _unlike_noise(matches: Sequence[MicrographMatch]) -> bool:
    """Tell whether the peaks are not those of the noise, where the inverted micrograph was not asked."""
    real = np.concatenate([match.peaks["score"] for match in matches])
    noise = np.concatenate([table["score"] for match in matches for table in match.null_peaks])
    if not len(real):
        return False
    found = ks_2samp(real, noise)
    return bool(found.statistic > UNLIKE_NOISE and found.pvalue < 1e-6)
