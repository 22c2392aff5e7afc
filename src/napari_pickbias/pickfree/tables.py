"""What an iteration needs of the current map: projections in a low-rank basis, and their energies by shift.

A patch sees the projection moved by ``l`` and cut by the patch's border. Shifts run over ``-(L-1) ... L-1`` along y and
x, ``n_s = (2L-1)^2`` of them, y slowest; every other shift shows nothing (the empty class).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numba
import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from napari_pickbias.pickfree.rotation_levels import RotationLevels

Array32 = NDArray[np.float32]


class Tables(NamedTuple):
    """Scores of every hypothesis are linear in these: ``score = coefficients . X[l] - energy``."""

    basis: Array32
    """``(L^2, r)`` orthonormal images; the coarse projections need mostly the first columns."""

    fine: Array32
    """``(K1, r)`` coefficients of the fine projections over the noise variance."""

    fine_energy: Array32
    """``(K1, n_s)`` half the energy of each cut projection over the noise variance."""

    coarse: Array32
    """``(r0, K0)`` coefficients of the mean projection of each cell over the noise variance."""

    coarse_energy: Array32
    """``(n_s, K0)`` so that a coarse score estimates the log-mean-exp of the scores of the cell's rotations."""

    spread: Array32
    """``(n_s, K0)`` how much better than that the best rotation of a cell may be (the optimism ``V``)."""

    middle: Array32
    """``(Km, r)`` coefficients of the mean projection of each middle rotation's fine ones; none with two levels."""

    middle_energy: Array32
    """``(Km, n_s)``, so that a middle score estimates the log-mean-exp of the scores of its fine rotations."""

    middle_spread: Array32
    """``(Km, n_s)``, as ``spread``."""


@numba.njit(cache=True, nogil=True)
def shifted_energies(images: NDArray[np.float32], scale: float, out: NDArray[np.float32]) -> None:  # pragma: no cover
    """Fill ``out``, ``(K, (2L-1)^2)``, with ``scale`` times the energy of each image within the patch, by shift."""
    count, size = images.shape[0], images.shape[1]
    side = 2 * size - 1
    sums = np.zeros((size + 1, size + 1), np.float64)
    for k in range(count):
        for y in range(size):
            row = 0.0
            for x in range(size):
                row += images[k, y, x] * images[k, y, x]
                sums[y + 1, x + 1] = sums[y, x + 1] + row
        for ly in range(side):
            dy = ly - (size - 1)
            top, bottom = max(0, -dy), min(size, size - dy)
            for lx in range(side):
                dx = lx - (size - 1)
                left, right = max(0, -dx), min(size, size - dx)
                value = sums[bottom, right] - sums[top, right] - sums[bottom, left] + sums[top, left]
                out[k, ly * side + lx] = scale * value


@numba.njit(cache=True, nogil=True)
def cell_means(
    values: NDArray[np.float32], start: NDArray[np.int64], out: NDArray[np.float32]
) -> None:  # pragma: no cover
    """Fill ``out`` with the means of the rows of each cell."""
    for cell in range(out.shape[0]):
        first, last = start[cell], start[cell + 1]
        for column in range(out.shape[1]):
            out[cell, column] = 0.0
        for row in range(first, last):
            for column in range(out.shape[1]):
                out[cell, column] += values[row, column]
        for column in range(out.shape[1]):
            out[cell, column] /= last - first


def _leading(gram: NDArray[np.float64], tail: float) -> tuple[NDArray[np.float64], int]:
    """Return eigenvectors by falling eigenvalue, and how many leave at most ``tail`` of the trace."""
    values, vectors = scipy.linalg.eigh(gram)
    values, vectors = np.maximum(values[::-1], 0), vectors[:, ::-1]
    rest = values.sum() - np.cumsum(values)
    enough = np.flatnonzero(rest <= tail * max(float(values.sum()), 1e-30))
    return vectors, int(enough[0]) + 1 if enough.size else len(values)


def _mean_scores(
    images: Array32, fine_energy: Array32, start: NDArray[np.int64], half: float
) -> tuple[Array32, Array32]:
    """Return energies and spreads, ``(K, n_s)``, of rotations that stand for some fine ones by their mean ``images``.

    The spread is the mean energy of the fine projections less that of their mean.
    """
    mean_energy = np.empty((len(images), fine_energy.shape[1]), np.float32)
    cell_means(fine_energy, start, mean_energy)
    own_energy = np.empty_like(mean_energy)
    size = math.isqrt(images.shape[1])
    shifted_energies(np.ascontiguousarray(images).reshape(-1, size, size), half, own_energy)
    spread = np.maximum(2 * (mean_energy - own_energy), 0)
    correction = np.minimum(spread / 2, 1)
    return np.asarray(mean_energy - correction, np.float32), np.asarray(spread - correction, np.float32)


def build_tables(
    images: Array32,
    levels: RotationLevels,
    noise_variance: float,
    *,
    tail: float = 1e-4,
    coarse_tail: float = 1e-3,
    weights: NDArray[np.float64] | None = None,
) -> Tables:
    """Return the tables of one map.

    Parameters
    ----------
    images : ndarray, shape (K1, L, L)
        Projections along ``levels.fine``, CTF applied.
    levels : RotationLevels
    noise_variance : float
        Of a pixel, white.
    tail, coarse_tail : float
        Share of the projections' energy that the basis, and its part for coarse scores, may leave out. At 1e-4
        posteriors differ by 0.007 in total variation, on average; 0 keeps everything.
    weights : ndarray, shape (K0,), or None
        Prior probability of each cell over that of an even share, ``1 / K0``.

    Notes
    -----
    A coarse score is the mean score of the cell's rotations, plus half their spread ``V`` but at most 1: the
    log-mean-exp to second order. ``V`` is the mean energy of a rotation's projection less the cell's mean projection.
    With a third grid the same holds for each middle rotation and its fine ones.
    """
    size = images.shape[1]
    flat = images.reshape(len(images), -1)
    gram = (flat.T @ flat).astype(np.float64)
    vectors, rank = _leading(gram, tail)
    fine = flat @ vectors[:, :rank].astype(np.float32)
    coarse = np.empty((len(levels.coarse), rank), np.float32)
    cell_means(fine, levels.start, coarse)
    # turn the basis so that the leading columns serve the cells' mean projections best
    turn, few = _leading((coarse.T @ coarse).astype(np.float64), coarse_tail)
    turn32 = turn.astype(np.float32)
    basis = vectors[:, :rank].astype(np.float32) @ turn32
    fine, coarse = fine @ turn32, coarse @ turn32
    shifts = (2 * size - 1) ** 2
    half = 0.5 / noise_variance
    fine_energy = np.empty((len(images), shifts), np.float32)
    shifted_energies(images, half, fine_energy)
    energy, spread = _mean_scores(coarse @ basis.T, fine_energy, levels.start, half)
    if weights is not None:
        energy -= np.log(np.maximum(weights, 1e-6)).astype(np.float32)[:, None]
    scale = np.float32(1 / noise_variance)
    middle = np.empty((len(levels.middle), rank), np.float32)
    middle_energy = middle_spread = np.empty((0, shifts), np.float32)
    if len(middle):
        cell_means(fine, levels.middle_start, middle)
        middle_energy, middle_spread = _mean_scores(middle @ basis.T, fine_energy, levels.middle_start, half)
    return Tables(
        np.ascontiguousarray(basis), np.ascontiguousarray(fine * scale), fine_energy,
        np.ascontiguousarray(coarse[:, :few].T * scale), np.ascontiguousarray(energy.T),
        np.ascontiguousarray(spread.T), middle * scale, middle_energy, middle_spread,
    )  # fmt: skip
