"""The E-step with nothing left out, as matrix products of any array library: for a GPU, and as the search's measure.

Every fine rotation at every shift is scored in the low-rank basis, so the work is three products a batch of patches.
On a CPU the best-first search of :mod:`napari_pickbias.pickfree.search` does the same dozens of times faster.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_pickbias.pickfree.expectation import Statistics, cell_shares
from napari_pickbias.pickfree.rotation_levels import RotationLevels
from napari_pickbias.pickfree.tables import Tables

BATCH_BYTES = 1 << 28
"""Scores held at a time."""


def array_library(device: str) -> Any:
    """Return NumPy for ``cpu``, CuPy for ``cuda``.

    Raises
    ------
    ImportError
        When CuPy is not installed, or finds no device.
    """
    if device == "cpu":
        return np
    library = importlib.import_module("cupy")
    try:
        if library.cuda.runtime.getDeviceCount() < 1:
            raise ImportError("CuPy finds no CUDA device")
    except library.cuda.runtime.CUDARuntimeError as error:
        raise ImportError(f"CuPy finds no CUDA device ({error})") from error
    return library


def window_index(size: int) -> NDArray[np.int64]:
    """Return where each pixel of the particle's box lies in a patch padded to ``3 L - 2``, by shift: ``(n_s, L^2)``."""
    wide = 3 * size - 2
    moved = np.arange(2 * size - 1)[:, None] + np.arange(size)[None, :]
    index = moved[:, None, :, None] * wide + moved[None, :, None, :]
    return index.reshape((2 * size - 1) ** 2, size * size)


def expectation_dense(
    patches: NDArray[np.float32],
    rows: NDArray[np.int64],
    tables: Tables,
    levels: RotationLevels,
    empty: float,
    *,
    log_weight: NDArray[np.float64] | None = None,
    other: Callable[[NDArray[np.float32]], NDArray[np.float64]] | None = None,
    library: Any = np,
) -> Statistics:
    """Return what :func:`~napari_pickbias.pickfree.expectation.expectation` does, of all fine rotations.

    Parameters
    ----------
    library : module
        NumPy, CuPy, or any other that keeps to the Python array API standard: nothing beyond it is used, and no
        array is handed to the library's functions that it did not make.
    """
    xp = library
    size = patches.shape[1]
    cells, shifts, count = len(levels.coarse), (2 * size - 1) ** 2, len(levels.fine)
    children = levels.children
    share = np.log(cell_shares(levels)) if log_weight is None else log_weight
    prior = np.repeat(share - np.log(children), children) + math.log((1 - empty) / (cells * shifts))
    basis, fine = xp.asarray(tables.basis), xp.asarray(np.ascontiguousarray(tables.fine.T))
    offset = xp.asarray(np.ascontiguousarray(prior.astype(np.float32)[None, :] - tables.fine_energy.T))
    log_prior = xp.asarray(prior.astype(np.float32))
    index = xp.asarray(window_index(size).ravel())
    sums = xp.zeros((count, size * size), dtype=xp.float32)
    mass = xp.zeros((shifts, count), dtype=xp.float32)
    score = 0.0
    likelihood, void = np.empty(len(rows)), np.empty(len(rows))
    batch = max(1, BATCH_BYTES // (4 * shifts * count))
    for first in range(0, len(rows), batch):
        part = slice(first, min(first + batch, len(rows)))
        chunk = np.ascontiguousarray(patches[rows[part]], np.float32)
        number = len(chunk)
        ratio = np.zeros(number) if other is None else other(chunk)
        out = math.log(max(empty, 1e-12)) + ratio
        wide = np.pad(chunk, ((0, 0), (size - 1, size - 1), (size - 1, size - 1))).reshape(number, -1)
        windows = xp.reshape(xp.take(xp.asarray(wide), index, axis=1), (number * shifts, size * size))
        scores = xp.reshape(xp.matmul(xp.matmul(windows, basis), fine), (number, shifts, count))
        scores += offset
        # in single precision, as the scores are
        top = np.maximum(_host(xp.max(scores, axis=(1, 2))), out.astype(np.float32))
        scores -= xp.asarray(top)[:, None, None]
        chance = xp.exp(scores)
        total = _host(xp.sum(chance, axis=(1, 2), dtype=xp.float64)) + np.exp(out - top)
        chance *= xp.asarray((1 / total).astype(np.float32))[:, None, None]
        likelihood[part] = top + np.log(total)
        void[part] = np.exp(out - top) / total
        scores += xp.asarray(top)[:, None, None]
        scores -= log_prior
        score += float(xp.sum(chance * scores, dtype=xp.float64))
        mass += xp.sum(chance, axis=0)
        sums += xp.matmul(xp.reshape(chance, (number * shifts, count)).T, windows)
    by_cell = np.add.reduceat(_host(mass).T, levels.start[:-1], axis=0)
    images = _host(sums).reshape(count, size, size)
    return Statistics(images, by_cell.astype(np.float32), likelihood, void, score, float(len(rows) * shifts * cells))


def _host(array: Any) -> NDArray[Any]:
    """Return an array of any library as NumPy's."""
    return np.asarray(array.get() if hasattr(array, "get") else array)
