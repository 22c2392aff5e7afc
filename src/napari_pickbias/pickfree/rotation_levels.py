"""Nested grids of rotations: a coarse one that is looked at everywhere, finer ones where it matters."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from napari_pickbias.imaging.rotations import super_fibonacci_rotations

THREE_LEVELS_FROM = 16384
"""Fine rotations from which on a grid is put between cells and fine rotations unless told otherwise."""


class RotationLevels(NamedTuple):
    """A coarse grid on SO(3) and the fine rotations that lie in each of its cells."""

    coarse: NDArray[np.float64]
    """``(K0, 3, 3)``."""

    fine: NDArray[np.float64]
    """``(K1, 3, 3)``, those of one cell after another, within a cell those of one middle rotation after another."""

    start: NDArray[np.int64]
    """``(K0 + 1,)``: the fine rotations of cell ``w`` are ``start[w] ... start[w + 1] - 1``."""

    middle: NDArray[np.float64] = np.zeros((0, 3, 3))
    """``(Km, 3, 3)``, those of one cell after another; none where there are two levels."""

    middle_of_cell: NDArray[np.int64] = np.zeros(0, np.int64)
    """``(K0 + 1,)``: the middle rotations of cell ``w`` are ``middle_of_cell[w] ... middle_of_cell[w + 1] - 1``."""

    middle_start: NDArray[np.int64] = np.zeros(0, np.int64)
    """``(Km + 1,)``: those of middle rotation ``j`` are ``middle_start[j] ... middle_start[j + 1] - 1``."""

    @property
    def children(self) -> NDArray[np.int64]:
        """``(K0,)`` number of fine rotations of each cell."""
        return np.diff(self.start)


def rotation_levels(fine: int, coarse: int | None = None, middle: int | None = None) -> RotationLevels:
    """Return nested super-Fibonacci grids.

    Parameters
    ----------
    fine : int
        Rotations of the fine grid: 576 for 30 degrees, 4608 for 15, 36864 for 7.5.
    coarse : int or None
        Cells. By default an eighth of ``fine``, so that the spacing halves, and from :data:`THREE_LEVELS_FROM` fine
        rotations on an eighth of ``middle``, which is an eighth of ``fine``.
    middle : int or None
        Rotations of a third grid between the two; none by default where ``coarse`` is given.

    Returns
    -------
    RotationLevels
        Each rotation belongs to the nearest one of the next coarser grid. A rotation to which none belongs is left
        out, so there may be a few fewer than asked for.
    """
    if coarse is None and middle is None and fine >= THREE_LEVELS_FROM:
        middle = fine // 8
    count = max(1, (fine if middle is None else middle) // 8) if coarse is None else coarse
    below, above = super_fibonacci_rotations(fine), super_fibonacci_rotations(count)
    if middle is None:
        cell = _nearest(below, above)
        order = np.argsort(cell, kind="stable")
        kept, start = _starts(cell, count)
        return RotationLevels(above[kept], below[order], start)
    between = super_fibonacci_rotations(middle)
    # what no fine rotation belongs to goes first, so that every cell that stays has middle rotations with some
    parent = _nearest(below, between)
    between = between[np.bincount(parent, minlength=middle) > 0]
    cell = _nearest(between, above)
    between = between[np.argsort(cell, kind="stable")]
    kept, middle_of_cell = _starts(cell, count)
    parent = _nearest(below, between)
    order = np.argsort(parent, kind="stable")
    _, middle_start = _starts(parent, len(between))
    return RotationLevels(
        above[kept], below[order], middle_start[middle_of_cell], between, middle_of_cell, middle_start
    )


def _nearest(rotations: NDArray[np.float64], grid: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the number of the rotation of ``grid`` that each one is nearest to."""
    quaternions = Rotation.from_matrix(grid).as_quat()
    # q and -q are the same rotation
    tree = cKDTree(np.concatenate([quaternions, -quaternions]))
    return np.asarray(tree.query(Rotation.from_matrix(rotations).as_quat())[1], np.int64) % len(grid)


def _starts(parent: NDArray[np.int64], count: int) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Return which parents have any children, and where those of each of these begin once sorted by parent."""
    numbers = np.bincount(parent, minlength=count)
    kept = numbers > 0
    return kept, np.concatenate([[0], np.cumsum(numbers[kept])]).astype(np.int64)
