"""Boxes, masks and extents."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_pickbias.imaging.phantoms import Blobs, blob_volume
from napari_pickbias.imaging.volumes import distance_grid, mass_centre_and_radius, resize_box, soft_ball


@given(old=st.integers(1, 12), new=st.integers(1, 12), dimensions=st.sampled_from([2, 3]))
@settings(deadline=None, derandomize=True, max_examples=50)
def test_resizing_a_box_keeps_the_origin_and_comes_back(old: int, new: int, dimensions: int) -> None:
    array = np.random.default_rng(0).standard_normal((2,) + (old,) * dimensions)
    resized = resize_box(array, new, dimensions)
    assert resized.shape == (2,) + (new,) * dimensions
    origin = lambda size: (0,) + (size // 2,) * dimensions  # noqa: E731
    assert resized[origin(new)] == array[origin(old)]
    if new >= old:
        np.testing.assert_array_equal(resize_box(resized, old, dimensions), array)
        assert np.sum(resized**2) == pytest.approx(np.sum(array**2))


def test_soft_ball_profile() -> None:
    ball = soft_ball(21, 5, 4)
    line = ball[10, 10, 10:]
    assert np.all(line[:6] == 1)
    assert line[7] == pytest.approx(0.5)
    assert np.all(line[9:] == 0)
    assert soft_ball(21, 5, dimensions=2).sum() == np.sum(distance_grid(21, 2) <= 5)


@pytest.mark.parametrize("size", [40, 41])
def test_mass_radius_and_centre_of_a_gaussian(size: int) -> None:
    place = np.array([2.0, -1.5, 3.0])
    volume = blob_volume(Blobs(place[None], np.array([4.0]), np.array([1.0])), size)
    centre, radius = mass_centre_and_radius(volume, threshold=1e-3)
    np.testing.assert_allclose(centre, place, atol=0.02)
    # 98 % of a 3-D Gaussian lies within 3.137 sigma; voxels come in steps
    assert radius == pytest.approx(3.137 * 4, abs=0.4)
    noisy = volume + 0.05 * volume.max() * np.abs(np.random.default_rng(0).standard_normal(volume.shape))
    assert mass_centre_and_radius(noisy)[1] < 9  # density above a fifth of the top ends at 1.79 sigma


def test_dark_volumes_are_refused() -> None:
    with pytest.raises(ValueError, match="`volume` has no positive density; particles must be bright"):
        mass_centre_and_radius(np.full((4, 4, 4), -1.0))
