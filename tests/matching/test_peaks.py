"""Peaks against plain versions of the paper's rules."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_pickbias.matching import find_peaks


def sorted_pixels(scores: np.ndarray, threshold: float) -> list[tuple[int, int]]:
    order = np.argsort(-scores.ravel(), kind="stable")
    return [tuple(divmod(int(i), scores.shape[1])) for i in order if scores.flat[i] >= threshold]


def plain_paper(scores: np.ndarray, threshold: float, box: int) -> list[tuple[int, int]]:
    """Algorithm 2: walk down, accept where the box touches no used pixel and stays inside."""
    used = np.zeros(scores.shape, dtype=bool)
    taken = []
    for y, x in sorted_pixels(scores, threshold):
        top, left = y - box // 2, x - box // 2
        if top < 0 or left < 0 or top + box > scores.shape[0] or left + box > scores.shape[1]:
            continue
        if not used[top : top + box, left : left + box].any():
            used[top : top + box, left : left + box] = True
            taken.append((y, x))
    return taken


def plain_greedy(pixels: list[tuple[int, int]], distance: float) -> list[tuple[int, int]]:
    taken: list[tuple[int, int]] = []
    for y, x in pixels:
        if all((y - v) ** 2 + (x - u) ** 2 >= distance**2 for v, u in taken):
            taken.append((y, x))
    return taken


def plain_local_maxima(scores: np.ndarray, threshold: float, radius: float) -> list[tuple[int, int]]:
    found = []
    for y, x in sorted_pixels(scores, threshold):
        rows, columns = np.ogrid[: scores.shape[0], : scores.shape[1]]
        near = (rows - y) ** 2 + (columns - x) ** 2 <= radius**2
        if scores[near].max() <= scores[y, x]:
            found.append((y, x))
    return plain_greedy(found, radius)


def found(scores: np.ndarray, threshold: float, distance: float, rule: str) -> list[tuple[int, int]]:
    peaks = find_peaks(
        scores,
        np.zeros(scores.shape, np.int32),
        threshold,
        distance,
        rule=rule,
        subpixel=False,  # type: ignore[arg-type]
    )
    return [(int(p["y"]), int(p["x"])) for p in peaks]


@settings(deadline=None, derandomize=True, max_examples=60)
@given(
    seed=st.integers(0, 10_000),
    shape=st.tuples(st.integers(5, 24), st.integers(5, 24)),
    distance=st.floats(1.0, 9.0),
    levels=st.integers(2, 40),
)
def test_all_rules_equal_their_plain_versions(seed: int, shape: tuple[int, int], distance: float, levels: int) -> None:
    """Few grey levels force ties, which must fall to the first in memory order."""
    scores = np.random.default_rng(seed).integers(0, levels, shape).astype(np.float32)
    threshold = levels * 0.3
    assert found(scores, threshold, distance, "greedy") == plain_greedy(sorted_pixels(scores, threshold), distance)
    assert found(scores, threshold, distance, "local_maximum") == plain_local_maxima(scores, threshold, distance)
    assert found(scores, threshold, distance, "paper") == plain_paper(scores, threshold, round(distance))


@settings(deadline=None, derandomize=True, max_examples=30)
@given(
    seed=st.integers(0, 10_000),
    shape=st.tuples(st.integers(1, 7), st.integers(1, 9), st.integers(1, 9)),
    distance=st.floats(0.0, 6.0),
    levels=st.integers(2, 40),
)
def test_rules_in_three_dimensions_equal_their_plain_versions(
    seed: int, shape: tuple[int, int, int], distance: float, levels: int
) -> None:
    scores = np.random.default_rng(seed).integers(0, levels, shape).astype(np.float32)
    threshold = levels * 0.3
    order = np.argsort(-scores.ravel(), kind="stable")
    places = np.stack(np.unravel_index(order[scores.ravel()[order] >= threshold], shape), axis=1)
    grid = np.stack(np.mgrid[: shape[0], : shape[1], : shape[2]], axis=-1)
    highest = [scores[((grid - p) ** 2).sum(-1) <= distance**2].max() <= scores[tuple(p)] for p in places]
    for rule, allowed in (("greedy", places), ("local_maximum", places[np.array(highest, bool)])):
        expected: list[np.ndarray] = []
        for p in allowed:
            if all(((p - q) ** 2).sum() >= distance**2 for q in expected):
                expected.append(p)
        peaks = find_peaks(scores, np.zeros(shape, np.int32), threshold, distance, rule=rule, subpixel=False)  # type: ignore[arg-type]
        assert [(p["z"], p["y"], p["x"]) for p in peaks] == [tuple(p) for p in expected]


def test_a_blob_in_a_volume_is_found_between_voxels() -> None:
    z, y, x = np.mgrid[:20, :22, :24]
    scores = np.exp(-((z - 8.4) ** 2 + (y - 9.7) ** 2 + (x - 12.2) ** 2) / 40).astype(np.float32)
    peaks = find_peaks(scores, np.full(scores.shape, 3, np.int16), 0.5, 5.0)
    assert len(peaks) == 1
    assert (peaks["z"][0], peaks["y"][0], peaks["x"][0]) == pytest.approx((8.4, 9.7, 12.2), abs=0.02)
    assert peaks["template"][0] == 3
    with pytest.raises(ValueError, match="is one of micrographs"):
        find_peaks(scores, np.full(scores.shape, 3, np.int16), 0.5, 5.0, rule="paper")


def test_minus_infinity_and_nan_are_never_peaks() -> None:
    scores = np.full((9, 9), -np.inf, np.float32)
    scores[4, 4], scores[2, 2] = 1.0, np.nan
    assert found(scores, -np.inf, 2.0, "greedy") == [(4, 4)]


def test_subpixel_positions_of_a_smooth_peak() -> None:
    y, x = np.mgrid[:40, :40]
    scores = (10 * np.exp(-((y - 17.3) ** 2 + (x - 21.8) ** 2) / 50)).astype(np.float32)
    peaks = find_peaks(scores, np.full((40, 40), 5, np.int32), 5.0, 4.0)
    assert len(peaks) == 1
    assert peaks["y"][0] == pytest.approx(17.3, abs=0.02)
    assert peaks["x"][0] == pytest.approx(21.8, abs=0.02)
    assert peaks["template"][0] == 5
    assert peaks["score"][0] == scores.max()


def test_no_peaks_is_an_empty_table() -> None:
    peaks = find_peaks(np.zeros((5, 5), np.float32), np.zeros((5, 5), np.int32), 1.0, 2.0)
    assert peaks.shape == (0,)
    assert peaks.dtype.names == ("y", "x", "score", "template")
