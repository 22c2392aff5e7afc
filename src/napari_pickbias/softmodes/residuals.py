"""What the images' own residuals add to the Hessian of the profile likelihood.

With ``r_j = C_j S_j - A_j`` the blocks of pose and coupling are ``H_tt = Re T^* T + Re <d2 S, r>`` and
``H_tF v = Re T^* P v + Re <d_t P v, r>`` (docs/softmodes.md, equation 5; paper section 2). The residuals of the right
map at the right poses have mean zero, and the expected Hessian is what is left without them.

Residuals are in the units of the filtered slices of :mod:`napari_pickbias.softmodes.views`. Derivatives are at the
pose of the view: shift 0, contrast 1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_pickbias.imaging.fourier import Complexes, Floats, hermitian_weights
from napari_pickbias.imaging.projection import half_disc, slice_points, spectrum_of_image
from napari_pickbias.softmodes.views import (
    Views,
    gradient_volumes,
    orthonormal_tangents,
    real_products,
    sample,
    slices_and_tangents,
    spread,
)

BLOCK = 128
"""Views worked at at a time."""
_PAIRS = ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))


def filtered_images(
    images: Floats, shifts_px: Floats, *, factors: Floats | None = None, weights: Floats | None = None
) -> NDArray[np.complex128]:
    """Return images in the units of filtered slices, moved to shift 0: what a residual is taken from.

    Parameters
    ----------
    images : ndarray, shape (J, n, n)
        In the map's units, not multiplied by the CTF.
    shifts_px : ndarray, shape (J, 2)
        Displacement of each particle from the image's origin along x and y.
    factors : ndarray, shape (J or 1, n, n // 2 + 1), or None
        What the slices were multiplied with besides the CTF: weights of coloured noise.
    weights : ndarray, shape (J,), or None
        Images that each stands for.

    Returns
    -------
    ndarray, shape (J, p)
    """
    size = images.shape[-1]
    disc = half_disc(size)
    scale = np.broadcast_to(hermitian_weights(size), disc.shape)[disc] / size**2
    plane = slice_points(np.eye(3)[None], size)[0][:2, 0]
    found = spectrum_of_image(np.asarray(images, np.float64))[:, disc] * np.sqrt(scale)
    found = found * np.exp(1j * (np.asarray(shifts_px, np.float64) @ plane))
    if factors is not None:
        found = found * np.asarray(factors)[:, disc]
    if weights is not None:
        found = found * np.sqrt(np.asarray(weights, np.float64))[:, None]
    return np.asarray(found, np.complex128)


def pose_curvature(
    volume: Floats, views: Views, residuals: Complexes, *, shifts: bool = True, contrast: bool = False
) -> NDArray[np.float64]:
    """Return ``Re <d2 S, r>`` of each view, ``(J, q, q)``, unknowns as in ``slices_and_tangents``.

    Parameters
    ----------
    volume : ndarray, shape (n, n, n)
    views : Views
    residuals : ndarray, shape (J, p)
    shifts, contrast : bool
        Unknowns of a pose besides the rotation.
    """
    parts = [
        _curvature_of_block(
            np.asarray(volume, np.float64),
            views._replace(
                rotations=views.rotations[start : start + BLOCK], filters=views.filters[start : start + BLOCK]
            ),
            residuals[start : start + BLOCK],
            shifts,
            contrast,
        )
        for start in range(0, len(residuals), BLOCK)
    ]
    return np.concatenate(parts)


def _curvature_of_block(
    volume: NDArray[np.float64], views: Views, residuals: Complexes, shifts: bool, contrast: bool
) -> NDArray[np.float64]:
    points, plane = views.points, _plane(views)
    # second derivatives of the transform are the transforms of -x y V
    first = gradient_volumes(volume)
    coordinates = gradient_volumes(np.ones(volume.shape))
    products = np.stack([first[a] * coordinates[b] for a, b in _PAIRS])
    values = sample(np.concatenate([first, products]), points) * views.filters
    gradient, second = values[:3], values[3:]
    bend = np.empty((3, 3, *residuals.shape), np.complex128)
    for (a, b), one in zip(_PAIRS, second, strict=True):
        bend[a, b] = bend[b, a] = one
    moves = np.stack([_turned(views, np.cross(axis, plane.T)) for axis in np.eye(3)])  # (a, component, j, p)
    result = np.zeros((len(residuals), 3 + 2 * shifts + contrast, 3 + 2 * shifts + contrast))
    for a, b in _PAIRS:
        twice = np.cross(np.eye(3)[a], np.cross(np.eye(3)[b], plane.T))
        twice = (twice + np.cross(np.eye(3)[b], np.cross(np.eye(3)[a], plane.T))) / 2
        change = np.einsum("cjp,cdjp,djp->jp", moves[a], bend, moves[b], optimize=True)
        change += np.einsum("cjp,cjp->jp", _turned(views, twice), gradient)
        result[:, a, b] = result[:, b, a] = _real(change, residuals)
    slices, tangents = slices_and_tangents(volume, views, shifts=shifts, contrast=contrast)
    if shifts:
        for a in (0, 1):
            phase = -1j * plane[a]
            for b in range(3):
                result[:, b, 3 + a] = result[:, 3 + a, b] = _real(phase * tangents[:, b], residuals)
            for b in (0, 1):
                result[:, 3 + a, 3 + b] = _real(-plane[a] * plane[b] * slices, residuals)
    if contrast:
        for b in range(tangents.shape[1] - 1):
            result[:, b, -1] = result[:, -1, b] = _real(tangents[:, b], residuals)
    return result


def pull(
    volumes: Floats, views: Views, residuals: Complexes, *, shifts: bool = True, contrast: bool = False
) -> NDArray[np.float64]:
    """Return ``Re <d_t P v, r>`` of each view for volumes ``(k, n, n, n)``: ``(k, J, q)``."""
    found = []
    for volume in volumes:
        _, tangents = slices_and_tangents(volume, views, shifts=shifts, contrast=contrast)
        found.append(real_products(tangents, residuals[:, None])[:, :, 0])
    return np.stack(found)


def push(
    coefficients: Floats, views: Views, residuals: Complexes, *, shifts: bool = True, contrast: bool = False
) -> NDArray[np.float64]:
    """Apply the adjoint of :func:`pull` to ``(J, q)`` coefficients: the volume ``(n, n, n)``."""
    plane = _plane(views)
    weighted = residuals * views.filters
    turns = np.einsum("ja,apc->jpc", coefficients[:, :3], np.stack([np.cross(axis, plane.T) for axis in np.eye(3)]))
    moved = np.einsum("jbc,jpb->cjp", views.rotations, turns)
    rest = np.zeros_like(weighted)
    if shifts:
        rest += 1j * (coefficients[:, 3:5] @ plane[:2]) * weighted
    if contrast:
        rest += coefficients[:, -1:] * weighted
    volumes = spread(np.concatenate([1j * moved * weighted, rest[None]]), views.points, views.size)
    axis = np.arange(views.size) - views.size // 2
    return np.asarray(volumes[0] * axis + volumes[1] * axis[:, None] + volumes[2] * axis[:, None, None] + volumes[3])


def push_of_view(
    view: int, views: Views, points: Floats, residuals: Complexes, *, shifts: bool = True, contrast: bool = False
) -> NDArray[np.float32]:
    """Return the volumes that :func:`push` makes of each unknown of one view, ``(q, n, n, n)``.

    Two or three transforms; ``points`` are ``views.points``.
    """
    plane = _plane(views)
    weighted = residuals[view] * views.filters[view]
    values = [1j * plane[0] * weighted, 1j * plane[1] * weighted, *([weighted] if contrast else [])]
    along, down, *plain = spread(np.stack(values).astype(np.complex64), points[:, view], views.size).astype(np.float32)
    axis = (np.arange(views.size) - views.size // 2).astype(np.float32)
    x, y, z = (
        row[0] * axis + row[1] * axis[:, None] + row[2] * axis[:, None, None]
        for row in views.rotations[view].astype(np.float32)
    )
    columns = [z * down, -z * along, y * along - x * down]
    return np.stack(columns + ([along, down] if shifts else []) + plain)


def recover_from(curvature: Floats, tangents: Complexes) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return ``U`` with ``U U^T = H_tt^-1`` of each view, and where that is not to be had.

    Where the residuals leave a pose that is no minimum of its image's misfit, in any direction, its block is the
    expected one, without residuals.

    Parameters
    ----------
    curvature : ndarray, shape (J, q, q)
        From :func:`pose_curvature`.
    tangents : ndarray, shape (J, q, p)
    """
    expected = orthonormal_tangents(tangents).recover
    # in units of each pose's own precision, where the expected block is the identity
    block = np.einsum("jab,jac,jcd->jbd", expected, real_products(tangents, tangents) + curvature, expected)
    values, vectors = np.linalg.eigh(block)
    used = np.einsum("jab->jb", np.abs(expected)) > 0  # undetermined directions stay left out
    lowest = np.where(used.all(axis=1), values[:, 0], 1.0)
    bad = lowest < LEAST_CURVATURE
    bad |= ~used.all(axis=1)
    roots = 1 / np.sqrt(values.clip(min=LEAST_CURVATURE))
    own = np.einsum("jab,jbc,jc->jac", expected, vectors, roots)
    return np.where(bad[:, None, None], expected, own), bad


LEAST_CURVATURE = 0.05
"""A pose whose misfit curves less than this share of what is expected counts as one that is not at its minimum."""


def _plane(views: Views) -> NDArray[np.float64]:
    """Return the x, y, z frequencies of an image, ``(3, p)``."""
    return np.asarray(slice_points(np.eye(3)[None], views.size)[0][:, 0])


def _turned(views: Views, vectors: Floats) -> NDArray[np.float64]:
    """Turn ``(p, 3)`` vectors of the image's frame into the map's, ``(3, J, p)``."""
    return np.einsum("jbc,pb->cjp", views.rotations, vectors)


def _real(first: Complexes, second: Complexes) -> NDArray[np.float64]:
    return np.asarray(np.sum(first.real * second.real + first.imag * second.imag, axis=1))
