"""How a micrograph is cut into FFT tiles: the sizes that cost least, and nothing that trips the cache.

A tile of side ``N`` gives ``N - b + 1`` valid scores per axis for a box of side ``b``, and its FFT costs about the same
per pixel whatever ``N`` (measured: docs/matching.md), so the cost of an axis is (number of tiles) x N. Sides that are
multiples of 512 above 512 put the columns of a tile into the same cache sets and are left out. Where one tile would
do, two are taken if they cost hardly more: threads work on different tiles.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from scipy.fft import next_fast_len

SMALLEST_TILE, LARGEST_TILE = 192, 900
SPLIT_COST = 1.1
"""Two tiles on an axis instead of one may cost this many times as much."""


@dataclass(frozen=True)
class Tiling:
    """Tiles of one micrograph.

    Attributes
    ----------
    tile : (int, int)
        FFT shape.
    step : (int, int)
        Valid scores of a tile, rows and columns.
    starts : tuple of (int, int)
        First row and column of each tile's valid scores, in the map of valid scores.
    """

    tile: tuple[int, int]
    step: tuple[int, int]
    starts: tuple[tuple[int, int], ...]


def plan_tiles(shape: tuple[int, int], box: int) -> Tiling:
    """Return the cheapest tiling of a micrograph.

    Parameters
    ----------
    shape : (int, int)
        Rows and columns of the (padded) micrograph.
    box : int
        Side of the templates.

    Raises
    ------
    ValueError
        When the box is larger than the micrograph.
    """
    if box > min(shape):
        raise ValueError(f"`box` is {box} px but the micrograph has {shape[0]} x {shape[1]} px")
    rows, columns = _best_side(shape[0], box, False), _best_side(shape[1], box, True)
    step = (rows - box + 1, columns - box + 1)
    valid = (shape[0] - box + 1, shape[1] - box + 1)
    starts = tuple((y, x) for y in range(0, valid[0], step[0]) for x in range(0, valid[1], step[1]))
    return Tiling((rows, columns), step, starts)


@lru_cache(maxsize=256)
def _best_side(length: int, box: int, real: bool) -> int:
    """Return the FFT length for one axis; ``real`` for the axis of the real transform, which wants an even length."""
    valid = length - box + 1
    best, best_cost = 0, float("inf")
    largest = max(LARGEST_TILE, 3 * box)
    for wanted in range(max(box + 1, min(SMALLEST_TILE, next_fast_len(length, real=True))), largest + 1):
        side = next_fast_len(wanted, real=True)
        if side != wanted or (real and side % 2) or (side > 512 and side % 512 == 0):
            continue
        cost = -(-valid // (side - box + 1)) * side
        # Of equal costs the smaller tile stays in cache.
        only_one = side - box + 1 >= valid
        if cost * (SPLIT_COST if only_one and best else 1.0) < best_cost:
            best, best_cost = side, cost
        if side >= length:
            break
    return best
