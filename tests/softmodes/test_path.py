"""Information along a path of maps, and what views tell of given changes."""

from __future__ import annotations

import numpy as np
import pytest

from napari_pickbias.imaging.phantoms import Blobs, blob_volume
from napari_pickbias.imaging.rotations import random_rotations
from napari_pickbias.imaging.volumes import soft_ball
from napari_pickbias.softmodes import soft_modes
from napari_pickbias.softmodes.modes import information_along
from napari_pickbias.softmodes.path import linear_path, path_information
from napari_pickbias.softmodes.views import make_views

SIZE = 12
SUPPORT = soft_ball(SIZE, 5) >= 0.5
ROTATIONS = random_rotations(48, np.random.default_rng(0))


def molecule(last: tuple[float, float, float] = (0.4, 1.6, 1.1)) -> np.ndarray:
    centres = np.array([[2.0, 0, 0.3], [-0.8, 1.7, -0.2], [-0.5, -1.1, 1.6], [0.2, -0.4, -1.9], last])
    blobs = Blobs(centres, np.full(5, 1.0), np.array([1.0, 0.8, 1.3, 0.6, 1.1]))
    return blob_volume(blobs, SIZE).astype(np.float64) * SUPPORT


def test_a_turn_of_the_whole_map_tells_nothing_and_a_deformation_does() -> None:
    from napari_pickbias.softmodes.hessian import rigid_generators

    first = molecule()
    turned = np.zeros_like(first)
    turned[SUPPORT] = rigid_generators(first, SUPPORT)[:, 2]
    turned = first + 0.02 * np.linalg.norm(first) * turned
    views = make_views(ROTATIONS, SIZE)
    rigid = list(path_information(linear_path(first, turned, 3), views, SUPPORT, images=48))
    moved = list(path_information(linear_path(first, molecule((0.2, 2.2, 0.8)), 3), views, SUPPORT, images=48))
    assert [round(point.position, 6) for point in moved] == [0, 0.5, 1]
    for point in rigid:
        assert point.eigenvalue < 0.01 * point.known_pose_eigenvalue
    for point in moved:
        assert 0.1 < point.eigenvalue < point.known_pose_eigenvalue < 1.2


def test_the_quotient_is_that_of_the_hessian_in_between() -> None:
    first, last = molecule(), molecule((0.2, 2.2, 0.8))
    frames = linear_path(first, last, 3)
    points = list(path_information(frames, make_views(ROTATIONS, SIZE), SUPPORT, images=48))
    free, known = information_along(frames[1], (last - first)[None], ROTATIONS, mask=SUPPORT)
    assert points[1].eigenvalue == pytest.approx(free[0], rel=1e-9)
    assert points[1].known_pose_eigenvalue == pytest.approx(known[0], rel=1e-9)


def test_modes_have_their_eigenvalues() -> None:
    found = soft_modes(molecule(), ROTATIONS, modes=2, mask=SUPPORT)
    free, known = information_along(molecule(), found.modes, ROTATIONS, mask=SUPPORT)
    np.testing.assert_allclose(free, found.eigenvalues, rtol=1e-4)
    np.testing.assert_allclose(known, found.known_pose_eigenvalues, rtol=1e-4)


def test_a_path_that_goes_nowhere_is_refused() -> None:
    with pytest.raises(ValueError, match="all the same"):
        list(path_information(np.stack([molecule()] * 2), make_views(ROTATIONS, SIZE), SUPPORT, images=48))
