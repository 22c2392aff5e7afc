"""The transforms of the matching kernel, by scipy (default) or by ducc0 where it is installed.

Both give the same scores to single precision. Only the rows of an inverse transform that hold valid scores are made:
after the columns are transformed, the rest of the rows are left alone.
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

Inverse = Callable[[NDArray[np.complex64], int, int], NDArray[np.float32]]
"""``inverse(half_spectrum, width, rows)``: the first rows of the inverse; the half-spectrum is overwritten."""

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


def _inverse_scipy(spectrum: NDArray[np.complex64], width: int, rows: int) -> NDArray[np.float32]:
    columns = scipy.fft.ifft(spectrum, axis=0, overwrite_x=True, workers=1)
    scores: NDArray[np.float32] = scipy.fft.irfft(columns[:rows], n=width, axis=1, overwrite_x=True, workers=1)
    return scores


def _inverse_ducc0() -> Inverse:
    ducc0 = importlib.import_module("ducc0")

    def inverse(spectrum: NDArray[np.complex64], width: int, rows: int) -> NDArray[np.float32]:
        ducc0.fft.c2c(spectrum, axes=(0,), forward=False, inorm=2, out=spectrum, nthreads=1)
        scores: NDArray[np.float32] = ducc0.fft.c2r(
            spectrum[:rows], axes=(1,), lastsize=width, forward=False, inorm=2, nthreads=1
        )
        return scores

    return inverse


def template_spectra(images: NDArray[np.float32], tile: tuple[int, int]) -> NDArray[np.complex64]:
    """Return the conjugate half-spectra of templates padded to ``tile``.

    Rows are transformed before the padding below them exists, which saves most of that half of the work.

    Parameters
    ----------
    images : ndarray, shape (m, b, b), float32
    tile : (int, int)
        Both at least ``b``.

    Returns
    -------
    ndarray, shape (m, tile[0], tile[1] // 2 + 1), complex64
    """
    rows = scipy.fft.rfft(images, n=tile[1], axis=2, workers=1)
    spectra: NDArray[np.complex64] = scipy.fft.fft(rows, n=tile[0], axis=1, workers=1)
    return np.conj(spectra, out=spectra)
