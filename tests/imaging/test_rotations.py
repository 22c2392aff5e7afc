"""Euler angles, grids and view distributions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_pickbias.errors import InputError
from napari_pickbias.imaging import rotations as ro


def relion_matrix(rot: float, tilt: float, psi: float) -> np.ndarray:
    """RELION's Euler matrix written out element by element."""
    ca, sa = np.cos(np.radians(rot)), np.sin(np.radians(rot))
    cb, sb = np.cos(np.radians(tilt)), np.sin(np.radians(tilt))
    cg, sg = np.cos(np.radians(psi)), np.sin(np.radians(psi))
    return np.array(
        [
            [cg * cb * ca - sg * sa, cg * cb * sa + sg * ca, -cg * sb],
            [-sg * cb * ca - cg * sa, -sg * cb * sa + cg * ca, sg * sb],
            [sb * ca, sb * sa, cb],
        ]
    )


@given(rot=st.floats(-180, 180), tilt=st.floats(0, 180), psi=st.floats(-180, 180))
@settings(deadline=None, derandomize=True, max_examples=80)
def test_matrices_are_relions_and_angles_come_back(rot: float, tilt: float, psi: float) -> None:
    matrix = ro.matrices_from_euler(np.array([[rot, tilt, psi]]))
    np.testing.assert_allclose(matrix[0], relion_matrix(rot, tilt, psi), atol=1e-12)
    again = ro.euler_from_matrices(matrix)
    assert 0 <= again[0, 1] <= 180
    np.testing.assert_allclose(ro.matrices_from_euler(again), matrix, atol=1e-7)


def test_psi_turns_the_image_from_y_towards_x() -> None:
    # the molecule's x axis, seen along z: at psi = 90 it points to -y
    matrix = ro.matrices_from_euler(np.array([[0.0, 0.0, 90.0]]))[0]
    np.testing.assert_allclose(matrix @ [1, 0, 0], [0, -1, 0], atol=1e-12)


def test_last_row_is_the_viewing_direction() -> None:
    matrix = ro.matrices_from_euler(np.array([[30.0, 90.0, 12.0]]))[0]
    np.testing.assert_allclose(matrix[2], [np.cos(np.radians(30)), np.sin(np.radians(30)), 0], atol=1e-12)


def test_super_fibonacci_covers_so3_evenly() -> None:
    grid = ro.super_fibonacci_rotations(576)
    np.testing.assert_allclose(np.linalg.det(grid), 1)
    anywhere = ro.random_rotations(400, np.random.default_rng(0))
    nearest = np.array([ro.angular_distance_deg(grid, one).min() for one in anywhere])
    # 20 seeds: mean 13.8 ... 14.6 degrees, largest 22.2 ... 25.4
    assert nearest.mean() < 15
    assert nearest.max() < 30
    assert ro.rotation_count(30) == 550


@pytest.mark.parametrize("views", ["uniform", "polar:30", "equatorial:15"])
def test_views_fill_their_area_evenly(views: str) -> None:
    matrices = ro.random_rotations(4000, np.random.default_rng(0), ro.parse_views(views))
    z = matrices[:, 2, 2]
    if views == "uniform":
        low, height = -1.0, 2.0
        share = (z - low) / height
    elif views == "polar:30":
        limit = np.cos(np.radians(30))
        assert np.all(np.abs(z) >= limit - 1e-12)
        assert 0.45 < np.mean(z > 0) < 0.55
        share = (np.abs(z) - limit) / (1 - limit)
    else:
        limit = np.sin(np.radians(15))
        assert np.all(np.abs(z) <= limit + 1e-12)
        share = (z + limit) / (2 * limit)
    # Kolmogorov-Smirnov distance from uniform: below 0.0257 in 99 % of samples of 4000
    assert np.max(np.abs(np.sort(share) - (np.arange(4000) + 0.5) / 4000)) < 0.0257
    # in-plane angles and azimuths have no preferred direction: mean vectors below 0.05 (0.0158 per sigma)
    assert np.hypot(*matrices[:, :2, 2].mean(axis=0)) < 0.05


def test_uniform_rotations_have_haar_angles() -> None:
    angle = np.radians(ro.angular_distance_deg(ro.random_rotations(4000, np.random.default_rng(1)), np.eye(3)))
    share = np.sort((angle - np.sin(angle)) / np.pi)  # distribution of the angle of a Haar rotation
    assert np.max(np.abs(share - (np.arange(4000) + 0.5) / 4000)) < 0.0257


@pytest.mark.parametrize("text", ["polar", "polar:0", "polar:91", "equatorial:-3", "uniform:3", "", "Polar:10"])
def test_unknown_views_are_refused(text: str) -> None:
    with pytest.raises(InputError) as caught:
        ro.parse_views(text)
    assert str(caught.value) == (
        f"--views {text}: not a view distribution; give uniform, polar:DEG or equatorial:DEG with DEG above 0, "
        "at most 90"
    )


def test_direction_grid_spacing_and_hemisphere() -> None:
    whole, half = ro.direction_grid(10), ro.direction_grid(10, hemisphere=True)
    assert len(whole) == round(4 * np.pi / np.radians(10) ** 2)
    assert len(half) == round(len(whole) / 2)
    assert half[:, 1].max() <= 90
    rot, tilt = np.radians(whole).T
    points = np.stack([np.sin(tilt) * np.cos(rot), np.sin(tilt) * np.sin(rot), np.cos(tilt)], axis=1)
    cosine = points @ points.T - 2 * np.eye(len(points))
    nearest = np.degrees(np.arccos(cosine.max(axis=1)))
    assert nearest.min() > 7
    assert nearest.max() < 12


def test_in_plane_angles_close_the_circle() -> None:
    np.testing.assert_allclose(ro.in_plane_angles(90), [0, 90, 180, 270])
    np.testing.assert_allclose(np.diff(ro.in_plane_angles(7)), 360 / 52)


def test_angular_distance_is_exact_at_both_ends() -> None:
    for angle in (0.0, 1e-4, 60.0, 180.0):
        turned = ro.matrices_from_euler(np.array([[angle, 0.0, 0.0]]))
        assert ro.angular_distance_deg(turned, np.eye(3))[0] == pytest.approx(angle, abs=1e-6)
