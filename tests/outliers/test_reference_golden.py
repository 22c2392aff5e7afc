"""Verdicts of the published program, on its own kind of images."""

from __future__ import annotations

import numpy as np
import pytest

from napari_pickbias.outliers.reference import reference_verdicts

LEVELS = ("1_10", "1_20", "1_40", "1_70")


def load(data_dir, level):
    return np.load(data_dir / "outlier-golden" / f"outlier_golden_d33_snr{level}.npz")


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("level", LEVELS)
def test_verdicts_equal_the_published_programs(data_dir, level, dtype) -> None:
    golden = load(data_dir, level)
    assert golden["images"].shape == (400, 33, 33)
    for radius in (3, 5, 9):
        for kernel in (9, 10):
            verdicts = reference_verdicts(golden["images"], radius, kernel_px=kernel, dtype=dtype)
            differ = np.flatnonzero(verdicts["keep"] != golden[f"keep_r{radius}_k{kernel}"])
            assert differ.size == 0, f"r={radius}, k={kernel}: images {differ}"


@pytest.mark.parametrize("level", LEVELS)
def test_a_stack_without_its_outliers_keeps_its_verdicts(data_dir, level) -> None:
    # the stack's mean changes with its content, yet no image here is darker than either mean everywhere
    golden = load(data_dir, level)
    inliers = golden["label"] == 0
    verdicts = reference_verdicts(golden["images"][inliers], 5, kernel_px=10)
    np.testing.assert_array_equal(verdicts["keep"], golden["keep_r5_k10"][inliers])
