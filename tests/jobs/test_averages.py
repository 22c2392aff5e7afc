"""Averages of sets of images against NumPy's own."""

from __future__ import annotations

import numpy as np
import pytest

from napari_pickbias.errors import InputError
from napari_pickbias.jobs import averages
from napari_pickbias.jobs.averages import average_job
from napari_pickbias.records import MemoryImages


def finish(steps):
    seen = []
    while True:
        try:
            seen.append(next(steps))
        except StopIteration as end:
            return end.value, seen


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(2).normal(3, 2, (40, 8, 8)).astype(np.float32)


def test_mean_deviation_and_power_are_those_of_the_set(images, monkeypatch) -> None:
    monkeypatch.setattr(averages, "CHUNK_BYTES", 7 * 8 * 8 * 8)  # several chunks
    odd = np.arange(1, 40, 2)
    (one, two), seen = finish(average_job(MemoryImages(images), {"odd": odd, "none": odd[:0], "first": np.arange(3)}))
    assert (one.name, one.count, two.name, two.count) == ("odd", 20, "first", 3)
    assert np.allclose(one.mean, images[odd].mean(axis=0), atol=1e-5)
    assert np.allclose(one.deviation, images[odd].std(axis=0), atol=1e-5)
    assert np.allclose(one.power, (np.abs(np.fft.rfft2(images[odd].astype(float))) ** 2).mean(axis=0), rtol=1e-6)
    assert [p.done for p in seen] == [7, 14, 20, 23]
    assert {p.total for p in seen} == {23}


def test_large_sets_are_represented_evenly_and_images_with_nan_left_out(images) -> None:
    images[0, 0, 0] = np.nan
    (one,), _ = finish(average_job(MemoryImages(images), {"all": np.arange(40)}, most=4))
    rows = [13, 26, 39]
    assert one.count == 3
    assert np.allclose(one.mean, images[rows].mean(axis=0), atol=1e-5)


def test_faults_are_told(images) -> None:
    with pytest.raises(InputError, match="averages: no images are chosen; keep or reject some first"):
        finish(average_job(MemoryImages(images), {"kept": np.empty(0, int)}))

    class Mixed(MemoryImages):
        @property
        def box_sizes(self) -> np.ndarray:
            return np.where(np.arange(len(self)) < 5, 8, 10)

    with pytest.raises(InputError, match="the images are 8, 10 px wide; open one box size at a time"):
        finish(average_job(Mixed(images), {"all": np.arange(40)}))
