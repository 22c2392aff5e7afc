"""Modes, their amplitudes and their validity, on molecules small enough for full matrices."""

from __future__ import annotations

import numpy as np
import pytest

from napari_pickbias.imaging.phantoms import Blobs, blob_volume
from napari_pickbias.imaging.rotations import Views as Directions
from napari_pickbias.imaging.rotations import random_rotations
from napari_pickbias.imaging.volumes import soft_ball
from napari_pickbias.softmodes import SoftModes, soft_modes
from napari_pickbias.softmodes.hessian import Hessian, rigid_generators
from napari_pickbias.softmodes.metric import riesz_metric
from napari_pickbias.softmodes.solver import dense_softest, softest
from napari_pickbias.softmodes.views import make_views


def molecule(size: int, radius: float, sigma: float = 1.0) -> np.ndarray:
    """Blobs on an uneven tripod: poses are well determined."""
    centres = np.array([[1, 0, 0.2], [-0.3, 0.9, -0.1], [-0.2, -0.5, 0.8], [0.1, -0.2, -0.9], [0.5, 0.6, 0.4]]) * radius
    blobs = Blobs(centres, np.full(5, sigma), np.array([1.0, 0.8, 1.3, 0.6, 1.1]))
    return blob_volume(blobs, size).astype(np.float64)


def energy(volume: np.ndarray) -> float:
    support = soft_ball(len(volume), len(volume) / 2 - 1) >= 0.5
    return float(volume[support] @ riesz_metric(support)(volume[support]))


def test_lobpcg_equals_full_matrices_to_six_digits() -> None:
    size, images = 14, 64
    support = soft_ball(size, 5) >= 0.5
    volume = molecule(size, 3.0) * support
    views = make_views(random_rotations(images, np.random.default_rng(0), Directions("equatorial", 15.0)), size)
    hessian = Hessian(volume, views, support, images=images, dense=True)
    rigid = rigid_generators(volume, support)
    exact = dense_softest(hessian, 4, rigid)
    found = softest(hessian, 4, rigid, np.random.default_rng(1), tolerance=3e-4, iterations=150)
    np.testing.assert_allclose(found.eigenvalues, exact.eigenvalues, rtol=1e-6)
    assert (found.residuals < 1e-3).all()
    # The same directions, and no rigid motion among them.
    weighted = hessian.metric(exact.modes)
    np.testing.assert_allclose(np.abs(np.einsum("nk,nk->k", found.modes, weighted)), 1, atol=1e-4)
    overlap = (
        rigid.T @ hessian.metric(found.modes) / np.sqrt(np.einsum("nk,nk->k", rigid, hessian.metric(rigid)))[:, None]
    )
    assert np.abs(overlap).max() < 1e-6


@pytest.fixture(scope="module")
def uniform() -> SoftModes:
    size = 14
    volume = molecule(size, 3.2)
    rotations = random_rotations(96, np.random.default_rng(3))
    return soft_modes(volume, rotations, modes=4, noise_variance=0.05 * energy(volume) / 4096)


def test_values_rise_and_lie_below_those_of_known_poses(uniform: SoftModes) -> None:
    assert (np.diff(uniform.eigenvalues) >= 0).all()
    assert (uniform.eigenvalues > 0).all()
    assert (uniform.eigenvalues <= uniform.known_pose_eigenvalues * (1 + 1e-6)).all()
    assert (uniform.residuals < 0.02).all()
    norms = [energy(mode) for mode in uniform.modes]
    np.testing.assert_allclose(norms, 1, rtol=1e-6)


def test_the_amplitude_costs_ln_20_after_the_poses_are_fitted_anew(uniform: SoftModes) -> None:
    """Mean of both signs; the third-order term is of opposite sign in the two."""
    np.testing.assert_allclose(uniform.misfit_ratio.mean(axis=1), 1, atol=0.15)
    assert uniform.valid.all()
    loss = uniform.amplitudes**2 * uniform.eigenvalues * 96 / (2 * uniform.noise_variance)
    np.testing.assert_allclose(loss, np.log(20))


def test_too_much_noise_is_told() -> None:
    volume = molecule(12, 2.6)
    rotations = random_rotations(24, np.random.default_rng(3))
    found = soft_modes(volume, rotations, modes=2, noise_variance=3 * energy(volume))
    assert not found.valid.all()


def test_polar_views_lack_coverage_and_equatorial_views_couple_poses() -> None:
    volume = molecule(14, 3.2)
    rng = np.random.default_rng(0)
    polar = soft_modes(volume, random_rotations(96, rng, Directions("polar", 30.0)), modes=3)
    band = soft_modes(volume, random_rotations(96, rng, Directions("equatorial", 15.0)), modes=1)
    uniform = soft_modes(volume, random_rotations(96, rng), modes=1)
    # A missing cone: its modes are soft with known poses too; an equatorial belt sees everything, but not where from.
    assert polar.known_pose_eigenvalues[0] < 0.05
    assert band.known_pose_eigenvalues[0] > 5 * band.eigenvalues[0]
    assert polar.eigenvalues[0] < 0.1 * band.eigenvalues[0] < 0.1 * uniform.eigenvalues[0]
    assert band.eigenvalues[0] < 0.5 * uniform.eigenvalues[0]


def test_a_looser_mask_is_softer_on_the_equator() -> None:
    """A tight mask regularises views that all lie on the equator."""
    size = 16
    volume = molecule(size, 2.2)
    rotations = random_rotations(48, np.random.default_rng(0), Directions("equatorial", 1e-3))
    values = [
        soft_modes(volume, rotations, modes=1, mask=soft_ball(size, radius)).eigenvalues[0]
        for radius in (5.0, 6.0, 7.0)
    ]
    assert values[0] > values[1] > values[2] > 0


def turning_fields(volume: np.ndarray, order: int) -> list[np.ndarray]:
    """``cos`` and ``sin(2 order phi) d_phi F`` in Fourier space, brought back to real space."""
    size = len(volume)
    frequency = np.fft.fftfreq(size)
    _, ky, kx = np.meshgrid(frequency, frequency, frequency, indexing="ij")
    _, y, x = np.meshgrid(*[np.arange(size) - size // 2] * 3, indexing="ij")
    transform = np.fft.fftn(np.fft.ifftshift(volume))
    along_y, along_x = (np.fft.fftshift(np.fft.ifftn(2j * np.pi * k * transform).real) for k in (ky, kx))
    turning = np.fft.fftn(np.fft.ifftshift(x * along_y - y * along_x))
    phi = np.arctan2(ky, kx)
    return [np.fft.fftshift(np.fft.ifftn(h(2 * order * phi) * turning).real) for h in (np.cos, np.sin)]


# Seen: .995 and .993, .922 and .938; an independent implementation in a wider box gave .991 and .993, .967 and .947.
@pytest.mark.parametrize(("order", "least"), [(1, 0.98), (2, 0.9)])
def test_on_the_equator_the_softest_modes_are_the_fields_that_poses_can_follow(order: int, least: float) -> None:
    size, images = 16, 64
    support = soft_ball(size, 7.0) >= 0.5
    volume = molecule(size, 2.0) * support
    views = make_views(random_rotations(images, np.random.default_rng(0), Directions("equatorial", 1e-3)), size)
    hessian = Hessian(volume, views, support, images=images, dense=True)
    rigid = rigid_generators(volume, support)
    modes = dense_softest(hessian, 20, rigid).modes
    for field in turning_fields(molecule(size, 2.0), order):
        change = field[support]
        change = change - rigid @ np.linalg.solve(rigid.T @ hessian.metric(rigid), rigid.T @ hessian.metric(change))
        weighted = hessian.metric(change)
        assert np.linalg.norm(modes.T @ weighted) > least * np.sqrt(change @ weighted)


def test_weights_are_repeated_views_and_half_the_images_give_root_two_of_the_amplitude() -> None:
    volume = molecule(12, 2.6)
    rotations = random_rotations(16, np.random.default_rng(0))
    twice = soft_modes(volume, np.concatenate([rotations, rotations]), modes=2, noise_variance=1.0)
    weighted = soft_modes(volume, rotations, weights=np.full(16, 2.0), modes=2, noise_variance=1.0)
    once = soft_modes(volume, rotations, modes=2, noise_variance=1.0)
    np.testing.assert_allclose(weighted.eigenvalues, twice.eigenvalues, rtol=1e-4)
    np.testing.assert_allclose(weighted.eigenvalues, once.eigenvalues, rtol=1e-4)
    np.testing.assert_allclose(once.amplitudes, np.sqrt(2) * weighted.amplitudes, rtol=1e-3)
    np.testing.assert_allclose(weighted.pose_sd, once.pose_sd, rtol=1e-6)


def test_the_same_answer_twice_and_nothing_outside_the_mask() -> None:
    volume = molecule(12, 2.6)
    rotations = random_rotations(20, np.random.default_rng(0))
    mask = soft_ball(12, 4.5)
    first, second = (soft_modes(volume, rotations, modes=2, mask=mask) for _ in range(2))
    np.testing.assert_array_equal(first.modes, second.modes)
    assert not first.modes[:, mask < 0.5].any()
    assert not first.uncertainty[mask < 0.5].any()
    assert (first.uncertainty[mask >= 0.5] > 0).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"volume": np.ones((4, 5, 5))}, "must be a cube"),
        ({"mask": np.zeros((12, 12, 12))}, "must hold the molecule"),
        ({"volume": np.zeros((12, 12, 12))}, "zero within the mask"),
    ],
)
def test_what_has_no_answer_is_refused(change: dict[str, np.ndarray], message: str) -> None:
    arguments = {"volume": molecule(12, 2.6), "rotations": random_rotations(4, np.random.default_rng(0)), **change}
    with pytest.raises(ValueError, match=message):
        soft_modes(**arguments)
