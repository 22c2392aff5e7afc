"""The E-step over many patches: chunks, threads, and sums that do not depend on how many threads there are."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from napari_pickbias.pickfree.rotation_levels import RotationLevels
from napari_pickbias.pickfree.search import search_patches
from napari_pickbias.pickfree.tables import Tables

CHUNK = 128
"""Patches a piece of work: the sums are added up chunk by chunk in a fixed order."""
GOLDEN = 0.6180339887498949


@dataclass
class Statistics:
    """Sums over patches that the M-step needs.

    Attributes
    ----------
    sums : ndarray, shape (K1, L, L)
        Patches moved back into the particle's box, by posterior probability.
    weights : ndarray, shape (K0, n_s)
        Posterior probability by cell and shift.
    log_likelihood : ndarray, shape (M,)
        Of each patch over that of noise alone.
    void : ndarray, shape (M,)
        Posterior probability of all classes but the particle's.
    score : float
        Sum of the mean scores.
    refined : float
        Cells refined, sum over patches.
    """

    sums: NDArray[np.float32]
    weights: NDArray[np.float32]
    log_likelihood: NDArray[np.float64]
    void: NDArray[np.float64]
    score: float
    refined: float


def expectation(
    patches: NDArray[np.float32],
    rows: NDArray[np.int64],
    tables: Tables,
    levels: RotationLevels,
    empty: float,
    *,
    log_weight: NDArray[np.float64] | None = None,
    other: Callable[[NDArray[np.float32]], NDArray[np.float64]] | None = None,
    log_tau: float = -7.0,
    samples: int = 256,
    threads: int = 1,
    pool: Executor | None = None,
) -> Statistics:
    """Return posterior sums over some patches.

    Parameters
    ----------
    patches : ndarray or memory map, shape (M, L, L), float32
        All patches; only a few chunks at a time are read.
    rows : ndarray, shape (m,)
        Which of them.
    tables : Tables
    levels : RotationLevels
    empty : float
        Prior probability of the classes that are not the particle.
    log_weight : ndarray, shape (K0,), or None
        Log prior of each cell over an even share, as given to :func:`build_tables`; None for even fine rotations.
    other : callable or None
        Gives, for a chunk of patches, the log likelihood ratio (against noise) of those classes; 0 by default.
    log_tau, samples
        See :func:`~napari_pickbias.pickfree.search.search_patches`.
    threads : int
        The result is the same to the last bit for any number.
    pool : Executor or None
        Used instead of a pool of ``threads``: anything with ``map``.
    """
    cells, shifts = len(levels.coarse), tables.fine_energy.shape[1]
    side = patches.shape[1]
    log_even = math.log((1 - empty) / (cells * shifts))
    share = np.log(cell_shares(levels)) if log_weight is None else log_weight

    def work(part: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float64]]:
        chunk = np.ascontiguousarray(patches[part], np.float32)
        offset = np.asarray((part * GOLDEN) % 1, np.float64)
        ratio = np.zeros(len(part)) if other is None else other(chunk)
        sums = np.zeros((len(levels.fine), side, side), np.float32)
        weights = np.zeros((cells, shifts), np.float32)
        found = np.empty((len(part), 4))
        search_patches(
            chunk, math.log(max(empty, 1e-12)) + ratio, offset, log_even, *tables, levels.start,
            levels.middle_of_cell, levels.middle_start, share, log_tau, samples, sums, weights, found,
        )  # fmt: skip
        return sums, weights, found

    parts = [rows[i : i + CHUNK] for i in range(0, len(rows), CHUNK)]
    total = np.zeros((len(levels.fine), side, side), np.float32)
    weight = np.zeros((cells, shifts), np.float32)
    details = []
    # one BLAS thread each: two within the same core's caches are slower than one
    with threadpool_limits(limits=1, user_api="blas"):
        for sums, weights, found in _in_order(work, parts, threads, pool):
            total += sums
            weight += weights
            details.append(found)
    table = np.concatenate(details) if details else np.zeros((0, 4))
    return Statistics(
        total, weight, table[:, 0].copy(), table[:, 1].copy(), float(table[:, 2].sum()), float(table[:, 3].sum())
    )


def cell_shares(levels: RotationLevels) -> NDArray[np.float64]:
    """Return each cell's prior over ``1 / K0`` when all fine rotations are equally likely."""
    return np.asarray(levels.children * (len(levels.coarse) / len(levels.fine)))


def _in_order(work: Any, parts: list[NDArray[np.int64]], threads: int, pool: Executor | None) -> Iterator[Any]:
    """Yield the results in the order of ``parts``, with a few in flight at a time: memory stays bounded."""
    if pool is not None:
        yield from pool.map(work, parts)
        return
    if threads == 1:
        yield from map(work, parts)
        return
    with ThreadPoolExecutor(threads) as own:
        for first in range(0, len(parts), 4 * threads):
            yield from own.map(work, parts[first : first + 4 * threads])


def batches(rows: Iterable[int], fraction: float, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return a fresh random subset, sorted, of a fraction of ``rows``: one iteration of the stochastic variant."""
    every = np.fromiter(rows, np.int64)
    if fraction >= 1:
        return every
    count = max(1, round(fraction * len(every)))
    return np.sort(rng.choice(every, count, replace=False))
