"""The spectrum of a micrograph's noise with the particles left out, and surrogates drawn from it.

The spectrum is measured on the area that holds no particle, and which area that is follows from matching with the
spectrum: both are found together, in a few rounds (:func:`estimate_noise`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from napari_pickbias.errors import InputError
from napari_pickbias.imaging.fourier import apply_filter, radial_frequency, shell_average
from napari_pickbias.imaging.noise import (
    autocovariance_within,
    gaussian_surrogate,
    power_of_autocovariance,
    welch_power,
)
from napari_pickbias.matching.bank import TemplateBank
from napari_pickbias.matching.peaks import find_peaks
from napari_pickbias.matching.prepared import PreparedBank, prepare_bank
from napari_pickbias.matching.preprocess import Prepared
from napari_pickbias.matching.scores import score_map

NoiseMethod = Literal["auto", "tile", "phases", "inverted"]
"""Where surrogates come from: the particle-cleaned spectrum; or, conservative, the median spectrum of tiles, the
micrograph with its own amplitudes and random phases, or the micrograph with inverted contrast."""

TILE, REACH, DISC = 3.84, 1.92, 0.52
"""In diameters: side of a spectrum's tile, longest lag of the autocovariance, radius left out around a particle."""

SPECTRA_MB = 256
"""Memory for the spectra of templates."""

LEAST_FREE = 0.05
"""Share of the area that must be left to measure the noise on."""

LOWEST, STEP, FALSE_SHARE, BIN = 2.0, 0.05, 0.5, 0.5
"""Thresholds from the lowest are tried a step apart; a score is trusted where at most this share of the peaks is false,
in bins of this width."""


@dataclass(frozen=True)
class NoiseModel:
    """The noise of one prepared micrograph.

    Attributes
    ----------
    power : ndarray, shape (n, n // 2 + 1)
        Power on the half-spectrum of an ``n x n`` grid; white noise of variance 1 is 1 everywhere.
    tile_power : ndarray, shape (t, t // 2 + 1)
        Median over tiles: the particles are in it.
    method : str
        Where surrogates come from.
    excluded : tuple of int
        Particles left out of the spectrum in each round.
    trusted_from : float
        Score from which peaks are particles more often than not; infinity when none was found.
    converged : bool
        Whether the last two rounds left out the same number within 2 % (or 10).
    free_fraction : float
        Share of the picked area that the spectrum was measured on.
    """

    power: NDArray[np.float64]
    tile_power: NDArray[np.float64]
    method: NoiseMethod
    excluded: tuple[int, ...]
    trusted_from: float
    converged: bool
    free_fraction: float = 1.0

    @property
    def size(self) -> int:
        """Side of the grid of ``power``."""
        return int(self.power.shape[0])


def surrogate(model: NoiseModel, shape: tuple[int, int], rng: np.random.Generator) -> NDArray[np.float32]:
    """Return Gaussian noise of the model's spectrum (``auto``), or of the tiles' (every other method).

    Parameters
    ----------
    model : NoiseModel
    shape : (h, w)
        Shape of the image.
    rng : numpy.random.Generator
    """
    power = model.power if model.method == "auto" else model.tile_power
    return gaussian_surrogate(shape, power, (power.shape[0], power.shape[0]), rng)


def template_sd(bank: TemplateBank, power: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the standard deviation of each template's correlation with noise of a spectrum, ``sqrt(x' Sigma x)``.

    Parameters
    ----------
    bank : TemplateBank
    power : ndarray, shape (n, n // 2 + 1)
        On a grid of ``n`` px, at least the box plus the noise's correlation length.
    """
    size = power.shape[0]
    covariance = scipy.fft.irfft2(power, s=(size, size), workers=1)
    small = scipy.fft.next_fast_len(2 * bank.box_px - 1, real=True)
    if small >= size:
        return bank.noise_sd(power)
    # a template sees lags shorter than its box only, so a grid of twice the box is exact and cheaper
    lags = np.fft.fftfreq(small, 1 / small).astype(int)
    near = covariance[np.ix_(lags, lags)] * (np.abs(lags) < bank.box_px)[:, None] * (np.abs(lags) < bank.box_px)
    return bank.noise_sd(scipy.fft.rfft2(near, workers=1).real)


def estimate_noise(
    prepared: Prepared,
    bank: TemplateBank,
    diameter_px: float,
    min_distance_px: float,
    rng: np.random.Generator,
    *,
    method: NoiseMethod = "auto",
    surrogates: int = 2,
    rounds: int = 5,
    threads: int | None = None,
    spectra: PreparedBank | None = None,
) -> NoiseModel:
    """Measure a micrograph's noise on the area without particles, which the matching itself finds.

    Parameters
    ----------
    prepared : Prepared
        The micrograph.
    bank : TemplateBank
        At its pixel size.
    diameter_px, min_distance_px : float
        Particle's diameter, and least distance of two peaks.
    rng : numpy.random.Generator
        For the surrogates of each round.
    surrogates : int
        In each round.
    rounds : int
        At most.
    threads : int, optional
        Of the matching.
    spectra : PreparedBank, optional
        The bank's, for the micrograph's shape, where they are at hand.

    Raises
    ------
    InputError
        When the micrograph is too small for a spectrum.

    Notes
    -----
    A round: match the micrograph and surrogates of the spectrum so far; find the score from which at most half of the
    peaks are false, both in the half unit above it and in all above it; leave out a disc of half a particle around
    each such peak; and measure the autocovariance of the rest on the *prewhitened* image (on the image itself what
    the strong low frequencies leak would drown the weak high ones), taper it and divide the whitening out again.
    """
    tile = tile_side(prepared, diameter_px)
    first = welch_power(prepared.image, tile, median=True, variance_range=(0.05, 0.95))
    reach = _even(REACH * diameter_px)
    size = max(2 * tile, _even(bank.box_px + reach))
    colour = _prewhitening(first)
    whitened = apply_filter(prepared.image, colour(prepared.image.shape).astype(np.float32))
    ready = (
        prepare_bank(bank, prepared.image.shape, threads=threads, memory_mb=SPECTRA_MB) if spectra is None else spectra
    )
    power, excluded, trusted, share = first, [], np.inf, 1.0
    for _ in range(rounds):
        sd = template_sd(bank, power)
        real = matched_peaks(prepared.image, prepared.inside, ready, sd, min_distance_px, threads)
        noise = [
            matched_peaks(
                gaussian_surrogate(prepared.image.shape, power, (len(power), len(power)), rng),
                prepared.inside,
                ready,
                sd,
                min_distance_px,
                threads,
            )
            for _ in range(surrogates)
        ]
        trusted = trusted_score(real, noise)
        particles = real[real["score"] >= trusted]
        excluded.append(len(particles))
        free = prepared.inside & ~_discs(prepared.image.shape, particles, DISC * diameter_px)
        share = float(free.sum() / prepared.inside.sum())
        if share < LEAST_FREE:
            trusted = np.inf
            break
        power = _refined(whitened, free, reach, size, colour)
        if len(excluded) > 1 and abs(excluded[-1] - excluded[-2]) <= max(0.01 * excluded[-1], 5):
            break
    done = len(excluded) > 1 and abs(excluded[-1] - excluded[-2]) <= max(0.02 * excluded[-1], 10)
    return NoiseModel(power, first, method, tuple(excluded), float(trusted), done, share)


def tile_side(prepared: Prepared, diameter_px: float) -> int:
    """Return the side of the tiles that a spectrum is measured on.

    Raises
    ------
    InputError
        When the micrograph is smaller.
    """
    tile = _even(TILE * diameter_px)
    if min(prepared.image.shape) < tile:
        raise InputError(
            f"micrograph: is {min(prepared.image.shape) / diameter_px:.1f} particle diameters wide, at least {TILE:g} "
            "are needed; check --diameter and the pixel size"
        )
    return tile


def matched_peaks(
    image: NDArray[np.float32],
    inside: NDArray[np.bool_],
    bank: TemplateBank | PreparedBank,
    sd: NDArray[np.floating],
    min_distance_px: float,
    threads: int | None = None,
) -> NDArray[np.void]:
    """Return the local maxima of ``max_l <x_l, image> / s_l`` inside an area, highest first."""
    scores, best = score_map(image, bank, threads, noise_sd=sd, normalise="none")
    peaks = find_peaks(scores, best, 0.0, min_distance_px)
    return np.asarray(peaks[inside[np.rint(peaks["y"]).astype(int), np.rint(peaks["x"]).astype(int)]])


def trusted_score(real: NDArray[np.void], noise: list[NDArray[np.void]]) -> float:
    """Return the lowest score at which at most half of the peaks are false, in the bin above it and in all above it.

    Noise peaks count on the whole area. Counted on the area that real peaks leave free, they would vanish on pure
    noise too, whose own peaks cover most of it: noise would pass for particles, be left out, and come out too weak.

    Parameters
    ----------
    real : ndarray of (y, x, score, template)
        The micrograph's peaks.
    noise : list of such arrays
        Those of each surrogate.

    Returns
    -------
    float
        Infinity when there is no such score.
    """
    if not len(real):
        return np.inf
    every = np.concatenate(noise)["score"]
    for level in np.arange(LOWEST, float(np.max(real["score"])) + STEP, STEP):
        ours, false = real["score"][real["score"] >= level], every[every >= level]
        ours_in_bin, false_in_bin = (ours < level + BIN).sum(), (false < level + BIN).sum()
        limit = FALSE_SHARE * len(noise)
        if ours_in_bin and len(false) <= limit * len(ours) and false_in_bin <= limit * ours_in_bin:
            return float(level)
    return np.inf


def _prewhitening(tile_power: NDArray[np.float64]) -> Callable[[tuple[int, ...]], NDArray[np.float64]]:
    """Return a radial filter ``P0 ** -1/2`` as a function of the shape of the image that it is made for."""
    size = tile_power.shape[0]
    shells = shell_average(tile_power, (size, size))
    shells[:2] = shells[2]  # the window leaks the mean into them
    frequencies = np.arange(len(shells)) / size
    logs = -0.5 * np.log(np.maximum(shells, 1e-12 * shells.max()))
    return lambda shape: np.exp(np.interp(radial_frequency(shape), frequencies, logs))


def _refined(
    whitened: NDArray[np.floating],
    free: NDArray[np.bool_],
    reach: int,
    size: int,
    colour: Callable[[tuple[int, ...]], NDArray[np.float64]],
) -> NDArray[np.float64]:
    """Return the power spectrum of the free area, measured on the prewhitened image."""
    covariance, _ = autocovariance_within(whitened, free, reach)
    lags = np.fft.fftfreq(2 * reach, 1 / (2 * reach)).astype(int)
    padded = np.zeros((size, size))
    padded[np.ix_(lags, lags)] = covariance
    power = power_of_autocovariance(padded, taper_px=reach, floor=1e-4)
    return np.asarray(power / colour((size, size)) ** 2)


def _discs(shape: tuple[int, ...], peaks: NDArray[np.void], radius: float) -> NDArray[np.bool_]:
    """Return where discs around peaks lie."""
    marks = np.ones(shape, np.bool_)
    marks[np.rint(peaks["y"]).astype(int), np.rint(peaks["x"]).astype(int)] = False
    if marks.all():
        return ~marks
    return np.asarray(distance_transform_edt(marks) <= radius)


def _even(length: float) -> int:
    return 2 * max(round(length / 2), 4)
