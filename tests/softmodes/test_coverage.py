"""Coverage: kinds of views, and the sampling compensation factor against its closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from napari_pickbias.imaging.rotations import parse_views, random_rotations
from napari_pickbias.softmodes.coverage import coverage


def point_group(name: str) -> np.ndarray:
    return np.asarray(Rotation.create_group(name).as_matrix())


# Uniform views give 1; views about one axis 8 / pi^2 = 0.811 (the mean of 1 / sin is pi / 2, that of sin pi / 4).
@pytest.mark.parametrize(
    ("views", "kind", "scf"),
    [("uniform", "even", 1.0), ("equatorial:1", "equatorial", 0.811), ("equatorial:15", "equatorial", 0.82)],
)
def test_kind_and_sampling_compensation(views: str, kind: str, scf: float) -> None:
    rotations = random_rotations(3000, np.random.default_rng(0), parse_views(views))
    found = coverage(rotations, 32)
    assert found.kind == kind
    assert found.scf == pytest.approx(scf, abs=0.025)
    assert found.unseen == 0
    if kind == "equatorial":
        assert abs(found.axis[2]) > 0.999
        assert found.mean_square_cosine < 0.05


def test_a_polar_cap_leaves_a_cone_unseen() -> None:
    """Slices reach polar angles from 60 degrees on, less half of their thickness: asin(2 / 32) = 3.6 degrees."""
    found = coverage(random_rotations(3000, np.random.default_rng(0), parse_views("polar:30")), 32)
    assert found.kind == "polar"
    assert found.unseen == pytest.approx(1 - np.cos(np.radians(60 - 3.58)), abs=0.015)
    assert found.scf < 0.4


def test_the_axis_is_found_wherever_it_lies_and_weights_count() -> None:
    rng = np.random.default_rng(0)
    turn = random_rotations(1, rng)[0]
    rotations = random_rotations(1000, rng, parse_views("polar:20")) @ turn
    assert abs(coverage(rotations, 32).axis @ turn[2]) > 0.99
    both = np.concatenate([rotations, random_rotations(1000, rng)])
    weights = np.concatenate([np.ones(1000), np.zeros(1000)])
    assert coverage(both, 32, weights).kind == "polar"
    assert coverage(both, 32).kind == "uneven"


def test_copies_by_symmetry_count_as_views() -> None:
    rotations = random_rotations(1000, np.random.default_rng(0), parse_views("polar:30"))
    assert coverage(rotations, 32, symmetry=point_group("O")).kind == "uneven"
    assert coverage(rotations, 32, symmetry=point_group("C4")).kind == "polar"
