"""Slices of a set of views, their adjoint, and the tangents of poses.

The likelihood of images ``A_j`` is ``L / sigma^2`` with ``L = 1/2 sum_j |C_j S_j - A_j|^2``, a sum over pixels. A view
is a central slice at the half disc of frequencies below Nyquist; its samples are scaled so that the real scalar product
of two of them is the sum over the pixels of the images. Poses are a rotation vector in the frame of the image,
``k -> R^T exp([w]) k``, a shift and, if asked, a factor of contrast. Known shifts of particles multiply slices and
tangents by the same phases, so they drop out of everything here.
"""

from __future__ import annotations

from typing import NamedTuple

import finufft
import numpy as np
from numpy.typing import NDArray

from napari_pickbias.imaging.fourier import Complexes, Floats, hermitian_weights
from napari_pickbias.imaging.projection import half_disc, slice_points

ACCURACY = 1e-8
"""Relative accuracy of slices in double precision."""
PINV_TOLERANCE = 1e-6
"""Directions of a pose (after each unknown is scaled to unit length) softer than this are taken as undetermined."""


class Views(NamedTuple):
    """Views of a volume.

    ``J`` views, ``p`` frequencies of a half disc, ``n`` the side of the box.
    """

    rotations: NDArray[np.float64]
    """``(J, 3, 3)``"""

    filters: NDArray[np.float64]
    """``(J, p)`` CTF times the square roots of noise weight, image weight and the scale of the half disc."""

    size: int
    """n"""

    @property
    def points(self) -> NDArray[np.float64]:
        """``(3, J, p)`` x, y, z frequencies, radians per voxel."""
        return slice_points(self.rotations, self.size)[0]


def make_views(rotations: Floats, size: int, *, ctf: Floats | None = None, weights: Floats | None = None) -> Views:
    """Prepare views.

    Parameters
    ----------
    rotations : ndarray, shape (J, 3, 3)
        Active rotations.
    size : int
        Side of the box, voxels.
    ctf : ndarray, shape (J or 1, n, n // 2 + 1), or None
        Half-spectra; coloured noise enters here as well: CTF over the standard deviation of the noise.
    weights : ndarray, shape (J,), or None
        How many images each view stands for.
    """
    disc = half_disc(size)
    scale = np.broadcast_to(hermitian_weights(size), disc.shape)[disc] / size**2
    filters = np.broadcast_to(np.sqrt(scale), (len(rotations), len(scale))).copy()
    if ctf is not None:
        filters *= np.asarray(ctf, np.float64)[:, disc]
    if weights is not None:
        filters *= np.sqrt(np.asarray(weights, np.float64))[:, None]
    return Views(np.asarray(rotations, np.float64), filters, size)


def sample(volumes: Floats, points: Floats) -> Complexes:
    """Return the Fourier transforms of ``(k, n, n, n)`` volumes at ``(3, ...)`` points, ``(k, ...)`` complex128."""
    x, y, z = (np.ascontiguousarray(axis.ravel(), np.float64) for axis in points)
    modes = np.ascontiguousarray(volumes, np.complex128)
    values = finufft.nufft3d2(z, y, x, modes, eps=ACCURACY, isign=-1, nthreads=1, showwarn=0, upsampfac=2.0)
    return np.asarray(values).reshape(len(volumes), *points.shape[1:])


def spread(values: Complexes, points: Floats, size: int) -> NDArray[np.float64]:
    """Apply the adjoint of :func:`sample` for real volumes: ``(k, ...)`` values to ``(k, n, n, n)`` volumes.

    Single-precision values are spread in single precision, to 1e-6.
    """
    single = values.dtype == np.complex64
    x, y, z = (np.ascontiguousarray(axis.ravel(), np.float32 if single else np.float64) for axis in points)
    strengths = np.ascontiguousarray(values.reshape(len(values), -1))
    shape = (size, size, size)
    accuracy = 1e-6 if single else ACCURACY
    modes = finufft.nufft3d1(z, y, x, strengths, shape, eps=accuracy, isign=1, nthreads=1, showwarn=0, upsampfac=1.25)
    return np.ascontiguousarray(np.asarray(modes).reshape(-1, *shape).real)


def normal_symbol(views: Views) -> NDArray[np.float64]:
    """Return the symbol of ``H_FF = sum_j P_j^* P_j`` for :class:`~napari_pickbias.softmodes.metric.Convolution`.

    Toeplitz: the kernel is the transform of the squared filters on a grid of twice the side, where wrapping does no
    harm. Exact to the accuracy of the transform.
    """
    kernel = spread((views.filters**2).astype(np.complex128)[None], views.points, 2 * views.size)[0]
    # an even kernel: the plane at -n has no partner at +n and is never used
    kernel[0], kernel[:, 0], kernel[:, :, 0] = 0, 0, 0
    return np.asarray(np.fft.rfftn(np.fft.ifftshift(kernel)).real)


def gradient_volumes(volume: Floats) -> NDArray[np.complex128]:
    """Return ``-i x V``, ``-i y V``, ``-i z V``: their transforms are the gradient of the transform of ``V``."""
    axis = np.arange(volume.shape[0]) - volume.shape[0] // 2
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    return np.stack([-1j * coordinate * volume for coordinate in (x, y, z)])


def slices_and_tangents(
    volume: Floats, views: Views, *, shifts: bool = True, contrast: bool = False
) -> tuple[Complexes, Complexes]:
    """Return the filtered slices of a volume and their derivatives by the poses.

    Returns
    -------
    slices : ndarray, shape (J, p)
    tangents : ndarray, shape (J, q, p)
        By the rotation vector in the image's frame (3, per radian), the shift (2, per pixel; ``exp(-i k d)``), and a
        factor of contrast (1).
    """
    points = views.points
    values = sample(np.concatenate([np.asarray(volume)[None], gradient_volumes(volume)]), points) * views.filters
    slices, gradient = values[0], values[1:]
    frequencies = slice_points(np.eye(3)[None], views.size)[0][:, 0]
    tangents = []
    for axis in np.eye(3):
        turned = np.cross(axis, frequencies.T)  # (p, 3)
        moved = np.einsum("jba,pb->ajp", views.rotations, turned)
        tangents.append(np.sum(moved * gradient, axis=0))
    if shifts:
        tangents += [-1j * frequencies[axis] * slices for axis in (0, 1)]
    if contrast:
        tangents.append(slices)
    return slices, np.stack(tangents, axis=1)


class Tangents(NamedTuple):
    """Tangent spaces of the poses."""

    basis: Complexes
    """``(J, q, p)`` orthonormal over the reals, zero where a direction is undetermined."""

    recover: NDArray[np.float64]
    """``(J, q, q)``: pose step of the components along ``basis``."""


def orthonormal_tangents(tangents: Complexes) -> Tangents:
    """Orthonormalise tangents, ``(J, q, p)``; undetermined directions are dropped (:data:`PINV_TOLERANCE`)."""
    gram = real_products(tangents, tangents)
    length = np.sqrt(np.einsum("jaa->ja", gram))
    scale = np.divide(1, length, out=np.zeros_like(length), where=length > 0)
    values, vectors = np.linalg.eigh(gram * scale[:, :, None] * scale[:, None, :])
    kept = values > PINV_TOLERANCE * values[:, -1:].clip(min=np.finfo(float).tiny)
    roots = np.divide(1, np.sqrt(values.clip(min=0)), out=np.zeros_like(values), where=kept)
    recover = scale[:, :, None] * vectors * roots[:, None, :]
    return Tangents(np.einsum("jab,jap->jbp", recover, tangents), recover)


def real_products(first: Complexes, second: Complexes) -> NDArray[np.float64]:
    """Return ``Re <first, second>`` of each view: ``(J, q, p)`` and ``(J, r, p)`` to ``(J, q, r)``."""
    return np.asarray(
        np.matmul(first.real, second.real.transpose(0, 2, 1)) + np.matmul(first.imag, second.imag.transpose(0, 2, 1))
    )
