"""Point groups: the mean over a group is a projection, and its modes are the symmetric ones of all views' copies."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from napari_pickbias.imaging.phantoms import blob_volume, phantom
from napari_pickbias.imaging.rotations import random_rotations
from napari_pickbias.imaging.volumes import soft_ball
from napari_pickbias.softmodes import soft_modes
from napari_pickbias.softmodes.symmetry import Symmetriser

SIZE = 14


def point_group(name: str) -> np.ndarray:
    return np.asarray(Rotation.create_group(name).as_matrix())


def vector(support: np.ndarray) -> np.ndarray:
    return blob_volume(phantom(3.6), SIZE).astype(np.float64)[support]


# Twice is once: exactly for permutations of voxels; others lose what lies beyond Nyquist (0.013 to 0.026 measured).
@pytest.mark.parametrize(("group", "error"), [("C2", 1e-12), ("D2", 1e-12), ("O", 1e-12), ("C3", 0.05), ("T", 0.05)])
def test_the_mean_over_a_group_is_a_projection_and_its_adjoint_is_exact(group: str, error: float) -> None:
    support = soft_ball(SIZE, 6) >= 0.5
    symmetrise = Symmetriser(point_group(group), support)
    once = symmetrise(vector(support))
    assert np.linalg.norm(symmetrise(once) - once) <= error * np.linalg.norm(once)
    first, second = np.random.default_rng(0).standard_normal((2, len(once)))
    assert first @ symmetrise(second) == pytest.approx(symmetrise.adjoint(first) @ second, abs=1e-7)
    columns = np.stack([first, second], axis=1)
    np.testing.assert_allclose(symmetrise(columns)[:, 1], symmetrise(second), atol=1e-12)


def test_a_fourier_rotation_turns_as_a_permutation_does() -> None:
    """The two ways agree for a group that both can do, on a map that holds nothing beyond Nyquist."""
    support = soft_ball(SIZE, 6) >= 0.5
    exact = Symmetriser(point_group("C4"), support)
    other = Symmetriser(point_group("C4"), support)
    other._matrix = None
    smooth = blob_volume(phantom(2.4)._replace(sigmas_px=np.full(32, 1.3)), SIZE).astype(np.float64)[support]
    np.testing.assert_allclose(other(smooth), exact(smooth), atol=2e-3 * smooth.max())
    np.testing.assert_allclose(other.adjoint(smooth), exact.adjoint(smooth), atol=2e-3 * smooth.max())


def test_symmetric_modes_are_those_of_all_copies_of_the_views() -> None:
    support = soft_ball(SIZE, 6) >= 0.5
    group = point_group("D2")
    symmetrise = Symmetriser(group, support)
    volume = np.zeros((SIZE,) * 3)
    volume[support] = symmetrise(vector(support))
    rotations = random_rotations(80, np.random.default_rng(1))
    copies = np.concatenate([rotations @ turn for turn in group])
    every = soft_modes(volume, copies, modes=10)
    kept = [np.linalg.norm(symmetrise(mode[support])) / np.linalg.norm(mode[support]) for mode in every.modes]
    symmetric = every.eigenvalues[np.array(kept) > 0.5]
    found = soft_modes(volume, rotations, modes=2, symmetry=group)
    np.testing.assert_allclose(found.eigenvalues, symmetric[:2], rtol=1e-4)
    for mode in found.modes:
        np.testing.assert_allclose(symmetrise(mode[support]), mode[support], atol=1e-9)
