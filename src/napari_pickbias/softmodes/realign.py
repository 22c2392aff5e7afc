"""Poses fitted anew to a changed map: the test of the quadratic picture that soft modes rest on."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from napari_pickbias.imaging.fourier import Complexes, Floats
from napari_pickbias.imaging.projection import slice_points
from napari_pickbias.softmodes.views import (
    Views,
    orthonormal_tangents,
    real_products,
    slices_and_tangents,
)


class Realigned(NamedTuple):
    """Views after their poses were fitted."""

    misfit: NDArray[np.float64]
    """``(J,)`` ``1/2 |C S - A|^2`` of each view, at the best poses seen."""

    rotations: NDArray[np.float64]
    """``(J, 3, 3)``"""

    shifts_px: NDArray[np.float64]
    """``(J, 2)``"""


def realign(
    volume: Floats,
    views: Views,
    images: Complexes,
    start: NDArray[np.float64] | None = None,
    *,
    shifts: bool = True,
    contrast: bool = False,
    iterations: int = 6,
) -> Realigned:
    """Fit the poses of noiseless images to a map by Gauss-Newton steps.

    Parameters
    ----------
    volume : ndarray, shape (n, n, n)
        The changed map.
    views : Views
        Poses to start from.
    images : ndarray, shape (J, p)
        Filtered slices of the map that made the images.
    start : ndarray, shape (J, q), or None
        First steps, as :meth:`~napari_pickbias.softmodes.hessian.Hessian.pose_change` gives them.
    shifts, contrast : bool
        What is fitted besides rotations.
    iterations : int
        Steps.
    """
    count = len(images)
    frequencies = slice_points(np.eye(3)[None], views.size)[0][:2, 0]
    rotations, offset, factor = views.rotations.copy(), np.zeros((count, 2)), np.ones(count)
    if start is not None:
        rotations, offset, factor = _moved(rotations, offset, factor, start, shifts)
    best = Realigned(np.full(count, np.inf), rotations.copy(), offset.copy())
    for step in range(iterations + 1):
        slices, tangents = slices_and_tangents(
            volume, views._replace(rotations=rotations), shifts=shifts, contrast=contrast
        )
        phase = np.exp(-1j * offset @ frequencies)
        residual = slices * phase * factor[:, None] - images
        tangents = tangents * phase[:, None]
        tangents[:, : 5 if shifts else 3] *= factor[:, None, None]
        misfit = 0.5 * np.sum(np.abs(residual) ** 2, axis=1)
        better = misfit < best.misfit
        best.misfit[better], best.rotations[better] = misfit[better], rotations[better]
        best.shifts_px[better] = offset[better]
        if step < iterations:
            basis, recover = orthonormal_tangents(tangents)
            components = real_products(basis, residual[:, None])[:, :, 0]
            change = -np.einsum("jab,jb->ja", recover, components)
            rotations, offset, factor = _moved(rotations, offset, factor, change, shifts)
    return best


def _moved(
    rotations: Floats, offset: Floats, factor: Floats, change: Floats, shifts: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    # k -> R^T exp([w]) k is the slice of the rotation exp(-[w]) R
    turned = Rotation.from_rotvec(-change[:, :3]).as_matrix() @ rotations
    moved = offset + change[:, 3:5] if shifts else offset
    used = 5 if shifts else 3
    scaled = factor + change[:, used] if change.shape[1] > used else factor
    return np.asarray(turned), np.asarray(moved), np.asarray(scaled)
