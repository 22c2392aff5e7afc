"""How many of given picks noise alone explains, whoever picked them."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.stats import chi2

from napari_pickbias.bias.verdict import Rate

BIN = 0.25


class Explained(NamedTuple):
    """Picks against noise in bins of the score."""

    edges: NDArray[np.float64]
    """``(bins + 1,)``."""

    picks: NDArray[np.int64]
    """``(bins,)``."""

    noise: NDArray[np.float64]
    """``(bins,)`` peaks of noise on the area that no higher pick takes; where noise scores anywhere, all picks."""

    rate: Rate
    """Share of all picks that noise explains."""

    @property
    def false_above(self) -> NDArray[np.float64]:
        """Share that noise explains of the picks at or above each lower edge; NaN where there are none."""
        false = np.minimum(self.picks, self.noise)[::-1].cumsum()[::-1]
        above = self.picks[::-1].cumsum()[::-1]
        return np.where(above > 0, false / np.maximum(above, 1), np.nan)


def poisson_interval(counted: int, repeats: int = 1) -> tuple[float, float]:
    """Return the exact 95 % interval of the mean of a Poisson law of which ``repeats`` draws summed to ``counted``.

    F. Garwood, Fiducial limits for the Poisson distribution, 1936.
    """
    low = float(chi2.ppf(0.025, 2 * counted)) / 2 if counted else 0.0
    return low / repeats, float(chi2.ppf(0.975, 2 * counted + 2)) / 2 / repeats


def explained_by_noise(
    picks: list[NDArray[np.void]],
    surrogates: list[list[NDArray[np.void]]],
    min_distance: float,
    trusted_from: float,
    rng: np.random.Generator,
    *,
    draws: int = 500,
) -> Explained:
    """Compare picks of any origin with the peaks of noise, bin by bin of the score.

    A picker of its own kind does not take every local maximum, so counts above a threshold say nothing. In each bin at
    most as many picks can be noise as noise has peaks there (on area that no higher pick takes, :func:`matching`'s rule
    for its own picks), and at most all: the sum of the smaller of the two is an upper bound of the false picks.

    Parameters
    ----------
    picks : list of peak tables
        One a micrograph: ``y``, ``x``, and the score of the template bank near them.
    surrogates : list of lists of peak tables
        Peaks of noise of each micrograph.
    min_distance : float
        Pixels.
    trusted_from : float
        Score from which picks are particles more often than not.
    rng : numpy.random.Generator
        For the interval: micrographs are drawn with replacement, noise counts from Poisson laws.
    """
    every = np.concatenate([table["score"] for table in picks]) if picks else np.zeros(0)
    if not len(every):
        return Explained(np.array([0.0, BIN]), np.zeros(1, np.int64), np.zeros(1), Rate(*[float("nan")] * 3))
    low, high = np.floor(every.min() / BIN) * BIN, np.ceil((every.max() + 1e-6) / BIN) * BIN
    edges = np.arange(low, high + BIN / 2, BIN)
    real = np.stack([np.histogram(table["score"], edges)[0] for table in picks])
    counted = np.stack(
        [
            _free_counts(table, tables, edges, min_distance, trusted_from)
            for table, tables in zip(picks, surrogates, strict=True)
        ]
    )
    repeats = np.array([len(tables) for tables in surrogates])[:, None]
    noise = (counted / repeats).sum(axis=0)
    total = real.sum(axis=0)
    heights = np.concatenate([np.zeros(0), *(table["score"] for tables in surrogates for table in tables)])
    anywhere = edges[:-1] < (np.median(heights) if len(heights) else -np.inf)
    noise = np.where(anywhere, np.maximum(noise, total), noise)
    value = float(np.minimum(total, noise).sum() / total.sum())
    chosen = rng.integers(0, len(picks), (draws, len(picks)))
    drawn_noise = (rng.poisson(counted[chosen]) / repeats[chosen]).sum(axis=1)
    drawn_real = real[chosen].sum(axis=1)
    drawn_noise = np.where(anywhere, drawn_real, drawn_noise)
    spread = np.minimum(drawn_real, drawn_noise).sum(axis=1) / np.maximum(drawn_real.sum(axis=1), 1)
    lower, upper = np.quantile(spread, [0.025, 0.975])
    return Explained(edges, total.astype(np.int64), noise, Rate(value, float(lower), float(upper)))


def _free_counts(
    real: NDArray[np.void],
    surrogates: list[NDArray[np.void]],
    edges: NDArray[np.float64],
    distance: float,
    trusted_from: float,
) -> NDArray[np.int64]:
    counts = np.zeros(len(edges) - 1, np.int64)
    for number, (low, high) in enumerate(itertools.pairwise(edges)):
        taken = real[real["score"] >= max(high, trusted_from)]
        tree = cKDTree(np.column_stack([taken["y"], taken["x"]])) if len(taken) else None
        for table in surrogates:
            inside = table[(table["score"] >= low) & (table["score"] < high)]
            if tree is not None and len(inside):
                nearest, _ = tree.query(np.column_stack([inside["y"], inside["x"]]))
                counts[number] += int((nearest >= distance).sum())
            else:
                counts[number] += len(inside)
    return counts
