"""Noise: power spectra measured on images, Gaussian noise of a given spectrum, surrogates of an image.

A power spectrum ``P`` is scaled so that its mean over the full Fourier grid is the variance of a pixel: white noise of
variance ``v`` has ``P = v`` everywhere. Frequencies are in cycles per pixel (0 ... 0.5 along an axis). Spectra given
as functions map frequencies to relative powers; drawing functions scale them to the variance asked for.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from napari_pickbias.imaging.fourier import (
    Complexes,
    Floats,
    apply_filter,
    hermitian_weights,
    radial_frequency,
    shell_average,
)

PowerFunction = Callable[[Floats], Floats]
"""Relative power as a function of frequency, cycles per pixel."""

EXPERIMENT_GRID = 170
"""Side of the grid on which the outlier experiment makes its noise: twice the box of 85 px."""


def _angular(frequency: Floats) -> Floats:
    return 2 * np.pi * np.asarray(frequency, np.float64)


def _index(frequency: Floats) -> Floats:
    return EXPERIMENT_GRID * np.asarray(frequency, np.float64)


COLOURS: dict[str, PowerFunction] = {
    "white": lambda frequency: np.ones_like(np.asarray(frequency, np.float64)),
    # amplitude 1 / sqrt(1 + rho^2), rho in radians per pixel: what cryo-EM noise looks like beyond its first shells
    "coloured": lambda frequency: 1 / (1 + _angular(frequency) ** 2),
    "published": lambda frequency: 1 + (_angular(frequency) / 85) ** 2,
    "amp/rad": lambda frequency: 1 / (1 + _angular(frequency) ** 2),
    "amp/index": lambda frequency: 1 / (1 + _index(frequency) ** 2),
    "pow/index": lambda frequency: 1 / np.sqrt(1 + _index(frequency) ** 2),
    "mix": lambda frequency: 1 + 40 / (1 + (np.asarray(frequency, np.float64) / 0.015) ** 4),
}
"""Named noise spectra.

``published`` is the one that the outlier experiment's code uses (white within 0.3 %); the paper's text states
amplitude ``1 / sqrt(1 + rho^2)`` without saying what ``rho`` is: ``amp/rad`` reads it as radians per pixel,
``amp/index`` as the Fourier index of the 170-px grid, ``pow/index`` takes that form as the power; ``mix`` has a steep
low-frequency part over a white floor.
"""


def tabulated_power(frequencies: Floats, values: Floats) -> PowerFunction:
    """Return a power function that interpolates a measured radial spectrum linearly (held constant beyond its ends)."""
    x, y = np.asarray(frequencies, np.float64), np.asarray(values, np.float64)
    return lambda frequency: np.interp(frequency, x, y)


def amplitude_filter(shape: tuple[int, int], power: PowerFunction, variance: float = 1.0) -> NDArray[np.float32]:
    """Return the half-spectrum that turns unit white noise of ``shape`` into noise of ``variance`` and this colour."""
    values = np.asarray(power(radial_frequency(shape)), np.float64)
    weights = hermitian_weights(shape[1])
    mean = float((values * weights).sum()) / (shape[0] * shape[1])
    return np.sqrt(values * (variance / mean)).astype(np.float32)


def gaussian_noise(
    count: int,
    shape: tuple[int, int],
    rng: np.random.Generator,
    *,
    power: PowerFunction | None = None,
    variance: float = 1.0,
    grid_factor: int = 2,
) -> NDArray[np.float32]:
    """Draw images of stationary Gaussian noise.

    Parameters
    ----------
    count : int
        Number of images.
    shape : (h, w)
        Their shape.
    rng : numpy.random.Generator
        Source of randomness.
    power : callable or None
        Relative power against cycles per pixel, such as ``COLOURS["coloured"]``; None for white.
    variance : float
        Variance of a pixel.
    grid_factor : int
        Coloured noise is made on a grid this many times larger and cut, so that opposite borders do not match.

    Returns
    -------
    ndarray, shape (count, h, w), float32
    """
    if power is None:
        return rng.standard_normal((count, *shape), np.float32) * np.float32(np.sqrt(variance))
    grid = (shape[0] * grid_factor, shape[1] * grid_factor)
    noise = apply_filter(rng.standard_normal((count, *grid), np.float32), amplitude_filter(grid, power, variance))
    return np.ascontiguousarray(noise[:, : shape[0], : shape[1]], np.float32)


def noise_of_spectrum(
    count: int, spectrum: Floats, shape: tuple[int, int], rng: np.random.Generator
) -> NDArray[np.float32]:
    """Draw periodic Gaussian noise images of a 2-D power spectrum.

    Parameters
    ----------
    count : int
        Number of images.
    spectrum : ndarray, shape (h, w // 2 + 1)
        Power on the half-spectrum, in this module's scale.
    shape : (h, w)
        Shape of the images.
    rng : numpy.random.Generator
        Source of randomness.
    """
    amplitude = np.sqrt(np.asarray(spectrum)).astype(np.float32)
    return np.asarray(apply_filter(rng.standard_normal((count, *shape), np.float32), amplitude), np.float32)


def periodogram(images: Floats) -> NDArray[np.float64]:
    """Return ``|F|^2 / (h w)`` of ``(..., h, w)`` images on the half-spectrum: power in this module's scale."""
    spectrum = scipy.fft.rfft2(np.asarray(images, np.float64), workers=1)
    return np.asarray(np.abs(spectrum) ** 2 / (images.shape[-1] * images.shape[-2]))


def welch_power(
    image: Floats, tile_px: int, *, median: bool = False, variance_range: tuple[float, float] | None = None
) -> NDArray[np.float64]:
    """Estimate the power spectrum of a micrograph from overlapping Hann-windowed tiles.

    Parameters
    ----------
    image : ndarray, shape (h, w)
        Both sides at least ``tile_px``.
    tile_px : int
        Side of the tiles; they overlap by half.
    median : bool
        Take the median over tiles, divided by ln 2 (the median of an exponential variable), instead of the mean: a
        few tiles with particles, ice or carbon then matter little.
    variance_range : (low, high) or None
        Use only tiles whose variance lies between these quantiles, such as (0.05, 0.95).

    Returns
    -------
    ndarray, shape (tile_px, tile_px // 2 + 1)
        Power; the zero frequency holds what is left of the tiles' own means and means nothing.

    Raises
    ------
    ValueError
        If the image is smaller than one tile.

    Notes
    -----
    P. D. Welch, The use of fast Fourier transform for the estimation of power spectra, 1967.
    """
    if min(image.shape) < tile_px:
        raise ValueError(f"`tile_px` is {tile_px}, larger than the image of {image.shape[0]} x {image.shape[1]} px")
    step = max(1, tile_px // 2)
    views = np.lib.stride_tricks.sliding_window_view(image, (tile_px, tile_px))[::step, ::step]
    tiles = views.reshape(-1, tile_px, tile_px).astype(np.float64)
    tiles -= tiles.mean(axis=(1, 2), keepdims=True)
    if variance_range is not None:
        variances = tiles.var(axis=(1, 2))
        low, high = np.quantile(variances, variance_range)
        tiles = tiles[(variances >= low) & (variances <= high)]
    window = np.hanning(tile_px + 2)[1:-1]
    window2 = window[:, None] * window[None, :]
    powers = periodogram(tiles * window2) / np.mean(window2**2)
    return np.asarray(np.median(powers, axis=0) / np.log(2) if median else powers.mean(axis=0))


def masked_autocovariance(
    images: Floats, mask: Floats | NDArray[np.bool_], *, weights: Floats | None = None, mean: float | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Estimate the autocovariance of stationary noise from the unmasked pixels of many images.

    Parameters
    ----------
    images : ndarray, shape (m, h, w)
        Images.
    mask : ndarray, shape (h, w) or (m, h, w)
        1 or True on pixels that hold noise alone.
    weights : ndarray, shape (m,), or None
        Weight of each image, such as its probability of being noise.
    mean : float or None
        The noise's mean; None takes the weighted mean of the unmasked pixels.

    Returns
    -------
    autocovariance : ndarray, shape (2 h, 2 w)
        By lag, in FFT layout (lag 0 at index 0, negative lags at the end): the mean product of all unmasked pairs of
        pixels at that lag; 0 where there is none.
    pairs : ndarray, shape (2 h, 2 w)
        Number of (weighted) pairs behind each value.
    """
    height, width = images.shape[-2:]
    grid = (2 * height, 2 * width)
    masks = np.broadcast_to(np.asarray(mask, np.float64), images.shape)
    weight = np.ones(len(images)) if weights is None else np.asarray(weights, np.float64)
    if mean is None:
        per_image = np.einsum("mhw,mhw->m", masks, images, dtype=np.float64)
        mean = float(weight @ per_image) / float(weight @ masks.sum(axis=(1, 2)))
    products, pairs = np.zeros((grid[0], width + 1)), np.zeros((grid[0], width + 1))
    single_mask = np.ndim(mask) == 2
    if single_mask:
        pairs = weight.sum() * np.abs(scipy.fft.rfft2(masks[0], s=grid, workers=1)) ** 2
    for start in range(0, len(images), 64):
        part = slice(start, start + 64)
        spectrum = scipy.fft.rfft2(masks[part] * (images[part] - mean), s=grid, workers=1)
        products += np.einsum("m,mhw->hw", weight[part], np.abs(spectrum) ** 2)
        if not single_mask:
            spectrum = scipy.fft.rfft2(masks[part], s=grid, workers=1)
            pairs += np.einsum("m,mhw->hw", weight[part], np.abs(spectrum) ** 2)
    counts = np.maximum(scipy.fft.irfft2(pairs, s=grid, workers=1), 0)
    sums = scipy.fft.irfft2(products, s=grid, workers=1)
    enough = counts > 1e-6 * counts[0, 0]
    return np.where(enough, sums / np.where(enough, counts, 1), 0.0), np.where(enough, counts, 0.0)


def power_of_autocovariance(autocovariance: Floats, *, taper_px: float, floor: float = 0.0) -> NDArray[np.float64]:
    """Return the power spectrum of an autocovariance, tapered to zero at ``taper_px`` by a Hann lag window.

    Parameters
    ----------
    autocovariance : ndarray, shape (h, w)
        By lag in FFT layout, as :func:`masked_autocovariance` returns it.
    taper_px : float
        Lags at this distance and beyond are left out.
    floor : float
        Powers below ``floor`` times their median are raised to it: estimates from finite data can be negative.

    Returns
    -------
    ndarray, shape (h, w // 2 + 1)
    """
    height, width = autocovariance.shape
    lag = np.hypot(np.fft.fftfreq(height, 1 / height)[:, None], np.fft.fftfreq(width, 1 / width)[None, :])
    window = 0.5 + 0.5 * np.cos(np.pi * np.clip(lag / taper_px, 0, 1))
    power = np.asarray(scipy.fft.rfft2(window * autocovariance, workers=1).real)
    return np.maximum(power, floor * np.median(power)) if floor else power


def radial_power(
    images: Floats, mask: Floats | NDArray[np.bool_], *, taper_px: float | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Estimate the radial noise power spectrum of a particle stack from its unmasked pixels.

    Parameters
    ----------
    images : ndarray, shape (m, n, n)
        Images.
    mask : ndarray, shape (n, n) or (m, n, n)
        1 or True on background.
    taper_px : float or None
        Resolution of the estimate: see :func:`power_of_autocovariance`; ``n`` by default.

    Returns
    -------
    frequencies, powers : ndarray, shape (n + 1,)
        Cycles per pixel from 0 to 0.5, and the mean power of each shell (never negative).
    """
    covariance, _ = masked_autocovariance(images, mask)
    power = power_of_autocovariance(covariance, taper_px=images.shape[-1] if taper_px is None else taper_px, floor=1e-3)
    shells = shell_average(power, covariance.shape)
    return np.arange(len(shells)) / covariance.shape[0], shells


def phase_surrogate(image: Floats, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return noise with exactly the image's own Fourier amplitudes and mean, and the phases of white Gaussian noise."""
    spectrum = scipy.fft.rfft2(np.asarray(image, np.float64), workers=1)
    phases = _unit(scipy.fft.rfft2(rng.standard_normal(image.shape), workers=1))
    phases[0, 0] = np.sign(spectrum[0, 0].real)
    return np.asarray(scipy.fft.irfft2(np.abs(spectrum) * phases, s=image.shape, workers=1), np.float32)


def _unit(spectrum: Complexes) -> Complexes:
    size = np.abs(spectrum)
    return np.where(size > 0, spectrum / np.where(size > 0, size, 1), 1)


def gaussian_surrogate(
    shape: tuple[int, int], spectrum: Floats, tile_shape: tuple[int, int], rng: np.random.Generator
) -> NDArray[np.float32]:
    """Return one image of Gaussian noise whose 2-D power spectrum was measured on tiles.

    Parameters
    ----------
    shape : (h, w)
        Shape of the image wanted.
    spectrum : ndarray, shape (th, tw // 2 + 1)
        Power on the half-spectrum of tiles, as :func:`welch_power` returns it. The zero frequency is replaced by the
        mean of its neighbours.
    tile_shape : (th, tw)
        Shape of the tiles.
    rng : numpy.random.Generator
        Source of randomness.
    """
    from scipy.interpolate import RegularGridInterpolator

    known = np.array(spectrum, np.float64)
    known[0, 0] = (known[0, 1] + known[1, 0] + known[-1, 0]) / 3
    rows = np.fft.fftshift(np.fft.fftfreq(tile_shape[0]))
    ordered = np.fft.fftshift(known, axes=0)
    # the row at +1/2 equals the one at -1/2 (or, for odd sides, lies nearest to the last)
    rows = np.append(rows, rows[-1] + 1 / tile_shape[0])
    ordered = np.vstack([ordered, ordered[:1] if tile_shape[0] % 2 == 0 else ordered[-1:]])
    interpolate = RegularGridInterpolator(
        (rows, np.fft.rfftfreq(tile_shape[1])), ordered, bounds_error=False, fill_value=None
    )
    fine_rows, fine_columns = np.meshgrid(np.fft.fftfreq(shape[0]), np.fft.rfftfreq(shape[1]), indexing="ij")
    fine = np.clip(interpolate((fine_rows, fine_columns)), known.min(), known.max())
    image: NDArray[np.float32] = noise_of_spectrum(1, fine, shape, rng)[0]
    return image


def autocovariance_within(
    image: Floats, mask: Floats | NDArray[np.bool_], reach: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Estimate the autocovariance of zero-mean stationary noise on part of one large image, for short lags only.

    Unlike :func:`masked_autocovariance` this pads by the reach alone, so a micrograph fits into memory.

    Parameters
    ----------
    image : ndarray, shape (h, w)
        Noise of mean 0.
    mask : ndarray, shape (h, w)
        1 or True on pixels that hold noise alone.
    reach : int
        Largest lag along an axis.

    Returns
    -------
    autocovariance : ndarray, shape (2 * reach, 2 * reach)
        By lag from ``-reach`` to ``reach - 1`` in FFT layout: the mean product of all unmasked pairs of pixels at that
        lag; 0 where there is none.
    pairs : ndarray, shape (2 * reach, 2 * reach)
        Number of pairs behind each value.
    """
    grid = tuple(scipy.fft.next_fast_len(side + reach, real=True) for side in image.shape)
    lags = np.fft.fftfreq(2 * reach, 1 / (2 * reach)).astype(int)
    weights = np.asarray(mask, np.float64)
    sums, pairs = (
        scipy.fft.irfft2(np.abs(scipy.fft.rfft2(part, s=grid, workers=1)) ** 2, s=grid, workers=1)[np.ix_(lags, lags)]
        for part in (weights * image, weights)
    )
    enough = pairs > 0.5
    return np.where(enough, sums / np.where(enough, pairs, 1), 0.0), np.where(enough, pairs, 0.0)
