"""The phantom is what it says, blobs agree with their closed forms, atoms with a plain splat."""

from __future__ import annotations

import numpy as np
import pytest

from napari_pickbias.imaging.phantoms import Blobs, blob_projections, blob_volume, mass_radius, phantom, splat_atoms
from napari_pickbias.imaging.rotations import angular_distance_deg, random_rotations, super_fibonacci_rotations


def overlap(blobs: Blobs, other_centres: np.ndarray) -> float:
    """Integral of the product of two molecules of the same blobs, in closed form."""
    variance = blobs.sigmas_px[:, None] ** 2 + blobs.sigmas_px[None, :] ** 2
    squares = ((blobs.centres_px[:, None] - other_centres[None, :]) ** 2).sum(axis=-1)
    weights = blobs.weights[:, None] * blobs.weights[None, :]
    return float((weights * (2 * np.pi * variance) ** -1.5 * np.exp(-squares / (2 * variance))).sum())


@pytest.mark.parametrize("elongation", [1.0, 2.5])
def test_phantom_has_its_radius_centre_and_weight(elongation: float) -> None:
    blobs = phantom(15, elongation=elongation)
    assert blobs.weights.sum() == pytest.approx(1)
    np.testing.assert_allclose(blobs.weights @ blobs.centres_px, 0, atol=1e-12)
    assert mass_radius(blobs, 0.98) == pytest.approx(15)
    # by sampling the same density: 60,000 points, standard error of the share 0.0006
    rng = np.random.default_rng(0)
    which = rng.choice(len(blobs.weights), 60000, p=blobs.weights)
    points = blobs.centres_px[which] + blobs.sigmas_px[which, None] * rng.standard_normal((60000, 3))
    assert np.mean(np.linalg.norm(points, axis=1) < 15) == pytest.approx(0.98, abs=0.003)
    spread = np.sqrt(np.linalg.eigvalsh(np.cov(points.T)))
    assert spread[-1] / spread[0] == pytest.approx(1.18 if elongation == 1 else 2.39, abs=0.03)


def test_phantom_has_no_symmetry_and_is_chiral() -> None:
    blobs = phantom(12)
    grid = super_fibonacci_rotations(1500)
    own = overlap(blobs, blobs.centres_px)
    turned = np.array([overlap(blobs, blobs.centres_px @ r.T) for r in grid]) / own
    assert turned[angular_distance_deg(grid, np.eye(3)) > 30].max() < 0.85  # measured 0.81
    mirrored = blobs.centres_px * [1, 1, -1]
    assert max(overlap(blobs, mirrored @ r.T) for r in grid) / own < 0.9  # measured 0.87


def test_phantom_is_always_the_same() -> None:
    blobs = phantom(10)
    np.testing.assert_allclose(blobs.centres_px[0], [2.23312217, -3.73305387, 5.60840775], rtol=1e-6)
    np.testing.assert_allclose(blobs.sigmas_px[:2], [1.17716643, 0.99986344], rtol=1e-6)


@pytest.mark.parametrize("size", [20, 21])
def test_volume_samples_the_density_at_the_right_voxels(size: int) -> None:
    blobs = Blobs(np.array([[3.0, -2.0, 1.0]]), np.array([1.5]), np.array([2.0]))
    volume = blob_volume(blobs, size)
    assert volume.dtype == np.float32
    assert np.unravel_index(volume.argmax(), volume.shape) == (size // 2 + 1, size // 2 - 2, size // 2 + 3)
    assert volume.max() == pytest.approx(2 / (np.sqrt(2 * np.pi) * 1.5) ** 3, rel=1e-6)
    assert volume.sum() == pytest.approx(2, rel=1e-4)


def test_projections_integrate_the_volume() -> None:
    blobs = phantom(9)
    identity = blob_projections(blobs, np.eye(3)[None], 33)[0]
    # the sum of samples is the integral, to the aliasing of blobs of sigma >= 0.9 px and the box's cut
    np.testing.assert_allclose(identity, blob_volume(blobs, 33).sum(axis=0), atol=2e-4 * identity.max())
    rotations = random_rotations(3, np.random.default_rng(0))
    np.testing.assert_allclose(blob_projections(blobs, rotations, 33).sum(axis=(1, 2)), 1, rtol=1e-3)


def test_splatted_atoms_are_the_plain_sum_wherever_they_lie() -> None:
    rng = np.random.default_rng(0)
    atoms = rng.uniform(-25, 25, (12, 3))  # some outside the box of 2 Å x 20
    sigma, weight = rng.uniform(1.5, 3, 12), rng.uniform(1, 8, 12)
    z, y, x = (np.indices((20, 20, 20)) - 10) * 2.0
    expected = np.zeros((20, 20, 20))
    for (ax, ay, az), s, w in zip(atoms, sigma, weight, strict=True):
        squares = (x - ax) ** 2 + (y - ay) ** 2 + (z - az) ** 2
        expected += w * np.exp(-squares / (2 * s**2)) / (np.sqrt(2 * np.pi) * s / 2) ** 3
    volume = splat_atoms(atoms, 20, 2.0, sigma_angstrom=sigma, weights=weight)
    np.testing.assert_allclose(volume, expected, atol=1e-6 * expected.max())


def test_atoms_narrower_than_half_a_voxel_are_refused() -> None:
    with pytest.raises(ValueError, match="`sigma_angstrom` must be at least half a voxel, 1 Å"):
        splat_atoms(np.zeros((1, 3)), 8, 2.0, sigma_angstrom=0.9)
