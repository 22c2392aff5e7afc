"""The verdict from three log-odds: kept only where all tests pass; the reason is the test failed by most."""

from __future__ import annotations

import numpy as np
import pytest

from napari_pickbias.outliers.calibration import Calibration, decide


def calibration(noise: float) -> Calibration:
    return Calibration(noise, 0.0, 0.0, np.zeros(1))


@pytest.mark.parametrize(
    ("log_odds", "reason"),
    [
        ((5.0, 5.0, 5.0), 0),
        ((5.0, 0.0, 5.0), 2),  # even odds are not enough
        ((-1.0, 2.0, 3.0), 1),
        ((-1.0, -9.0, 3.0), 2),  # a particle at the edge leaves little in the middle: partial, not noise
        ((-1.0, 4.0, -2.0), 3),
        ((-3.0, -2.0, -1.0), 1),
        ((5.0, 5.0, np.inf), 0),  # no room for a second particle
    ],
)
def test_the_reason_is_the_test_failed_by_most(log_odds: tuple[float, float, float], reason: int) -> None:
    assert decide(np.array([log_odds]), calibration(0.0)).tolist() == [reason]


def test_the_noise_threshold_counts_from_where_it_was_set() -> None:
    each = np.array([[5.0, 5.0, 5.0], [7.0, 5.0, 5.0], [5.0, -0.5, 5.0], [5.0, -1.5, 5.0]])
    assert decide(each, calibration(6.0)).tolist() == [1, 0, 1, 2]
