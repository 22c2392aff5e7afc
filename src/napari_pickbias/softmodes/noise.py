"""Coloured noise as weights of slices: from the spectra of a refinement, or from its two half maps."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from napari_pickbias.imaging.fourier import Floats, hermitian_weights, shell_average, shell_numbers
from napari_pickbias.imaging.projection import half_disc
from napari_pickbias.softmodes.views import Views


class NoiseWeights(NamedTuple):
    """Weights of Fourier coefficients, and the variance that they are relative to."""

    factors: NDArray[np.float64]
    """``(g, n, n // 2 + 1)`` to multiply the CTF with: the standard deviation of reference over that of each shell."""

    variance: float
    """Per pixel of the working box: of white noise as good as this one, on the mean over all coefficients."""


def noise_weights(spectra: Floats, size: int, counts: Floats | None = None) -> NoiseWeights:
    """Turn spectra into weights whose squares have the mean 1 over coefficients and images.

    Parameters
    ----------
    spectra : ndarray, shape (g, shells)
        Variance per pixel of the working box by Fourier shell; shells beyond the last take its value.
    size : int
        Working box.
    counts : ndarray, shape (g,), or None
        Images in each group.
    """
    table = np.asarray(spectra, np.float64)
    numbers = np.minimum(shell_numbers((size, size)), table.shape[1] - 1)
    precision = 1 / table[:, numbers]
    inside = half_disc(size)
    weights = np.broadcast_to(hermitian_weights(size), inside.shape)[inside]
    share = np.ones(len(table)) if counts is None else np.asarray(counts, np.float64)
    mean = float(np.average(np.average(precision[:, inside], axis=1, weights=weights), weights=share))
    return NoiseWeights(np.sqrt(precision / mean), 1 / mean)


def half_map_spectrum(first: Floats, second: Floats, views: Views) -> NDArray[np.float64]:
    """Return the noise of one image, by Fourier shell, from the difference of two half maps.

    A coefficient of the map averages the samples of the slices that pass it; half the difference of the halves is
    its noise. Power times (CTF-weighted) samples, averaged over the shell, is therefore the power in one image.

    Parameters
    ----------
    first, second : ndarray, shape (n, n, n)
        Unfiltered, unmasked half maps in the working box.
    views : Views
        All images of both halves, without noise weights.

    Returns
    -------
    ndarray, shape (n // 2 + 1,)
        Variance per pixel, as for :func:`noise_weights`. Shells that no slice reaches take the value of the nearest
        one within.
    """
    size = views.size
    half = (np.asarray(first, np.float64) - np.asarray(second, np.float64)) / 2
    power = np.abs(scipy.fft.rfftn(half, workers=1)) ** 2
    samples = samples_of_coefficients(views)
    # Coefficients that no image samples hold interpolated or no noise: left out.
    seen = samples > 1e-9 * samples.max()
    counts = np.bincount(shell_numbers(half.shape).ravel(), minlength=size // 2 + 1)[: size // 2 + 1]
    top = _neighbours(counts * shell_average(np.where(seen, power * samples, 0), half.shape))
    share = _neighbours(counts * shell_average(seen.astype(np.float64), half.shape))
    good = (top > 0) & (share > 0)
    if not good.any():
        return np.zeros(len(top))
    variance = np.divide(top, share, out=np.zeros_like(top), where=good) / size**2
    order = np.arange(len(variance))
    nearest = np.clip(np.searchsorted(order[good], order, side="right") - 1, 0, None)
    return np.asarray(variance[order[good][nearest]])


def _neighbours(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Add each shell's neighbours, the lowest shells hold few coefficients; shell 0, an arbitrary mean, is left out."""
    kept = np.concatenate([[0.0], sums[1:]])
    return np.asarray(np.convolve(kept, np.ones(3), "same"))


def samples_of_coefficients(views: Views) -> NDArray[np.float64]:
    """Return how many image samples, weighted by CTF squared, fall to each coefficient of a half-spectrum.

    ``(n, n, n // 2 + 1)``; each sample goes to the coefficient nearest to it.
    """
    size = views.size
    points = np.rint(views.points.reshape(3, -1) * (size / (2 * np.pi))).astype(np.int64)
    disc = half_disc(size)
    scale = np.broadcast_to(hermitian_weights(size), disc.shape)[disc] / size**2
    worth = (views.filters**2 / scale).ravel()
    column = np.broadcast_to(np.flatnonzero(disc.ravel()) % disc.shape[1], views.filters.shape).ravel()
    total = np.zeros((size, size, size))
    for sign in (1, -1):
        # the half disc's own line at kx = 0 holds both of each pair already
        kept = slice(None) if sign == 1 else column > 0
        x, y, z = (sign * points)[:, kept] % size
        np.add.at(total, (z, y, x), worth[kept])
    return np.ascontiguousarray(total[:, :, : size // 2 + 1])


def marginal_weights(misfits: Floats, pixels: int) -> NDArray[np.float64]:
    """Return the weight of each image when its noise level is unknown and integrated out.

    ``-log P = d log l`` of one image, with ``l = 1/2 |S - A|^2`` and ``d = (pixels - 1) / 2``, has at its best pose
    the second derivative ``d / l`` times that of ``l``, but for a term of relative size ``1 / d``: the Hessian at known
    noise with ``1 / sigma^2 = d / l`` (paper section 23). As ``weights`` of views, relative to their mean, these count
    images.

    Parameters
    ----------
    misfits : ndarray, shape (J,)
        ``l`` of each image, in units of the map squared, summed over pixels.
    pixels : int
        Of an image.

    Raises
    ------
    ValueError
        If a misfit is not above 0.
    """
    values = np.asarray(misfits, np.float64)
    if not (values > 0).all():
        raise ValueError("`misfits` must be above 0: an image without noise has no noise level")
    return np.asarray((pixels - 1) / 2 / values)
