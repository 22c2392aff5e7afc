"""Two sets of picks: which of one have a pick of the other within a distance."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.spatial import KDTree

from napari_pickbias.errors import InputError


class PickPlaces(NamedTuple):
    """Picks: micrograph of each as an index into ``names``, and x, y in pixels of the micrograph files."""

    micrograph: NDArray[np.int64]
    coordinates_px: NDArray[np.float64]
    names: tuple[str, ...]


class Compared(NamedTuple):
    """How two sets A and B meet."""

    matched: NDArray[np.bool_]
    """``(n of A,)`` whether the pick has a partner in B, each partner serving once."""
    only_b: int
    """Picks of B without a partner."""
    shared_micrographs: int


def compare_picks(a: PickPlaces, b: PickPlaces, distance_px: float) -> Compared:
    """Match the picks of two sets, each with at most one of the other within ``distance_px``; nearest pairs together.

    Micrographs belong together by their file names without folder and suffix, whatever program wrote them.

    Raises
    ------
    InputError
        When no micrograph is in both sets.
    """
    of_b: dict[str, list[int]] = {}
    for number, name in enumerate(b.names):
        of_b.setdefault(_stem(name), []).append(number)
    matched, partners, shared = np.zeros(len(a.micrograph), np.bool_), 0, 0
    for number, name in enumerate(a.names):
        others = np.flatnonzero(np.isin(b.micrograph, of_b.get(_stem(name), [])))
        shared += _stem(name) in of_b
        rows = np.flatnonzero(a.micrograph == number)
        pairs = _pairs(a.coordinates_px[rows], b.coordinates_px[others], distance_px)
        matched[rows[pairs]] = True
        partners += len(pairs)
    if not shared:
        raise InputError("compare: the two sets have no micrograph in common; give picks of the same micrographs")
    return Compared(matched, len(b.micrograph) - partners, shared)


def _stem(name: str) -> str:
    return PurePosixPath(name.replace("\\", "/")).name.split(".")[0]


def _pairs(xy: NDArray[np.float64], others: NDArray[np.float64], reach: float) -> NDArray[np.int64]:
    """Return which of ``xy`` have a partner: as many pairs as there can be, the nearest of those."""
    if not len(xy) or not len(others):
        return np.empty(0, np.int64)
    near = KDTree(xy).sparse_distance_matrix(KDTree(others), reach).tocoo()
    rows, columns = np.unique(near.row), np.unique(near.col)
    if not len(rows):
        return np.empty(0, np.int64)
    far = 1e3 * reach * (len(rows) + 1)
    cost = np.full((len(rows), len(columns)), far)
    cost[np.searchsorted(rows, near.row), np.searchsorted(columns, near.col)] = near.data
    first, second = linear_sum_assignment(cost)
    return np.asarray(rows[first[cost[first, second] < far]], np.int64)
