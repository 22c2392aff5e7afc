"""Uniform views, a pose error that depends on the view alone: what it costs, against its closed forms.

The information about a field of pose errors h_j that a map may follow is h (H_tt - H_tF H_FF^-1 H_Ft) h. On uniform
views it tends to an integral over Fourier space: of points that one image pushes one way and another image another
way, only the variance is seen. Latitudinal, sin 2b along the meridian: a circle of radius (eps / 2) sin 2a.
Longitudinal, sin 2a about the axis: variance (1 - u^2) / 2 with u = (1 - |cos a|) / (1 + |cos a|). (The printed
1 + u of the second contradicts that it vanishes at the equator, where all points move alike.)
"""

from __future__ import annotations

import numpy as np
import pytest

from napari_pickbias.imaging.rotations import super_fibonacci_rotations


def test_the_variance_of_a_longitudinal_push_is_one_minus_u_squared_over_two() -> None:
    """Exact on the sphere: a point at polar angle a is seen by views on the great circle perpendicular to it."""
    angle = (np.arange(2000) + 0.5) * (2 * np.pi / 2000)
    for polar in np.radians([5.0, 30.0, 60.0, 85.0, 90.0]):
        point = np.array([np.sin(polar), 0, np.cos(polar)])
        first = np.array([np.cos(polar), 0, -np.sin(polar)])
        circle = np.cos(angle)[:, None] * first + np.sin(angle)[:, None] * np.cross(point, first)
        azimuth = np.arctan2(circle[:, 1], circle[:, 0])
        push = np.sin(2 * azimuth)
        u = (1 - abs(np.cos(polar))) / (1 + abs(np.cos(polar)))
        assert push.var() == pytest.approx((1 - u**2) / 2, abs=2e-2 if polar > 1.5 else 1e-6)
        # cos 2 azimuth carries the mean of a circle whose radius is at the same azimuth as the point, but for its sign
        assert abs(np.cos(2 * azimuth).mean()) == pytest.approx(u, abs=2e-2 if polar > 1.5 else 1e-6)


def test_a_latitudinal_push_moves_points_on_a_circle() -> None:
    """sin 2b at views perpendicular to a point: mean square of the push along the sphere is (sin 2a / 2)^2."""
    angle = (np.arange(720) + 0.5) * (2 * np.pi / 720)
    polar = np.radians(35.0)
    point = np.array([np.sin(polar), 0, np.cos(polar)])
    first = np.array([np.cos(polar), 0, -np.sin(polar)])
    side = np.cross(point, first)
    view = np.cos(angle)[:, None] * first + np.sin(angle)[:, None] * side
    tilt = np.arccos(view[:, 2])
    # the view turns along its meridian about the axis z x view
    axis = np.cross([0, 0, 1.0], view)
    axis /= np.linalg.norm(axis, axis=1)[:, None]
    moved = np.sin(2 * tilt)[:, None] * np.cross(axis, point)
    along, across = moved @ first, moved @ side
    radius = np.hypot(along - along.mean(), across - across.mean())
    np.testing.assert_allclose(radius, abs(np.sin(2 * polar)) / 2, rtol=1e-6)
    assert np.hypot(along.mean(), across.mean()) == pytest.approx(abs(np.sin(2 * polar)) / 2, rel=1e-6)


def test_the_schur_complement_in_poses_reaches_the_closed_forms() -> None:
    """Both fields on a small box: within 15 %, and not below (the support constrains what the map may follow)."""
    import scipy.linalg

    from napari_pickbias.imaging.phantoms import Blobs, blob_volume
    from napari_pickbias.imaging.volumes import soft_ball
    from napari_pickbias.softmodes.hessian import Hessian
    from napari_pickbias.softmodes.views import gradient_volumes, make_views, sample, slices_and_tangents

    size, images = 12, 400
    rng = np.random.default_rng(2)
    blobs = Blobs(rng.uniform(-0.9, 0.9, (6, 3)), np.full(6, 1.2), rng.uniform(0.5, 1.5, 6))
    support = soft_ball(size, 5) >= 0.5
    volume = blob_volume(blobs, size).astype(np.float64) * support
    views = make_views(super_fibonacci_rotations(images), size)
    hessian = Hessian(volume, views, support, images=images, shifts=False, dense=False)
    _, tangents = slices_and_tangents(volume, views, shifts=False)
    direction = views.rotations[:, 2]
    tilt, azimuth = np.arccos(direction[:, 2]), np.arctan2(direction[:, 1], direction[:, 0])
    meridian = np.cross([0, 0, 1.0], direction)
    meridian /= np.linalg.norm(meridian, axis=1)[:, None]
    fields = {
        "longitudinal": np.sin(2 * azimuth)[:, None] * np.array([0, 0, 1.0]),
        "latitudinal": np.sin(2 * tilt)[:, None] * meridian,
    }
    # Integrals over Fourier space by the same slices: uniform views have the density of the integral.
    points = views.points
    gradient = sample(gradient_volumes(volume), points) * views.filters
    radius = np.linalg.norm(points, axis=0)
    height = np.divide(points[2], radius, out=np.ones_like(radius), where=radius > 0)
    ring = np.hypot(points[0], points[1])
    about = points[0] * gradient[1] - points[1] * gradient[0]
    down = np.divide(
        points[2] * (points[0] * gradient[0] + points[1] * gradient[1]) - ring**2 * gradient[2],
        ring, out=np.zeros_like(about), where=ring > 0,
    )  # fmt: skip
    sine = np.sqrt(np.clip(1 - height**2, 1e-12, None))
    u = (1 - np.abs(height)) / (1 + np.abs(height))
    expected = {
        "longitudinal": np.sum(0.5 * (1 - u**2) * np.abs(about) ** 2),
        "latitudinal": np.sum(0.5 * (sine * height) ** 2 * (np.abs(down) ** 2 + np.abs(about) ** 2 / sine**2)),
    }
    known = scipy.linalg.cho_factor(hessian.known_pose(np.eye(int(support.sum()))))
    for name, field in fields.items():
        # a turn about an axis of the molecule's frame, in the frame of the image
        local = np.einsum("jab,jb->ja", views.rotations, field)
        push = np.einsum("ja,jap->jp", local, tangents[:, :3])
        pull = hessian._back(push[None])[:, 0]
        left = np.sum(np.abs(push) ** 2) - pull @ scipy.linalg.cho_solve(known, pull)
        ratio = left / expected[name]
        assert 0.97 < ratio < 1.15
