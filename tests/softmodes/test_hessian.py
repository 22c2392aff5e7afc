"""The Hessian against its definition: adjoints, the profile likelihood itself, rigid motions, closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from napari_pickbias.imaging.phantoms import Blobs, blob_volume
from napari_pickbias.imaging.rotations import Views as Directions
from napari_pickbias.imaging.rotations import random_rotations
from napari_pickbias.imaging.volumes import soft_ball
from napari_pickbias.softmodes.hessian import Hessian, rigid_generators
from napari_pickbias.softmodes.metric import Convolution, corner_symbol
from napari_pickbias.softmodes.realign import realign
from napari_pickbias.softmodes.views import make_views, orthonormal_tangents, sample, slices_and_tangents, spread


def molecule(size: int, *, spread_px: float = 1.8, sigma_px: float = 1.6, seed: int = 3) -> np.ndarray:
    """Blobs without symmetry that decay before the edge of the box and before Nyquist."""
    rng = np.random.default_rng(seed)
    blobs = Blobs(rng.uniform(-spread_px, spread_px, (8, 3)), np.full(8, sigma_px), rng.uniform(0.5, 1.5, 8))
    return blob_volume(blobs, size).astype(np.float64)


def make_hessian(size: int = 12, images: int = 6, *, ctf: bool = False, **options: object) -> Hessian:
    rng = np.random.default_rng(5)
    support = soft_ball(size, size / 2 - 1) >= 0.5
    filters = rng.uniform(-1, 1, (images, size, size // 2 + 1)) if ctf else None
    views = make_views(random_rotations(images, rng), size, ctf=filters)
    return Hessian(molecule(size) * support, views, support, images=images, **options)  # type: ignore[arg-type]


def dense_slices(volumes: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The definition: sum over voxels of v exp(-i k x)."""
    size = volumes.shape[-1]
    axis = np.arange(size) - size // 2
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    places = np.stack([x, y, z]).reshape(3, -1)
    kernel = np.exp(-1j * points.reshape(3, -1).T @ places)
    return (kernel @ volumes.reshape(len(volumes), -1).T).T.reshape(len(volumes), *points.shape[1:])


def test_slices_equal_their_definition_and_the_adjoint_is_exact() -> None:
    rng = np.random.default_rng(0)
    views = make_views(random_rotations(3, rng), 8)
    volumes = rng.standard_normal((2, 8, 8, 8))
    slices = sample(volumes, views.points)
    np.testing.assert_allclose(slices, dense_slices(volumes, views.points), atol=1e-6)
    values = rng.standard_normal(slices.shape) + 1j * rng.standard_normal(slices.shape)
    back = spread(values, views.points, 8)
    assert np.vdot(slices, values).real == pytest.approx(np.vdot(volumes, back), rel=1e-6)


def test_the_slices_energy_is_the_energy_of_the_images() -> None:
    """Scaled half discs: a volume that holds nothing beyond Nyquist has the energy of its projections."""
    from napari_pickbias.imaging.projection import project

    rotations = random_rotations(3, np.random.default_rng(1))
    volume = molecule(16)
    slices, _ = slices_and_tangents(volume, make_views(rotations, 16))
    images = project(volume, rotations)
    np.testing.assert_allclose(np.sum(np.abs(slices) ** 2, axis=1), np.sum(images**2, axis=(1, 2)), rtol=1e-3)


def test_tangents_are_derivatives_of_slices() -> None:
    from scipy.spatial.transform import Rotation

    hessian = make_hessian(10, 3, ctf=True)
    _, tangents = slices_and_tangents(hessian.volume, hessian.views, contrast=True)
    step = 1e-5
    for axis in range(3):
        vector = np.zeros(3)
        vector[axis] = step
        ends = []
        for sign in (1, -1):
            turned = Rotation.from_rotvec(-sign * vector).as_matrix() @ hessian.views.rotations
            ends.append(slices_and_tangents(hessian.volume, hessian.views._replace(rotations=turned))[0])
        np.testing.assert_allclose((ends[0] - ends[1]) / (2 * step), tangents[:, axis], atol=2e-5)
    np.testing.assert_allclose(tangents[:, 5], hessian.slices)


@pytest.mark.parametrize("dense", [True, False])
@pytest.mark.parametrize("ctf", [False, True])
def test_the_hessian_equals_explicit_matrices(dense: bool, ctf: bool) -> None:
    """Slice by slice: P^T (1 - T T^+) P from the full matrix of every view."""
    hessian = make_hessian(8, 4, ctf=ctf, dense=dense)
    voxels = int(hessian.support.sum())
    units = hessian.embed(np.eye(voxels))
    rows = dense_slices(units, hessian.views.points) * hessian.views.filters
    _, tangents = slices_and_tangents(hessian.volume, hessian.views)
    expected, known = np.zeros((voxels, voxels)), np.zeros((voxels, voxels))
    for view in range(4):
        project = np.concatenate([rows[:, view].real, rows[:, view].imag], axis=1).T
        tangent = np.concatenate([tangents[view].real, tangents[view].imag], axis=1).T
        rest = np.eye(len(project)) - tangent @ np.linalg.pinv(tangent)
        expected += project.T @ rest @ project
        known += project.T @ project
    corner = 4 * Convolution(corner_symbol(8), hessian.support)(np.eye(voxels))
    scale = np.abs(known).max()
    np.testing.assert_allclose(hessian.known_pose(np.eye(voxels)), known + corner, atol=1e-6 * scale)
    np.testing.assert_allclose(hessian(np.eye(voxels)), expected + corner, atol=2e-6 * scale)


def test_symmetric_and_below_the_known_pose_hessian() -> None:
    hessian = make_hessian(10, 5, ctf=True, dense=False)
    rng = np.random.default_rng(2)
    first, second = rng.standard_normal((2, int(hessian.support.sum())))
    assert first @ hessian(second) == pytest.approx(second @ hessian(first), rel=1e-6)
    for vector in rng.standard_normal((5, len(first))):
        value = vector @ hessian(vector)
        assert 0 < value < vector @ hessian.known_pose(vector)


@pytest.mark.parametrize("shifts", [False, True])
def test_second_differences_of_the_profile_likelihood_converge_with_slope_two(shifts: bool) -> None:
    """Poses are fitted anew at V + e v and V - e v; the loss over e^2 tends to half v H v, the error as e^2."""
    size = 16
    hessian = make_hessian(size, 6, shifts=shifts)
    rng = np.random.default_rng(8)
    # A smooth change of the size of the map: poses must follow, not jump.
    change = (molecule(size, seed=11) - molecule(size, seed=12))[hessian.support]
    change += 0.02 * np.abs(change).max() * rng.standard_normal(len(change))
    change *= np.sqrt((hessian.volume**2).sum() / (change**2).sum())
    corner = hessian.images * Convolution(corner_symbol(size), hessian.support)(change)
    exact = 0.5 * change @ (hessian(change) - corner)
    errors = []
    steps = np.array([4e-3, 2e-3, 1e-3])
    for step in steps:
        loss = [
            realign(hessian.volume + s * hessian.embed(change)[0], hessian.views, hessian.slices, shifts=shifts,
                    iterations=8).misfit.sum()
            for s in (step, -step)
        ]  # fmt: skip
        errors.append(abs(np.mean(loss) / step**2 / exact - 1))
    assert errors[-1] < 5e-4
    slope = np.polyfit(np.log(steps), np.log(errors), 1)[0]
    assert slope == pytest.approx(2, abs=0.25)
    known = 0.5 * change @ (hessian.known_pose(change) - corner)
    assert known > 1.1 * exact


@pytest.mark.parametrize("shifts", [False, True])
def test_rigid_motions_cost_nothing_when_their_poses_are_free(shifts: bool) -> None:
    size, images = 18, 12
    support = soft_ball(size, size / 2 - 1) >= 0.5
    volume = molecule(size, spread_px=1.5) * support
    views = make_views(random_rotations(images, np.random.default_rng(1)), size)
    hessian = Hessian(volume, views, support, images=images, shifts=shifts, dense=False)
    motions = rigid_generators(volume, support)
    profile = np.einsum("nk,nk->k", motions, hessian(motions))
    known = np.einsum("nk,nk->k", motions, hessian.known_pose(motions))
    assert (profile[:3] / known[:3] < 1e-4).all()
    assert ((profile[3:] / known[3:] < 1e-4) == shifts).all()


def test_uniform_views_have_the_metric_as_known_pose_hessian() -> None:
    size, images = 12, 400
    support = soft_ball(size, size / 2 - 1) >= 0.5
    views = make_views(random_rotations(images, np.random.default_rng(1)), size)
    hessian = Hessian(molecule(size), views, support, images=images, dense=False)
    vector = molecule(size)[support]
    # 0.98 to 0.995 by the cell about k = 0, and the draw of views
    assert vector @ hessian.known_pose(vector) / images / (vector @ hessian.metric(vector)) == pytest.approx(
        1, abs=0.04
    )


def test_a_pose_that_equatorial_views_cannot_see() -> None:
    """For d tau = h(alpha) about z and dF = h(phi) d_phi F the slice residual is exactly 0 on the equator."""
    rng = np.random.default_rng(4)
    rotations = random_rotations(5, rng, Directions("equatorial", 1e-6))
    views = make_views(rotations, 12)
    volume = molecule(12)
    slices, tangents = slices_and_tangents(volume, views, shifts=False)
    points = views.points
    axis = np.array([0.0, 0.0, 1.0])
    from napari_pickbias.softmodes.views import gradient_volumes

    gradient = sample(gradient_volumes(volume), points) * views.filters
    turning = np.einsum("cjp,cjp->jp", np.cross(axis, points.transpose(1, 2, 0)).transpose(2, 0, 1), gradient)
    phi = np.arctan2(points[1], points[0])
    change = np.cos(2 * phi) * turning
    basis = orthonormal_tangents(tangents).basis
    parts = np.einsum("jqp,jp->jq", basis.conj(), change).real
    left = change - np.einsum("jq,jqp->jp", parts, basis)
    assert np.linalg.norm(left) < 1e-4 * np.linalg.norm(change)
    assert np.linalg.norm(slices) > 0


def test_undetermined_poses_are_left_out() -> None:
    """A ball's turns change nothing: no direction is invented, and the Hessian stays below the known-pose one."""
    size = 10
    ball = blob_volume(Blobs(np.zeros((1, 3)), np.array([1.6]), np.ones(1)), size).astype(np.float64)
    views = make_views(random_rotations(3, np.random.default_rng(0)), size)
    support = soft_ball(size, 4) >= 0.5
    hessian = Hessian(ball * 1.0, views, support, images=3, dense=False)
    vector = np.random.default_rng(1).standard_normal(int(support.sum()))
    assert np.isfinite(hessian(vector)).all()
    assert 0 < vector @ hessian(vector) < vector @ hessian.known_pose(vector)
