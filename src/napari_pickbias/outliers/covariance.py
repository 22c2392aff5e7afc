"""Noise covariance of a particle stack from its own background ring, and what follows from it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.fft
import scipy.linalg
from numpy.typing import NDArray

from napari_pickbias.imaging.noise import masked_autocovariance, power_of_autocovariance
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
        return int(self.acf.shape[0]) // 2

    def spectrum(self) -> FloatArray:
        """Return the power spectrum on the (2d, 2d) frequency grid (variance per pixel and unit bandwidth)."""
        return np.asarray(scipy.fft.fft2(self.acf).real)

    def covariance(self) -> FloatArray:
        """Return the covariance matrix of the pixels, (d*d, d*d)."""
        return covariance_matrix(self.acf)

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


def regular_autocovariance(acf: FloatArray) -> FloatArray:
    """Make a measured (2d, 2d) autocovariance a valid one: Hann lag window (zero at lag d), spectrum floored at 2 %."""
    power = power_of_autocovariance(acf, taper_px=acf.shape[0] / 2, floor=0.02)
    return np.asarray(scipy.fft.irfft2(power, acf.shape))


def covariance_matrix(acf: FloatArray) -> FloatArray:
    """Return the (d*d, d*d) block-Toeplitz covariance of the pixels for a (2d, 2d) autocovariance."""
    d = acf.shape[0] // 2
    lag = np.arange(d)[:, None] - np.arange(d)[None]
    return np.asarray(acf[lag[:, None, :, None], lag[None, :, None, :]].reshape(d * d, d * d))


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


def detrended(images: NDArray[np.floating], mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Take off every image the constant and linear gradient that fit its pixels under ``mask`` best."""
    d = mask.shape[0]
    N = nuisance(d)
    flat = np.asarray(images).reshape(len(images), -1)
    fit = np.linalg.pinv(N[mask.ravel()])
    coefficients = flat[:, mask.ravel()] @ fit.T.astype(flat.dtype)
    return np.asarray(flat - coefficients @ N.T.astype(flat.dtype), np.float32).reshape(images.shape)


def detrending_loss(acf: FloatArray, mask: NDArray[np.bool_], pairs: FloatArray) -> FloatArray:
    """Return by how much detrending under ``mask`` lowers the mean masked autocovariance, per lag.

    With the orthonormal trends q_k under the mask, noise of covariance S turns into P S P, P = I - Q Q'; its mean over
    pixel pairs at one lag differs from ``acf`` by correlations of q_k with S q_k and with each other.

    Parameters
    ----------
    acf : (2d, 2d) array
        Autocovariance of the noise before detrending.
    mask : (d, d) bool array
    pairs : (2d, 2d) array
        Pixel pairs per lag.
    """
    d, shape = mask.shape[0], acf.shape
    q = np.zeros((3, d, d))
    q[:, mask] = np.linalg.qr(nuisance(d)[mask.ravel()])[0].T
    spectrum_q = scipy.fft.rfft2(q, shape)
    c = scipy.fft.irfft2(spectrum_q * scipy.fft.rfft2(acf), shape)[:, :d, :d] * mask
    spectrum_c = scipy.fft.rfft2(c, shape)
    both = np.einsum("kyx,lyx->kl", q, c)
    loss = 2 * (spectrum_q * spectrum_c.conj()).real.sum(axis=0)
    loss -= np.einsum("kyx,kl,lyx->yx", spectrum_q, both, spectrum_q.conj()).real
    total = scipy.fft.irfft2(loss, shape)
    return np.asarray(np.where(pairs > 0, total / np.maximum(pairs, 1), 0.0))


def estimate_noise(images: NDArray[np.floating], mask: NDArray[np.bool_], corrections: int = 5) -> NoiseModel:
    """Estimate the noise model of a stack from the pixels under ``mask`` (its background ring).

    Parameters
    ----------
    images : (m, d, d) array
        Particle images, :func:`detrended` under the same mask: constants and gradients of single images must not
        count as noise, since every image is judged up to its own.
    mask : (d, d) bool array
        Background pixels.
    corrections : int
        Fixed-point steps that give back what detrending took from the noise itself.
    """
    measured, pairs = masked_autocovariance(images, mask, mean=0.0)
    pairs = np.where(pairs > 20 * len(images), pairs / len(images), 0.0)
    measured = isotropic(measured, pairs)
    acf = measured
    for _ in range(corrections):
        acf = measured + isotropic(detrending_loss(acf, mask, pairs), pairs)
    return noise_model(regular_autocovariance(acf))
