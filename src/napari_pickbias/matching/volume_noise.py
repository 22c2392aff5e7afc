"""The noise of a tomogram: its three-dimensional spectrum, surrogates of it, and what templates give on it.

The spectrum is kept on the whole three-dimensional grid of a tile, so that a missing wedge is in it.
"""

from __future__ import annotations

import itertools

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from napari_pickbias.errors import InputError
from napari_pickbias.imaging.fourier import hermitian_weights
from napari_pickbias.matching.correlate import Real
from napari_pickbias.matching.volume_bank import VolumeBank

MOST_TILES = 512
"""More tiles make the median no better."""
TILE = 2.0
"""Side of the tiles in boxes of the templates."""
ROUNDS = 4
"""In which the window's blur is taken out of a spectrum."""
BLOCK_VOXELS = 2**25
"""Surrogates are made in blocks no larger than this, so that memory does not grow with the tomogram."""


def volume_power(tomogram: Real, tile: int) -> NDArray[np.float64]:
    """Measure the power spectrum of a tomogram: the median over tiles that overlap by half.

    Parameters
    ----------
    tomogram : ndarray, shape (d, h, w)
        May be memory-mapped; a tile at a time is read.
    tile : int
        Side of the tiles, px.

    Returns
    -------
    ndarray, shape (tile, tile, tile // 2 + 1)
        Mean 1 over the whole grid: white noise is 1 everywhere. At zero frequency that of its neighbour along x.

    Raises
    ------
    InputError
        When the tomogram is smaller than a tile, or most of it is constant.

    Notes
    -----
    P. D. Welch, The use of fast Fourier transform for the estimation of power spectra, 1967; with a Hann window. The
    median over tiles is little moved by the few that hold gold or membranes, but particles that fill most tiles are in
    it. Tiles without any variance, as at padded edges, are left out.
    """
    if min(tomogram.shape) < tile:
        raise InputError(
            f"tomogram: is {' × '.join(map(str, tomogram.shape))} px at the pixel size of the search; its noise is "
            f"measured on tiles of {tile} px; check --diameter and the pixel sizes"
        )
    starts = list(itertools.product(*(_starts(side, tile) for side in tomogram.shape)))
    chosen = np.unique(np.linspace(0, len(starts) - 1, min(len(starts), MOST_TILES)).round().astype(int))
    line = np.hanning(tile + 2)[1:-1]
    window = line[:, None, None] * line[:, None] * line
    # One for all tiles: what each tile's own mean takes away is missing at the lowest frequencies.
    mean = float(np.median([np.mean(tomogram[_tile(starts[number], tile)], dtype=np.float64) for number in chosen]))
    powers = []
    for number in chosen:
        part = np.asarray(tomogram[_tile(starts[number], tile)], np.float64)
        if float(np.ptp(part)) > 0:
            powers.append((np.abs(scipy.fft.rfftn((part - mean) * window, workers=1)) ** 2).astype(np.float32))
    if len(powers) < max(1, len(chosen) // 2):
        raise InputError("tomogram: most of it is constant; cut off its empty part")
    power = np.asarray(np.median(np.stack(powers), axis=0), np.float64)
    power[0, 0, 0] = power[0, 0, 1]
    return _sharpened(power / _mean(power), line)


def _sharpened(measured: NDArray[np.float64], line: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the spectrum that, seen through the tiles' window, is the measured one; mean 1.

    A window blurs peaks and the edges of a missing wedge: noise of the blurred spectrum has lower peaks than the
    tomogram's. What the window does to a spectrum is known exactly, and undone by a few rounds of ratios.
    """
    tile = len(line)
    lags = np.abs(np.fft.fft(line, 2 * tile)) ** 2
    factor = np.fft.ifft(lags).real
    factor /= factor[0]
    power = measured
    for _ in range(ROUNDS):
        covariance = scipy.fft.irfftn(refined(power, (2 * tile,) * 3), s=(2 * tile,) * 3, workers=1)
        covariance *= factor[:, None, None] * factor[:, None] * factor
        blurred = scipy.fft.rfftn(covariance, workers=1).real[::2, ::2, ::2]
        power = power * measured / np.maximum(blurred, 1e-6 * measured.max())
        power = power / _mean(power)
    return power


def volume_tile(shape: tuple[int, ...], box: int) -> int:
    """Return the side of the tiles for a tomogram's spectrum: even, and no larger than its thinnest side."""
    return min(2 * round(TILE * box / 2), 2 * (min(shape) // 2))


def surrogate_volume(power: NDArray[np.floating], out: NDArray[np.float32], rng: np.random.Generator) -> None:
    """Fill an array with Gaussian noise of a spectrum and of variance 1.

    Parameters
    ----------
    power : ndarray, shape (t, t, t // 2 + 1)
        From :func:`volume_power`.
    out : ndarray, shape (d, h, w), float32
        May be memory-mapped. Large ones are filled block by block, each independent of the others.
    rng : numpy.random.Generator
    """
    for part in _blocks(out.shape):
        shape = tuple(piece.stop - piece.start for piece in part)
        spectrum = scipy.fft.rfftn(rng.standard_normal(shape, np.float32), workers=1)
        spectrum *= np.sqrt(refined(power, shape)).astype(np.float32)
        out[part] = scipy.fft.irfftn(spectrum, s=shape, workers=1)


def refined(power: NDArray[np.floating], shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Interpolate a spectrum, linearly along each axis, to the half-spectrum of another grid; mean 1.

    Parameters
    ----------
    power : ndarray, shape (t, t, t // 2 + 1)
    shape : (d, h, w)
    """
    tile = power.shape[0]
    fine = np.asarray(power, np.float64)
    for axis, side in enumerate(shape):
        half = axis == 2
        place = (np.fft.rfftfreq(side) if half else np.fft.fftfreq(side)) * tile
        below = np.floor(place).astype(np.int64)
        share = place - below
        count = power.shape[axis]
        first, second = (
            (np.minimum(below, count - 1), np.minimum(below + 1, count - 1))
            if half
            else (below % count, (below + 1) % count)
        )
        matrix = np.zeros((len(place), count))
        np.add.at(matrix, (np.arange(len(place)), first), 1 - share)
        np.add.at(matrix, (np.arange(len(place)), second), share)
        fine = np.moveaxis(np.tensordot(matrix, fine, axes=(1, axis)), 0, axis)
    return np.asarray(fine / _mean(fine, shape[2]))


def volume_template_sd(bank: VolumeBank, power: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the standard deviation of each template's locally normalised correlation with noise of a spectrum.

    Parameters
    ----------
    bank : VolumeBank
    power : ndarray, shape (t, t, t // 2 + 1)
        From :func:`volume_power`.

    Returns
    -------
    ndarray, shape (L,)
        ``sqrt(x' Sigma x)``, over the square root of the variance expected under the mask about its mean there.
    """
    box = bank.box_px
    side = scipy.fft.next_fast_len(2 * box - 1, real=True)
    shape = (side,) * 3
    weights = refined(power, shape) * hermitian_weights(side) / side**3
    mask = bank.mask.astype(np.float64)
    transform = np.abs(scipy.fft.rfftn(mask / mask.sum(), s=shape, workers=1)) ** 2
    local = float((weights * (1 - transform)).sum())
    weights32 = weights.astype(np.float32)
    sd = np.empty(len(bank))
    for number in range(len(bank)):
        spectrum = scipy.fft.rfftn(bank.template(number), s=shape, workers=1)
        sd[number] = np.sqrt(np.vdot(weights32, spectrum.real**2 + spectrum.imag**2) / local)
    return sd


def _starts(side: int, tile: int) -> list[int]:
    """Return where tiles begin that overlap by half; the last touches the end."""
    return sorted({*range(0, side - tile + 1, max(1, tile // 2)), side - tile})


def _tile(start: tuple[int, ...], tile: int) -> tuple[slice, ...]:
    return tuple(slice(begin, begin + tile) for begin in start)


def _blocks(shape: tuple[int, ...]) -> list[tuple[slice, ...]]:
    """Cut a volume into blocks of bounded size, the longest side halved first."""
    parts = [1, 1, 1]
    while np.prod([-(-side // n) for side, n in zip(shape, parts, strict=True)]) > BLOCK_VOXELS:
        parts[int(np.argmax([side / n for side, n in zip(shape, parts, strict=True)]))] += 1
    edges = [np.linspace(0, side, n + 1).round().astype(int).tolist() for side, n in zip(shape, parts, strict=True)]
    return list(itertools.product(*([slice(a, b) for a, b in itertools.pairwise(line)] for line in edges)))


def _mean(power: NDArray[np.float64], side: int | None = None) -> float:
    """Return the mean over the whole grid of a half-spectrum."""
    side = power.shape[0] if side is None else side
    weights = hermitian_weights(side)
    return float((power * weights).sum() / (power.shape[0] * power.shape[1] * side))
