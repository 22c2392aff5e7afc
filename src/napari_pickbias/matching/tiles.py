"""How a micrograph is cut into FFT tiles: the sides that cost least.

A tile of side ``N`` gives ``N - b + 1`` valid scores per axis for a box of side ``b``. Measured (docs/matching.md), its
transform costs ``N^2 log N``, 8 % more where only eight or sixteen divide the side and 16 % more below that, so the
cost of an axis is (number of tiles) x N sqrt(log N). Tomograms are cut into cubes by the same rule.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import lru_cache

SMALLEST_TILE = {2: 192, 3: 64}
LARGEST_TILE = {2: 900, 3: 160}
"""By number of dimensions; tiles are at least three boxes wide in two dimensions, two and a half in three."""


@dataclass(frozen=True)
class Tiling:
    """Tiles of one micrograph or tomogram.

    Attributes
    ----------
    tile : tuple of int
        FFT shape.
    step : tuple of int
        Valid scores of a tile along each axis.
    starts : tuple of tuples of int
        First valid score of each tile, in the map of valid scores.
    """

    tile: tuple[int, ...]
    step: tuple[int, ...]
    starts: tuple[tuple[int, ...], ...]


def plan_tiles(shape: tuple[int, ...], box: int) -> Tiling:
    """Return the cheapest tiling.

    Parameters
    ----------
    shape : tuple of two or three int
        Of the (padded) micrograph or tomogram.
    box : int
        Side of the templates.

    Raises
    ------
    ValueError
        When the box is larger than the micrograph.
    """
    if box > min(shape):
        raise ValueError(f"`box` is {box} px but the image has {' x '.join(map(str, shape))} px")
    tile = tuple(_best_side(side, box, len(shape)) for side in shape)
    step = tuple(side - box + 1 for side in tile)
    ranges = [range(0, side - box + 1, by) for side, by in zip(shape, step, strict=True)]
    return Tiling(tile, step, tuple(itertools.product(*ranges)))


@lru_cache(maxsize=256)
def _best_side(length: int, box: int, dimensions: int) -> int:
    """Return the FFT length for one axis."""
    valid = length - box + 1
    enough = length
    while not _is_smooth(enough):
        enough += 1
    smallest = min(max(box, SMALLEST_TILE[dimensions]), length)
    widest = 3 * box if dimensions == 2 else (5 * box + 1) // 2
    largest = min(max(LARGEST_TILE[dimensions], widest), enough)
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
