"""From filtered maps to verdicts by the published outlier rule: highest pixels, clusters, bands along the border.

Kernels in Numba; they release the GIL. What the rule is: :mod:`napari_pickbias.outliers.reference`.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from napari_pickbias.outliers.dbscan import dbscan, highest_pixels
from napari_pickbias.outliers.verdicts import REASONS

_NOISE = REASONS.index("noise")
_PARTIAL = REASONS.index("partial")
_MULTIPLE = REASONS.index("multiple")


@njit(cache=True, nogil=True)
def judge_maps(  # type: ignore[no-untyped-def]
    maps,
    signs,
    points,
    border,
    reverse,
    eps_squared,
    min_points,
    near_band,
    far_band,
    any_anomaly,
    cluster_rule,
    reason,
    anomalies,
    clusters,
    found,
):
    """Judge every map by steps 3 to 5 of the rule.

    Parameters
    ----------
    maps : ndarray of float, shape (n, d, d)
        Filtered images.
    signs : ndarray of float, shape (n,)
        1: the highest pixels count; -1: the lowest; 0: the map is not looked at and the image is noise.
    points, border : int
        Number of pixels to take, and rows and columns at each side to leave out.
    reverse : bool
        Visit the points from the lowest to the highest.
    eps_squared, min_points : float, int
        Reach (px²) and density of DBSCAN; more anomalies than ``min_points`` are noise.
    near_band, far_band : float
        Last pixel index of the bands at the first row and column, first index of those at the last ones.
    any_anomaly, cluster_rule : bool
        Options of the rule.
    reason, anomalies, clusters : ndarray of int, shape (n,)
        Written: index into ``REASONS`` and the two counts (left alone where the sign is 0).
    found : ndarray of float64, shape (n, 4)
        Written: y, x of the first cluster and of the second, as far as there are any.
    """
    heights = np.empty(points + maps.shape[1], maps.dtype)
    rows = np.empty(points, np.int32)
    columns = np.empty(points, np.int32)
    labels = np.empty(points, np.int32)
    near = np.empty((points, points), np.bool_)
    core = np.empty(points, np.bool_)
    waiting = np.empty(points, np.int32)
    for i in range(len(maps)):
        if signs[i] == 0:
            reason[i] = _NOISE
            continue
        highest_pixels(maps[i], signs[i], border, heights, rows, columns)
        if reverse:
            rows[:] = rows[::-1].copy()
            columns[:] = columns[::-1].copy()
        clusters[i] = dbscan(rows, columns, eps_squared, min_points, labels, near, core, waiting)
        anomalies[i] = np.sum(labels < 0)
        edge = _anomalies_at_edge(rows, columns, labels, near_band, far_band, any_anomaly)
        for cluster in range(clusters[i]):
            y, x = _centre(rows, columns, labels, cluster)
            edge |= _in_band(np.rint(y), near_band, far_band) or _in_band(np.rint(x), near_band, far_band)
            if cluster < 2:
                found[i, 2 * cluster] = y
                found[i, 2 * cluster + 1] = x
        if anomalies[i] > min_points:
            reason[i] = _NOISE
        elif edge:
            reason[i] = _PARTIAL
        elif cluster_rule and clusters[i] > 1:
            reason[i] = _MULTIPLE
        else:
            reason[i] = 0


@njit(cache=True, nogil=True)
def _in_band(index, near_band, far_band):  # type: ignore[no-untyped-def]
    return index <= near_band or index >= far_band


@njit(cache=True, nogil=True)
def _centre(rows, columns, labels, cluster):  # type: ignore[no-untyped-def]
    y, x, members = 0, 0, 0
    for i in range(labels.size):
        if labels[i] == cluster:
            y += rows[i]
            x += columns[i]
            members += 1
    return y / members, x / members


@njit(cache=True, nogil=True)
def _anomalies_at_edge(rows, columns, labels, near_band, far_band, any_anomaly):  # type: ignore[no-untyped-def]
    """Return whether all anomalies lie in the band of one side, or whether any lies in any band."""
    exists = some = False
    top = bottom = left = right = True
    for i in range(labels.size):
        if labels[i] >= 0:
            continue
        exists = True
        top &= rows[i] <= near_band
        bottom &= rows[i] >= far_band
        left &= columns[i] <= near_band
        right &= columns[i] >= far_band
        some |= _in_band(rows[i], near_band, far_band) or _in_band(columns[i], near_band, far_band)
    if any_anomaly:
        return some
    return exists and (top or bottom or left or right)
