"""Where a chain starts: a low-passed map, scaled to the data."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from napari_pickbias.imaging.fourier import shell_numbers
from napari_pickbias.imaging.volumes import soft_ball
from napari_pickbias.pickfree.chain import Model, Options, State, scan

Array32 = NDArray[np.float32]
SNR_GRID = tuple(0.03125 * 2.0**i for i in range(10))
"""Signal-to-noise ratios at which the start's scale is tried: 1/32 ... 16."""


def lowpassed(volume: Array32, shell: int) -> Array32:
    """Return a cubic map without what lies beyond Fourier shell ``shell``, within the ball of radius ``L // 2``."""
    size = volume.shape[0]
    spectrum = scipy.fft.rfftn(volume.astype(np.float64), workers=1)
    spectrum *= shell_numbers(volume.shape) <= shell
    kept = scipy.fft.irfftn(spectrum, s=volume.shape, workers=1) * soft_ball(size, size // 2)
    return np.asarray(kept, np.float32)


def default_lowpass(size: int) -> int:
    """Return the last shell of the start: 2 at 11 px, 3 at 15, 4 at 21, so about a fifth of the box."""
    return max(2, round(0.2 * size))


def energy_per_pixel(model: Model, volume: Array32) -> float:
    """Return the mean energy of the map's projections over their own box, per pixel, CTFs applied."""
    energies = [float(np.mean(model.coarse.project(volume, ctf) ** 2)) for ctf in model.ctfs]
    counts = np.bincount(model.group, minlength=len(model.ctfs)) if len(model.group) else np.ones(len(model.ctfs))
    return float(np.average(energies, weights=np.maximum(counts, 1e-9)))


def scaled_to(model: Model, volume: Array32, snr: float, noise_variance: float) -> Array32:
    """Return the map at a given signal-to-noise ratio: mean projection energy per box pixel over noise variance."""
    energy = energy_per_pixel(model, volume)
    if energy <= 0:
        raise ValueError("`volume` holds nothing but zeros")
    return np.asarray(volume * np.float32(np.sqrt(snr * noise_variance / energy)), np.float32)


def likeliest_snr(
    patches: Array32, model: Model, state: State, options: Options, rows: NDArray[np.int64]
) -> tuple[float, NDArray[np.float64]]:
    """Return the signal-to-noise ratio of :data:`SNR_GRID` at which the state's map explains ``rows`` best.

    Returns
    -------
    float
        On noise alone no scale beats "all empty", and the smallest is returned.
    ndarray, shape (len(SNR_GRID),)
        Log-likelihood per patch at each.
    """
    found = np.empty(len(SNR_GRID))
    for number, snr in enumerate(SNR_GRID):
        volume = scaled_to(model, state.volume, snr, state.noise_variance)
        parts = scan(patches, model, replace(state, volume=volume), options, rows)
        found[number] = np.concatenate([part.log_likelihood for part in parts]).mean()
    return SNR_GRID[int(found.argmax())], found
