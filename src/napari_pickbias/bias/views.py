"""Which views a picker misses: recall of refined particles by viewing direction, told apart from low recall alone."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.spatial import cKDTree
from scipy.stats import chi2_contingency, fisher_exact

from napari_pickbias.imaging.fourier import Floats

LEAST_PER_BIN = 20
ACCUSED_P, ACCUSED_GAP = 1e-3, 0.1
"""A picker is said to miss views when chance explains it this rarely, and recall differs by this much."""


class ViewRecall(NamedTuple):
    """Recall by tilt, all equivalent tilts folded to 0 ... 90 degrees."""

    edges: NDArray[np.float64]
    """``(bins + 1,)`` degrees."""

    particles: NDArray[np.int64]
    """``(bins,)`` refined particles."""

    found: NDArray[np.int64]
    """``(bins,)`` those that the picker has."""

    recall: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    """``(bins,)`` with Wilson's 95 % interval."""

    p: float
    """Chance that recall differs so between bins if it depends on nothing (chi-squared, or Fisher's exact for two)."""

    worst: int
    """Bin whose recall is lowest."""

    worst_p: float
    """Fisher's exact test of that bin against all others, times the number of bins."""

    misses: bool
    """Whether the picker is said to miss these views."""

    @property
    def elsewhere(self) -> float:
        """Recall outside the worst bin."""
        others = np.arange(len(self.found)) != self.worst
        return float(self.found[others].sum() / max(self.particles[others].sum(), 1))


def matched(particles: Floats, picks: Floats, radius: float) -> NDArray[np.bool_]:
    """Return which particles have a pick of their own within a radius; one pick serves one particle.

    Parameters
    ----------
    particles, picks : ndarray, shape (n, 2), (m, 2)
        Of one micrograph, in the same pixels.
    radius : float
    """
    found = np.zeros(len(particles), np.bool_)
    if not len(particles) or not len(picks):
        return found
    distances = cKDTree(particles).sparse_distance_matrix(cKDTree(picks), radius, output_type="coo_matrix")
    cost = np.full((len(particles), len(picks)), 1e6)
    cost[distances.row, distances.col] = distances.data
    rows, columns = linear_sum_assignment(cost)
    found[rows] = cost[rows, columns] <= radius
    return found


def recall_by_view(tilt_deg: Floats, found: NDArray[np.bool_], *, bins: int = 4) -> ViewRecall:
    """Compare recall between bins of tilt that hold equal areas of the sphere.

    Parameters
    ----------
    tilt_deg : ndarray, shape (n,)
        RELION's tilt of each refined particle.
    found : ndarray of bool, shape (n,)
        Whether the picker has it.
    bins : int
        Equal areas from the pole (0) to the equator (90); bins of fewer than 20 particles join their neighbour.

    Raises
    ------
    ValueError
        When fewer than two bins have particles enough.
    """
    folded = np.asarray(tilt_deg, np.float64) % 360
    folded = np.where(folded > 180, 360 - folded, folded)
    folded = np.minimum(folded, 180 - folded)
    edges = np.degrees(np.arccos(np.linspace(1, 0, bins + 1)))
    edges[0], edges[-1] = 0.0, 90.0
    edges = _joined(edges, folded)
    if len(edges) < 3:
        raise ValueError(f"{len(folded)} particles are too few, or of one view: two bins of {LEAST_PER_BIN} are needed")
    bin_of = np.clip(np.searchsorted(edges, folded, side="right") - 1, 0, len(edges) - 2)
    particles = np.bincount(bin_of, minlength=len(edges) - 1)
    hits = np.bincount(bin_of, found.astype(float), minlength=len(edges) - 1).astype(np.int64)
    recall = hits / particles
    low, high = _wilson(hits, particles)
    table = np.stack([hits, particles - hits])
    p = 1.0 if not (table.sum(axis=1) > 0).all() else float(chi2_contingency(table).pvalue)
    worst = int(np.argmin(recall))
    others = np.arange(len(recall)) != worst
    pair = [[hits[worst], particles[worst] - hits[worst]], [hits[others].sum(), (particles - hits)[others].sum()]]
    worst_p = min(1.0, float(fisher_exact(pair).pvalue) * len(recall))
    gap = hits[others].sum() / particles[others].sum() - recall[worst]
    misses = bool(p < ACCUSED_P and worst_p < ACCUSED_P and gap >= ACCUSED_GAP)
    return ViewRecall(edges, particles, hits, recall, low, high, p, worst, worst_p, misses)


def _joined(edges: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Join bins that hold too few with the next one, the last with the one before."""
    kept = [edges[0]]
    for edge in edges[1:]:
        if ((values >= kept[-1]) & (values <= edge)).sum() >= LEAST_PER_BIN:
            kept.append(edge)
    if kept[-1] != edges[-1]:
        if len(kept) > 1:
            kept.pop()
        kept.append(edges[-1])
    return np.array(kept)


def _wilson(hits: NDArray[np.int64], total: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    z, share = 1.959964, hits / total
    middle = (share + z**2 / (2 * total)) / (1 + z**2 / total)
    half = z * np.sqrt(share * (1 - share) / total + z**2 / (4 * total**2)) / (1 + z**2 / total)
    return np.clip(middle - half, 0, 1), np.clip(middle + half, 0, 1)
