"""The installed RELION projects the same map with the same angles, origins and CTF."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import mrcfile
import numpy as np
import pandas as pd
import pytest
import starfile

from napari_pickbias.imaging.ctf import ctf, phase_flip
from napari_pickbias.imaging.phantoms import blob_volume, phantom
from napari_pickbias.imaging.projection import project
from napari_pickbias.imaging.rotations import matrices_from_euler

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(shutil.which("relion_project") is None, reason="relion_project is not installed"),
]

COUNT, PIXEL = 6, 3.0
MICROSCOPE = {"voltage_kv": 200.0, "spherical_aberration_mm": 1.4, "amplitude_contrast": 0.08}


def run_relion(folder: Path, volume: np.ndarray, particles: pd.DataFrame, *options: str) -> np.ndarray:
    optics = {
        "rlnOpticsGroup": 1,
        "rlnOpticsGroupName": "g",
        "rlnVoltage": MICROSCOPE["voltage_kv"],
        "rlnSphericalAberration": MICROSCOPE["spherical_aberration_mm"],
        "rlnAmplitudeContrast": MICROSCOPE["amplitude_contrast"],
        "rlnImagePixelSize": PIXEL,
        "rlnImageSize": volume.shape[0],
        "rlnImageDimensionality": 2,
    }
    mrcfile.write(folder / "map.mrc", volume, voxel_size=PIXEL)
    mrcfile.write(folder / "p.mrcs", np.zeros((COUNT, *volume.shape[1:]), np.float32), voxel_size=PIXEL)
    starfile.write({"optics": pd.DataFrame([optics]), "particles": particles}, folder / "p.star")
    command = ["relion_project", "--i", "map.mrc", "--ang", "p.star", "--o", "out", "--angpix", str(PIXEL), *options]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return np.asarray(mrcfile.read(folder / "out.mrcs"))


@pytest.fixture
def particles() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "rlnImageName": [f"{i + 1:06d}@p.mrcs" for i in range(COUNT)],
            "rlnMicrographName": "m.mrc",
            "rlnAngleRot": rng.uniform(-180, 180, COUNT).round(3),
            "rlnAngleTilt": rng.uniform(0, 180, COUNT).round(3),
            "rlnAnglePsi": rng.uniform(-180, 180, COUNT).round(3),
            "rlnOriginXAngst": rng.uniform(-12, 12, COUNT).round(3),
            "rlnOriginYAngst": rng.uniform(-12, 12, COUNT).round(3),
            "rlnDefocusU": [12000.0, 14000, 9000, 20000, 16000, 11000],
            "rlnDefocusV": [9000.0, 14000, 8000, 17000, 12000, 9500],
            "rlnDefocusAngle": [0.0, 10, 45, -30, 90, 130],
            "rlnPhaseShift": [0.0, 0, 90, 30, 0, 120],
            "rlnOpticsGroup": 1,
        }
    )


def ctf_of(particles: pd.DataFrame) -> dict[str, np.ndarray]:
    return {
        "defocus_u_angstrom": particles["rlnDefocusU"].to_numpy(),
        "defocus_v_angstrom": particles["rlnDefocusV"].to_numpy(),
        "defocus_angle_deg": particles["rlnDefocusAngle"].to_numpy(),
        "phase_shift_deg": particles["rlnPhaseShift"].to_numpy(),
    }


def ours(volume: np.ndarray, particles: pd.DataFrame, transfer: np.ndarray | None = None) -> np.ndarray:
    rotations = matrices_from_euler(particles[["rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"]].to_numpy())
    shifts = -particles[["rlnOriginXAngst", "rlnOriginYAngst"]].to_numpy() / PIXEL
    if volume.shape[0] % 2:
        shifts = shifts + 1  # RELION 3 puts the origin of an odd box one pixel beyond n // 2, in its images alone
    return project(volume, rotations, shifts_px=shifts, ctf=transfer)


def similarity(first: np.ndarray, second: np.ndarray) -> float:
    """Least correlation of the pairs of images."""
    return min(np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("size", [48, 49])
def test_projections(tmp_path: Path, particles: pd.DataFrame, size: int) -> None:
    volume = blob_volume(phantom(13), size)
    theirs = run_relion(tmp_path, volume, particles)
    expected = ours(volume, particles)
    assert similarity(theirs, expected) > 0.999
    assert np.sum(theirs * expected) / np.sum(expected**2) == pytest.approx(1, abs=0.01)


def test_projections_with_astigmatic_ctf_and_phase_plate(tmp_path: Path, particles: pd.DataFrame) -> None:
    volume = blob_volume(phantom(13), 48)
    transfer = ctf((48, 48), PIXEL, **ctf_of(particles), **MICROSCOPE)
    assert similarity(run_relion(tmp_path, volume, particles, "--ctf"), ours(volume, particles, transfer)) > 0.999
    turned = ctf((48, 48), PIXEL, **{**ctf_of(particles), "defocus_angle_deg": -30.0}, **MICROSCOPE)
    assert (
        similarity(ours(volume, particles, turned), ours(volume, particles, transfer)) < 0.99
    )  # the test would notice


def test_phase_flipping(tmp_path: Path, particles: pd.DataFrame) -> None:
    """RELION flips what the CTF has turned: the flipped projections carry its absolute value."""
    volume = blob_volume(phantom(13), 48)
    transfer = ctf((48, 48), PIXEL, **ctf_of(particles), **MICROSCOPE)
    flipped = phase_flip(ours(volume, particles, transfer), PIXEL, **ctf_of(particles), **MICROSCOPE)
    assert similarity(run_relion(tmp_path, volume, particles, "--ctf", "--ctf_phase_flip"), flipped) > 0.999
