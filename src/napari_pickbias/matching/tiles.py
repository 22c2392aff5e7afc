"""How a micrograph is cut into FFT tiles: the sides that cost least.

A tile of side ``N`` gives ``N - b + 1`` valid scores per axis for a box of side ``b``. Measured (docs/matching.md), its
transform costs ``N^2 log N``, 8 % more where only eight or sixteen divide the side and 16 % more below that, so the
cost of an axis is (number of tiles) x N sqrt(log N).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

SMALLEST_TILE, LARGEST_TILE = 192, 900


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
    rows, columns = _best_side(shape[0], box), _best_side(shape[1], box)
    step = (rows - box + 1, columns - box + 1)
    valid = (shape[0] - box + 1, shape[1] - box + 1)
    starts = tuple((y, x) for y in range(0, valid[0], step[0]) for x in range(0, valid[1], step[1]))
    return Tiling((rows, columns), step, starts)


@lru_cache(maxsize=256)
def _best_side(length: int, box: int) -> int:
    """Return the FFT length for one axis."""
    valid = length - box + 1
    enough = length
    while not _is_smooth(enough):
        enough += 1
    smallest, largest = min(max(box, SMALLEST_TILE), length), min(max(LARGEST_TILE, 3 * box), enough)
    # of equal costs the smaller tile stays in cache
    sides = [side for side in range(smallest, largest + 1) if _is_smooth(side)]
    return min(sides, key=lambda side: (-(-valid // (side - box + 1)) * _line_cost(side), side))


def _is_smooth(side: int) -> bool:
    for factor in (2, 3, 5, 7):
        while side % factor == 0:
            side //= factor
    return side == 1


def _line_cost(side: int) -> float:
    """Return the cost of one axis of a tile, such that the product of both is that of the tile."""
    twos = (side & -side).bit_length() - 1
    return side * math.sqrt(math.log2(side + 1)) * (1.0 if twos >= 5 else 1.04 if twos >= 3 else 1.08)
