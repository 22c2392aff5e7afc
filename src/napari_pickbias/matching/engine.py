"""The transforms of the matching kernel, by scipy (default) or by ducc0 where it is installed.

Two templates share one transform: a micrograph is real, so the inverse transform of ``F(micrograph) conj(F(a - i b))``
holds the correlation with template ``a`` in its real part and that with ``b`` in its imaginary part. A complex
transform of two is faster than two real ones (docs/matching.md). Only rows that hold valid scores are made: after the
columns are transformed, the other rows are left alone. All of it works in two dimensions and in three.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from typing import Literal

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from napari_pickbias.errors import InputError

Inverse = Callable[[NDArray[np.complex64], tuple[int, ...]], NDArray[np.complex64]]
"""``inverse(spectrum, wanted)``: the unscaled inverse (its values times its size), of which the first ``wanted[axis]``
are made on all axes but the last; the spectrum is overwritten."""

EngineName = Literal["auto", "scipy", "ducc0"]


def choose_inverse(engine: EngineName = "auto") -> Inverse:
    """Return the inverse transform of an engine.

    Parameters
    ----------
    engine : {"auto", "scipy", "ducc0"}
        ``auto`` takes ducc0 where it is installed.

    Raises
    ------
    InputError
        When ducc0 is asked for and not installed, or the engine is unknown.
    """
    if engine not in ("auto", "scipy", "ducc0"):
        raise InputError(f"engine {engine}: is not known; give auto, scipy or ducc0")
    installed = importlib.util.find_spec("ducc0") is not None
    if engine == "ducc0" and not installed:
        raise InputError("engine ducc0: is not installed; install it (pip install ducc0) or take scipy")
    return _inverse_ducc0() if installed and engine != "scipy" else _inverse_scipy


def _inverse_scipy(spectrum: NDArray[np.complex64], wanted: tuple[int, ...]) -> NDArray[np.complex64]:
    for axis in range(spectrum.ndim):
        spectrum = scipy.fft.ifft(spectrum, axis=axis, norm="forward", overwrite_x=True, workers=1)
        spectrum = _first(spectrum, wanted, axis)
    return spectrum


def _inverse_ducc0() -> Inverse:
    c2c = importlib.import_module("ducc0").fft.c2c

    def inverse(spectrum: NDArray[np.complex64], wanted: tuple[int, ...]) -> NDArray[np.complex64]:
        for axis in range(spectrum.ndim):
            c2c(spectrum, axes=(axis,), forward=False, out=spectrum, nthreads=1)
            spectrum = _first(spectrum, wanted, axis)
        return spectrum

    return inverse


def _first(spectrum: NDArray[np.complex64], wanted: tuple[int, ...], axis: int) -> NDArray[np.complex64]:
    """Leave out what is not wanted along an axis; the last keeps its length, so that rows stay whole."""
    return spectrum if axis == spectrum.ndim - 1 else spectrum[(slice(None),) * axis + (slice(wanted[axis]),)]


def padded_buffer(tile: tuple[int, ...]) -> tuple[NDArray[np.complex64], NDArray[np.float32]]:
    """Return scratch for a spectrum, and the same memory as float32 with whole rows.

    Rows and planes are longer than the tile's, so that they do not fall into the same cache sets.
    """
    whole = np.empty((*tile[:1], *(side + 1 for side in tile[1:-1]), tile[-1] + 8), np.complex64)
    return whole[tuple(slice(side) for side in tile)], whole.view(np.float32)


def pair_spectrum(
    first: NDArray[np.float32], second: NDArray[np.float32], tile: tuple[int, ...]
) -> NDArray[np.complex64]:
    """Return what a micrograph's spectrum is multiplied with to correlate it with two templates at once.

    The last axis is transformed before the padding of the others exists, which saves most of that part of the work.

    Parameters
    ----------
    first, second : ndarray, shape (b, b) or (b, b, b), float32
        Templates; the first comes out in the real part.
    tile : tuple of int
        Each at least ``b``.

    Returns
    -------
    ndarray, shape tile, complex64
        ``conj(F(first - 1j * second))``.
    """
    spectrum: NDArray[np.complex64] = first - np.complex64(1j) * second
    for axis in reversed(range(first.ndim)):
        spectrum = scipy.fft.fft(spectrum, n=tile[axis], axis=axis, overwrite_x=True, workers=1)
    return np.conj(spectrum, out=spectrum)
