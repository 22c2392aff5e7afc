"""Central slices of a volume, its projections, and their exact adjoint, by non-uniform FFT.

The slice theorem in this room's conventions: the projection of a volume along z, after it was turned by ``R``, has the
Fourier transform ``F(R^T (kx, ky, 0))``. The volume's transform is evaluated at those points by finufft (type 2) to a
stated accuracy, as if padded without end; frequencies at and beyond Nyquist are left out (they leave the cube when
turned). Pixels are sums over the line of sight in voxels.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import finufft
import numpy as np
import scipy.fft
from numpy.typing import NDArray

from napari_pickbias.imaging.fourier import Complexes, Floats, frequency_axes, hermitian_weights, shift_factors
from napari_pickbias.imaging.volumes import resize_box

ACCURACY = 1e-5
"""Default relative accuracy of a slice; pixels of a projection are about as good."""


def half_disc(size: int) -> NDArray[np.bool_]:
    """Return where the half-spectrum of a ``(size, size)`` image lies strictly below the Nyquist frequency."""
    rows, columns = frequency_axes((size, size))
    return np.asarray(rows**2 + columns**2 < 0.25)


def slice_points(rotations: Floats, size: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return the 3-D frequencies of the central slices of ``rotations``.

    Parameters
    ----------
    rotations : ndarray, shape (m, 3, 3)
        Active rotations.
    size : int
        Side of the images.

    Returns
    -------
    points : ndarray, shape (3, m, p)
        x, y, z components in radians per pixel, one per True of ``disc``.
    disc : ndarray of bool, shape (size, size // 2 + 1)
        Half-spectrum coefficients that a slice has: those of :func:`half_disc`.
    """
    disc = half_disc(size)
    rows, columns = np.broadcast_arrays(*frequency_axes((size, size), 1 / (2 * np.pi)))
    matrices = np.asarray(rotations, np.float64)
    points = columns[disc] * matrices[:, 0, :, None] + rows[disc] * matrices[:, 1, :, None]
    return np.ascontiguousarray(points.transpose(1, 0, 2)), disc


class FourierVolume(NamedTuple):
    """A volume prepared for many slices by :func:`fourier_volume`; threads may share it."""

    grid: Complexes
    """``(m, m, m)`` transform of the deconvolved volume on a grid finer than its own, frequency 0 at ``m // 2``."""

    size: int
    """Side of the volume."""

    accuracy: float
    """Relative accuracy of what is interpolated from it."""


def fourier_volume(volume: Floats, *, accuracy: float = ACCURACY) -> FourierVolume:
    """Transform a cubic volume once, so that slices need only be interpolated.

    The volume is divided by the transform of finufft's interpolation kernel and transformed on a grid 1.25 (2 for
    accuracies below 1e-8) times as large; :func:`volume_at` then skips both steps. Worth it from the second use on.

    Parameters
    ----------
    volume : ndarray, shape (n, n, n), float32 or float64
        Real, origin at voxel ``n // 2``.
    accuracy : float
        Relative accuracy.
    """
    size = _cube_side(volume)
    # even, and at least twice finufft's widest kernel
    fine = 2 * scipy.fft.next_fast_len(max(16, int(np.ceil(_upsampling(accuracy) * size / 2))))
    real = np.float32 if volume.dtype == np.float32 else np.float64
    correction = 1 / _kernel_transform(accuracy, real == np.float32, (np.arange(size) - size // 2) * (2 * np.pi / fine))
    padded = np.zeros((fine,) * 3, real)
    start = fine // 2 - size // 2
    part = (slice(start, start + size),) * 3
    padded[part] = volume * correction[:, None, None] * correction[:, None] * correction
    grid = scipy.fft.fftn(scipy.fft.ifftshift(padded), workers=1)
    return FourierVolume(np.ascontiguousarray(scipy.fft.fftshift(grid)), size, accuracy)


@lru_cache(maxsize=8)
def _kernel_samples(accuracy: float, single: bool) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return positions, in grid steps, and values of finufft's kernel, sampled by interpolating a single grid point."""
    grid: Complexes = np.zeros(64, np.complex64 if single else np.complex128)
    grid[32] = 1
    positions = (np.arange(8000) + 0.5) / 400 - 10
    steps = (positions * (2 * np.pi / 64)).astype(grid.real.dtype)
    return positions, _interpolation_plan(grid, steps[None], accuracy).execute(grid).real.astype(np.float64)


def _kernel_transform(accuracy: float, single: bool, frequencies: Floats) -> NDArray[np.float64]:
    """Return the Fourier transform of the kernel at ``frequencies``, radians per grid step, by the midpoint rule."""
    positions, values = _kernel_samples(accuracy, single)
    return np.asarray(np.cos(np.outer(frequencies, positions)) @ values * (positions[1] - positions[0]))


def _interpolation_plan(grid: Complexes, axes: Floats, accuracy: float) -> finufft.Plan:
    """Return a plan that interpolates ``grid`` at ``axes`` (points along its first, second, ... axis, radians)."""
    plan = finufft.Plan(
        2,
        grid.shape,
        eps=accuracy,
        isign=-1,
        dtype=grid.dtype.name,
        nthreads=1,
        showwarn=0,
        upsampfac=_upsampling(accuracy),
        spreadinterponly=1,
    )
    plan.setpts(*[np.ascontiguousarray(axis.ravel(), grid.real.dtype) for axis in axes])
    return plan


def volume_at(volume: Floats | FourierVolume, points: Floats, *, accuracy: float = ACCURACY) -> Complexes:
    """Evaluate the Fourier transform of a volume at any frequencies.

    Parameters
    ----------
    volume : ndarray, shape (d, h, w), float32 or float64, or FourierVolume
        Real, origin at voxel ``n // 2`` of each axis.
    points : ndarray, shape (3, ...)
        x, y, z frequencies, radians per voxel, each in -pi ... pi.
    accuracy : float
        Relative accuracy. Single precision limits it to 1e-6 for a molecule inside its box and to 4e-5 for a float32
        volume that fills its box up to the edges. A :class:`FourierVolume` has its own.

    Returns
    -------
    ndarray, shape ``points.shape[1:]``
        ``sum_v volume(v) exp(-i k . v)``, complex in the volume's precision.
    """
    if isinstance(volume, FourierVolume):
        plan = _interpolation_plan(volume.grid, points[::-1], volume.accuracy)
        return np.asarray(plan.execute(volume.grid)).reshape(points.shape[1:])
    real = np.float32 if volume.dtype == np.float32 else np.float64
    complex_type = np.complex64 if real is np.float32 else np.complex128
    flat = [np.ascontiguousarray(axis.ravel(), real) for axis in points]
    modes = np.ascontiguousarray(volume, complex_type)
    values = finufft.nufft3d2(
        flat[2],
        flat[1],
        flat[0],
        modes,
        eps=accuracy,
        isign=-1,
        nthreads=1,
        showwarn=0,
        upsampfac=_upsampling(accuracy),
    )
    return np.asarray(values).reshape(points.shape[1:])


def _upsampling(accuracy: float) -> float:
    # Stated, since finufft's own choice also looks at the number of points: a projection would then depend on how many
    # others are made with it. The small factor saves memory and time (the 3-D FFT dominates) and reaches 1e-9.
    return 1.25 if accuracy >= 1e-8 else 2.0


def central_slices(volume: Floats | FourierVolume, rotations: Floats, *, accuracy: float = ACCURACY) -> Complexes:
    """Return the central slices of a cubic volume as half-spectra about the image origin.

    Parameters
    ----------
    volume : ndarray, shape (n, n, n), or FourierVolume
        Real volume.
    rotations : ndarray, shape (m, 3, 3)
        Active rotations.
    accuracy : float
        Relative accuracy.

    Returns
    -------
    ndarray, shape (m, n, n // 2 + 1)
        Zero at and beyond Nyquist. Phases refer to pixel ``n // 2``: see :func:`image_of_spectrum`.
    """
    size = volume.size if isinstance(volume, FourierVolume) else _cube_side(volume)
    points, disc = slice_points(rotations, size)
    values = volume_at(volume, points, accuracy=accuracy)
    result = np.zeros((len(values), *disc.shape), values.dtype)
    result[:, disc] = values
    return result


def _cube_side(volume: Floats) -> int:
    if volume.ndim != 3 or len(set(volume.shape)) != 1:
        raise ValueError(f"`volume` has shape {volume.shape}; it must be a cube")
    return int(volume.shape[0])


def _origin_factors(size: int) -> tuple[Complexes, Complexes]:
    """Return the factors that move an image's origin from the corner to pixel ``n // 2``."""
    return shift_factors(np.full((1, 2), float(size // 2)), size)


def image_of_spectrum(spectrum: Complexes, size: int) -> Floats:
    """Return the ``(m, n, n)`` images of half-spectra whose phases refer to pixel ``n // 2``."""
    rows, columns = _origin_factors(size)
    moved = spectrum * rows.astype(spectrum.dtype)
    moved *= columns.astype(spectrum.dtype)
    return np.asarray(scipy.fft.irfft2(moved, s=(size, size), workers=1, overwrite_x=True))


def spectrum_of_image(images: Floats) -> Complexes:
    """Return the half-spectra of ``(m, n, n)`` images with phases that refer to pixel ``n // 2``."""
    rows, columns = _origin_factors(images.shape[-1])
    spectrum = np.asarray(scipy.fft.rfft2(images, workers=1))
    spectrum *= rows.conj().astype(spectrum.dtype)
    spectrum *= columns.conj().astype(spectrum.dtype)
    return spectrum


def project(
    volume: Floats | FourierVolume,
    rotations: Floats,
    *,
    shifts_px: Floats | None = None,
    ctf: Floats | None = None,
    accuracy: float = ACCURACY,
) -> Floats:
    """Project a volume.

    Parameters
    ----------
    volume : ndarray, shape (n, n, n), or FourierVolume
        float32 or float64; the images have its precision. It should fit the inscribed ball: what lies outside leaves
        the image in some views and comes back on the other side.
    rotations : ndarray, shape (m, 3, 3)
        Active rotations.
    shifts_px : ndarray, shape (m, 2), or None
        Displacement of each particle from the image origin along x and y, px, periodic. RELION's
        ``rlnOriginXAngst`` has the opposite sign.
    ctf : ndarray, shape (m or 1, n, n // 2 + 1), or None
        Multiplies the half-spectra.
    accuracy : float
        Relative accuracy of the slices.

    Returns
    -------
    ndarray, shape (m, n, n)
        Sums over the line of sight, indexed ``[y, x]``.
    """
    size = volume.size if isinstance(volume, FourierVolume) else _cube_side(volume)
    spectrum = central_slices(volume, rotations, accuracy=accuracy)
    if shifts_px is not None:
        for factor in shift_factors(shifts_px, size):
            spectrum *= factor.astype(spectrum.dtype)
    if ctf is not None:
        spectrum *= ctf
    return image_of_spectrum(spectrum, size)


def resample_volume(
    volume: NDArray[np.float32], voxel_size: float, new_size: int, new_voxel_size: float, *, accuracy: float = ACCURACY
) -> NDArray[np.float32]:
    """Bring a volume to another voxel size and box exactly, whatever the ratio of the two.

    The volume's transform is evaluated at the frequencies of the new grid; detail that the new grid cannot hold is
    dropped, and none is invented beyond the old grid's Nyquist frequency.

    Parameters
    ----------
    volume : ndarray, shape (d, h, w), float32
        Density. What lies outside the new box is cut off first (at whole old voxels).
    voxel_size, new_voxel_size : float
        In one unit, for example Å.
    new_size : int
        Side of the new cube, voxels.

    Returns
    -------
    ndarray, shape (new_size, new_size, new_size), float32
        Density at the new voxels.
    """
    ratio = voxel_size / new_voxel_size
    cut = resize_box(volume, max(1, int(np.floor(new_size / ratio))))
    axes = np.broadcast_arrays(*frequency_axes((new_size,) * 3, 1 / (2 * np.pi)))
    points = np.stack(axes[::-1]) * ratio
    inside = np.all(np.abs(points) < np.pi, axis=0) & np.all(np.abs(np.stack(axes)) < np.pi, axis=0)
    spectrum = np.zeros(inside.shape, np.complex64)
    spectrum[inside] = volume_at(cut, points[:, inside], accuracy=accuracy) * ratio**3
    # origin of the new box: voxel n // 2
    for frequency in frequency_axes((new_size,) * 3):
        spectrum *= np.exp(-2j * np.pi * frequency * (new_size // 2)).astype(np.complex64)
    return np.asarray(scipy.fft.irfftn(spectrum, s=(new_size,) * 3, workers=1), np.float32)


def backproject(
    images: Floats,
    rotations: Floats,
    *,
    shifts_px: Floats | None = None,
    ctf: Floats | None = None,
    accuracy: float = ACCURACY,
) -> Floats:
    """Apply the adjoint of :func:`project`: ``sum(project(v) * images) == sum(v * backproject(images))``.

    Parameters
    ----------
    images : ndarray, shape (m, n, n)
        float32 or float64.
    rotations, shifts_px, ctf, accuracy
        As for :func:`project`.

    Returns
    -------
    ndarray, shape (n, n, n)
        In the images' precision.
    """
    size = images.shape[-1]
    spectrum = spectrum_of_image(images)
    if shifts_px is not None:
        for factor in shift_factors(shifts_px, size):
            spectrum *= factor.conj().astype(spectrum.dtype)
    if ctf is not None:
        spectrum *= ctf
    points, disc = slice_points(rotations, size)
    weights = np.broadcast_to(hermitian_weights(size), disc.shape)[disc] / size**2
    strengths = np.ascontiguousarray((spectrum[:, disc] * weights).ravel(), spectrum.dtype)
    flat = [np.ascontiguousarray(axis.ravel(), images.dtype) for axis in points]
    volume = finufft.nufft3d1(
        flat[2],
        flat[1],
        flat[0],
        strengths,
        (size, size, size),
        eps=accuracy,
        isign=1,
        nthreads=1,
        showwarn=0,
        upsampfac=_upsampling(accuracy),
    )
    return np.ascontiguousarray(np.asarray(volume).real)
