"""Fourier grids, band-limited resampling, shifts and filters of image stacks.

Spectra of real images are half-spectra in the layout of ``scipy.fft.rfft2``: ``(..., h, w // 2 + 1)``, no shift of
the zero frequency, whose image origin is the corner pixel. Images and volumes have their origin at pixel ``n // 2``.
All transforms run on one thread: callers work on several chunks at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Complexes = NDArray[np.complexfloating[Any, Any]]

LARGEST_MATRIX_PX = 1024
"""Boxes up to this side are resampled by two matrix products, which beat the FFT there; larger ones by the FFT."""


def frequency_axes(shape: Sequence[int], spacing: float = 1.0) -> tuple[NDArray[np.float64], ...]:
    """Return the frequencies of a half-spectrum along each axis, shaped to broadcast against it.

    Parameters
    ----------
    shape : sequence of int
        Shape of the real array, for example ``(h, w)`` or ``(d, h, w)``.
    spacing : float
        Pixel size in the unit wanted: 1 gives cycles per pixel, Å per pixel gives 1/Å, and ``1 / (2 * pi)`` gives
        radians per pixel.

    Returns
    -------
    tuple of ndarray
        One array an axis, in the order of ``shape``. The Nyquist frequency of an even axis is negative (positive on
        the last, halved axis).
    """
    rank = len(shape)
    axes = []
    for axis, size in enumerate(shape):
        values = np.asarray((np.fft.rfftfreq if axis == rank - 1 else np.fft.fftfreq)(size, spacing), np.float64)
        axes.append(values.reshape([-1 if i == axis else 1 for i in range(rank)]))
    return tuple(axes)


def radial_frequency(shape: Sequence[int], spacing: float = 1.0) -> NDArray[np.float64]:
    """Return ``|k|`` on the half-spectrum of an array of ``shape``; units as in :func:`frequency_axes`."""
    squares = np.zeros(1)
    for axis in frequency_axes(shape, spacing):
        squares = squares + axis**2
    return np.sqrt(squares)


def hermitian_weights(size: int) -> NDArray[np.float64]:
    """Return how many coefficients of the full spectrum each column of a half-spectrum stands for.

    ``(size // 2 + 1,)``: 1 at zero frequency and at the Nyquist frequency of an even size, 2 elsewhere.
    """
    weights = np.full(size // 2 + 1, 2.0)
    weights[0] = 1.0
    if size % 2 == 0:
        weights[-1] = 1.0
    return weights


def shell_numbers(shape: Sequence[int]) -> NDArray[np.int64]:
    """Return the shell number of each half-spectrum coefficient of an array of ``shape``.

    Shell ``s`` holds the frequencies within half a step of ``s / n`` cycles per pixel, ``n`` the smallest side: for a
    cube these are RELION's shells.
    """
    return np.rint(radial_frequency(shape) * min(shape)).astype(np.int64)


def shell_average(values: Floats, shape: Sequence[int]) -> NDArray[np.float64]:
    """Average a half-spectrum over shells.

    Parameters
    ----------
    values : ndarray, shape (..., *half-spectrum)
        Real values on the half-spectrum of a real array of ``shape``.
    shape : sequence of int
        Shape of that real array.

    Returns
    -------
    ndarray, shape (..., n // 2 + 1)
        Mean over all coefficients of the full spectrum in shells ``0 ... n // 2``, ``n = min(shape)``.
    """
    numbers = shell_numbers(shape)
    weights = np.broadcast_to(hermitian_weights(shape[-1]), numbers.shape)
    shells = min(shape) // 2 + 1
    inside = numbers < shells
    flat, weight = numbers[inside], weights[inside]
    selected = np.asarray(values, np.float64).reshape(-1, *numbers.shape)[:, inside]
    counts = np.bincount(flat, weight, shells)
    sums = np.stack([np.bincount(flat, weight * row, shells) for row in selected])
    return np.asarray((sums / counts).reshape(*values.shape[: values.ndim - len(shape)], shells))


def radius_grid(size: int) -> NDArray[np.float64]:
    """Return the distance of each pixel of a ``(size, size)`` image from its origin, px."""
    offsets = np.arange(size) - size // 2
    return np.hypot(offsets[:, None], offsets[None, :])


def radial_mean(images: Floats) -> NDArray[np.float64]:
    """Average ``(..., n, n)`` images over rings one pixel wide about the origin.

    Returns
    -------
    ndarray, shape (..., n // 2 + 1)
        Mean of the pixels whose distance from the origin rounds to 0, 1, ... ``n // 2`` (the last ring of an even
        box is cut by the box).
    """
    size = images.shape[-1]
    numbers = np.rint(radius_grid(size)).astype(np.int64)
    inside = numbers <= size // 2
    ring = numbers[inside]
    selected = np.asarray(images, np.float64).reshape(-1, size, size)[:, inside]
    sums = np.stack([np.bincount(ring, row) for row in selected])
    return np.asarray((sums / np.bincount(ring)).reshape(*images.shape[:-2], size // 2 + 1))


@lru_cache(maxsize=32)
def resampling_matrix(old_size: int, new_size: int) -> NDArray[np.float64]:
    """Return the matrix that resamples a band-limited signal of one axis, its origin staying at pixel ``n // 2``.

    It keeps the frequencies that both grids hold. The Nyquist coefficient of an even size is shared between ``+`` and
    ``-`` when padding, and the two are summed when cropping (as ``scipy.signal.resample`` does), so that a crop undoes
    a pad exactly. Rows sum to 1: a constant stays the same constant.

    Parameters
    ----------
    old_size, new_size : int
        Samples before and after.

    Returns
    -------
    ndarray, shape (new_size, old_size)
        Read-only, float64.
    """
    if old_size == new_size:
        matrix = np.eye(old_size)
    else:
        smaller = min(old_size, new_size)
        position = (np.arange(new_size) - new_size // 2) * (old_size / new_size) + old_size // 2
        angle = 2 * np.pi / old_size * (position[:, None] - np.arange(old_size)[None, :])
        matrix = np.ones((new_size, old_size))
        for k in range(1, (smaller - 1) // 2 + 1):
            matrix += 2 * np.cos(k * angle)
        if smaller % 2 == 0:
            matrix += (2 if new_size < old_size else 1) * np.cos(smaller // 2 * angle)
        matrix /= old_size
    matrix.setflags(write=False)
    return matrix


@lru_cache(maxsize=32)
def _resampling_matrix32(old_size: int, new_size: int) -> NDArray[np.float32]:
    matrix = resampling_matrix(old_size, new_size).astype(np.float32)
    matrix.setflags(write=False)
    return matrix


def _matrix_for(array: Floats, old_size: int, new_size: int) -> Floats:
    return (
        _resampling_matrix32(old_size, new_size) if array.dtype == np.float32 else resampling_matrix(old_size, new_size)
    )


def fourier_crop(images: Floats, new_size: int) -> Floats:
    """Resample square images to a smaller box of the same extent by cropping their Fourier transforms.

    Parameters
    ----------
    images : ndarray, shape (..., n, n)
        float32 stays float32, anything else becomes float64.
    new_size : int
        Side of the result, at most ``n``; odd and even sizes may be mixed. The pixel size grows by ``n / new_size``.

    Returns
    -------
    ndarray, shape (..., new_size, new_size)
        Intensities are preserved (a constant image stays the same constant), and the origin stays at pixel
        ``n // 2``.

    Raises
    ------
    ValueError
        If images are not square, or ``new_size`` is not in 1 ... n.
    """
    size = _square_side(images)
    if not 1 <= new_size <= size:
        raise ValueError(f"`new_size` is {new_size}; it must lie in 1 ... {size}, the side of the images")
    return _resample_square(images, size, new_size)


def fourier_pad(images: Floats, new_size: int) -> Floats:
    """Resample square images to a larger box of the same extent by padding their Fourier transforms with zeros.

    The inverse of :func:`fourier_crop` on images that hold nothing beyond the smaller box's Nyquist frequency:
    ``fourier_crop(fourier_pad(x, m), n)`` is ``x``.

    Parameters
    ----------
    images : ndarray, shape (..., n, n)
        float32 stays float32, anything else becomes float64.
    new_size : int
        Side of the result, at least ``n``.

    Raises
    ------
    ValueError
        If images are not square, or ``new_size`` is smaller than they are.
    """
    size = _square_side(images)
    if new_size < size:
        raise ValueError(f"`new_size` is {new_size}; it must be at least {size}, the side of the images")
    return _resample_square(images, size, new_size)


def fourier_resample_volume(volume: Floats, new_size: int) -> Floats:
    """Resample a ``(n, n, n)`` volume to ``new_size`` voxels a side over the same extent.

    Density (values at a point) is preserved; sums over a voxel column scale with the number of voxels.
    """
    if volume.ndim != 3 or len(set(volume.shape)) != 1:
        raise ValueError(f"`volume` has shape {volume.shape}; it must be a cube")
    result = volume if volume.dtype == np.float32 else volume.astype(np.float64)
    matrix = _matrix_for(result, volume.shape[0], new_size)
    for axis in range(3):
        result = np.moveaxis(np.tensordot(matrix, result, axes=(1, axis)), 0, axis)
    return np.ascontiguousarray(result)


def _square_side(images: Floats) -> int:
    if images.ndim < 2 or images.shape[-1] != images.shape[-2]:
        raise ValueError(f"`images` has shape {images.shape}; the last two sides must be equal")
    return int(images.shape[-1])


def _resample_square(images: Floats, size: int, new_size: int) -> Floats:
    images = images if images.dtype == np.float32 else images.astype(np.float64)
    if new_size == size:
        return images.copy()
    if max(size, new_size) <= LARGEST_MATRIX_PX:
        matrix = _matrix_for(images, size, new_size)
        # the columns of every image in one product; then one small product an image
        half = (images.reshape(-1, size) @ matrix.T).reshape(*images.shape[:-1], new_size)
        return np.asarray(np.matmul(matrix, half))
    spectrum = scipy.fft.rfft2(images, workers=1)
    return np.asarray(
        scipy.fft.irfft2(resize_half_spectrum(spectrum, size, new_size), s=(new_size, new_size), workers=1)
    )


def resize_half_spectrum(spectrum: Complexes, size: int, new_size: int) -> Complexes:
    """Crop or pad the half-spectrum of square images, for :func:`fourier_crop` fused with a filter.

    Parameters
    ----------
    spectrum : ndarray, shape (..., size, size // 2 + 1)
        ``rfft2`` of images of side ``size``.
    size, new_size : int
        Sides before and after.

    Returns
    -------
    ndarray, shape (..., new_size, new_size // 2 + 1)
        ``irfft2(result, s=(new_size, new_size))`` equals the images cropped or padded: scaled to preserve intensity,
        with the phase that keeps the origin at pixel ``n // 2``.
    """
    if new_size == size:
        return spectrum.copy()
    smaller = min(size, new_size)
    top = (smaller + 1) // 2  # frequencies 0 ... top - 1 and their negatives; an even size has its Nyquist besides
    columns = smaller // 2 + 1
    numbers = np.arange(columns)
    # x_new(a) = x_old(p), p = (a - new // 2) old / new + old // 2
    phase = np.exp(2j * np.pi * numbers * (size // 2 / size - new_size // 2 / new_size)).astype(spectrum.dtype)
    result = np.zeros((*spectrum.shape[:-2], new_size, new_size // 2 + 1), spectrum.dtype)
    result[..., :top, :columns] = spectrum[..., :top, :columns] * phase[:top, None]
    if top > 1:
        result[..., 1 - top :, :columns] = spectrum[..., 1 - top :, :columns] * phase[top - 1 : 0 : -1, None].conj()
    column_factor = phase * (new_size / size) ** 2
    if smaller % 2 == 0:
        row, turn = spectrum[..., top, :columns], phase[top]
        if new_size < size:
            result[..., top, :columns] = row * turn + spectrum[..., -top, :columns] * turn.conj()
            column_factor[-1] *= 2  # irfft2 takes the real part of the Nyquist column, half the sum of its two sides
        else:
            result[..., top, :columns] = row * turn / 2
            result[..., -top, :columns] = row * turn.conj() / 2
            column_factor[-1] /= 2
    result[..., :columns] *= column_factor
    return result


def shift_factors(shifts_px: Floats, size: int) -> tuple[Complexes, Complexes]:
    """Return the separable phase factors that move the content of square images.

    Parameters
    ----------
    shifts_px : ndarray, shape (m, 2)
        Displacements along x and y, px: content at ``(x, y)`` moves to ``(x + dx, y + dy)``.
    size : int
        Side of the images.

    Returns
    -------
    rows : ndarray, shape (m, size, 1)
    columns : ndarray, shape (m, 1, size // 2 + 1)
        Their product multiplies the half-spectrum. Nyquist frequencies of an even size get the mean of the factors of
        both signs, so images stay real and a shift by ``-d`` is the transpose of a shift by ``d``.
    """
    shifts = np.asarray(shifts_px, np.float64)
    rows = np.exp(-2j * np.pi * shifts[:, 1, None] * np.fft.fftfreq(size))
    columns = np.exp(-2j * np.pi * shifts[:, 0, None] * np.fft.rfftfreq(size))
    if size % 2 == 0:
        rows[:, size // 2] = rows[:, size // 2].real
        columns[:, -1] = columns[:, -1].real
    return rows[:, :, None], columns[:, None, :]


def shift_images(images: Floats, shifts_px: Floats) -> Floats:
    """Move the content of square images periodically by any fraction of a pixel.

    Parameters
    ----------
    images : ndarray, shape (m, n, n)
        float32 stays float32, anything else becomes float64.
    shifts_px : ndarray, shape (m, 2)
        Displacements along x and y, px. RELION's origins are the opposite: pass ``-origin / pixel_size``.
    """
    size = _square_side(images)
    images = images if images.dtype == np.float32 else images.astype(np.float64)
    spectrum = scipy.fft.rfft2(images, workers=1)
    for factor in shift_factors(shifts_px, size):
        spectrum *= factor.astype(spectrum.dtype)
    return np.asarray(scipy.fft.irfft2(spectrum, s=(size, size), workers=1))


def band_filter(
    shape: Sequence[int],
    pixel_size_angstrom: float,
    *,
    lowpass_angstrom: float | None = None,
    highpass_angstrom: float | None = None,
    edge_px: float = 2.0,
) -> NDArray[np.float64]:
    """Return a band-pass filter with raised-cosine edges on the half-spectrum of an array of ``shape``.

    Parameters
    ----------
    shape : sequence of int
        Shape of the real array.
    pixel_size_angstrom : float
        Å per pixel.
    lowpass_angstrom, highpass_angstrom : float or None
        Finest and coarsest detail kept, Å: the filter is one half at these. None leaves that side open; the zero
        frequency is kept exactly when ``highpass_angstrom`` is None.
    edge_px : float
        Full width of each edge in Fourier pixels of the smallest side; 0 cuts sharply.

    Raises
    ------
    ValueError
        If the band is empty.
    """
    if lowpass_angstrom and highpass_angstrom and lowpass_angstrom >= highpass_angstrom:
        raise ValueError(
            f"`lowpass_angstrom` is {lowpass_angstrom} and `highpass_angstrom` {highpass_angstrom}: nothing is left; "
            "the low-pass must be the smaller length"
        )
    steps = radial_frequency(shape, pixel_size_angstrom) * (min(shape) * pixel_size_angstrom)
    extent = min(shape) * pixel_size_angstrom
    result = np.ones(steps.shape)
    if lowpass_angstrom:
        result *= _falling_edge(steps, extent / lowpass_angstrom, edge_px)
    if highpass_angstrom:
        result *= 1 - _falling_edge(steps, extent / highpass_angstrom, edge_px)
    return result


def _falling_edge(values: Floats, middle: float, width: float) -> NDArray[np.float64]:
    if width <= 0:
        return (values <= middle).astype(np.float64)
    position = np.clip((values - middle) / width + 0.5, 0, 1)
    return np.asarray(0.5 + 0.5 * np.cos(np.pi * position))


def apply_filter(images: Floats, half_spectrum: Floats | Complexes) -> Floats:
    """Multiply the Fourier transforms of ``(..., h, w)`` images by ``half_spectrum`` (broadcast); float32 is kept."""
    images = images if images.dtype == np.float32 else images.astype(np.float64)
    spectrum = scipy.fft.rfft2(images, workers=1)
    spectrum *= half_spectrum
    return np.asarray(scipy.fft.irfft2(spectrum, s=images.shape[-2:], workers=1))
