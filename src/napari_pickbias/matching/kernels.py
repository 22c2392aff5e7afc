"""The inner loops of matching, over stacks of planes: a micrograph is a stack of one.

Complex arrays come as float32, real and imaginary parts side by side.

Rows are taken as contiguous views of whole maps: an offset inside the loop, or a map that was sliced before it came
here, would keep the loops from being vectorised.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray


@numba.njit(cache=True, nogil=True)
def multiply(tile: NDArray[np.float32], spectrum: NDArray[np.float32], product: NDArray[np.float32]) -> None:
    """Multiply complex ``(nz, ny, 2 nx)`` arrays; rows and planes of ``product`` may be longer."""
    for k in range(tile.shape[0]):
        for i in range(tile.shape[1]):
            t, s, p = tile[k, i], spectrum[k, i], product[k, i]
            for j in range(t.size // 2):
                p[2 * j] = t[2 * j] * s[2 * j] - t[2 * j + 1] * s[2 * j + 1]
                p[2 * j + 1] = t[2 * j] * s[2 * j + 1] + t[2 * j + 1] * s[2 * j]


@numba.njit(cache=True, nogil=True)
def fold_pair(
    values: NDArray[np.float32],
    numbers: tuple[np.integer, np.integer],
    scales: tuple[np.float32, np.float32],
    best: NDArray[np.float32],
    which: NDArray[np.integer],
    corner: tuple[int, int, int],
    shape: tuple[int, int, int],
) -> None:
    """Keep the largest score and its template in the maps from ``corner`` on; the first of equals stays.

    ``values`` holds the scores of two templates side by side, before they are multiplied with ``scales``.
    """
    z, y, x = corner
    for k in range(shape[0]):
        for i in range(shape[1]):
            row, best_row = values[k, i], best[z + k, y + i][x : x + shape[2]]
            which_row = which[z + k, y + i][x : x + shape[2]]
            for j in range(best_row.size):
                first, second = row[2 * j] * scales[0], row[2 * j + 1] * scales[1]
                larger = first if first >= second else second
                number = numbers[0] if first >= second else numbers[1]
                better = larger > best_row[j]
                which_row[j] = number if better else which_row[j]
                best_row[j] = larger if better else best_row[j]


@numba.njit(cache=True, nogil=True)
def split_pair(
    values: NDArray[np.float32], first: NDArray[np.float32], second: NDArray[np.float32], shape: tuple[int, int]
) -> None:
    """Copy two correlations that lie side by side apart, row after row; rows of ``values`` may be longer."""
    height, width = shape
    for i in range(height):
        row, a, b = values[i], first[i * width : (i + 1) * width], second[i * width : (i + 1) * width]
        for j in range(width):
            a[j] = row[2 * j]
            b[j] = row[2 * j + 1]


@numba.njit(cache=True, nogil=True)
def fold_group(
    scores: NDArray[np.float32],
    first: int,
    best: NDArray[np.float32],
    which: NDArray[np.integer],
    corner: tuple[int, int],
    width: int,
    top: NDArray[np.float32],
    number: NDArray[np.int32],
) -> None:
    """Keep the largest of the scores ``(n, rows * width)`` of templates ``first`` on in the maps from ``corner`` on.

    ``top`` and ``number`` are scratch as long as a template's scores: as wide as each other, they keep the loop over
    templates vectorised, which the maps' narrower numbers would not.
    """
    count, length = scores.shape
    top, number = top[:length], number[:length]
    for j in range(length):
        top[j] = scores[0, j]
        number[j] = np.int32(first)
    # two at a time, so that the scratch is read and written half as often; the last may come twice
    for t in range(1, count, 2):
        s = min(t + 1, count - 1)
        a, b = scores[t], scores[s]
        m, n = np.int32(first + t), np.int32(first + s)
        for j in range(length):
            larger = a[j] if a[j] >= b[j] else b[j]
            winner = m if a[j] >= b[j] else n
            better = larger > top[j]
            number[j] = winner if better else number[j]
            top[j] = larger if better else top[j]
    y, x = corner
    for i in range(length // width):
        own, named = top[i * width : (i + 1) * width], number[i * width : (i + 1) * width]
        best_row, which_row = best[y + i][x : x + width], which[y + i][x : x + width]
        for j in range(width):
            better = own[j] > best_row[j]
            which_row[j] = named[j] if better else which_row[j]
            best_row[j] = own[j] if better else best_row[j]


@numba.njit(cache=True, nogil=True)
def merge(
    best: NDArray[np.float32],
    which: NDArray[np.integer],
    other: NDArray[np.float32],
    others: NDArray[np.integer],
    corner: tuple[int, int, int],
) -> None:
    """Fold maps made with later templates into a part of ``best`` and ``which``."""
    for k in range(other.shape[0]):
        for i in range(other.shape[1]):
            for j in range(other.shape[2]):
                at = corner[0] + k, corner[1] + i, corner[2] + j
                if other[k, i, j] > best[at]:
                    best[at] = other[k, i, j]
                    which[at] = others[k, i, j]


@numba.njit(cache=True, nogil=True)
def deviation(values: NDArray[np.float32], least: np.float32, sd: NDArray[np.float32]) -> int:
    """Write ``sqrt(E x^2 - (E x)^2)`` to ``sd`` and return how many variances are below ``least``.

    ``values`` holds ``E x`` and ``E x^2`` side by side; its rows may be longer.
    """
    low = 0
    for k in range(sd.shape[0]):
        for i in range(sd.shape[1]):
            row, out = values[k, i], sd[k, i]
            for j in range(out.size):
                variance = row[2 * j + 1] - row[2 * j] * row[2 * j]
                low += variance < least
                out[j] = np.sqrt(max(variance, least))
    return low


@numba.njit(cache=True, nogil=True, error_model="numpy")  # Python's would ask about zero at every pixel
def divide(best: NDArray[np.float32], sd: NDArray[np.float32], corner: tuple[int, int, int]) -> None:
    """Divide a part of a map by deviations."""
    z, y, x = corner
    for k in range(sd.shape[0]):
        for i in range(sd.shape[1]):
            row, by = best[z + k, y + i][x : x + sd.shape[2]], sd[k, i]
            for j in range(row.size):
                row[j] /= by[j]
