"""The calibrated detector on stacks of the published experiment: the figures of docs/reproduction/outliers.md hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from outlier_cases import cases, make_case

from napari_pickbias.outliers.calibrated import fit_detector

SPECS = {spec.name: spec for spec in cases()}


def rates(keep: NDArray[np.bool_], labels: NDArray[np.int8]) -> tuple[float, float]:
    """Return the share of inliers kept, and the mean share rejected of the three kinds of outliers."""
    return float(keep[labels == 0].mean()), float(np.mean([1 - keep[labels == kind].mean() for kind in (1, 2, 3)]))


# Of seed 0; 1000 inliers and 333 of each kind leave a binomial deviation of .004 in both figures.
@pytest.mark.parametrize(
    ("name", "kept", "rejected"),
    [
        ("70S 1/20 white 33", 0.98, 0.97),  # 1.000, .992
        ("70S 1/70 white 33", 0.97, 0.97),  # .984, .980
        ("5295 P1.4 white 33", 0.98, 0.97),  # .998, .993: guards the factors of elongated molecules
        ("70S 1/20 pow/index 33", 0.98, 0.95),  # .997, .982
        ("5295 P1.4 amp/index 33", 0.97, 0.95),  # .992, .984: .76 with a fixed number of factors
    ],
)
def test_default_verdicts(data_dir: Path, name: str, kept: float, rejected: float) -> None:
    images, labels, radius = make_case(SPECS[name], data_dir, 0)
    detector = fit_detector(images, radius, rng=np.random.default_rng(0))
    tpr, tnr = rates(detector.evaluate(images)["keep"], labels)
    assert tpr >= kept
    assert tnr >= rejected


def test_a_fit_from_few_images_or_from_much_junk_is_as_good(data_dir: Path) -> None:
    images, labels, radius = make_case(SPECS["70S 1/20 white 33"], data_dir, 0)
    rng = np.random.default_rng(1)
    few = rng.choice(len(images), 500, replace=False)
    junk = np.concatenate([np.flatnonzero(labels == 0)[:300], np.flatnonzero(labels != 0)])
    for chosen in (few, junk):
        detector = fit_detector(images[chosen], radius, rng=np.random.default_rng(0))
        tpr, tnr = rates(detector.evaluate(images)["keep"], labels)
        assert tpr == pytest.approx(1.0, abs=0.02)
        assert tnr == pytest.approx(0.99, abs=0.02)
