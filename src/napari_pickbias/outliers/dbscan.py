"""Highest pixels of a map and their density clusters (DBSCAN), for few points and very many images.

Kernels in Numba, without allocation: the caller hands in scratch arrays and loops over images. They release the GIL.
"""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def highest_pixels(values, sign, border, heights, rows, columns):  # type: ignore[no-untyped-def]
    """Write the positions of the highest pixels of ``sign * values``, highest first.

    Every row's maximum is found first (vectorised): where there are ``a`` rows, the a-th highest of these maxima
    cannot lie above the a-th highest pixel, so that only pixels and rows that reach it need be sorted in.
    Of equal pixels the one met first in row order ranks higher.

    Parameters
    ----------
    values : ndarray of float, shape (d, d)
        Map; must be finite.
    sign : float
        1 for the highest pixels, -1 for the lowest; of the map's own type.
    border : int
        Rows and columns at each side that take no part.
    heights : ndarray of float, shape (a + d,)
        Scratch.
    rows, columns : ndarray of int32, shape (a,)
        Written: pixel indices of the ``a`` points. ``(d - 2 border)**2`` must be at least ``a``.
    """
    wanted = rows.size
    start, stop = border, values.shape[0] - border
    maxima = heights[wanted:]
    found = 0
    for y in range(start, stop):
        maxima[y] = _signed_maximum(values[y, start:stop], sign)
        if found < wanted or maxima[y] > heights[found - 1]:
            found = min(found + 1, wanted)
            _sort_in(maxima[y], found, heights)
    bound = heights[wanted - 1] if found == wanted else -np.inf
    found = 0
    for y in range(start, stop):
        if maxima[y] < bound:
            continue
        for x in range(start, stop):
            height = sign * values[y, x]
            if height < bound or (found == wanted and height <= heights[wanted - 1]):
                continue
            found = min(found + 1, wanted)
            place = _sort_in(height, found, heights)
            for i in range(found - 1, place, -1):
                rows[i] = rows[i - 1]
                columns[i] = columns[i - 1]
            rows[place] = y
            columns[place] = x


@njit(cache=True, nogil=True)
def _sort_in(height, length, heights):  # type: ignore[no-untyped-def]
    """Put a height into the list (descending, ``length`` long with it) behind its equals; return its place."""
    place = length - 1
    while place > 0 and heights[place - 1] < height:
        heights[place] = heights[place - 1]
        place -= 1
    heights[place] = height
    return place


@njit(cache=True, nogil=True, fastmath={"nnan", "nsz"})  # lets the compiler compare whole vectors
def _signed_maximum(row, sign):  # type: ignore[no-untyped-def]
    highest = sign * row[0]
    for x in range(1, row.size):
        highest = max(highest, sign * row[x])
    return highest


@njit(cache=True, nogil=True)
def dbscan(rows, columns, eps_squared, min_points, labels, near, core, waiting):  # type: ignore[no-untyped-def]
    """Cluster points by density; write their labels and return the number of clusters.

    Points are visited in the order given: a border point within reach of two clusters joins the one that is visited
    first, and clusters are numbered in the order of their first core point, both as in scikit-learn.

    Parameters
    ----------
    rows, columns : ndarray of int32, shape (a,)
        Pixel indices.
    eps_squared : float
        Square of the reach, px²; points at exactly that distance are neighbours.
    min_points : int
        Points within reach, the point itself counted, that make a core point.
    labels : ndarray of int32, shape (a,)
        Written: cluster of each point, or -1 for an anomaly (DBSCAN's noise point).
    near : ndarray of bool, shape (a, a)
        Scratch: who is in reach of whom.
    core : ndarray of bool, shape (a,)
        Scratch: who is a core point.
    waiting : ndarray of int32, shape (a,)
        Scratch: points of the growing cluster whose neighbours are still to be visited.

    Returns
    -------
    int
        Number of clusters.

    References
    ----------
    Ester, Kriegel, Sander, Xu, Proc. KDD 1996, 226.
    """
    count = rows.size
    for i in range(count):
        labels[i] = -1
        near[i, i] = True
        for j in range(i):
            dy = rows[i] - rows[j]
            dx = columns[i] - columns[j]
            near[i, j] = dy * dy + dx * dx <= eps_squared
            near[j, i] = near[i, j]
    for i in range(count):
        neighbours = 0
        for j in range(count):
            neighbours += near[i, j]
        core[i] = neighbours >= min_points
    clusters = 0
    for seed in range(count):
        if labels[seed] >= 0 or not core[seed]:
            continue
        labels[seed] = clusters
        waiting[0] = seed
        length = 1
        while length > 0:
            length -= 1
            point = waiting[length]
            for other in range(count):
                if near[point, other] and labels[other] < 0:
                    labels[other] = clusters
                    # only core points pass membership on; each point waits at most once, so `waiting` cannot overflow
                    if core[other]:
                        waiting[length] = other
                        length += 1
        clusters += 1
    return clusters
