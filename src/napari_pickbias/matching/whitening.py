"""Whitening: a micrograph and its templates divided by the amplitude of the noise at every frequency.

Whitened templates ``w x`` on a whitened micrograph ``w z``, ``w = P^-1/2``, give ``<w x, w z> = <x, w^2 z>``: filtering
the micrograph twice leaves the templates, and so their spectra, the same for all micrographs. It is the matched
filter: among all linear scores of unit noise deviation it has the highest mean where the template is present.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from napari_pickbias.errors import InputError


class Whitened(NamedTuple):
    """A micrograph filtered by ``P^-1/2`` once and twice."""

    once: NDArray[np.float32]
    """``(h, w)``; its noise is white with variance 1."""

    twice: NDArray[np.float32]
    """``(h, w)``; what templates are correlated with."""


def whitened(image: NDArray[np.float32], power: NDArray[np.floating], *, threads: int = 1) -> Whitened:
    """Filter a micrograph by the inverse of its noise spectrum.

    The filter is periodic: within its reach (the length over which noise is correlated) opposite borders meet.

    Parameters
    ----------
    image : ndarray, shape (h, w), float32
    power : ndarray, shape (n, n // 2 + 1)
        Expected ``|rfft2(noise)|**2 / n**2`` on an ``n x n`` grid, in the image's units squared; interpolated linearly
        between its frequencies.

    Raises
    ------
    InputError
        When some power is not finite or not above zero.
    """
    shape = (image.shape[0], image.shape[1])
    weight = (1 / spectrum_on_grid(checked_power(power), shape)).astype(np.float32)
    spectrum = scipy.fft.rfft2(image, workers=threads)
    twice = scipy.fft.irfft2(spectrum * weight, s=shape, workers=threads)
    spectrum *= np.sqrt(weight, out=weight)
    return Whitened(scipy.fft.irfft2(spectrum, s=shape, workers=threads), twice)


def checked_power(power: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return a noise spectrum in double precision, or say what is wrong with it."""
    values = np.asarray(power, np.float64)
    if values.ndim != 2 or values.shape[1] != values.shape[0] // 2 + 1:
        raise ValueError(f"`power` has shape {values.shape}; it must be (n, n // 2 + 1)")
    if not (np.isfinite(values).all() and (values > 0).all()):
        raise InputError("noise spectrum: some powers are not finite or not above zero; give it a floor")
    return values


def spectrum_on_grid(power: NDArray[np.float64], shape: tuple[int, int]) -> NDArray[np.float64]:
    """Interpolate a half-spectrum of an ``n x n`` grid linearly to the half-spectrum of another grid.

    Frequencies beyond the last column take its value.

    Parameters
    ----------
    power : ndarray, shape (n, n // 2 + 1)
    shape : (int, int)
        Rows and columns of the images of the new grid.

    Returns
    -------
    ndarray, shape (shape[0], shape[1] // 2 + 1)
    """
    size, last = power.shape[0], power.shape[1] - 1
    column = np.minimum(scipy.fft.rfftfreq(shape[1]) * size, last)
    left = np.minimum(column.astype(np.int64), max(last - 1, 0))
    share = column - left
    wide = power[:, left] * (1 - share) + power[:, np.minimum(left + 1, last)] * share
    row = scipy.fft.fftfreq(shape[0]) * size
    above = np.floor(row).astype(np.int64)
    share = (row - above)[:, None]
    return np.asarray(wide[above % size] * (1 - share) + wide[(above + 1) % size] * share)
