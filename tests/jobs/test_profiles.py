"""Radial profiles of single images, and the figures about a selection."""

from __future__ import annotations

import numpy as np
import pytest

from napari_pickbias.errors import InputError
from napari_pickbias.imaging.fourier import radial_mean
from napari_pickbias.jobs import profiles
from napari_pickbias.jobs.profiles import profile_job
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


def test_each_image_has_its_own_profile(images, monkeypatch) -> None:
    monkeypatch.setattr(profiles, "CHUNK_BYTES", 7 * 8 * 8 * 8)  # several chunks
    rows = np.array([3, 1, 30, 5, 6, 7, 8, 9, 11])
    found, seen = finish(profile_job(MemoryImages(images), rows))
    assert np.allclose(found.values, [radial_mean(images[k]) for k in rows])
    assert (found.of, len(found)) == (9, 9)
    assert [p.done for p in seen] == [7, 9]


def test_a_disc_is_a_step() -> None:
    y, x = np.mgrid[:16, :16] - 8
    disc = (np.hypot(y, x) < 4.5).astype(np.float32)[None]
    found, _ = finish(profile_job(MemoryImages(disc), np.array([0])))
    assert found.values[0].tolist() == [1] * 5 + [0] * 4


def test_many_are_represented_evenly_and_nan_is_left_out(images) -> None:
    images[0, 0, 0] = np.nan
    found, _ = finish(profile_job(MemoryImages(images), np.arange(40), most=4))
    assert np.allclose(found.values, [radial_mean(images[k]) for k in (13, 26, 39)])
    assert found.of == 40
    nothing, _ = finish(profile_job(MemoryImages(images), np.empty(0, np.int64)))
    assert nothing.of == 0
    assert len(nothing) == 0


def test_mixed_boxes_are_refused(images) -> None:
    class Mixed:
        box_sizes = np.array([8, 16])

    with pytest.raises(InputError, match="profiles: the images are 8, 16 px wide; open one box size at a time"):
        finish(profile_job(Mixed(), np.array([0, 1])))
