"""Kernels of the published rule against numpy's sort and scikit-learn's DBSCAN."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.cluster import DBSCAN

from napari_pickbias.outliers.dbscan import dbscan, highest_pixels

SETTINGS = settings(deadline=None, derandomize=True, max_examples=150)


def cluster(rows, columns, eps, min_points):
    """Labels and number of clusters of the kernel."""
    count = len(rows)
    labels = np.full(count, 99, np.int32)
    scratch = np.ones((count, count), bool), np.ones(count, bool), np.ones(count, np.int32)
    found = dbscan(
        np.asarray(rows, np.int32), np.asarray(columns, np.int32), float(eps) ** 2, min_points, labels, *scratch
    )
    return labels, found


def take_highest(values, sign, border, count):
    """Flat indices of the kernel's points."""
    rows, columns = np.full(count, -1, np.int32), np.full(count, -1, np.int32)
    heights = np.empty(count + len(values), values.dtype)
    highest_pixels(values, values.dtype.type(sign), border, heights, rows, columns)
    return rows * values.shape[1] + columns


points = st.integers(2, 30).flatmap(
    lambda n: hnp.arrays(np.int32, (2, n), elements=st.integers(0, 12))  # small field: dense, with equal points
)


@SETTINGS
@given(points, st.integers(1, 20), st.integers(1, 8))
def test_dbscan_equals_scikit_learn_point_by_point(where, quarter_eps, min_points) -> None:
    labels, found = cluster(*where, quarter_eps / 4, min_points)
    expected = DBSCAN(eps=quarter_eps / 4, min_samples=min_points).fit_predict(where.T)
    np.testing.assert_array_equal(labels, expected)
    assert found == expected.max() + 1


@SETTINGS
@given(points, st.integers(1, 20), st.integers(1, 8), st.randoms(use_true_random=False))
def test_core_points_keep_their_company_in_any_order(where, quarter_eps, min_points, random) -> None:
    order = list(range(where.shape[1]))
    random.shuffle(order)
    first, count = cluster(*where, quarter_eps / 4, min_points)
    second, count_again = cluster(*where[:, order], quarter_eps / 4, min_points)
    back = np.empty_like(second)
    back[order] = second
    distance = np.hypot(*(where[:, :, None] - where[:, None, :]))
    core = (distance <= quarter_eps / 4).sum(axis=1) >= min_points
    assert count == count_again
    together = first[core][:, None] == first[core]
    np.testing.assert_array_equal(together, back[core][:, None] == back[core])
    np.testing.assert_array_equal(first < 0, back < 0)


def test_a_border_point_joins_the_cluster_visited_first() -> None:
    left, right, between = [(0, 0), (0, 0), (0, 1)], [(0, 5), (0, 6), (0, 6)], [(0, 3)]
    labels, found = cluster(*np.array(left + right + between).T, 2, 4)
    np.testing.assert_array_equal(labels, [0, 0, 0, 1, 1, 1, 0])
    assert found == 2
    labels, _ = cluster(*np.array(right + left + between).T, 2, 4)
    np.testing.assert_array_equal(labels, [0, 0, 0, 1, 1, 1, 0])


@pytest.mark.parametrize(("eps", "expected"), [(5.0, [0, 0]), (4.999, [-1, -1])])
def test_reach_includes_its_end(eps, expected) -> None:
    labels, _ = cluster([0, 3], [0, 4], eps, 2)
    np.testing.assert_array_equal(labels, expected)


@SETTINGS
@given(
    st.integers(3, 12).flatmap(lambda d: hnp.arrays(np.float32, (d, d), elements=st.integers(-4, 4))),
    st.sampled_from([1, -1]),
    st.integers(0, 1),
    st.integers(2, 40),
)
def test_highest_pixels_are_those_of_a_stable_sort(values, sign, border, count) -> None:
    inside = np.zeros(values.shape, bool)
    inside[border : len(values) - border, border : len(values) - border] = True
    count = min(count, int(inside.sum()))
    candidates = np.flatnonzero(inside)
    order = np.argsort(-sign * values.ravel()[candidates], kind="stable")
    np.testing.assert_array_equal(take_highest(values, sign, border, count), candidates[order[:count]])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_highest_pixels_of_generic_maps(dtype) -> None:
    rng = np.random.default_rng(1)
    for values in rng.standard_normal((50, 33, 33)).astype(dtype):
        np.testing.assert_array_equal(take_highest(values, 1, 0, 10), np.argsort(-values.ravel())[:10])
        np.testing.assert_array_equal(take_highest(values, -1, 0, 50), np.argsort(values.ravel())[:50])
