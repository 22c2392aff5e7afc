"""The matching loop over rotations that share a basis: few correlations, then all templates' scores as their sums."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from napari_pickbias.matching.basis import RotationGroup
from napari_pickbias.matching.correlate import OUTSIDE, Maps, Scratch, Sheet, own_rows, place_of, tile_spectrum
from napari_pickbias.matching.deviation import as_stack
from napari_pickbias.matching.engine import Inverse
from napari_pickbias.matching.kernels import fold_group, merge, multiply, split_pair
from napari_pickbias.matching.prepared import PreparedBank

CHUNK = 900
"""Most pixels whose scores are made at once: those of some 72 templates stay in the second cache."""

Spectra = list[NDArray[np.complex64]]


@dataclass
class _Room(threading.local):
    """Memory for each thread: correlations with the components, and scores of a chunk."""

    rank: int
    count: int
    length: int
    correlations: NDArray[np.float32] = field(init=False)
    scores: NDArray[np.float32] = field(init=False)
    top: NDArray[np.float32] = field(init=False)
    number: NDArray[np.int32] = field(init=False)

    def __post_init__(self) -> None:
        # odd lengths keep rows out of each other's cache sets
        self.correlations = np.empty((self.rank + self.rank % 2, self.length + 17), np.float32)
        self.scores = np.empty(self.count * self.length, np.float32)
        self.top, self.number = np.empty(self.length, np.float32), np.empty(self.length, np.int32)


def correlate_groups(
    sheet: Sheet,
    bank: PreparedBank,
    maps: Maps,
    inverse: Inverse,
    pool: Executor,
    workers: int,
    progress: Callable[[int, int], None] | None,
) -> None:
    """Fold the scores of all templates that share bases into the maps; see :func:`correlate` for the parameters."""
    if bank.basis is None or not bank.basis.groups:
        return
    groups, starts, done = bank.basis.groups, bank.tiling.starts, bank.direct
    scratch = Scratch(bank.tiling.tile)
    area = bank.tiling.step[0] * bank.tiling.step[1]
    room = _Room(max(group.rank for group in groups), max(len(group) for group in groups), area)
    shares = -(-workers // len(starts))
    with threadpool_limits(1, user_api="blas"):  # the threads are ours
        for block in bank.group_blocks(pool):
            share = -(-len(block) // shares)
            tasks = [(n, slice(k, k + share)) for k in range(0, len(block), share) for n in range(len(starts))]

            def work(
                task: tuple[int, slice], block: list[tuple[RotationGroup, Spectra]] = block
            ) -> tuple[int, Maps | None]:
                number, part = task
                spectrum = tile_spectrum(sheet, bank.tiling.tile, starts[number])
                corner, shape = place_of(sheet, bank, starts[number])
                own = None if part.start == 0 else (np.full(shape, OUTSIDE), np.full(shape, -1, maps[1].dtype))
                into, corner = (maps, corner) if own is None else (own, (0, 0))
                for group, spectra in block[part]:
                    _correlations(spectrum, spectra, shape, inverse, scratch, room)
                    _fold_group(group, sheet.scale, into, corner, shape, room)
                return number, own

            for number, own in pool.map(work, tasks):
                if own is not None:
                    y, x = place_of(sheet, bank, starts[number])[0]
                    merge(*(as_stack(each) for each in (*maps, *own)), (0, y, x))
            done += sum(len(group) for group, _ in block)
            if progress is not None:
                progress(done, len(bank.bank))


def _correlations(
    tile: NDArray[np.complex64],
    spectra: Spectra,
    shape: tuple[int, ...],
    inverse: Inverse,
    scratch: Scratch,
    room: _Room,
) -> None:
    """Correlate a tile with the components of a group."""
    product, wide = scratch.product[0], as_stack(scratch.product[1])
    factor = as_stack(tile.view(np.float32))
    height, width = shape
    for pair, spectrum in enumerate(spectra):
        multiply(factor, as_stack(spectrum.view(np.float32)), wide)
        rows = own_rows(inverse(product, shape), product, wide)
        first, second = room.correlations[2 * pair], room.correlations[2 * pair + 1]
        split_pair(rows[0], first, second, (height, width))


def _fold_group(
    group: RotationGroup,
    scale: NDArray[np.float32],
    maps: Maps,
    corner: tuple[int, ...],
    shape: tuple[int, ...],
    room: _Room,
) -> None:
    """Sum the correlations to the scores of all templates of a group, a chunk at a time, and fold them into maps."""
    count, rank = group.coefficients.shape
    weights = group.coefficients * scale[group.first : group.first + count, None]
    (height, width), (y, x) = shape, corner
    rows = max(1, CHUNK // width)
    for top in range(0, height, rows):
        begin, end = top * width, min(top + rows, height) * width
        scores = room.scores[: count * (end - begin)].reshape(count, end - begin)
        np.dot(weights, room.correlations[:rank, begin:end], out=scores)
        fold_group(scores, group.first, *maps, (y + top, x), width, room.top, room.number)
