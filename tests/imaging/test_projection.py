"""Slices and projections: closed forms, RELION's own projections, the adjoint, and points that must not move."""

from __future__ import annotations

from pathlib import Path

import mrcfile
import numpy as np
import pytest
import starfile

from napari_pickbias.imaging import ctf as ctf_module
from napari_pickbias.imaging.fourier import fourier_resample_volume, hermitian_weights
from napari_pickbias.imaging.phantoms import blob_projections, blob_transform, blob_volume, phantom
from napari_pickbias.imaging.projection import (
    backproject,
    central_slices,
    fourier_volume,
    half_disc,
    project,
    resample_volume,
    slice_points,
    volume_at,
)
from napari_pickbias.imaging.rotations import matrices_from_euler, random_rotations


@pytest.mark.parametrize("size", [48, 49])
def test_projections_of_blobs_are_their_closed_form(size: int) -> None:
    blobs = phantom(14)
    rng = np.random.default_rng(0)
    rotations, shifts = random_rotations(6, rng), rng.uniform(-3, 3, (6, 2))
    images = project(blob_volume(blobs, size), rotations, shifts_px=shifts)
    exact = blob_projections(blobs, rotations, size, shifts)
    # what is left is the blobs' own power beyond Nyquist (narrowest sigma 1.27 px) and the slices' 1e-5
    assert np.abs(images - exact).max() < 2e-4 * exact.max()


@pytest.mark.parametrize("size", [40, 41])
def test_slices_of_blobs_are_their_closed_form(size: int) -> None:
    blobs = phantom(12)._replace(sigmas_px=np.full(32, 1.8))
    rotations = random_rotations(4, np.random.default_rng(0))
    slices = central_slices(blob_volume(blobs, size).astype(np.float64), rotations, accuracy=1e-9)
    points, disc = slice_points(rotations, size)
    # float32 rendering and the box's cut leave 2e-6 of the transform's maximum (1, the total weight)
    assert np.abs(slices[:, disc] - blob_transform(blobs, points)).max() < 1e-5


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [6, 7])
def test_values_are_the_direct_sum(size: int, dtype: type) -> None:
    rng = np.random.default_rng(0)
    volume = rng.standard_normal((size, size, size)).astype(dtype)
    points = rng.uniform(-np.pi, np.pi, (3, 20))
    z, y, x = np.indices(volume.shape) - size // 2
    direct = [np.sum(volume * np.exp(-1j * (p[0] * x + p[1] * y + p[2] * z))) for p in points.T]
    accuracy = 1e-5 if dtype == np.float32 else 1e-11
    values = volume_at(volume, points, accuracy=accuracy)
    assert values.dtype == (np.complex64 if dtype == np.float32 else np.complex128)
    np.testing.assert_allclose(values, direct, atol=30 * accuracy * np.abs(direct).max())


@pytest.mark.parametrize("size", [16, 17])
def test_a_point_at_the_origin_never_moves(size: int) -> None:
    volume = np.zeros((size, size, size), np.float32)
    volume[size // 2, size // 2, size // 2] = 1
    images = project(volume, random_rotations(8, np.random.default_rng(0)))
    assert all(np.unravel_index(image.argmax(), image.shape) == (size // 2, size // 2) for image in images)
    np.testing.assert_allclose(images, np.broadcast_to(images[0], images.shape), atol=1e-5)
    # the peak is the share of the Fourier plane that a slice has
    assert images[0].max() == pytest.approx(np.sum(half_disc(size) * hermitian_weights(size)) / size**2, abs=1e-5)


@pytest.mark.parametrize("size", [16, 17])
def test_a_point_goes_where_the_rotation_takes_it(size: int) -> None:
    volume = np.zeros((size, size, size), np.float32)
    place = np.array([4, -3, 2])
    x, y, z = place + size // 2
    volume[z, y, x] = 1
    for euler in ([0, 0, 0], [90, 0, 0], [0, 90, 0], [0, 90, 90], [180, 90, 270]):
        rotation = matrices_from_euler(np.array([euler], float))
        expected_x, expected_y, _ = np.rint(rotation[0] @ place).astype(int)
        image = project(volume, rotation, shifts_px=np.array([[1.0, -2.0]]))[0]
        assert np.unravel_index(image.argmax(), image.shape) == (expected_y - 2 + size // 2, expected_x + 1 + size // 2)


@pytest.mark.parametrize("size", [12, 13])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_backproject_is_the_adjoint(size: int, dtype: type) -> None:
    rng = np.random.default_rng(0)
    volume = rng.standard_normal((size, size, size)).astype(dtype)
    images = rng.standard_normal((5, size, size)).astype(dtype)
    rotations, shifts = random_rotations(5, rng), rng.uniform(-2, 2, (5, 2))
    transfer = ctf_module.ctf(
        (size, size),
        3.0,
        defocus_u_angstrom=np.linspace(8e3, 2e4, 5),
        defocus_v_angstrom=9e3,
        defocus_angle_deg=25.0,
        voltage_kv=300.0,
        spherical_aberration_mm=2.7,
        amplitude_contrast=0.1,
    )
    accuracy = 1e-6 if dtype == np.float32 else 1e-11
    forward = project(volume, rotations, shifts_px=shifts, ctf=transfer, accuracy=accuracy)
    backward = backproject(images, rotations, shifts_px=shifts, ctf=transfer, accuracy=accuracy)
    assert forward.dtype == backward.dtype == dtype
    scale = np.linalg.norm(forward) * np.linalg.norm(images)
    difference = np.sum(forward.astype(float) * images) - np.sum(volume.astype(float) * backward)
    assert abs(difference) < 20 * accuracy * scale


@pytest.mark.parametrize("prepare", [lambda volume: volume, fourier_volume], ids=["array", "prepared"])
def test_a_projection_does_not_depend_on_its_company(prepare) -> None:  # type: ignore[no-untyped-def]
    volume = prepare(blob_volume(phantom(10), 32))
    rotations = random_rotations(40, np.random.default_rng(0))
    np.testing.assert_array_equal(project(volume, rotations)[17], project(volume, rotations[17:18])[0])


@pytest.mark.parametrize(("dtype", "accuracy"), [(np.float32, 1e-5), (np.float64, 1e-7), (np.float64, 1e-10)])
@pytest.mark.parametrize("size", [7, 8, 25, 40])
def test_a_prepared_volume_gives_the_same_values(size: int, dtype: type, accuracy: float) -> None:
    rng = np.random.default_rng(0)
    volume = rng.standard_normal((size, size, size))
    points = rng.uniform(-np.pi, np.pi, (3, 4, 50))
    exact = volume_at(volume, points, accuracy=1e-13)
    prepared = fourier_volume(volume.astype(dtype), accuracy=accuracy)
    values = volume_at(prepared, points)
    assert values.shape == (4, 50)
    assert np.linalg.norm(values - exact) < 6 * accuracy * np.linalg.norm(exact)  # measured 0.01 ... 4 times
    rotations = random_rotations(2, rng)
    direct = central_slices(volume, rotations, accuracy=1e-13)
    assert np.linalg.norm(central_slices(prepared, rotations) - direct) < 6 * accuracy * np.linalg.norm(direct)


@pytest.mark.parametrize("size", [64, 65])
@pytest.mark.parametrize("kind", ["centered", "shifted"])
def test_relions_own_projections_are_reproduced(data_dir: Path, size: int, kind: str) -> None:
    volume = np.asarray(mrcfile.read(data_dir / "aspire-python" / "clean70SRibosome_vol_65p.mrc"))
    stem = data_dir / "aspire-python" / f"rln_proj_{size}_{kind}"
    rows = starfile.read(f"{stem}.star")["particles"]
    shifts = np.zeros((4, 2))
    if kind == "shifted":
        shifts = -rows[["rlnOriginX", "rlnOriginY"]].to_numpy(float)
    if size % 2:
        shifts = shifts + 1  # RELION 3 puts the origin of an odd box one pixel beyond n // 2, in its images alone
    rotations = matrices_from_euler(rows[["rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"]].to_numpy(float))
    images = project(np.asarray(fourier_resample_volume(volume, size), np.float32), rotations, shifts_px=shifts)
    for ours, theirs in zip(images, mrcfile.read(f"{stem}.mrcs"), strict=True):
        # measured 0.99962 ... 0.99974: RELION interpolates a grid padded twice
        assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > 0.9995
        assert np.sum(ours * theirs) / np.sum(ours**2) == pytest.approx(1, abs=0.01)


def test_relions_points_with_poses_shifts_and_ctf_are_reproduced(data_dir: Path) -> None:
    """``relion_project`` of a map that is one point at x = 17 (and fainter ones): poses, origins and CTF at once."""
    folder = data_dir / "particles" / "relion_projections"
    tables = starfile.read(folder / "relion_proj_batch.star")
    rows, optics = tables["particles"], tables["optics"].iloc[0]
    rotations = matrices_from_euler(rows[["rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"]].to_numpy(float))
    shifts = -rows[["rlnOriginXAngst", "rlnOriginYAngst"]].to_numpy(float) / optics["rlnImagePixelSize"]
    transfer = ctf_module.ctf(
        (64, 64),
        optics["rlnImagePixelSize"],
        defocus_u_angstrom=rows["rlnDefocusU"],
        defocus_v_angstrom=rows["rlnDefocusV"],
        defocus_angle_deg=rows["rlnDefocusAngle"],
        voltage_kv=optics["rlnVoltage"],
        spherical_aberration_mm=optics["rlnSphericalAberration"],
        amplitude_contrast=optics["rlnAmplitudeContrast"],
        phase_shift_deg=rows["rlnPhaseShift"],
    )
    point = np.zeros((64, 64, 64), np.float32)
    point[32, 32, 32 + 17] = 1
    images = project(point, rotations, shifts_px=shifts, ctf=transfer)
    theirs = mrcfile.read(folder / "relion_proj_batch.mrcs")
    similarity = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(images, theirs, strict=True)]
    assert min(similarity) > 0.985  # measured 0.987 ... 0.989; the fainter points are the rest
    flipped = project(point, rotations, shifts_px=-shifts, ctf=transfer)
    assert max(np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(flipped, theirs, strict=True)) < 0.6


@pytest.mark.parametrize(("voxel", "new_size", "new_voxel"), [(1.0, 40, 1.37), (1.0, 41, 0.83), (2.0, 31, 3.1)])
def test_resampling_a_volume_keeps_the_molecule(voxel: float, new_size: int, new_voxel: float) -> None:
    blobs = phantom(8)._replace(sigmas_px=np.full(32, 2.0))
    volume = blob_volume(blobs, 44)
    ratio = voxel / new_voxel
    expected = blob_volume(
        blobs._replace(centres_px=blobs.centres_px * ratio, sigmas_px=blobs.sigmas_px * ratio), new_size
    )
    resampled = resample_volume(volume, voxel, new_size, new_voxel)
    # blob_volume integrates to the weight in voxels; resampling keeps the density per old voxel
    assert np.abs(resampled - expected * ratio**3).max() < 1e-4 * volume.max()


def test_only_cubes_are_projected() -> None:
    with pytest.raises(ValueError, match=r"`volume` has shape \(4, 4, 3\); it must be a cube"):
        project(np.zeros((4, 4, 3)), np.eye(3)[None])
