"""Noise like a whole micrograph, on its own pixels: what a program that picks by itself is run on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_pickbias.imaging.fourier import Floats, radial_frequency, shell_average
from napari_pickbias.imaging.noise import gaussian_surrogate, welch_power
from napari_pickbias.matching.noise_model import NoiseModel

VARIANCES = (0.05, 0.95)
"""Tiles of outlying variance (carbon, ice) are left out of the spectrum."""
LEAST_SHARE, MOST_SHARE = 0.01, 1.5
"""Bounds of what is left of the power when the particles are taken out of it."""
FLAT_FROM = 0.4
"""Cycles per pixel of the diagnosis from which on the share left is taken as constant."""


def whole_surrogate(image: Floats, noise: NoiseModel, ratio: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Draw Gaussian noise of a micrograph's spectrum without its particles, on the micrograph's own pixels.

    The spectrum is the median over tiles of the micrograph as it is in its file, so level and deviation are those of
    the file; in the band of the diagnosis it is lowered to what the noise model left of it when particles were taken
    out. That share is radial, the spectrum itself is not.

    Parameters
    ----------
    image : ndarray, shape (h, w)
        The micrograph.
    noise : NoiseModel
        Measured on pixels that are ``ratio`` of the file's.
    ratio : float
        Pixel of the noise model in pixels of the file, at least 1.
    rng : numpy.random.Generator

    Returns
    -------
    ndarray, shape (h, w), float32
    """
    side = min(2 * round(noise.tile_power.shape[0] * ratio / 2), 2 * (min(image.shape) // 2))
    middle = float(np.mean(image, dtype=np.float64))
    power = welch_power(np.asarray(image - np.float32(middle), np.float32), side, median=True, variance_range=VARIANCES)
    power = power * _share_left(noise, radial_frequency((side, side)) * ratio)
    return np.asarray(gaussian_surrogate(image.shape, power, (side, side), rng) + np.float32(middle), np.float32)


def _share_left(noise: NoiseModel, frequency: Floats) -> NDArray[np.float64]:
    """Return the share of the power that is noise, at frequencies in cycles per pixel of the noise model."""
    size, tile = noise.power.shape[0], noise.tile_power.shape[0]
    clean = shell_average(noise.power, (size, size))
    whole = shell_average(noise.tile_power, (tile, tile))
    at = np.arange(2, tile // 2 + 1) / tile  # the window leaks the mean into the shells before
    share = np.interp(at, np.arange(len(clean)) / size, clean) / np.maximum(whole[2:], 1e-12 * whole.max())
    share[at >= FLAT_FROM] = np.median(share[at >= FLAT_FROM])
    return np.asarray(np.clip(np.interp(frequency, at, share), LEAST_SHARE, MOST_SHARE))
