"""Stacks and fitted detectors that several tests of the calibrated detector share."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_pickbias.imaging.simulation import published_stack
from napari_pickbias.outliers.calibrated import CalibratedDetector, fit_detector


class LabelledStack(NamedTuple):
    images: NDArray[np.float32]
    labels: NDArray[np.int8]  # 0 inlier, 1 multiple, 2 noise, 3 partial
    radius_px: float
    noise_std_full: float  # before the crop from 85 px


def _phantom_volume() -> NDArray[np.float32]:
    """Make an asymmetric molecule of five Gaussian lobes in a cube of 65."""
    z, y, x = np.indices((65, 65, 65)) - 32.0
    volume = np.zeros((65, 65, 65))
    lobes = [(0, 0, 0, 7, 1.0), (12, 3, -2, 4, 0.8), (-8, 9, 3, 4, 0.9), (2, -11, 6, 3.5, 1.0), (-3, 2, -13, 3.5, 0.9)]
    for cz, cy, cx, width, height in lobes:
        volume += height * np.exp(-((z - cz) ** 2 + (y - cy) ** 2 + (x - cx) ** 2) / (2 * width**2))
    return volume.astype(np.float32)


def _phantom_stack(snr: float, colour: str, seed: int, counts: tuple[int, int, int, int]) -> LabelledStack:
    stack = published_stack(_phantom_volume(), snr, np.random.default_rng(seed), counts=counts, colour=colour)
    return LabelledStack(stack.images, stack.labels, 8.5, stack.noise_std)


@pytest.fixture(scope="session")
def make_phantom() -> Callable[..., LabelledStack]:
    """Return the maker of stacks of the published experiment with a phantom: (snr, colour, seed, counts)."""
    return _phantom_stack


@pytest.fixture(scope="session")
def phantom() -> LabelledStack:
    """White noise at the paper's SNR of 1/20."""
    return _phantom_stack(1 / 20, "white", 0, (400, 130, 130, 130))


@pytest.fixture(scope="session")
def detector(phantom: LabelledStack) -> CalibratedDetector:
    return fit_detector(phantom.images, phantom.radius_px, rng=np.random.default_rng(0))
