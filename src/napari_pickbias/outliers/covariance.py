"""Noise covariance of a particle stack from its own background ring, and what follows from it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.fft
import scipy.linalg
from numpy.typing import NDArray

from napari_pickbias.outliers.geometry import pixel_grid

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class NoiseModel:
    """Stationary Gaussian noise in a box, with constant and linear gradient as free nuisance.

    Attributes
    ----------
    acf : (2d, 2d) array
        Autocovariance; lag (0, 0) at index [0, 0], negative lags wrap around.
    cholesky : (d*d, d*d) array
        Lower Cholesky factor of the covariance matrix of the pixels.
    inverse : (d*d, d*d) array
        Inverse covariance with the nuisance projected out:
        S^-1 - S^-1 N (N' S^-1 N)^-1 N' S^-1, N = [1, y, x]. Annihilates N exactly.
    """

    acf: FloatArray
    cholesky: FloatArray
    inverse: FloatArray

    @property
    def box_px(self) -> int:
        """Side of the box."""
        return self.acf.shape[0] // 2

    def spectrum(self) -> FloatArray:
        """Return the power spectrum on the (2d, 2d) frequency grid (variance per pixel and unit bandwidth)."""
        return np.asarray(scipy.fft.fft2(self.acf).real)

    def radial_spectrum(self) -> tuple[FloatArray, FloatArray]:
        """Return frequencies (cycles per pixel) and the rotational mean of the power spectrum."""
        n = self.acf.shape[0]
        f = np.fft.fftfreq(n)
        rho = np.hypot(f[:, None], f[None]) * n
        index = np.rint(rho).astype(int)
        inside = index <= n // 2
        count = np.bincount(index[inside])
        power = np.bincount(index[inside], self.spectrum()[inside]) / count
        return np.arange(len(count)) / n, power

    def draw(self, count: int, rng: np.random.Generator) -> NDArray[np.float32]:
        """Return ``count`` surrogate noise images, (count, d, d) float32."""
        d = self.box_px
        white = rng.standard_normal((count, d * d), dtype=np.float32)
        return (white @ self.cholesky.astype(np.float32).T).reshape(count, d, d)


def nuisance(box_px: int) -> FloatArray:
    """Return the nuisance patterns (constant, y, x gradient) as columns, (d*d, 3)."""
    y, x = pixel_grid(box_px)
    return np.stack([np.ones(box_px**2), y.ravel(), x.ravel()], axis=1)


def masked_autocovariance(
    images: NDArray[np.floating], mask: NDArray[np.bool_], min_pairs: float = 20
) -> tuple[FloatArray, FloatArray]:
    """Mean autocovariance of the pixels under a mask, per lag.

    Parameters
    ----------
    images : (m, d, d) array
        Images whose mean is already taken off.
    mask : (d, d) bool array
    min_pairs : float
        Lags with fewer pixel pairs are set to zero with no pairs.

    Returns
    -------
    acf, pairs : (2d, 2d) arrays
        Autocovariance and number of pixel pairs per lag (negative lags wrap around).
    """
    d = mask.shape[0]
    shape = (2 * d, 2 * d)
    weight = scipy.fft.rfft2(mask.astype(np.float64), shape)
    pairs = np.rint(scipy.fft.irfft2(np.abs(weight) ** 2, shape))
    power = np.zeros(weight.shape)
    for start in range(0, len(images), 256):
        block = scipy.fft.rfft2(np.where(mask, images[start : start + 256], 0), shape)
        power += (block.real**2 + block.imag**2).sum(axis=0, dtype=np.float64)
    total = scipy.fft.irfft2(power / len(images), shape)
    enough = pairs > min_pairs
    return np.where(enough, total / np.maximum(pairs, 1), 0.0), np.where(enough, pairs, 0.0)


def isotropic(acf: FloatArray, pairs: FloatArray) -> FloatArray:
    """Average an autocovariance over directions, weighted by pixel pairs, and lay it out on the lag grid again.

    Lags up to 3 px keep their exact length (the function is steep there); longer ones are averaged over one pixel.
    """
    n = acf.shape[0]
    lag = np.fft.fftfreq(n, 1 / n)
    length = np.hypot(lag[:, None], lag[None])
    squared = np.rint(length**2).astype(int)
    bins = np.where(squared <= 9, squared, 7 + np.rint(length).astype(int))  # lengths >= sqrt(10) round to 3 or more
    _, bins = np.unique(bins, return_inverse=True)
    bins = bins.reshape(length.shape)
    weight = np.bincount(bins.ravel(), pairs.ravel())
    used = weight > 0
    nodes = np.bincount(bins.ravel(), (pairs * length).ravel())[used] / weight[used]
    values = np.bincount(bins.ravel(), (pairs * acf).ravel())[used] / weight[used]
    order = np.argsort(nodes)
    return np.interp(length, nodes[order], values[order], right=0.0)


def regular_autocovariance(acf: FloatArray, floor: float = 0.02) -> FloatArray:
    """Make a measured autocovariance a valid one: Hann lag window (zero at lag d), spectrum floored.

    Parameters
    ----------
    acf : (2d, 2d) array
    floor : float
        Smallest allowed power, as a share of the median of the spectrum.
    """
    n = acf.shape[0]
    lag = np.fft.fftfreq(n, 1 / n)
    length = np.hypot(lag[:, None], lag[None])
    window = np.where(length < n / 2, 0.5 + 0.5 * np.cos(2 * np.pi * length / n), 0.0)
    power = scipy.fft.fft2(acf * window).real
    middle = np.median(power)
    if not middle > 0:
        middle = np.abs(power).mean()
    return np.asarray(scipy.fft.ifft2(np.maximum(power, floor * middle)).real)


def covariance_matrix(acf: FloatArray) -> FloatArray:
    """Return the (d*d, d*d) block-Toeplitz covariance of the pixels for a (2d, 2d) autocovariance."""
    d = acf.shape[0] // 2
    lag = np.arange(d)[:, None] - np.arange(d)[None]
    return acf[lag[:, None, :, None], lag[None, :, None, :]].reshape(d * d, d * d)


def noise_model(acf: FloatArray, ridge: float = 1e-3) -> NoiseModel:
    """Build the noise model of a valid (2d, 2d) autocovariance, plus white noise of ``ridge`` times the variance."""
    d = acf.shape[0] // 2
    acf = acf.copy()
    acf[0, 0] *= 1 + ridge
    sigma = covariance_matrix(acf)
    lower = scipy.linalg.cholesky(sigma, lower=True, overwrite_a=True, check_finite=False)
    inverse, info = scipy.linalg.lapack.dpotri(lower, lower=True)
    if info:  # cannot happen after a Cholesky factorisation that passed
        raise np.linalg.LinAlgError("inverse of the noise covariance failed")
    inverse = np.tril(inverse) + np.tril(inverse, -1).T
    N = nuisance(d)
    SN = inverse @ N
    inverse -= SN @ np.linalg.solve(N.T @ SN, SN.T)
    return NoiseModel(acf, np.tril(lower), inverse)


def ring_trend(images: NDArray[np.floating], mask: NDArray[np.bool_]) -> FloatArray:
    """Return the (d, d) constant plus gradient that fits the mean image of a stack under ``mask`` best."""
    d = mask.shape[0]
    N = nuisance(d)
    inside = mask.ravel()
    mean = np.asarray(images).mean(axis=0, dtype=np.float64).ravel()
    return np.asarray(N @ np.linalg.lstsq(N[inside], mean[inside], rcond=None)[0]).reshape(d, d)


def estimate_noise(images: NDArray[np.floating], mask: NDArray[np.bool_]) -> NoiseModel:
    """Estimate the noise model of a stack from the pixels under ``mask`` (its background ring).

    Parameters
    ----------
    images : (m, d, d) array
        Particle images; what they have in common of a constant and a gradient is taken off here.
    mask : (d, d) bool array
        Background pixels.
    """
    trend = ring_trend(images, mask)
    acf, pairs = masked_autocovariance(images - trend.astype(images.dtype), mask)
    return noise_model(regular_autocovariance(isotropic(acf, pairs)))
