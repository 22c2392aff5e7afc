"""The soft-modes job: refusals in one line each, and what-if figures."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from napari_pickbias.errors import InputError
from napari_pickbias.imaging.phantoms import blob_volume, phantom
from napari_pickbias.imaging.rotations import Views, angular_distance_deg, random_euler, random_rotations
from napari_pickbias.imaging.volumes import soft_ball
from napari_pickbias.jobs.softmodes import SoftmodesResult, softmodes_job
from napari_pickbias.jobs.softmodes_inputs import SoftmodesInputs
from napari_pickbias.jobs.softmodes_parameters import SoftmodesParameters
from napari_pickbias.jobs.softmodes_whatif import tilted
from napari_pickbias.records import CtfParameters, MemoryImages, Particles, Poses, Volume
from napari_pickbias.records.noise import NoiseSpectra
from napari_pickbias.softmodes.modes import mean_energy

SIZE = 12


def particles(count: int = 24, euler: np.ndarray | None = None, *, poses: bool = True, ctf: bool = False) -> Particles:
    angles = random_euler(count, np.random.default_rng(0)) if euler is None else euler
    values = [15000.0, 14000.0, 30.0, 300.0, 2.7, 0.1, 0.0]
    return Particles(
        images=MemoryImages(np.zeros((count, SIZE, SIZE), np.float32)),
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
    polar = particles(40, random_euler(40, rng, Views("polar", 30.0)))
    result = solve(data=polar, add_views="uniform", seed=3)
    assert len(result.scenarios) == 2
    # Images twice as many, half of them from everywhere: the missing cone is filled.
    assert result.scenarios[1].eigenvalues[0] > 5 * result.found.eigenvalues[0]
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


def doubled(count: int, first: str, second: str) -> np.ndarray:
    from napari_pickbias.imaging.rotations import parse_views

    rng = np.random.default_rng(4)
    return np.concatenate([random_euler(count, rng, parse_views(views)) for views in (first, second)])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"volume": Volume(MAP.data, 5.0)}, "--map: is of another scale than the particles: it has 5 Å × 12 voxels, "),
        ({"noise": "loud"}, "--noise loud: is neither a number above 0 nor a file"),
        ({"noise": "-3"}, "--noise -3: is neither a number above 0 nor a file"),
        ({"defocus": "low"}, "--defocus low: is no list of defoci in Å; give such as 10000,17000,23000"),
        ({"defocus": "10000"}, "--defocus: the particles have no CTF"),
        ({"add_views": "tilt:90"}, "--add-views tilt:90: is no stage tilt; give tilt:DEG with DEG above 0, at most 70"),
        ({"symmetry": "H3"}, "--symmetry H3: is not known; give C1, C2, "),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as error:
        solve(**change)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def solve_inputs(parameters: dict[str, Any], **inputs: Any) -> SoftmodesResult:
    given = {"volume": MAP, "particles": particles(), **inputs}
    return run(softmodes_job(SoftmodesInputs(**given), None, SoftmodesParameters(**{"modes": 1, **parameters})))


def test_a_binned_map_of_the_same_box_is_taken_with_a_note() -> None:
    coarse = particles()
    coarse = replace(coarse, pixel_size_angstrom=np.full(24, 2.0), images=MemoryImages(np.zeros((24, 24, 24))))
    result = solve(data=coarse)
    assert any("has another sampling than the particles, in the same box" in text for text in result.warnings)
    cropped = replace(coarse, pixel_size_angstrom=np.full(24, 4.0))
    assert any("taken as cropped or padded" in text for text in solve(data=cropped).warnings)


def test_noise_spectra_of_a_refinement_weigh_frequencies_and_groups() -> None:
    flat = NoiseSpectra(np.full((2, 7), 5.0), np.arange(24) % 2, SIZE, 4.0)
    number = solve(noise=str(5.0 * SIZE**2 / mean_energy(MAP.data, soft_ball(SIZE, 5) >= 0.5)))
    white = solve_inputs({"noise": "run_model.star"}, noise=flat)
    np.testing.assert_allclose(white.found.amplitudes, number.found.amplitudes, rtol=1e-6)
    assert not any("--noise" in text for text in white.warnings)
    loud = NoiseSpectra(np.stack([np.full(7, 5.0), np.full(7, 500.0)]), np.arange(24) % 2, SIZE, 4.0)
    half = solve_inputs({"noise": "run_model.star"}, noise=loud)
    # A hundred times the noise in half of the images leaves half of the information.
    ratio = (half.found.amplitudes / white.found.amplitudes)[0]
    assert 1.3 < ratio < 2
    with pytest.raises(InputError, match=r"is of a refinement with 3 Å pixels, the map has 4 Å"):
        solve_inputs({"noise": "run_model.star"}, noise=replace(flat, pixel_size_angstrom=3.0))


def test_half_maps_give_the_noise_and_equal_ones_are_refused() -> None:
    rng = np.random.default_rng(0)
    halves = tuple(
        Volume((MAP.data + 0.01 * rng.standard_normal(MAP.data.shape)).astype(np.float32), 4.0) for _ in "12"
    )
    loud = tuple(Volume(MAP.data + 4 * (half.data - MAP.data), 4.0) for half in halves)
    quiet, noisy = (solve_inputs({"noise": "half1.mrc"}, half_maps=pair) for pair in (halves, loud))
    np.testing.assert_allclose(noisy.found.amplitudes, 4 * quiet.found.amplitudes, rtol=1e-3)
    with pytest.raises(InputError, match="the half maps are the same, so they show no noise"):
        solve_inputs({"noise": "half1.mrc"}, half_maps=(MAP, MAP))


def test_views_of_another_file_and_added_ones() -> None:
    polar = particles(30, random_euler(30, np.random.default_rng(3), Views("polar", 25.0)))
    result = solve_inputs({"views": "polar.star"}, views=polar)
    assert result.coverage.kind == "polar"
    assert result.row_view is None
    assert [row.name for row in result.scenarios] == ["the data", "views polar.star"]
    assert result.scenarios[1].gain < 0.3
    more = solve_inputs({"add_views": "more.star"}, particles=polar, add_views=particles(30))
    assert more.scenarios[1].gain > 2
    assert more.scenarios[1].particles == 60
    with pytest.raises(InputError, match=r"--views bare\.star: has no poses"):
        solve_inputs({"views": "bare.star"}, views=particles(poses=False))


def test_a_tilted_stage_helps_polar_views_and_defocus_the_lowest_frequencies() -> None:
    polar = particles(40, random_euler(40, np.random.default_rng(3), Views("polar", 20.0)), ctf=True)
    result = solve(data=polar, add_views="tilt:40", defocus="8000,30000")
    names = [row.name for row in result.scenarios]
    assert names == ["the data", "as many particles again, tilt:40", "defocus 8000 Å", "defocus 30000 Å"]
    gains = [row.gain for row in result.scenarios]
    assert gains[0] == 1
    assert gains[1] > 1.5
    assert gains[3] > gains[2]


def test_advice_compares_tilts_and_particles_in_a_small_box() -> None:
    polar = particles(40, random_euler(40, np.random.default_rng(3), Views("polar", 20.0)))
    result = solve(data=polar, what_if=True)
    gains = {row.name: row.gain for row in result.advice}
    assert gains["the data"] == 1
    assert gains["2 times as many particles"] == 2
    assert gains["stage tilted by 40°"] > gains["stage tilted by 20°"] > 1
    assert any("would help most with the same number of particles: " in text for text in result.warnings)
    assert all(row.small_box for row in result.advice)


def test_a_tilt_turns_each_view_by_the_angle() -> None:
    rotations = random_rotations(50, np.random.default_rng(0))
    turned = tilted(rotations, 30.0, np.random.default_rng(1))
    np.testing.assert_allclose(angular_distance_deg(rotations, turned), 30)
    np.testing.assert_allclose(np.sum(rotations[:, 2] * turned[:, 2], axis=1), np.cos(np.radians(30)))


def test_the_error_of_binning_is_stated() -> None:
    result = solve(data=particles(300), most_views=64)
    assert result.binning_error is not None
    assert 0 < result.binning_error[0] < 0.3
    assert solve().binning_error is None


def test_a_symmetric_map_has_symmetric_modes() -> None:
    volume = np.zeros_like(MAP.data)
    volume[:, 1:, 1:] = (MAP.data[:, 1:, 1:] + MAP.data[:, :0:-1, :0:-1]) / 2  # about the voxel n // 2
    result = solve(Volume(volume, 4.0), symmetry="c2")
    mode = result.found.modes[0]
    np.testing.assert_allclose(mode[:, 1:, 1:], mode[:, :0:-1, :0:-1], atol=1e-9 * np.abs(mode).max())


def test_the_coarsest_changes_can_be_left_out() -> None:
    data = particles(96, ctf=True)
    assert data.ctf is not None
    low = np.full(96, 2000.0)  # next to no contrast at low frequencies
    data = replace(data, ctf=replace(data.ctf, defocus_u_angstrom=low, defocus_v_angstrom=low))
    usual, fine = solve(data=data), solve(data=data, coarsest=20.0)
    assert fine.found.eigenvalues[0] > 1.5 * usual.found.eigenvalues[0]


@pytest.mark.parametrize(
    ("first", "second", "code"),
    [
        ("uniform", "uniform", "determined"),
        ("polar:20", "polar:20", "polar"),
        ("equatorial:8", "equatorial:8", "equatorial"),
    ],
)
def test_the_verdict_names_the_views(first: str, second: str, code: str) -> None:
    result = solve(data=particles(96, doubled(48, first, second)))
    assert result.verdict.code == code
    assert "\n" not in result.verdict.text


def test_heterogeneity_made_by_splitting_views_is_named() -> None:
    """A map that differs by what equatorial views cannot tell, against one that differs by a moved domain."""
    data = particles(60, random_euler(60, np.random.default_rng(3), Views("equatorial", 2.0)))
    first = solve(data=data)
    mode = first.found.modes[0] * 0.1 / np.abs(first.found.modes[0]).max() * MAP.data.max()
    fake = Volume((MAP.data + mode).astype(np.float32), 4.0)
    result = solve_inputs({}, particles=data, path=(fake,))
    assert result.verdict.code == "spurious_difference"
    assert result.difference is not None
    assert result.difference.share_in_modes > 0.95
    assert result.difference.loss < 0.2 * result.difference.known_pose_loss
    assert len(result.path) == 5
    moved = np.array(MAP.data)
    moved[6:] = np.roll(moved[6:], 1, axis=2)
    real = solve_inputs({"path_steps": 3}, particles=particles(96), path=(Volume(moved, 4.0),))
    assert real.verdict.code == "determined"
    assert [point.position for point in real.path] == pytest.approx([0, 0.5, 1])
    with pytest.raises(InputError, match="--path-to: is the same map within the mask"):
        solve_inputs({}, path=(MAP,))
    with pytest.raises(InputError, match=r"--path-to: has 8 × 8 × 8 voxels, the map 12 × 12 × 12"):
        solve_inputs({}, path=(Volume(np.ones((8, 8, 8), np.float32), 4.0),))


def test_two_maps_of_data_split_by_view_are_one() -> None:
    """Each map has a soft mode of its own views added; one map would do for both sets, unless views are even."""
    sets = [particles(48, random_euler(48, np.random.default_rng(3), Views("polar", 30.0)))]
    sets.append(particles(48, random_euler(48, np.random.default_rng(4), Views("equatorial", 10.0))))
    maps = []
    for data in sets:
        mode = solve(data=data).found.modes[0]
        maps.append(Volume((MAP.data + 0.05 * np.linalg.norm(MAP.data) * mode / np.linalg.norm(mode)), 4.0))
    result = solve_inputs({}, volume=maps[0], particles=sets[0], path=(maps[1],), other=sets[1])
    assert result.difference is not None
    assert result.difference.joint_share is not None
    assert result.difference.joint_share < 0.1
    assert result.verdict.code == "spurious_difference"
    assert "one map in between explains both sets" in result.verdict.text
    even = [particles(48, random_euler(48, np.random.default_rng(seed))) for seed in (5, 6)]
    result = solve_inputs({}, volume=maps[0], particles=even[0], path=(maps[1],), other=even[1])
    assert result.verdict.code != "spurious_difference"


class Kept(dict[str, Any]):
    """Pieces in memory; stops the job after so many were saved."""

    def __init__(self, most: int = 10**6) -> None:
        super().__init__()
        self.most = most

    def load(self, name: str) -> Any:
        return self.get(name)

    def save(self, name: str, arrays: Any) -> None:
        if len(self) >= self.most:
            raise KeyboardInterrupt
        self[name] = {key: np.array(value) for key, value in arrays.items()}


@pytest.mark.parametrize("most", [1, 2])
def test_a_stopped_run_goes_on_to_the_very_same_result(most: int) -> None:
    """Stopped between two rounds of the solver, and between two cases of a what-if table."""
    parameters = SoftmodesParameters(modes=2, iterations=50, box=10, add_views="uniform", defocus="9000")
    data = particles(ctf=True)
    whole = run(softmodes_job(MAP, data, parameters))
    kept = Kept(most)
    with pytest.raises(KeyboardInterrupt):
        run(softmodes_job(MAP, data, parameters, checkpoints=kept))
    assert len(kept) == most
    kept.most = 10**6
    again = run(softmodes_job(MAP, data, parameters, checkpoints=kept))
    np.testing.assert_array_equal(again.found.modes, whole.found.modes)
    np.testing.assert_array_equal(again.found.misfit_ratio, whole.found.misfit_ratio)
    assert [row.gain for row in again.scenarios] == [row.gain for row in whole.scenarios]
