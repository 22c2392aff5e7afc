"""One map for two sets of images: the parallel sum of two Hessians, and what splitting by view does."""

from __future__ import annotations

import numpy as np
import pytest

from napari_pickbias.imaging.phantoms import Blobs, blob_volume
from napari_pickbias.imaging.rotations import parse_views, random_rotations
from napari_pickbias.imaging.volumes import soft_ball
from napari_pickbias.softmodes import soft_modes
from napari_pickbias.softmodes.hessian import Hessian
from napari_pickbias.softmodes.joint import joint_information
from napari_pickbias.softmodes.views import make_views

SIZE, IMAGES = 12, 60
SUPPORT = soft_ball(SIZE, 5) >= 0.5


def molecule() -> np.ndarray:
    centres = np.array([[2.0, 0, 0.3], [-0.8, 1.7, -0.2], [-0.5, -1.1, 1.6], [0.2, -0.4, -1.9], [0.4, 1.6, 1.1]])
    blobs = Blobs(centres, np.full(5, 1.0), np.array([1.0, 0.8, 1.3, 0.6, 1.1]))
    return blob_volume(blobs, SIZE).astype(np.float64) * SUPPORT


def hessian(volume: np.ndarray, rotations: np.ndarray) -> Hessian:
    return Hessian(volume, make_views(rotations, SIZE), SUPPORT, images=len(rotations), dense=False)


def draw(name: str, seed: int) -> np.ndarray:
    return random_rotations(IMAGES, np.random.default_rng(seed), parse_views(name))


def test_the_loss_is_the_parallel_sum_of_full_matrices() -> None:
    first, second = hessian(molecule(), draw("uniform", 0)), hessian(molecule(), draw("equatorial:20", 1))
    unit = np.eye(int(SUPPORT.sum()))
    one, two = first(unit), second(unit)
    step = np.random.default_rng(2).standard_normal(len(unit))
    exact = step @ one @ np.linalg.pinv(one + two, rcond=1e-8, hermitian=True) @ two @ step
    found = joint_information(first, second, step, iterations=200)
    assert found.value == pytest.approx(exact, rel=1e-3)
    # No single map does worse than either of the two.
    assert found.value <= min(step @ one @ step, step @ two @ step)


def test_maps_that_only_their_own_views_excuse_are_one_map() -> None:
    """Polar and equatorial images of one molecule, each with a soft mode of its own added (Figs. 39 to 43)."""
    volume = molecule()
    views = {"polar:30": draw("polar:30", 0), "equatorial:10": draw("equatorial:10", 1)}
    wrong = {}
    for name, rotations in views.items():
        mode = soft_modes(volume, rotations, modes=1, mask=SUPPORT).modes[0]
        wrong[name] = volume + 0.05 * np.linalg.norm(volume) / np.linalg.norm(mode) * mode
    step = (wrong["equatorial:10"] - wrong["polar:30"])[SUPPORT]
    apart = joint_information(*(hessian(wrong[name], views[name]) for name in views), step)
    even = [draw("uniform", 2), draw("uniform", 3)]
    together = joint_information(*(hessian(map_, rot) for map_, rot in zip(wrong.values(), even, strict=True)), step)
    assert apart.share < 0.1
    assert together.share > 4 * apart.share
    # What explains both is the molecule itself: the step undoes the first map's own mode.
    undone = (volume - wrong["polar:30"])[SUPPORT]
    assert np.corrcoef(apart.between, undone)[0, 1] > 0.8
