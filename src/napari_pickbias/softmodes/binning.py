"""Many particles as few weighted views: the Hessian depends on views only through sums over them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from napari_pickbias.imaging.fourier import Floats
from napari_pickbias.imaging.rotations import direction_grid

DEFOCUS_BINS = 4


class Bins(NamedTuple):
    """Views that stand for many."""

    rows: NDArray[np.int64]
    """``(m,)`` particle that represents each bin."""

    weights: NDArray[np.float64]
    """``(m,)`` particles in each bin."""

    row_view: NDArray[np.int64]
    """``(J,)`` bin of each particle."""


def bin_views(rotations: Floats, defocus: Floats | None, most: int, rng: np.random.Generator) -> Bins:
    """Group particles by viewing direction and defocus.

    Opposite directions see the same plane, and turns within the plane change nothing but the sampling, so bins are
    cells of a hemisphere, times :data:`DEFOCUS_BINS` quantiles of the defocus. A random member represents each bin.

    Parameters
    ----------
    rotations : ndarray, shape (J, 3, 3)
    defocus : ndarray, shape (J,), or None
        Any unit.
    most : int
        Sets of at most this many particles are left as they are; it also bounds the bins.
    rng : numpy.random.Generator
        Draws the representatives.
    """
    count = len(rotations)
    if count <= most:
        own = np.arange(count)
        return Bins(own, np.ones(count), own)
    layers = DEFOCUS_BINS if defocus is not None else 1
    step = np.degrees(np.sqrt(2 * np.pi * layers / most)) * 1.02  # a little less than `most` cells
    rot, tilt = np.radians(direction_grid(step, hemisphere=True)).T
    centres = np.stack([np.sin(tilt) * np.cos(rot), np.sin(tilt) * np.sin(rot), np.cos(tilt)], axis=1)
    direction = np.asarray(rotations)[:, 2]
    distance, index = cKDTree(np.concatenate([centres, -centres])).query(direction)
    del distance
    cell = index % len(centres)
    if defocus is not None:
        edges = np.quantile(defocus, np.arange(1, layers) / layers)
        cell = cell * layers + np.searchsorted(edges, defocus)
    order = rng.permutation(count)
    _, first, view, members = np.unique(cell[order], return_index=True, return_inverse=True, return_counts=True)
    row_view = np.empty(count, np.int64)
    row_view[order] = view
    return Bins(order[first], members.astype(np.float64), row_view)
