"""The outlier job: the same verdicts whatever the chunks, threads and interruptions; groups, contrast, limits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pytest
from support import blob_stack

from napari_pickbias.errors import InputError
from napari_pickbias.imaging.fourier import fourier_crop
from napari_pickbias.jobs import outlier_stream
from napari_pickbias.jobs.outlier_groups import plan_groups
from napari_pickbias.jobs.outlier_parameters import OutlierParameters
from napari_pickbias.jobs.outliers import OutlierResult, outlier_job
from napari_pickbias.jobs.progress import Progress
from napari_pickbias.records import CtfParameters, Particles
from napari_pickbias.records.images import MemoryImages

PIXEL = 4.0
RADIUS = 36.0  # 9 px


def particles_of(images: np.ndarray, pixel: float = PIXEL, **more: Any) -> Particles:
    n = len(images)
    return Particles(MemoryImages(images), np.full(n, pixel), np.zeros(n, dtype=np.int64), **more)


def run(particles: Particles, threads: int = 1, checkpoints: Any = None, **values: Any) -> OutlierResult:
    # A small working box makes the fit cheap; the detector's own tests use the full size.
    values = {"working_box": 21, **values}
    job = outlier_job(particles, OutlierParameters(radius=RADIUS, **values), threads=threads, checkpoints=checkpoints)
    while True:
        try:
            next(job)
        except StopIteration as end:
            return end.value


class Kept:
    """Checkpoints in memory, which count how often they serve."""

    def __init__(self) -> None:
        self.pieces: dict[str, dict[str, np.ndarray]] = {}
        self.served: list[str] = []

    def load(self, name: str) -> dict[str, np.ndarray] | None:
        if name in self.pieces:
            self.served.append(name)
        return self.pieces.get(name)

    def save(self, name: str, arrays: Mapping[str, np.ndarray]) -> None:
        assert name not in self.pieces
        self.pieces[name] = {key: np.array(value) for key, value in arrays.items()}


@pytest.fixture(scope="module")
def stack() -> tuple[np.ndarray, np.ndarray]:
    return blob_stack(300, 60)


@pytest.fixture(scope="module")
def result(stack: tuple[np.ndarray, np.ndarray]) -> OutlierResult:
    return run(particles_of(stack[0]))


def test_every_kind_is_told_apart(stack: tuple[np.ndarray, np.ndarray], result: OutlierResult) -> None:
    labels = stack[1]
    kept = result.table["keep"].to_numpy()
    # Kept over four seeds: inliers 1.00, multiple .03-.05, noise 0-.02, partial 0.
    for label, lowest, highest in ((0, 0.97, 1.0), (1, 0.0, 0.15), (2, 0.0, 0.07), (3, 0.0, 0.05)):
        assert lowest <= kept[labels == label].mean() <= highest
    counts = result.counts
    assert sum(counts.values()) == len(labels) == len(result.table)
    assert counts["kept"] == kept.sum()
    assert ((result.table["reason"] == "kept") == kept).all()


def test_lengths_are_in_angstrom(result: OutlierResult) -> None:
    assert not [name for name in result.table.columns if name.endswith("_px")]
    kept = result.table[result.table["keep"]]
    # Inliers were displaced by N(0, 1.2 px) on each axis of the 33-px box.
    assert 0.8 * PIXEL < kept["center_y_angstrom"].std() < 1.6 * PIXEL
    group = result.groups[0].group
    assert group.working_box_px == 21
    assert group.radius_px == pytest.approx(9.0 * 21 / 33)


def test_sums_give_the_average_of_each_reason(stack: tuple[np.ndarray, np.ndarray], result: OutlierResult) -> None:
    images = fourier_crop(stack[0], 21)
    for reason, sums in result.groups[0].sums.items():
        members = images[(result.table["reason"] == reason).to_numpy()]
        assert sums.count == len(members)
        np.testing.assert_allclose(sums.image / sums.count, members.mean(axis=0), atol=1e-4)
        spectra = np.abs(np.fft.rfft2(members - members.mean(axis=(1, 2), keepdims=True))) ** 2
        np.testing.assert_allclose(sums.power / sums.count, spectra.mean(axis=0), rtol=1e-3)


def test_examples_are_particles_of_their_reason(result: OutlierResult) -> None:
    reasons = result.table["reason"]
    assert {e.reason for e in result.examples} == set(reasons.unique())
    for example in result.examples:
        assert reasons[example.row] == example.reason
        assert example.image.shape == (21, 21)


@pytest.mark.parametrize("method", ["calibrated", "reference"])
def test_threads_and_chunks_change_nothing(
    stack: tuple[np.ndarray, np.ndarray], method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    particles = particles_of(stack[0])
    whole = run(particles, method=method)
    monkeypatch.setattr(outlier_stream, "CHUNK_IMAGES", 37)
    monkeypatch.setattr(outlier_stream, "READ_BYTES", 10 * 4 * 33 * 33)
    cut = run(particles, threads=3, method=method)
    pd.testing.assert_frame_equal(whole.table[["keep", "reason"]], cut.table[["keep", "reason"]])
    pd.testing.assert_frame_equal(whole.table, cut.table, rtol=1e-3, atol=1e-3)


def test_the_same_seed_gives_the_same_table(stack: tuple[np.ndarray, np.ndarray], result: OutlierResult) -> None:
    pd.testing.assert_frame_equal(run(particles_of(stack[0]), threads=2).table, result.table)


def test_an_interrupted_job_goes_on_with_the_same_result(
    stack: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outlier_stream, "CHUNK_IMAGES", 64)
    particles = particles_of(stack[0])
    whole = run(particles)
    kept = Kept()
    parameters = OutlierParameters(radius=RADIUS, working_box=21)
    job = outlier_job(particles, parameters, threads=2, checkpoints=kept)
    for progress in job:
        if progress.stage == "judge" and progress.done >= 128:
            break
    job.close()
    assert "learned_000" in kept.pieces
    finished = [name for name in kept.pieces if name.startswith("scores")]
    assert 2 <= len(finished) < 8
    again = run(particles, threads=2, checkpoints=kept)
    assert set(finished) | {"learned_000"} <= set(kept.served)
    pd.testing.assert_frame_equal(again.table, whole.table)
    for reason, sums in whole.groups[0].sums.items():
        np.testing.assert_array_equal(sums.image, again.groups[0].sums[reason].image)


def test_progress_counts_up_to_the_number_of_particles(stack: tuple[np.ndarray, np.ndarray]) -> None:
    steps = list(outlier_job(particles_of(stack[0]), OutlierParameters(radius=RADIUS, method="reference")))
    judged = [s for s in steps if s.stage == "judge"]
    assert all(isinstance(s, Progress) for s in steps)
    assert [s.done for s in judged] == sorted(s.done for s in judged)
    assert judged[-1].done == judged[-1].total == len(stack[0])


def test_dark_particles_are_found_and_judged_alike(stack: tuple[np.ndarray, np.ndarray], result: OutlierResult) -> None:
    dark = run(particles_of(-stack[0]))
    assert dark.groups[0].sign == -1
    pd.testing.assert_frame_equal(dark.table, result.table)


def test_a_wrongly_stated_contrast_is_refused(stack: tuple[np.ndarray, np.ndarray]) -> None:
    with pytest.raises(
        InputError, match=r"--contrast black: the images say the opposite .* use --contrast white or auto"
    ):
        run(particles_of(stack[0]), contrast="black")


def test_groups_of_other_pixel_sizes_are_judged_apart_and_equal_ones_pooled() -> None:
    n = 20
    particles = Particles(
        MemoryImages(np.zeros((n, 64, 64), np.float32)),
        np.repeat([2.0, 2.0000001, 4.0, 2.0], 5),
        np.repeat([0, 1, 2, 3], 5),
        ("a", "b", "c", "d"),
    )
    groups = plan_groups(particles, OutlierParameters(radius=40.0))
    assert [g.rows.tolist() for g in groups] == [[*range(10), *range(15, 20)], list(range(10, 15))]
    assert [g.name for g in groups] == ["a, b, d (64 px, 2 Å/px)", "c (64 px, 4 Å/px)"]
    # 64 px x 2 Å x 9 px / 40 Å = 28.8: the odd size at or below keeps a pixel at the centre.
    assert groups[0].working_box_px == 29
    assert groups[0].radius_px == pytest.approx(40 / (2 * 64 / 29))
    assert groups[1].working_box_px == 57


def test_two_optics_groups_are_both_judged() -> None:
    first, labels = blob_stack(200, 30, seed=1)
    second, _ = blob_stack(200, 30, seed=2)
    images = np.concatenate([first, second])
    n = len(images)
    particles = Particles(
        MemoryImages(images), np.repeat([4.0, 3.9], len(first)), np.repeat([0, 1], len(first)), ("one", "two")
    )
    result = run(particles)
    assert [len(g.group.rows) for g in result.groups] == [len(first), len(second)]
    kept = result.table["keep"].to_numpy().reshape(2, n // 2)
    assert (kept[:, labels == 0].mean(axis=1) > 0.95).all()
    assert (kept[:, labels == 2].mean(axis=1) < 0.1).all()


def test_a_hopeless_stack_loses_nothing_unless_asked() -> None:
    images, _ = blob_stack(240, 40, signal=0.12, seed=3)
    result = run(particles_of(images), contrast="white")
    assert result.table["keep"].all()
    assert result.expected_fdr is None
    assert any("too weak to tell particles from noise, so nothing was removed" in text for text in result.warnings)
    assert set(result.groups[0].sums) == {"kept"}
    forced = run(particles_of(images), contrast="white", remove_when_hopeless=True)
    assert forced.counts["kept"] < len(images)


def test_damaged_images_are_rejected_and_do_not_spoil_the_rest(stack: tuple[np.ndarray, np.ndarray]) -> None:
    images = stack[0].copy()
    images[5] = np.nan
    images[7] = 3.0
    images[9, 4, 4] = np.inf
    result = run(particles_of(images))
    assert (result.table["reason"][[5, 7, 9]] == "noise").all()
    assert result.table["keep"].to_numpy()[:300].mean() > 0.97


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (
            {"radius": None},
            "--radius is missing: give the particle's radius in Å (half its longest extent); the data do not state it",
        ),
        (
            {"radius": 36.0, "phase_flip": "yes"},
            "--phase-flip yes: the data carry no CTF columns; use --phase-flip no or add the CTF",
        ),
        ({"radius": 36.0, "working_box": 65}, "--working-box 65: larger than the images (33 px); give at most that"),
    ],
)
def test_faults_of_the_parameters_are_one_line(
    stack: tuple[np.ndarray, np.ndarray], values: dict[str, Any], text: str
) -> None:
    with pytest.raises(InputError) as fault:
        next(outlier_job(particles_of(stack[0]), OutlierParameters(**values)))
    assert str(fault.value) == text


def test_no_particles_is_a_fault() -> None:
    with pytest.raises(InputError, match="holds no particles"):
        next(outlier_job(particles_of(np.zeros((0, 33, 33), np.float32)), OutlierParameters(radius=RADIUS)))


def test_a_box_smaller_than_the_particle_is_refused(stack: tuple[np.ndarray, np.ndarray]) -> None:
    with pytest.raises(InputError) as fault:
        run(particles_of(stack[0], pixel=2.0))
    assert str(fault.value) == (
        "--radius 36: the images (33 px = 66 Å) are too small for a particle of that radius, central and off-centre "
        "ones look alike; extract boxes of at least 48 px (better 65), or give the radius that holds nearly all of the "
        "mass, at most 25 Å here"
    )


def test_a_radius_in_px_is_refused_at_once(stack: tuple[np.ndarray, np.ndarray]) -> None:
    """It would fit and judge for hours: positions and pixels both grow with the square of the box over the radius."""
    with pytest.raises(InputError) as fault:
        plan_groups(particles_of(stack[0], pixel=4.0), OutlierParameters(radius=9))
    assert str(fault.value) == (
        "--radius 9: the images (33 px = 132 Å) are more than 5 such particles wide; give the radius in Å (9 px would "
        "be 36 Å here), or extract boxes of at most 22 px"
    )


def test_the_diameter_in_the_data_serves_where_no_radius_is_given(stack: tuple[np.ndarray, np.ndarray]) -> None:
    groups = plan_groups(particles_of(stack[0], particle_diameter_angstrom=2 * RADIUS), OutlierParameters(radius=None))
    assert groups[0].radius_px == pytest.approx(9.0)


def test_phases_are_flipped_with_the_data_s_ctf() -> None:
    images, labels = blob_stack(200, 30, seed=4)
    n = len(images)
    one = np.ones(n)
    ctf = CtfParameters(15000 * one, 15000 * one, 0 * one, 300 * one, 2.7 * one, 0.1 * one, 0 * one)
    result = run(particles_of(images, ctf=ctf))
    assert result.groups[0].group.flip
    assert not any("no CTF" in text for text in result.warnings)
    flipped = run(particles_of(images, ctf=ctf, phase_flipped=True))
    assert not flipped.groups[0].group.flip
    assert flipped.table["keep"].to_numpy()[labels == 0].mean() > 0.95
