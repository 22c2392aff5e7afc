"""Two nested grids of rotations: a coarse one that is looked at everywhere, a fine one where it matters."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from napari_pickbias.imaging.rotations import super_fibonacci_rotations


class RotationLevels(NamedTuple):
    """A coarse grid on SO(3) and the fine rotations that lie in each of its cells."""

    coarse: NDArray[np.float64]
    """``(K0, 3, 3)``."""

    fine: NDArray[np.float64]
    """``(K1, 3, 3)``, those of one cell after another."""

    start: NDArray[np.int64]
    """``(K0 + 1,)``: the fine rotations of cell ``w`` are ``start[w] ... start[w + 1] - 1``."""

    @property
    def children(self) -> NDArray[np.int64]:
        """``(K0,)`` number of fine rotations of each cell."""
        return np.diff(self.start)


def rotation_levels(fine: int, coarse: int | None = None) -> RotationLevels:
    """Return nested super-Fibonacci grids.

    Parameters
    ----------
    fine : int
        Rotations of the fine grid: 576 for 30 degrees, 4608 for 15, 36864 for 7.5.
    coarse : int or None
        Cells; an eighth of ``fine`` by default, so that the spacing halves.

    Returns
    -------
    RotationLevels
        Each fine rotation belongs to the nearest coarse one. A coarse rotation without any is left out, so there may
        be a few fewer of them than asked for.
    """
    count = max(1, fine // 8) if coarse is None else coarse
    below, above = super_fibonacci_rotations(fine), super_fibonacci_rotations(count)
    quaternions = Rotation.from_matrix(above).as_quat()
    # q and -q are the same rotation
    tree = cKDTree(np.concatenate([quaternions, -quaternions]))
    cell = np.asarray(tree.query(Rotation.from_matrix(below).as_quat())[1], np.int64) % count
    order = np.argsort(cell, kind="stable")
    numbers = np.bincount(cell, minlength=count)
    kept = numbers > 0
    start = np.concatenate([[0], np.cumsum(numbers[kept])]).astype(np.int64)
    return RotationLevels(above[kept], below[order], start)
