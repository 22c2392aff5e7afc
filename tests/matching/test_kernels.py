"""The inner loops against plain numpy."""

from __future__ import annotations

import numpy as np

from napari_pickbias.matching import kernels


def test_multiply_writes_into_longer_rows() -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=(2, 3, 4, 5)) + 1j * rng.normal(size=(2, 3, 4, 5))).astype(np.complex64)
    wide = np.zeros((3, 6, 7), np.complex64)
    kernels.multiply(a.view(np.float32), b.view(np.float32), wide.view(np.float32))
    np.testing.assert_allclose(wide[:, :4, :5], a * b, rtol=0, atol=1e-5)
    assert not wide[:, 4:].any()
    assert not wide[:, :, 5:].any()


def test_fold_keeps_the_largest_and_the_first_of_equals() -> None:
    rng = np.random.default_rng(1)
    best = np.full((2, 6, 8), -np.inf, np.float32)
    which = np.full((2, 6, 8), -1, np.int16)
    values = rng.integers(-2, 3, (10, 2, 4, 5)).astype(np.float32)
    scales = rng.choice([0.5, 1.0], 10).astype(np.float32)
    for first in range(0, 10, 2):
        pair = np.zeros((2, 5, 2 * 6), np.float32)  # rows and planes are longer than what is wanted
        pair[:, :4, 0:10:2], pair[:, :4, 1:10:2] = values[first], values[first + 1]
        numbers = (np.int16(first), np.int16(first + 1))
        kernels.fold_pair(pair, numbers, (scales[first], scales[first + 1]), best, which, (0, 1, 2), (2, 4, 5))
    scaled = values * scales[:, None, None, None]
    inside = (slice(None), slice(1, 5), slice(2, 7))
    np.testing.assert_array_equal(best[inside], scaled.max(axis=0))
    np.testing.assert_array_equal(which[inside], scaled.argmax(axis=0))
    outside = np.ones(best.shape, bool)
    outside[inside] = False
    assert (best[outside] == -np.inf).all()
    assert (which[outside] == -1).all()


def test_split_and_fold_of_a_group() -> None:
    rng = np.random.default_rng(3)
    values = rng.normal(size=(5, 2 * 9)).astype(np.float32)
    first, second = np.zeros((2, 30), np.float32)
    kernels.split_pair(values, first, second, (4, 7))
    np.testing.assert_array_equal(first[:28].reshape(4, 7), values[:4, 0:14:2])
    np.testing.assert_array_equal(second[:28].reshape(4, 7), values[:4, 1:14:2])
    assert not first[28:].any()
    for count in (1, 2, 5, 6):
        scores = rng.integers(-2, 3, (count, 2 * 4)).astype(np.float32)
        best, which = np.zeros((6, 8), np.float32), np.full((6, 8), -1, np.int16)
        top, number = np.empty(20, np.float32), np.empty(20, np.int32)
        kernels.fold_group(scores, 40, best, which, (3, 2), 4, top, number)
        shown = scores.reshape(count, 2, 4)
        np.testing.assert_array_equal(best[3:5, 2:6], np.maximum(shown.max(axis=0), 0))
        np.testing.assert_array_equal(which[3:5, 2:6], np.where(shown.max(axis=0) > 0, 40 + shown.argmax(axis=0), -1))
        assert np.count_nonzero(best) == np.count_nonzero(best[3:5, 2:6])


def test_merge_lets_earlier_templates_win_ties() -> None:
    best, other = np.array([[[1.0, 2.0, 3.0]]], np.float32), np.array([[[2.0, 4.0]]], np.float32)
    which, others = np.array([[[0, 1, 2]]], np.int16), np.array([[[7, 8]]], np.int16)
    kernels.merge(best, which, other, others, (0, 0, 1))
    assert best.tolist() == [[[1.0, 2.0, 4.0]]]
    assert which.tolist() == [[[0, 1, 8]]]


def test_deviation_and_division() -> None:
    rng = np.random.default_rng(2)
    mean, square = rng.normal(size=(2, 3, 4)), rng.uniform(2, 9, (2, 3, 4))
    square[0, 0, 0] = mean[0, 0, 0] ** 2  # nothing left
    pair = np.zeros((2, 3, 10), np.float32)
    pair[..., 0:8:2], pair[..., 1:8:2] = mean, square
    sd = np.empty((2, 3, 4), np.float32)
    variance = square - mean**2
    least = np.float32(0.01)
    assert kernels.deviation(pair, least, sd) == (variance < 0.01).sum() > 0
    np.testing.assert_allclose(sd, np.sqrt(np.maximum(variance, 0.01)), rtol=1e-4)
    best = np.ones((2, 4, 6), np.float32)
    kernels.divide(best, sd, (0, 1, 2))
    np.testing.assert_allclose(best[:, 1:4, 2:6], 1 / sd, rtol=1e-6)
    assert (best[:, 0] == 1).all()
