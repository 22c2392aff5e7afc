"""How evenly views cover Fourier space: directions, sampling, and what kind of unevenness it is."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_pickbias.imaging.fourier import Floats
from napari_pickbias.imaging.rotations import direction_grid

POLAR_SHARE = 0.75
"""Mean squared cosine with one axis from which views count as polar (uniform: 1/3, a cap of 30 degrees: 0.87)."""
EQUATORIAL_SHARE = 0.05
"""Mean squared cosine with one axis up to which views count as equatorial (a band of 15 degrees: 0.022)."""
SIDE_VIEWS = 0.81
"""SCF of views spread evenly about one axis, 8 / pi^2: below it orientations are said to be preferred."""


class Coverage(NamedTuple):
    """Coverage of Fourier space by views."""

    kind: str
    """``even``, ``uneven``, ``polar`` (one axis) or ``equatorial`` (about one axis)."""

    axis: NDArray[np.float64]
    """``(3,)`` that axis in the map's frame, x, y, z; for even views the one with the most or fewest views."""

    mean_square_cosine: float
    """Of the angle between views and the axis."""

    scf: float
    """Sampling compensation factor: 1 for uniform views, 0.81 for side views; sampled directions, times their share."""

    unseen: float
    """Share of the directions of Fourier space that no slice passes."""


def coverage(rotations: Floats, size: int, weights: Floats | None = None, symmetry: Floats | None = None) -> Coverage:
    """Judge the coverage of Fourier space at half of Nyquist.

    Parameters
    ----------
    rotations : ndarray, shape (J, 3, 3)
    size : int
        Box; slices are one Fourier voxel thick, ``4 / size`` of the radius looked at.
    weights : ndarray, shape (J,), or None
        Images of each view.
    symmetry : ndarray, shape (m, 3, 3), or None
        Point group of the map: all its copies of a view count.

    Notes
    -----
    SCF = 1 / mean(1 / sampling), the sampling relative to that of uniform views (P. R. Baldwin and D. Lyumkis, Prog.
    Biophys. Mol. Biol. 150, 2020, 160). Directions without a slice are left out of the mean and then counted as lost:
    the result is multiplied by the share of those with one.
    """
    share = np.ones(len(rotations)) if weights is None else np.asarray(weights, np.float64)
    share = share / share.sum()
    direction = np.asarray(rotations)[:, 2]
    group = np.eye(3)[None] if symmetry is None else np.asarray(symmetry)
    direction = np.einsum("jb,mbc->mjc", direction, group).reshape(-1, 3)
    share = np.tile(share, len(group)) / len(group)
    values, axes = np.linalg.eigh(np.einsum("j,ja,jb->ab", share, direction, direction))
    polar, flat = values[2] - 1 / 3, 1 / 3 - values[0]
    index = 2 if polar > flat else 0
    axis = axes[:, index] * np.sign(axes[np.abs(axes[:, index]).argmax(), index])
    rot, tilt = np.radians(direction_grid(5.0, hemisphere=True)).T
    grid = np.stack([np.sin(tilt) * np.cos(rot), np.sin(tilt) * np.sin(rot), np.cos(tilt)], axis=1)
    half_width = 2 / size  # half a voxel at a radius of size / 4 voxels
    seen = np.array([share[np.abs(direction @ one) <= half_width].sum() for one in grid]) / half_width
    empty = seen == 0
    scf = 0.0 if empty.all() else float((1 - empty.mean()) / np.mean(1 / seen[~empty]))
    if values[2] >= POLAR_SHARE:
        kind = "polar"
    elif values[0] <= EQUATORIAL_SHARE:
        kind = "equatorial"
    else:
        kind = "uneven" if scf < SIDE_VIEWS else "even"
    return Coverage(kind, axis, float(values[index]), min(scf, 1.0), float(empty.mean()))
