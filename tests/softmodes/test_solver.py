"""Solvers side by side, restarts, and the eigenvalues by views that the literature's values are compared with."""

from __future__ import annotations

import numpy as np
import pytest

from napari_pickbias.imaging.phantoms import Blobs, blob_volume, phantom
from napari_pickbias.imaging.rotations import matrices_from_euler, parse_views, random_rotations
from napari_pickbias.imaging.volumes import soft_ball
from napari_pickbias.softmodes import SoftModes, soft_modes
from napari_pickbias.softmodes.hessian import Hessian, rigid_generators
from napari_pickbias.softmodes.lanczos import lanczos_softest
from napari_pickbias.softmodes.solver import Restart, dense_softest, softest
from napari_pickbias.softmodes.views import make_views


def problem(size: int = 12, images: int = 60) -> tuple[Hessian, np.ndarray]:
    support = soft_ball(size, size / 2 - 1) >= 0.5
    volume = blob_volume(phantom(0.27 * size), size).astype(np.float64) * support
    views = make_views(random_rotations(images, np.random.default_rng(0)), size)
    return Hessian(volume, views, support, images=images), rigid_generators(volume, support)


def test_lanczos_bounds_the_softest_values_from_above() -> None:
    hessian, rigid = problem()
    exact = dense_softest(hessian, 3, rigid)
    few = lanczos_softest(hessian, 3, rigid, np.random.default_rng(0), iterations=12)
    many = lanczos_softest(hessian, 3, rigid, np.random.default_rng(0), iterations=48)
    assert (few.eigenvalues >= exact.eigenvalues * (1 - 1e-6)).all()
    assert (many.eigenvalues <= few.eigenvalues * (1 + 1e-6)).all()
    assert many.eigenvalues[0] == pytest.approx(exact.eigenvalues[0], rel=1e-4)
    assert few.residuals[0] > many.residuals[0]
    block = softest(hessian, 3, rigid, np.random.default_rng(0), tolerance=3e-4, iterations=100)
    np.testing.assert_allclose(block.eigenvalues, exact.eigenvalues, rtol=1e-6)


def test_a_restart_gives_the_very_same_answer() -> None:
    hessian, rigid = problem()
    states: list[Restart] = []
    whole = softest(hessian, 3, rigid, np.random.default_rng(0), tolerance=1e-12, iterations=75, on_round=states.append)
    assert [state.done for state in states] == [25, 50]
    again = softest(hessian, 3, rigid, np.random.default_rng(0), tolerance=1e-12, iterations=75, restart=states[0])
    np.testing.assert_array_equal(again.modes, whole.modes)
    np.testing.assert_array_equal(again.eigenvalues, whole.eigenvalues)


def polar_by_density(count: int, width: float, rng: np.random.Generator) -> np.ndarray:
    """Directions with density ``exp(-beta^2 / 2 s^2)`` about the poles, beta the angle to the nearer one."""
    grid = np.linspace(0, np.pi / 2, 4001)
    mass = np.cumsum(np.exp(-(grid**2) / (2 * width**2)) * np.sin(grid))
    tilt = np.degrees(np.interp(rng.random(count), mass / mass[-1], grid))
    tilt = np.where(rng.random(count) < 0.5, tilt, 180 - tilt)
    return matrices_from_euler(np.stack([rng.uniform(-180, 180, count), tilt, rng.uniform(-180, 180, count)], axis=1))


@pytest.fixture(scope="module")
def by_views() -> dict[str, SoftModes]:
    size, images = 18, 128
    rng = np.random.default_rng(2)
    reach = 0.22 * size
    centres = rng.normal(0, 0.55 * reach, (20, 3)).clip(-reach, reach)
    volume = blob_volume(Blobs(centres, np.full(20, 1.2), rng.uniform(0.5, 1.5, 20)), size)
    draw = np.random.default_rng
    views = {
        "uniform": random_rotations(images, draw(0)),
        "equatorial:15": random_rotations(images, draw(0), parse_views("equatorial:15")),
        "equator": random_rotations(images, draw(0), parse_views("equatorial:0.001")),
        "polar density": polar_by_density(images, 0.61, draw(0)),
    }
    return {name: soft_modes(volume, rotations, modes=1, iterations=50) for name, rotations in views.items()}


# Softest eigenvalue, and the same mode's at known poses, at box 18, 256 views, shifts free, as published for blobs:
# (.264 .99) (.135 .131) (.047 .72) (.037 .73). Eight molecules of ours gave .28 to .41, .13 to .15, .02 to .11 and .007
# to .09: how soft the equator is depends on the molecule; other draws of the few side views of the polar set gave .08.
# The case taken here, with 128 views, is .36, .14, .061, .046.
@pytest.mark.parametrize(
    ("views", "softest_value", "known", "coupled"),
    [
        ("uniform", 0.264, 0.99, True),
        ("polar density", 0.135, 0.131, False),
        ("equatorial:15", 0.047, 0.72, True),
        ("equator", 0.037, 0.73, True),
    ],
)
def test_eigenvalues_by_views(
    by_views: dict[str, SoftModes], views: str, softest_value: float, known: float, coupled: bool
) -> None:
    found = by_views[views]
    assert softest_value / 1.6 < found.eigenvalues[0] < softest_value * 1.6
    assert known / 1.3 < found.known_pose_eigenvalues[0] < known * 1.3
    left = found.eigenvalues[0] / found.known_pose_eigenvalues[0]
    assert (left < 0.5) == coupled
    if not coupled:
        # Poses do not help a mode that views do not see: the two values agree.
        assert left > 0.9


@pytest.mark.parametrize("dense", [True, False])
def test_threads_do_not_change_a_bit(dense: bool) -> None:
    size = 10
    support = soft_ball(size, 4) >= 0.5
    volume = blob_volume(phantom(2.7), size).astype(np.float64) * support
    views = make_views(random_rotations(20, np.random.default_rng(0)), size)
    vectors = np.random.default_rng(1).standard_normal((int(support.sum()), 3))
    one, two = (Hessian(volume, views, support, images=20, dense=dense, threads=threads) for threads in (1, 3))
    np.testing.assert_array_equal(one(vectors), two(vectors))
    np.testing.assert_array_equal(one.metric(vectors), two.metric(vectors))
