"""Surfaces of the soft-modes report: depth, displacement and level against what is known of a ball."""

from __future__ import annotations

import numpy as np
import pytest

from napari_pickbias.imaging.volumes import distance_grid
from napari_pickbias.report.softmodes_surfaces import displacement, isosurface, map_level, oblique_view

SIZE = 24


def ball(radius: float) -> np.ndarray:
    """A ball whose density falls by 1 a voxel: its surface at level 0.5 has that radius."""
    return np.minimum(radius + 0.5 - distance_grid(SIZE), 8).astype(np.float64)


def test_the_view_is_a_rotation() -> None:
    view = oblique_view()
    np.testing.assert_allclose(view @ view.T, np.eye(3), atol=1e-12)
    assert view[1, 2] > 0.9  # z is up


def test_a_ball_is_seen_at_its_radius_and_lit_from_one_side() -> None:
    surface = isosurface(ball(7), 0.5, pixels=61)
    seen = np.isfinite(surface.depth)
    area = seen.sum() * (1.04 * SIZE / 60) ** 2
    assert abs(area / (np.pi * 49) - 1) < 0.05
    assert abs(np.nanmin(surface.depth) + 7) < 0.2
    radius = np.linalg.norm(surface.points[:, seen] - SIZE // 2, axis=0)
    assert np.quantile(np.abs(radius - 7), 0.98) < 0.3
    assert surface.shade[seen].max() > 0.9
    assert surface.shade[seen].min() < 0.5
    assert not surface.shade[~seen].any()


def test_nothing_above_the_level_is_an_empty_picture() -> None:
    surface = isosurface(ball(7), 50.0, pixels=21)
    assert np.isnan(surface.depth).all()
    assert not displacement(ball(7), ball(7), surface).any()


def test_the_surface_moves_by_the_change_over_the_slope() -> None:
    surface = isosurface(ball(7), 0.5, pixels=41)
    moved = displacement(ball(7), ball(7.4) - ball(7), surface)
    assert abs(np.median(moved[np.isfinite(surface.depth)]) - 0.4) < 0.1


def test_the_level_follows_the_scale_of_the_map() -> None:
    assert map_level(3 * ball(7)) == pytest.approx(3 * map_level(ball(7)))
    assert 0 < map_level(ball(7)) < ball(7).max()
