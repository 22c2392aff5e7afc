"""Templates that cannot be the particle, and evidence under a smaller mask: what a diagnosis is compared with."""

from __future__ import annotations

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from napari_pickbias.bias.frc import FEWEST, Band, Null, band_correlation, summarise
from napari_pickbias.imaging.fourier import Floats
from napari_pickbias.imaging.volumes import soft_ball

SMALL = 0.7
"""Diameter of the smaller averaging mask, in particle diameters."""


def disc_of_sphere(size: int, diameter_px: float) -> NDArray[np.float32]:
    """Return the projection of a solid sphere, ``(size, size)``."""
    offsets = np.arange(size) - size // 2
    squares = (diameter_px / 2) ** 2 - offsets[:, None] ** 2 - offsets**2
    return np.asarray(2 * np.sqrt(np.maximum(squares, 0)), np.float32)


def scrambled(volume: Floats, diameter_px: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return a volume (or image) of the same amplitude spectrum and random phases, under a soft ball.

    Parameters
    ----------
    volume : ndarray, shape (n, n, n) or (n, n)
    diameter_px : float
        Of the ball.
    rng : numpy.random.Generator
    """
    phases = scipy.fft.rfftn(rng.standard_normal(volume.shape), workers=1)
    spectrum = np.abs(scipy.fft.rfftn(np.asarray(volume, np.float64), workers=1)) * phases
    spectrum /= np.maximum(np.abs(phases), 1e-300)
    found = scipy.fft.irfftn(spectrum, s=volume.shape, workers=1)
    size = min(volume.shape)
    radius = min(diameter_px / 2, 0.9 * size / 2)
    return np.asarray(found * soft_ball(size, radius, 0.1 * radius, volume.ndim), np.float32)


def masked_evidence(halves: Floats, counts: NDArray[np.integer], null_halves: Floats, band: Band, mask: Floats) -> Null:
    """Return the agreement of half averages over a band under a mask, beside that of random places.

    Parameters
    ----------
    halves : ndarray, shape (2, V, b, b)
        Sums of bias-removed patches by view, in two halves.
    counts : ndarray, shape (2, V)
    null_halves : ndarray, shape (R, 2, V, b, b)
        Random places of noise, with as many patches in all of a view.
    band : Band
    mask : ndarray, shape (b, b)
    """

    def value(sums: Floats) -> float:
        used = (counts >= FEWEST).all(axis=0)
        images = np.asarray(sums, np.float64)[:, used] / np.sqrt(counts[:, used])[:, :, None, None]
        mean = (images * mask).sum(axis=(-2, -1), keepdims=True) / mask.sum()
        spectra = scipy.fft.rfft2((images - mean) * mask, workers=1)
        return band_correlation(spectra[0], spectra[1], band)

    return summarise(value(halves), np.array([value(one) for one in null_halves]))


def small_mask(box: int, diameter_px: float, share: float = SMALL) -> NDArray[np.float32]:
    """Return a soft disc that falls by half at ``share`` of the diameter."""
    radius = share * diameter_px / 2
    return soft_ball(box, 0.75 * radius, 0.5 * radius, 2)
