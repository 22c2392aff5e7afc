"""Peaks of a score map, of a micrograph or a tomogram: the paper's greedy rule, and local maxima in a radius."""

from __future__ import annotations

import itertools
from typing import Literal

import numba
import numpy as np
from numpy.typing import NDArray

PEAK = np.dtype([("y", np.float32), ("x", np.float32), ("score", np.float32), ("template", np.int32)])
VOLUME_PEAK = np.dtype([("z", np.float32), *((name, PEAK[name]) for name in ("y", "x", "score", "template"))])


def find_peaks(
    scores: NDArray[np.float32],
    best: NDArray[np.integer],
    threshold: float,
    min_distance: float,
    *,
    rule: Literal["greedy", "local_maximum", "paper"] = "local_maximum",
    subpixel: bool = True,
) -> NDArray[np.void]:
    """Return the peaks of a score map, highest first.

    Parameters
    ----------
    scores, best : ndarray, shape (h, w) or (d, h, w)
        From :func:`napari_pickbias.matching.score_map` or :func:`napari_pickbias.matching.score_volume`; pixels of
        ``-inf`` (the box leaves the micrograph) or NaN are never peaks.
    threshold : float
        Lowest score of a peak (a score equal to it counts).
    min_distance : float
        Pixels. ``local_maximum``: no pixel within this distance scores higher (the paper's Appendix B.6), and of two
        accepted peaks the lower is dropped when they are nearer than this. ``greedy``: walking down the scores, a pixel
        is taken when no taken peak is nearer than this. ``paper`` (Algorithm 2, in two dimensions): walking down, a
        pixel is taken when its box of side ``round(min_distance)`` overlaps no box taken before; boxes that leave the
        map are not taken.
    rule : {"local_maximum", "greedy", "paper"}
        Which rule.
    subpixel : bool
        Refine positions by a parabola through the neighbours on each axis, at most half a pixel.

    Returns
    -------
    ndarray of (y, x, score, template), of (z, y, x, score, template) in three dimensions
        ``score`` is that of the pixel, not of the parabola's top. Of equal scores the first in memory order leads.

    Raises
    ------
    ValueError
        When the paper's rule is asked for in three dimensions.
    """
    shape = scores.shape
    if rule == "paper" and len(shape) == 3:
        raise ValueError("`rule`: the paper's is one of micrographs; take local_maximum or greedy")
    flat = scores.reshape(-1)
    candidates = np.flatnonzero(flat >= threshold)
    candidates = candidates[np.isfinite(flat[candidates])]
    # a stack of one plane; at a pixel's side of length 1 nothing is near
    stack = (1, *shape) if len(shape) == 2 else shape
    if rule == "local_maximum":  # before the sort: few are left
        candidates = candidates[_is_local_maximum(flat, stack, candidates, _offsets(stack, min_distance))]
    # A stable sort of the negated scores puts equal scores in memory order.
    order = candidates[np.argsort(-flat[candidates], kind="stable")]
    if rule == "paper":
        chosen = order[_take_boxes(order, shape[0], shape[1], round(min_distance))]
    else:
        chosen = order[_take_distant(order, stack, min_distance, len(shape))]
    peaks = np.zeros(len(chosen), dtype=PEAK if len(shape) == 2 else VOLUME_PEAK)
    places = np.unravel_index(chosen, shape)
    peaks["score"], peaks["template"] = flat[chosen], best.reshape(-1)[chosen]
    for axis, name in enumerate("zyx"[-len(shape) :]):
        peaks[name] = places[axis] + (_parabola(scores, places, axis) if subpixel else 0.0)
    return peaks


def _offsets(stack: tuple[int, ...], radius: float) -> NDArray[np.int64]:
    """Return the offsets within a radius, shape (m, 3), nearest first: the first decide for almost all pixels."""
    reach = [min(int(radius), side - 1) for side in stack]
    offsets = np.array(list(itertools.product(*(range(-n, n + 1) for n in reach))), np.int64)
    squares = (offsets**2).sum(axis=1)
    near = (squares <= radius * radius) & (squares > 0)
    return np.asarray(offsets[near][np.argsort(squares[near], kind="stable")])


@numba.njit(cache=True, nogil=True)
def _is_local_maximum(
    flat: NDArray[np.float32], stack: tuple[int, int, int], pixels: NDArray[np.int64], offsets: NDArray[np.int64]
) -> NDArray[np.bool_]:
    depth, height, width = stack
    found = np.ones(pixels.size, dtype=np.bool_)
    for index in range(pixels.size):
        pixel = pixels[index]
        z, y, x = pixel // (height * width), pixel // width % height, pixel % width
        value = flat[pixel]
        for number in range(offsets.shape[0]):
            k, i, j = z + offsets[number, 0], y + offsets[number, 1], x + offsets[number, 2]
            if k < 0 or i < 0 or j < 0 or k >= depth or i >= height or j >= width:
                continue
            if flat[(k * height + i) * width + j] > value:
                found[index] = False
                break
    return found


@numba.njit(cache=True, nogil=True)
def _take_distant(
    order: NDArray[np.int64], stack: tuple[int, int, int], distance: float, dimensions: int
) -> NDArray[np.bool_]:
    """Walk down the scores; take what is at least ``distance`` from all taken, found through a grid of cells."""
    _, height, width = stack
    taken = np.zeros(order.size, dtype=np.bool_)
    cell = max(distance / np.sqrt(float(dimensions)), 1.0)  # a cell holds one peak at most
    planes, rows, columns = int(stack[0] / cell) + 1, int(height / cell) + 1, int(width / cell) + 1
    grid = np.full((planes, rows, columns), -1, dtype=np.int64)
    square = distance * distance
    for index in range(order.size):
        pixel = order[index]
        z, y, x = pixel // (height * width), pixel // width % height, pixel % width
        plane, row, column = int(z / cell), int(y / cell), int(x / cell)
        near = False
        for p in range(max(0, plane - 2), min(planes, plane + 3)):
            for r in range(max(0, row - 2), min(rows, row + 3)):
                for c in range(max(0, column - 2), min(columns, column + 3)):
                    other = grid[p, r, c]
                    if other >= 0:
                        dz = other // (height * width) - z
                        dy, dx = other // width % height - y, other % width - x
                        if dz * dz + dy * dy + dx * dx < square:
                            near = True
        if not near:
            taken[index] = True
            grid[plane, row, column] = pixel
    return taken


@numba.njit(cache=True, nogil=True)
def _take_boxes(order: NDArray[np.int64], height: int, width: int, box: int) -> NDArray[np.bool_]:
    taken = np.zeros(order.size, dtype=np.bool_)
    used = np.zeros((height, width), dtype=np.bool_)
    for index in range(order.size):
        top, left = order[index] // width - box // 2, order[index] % width - box // 2
        if top < 0 or left < 0 or top + box > height or left + box > width:
            continue
        # Used boxes have this same size, so one of the four corners or edges of an overlap lies on this box's rim.
        free = True
        for i in range(box):
            if (
                used[top, left + i]
                or used[top + box - 1, left + i]
                or used[top + i, left]
                or used[top + i, left + box - 1]
            ):
                free = False
                break
        if free:
            used[top : top + box, left : left + box] = True
            taken[index] = True
    return taken


def _parabola(scores: NDArray[np.float32], places: tuple[NDArray[np.intp], ...], axis: int) -> NDArray[np.float64]:
    """Return the offset of the parabola's top along an axis; 0 at the rim and where there is no top."""
    position = places[axis]
    inner = (position > 0) & (position < scores.shape[axis] - 1)
    low, high = list(places), list(places)
    low[axis], high[axis] = np.where(inner, position - 1, position), np.where(inner, position + 1, position)
    before, middle, after = (scores[tuple(at)].astype(np.float64) for at in (low, places, high))
    with np.errstate(invalid="ignore", divide="ignore"):
        top = 0.5 * (before - after) / (before - 2 * middle + after)
        good = inner & np.isfinite(top) & (before - 2 * middle + after < 0)
    return np.clip(np.where(good, top, 0.0), -0.5, 0.5)
