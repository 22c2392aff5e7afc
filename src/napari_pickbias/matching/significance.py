"""How sure a pick is: p-values from the heights of peaks of noise, q-values, and the FDR on free area.

The null distribution is that of local maxima, found by the same rule on score maps of noise alone (surrogates of the
micrograph). A height's p-value is the chance that a peak of noise is as high or higher; where the noise peaks run out,
their tail is a generalised Pareto distribution.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression, minimize_scalar
from scipy.spatial import cKDTree
from scipy.stats import false_discovery_control

from napari_pickbias.errors import InputError

FEWEST_PEAKS = 200
"""Noise peaks below which a tail cannot be fitted."""


class PeakNull(NamedTuple):
    """The distribution of the heights of noise peaks."""

    heights: NDArray[np.float64]
    """All noise peaks, ascending."""

    start: float
    """Height at which the fitted tail begins."""

    share: float
    """Share of noise peaks above ``start``."""

    scale: float
    """Scale of the generalised Pareto tail."""

    shape: float
    """Its shape: below 0 the tail ends at ``start - scale / shape``; 0 is exponential."""


def fit_null(heights: NDArray[np.floating], tail: float = 0.1) -> PeakNull:
    """Fit the tail of the heights of noise peaks.

    Parameters
    ----------
    heights : ndarray, shape (m,)
        Heights of all local maxima of score maps of noise, under the rule and minimum distance used for the picks, and
        with no threshold in the way of the tail.
    tail : float
        Share of the peaks that the tail is fitted to.

    Raises
    ------
    InputError
        When there are too few noise peaks, or some are not finite.

    Notes
    -----
    Peaks over threshold: J. Pickands, Statistical inference using extreme order statistics, 1975. The scale is the most
    likely one at each shape; of the shapes within one standard error of the most likely one the heaviest tail is
    taken, since the most likely shape of some hundred peaks makes rare heights look several times rarer than they are.
    Shapes are held in -0.5 ... 0: a Gaussian's peaks come to an exponential tail in the limit, from below.
    """
    ordered = np.sort(np.asarray(heights, np.float64))
    if not np.isfinite(ordered).all():
        raise InputError("noise peaks: some heights are not finite; give peaks from find_peaks")
    if len(ordered) < FEWEST_PEAKS:
        raise InputError(
            f"noise peaks: only {len(ordered)} were found; at least {FEWEST_PEAKS} are needed; use more surrogates"
        )
    above = max(round(tail * len(ordered)), FEWEST_PEAKS // 4)
    start = float(ordered[-above - 1])
    excess = ordered[-above:] - start
    mean = float(excess.mean())
    if mean <= 0:
        raise InputError("noise peaks: the highest are all equal; use more surrogates")

    shapes = np.linspace(-0.5, 0.0, 51)
    losses = np.array([_best_scale(excess, float(shape))[1] for shape in shapes])
    shape = float(shapes[losses <= losses.min() + 0.5].max())
    return PeakNull(ordered, start, above / len(ordered), _best_scale(excess, shape)[0], shape)


def _best_scale(excess: NDArray[np.float64], shape: float) -> tuple[float, float]:
    """Return the most likely scale of a tail of given shape, and its negative log-likelihood."""
    lowest = float(-shape * excess.max()) * (1 + 1e-9)
    mean = float(excess.mean())

    def loss(log_scale: float) -> float:
        scale = lowest + float(np.exp(log_scale))
        if shape > -1e-9:
            return len(excess) * float(np.log(scale)) + float(excess.sum()) / scale
        inside = np.log1p(shape * excess / scale)
        return len(excess) * float(np.log(scale)) + (1 + 1 / shape) * float(inside.sum())

    found = minimize_scalar(loss, bounds=(np.log(mean) - 12, np.log(mean) + 4), method="bounded")
    return lowest + float(np.exp(found.x)), float(found.fun)


def p_values(scores: NDArray[np.floating], null: PeakNull) -> NDArray[np.float64]:
    """Return the chance that a noise peak is at least as high as each score.

    Below the tail this is ``(1 + noise peaks as high) / (1 + noise peaks)``, which is never too small; in the tail
    the fitted distribution up to the highest noise peak, and an exponential of the same slope beyond; never below
    1e-300.

    Parameters
    ----------
    scores : ndarray, shape (n,)
        Heights of the picks, in the units of the null's.
    """
    values = np.asarray(scores, np.float64)
    count = len(null.heights)
    as_high = count - np.searchsorted(null.heights, values, side="left")
    plain = (1 + as_high) / (1 + count)
    excess = np.maximum(values - null.start, 0)
    seen = np.minimum(excess, max(float(null.heights[-1]) - null.start, 0.0))
    if null.shape > -1e-9:
        tail = np.exp(-seen / null.scale)
    else:
        tail = np.maximum(1 + null.shape * seen / null.scale, 0) ** (-1 / null.shape)
    # Beyond the highest noise peak nothing was measured, least of all where a bounded tail would end: from there on the
    # chance falls exponentially, at the rate that it had there.
    slope = max(null.scale + null.shape * float(null.heights[-1] - null.start), 1e-3 * null.scale)
    tail = tail * np.exp(-(excess - seen) / slope)
    top = (1 + null.share * count) / (1 + count)
    return np.asarray(np.clip(np.where(values > null.start, top * tail, plain), 1e-300, 1.0))


def q_values(p: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the Benjamini-Hochberg q-value of each pick: the least FDR at which it is kept.

    Parameters
    ----------
    p : ndarray, shape (n,)
        p-values of *all* peaks that were looked at, not only of those above a threshold.
    """
    return np.asarray(false_discovery_control(p, method="bh")) if len(p) else np.zeros(0)


class FreeAreaFdr(NamedTuple):
    """FDR against threshold; every array has shape (t,) but the last."""

    thresholds: NDArray[np.float64]
    picks: NDArray[np.int64]
    """Picks at or above each threshold, all micrographs together."""

    false_picks: NDArray[np.float64]
    """Expected false ones among them."""

    fdr: NDArray[np.float64]
    """Their ratio, at most 1; NaN without picks."""

    low: NDArray[np.float64]
    high: NDArray[np.float64]
    """Bootstrap interval of the FDR, 2.5 and 97.5 %."""

    false_low: NDArray[np.float64]
    false_high: NDArray[np.float64]
    """The same interval of the expected false picks."""

    by_micrograph: NDArray[np.float64]
    """``(m, t)``: expected false picks of each micrograph."""


def free_area_fdr(
    picks: list[NDArray[np.void]],
    surrogates: list[list[NDArray[np.void]]],
    thresholds: NDArray[np.floating],
    min_distance: float,
    trusted_from: float | Sequence[float],
    rng: np.random.Generator,
    *,
    draws: int = 1000,
) -> FreeAreaFdr:
    """Estimate the FDR at each threshold, counting false picks only where no true pick takes the place.

    ``FDR(T) = N0_free(T) / N(T)``: ``N0_free`` is the mean number of surrogate picks at or above ``T`` outside discs of
    radius ``min_distance`` around the real picks at or above ``max(T, trusted_from)``.

    Parameters
    ----------
    picks : list of peak tables
        One table from :func:`napari_pickbias.matching.find_peaks` for each micrograph.
    surrogates : list of lists of peak tables
        For each micrograph, those of its surrogates, found in the same way.
    thresholds : ndarray, shape (t,)
        Scores.
    min_distance : float
        Pixels.
    trusted_from : float or sequence of float
        Score from which real picks are particles more often than not, for all micrographs or for each; infinity where
        no such score was found.
    rng : numpy.random.Generator
        For the interval: micrographs are drawn with replacement; what is known of the rate behind a count of noise
        peaks is Garwood's interval.
    draws : int
        Bootstrap draws.

    Raises
    ------
    InputError
        When a micrograph has no surrogate.

    Notes
    -----
    F. Garwood, Fiducial limits for the Poisson distribution, 1936. A count of 0 has an upper limit above 0.
    """
    if len(picks) != len(surrogates) or not picks or min(len(tables) for tables in surrogates) == 0:
        raise InputError("surrogates: each micrograph needs at least one; raise their number")
    levels = np.asarray(thresholds, np.float64)
    trusted = np.broadcast_to(np.asarray(trusted_from, np.float64), len(picks))
    real = np.stack([(table["score"][:, None] >= levels).sum(axis=0) for table in picks])
    false = np.stack(
        [
            _free_count(table, tables, levels, min_distance, start)
            for table, tables, start in zip(picks, surrogates, trusted, strict=True)
        ]
    )
    repeats = np.array([len(tables) for tables in surrogates])[:, None]
    total, expected = real.sum(axis=0), (false / repeats).sum(axis=0)
    ends = np.full((2, 2, len(levels)), np.nan)
    chosen = [rng.integers(0, len(picks), len(picks)) for _ in range(draws)]
    counts = np.stack([real[rows].sum(axis=0) for rows in chosen])
    hits = np.stack([false[rows].sum(axis=0) for rows in chosen])
    for end, (more, share) in enumerate(((0, 0.025), (1, 0.975))):
        # the same number of surrogates for each micrograph is the rule; else their mean is near enough for an interval
        rates = np.where(hits + more > 0, rng.gamma(np.maximum(hits + more, 1e-9)), 0.0) / repeats.mean()
        known = (counts > 0).any(axis=0)
        ends[1, end] = np.quantile(rates, share, axis=0)
        ends[0, end, known] = np.nanquantile(_ratio(rates, counts)[:, known], share, axis=0)
    ends[0, :, total == 0] = np.nan
    (low, high), (false_low, false_high) = ends
    return FreeAreaFdr(
        levels, total, expected, _ratio(expected, total), low, high, false_low, false_high, false / repeats
    )


class LocalFdr(NamedTuple):
    """Share of false picks among those of about one score; every array has shape (n,)."""

    scores: NDArray[np.float64]
    """Middle of each bin."""

    picks: NDArray[np.int64]
    false_picks: NDArray[np.float64]
    fdr: NDArray[np.float64]
    """At most 1, and never rising with the score."""

    def at(self, scores: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the local FDR at some scores, interpolated."""
        return np.asarray(np.interp(scores, self.scores, self.fdr))


def local_fdr(
    picks: list[NDArray[np.void]],
    surrogates: list[list[NDArray[np.void]]],
    edges: NDArray[np.floating],
    min_distance: float,
) -> LocalFdr:
    """Estimate the share of false picks in bins of the score, counting noise peaks on free area.

    A noise peak counts when no real pick above its bin is nearer than the minimum distance.

    Parameters
    ----------
    picks, surrogates : as for :func:`free_area_fdr`
    edges : ndarray, shape (n + 1,)
        Of the bins, ascending; the last bin has no end.
    min_distance : float
        Pixels.

    Notes
    -----
    Bins with no pick take the value of their neighbours. The closest non-increasing curve (weights: picks) is given.
    Weak particles count as noise here, so that between the clear cases it is too high by .2 to .3
    (docs/reproduction/fdr.md).
    """
    tops = np.append(np.asarray(edges[1:-1], np.float64), np.inf)
    count, false = np.zeros(len(tops), np.int64), np.zeros(len(tops))
    for table, tables in zip(picks, surrogates, strict=True):
        noise = np.concatenate(tables)
        covered = cover(table, noise, min_distance)
        count += _in_bins(table["score"], edges[:-1])
        bins = np.searchsorted(edges[:-1], noise["score"], side="right") - 1
        free = (bins >= 0) & (covered < tops[np.maximum(bins, 0)])
        false += np.bincount(bins[free], minlength=len(tops)) / len(tables)
    ratio = np.where(count > 0, np.minimum(false / np.maximum(count, 1), 1.0), np.where(false > 0, 1.0, 0.0))
    smooth = isotonic_regression(ratio, weights=count + 1e-6, increasing=False).x
    return LocalFdr((np.asarray(edges[:-1]) + np.asarray(edges[1:])) / 2, count, false, np.asarray(smooth))


def _in_bins(scores: NDArray[np.floating], starts: NDArray[np.floating]) -> NDArray[np.int64]:
    bins = np.searchsorted(starts, scores, side="right") - 1
    return np.asarray(np.bincount(bins[bins >= 0], minlength=len(starts)), dtype=np.int64)


def cover(real: NDArray[np.void], peaks: NDArray[np.void], distance: float) -> NDArray[np.float64]:
    """Return the highest score of the real peaks nearer to each peak than a distance; minus infinity where none is.

    Parameters
    ----------
    real, peaks : ndarray of (y, x, score, template), or of (z, y, x, score, template)
    distance : float
        Pixels.

    Returns
    -------
    ndarray, shape (len(peaks),)
    """
    highest = np.full(len(peaks), -np.inf)
    if not len(real) or not len(peaks):
        return highest
    axes = [axis for axis in ("z", "y", "x") if axis in (real.dtype.names or ())]
    tree = cKDTree(np.column_stack([real[axis] for axis in axes]))
    near = tree.query_ball_point(np.column_stack([peaks[axis] for axis in axes]), distance * (1 - 1e-9))
    for row, neighbours in enumerate(near):
        if neighbours:
            highest[row] = real["score"][neighbours].max()
    return highest


def _free_count(
    real: NDArray[np.void],
    surrogates: list[NDArray[np.void]],
    levels: NDArray[np.float64],
    distance: float,
    start: float,
) -> NDArray[np.int64]:
    """Count the picks of all surrogates of one micrograph that fall on free area, at each level."""
    noise = np.concatenate(surrogates)
    covered = cover(real, noise, distance)
    counts = [int(((noise["score"] >= level) & (covered < max(level, start))).sum()) for level in levels]
    return np.asarray(counts, dtype=np.int64)


def _ratio(false: NDArray[np.floating], picks: NDArray[np.integer]) -> NDArray[np.float64]:
    return np.where(picks > 0, np.minimum(false / np.maximum(picks, 1), 1.0), np.nan)
