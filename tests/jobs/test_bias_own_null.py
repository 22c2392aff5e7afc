"""Picks of a program against its picks of noise: counts, intervals, and false shares that are known."""

from __future__ import annotations

import numpy as np
import pytest

from napari_pickbias.jobs.bias_picker import own_null, peak_table

SIDE = 2000


def drawn(rng: np.random.Generator, true: int, false: float) -> np.ndarray:
    """Picks all over a large area: true ones score about 8, false ones as noise does, about 2."""
    count = rng.poisson(false)
    scores = np.concatenate([rng.normal(8, 1, true), rng.exponential(1.0, count) + 2])
    return peak_table(rng.uniform(0, SIDE, (true + count, 2)), scores)


def test_false_share_is_found_by_the_own_score() -> None:
    rng = np.random.default_rng(0)
    real = [drawn(rng, 60, 40) for _ in range(12)]
    noise = [[drawn(rng, 0, 40) for _ in range(2)] for _ in range(12)]
    found = own_null(real, noise, 10.0, np.random.default_rng(1))
    assert found.observed == sum(len(table) for table in real)
    assert found.expected == pytest.approx(480, rel=0.1)
    assert found.low < 480 < found.high
    assert found.high - found.low < 150
    # 40 of 100 are false
    assert found.rate.value == pytest.approx(0.4, abs=0.06)
    assert found.rate.low < found.rate.value < found.rate.high
    assert found.curve is not None
    # exp(-3) of the false ones score above 5
    at = float(np.interp(5.0, found.curve.thresholds, found.curve.fdr))
    assert at == pytest.approx(40 * np.exp(-3) / (60 + 40 * np.exp(-3)), abs=0.03)


def test_without_scores_counts_alone_are_compared() -> None:
    rng = np.random.default_rng(2)
    places = [rng.uniform(0, SIDE, (100, 2)) for _ in range(8)]
    noise = [[peak_table(rng.uniform(0, SIDE, (30, 2)), None)] for _ in range(8)]
    found = own_null([peak_table(p, None) for p in places], noise, 10.0, np.random.default_rng(1))
    assert found.curve is None
    assert found.rate.value == pytest.approx(0.3, abs=0.04)


def test_a_program_that_takes_nothing_from_noise_has_an_upper_end_above_nothing() -> None:
    rng = np.random.default_rng(3)
    real = [drawn(rng, 20, 0) for _ in range(3)]
    found = own_null(real, [[peak_table(np.zeros((0, 2)), None)] for _ in range(3)], 10.0, np.random.default_rng(1))
    assert found.expected == 0
    assert found.low == 0
    assert found.high == pytest.approx(3.69, abs=0.01)  # Garwood's upper end of no count
    assert found.rate.value == 0
    nothing = own_null([peak_table(np.zeros((0, 2)), None)], [[drawn(rng, 0, 9)]], 10.0, np.random.default_rng(1))
    assert nothing.observed == 0
    assert np.isnan(nothing.rate.value)
