"""The soft-modes job: refusals in one line each, and what-if figures."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import numpy as np
import pytest

from napari_pickbias.errors import InputError
from napari_pickbias.imaging.phantoms import blob_volume, phantom
from napari_pickbias.imaging.rotations import random_euler
from napari_pickbias.imaging.volumes import soft_ball
from napari_pickbias.jobs.softmodes import SoftmodesResult, softmodes_job
from napari_pickbias.jobs.softmodes_parameters import SoftmodesParameters
from napari_pickbias.records import CtfParameters, MemoryImages, Particles, Poses, Volume

SIZE = 12


def particles(count: int = 24, euler: np.ndarray | None = None, *, poses: bool = True, ctf: bool = False) -> Particles:
    angles = random_euler(count, np.random.default_rng(0)) if euler is None else euler
    values = [15000.0, 14000.0, 30.0, 300.0, 2.7, 0.1, 0.0]
    return Particles(
        images=MemoryImages(np.zeros((count, 1, 1), np.float32)),
        pixel_size_angstrom=np.full(count, 4.0),
        optics_group=np.zeros(count, np.int64),
        ctf=CtfParameters(*[np.full(count, value) for value in values]) if ctf else None,
        poses=Poses(angles, np.zeros((count, 2))) if poses else None,
    )


MAP = Volume(blob_volume(phantom(3.4), SIZE), 4.0)


def run(job: Generator[Any, None, SoftmodesResult]) -> SoftmodesResult:
    while True:
        try:
            next(job)
        except StopIteration as end:
            result: SoftmodesResult = end.value
            return result


def solve(
    volume: Volume = MAP, data: Particles | None = None, mask: Volume | None = None, **more: Any
) -> SoftmodesResult:
    return run(softmodes_job(volume, data or particles(), SoftmodesParameters(**{"modes": 1, **more}), mask))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"data": particles(poses=False)}, "--particles: has no poses (rlnAngleRot, rlnAngleTilt, rlnAnglePsi); give "),
        ({"data": particles(1)}, "--particles: holds 1 particle; a map from it has no soft modes"),
        (
            {"data": particles(euler=np.tile([10.0, 50.0, 0.0], (24, 1)))},
            "--particles: all views are the same, so one slice of the map is all that they tell",
        ),
        ({"data": particles(euler=np.full((24, 3), np.nan))}, "--particles: some angles are no numbers"),
        ({"box": 16}, "--box 16: is larger than the map, 12 voxels; give at most that"),
        ({"volume": Volume(np.ones((8, 12, 12), np.float32), 4.0)}, "--map: its box is 8 × 12 × 12 voxels, not a cube"),
        ({"volume": Volume(np.zeros((12, 12, 12), np.float32), 4.0)}, "--map: holds NaN, or nothing but zeros"),
        ({"volume": Volume(np.ones((6, 6, 6), np.float32), 4.0)}, "--map: its box has 6 voxels a side"),
        ({"mask": Volume(np.zeros((12, 12, 12), np.float32), 4.0)}, "--mask: is empty, or nearly so: 0 of 12³"),
        ({"mask": Volume(np.ones((8, 8, 8), np.float32), 4.0)}, "--mask: has 8 × 8 × 8 voxels, the map 12 × 12 × 12"),
        ({"views": "sideways"}, "--views sideways: not a view distribution"),
        ({"add_views": "polar:0"}, "--add-views polar:0: not a view distribution"),
    ],
)
def test_what_cannot_be_answered_is_refused_in_one_line(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as error:
        solve(**arguments)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_added_views_help_where_views_are_missing() -> None:
    rng = np.random.default_rng(1)
    from napari_pickbias.imaging.rotations import Views

    polar = particles(40, random_euler(40, rng, Views("polar", 30.0)))
    result = solve(data=polar, add_views="uniform", seed=3)
    assert result.added is not None
    # Images twice as many, half of them from everywhere: the missing cone is filled.
    assert result.added.eigenvalues[0] > 5 * result.found.eigenvalues[0]
    assert any("views are missing" in text for text in result.warnings)


def test_more_particles_need_no_new_answer_but_a_smaller_amplitude() -> None:
    few, many = solve(), solve(particles_count=2400)
    np.testing.assert_allclose(few.found.eigenvalues, many.found.eigenvalues, rtol=1e-4)
    np.testing.assert_allclose(few.found.amplitudes, 10 * many.found.amplitudes, rtol=1e-3)


def test_noise_scales_amplitudes_by_its_root_and_the_ctf_takes_information() -> None:
    usual = solve()
    loud = solve(noise=4 * 13.0)
    np.testing.assert_allclose(loud.found.amplitudes, 2 * usual.found.amplitudes, rtol=1e-6)
    with_ctf = solve(data=particles(ctf=True))
    assert with_ctf.found.eigenvalues[0] < usual.found.eigenvalues[0]
    assert not any("CTF" in text for text in with_ctf.warnings)


def test_many_particles_become_weighted_views() -> None:
    result = solve(data=particles(300), most_views=64)
    assert len(result.rotations) <= 64
    assert result.weights.sum() == 300
    assert result.row_view is not None
    assert len(result.row_view) == 300
    assert any("300 particles are computed as" in text for text in result.warnings)


def test_a_mask_confines_the_modes() -> None:
    mask = soft_ball(SIZE, 4.2)
    result = solve(mask=Volume(mask, 4.0))
    assert not result.found.modes[:, mask < 0.5].any()
