"""Volumes of the search: coarsening in slabs, peaks in slabs, and where picks become sure."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import numpy as np
import pytest
import scipy.signal

from napari_pickbias.errors import InputError
from napari_pickbias.imaging.fourier import fourier_resample_volume
from napari_pickbias.jobs import pick_tomograms_volumes
from napari_pickbias.jobs.pick_tomograms_decide import sure_from
from napari_pickbias.jobs.pick_tomograms_volumes import coarse_shape, coarsen, volume_peaks, watched
from napari_pickbias.matching import find_peaks
from napari_pickbias.matching.peaks import VOLUME_PEAK


@pytest.fixture
def _small_slabs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pick_tomograms_volumes, "SLAB_VOXELS", 1500)


@pytest.mark.usefixtures("_small_slabs")
def test_coarsening_in_slabs_is_resampling_along_each_axis(tmp_path: Path) -> None:
    volume = np.random.default_rng(0).normal(7, 2, (24, 24, 24)).astype(">f4")
    out = np.empty((12, 12, 12), np.float32)
    coarsen(volume, out, tmp_path)
    wanted = fourier_resample_volume(np.asarray(volume, np.float32), 12)
    np.testing.assert_allclose(out, wanted - volume.mean(dtype=np.float64), atol=2e-5)


@pytest.mark.usefixtures("_small_slabs")
def test_a_volume_that_stays_as_it_is_only_loses_its_mean(tmp_path: Path) -> None:
    volume = np.random.default_rng(1).integers(-90, 90, (7, 20, 30)).astype(np.int8)
    out = np.empty(volume.shape, np.float32)
    coarsen(volume, out, tmp_path)
    np.testing.assert_allclose(out, volume - volume.mean(), atol=1e-5)


@pytest.mark.parametrize(
    ("value", "line"),
    [
        (np.nan, "holds NaN or infinite voxels; mend or leave out that tomogram"),
        (3.0, "is constant; leave out that tomogram"),
    ],
)
def test_unusable_tomograms(tmp_path: Path, value: float, line: str) -> None:
    with pytest.raises(InputError) as fault:
        coarsen(np.full((6, 6, 6), value, np.float32), np.empty((4, 4, 4), np.float32), tmp_path)
    assert str(fault.value) == line


def test_coarse_sides_are_even_and_never_larger() -> None:
    assert coarse_shape((48, 97, 51), 0.5) == (24, 50, 26)
    assert coarse_shape((48, 97, 51), 1.0) == (48, 97, 51)
    assert coarse_shape((3, 97, 51), 0.99) == (3, 97, 51)


@pytest.mark.usefixtures("_small_slabs")
def test_peaks_in_slabs_are_those_of_the_whole() -> None:
    rng = np.random.default_rng(2)
    scores = scipy.signal.fftconvolve(rng.normal(size=(90, 20, 22)), np.ones((3, 3, 3)), "same").astype(np.float32)
    scores[:3] = -np.inf
    best = rng.integers(0, 9, scores.shape).astype(np.int16)
    found = pick_tomograms_volumes._peaks(scores, best, 4.0)
    whole = find_peaks(scores, best, -1e30, 4.0)
    assert len(found) > 50
    for name in ("score", "template"):
        np.testing.assert_array_equal(found[name], whole[name])
    for name in "zyx":
        np.testing.assert_allclose(found[name], whole[name], atol=1e-5)


def test_work_in_a_thread_tells_and_stops() -> None:
    def work(told: object) -> np.ndarray:
        for count in range(1, 4):
            told(count, 3)  # type: ignore[operator]
        return np.arange(5)

    def whole() -> Generator[int, None, np.ndarray]:
        return (yield from watched(work))

    job = whole()
    assert [next(job) for _ in range(3)] == [1, 2, 3]
    with pytest.raises(StopIteration) as end:
        next(job)
    assert end.value.value.tolist() == [0, 1, 2, 3, 4]

    reached: list[int] = []

    def endless(told: object) -> np.ndarray:
        while True:
            reached.append(1)
            told(len(reached), 10)  # type: ignore[operator]

    job = watched(endless)
    next(job)
    job.close()
    settled = len(reached)
    assert len(reached) == settled


def table(*scores: float) -> np.ndarray:
    made = np.zeros(len(scores), VOLUME_PEAK)
    made["score"] = scores
    return made


def test_sure_scores_have_at_most_half_as_many_noise_peaks_above() -> None:
    assert sure_from(table(9, 8, 5, 4), [table(6, 4.5, 4.2, 4.1), table(5.5, 4.3)]) == 5
    assert sure_from(table(9, 8, 5, 4), [table(6, 5.8, 5.7, 5.6), table(5.5, 5.2)]) == 8
    assert sure_from(table(4, 3), [table(6, 3)]) == np.inf
    assert sure_from(table(), [table(6, 3)]) == np.inf


def test_volume_peaks_takes_its_maps_from_files(tmp_path: Path) -> None:
    from napari_pickbias.imaging.phantoms import blob_volume, phantom
    from napari_pickbias.matching import score_volume, volume_bank

    bank = volume_bank(blob_volume(phantom(3.5, count=9), 12), 10.0, 120.0)
    volume = np.random.default_rng(3).normal(size=(20, 24, 22)).astype(np.float32)
    sd = np.linspace(0.8, 1.2, len(bank))
    wanted = find_peaks(*score_volume(volume, bank, 1, noise_sd=sd), -1e30, 3.0)
    np.testing.assert_array_equal(volume_peaks(volume, bank, sd, 3.0, 1, tmp_path), wanted)
    assert {path.name for path in tmp_path.iterdir()} == {"scores.npy", "best.npy"}
