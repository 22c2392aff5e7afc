"""Weighted back-projection of patches at known angles: linear, so that a removal made on patches carries over to maps.

Patches are added into a volume by the exact adjoint of projection, beside the kernel of how often each frequency was
seen; dividing by the transform of that kernel (smoothed to the box, never below a share of its shell's mean) gives the
map. Both parts add over micrographs. Equal views of a symmetric particle are merged at the end, on the sums.
"""

from __future__ import annotations

import finufft
import numpy as np
import scipy.fft
from numpy.typing import NDArray

from napari_pickbias.imaging.fourier import Floats, frequency_axes, hermitian_weights, radial_frequency, shell_numbers
from napari_pickbias.imaging.projection import backproject, slice_points, volume_at
from napari_pickbias.imaging.volumes import resize_box

ACCURACY = 1e-4
FLOOR = 0.1
"""Share of a shell's mean coverage that is added to it, so that frequencies seldom seen are not blown up."""
BLOCK = 4096


def add_patches(patches: Floats, rotations: Floats, transfer: Floats | None = None) -> NDArray[np.float64]:
    """Back-project patches: the sum of the adjoints of projection.

    Parameters
    ----------
    patches : ndarray, shape (m, n, n)
    rotations : ndarray, shape (m, 3, 3)
        Active rotations, as :func:`napari_pickbias.imaging.projection.project`.
    transfer : ndarray, shape (n, n // 2 + 1), or None
        The micrograph's CTF, which the projections went through.

    Returns
    -------
    ndarray, shape (n, n, n)
    """
    size = patches.shape[-1]
    total = np.zeros((size,) * 3)
    factor = None if transfer is None else transfer[None]
    for first in range(0, len(patches), BLOCK):
        part = slice(first, first + BLOCK)
        total += backproject(np.asarray(patches[part], np.float64), rotations[part], ctf=factor, accuracy=ACCURACY)
    return total


def coverage(rotations: Floats, weights: Floats, size: int, transfer: Floats | None = None) -> NDArray[np.float64]:
    """Return the kernel of projection followed by back-projection.

    ``add_patches(project(v))`` is the convolution of ``v`` with it (Toeplitz), so its transform is how often, and how
    strongly, each frequency was seen.

    Parameters
    ----------
    rotations : ndarray, shape (m, 3, 3)
    weights : ndarray, shape (m,)
        Patches at each of them.
    size : int
        Side ``n`` of the patches.
    transfer : ndarray, shape (n, n // 2 + 1), or None

    Returns
    -------
    ndarray, shape (2 n, 2 n, 2 n)
        Origin at voxel ``n``.
    """
    kernel = np.zeros((2 * size,) * 3)
    for first in range(0, len(rotations), BLOCK):
        part = slice(first, first + BLOCK)
        points, disc = slice_points(rotations[part], size)
        strength = np.broadcast_to(hermitian_weights(size), disc.shape)[disc] / size**2
        if transfer is not None:
            strength = strength * transfer[disc] ** 2
        flat = [np.ascontiguousarray(axis.ravel(), np.float64) for axis in points]
        kernel += finufft.nufft3d1(
            flat[2], flat[1], flat[0], np.outer(weights[part], strength).ravel().astype(np.complex128),
            kernel.shape, eps=ACCURACY, isign=1, nthreads=1, showwarn=0, upsampfac=1.25,
        ).real  # fmt: skip
    return kernel


def symmetrised(volume: Floats, group: Floats) -> NDArray[np.float64]:
    """Return the sum of a volume (or of a :func:`coverage`) turned by all rotations of a point group.

    Parameters
    ----------
    volume : ndarray, shape (n, n, n)
    group : ndarray, shape (s, 3, 3)
        From :func:`napari_pickbias.matching.views.symmetry_rotations`.
    """
    values = np.asarray(volume, np.float64)
    if len(group) == 1:
        return values
    shape = values.shape
    axes = np.broadcast_arrays(*frequency_axes(shape, 1 / (2 * np.pi)))
    inside = radial_frequency(shape) < 0.5
    points = np.stack([axis[inside] for axis in axes[::-1]])
    found = np.zeros(inside.shape, np.complex128)
    turned = np.einsum("sij,jp->isp", np.asarray(group, np.float64), points)
    found[inside] = volume_at(values, np.clip(turned, -np.pi, np.pi), accuracy=1e-6).sum(axis=0)
    for frequency in frequency_axes(shape):
        found *= np.exp(-2j * np.pi * frequency * (shape[0] // 2))
    return np.asarray(scipy.fft.irfftn(found, s=shape, workers=1))


def density_filter(kernel: Floats) -> NDArray[np.float64]:
    """Return what the transform of a back-projection is multiplied with, from its :func:`coverage`.

    The kernel is multiplied with a triangle along each axis, whose transform is nowhere negative: that smooths the
    coverage to the resolution of the box and keeps it positive.

    Returns
    -------
    ndarray, shape (2 n, 2 n, n + 1)
        Zero at and beyond Nyquist.
    """
    shape = kernel.shape
    triangle = 1 - np.abs(np.arange(shape[0]) - shape[0] // 2) / (shape[0] // 2)
    smooth = kernel * triangle[:, None, None] * triangle[:, None] * triangle
    seen = np.maximum(scipy.fft.rfftn(scipy.fft.ifftshift(smooth), workers=1).real, 0)
    numbers = shell_numbers(shape)
    weights = np.broadcast_to(hermitian_weights(shape[-1]), numbers.shape)
    mean = np.bincount(numbers.ravel(), (seen * weights).ravel()) / np.bincount(numbers.ravel(), weights.ravel())
    total = seen + FLOOR * mean[numbers]
    inside = (radial_frequency(shape) < 0.5) & (total > 0)
    return np.where(inside, 1 / np.where(inside, total, 1), 0.0)


def reconstruct(numerator: Floats, density: Floats) -> NDArray[np.float64]:
    """Return the map of a back-projection.

    Parameters
    ----------
    numerator : ndarray, shape (..., n, n, n)
        Sums of :func:`add_patches`.
    density : ndarray, shape (2 n, 2 n, n + 1)
        :func:`density_filter` of their coverage.
    """
    size, grid = numerator.shape[-1], density.shape[0]
    spectrum = scipy.fft.rfftn(resize_box(np.asarray(numerator, np.float64), grid), axes=(-3, -2, -1), workers=1)
    spectrum *= density
    return np.asarray(resize_box(scipy.fft.irfftn(spectrum, s=(grid,) * 3, axes=(-3, -2, -1), workers=1), size))
