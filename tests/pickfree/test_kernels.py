"""Every kernel of pick-free reconstruction against its plain form (brute.py, boxes of 5 px) or a closed form."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pickfree_brute as brute
import pytest
import scipy.fft

from napari_pickbias.imaging.correlation import fourier_correlation
from napari_pickbias.imaging.ctf import ctf
from napari_pickbias.imaging.phantoms import blob_volume, phantom
from napari_pickbias.imaging.projection import backproject, project
from napari_pickbias.imaging.rotations import angular_distance_deg, random_rotations
from napari_pickbias.imaging.volumes import soft_ball
from napari_pickbias.pickfree.chain import (
    Options,
    Stage,
    concentration,
    first_state,
    iterate,
    junk_ratio,
    make_model,
)
from napari_pickbias.pickfree.dense import array_library, expectation_dense
from napari_pickbias.pickfree.expectation import CHUNK, batches, cell_shares, expectation
from napari_pickbias.pickfree.maximisation import Normal, own_prior, pixel_weights, shell_power, solve_map
from napari_pickbias.pickfree.rotation_levels import RotationLevels, rotation_levels
from napari_pickbias.pickfree.search import add_shifted, correlate, exp_of_row
from napari_pickbias.pickfree.slices import Slices
from napari_pickbias.pickfree.tables import build_tables, cell_means, shifted_energies

SIZE = 5


@pytest.fixture(scope="module")
def levels() -> RotationLevels:
    return rotation_levels(24, 4)


@pytest.fixture(scope="module")
def volume() -> np.ndarray:
    rng = np.random.default_rng(0)
    return (rng.normal(0.5, 1, (SIZE,) * 3) * soft_ball(SIZE, SIZE // 2)).astype(np.float32)


@pytest.fixture(scope="module")
def patches(volume: np.ndarray) -> np.ndarray:
    """Thirty patches: a third hold a particle at a random shift."""
    rng = np.random.default_rng(1)
    images = project(volume, random_rotations(10, rng))
    shown = [brute.shifted(image, *rng.integers(-3, 4, 2)) for image in images]
    clean = np.concatenate([shown, np.zeros((20, SIZE, SIZE))])
    return (clean + rng.normal(0, 1.5, clean.shape)).astype(np.float32)


def test_levels_are_cells_of_nearest_rotations() -> None:
    found = rotation_levels(576, 72)
    assert found.start[0] == 0
    assert found.start[-1] == 576
    assert (found.children > 0).all()
    cell = np.repeat(np.arange(len(found.coarse)), found.children)
    distance = angular_distance_deg(found.fine[:, None], found.coarse[None])
    np.testing.assert_allclose(distance[np.arange(576), cell], distance.min(axis=1), atol=1e-5)


def test_three_levels_are_nested() -> None:
    found = rotation_levels(1152, 12, 96)
    assert found.fine.shape[0] == found.start[-1] == found.middle_start[-1] == 1152
    np.testing.assert_array_equal(found.middle_start[found.middle_of_cell], found.start)
    assert (np.diff(found.middle_start) > 0).all()
    assert (np.diff(found.middle_of_cell) > 0).all()
    middle = np.repeat(np.arange(len(found.middle)), np.diff(found.middle_start))
    distance = angular_distance_deg(found.fine[:, None], found.middle[None])
    np.testing.assert_allclose(distance[np.arange(1152), middle], distance.min(axis=1), atol=1e-5)
    cell = np.repeat(np.arange(len(found.coarse)), np.diff(found.middle_of_cell))
    distance = angular_distance_deg(found.middle[:, None], found.coarse[None])
    np.testing.assert_allclose(distance[np.arange(len(cell)), cell], distance.min(axis=1), atol=1e-5)
    # the default: two levels up to 15 degrees, three at 7.5
    assert len(rotation_levels(4608).middle) == 0
    assert len(rotation_levels(16384).middle) == 2048
    assert len(rotation_levels(16384).coarse) == 256


def test_slices_equal_direct_fourier_sums() -> None:
    # oracle 1: 11 px, 50 rotations; 3e-6 here, asked for is 1e-3
    size = 11
    rng = np.random.default_rng(2)
    rotations = random_rotations(50, rng)
    volume = (rng.normal(size=(size,) * 3) * soft_ball(size, size // 2)).astype(np.float32)
    direct = (brute.operator(rotations, size) @ volume.ravel().astype(np.float64)).reshape(-1, size, size)
    slices = Slices(rotations, size)
    images = slices.project(volume)
    assert np.linalg.norm(images - direct) < 1e-4 * np.linalg.norm(direct)
    np.testing.assert_allclose(images, project(volume, rotations), atol=2e-4 * np.abs(direct).max())
    other = rng.normal(size=images.shape).astype(np.float32)
    assert np.vdot(images, other) == pytest.approx(np.vdot(volume, slices.backproject(other)), rel=1e-4)
    np.testing.assert_allclose(slices.backproject(other), backproject(other, rotations), atol=2e-2)


def test_slices_with_a_ctf_keep_the_adjoint() -> None:
    size = 9
    rng = np.random.default_rng(3)
    rotations = random_rotations(7, rng)
    transfer = ctf(
        (size, size), 8.0, defocus_u_angstrom=18000, defocus_v_angstrom=16000, defocus_angle_deg=30, voltage_kv=300,
        spherical_aberration_mm=2.7, amplitude_contrast=0.1,
    )[0]  # fmt: skip
    volume = rng.normal(size=(size,) * 3).astype(np.float32) * soft_ball(size, 4)
    slices = Slices(rotations, size)
    images = slices.project(volume, transfer)
    np.testing.assert_allclose(images, project(volume, rotations, ctf=transfer[None]), atol=1e-3)
    other = rng.normal(size=images.shape).astype(np.float32)
    assert np.vdot(images, other) == pytest.approx(np.vdot(volume, slices.backproject(other, transfer)), rel=1e-4)


def test_energies_weights_and_correlations_equal_brute_force(volume: np.ndarray, levels: RotationLevels) -> None:
    # oracle 2
    rng = np.random.default_rng(4)
    images = project(volume, levels.fine)
    shifts = brute.every_shift(SIZE)
    energies = np.empty((len(images), len(shifts)), np.float32)
    shifted_energies(images, 0.5, energies)
    plain = np.array([[0.5 * np.sum(brute.shifted(image, *s) ** 2) for s in shifts] for image in images])
    np.testing.assert_allclose(energies, plain, rtol=1e-5, atol=1e-5)

    weights = rng.random((3, len(shifts))).astype(np.float32)
    seen = np.array([brute.back(np.ones((SIZE, SIZE)), *s) for s in shifts])
    np.testing.assert_allclose(pixel_weights(weights, SIZE), np.einsum("ks,syx->kyx", weights, seen), rtol=1e-5)

    patch = rng.normal(size=(SIZE, SIZE)).astype(np.float32)
    basis = rng.normal(size=(SIZE * SIZE, 7)).astype(np.float32)
    found = np.empty((len(shifts), 7), np.float32)
    correlate(patch, basis, np.empty((2 * SIZE - 1, SIZE * SIZE), np.float32), found)
    plain = np.array([[np.sum(patch * brute.shifted(b.reshape(SIZE, SIZE), *s)) for b in basis.T] for s in shifts])
    np.testing.assert_allclose(found, plain, atol=1e-5)

    for number, s in enumerate(shifts):
        image = np.ones((SIZE, SIZE), np.float32)
        add_shifted(patch, number, 0.5, image)
        np.testing.assert_allclose(image, 1 + 0.5 * brute.back(patch, *s), rtol=1e-6)


def test_correlations_by_products_equal_those_by_fourier_transforms() -> None:
    # oracle 4, at 15 px; 2e-7 relative
    size = 15
    rng = np.random.default_rng(5)
    patch, image = rng.normal(size=(2, size, size)).astype(np.float32)
    found = np.empty(((2 * size - 1) ** 2, 1), np.float32)
    correlate(patch, image.reshape(-1, 1), np.empty((2 * size - 1, size * size), np.float32), found)
    shape = (2 * size, 2 * size)
    product = scipy.fft.rfft2(patch.astype(np.float64), shape) * scipy.fft.rfft2(image.astype(np.float64), shape).conj()
    cyclic = np.roll(scipy.fft.irfft2(product, shape), (size - 1, size - 1), (0, 1))[:-1, :-1]
    np.testing.assert_allclose(found.reshape(cyclic.shape), cyclic, atol=1e-6 * np.abs(cyclic).max())


def test_fast_exponential() -> None:
    # oracle 3: 4e-6 relative
    values = np.linspace(-30, 0, 20001).astype(np.float32)
    out = np.empty_like(values)
    total = exp_of_row(values, np.float32(0), np.empty(values.size, np.int32), out)
    exact = np.exp(values.astype(np.float64))
    assert np.max(np.abs(out / exact - 1)) < 1e-5
    assert total == pytest.approx(exact.sum(), rel=1e-5)
    far = np.full(4, -1e30, np.float32)
    assert exp_of_row(far, np.float32(50), np.empty(4, np.int32), np.empty(4, np.float32)) < 1e-30


def test_cell_means(levels: RotationLevels) -> None:
    values = np.random.default_rng(6).normal(size=(len(levels.fine), 3)).astype(np.float32)
    found = np.empty((len(levels.coarse), 3), np.float32)
    cell_means(values, levels.start, found)
    for cell, (a, b) in enumerate(zip(levels.start[:-1], levels.start[1:], strict=True)):
        np.testing.assert_allclose(found[cell], values[a:b].mean(axis=0), rtol=1e-5)


@pytest.mark.parametrize(("log_tau", "tolerance"), [(-60.0, 2e-3), (-7.0, 0.05)])
def test_expectation_equals_brute_force(
    volume: np.ndarray, patches: np.ndarray, levels: RotationLevels, log_tau: float, tolerance: float
) -> None:
    # oracles (ii), (iii) and 7: with every cell refined whose rotations differ at all (spread above 0.05) the posterior
    # is that of the dense fine grid, to 9e-4 in the log
    images, variance, empty = project(volume, levels.fine), 2.0, 0.6
    tables = build_tables(images, levels, variance, tail=0, coarse_tail=0, weights=cell_shares(levels))
    rows = np.arange(len(patches))
    found = expectation(patches, rows, tables, levels, empty, log_tau=log_tau, samples=100_000)
    probability, void, likelihood, scores = brute.posterior(patches, images, variance, empty)
    np.testing.assert_allclose(probability.sum(axis=(1, 2)) + void, 1, rtol=1e-12)
    np.testing.assert_allclose(found.log_likelihood, likelihood, atol=tolerance)
    np.testing.assert_allclose(found.void, void, atol=tolerance)
    # the sums hold the mass that is not empty, whatever was refined
    assert found.weights.sum() == pytest.approx(len(patches) - found.void.sum(), abs=2e-3)
    sums, seen = brute.sums(patches, probability)
    if log_tau < -50:
        # cells whose rotations hardly differ are not refined: 0.011 of sums up to 30
        np.testing.assert_allclose(found.sums, sums, atol=0.02)
        cell = np.repeat(np.arange(len(levels.coarse)), levels.children)
        plain = np.zeros_like(found.weights, dtype=np.float64)
        np.add.at(plain, cell, probability.sum(axis=0))
        np.testing.assert_allclose(found.weights, plain, atol=5e-3)
        assert found.score == pytest.approx(np.sum(probability * scores), abs=0.05)
        by_cell = pixel_weights(found.weights, SIZE)
        np.testing.assert_allclose(by_cell.sum(axis=0), seen.sum(axis=0), atol=1e-2)


@pytest.mark.parametrize(("log_tau", "tolerance"), [(-60.0, 5e-3), (-9.0, 0.05)])
def test_three_levels_equal_brute_force(
    volume: np.ndarray, patches: np.ndarray, log_tau: float, tolerance: float
) -> None:
    # 2e-3 and 0.022 here; with two levels, 4 and 192 rotations, 2e-3 and 0.014
    levels = rotation_levels(192, 4, 24)
    images, variance, empty = project(volume, levels.fine), 2.0, 0.6
    tables = build_tables(images, levels, variance, tail=0, coarse_tail=0, weights=cell_shares(levels))
    found = expectation(patches, np.arange(len(patches)), tables, levels, empty, log_tau=log_tau, samples=100_000)
    probability, void, likelihood, scores = brute.posterior(patches, images, variance, empty)
    np.testing.assert_allclose(found.log_likelihood, likelihood, atol=tolerance)
    np.testing.assert_allclose(found.void, void, atol=tolerance)
    assert found.weights.sum() == pytest.approx(len(patches) - found.void.sum(), abs=2e-3)
    assert found.sums.sum() == pytest.approx(brute.sums(patches, probability)[0].sum(), rel=0.02, abs=0.5)
    if log_tau < -50:
        assert found.score == pytest.approx(np.sum(probability * scores), abs=0.2)
        # by middle rotation: fine ones that cannot be told apart take turns
        of_middle = levels.middle_start[:-1]
        plain = np.add.reduceat(brute.sums(patches, probability)[0], of_middle, axis=0)
        np.testing.assert_allclose(np.add.reduceat(found.sums, of_middle, axis=0), plain, atol=0.03)


@pytest.mark.parametrize("library", ["numpy", "array_api_strict"])
def test_dense_products_equal_brute_force(
    volume: np.ndarray, patches: np.ndarray, levels: RotationLevels, library: str
) -> None:
    # the second library has what the array API standard names and refuses everything else: what runs on it runs on CuPy
    xp = pytest.importorskip(library, reason="array-api-strict is not installed")
    images, variance, empty = project(volume, levels.fine), 2.0, 0.6
    tables = build_tables(images, levels, variance, tail=0, coarse_tail=0, weights=cell_shares(levels))
    rows = np.arange(3, len(patches))
    found = expectation_dense(patches, rows, tables, levels, empty, library=xp)
    probability, void, likelihood, scores = brute.posterior(patches[3:], images, variance, empty)
    np.testing.assert_allclose(found.log_likelihood, likelihood, atol=1e-4)
    np.testing.assert_allclose(found.void, void, atol=1e-4)
    np.testing.assert_allclose(found.sums, brute.sums(patches[3:], probability)[0], atol=1e-3)
    cell = np.repeat(np.arange(len(levels.coarse)), levels.children)
    plain = np.zeros_like(found.weights, dtype=np.float64)
    np.add.at(plain, cell, probability.sum(axis=0))
    np.testing.assert_allclose(found.weights, plain, atol=1e-3)
    assert found.score == pytest.approx(np.sum(probability * scores), rel=1e-4)


def test_both_ways_take_the_same_step(volume: np.ndarray, patches: np.ndarray) -> None:
    levels = rotation_levels(64, 8)
    many = np.tile(patches, (4, 1, 1))
    model = make_model(SIZE, levels, patches=len(many))
    state = first_state(model, volume, 2.25, 0.5, 0.02)
    maps = []
    for device in ("cpu", "dense"):
        options = Options(learn_views=True, junk=True, log_tau=-20, samples=4096, tail=0, device=device)
        after, record = iterate(
            many, model, state, Stage(1, fine=True), options, np.arange(len(many)), np.random.default_rng(0)
        )
        maps.append((after.volume, record.log_likelihood, record.empty, record.junk, record.noise_variance))
    np.testing.assert_allclose(maps[0][1:], maps[1][1:], rtol=0.01)
    assert np.corrcoef(maps[0][0].ravel(), maps[1][0].ravel())[0, 1] > 0.999


class OnDevice(np.ndarray):
    """What ``get`` must bring back from a GPU."""

    brought_back = 0

    def get(self) -> np.ndarray:
        OnDevice.brought_back += 1
        return self.view(np.ndarray)


def cupy(devices: int) -> ModuleType:
    """Return a stand-in for CuPy: NumPy's functions, arrays that know where they are, so many devices."""
    library = ModuleType("cupy")
    for name in ("take", "reshape", "matmul", "max", "sum", "exp", "float32", "float64"):
        setattr(library, name, getattr(np, name))
    library.asarray = lambda values: np.array(values).view(OnDevice)
    library.zeros = lambda shape, dtype: np.zeros(shape, dtype).view(OnDevice)
    runtime = SimpleNamespace(getDeviceCount=lambda: devices, CUDARuntimeError=RuntimeError)
    library.cuda = SimpleNamespace(runtime=runtime)
    return library


def test_an_iteration_on_a_gpu_is_that_of_the_same_products_here(
    volume: np.ndarray, patches: np.ndarray, levels: RotationLevels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cupy", cupy(1))
    model = make_model(SIZE, levels, patches=len(patches))
    state = first_state(model, volume, 2.0)
    found = [
        iterate(
            patches, model, state, Stage(1), Options(device=device), np.arange(len(patches)), np.random.default_rng(0)
        )
        for device in ("dense", "cuda")
    ]
    assert OnDevice.brought_back > 0
    np.testing.assert_array_equal(found[0][0].volume, found[1][0].volume)
    assert found[0][1] == found[1][1]
    monkeypatch.setitem(sys.modules, "cupy", cupy(0))
    with pytest.raises(ImportError, match="CuPy finds no CUDA device"):
        array_library("cuda")


def test_sampling_is_unbiased(volume: np.ndarray, patches: np.ndarray, levels: RotationLevels) -> None:
    """Few samples, many copies of the patches with other offsets: the sums' mean is that of many samples."""
    images = project(0.3 * volume, levels.fine)
    tables = build_tables(images, levels, 2.0, tail=0, coarse_tail=0, weights=cell_shares(levels))
    copies = np.tile(patches, (40, 1, 1))
    few = expectation(copies, np.arange(len(copies)), tables, levels, 0.5, log_tau=-60, samples=8)
    many = expectation(patches, np.arange(len(patches)), tables, levels, 0.5, log_tau=-60, samples=50_000)
    assert np.linalg.norm(few.sums / 40 - many.sums) < 0.15 * np.linalg.norm(many.sums)
    assert few.weights.sum() / 40 == pytest.approx(many.weights.sum(), rel=0.01)


def test_other_classes_and_priors_of_views(volume: np.ndarray, patches: np.ndarray, levels: RotationLevels) -> None:
    images = project(volume, levels.fine)
    views = np.array([2.0, 0.5, 1.0, 0.5])[: len(levels.coarse)]
    views *= len(views) / views.sum()
    tables = build_tables(images, levels, 2.0, tail=0, coarse_tail=0, weights=views)
    ratio = np.linspace(-2, 2, len(patches))
    found = expectation(
        patches, np.arange(len(patches)), tables, levels, 0.6, log_weight=np.log(views), log_tau=-60,
        other=lambda chunk: ratio,
    )  # fmt: skip
    *_, scores = brute.posterior(patches, images, 2.0, 0.6)
    prior = 0.4 / (len(views) * scores.shape[2]) * np.repeat(views / levels.children, levels.children)
    particle = np.einsum("k,mks->m", prior, np.exp(scores))
    total = particle + 0.6 * np.exp(ratio)
    np.testing.assert_allclose(found.log_likelihood, np.log(total), atol=2e-3)
    np.testing.assert_allclose(found.void, 0.6 * np.exp(ratio) / total, atol=2e-3)


def test_threads_and_chunks_do_not_change_a_bit(
    volume: np.ndarray, patches: np.ndarray, levels: RotationLevels
) -> None:
    many = np.tile(patches, (10, 1, 1))
    assert len(many) > 2 * CHUNK
    tables = build_tables(project(volume, levels.fine), levels, 2.0)
    rows = np.arange(len(many))
    one, two = (expectation(many, rows, tables, levels, 0.5, threads=n) for n in (1, 2))
    for name in ("sums", "weights", "log_likelihood", "void"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))


def test_the_m_step_equals_the_dense_solution(volume: np.ndarray, levels: RotationLevels) -> None:
    rng = np.random.default_rng(7)
    size = SIZE
    matrices = brute.operator(levels.coarse, size)
    weights = rng.random((len(levels.coarse), (2 * size - 1) ** 2)).astype(np.float32)
    pixel = pixel_weights(weights, size)
    images = rng.normal(size=(len(levels.coarse), size, size)).astype(np.float32)
    slices = Slices(levels.coarse, size)
    prior = own_prior(volume)
    found = solve_map(
        [Normal(slices, pixel, None)], slices.backproject(images), prior, 2.0, np.zeros_like(volume), steps=200
    )
    ball = soft_ball(size, size // 2).ravel().astype(bool)
    normal = np.einsum("kpv,kp,kpu->vu", matrices, pixel.reshape(len(images), -1), matrices, optimize=True)
    transform = scipy.fft.fftn(np.eye(size**3).reshape(-1, *(size,) * 3), axes=(1, 2, 3)).reshape(size**3, -1).T
    axis = np.fft.fftfreq(size) * size
    radius = np.sqrt(sum(a**2 for a in np.meshgrid(axis, axis, axis)))
    shell = np.minimum(np.rint(radius).astype(int), size // 2).ravel()
    penalty = 2.0 * (transform.conj().T @ (transform / prior[shell][:, None])).real
    right = np.einsum("kpv,kp->v", matrices, images.reshape(len(images), -1))
    dense = np.zeros(size**3)
    dense[ball] = np.linalg.solve((normal + penalty)[np.ix_(ball, ball)], right[ball])
    np.testing.assert_allclose(found.ravel(), dense, atol=2e-3 * np.abs(dense).max())


def test_the_m_step_with_true_poses_returns_the_volume() -> None:
    # oracle (v)
    size = 11
    volume = blob_volume(phantom(4.5), size) * soft_ball(size, size // 2) * 100
    levels = rotation_levels(576)
    slices = Slices(levels.coarse, size)
    seen = np.ones((len(levels.coarse), size, size), np.float32)
    images = slices.project(volume)
    wide = np.full(size // 2 + 1, 1e12)
    found = solve_map([Normal(slices, seen, None)], slices.backproject(images), wide, 1.0, 0 * volume, steps=60)
    # the corners of the spectrum, beyond Nyquist, no projection shows
    assert np.linalg.norm(slices.project(found) - images) < 2e-3 * np.linalg.norm(images)
    assert np.nanmin(fourier_correlation(found, volume, 3)[1:]) > 0.999


def test_the_prior_follows_the_map() -> None:
    volume = blob_volume(phantom(4.5), 11)
    power, prior = shell_power(volume), own_prior(volume)
    assert prior[1] == prior[2] == pytest.approx(power[1:3].mean())
    assert prior[4] == pytest.approx(prior[2] / 4)
    np.testing.assert_allclose(own_prior(0.1 * volume), 0.01 * prior)


def test_a_band_limits_the_map(volume: np.ndarray, levels: RotationLevels) -> None:
    size = 11
    rng = np.random.default_rng(8)
    slices = Slices(levels.coarse, size)
    images = rng.normal(size=(len(levels.coarse), size, size)).astype(np.float32)
    seen = np.ones_like(images)
    prior = np.full(6, 1e6)
    right = slices.backproject(images)
    start = np.zeros((size,) * 3, np.float32)
    powers = [
        shell_power(solve_map([Normal(slices, seen, None)], right, prior, 1.0, start, band=band)) for band in (2, None)
    ]
    # the ball lets a little through
    assert powers[0][4] < 0.1 * powers[0][2]
    assert powers[1][4] > powers[1][2] * 0.1


def test_mini_batches_are_fresh_sorted_draws() -> None:
    rng = np.random.default_rng(9)
    first, second = batches(range(100), 0.3, rng), batches(range(100), 0.3, rng)
    assert len(first) == len(second) == 30
    assert len(set(first)) == 30
    assert (np.diff(first) > 0).all()
    assert set(first) != set(second)
    np.testing.assert_array_equal(batches(range(10), 1.0, rng), np.arange(10))


def test_junk_is_told_from_noise() -> None:
    rng = np.random.default_rng(10)
    noise, ice = rng.normal(size=(50, 11, 11)).astype(np.float32), 3 * rng.normal(size=(50, 11, 11)).astype(np.float32)
    assert (junk_ratio(noise, 1.0) < 0).mean() > 0.85
    assert (junk_ratio(ice, 1.0) > 20).all()


def test_full_batches_never_lower_the_likelihood(volume: np.ndarray, patches: np.ndarray) -> None:
    # oracle 8: each step at least -0.005 per patch. One rotation a cell makes the M-step exact.
    levels = rotation_levels(64, 64)
    many = np.tile(patches, (10, 1, 1))
    model = make_model(SIZE, levels, patches=len(many))
    state = first_state(model, volume, 2.25)
    options = Options(learn_noise=False, log_tau=-20, samples=20_000, tail=0)
    wide = np.full(SIZE // 2 + 1, 1e9)
    found = []
    for number in range(6):
        stage, rng = Stage(1, fine=True), np.random.default_rng(number)
        state, record = iterate(many, model, state, stage, options, np.arange(len(many)), rng, prior=wide)
        found.append(record.log_likelihood)
    assert np.diff(found).min() > -0.005
    assert found[-1] > found[0] + 0.05


def test_concentration_tells_few_patches_from_many() -> None:
    many = np.concatenate([np.full(80, 10.0), np.full(120, -0.3)])
    few = np.concatenate([[500.0, 300.0], np.full(198, 0.1)])
    assert concentration(many) == pytest.approx(2 / 80)
    assert concentration(few) > 0.9
    assert concentration(np.full(10, -1.0)) == 0.0


def test_junk_alone_leaves_probabilities_probabilities(volume: np.ndarray) -> None:
    levels = rotation_levels(24, 4)
    ice = 4 * np.random.default_rng(11).normal(size=(60, SIZE, SIZE)).astype(np.float32)
    model = make_model(SIZE, levels, patches=60)
    state = first_state(model, 0.1 * volume, 1.0, 0.5, 0.02)
    options = Options(junk=True, learn_noise=False)
    for number in range(4):
        state, record = iterate(ice, model, state, Stage(1), options, np.arange(60), np.random.default_rng(number))
    assert record.junk > 0.9
    assert 0 < record.empty < 0.1
    assert record.empty + record.junk < 1
    assert np.isfinite(state.volume).all()


def test_a_map_that_vanished_stays_a_number(patches: np.ndarray, levels: RotationLevels) -> None:
    model = make_model(SIZE, levels, patches=len(patches))
    noise = np.random.default_rng(12).normal(size=patches.shape).astype(np.float32)
    state = first_state(model, 1e-12 * np.ones((SIZE,) * 3, np.float32), 1.0)
    for number in range(8):
        state, record = iterate(
            noise, model, state, Stage(1, fine=True), Options(), np.arange(len(noise)), np.random.default_rng(number)
        )
        assert np.isfinite(state.volume).all()
        assert abs(record.log_likelihood) < 1e-3
    assert record.norm < 1e-3
