"""Peaks of a score map: the paper's greedy rule, and local maxima in a radius."""

from __future__ import annotations

from typing import Literal

import numba
import numpy as np
from numpy.typing import NDArray

PEAK = np.dtype([("y", np.float32), ("x", np.float32), ("score", np.float32), ("template", np.int32)])


def find_peaks(
    scores: NDArray[np.float32],
    best: NDArray[np.int32],
    threshold: float,
    min_distance: float,
    *,
    rule: Literal["greedy", "local_maximum", "paper"] = "local_maximum",
    subpixel: bool = True,
) -> NDArray[np.void]:
    """Return the peaks of a score map, highest first.

    Parameters
    ----------
    scores, best : ndarray, shape (h, w)
        From :func:`napari_pickbias.matching.score_map`; pixels of ``-inf`` or NaN are never peaks.
    threshold : float
        Lowest score of a peak (a score equal to it counts).
    min_distance : float
        Pixels. ``local_maximum``: no pixel within this distance scores higher (the paper's Appendix B.6), and of two
        accepted peaks the lower is dropped when they are nearer than this. ``greedy``: walking down the scores, a pixel
        is taken when no taken peak is nearer than this. ``paper`` (Algorithm 2): walking down, a pixel is taken when
        its box of side ``round(min_distance)`` overlaps no box taken before; boxes that leave the map are not taken.
    rule : {"local_maximum", "greedy", "paper"}
        Which rule.
    subpixel : bool
        Refine positions by a parabola through the neighbours on each axis, at most half a pixel.

    Returns
    -------
    ndarray of (y, x, score, template)
        ``score`` is that of the pixel, not of the parabola's top. Of equal scores the first in memory order leads.
    """
    flat = scores.ravel()
    candidates = np.flatnonzero(flat >= threshold)
    candidates = candidates[np.isfinite(flat[candidates])]
    # A stable sort of the negated scores puts equal scores in memory order.
    order = candidates[np.argsort(-flat[candidates], kind="stable")]
    if rule == "paper":
        taken = _take_boxes(order, scores.shape[0], scores.shape[1], round(min_distance))
    else:
        if rule == "local_maximum":
            order = order[_is_local_maximum(scores, order, min_distance)]
        taken = _take_distant(order, scores.shape[0], scores.shape[1], min_distance)
    chosen = order[taken]
    peaks = np.zeros(len(chosen), dtype=PEAK)
    rows, columns = np.divmod(chosen, scores.shape[1])
    peaks["y"], peaks["x"] = rows, columns
    peaks["score"], peaks["template"] = flat[chosen], best.ravel()[chosen]
    if subpixel and len(chosen):
        dy, dx = _parabola(scores, rows, columns)
        peaks["y"] += dy
        peaks["x"] += dx
    return peaks


@numba.njit(cache=True, nogil=True)
def _is_local_maximum(scores: NDArray[np.float32], order: NDArray[np.int64], radius: float) -> NDArray[np.bool_]:
    height, width = scores.shape
    found = np.ones(order.size, dtype=np.bool_)
    reach = int(radius)
    square = radius * radius
    for index in range(order.size):
        y, x = order[index] // width, order[index] % width
        value = scores[y, x]
        # The nearest rings decide for almost all candidates, so look there first.
        done = False
        for ring in range(1, reach + 1):
            for dy in range(-ring, ring + 1):
                step = 1 if abs(dy) == ring else 2 * ring
                for dx in range(-ring, ring + 1, step):
                    yy, xx = y + dy, x + dx
                    if dy * dy + dx * dx > square or yy < 0 or xx < 0 or yy >= height or xx >= width:
                        continue
                    if scores[yy, xx] > value:
                        found[index] = False
                        done = True
                        break
                if done:
                    break
            if done:
                break
    return found


@numba.njit(cache=True, nogil=True)
def _take_distant(order: NDArray[np.int64], height: int, width: int, distance: float) -> NDArray[np.bool_]:
    """Walk down the scores; take what is at least ``distance`` from all taken, found through a grid of cells."""
    taken = np.zeros(order.size, dtype=np.bool_)
    cell = max(distance / np.sqrt(2.0), 1.0)  # a cell holds one peak at most
    rows, columns = int(height / cell) + 1, int(width / cell) + 1
    grid = np.full((rows, columns), -1, dtype=np.int64)
    square = distance * distance
    for index in range(order.size):
        y, x = order[index] // width, order[index] % width
        row, column = int(y / cell), int(x / cell)
        near = False
        for r in range(max(0, row - 2), min(rows, row + 3)):
            for c in range(max(0, column - 2), min(columns, column + 3)):
                other = grid[r, c]
                if other >= 0:
                    dy, dx = other // width - y, other % width - x
                    if dy * dy + dx * dx < square:
                        near = True
        if not near:
            taken[index] = True
            grid[row, column] = order[index]
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


def _parabola(
    scores: NDArray[np.float32], rows: NDArray[np.int64], columns: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the offsets of the parabola's top on each axis; 0 at the rim and where there is no top."""
    offsets = []
    for axis, position in enumerate((rows, columns)):
        inner = (position > 0) & (position < scores.shape[axis] - 1)
        low, high = np.where(inner, position - 1, position), np.where(inner, position + 1, position)
        middle = scores[rows, columns].astype(np.float64)
        before = (scores[low, columns] if axis == 0 else scores[rows, low]).astype(np.float64)
        after = (scores[high, columns] if axis == 0 else scores[rows, high]).astype(np.float64)
        with np.errstate(invalid="ignore", divide="ignore"):
            top = 0.5 * (before - after) / (before - 2 * middle + after)
        good = inner & np.isfinite(top) & (before - 2 * middle + after < 0)
        offsets.append(np.clip(np.where(good, top, 0.0), -0.5, 0.5).astype(np.float32))
    return offsets[0], offsets[1]
