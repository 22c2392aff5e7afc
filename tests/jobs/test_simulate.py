"""Simulated particle stacks: the truth table explains every pixel, and nothing depends on chunks or threads."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import pandas as pd
import pytest
import starfile

from napari_pickbias.errors import InputError
from napari_pickbias.imaging.correlation import fourier_correlation
from napari_pickbias.imaging.ctf import ctf
from napari_pickbias.imaging.noise import COLOURS, radial_power
from napari_pickbias.imaging.phantoms import blob_volume, phantom
from napari_pickbias.imaging.projection import project
from napari_pickbias.imaging.rotations import matrices_from_euler
from napari_pickbias.imaging.volumes import distance_grid
from napari_pickbias.jobs.progress import Progress
from napari_pickbias.jobs.simulate import SimulateParticlesParameters, prepare_volume, simulate_particles

SMALL: dict[str, Any] = {"count": 150, "size": 32, "pixel_size": 5.0, "per_micrograph": 40}
MIXED: dict[str, Any] = {"multiple_fraction": 0.2, "noise_fraction": 0.2, "partial_fraction": 0.1}


def simulate(
    options: dict[str, Any], **more: Any
) -> tuple[np.ndarray, pd.DataFrame, dict[str, Any], list[int], list[Progress]]:
    """Run the job; return images, table, summary, the sizes of the chunks, and the progress."""
    images, tables, steps = [], [], []

    def keep(chunk: np.ndarray, rows: pd.DataFrame) -> None:
        assert len(chunk) == len(rows)
        images.append(chunk)
        tables.append(rows)

    job = simulate_particles(SimulateParticlesParameters(**options), write_chunk=keep, **more)
    while True:
        try:
            steps.append(next(job))
        except StopIteration as stop:
            summary = stop.value
            break
    return np.concatenate(images), pd.concat(tables, ignore_index=True), summary, [len(i) for i in images], steps


@pytest.mark.parametrize("noise", ["white", "coloured"])
def test_same_bytes_whatever_chunks_and_threads(noise: str) -> None:
    options = {**SMALL, **MIXED, "noise": noise}
    images, table, summary, sizes, steps = simulate(options)
    assert sizes == [150]
    again, rows, _, chunks, more_steps = simulate(options, threads=3, chunk_particles=1)
    assert chunks == [64, 64, 22]
    assert again.tobytes() == images.tobytes()
    pd.testing.assert_frame_equal(rows, table)
    assert [step.done for step in steps] == [0, 150]
    assert [step.done for step in more_steps] == [0, 64, 128, 150]
    assert all(step.total == 150 for step in more_steps)
    assert summary["by_kind"] == {"inlier": 75, "multiple": 30, "noise": 30, "partial": 15}
    assert table["kind"].value_counts().to_dict() == summary["by_kind"]
    other = simulate({**options, "seed": 1})[0]
    assert np.abs(np.corrcoef(other.ravel(), images.ravel())[0, 1]) < 0.05  # 4 pairs: at most 0.009


def test_table_columns_are_relions_and_the_truth() -> None:
    images, table, summary, _, _ = simulate(SMALL)
    assert images.dtype == np.float32
    assert images.shape == (150, 32, 32)
    assert list(table.columns) == [
        "rlnMicrographName", "rlnCoordinateX", "rlnCoordinateY", "rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi",
        "rlnOriginXAngst", "rlnOriginYAngst", "rlnDefocusU", "rlnDefocusV", "rlnDefocusAngle", "rlnPhaseShift",
        "rlnOpticsGroup", "kind", "amplitude", "second_amplitude", "second_x_angstrom", "second_y_angstrom",
    ]  # fmt: skip
    groups = table.groupby("rlnMicrographName", sort=False)
    assert groups.size().to_list() == [40, 40, 40, 30]
    assert groups["rlnDefocusU"].nunique().max() == 1
    assert table["rlnDefocusU"].nunique() == 4
    mean = (table["rlnDefocusU"] + table["rlnDefocusV"]) / 2
    assert mean.between(10000, 25000).all()
    assert (table["rlnDefocusU"] - table["rlnDefocusV"]).between(0, 300).all()
    assert table["amplitude"].between(0.8, 1.2).all()
    assert table["rlnOriginXAngst"].std() == pytest.approx(5, rel=0.25)  # 150 numbers: standard error 6 %
    assert summary["optics"] == {
        "rlnOpticsGroup": 1,
        "rlnOpticsGroupName": "opticsGroup1",
        "rlnImagePixelSize": 5.0,
        "rlnImageSize": 32,
        "rlnImageDimensionality": 2,
        "rlnMicrographOriginalPixelSize": 5.0,
        "rlnVoltage": 300.0,
        "rlnSphericalAberration": 2.7,
        "rlnAmplitudeContrast": 0.1,
    }


def test_without_ctf_there_are_no_ctf_columns() -> None:
    _, table, summary, _, _ = simulate({**SMALL, "ctf": False})
    assert not [c for c in table.columns if "Defocus" in c or "PhaseShift" in c]
    assert "rlnVoltage" not in summary["optics"]


def signal_of(options: dict[str, Any]) -> tuple[np.ndarray, pd.DataFrame, dict[str, Any]]:
    """Return the noise-free images at SNR 1: two stacks of one seed differ in nothing but the signal's scale."""
    quiet, table, summary, _, _ = simulate({**options, "snr": 1.0})
    loud = simulate({**options, "snr": 9.0})[0]
    return (loud.astype(float) - quiet) / 2, table, summary


def test_the_truth_table_explains_every_particle() -> None:
    signal, table, _ = signal_of({**SMALL, **MIXED})
    parameters = SimulateParticlesParameters(**SMALL)
    volume, _ = prepare_volume(parameters)
    alone = (table["kind"] == "inlier").to_numpy()
    transfer = ctf(
        (32, 32),
        5.0,
        defocus_u_angstrom=table["rlnDefocusU"][alone],
        defocus_v_angstrom=table["rlnDefocusV"][alone],
        defocus_angle_deg=table["rlnDefocusAngle"][alone],
        voltage_kv=300.0,
        spherical_aberration_mm=2.7,
        amplitude_contrast=0.1,
    )
    shown = project(
        volume,
        matrices_from_euler(table.loc[alone, ["rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"]].to_numpy()),
        shifts_px=-table.loc[alone, ["rlnOriginXAngst", "rlnOriginYAngst"]].to_numpy() / 5.0,
        ctf=transfer,
    )
    shown = shown * table.loc[alone, "amplitude"].to_numpy()[:, None, None]
    scale = np.sum(shown * signal[alone]) / np.sum(shown**2)
    # what the CTF spreads beyond the box wraps in `shown` and is lost in the stack: 1 % of the energy
    assert np.sum((signal[alone] - scale * shown) ** 2) < 0.01 * np.sum(signal[alone] ** 2)
    empty = (table["kind"] == "noise").to_numpy()
    assert np.abs(signal[empty]).max() < 1e-6
    energy = np.sum(signal**2, axis=(1, 2))
    kind = table["kind"].to_numpy()
    assert np.mean(energy[kind == "multiple"]) > 1.2 * np.mean(energy[kind == "inlier"])
    assert np.mean(energy[kind == "partial"]) < 0.8 * np.mean(energy[kind == "inlier"])


@pytest.mark.parametrize("noise", ["white", "coloured"])
def test_snr_is_as_defined(noise: str) -> None:
    options = {**SMALL, "noise": noise, "offset": 0.0, "amplitude_spread": 0.0}
    signal, _, summary = signal_of(options)
    inside = distance_grid(32, 2) <= summary["radius_angstrom"] / 5.0
    # defined on 256 other views; 10 seeds: .96 ... 1.03
    assert np.mean(signal[:, inside].var(axis=1)) == pytest.approx(1, rel=0.08)
    empty = simulate({**options, "noise_fraction": 1.0})[0]
    # 10 seeds: .994 ... 1.004 (white), .994 ... 1.007 (coloured)
    assert empty.var() == pytest.approx(1, rel=0.015)


def test_noise_has_the_spectrum_handed_in() -> None:
    frequencies = np.linspace(0, 0.75, 76)
    spectrum = 3 * COLOURS["coloured"](frequencies)
    options = {**SMALL, "count": 300, "noise": "like", "noise_fraction": 1.0}
    images = simulate(options, noise_spectrum=(frequencies, spectrum))[0]
    found, powers = radial_power(images, np.ones((32, 32)), taper_px=16)
    middle = (found > 0.05) & (found < 0.45)
    ratio = powers[middle] / COLOURS["coloured"](found[middle])
    # 10 seeds: .945 ... 1.023 of the mean ratio
    np.testing.assert_allclose(ratio / ratio.mean(), 1, atol=0.08)


def test_views_are_followed() -> None:
    _, table, _, _, _ = simulate({**SMALL, "views": "equatorial:10"})
    assert table["rlnAngleTilt"].between(80, 100).all()


def test_a_map_of_any_voxel_size_is_shown_at_its_size() -> None:
    blobs = phantom(10, elongation=1.5)
    volume = blob_volume(blobs, 48)
    options = {**SMALL, "map": "some.mrc", "ctf": False, "offset": 0.0, "snr": 1e6}
    images, table, summary, _, _ = simulate(options, volume=volume, volume_voxel_size=4.0)
    assert summary["radius_angstrom"] == pytest.approx(40, rel=0.25)  # density above a fifth of the maximum alone
    scaled = blobs._replace(centres_px=blobs.centres_px * 0.8, sigmas_px=blobs.sigmas_px * 0.8)
    rotations = matrices_from_euler(table[["rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"]].to_numpy())
    expected = project(blob_volume(scaled, 32), rotations)
    similarity = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(images, expected, strict=True)]
    assert min(similarity) > 0.999


@pytest.mark.parametrize(
    ("options", "more", "message"),
    [
        (
            {"multiple_fraction": 0.6, "noise_fraction": 0.5},
            {},
            "--multiple-fraction, --noise-fraction and --partial-fraction add up to 1.1; "
            "give shares that add up to at most 1",
        ),
        (
            {"defocus_min": 3e4, "defocus_max": 2e4},
            {},
            "--defocus-min 30000: larger than --defocus-max 20000; swap them",
        ),
        (
            {"views": "polar:100"},
            {},
            "--views polar:100: not a view distribution; give uniform, polar:DEG or equatorial:DEG with DEG above 0, "
            "at most 90",
        ),
        (
            {"map": "x.mrc"},
            {},
            "--map x.mrc: no volume or voxel size was handed in; give a readable map, or phantom",
        ),
        (
            {"map": "x.mrc"},
            {"volume": -np.ones((8, 8, 8), np.float32), "volume_voxel_size": 2.0},
            "--map x.mrc: nothing in it is bright; give a map with density above zero",
        ),
        (
            {"map": "x.mrc", "radius": 60.0},
            {
                "volume": blob_volume(phantom(8)._replace(centres_px=np.full((32, 3), 10.0)), 40),
                "volume_voxel_size": 5.0,
            },
            "--size 32: the box (160 Å) is too small for the particle (120 Å across, 86.6 Å off the map's centre); "
            "give at least 88 px or a larger --pixel-size, or centre the map",
        ),
        (
            {"radius": 90.0},
            {},
            "--size 32: the box (160 Å) is too small for the particle (180 Å across); "
            "give at least 54 px or a larger --pixel-size",
        ),
        (
            {"noise": "like"},
            {},
            "--noise like: no noise spectrum was handed in; give like:FILE with a micrograph or stack",
        ),
    ],
)
def test_faults_are_said_in_one_line(options: dict[str, Any], more: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        simulate({**SMALL, **options}, **more)
    assert str(caught.value) == message


def test_closing_the_generator_stops_the_work() -> None:
    written = []
    job = simulate_particles(
        SimulateParticlesParameters(count=100_000, size=16), write_chunk=lambda i, _: written.append(len(i))
    )
    while not written:
        next(job)
    job.close()
    assert written == [512]


@pytest.mark.interop
def test_relion_reconstructs_the_molecule(tmp_path: Path) -> None:
    """Angles, origins, CTF and their signs, judged by RELION itself."""
    if shutil.which("relion_reconstruct") is None:
        pytest.skip("relion_reconstruct is not installed")
    options = {"count": 400, "size": 40, "pixel_size": 5.0, "snr": 20.0, "offset": 8.0}
    images, table, summary, _, _ = simulate(options)
    mrcfile.write(tmp_path / "p.mrcs", images, voxel_size=5.0)
    particles = table[[c for c in table.columns if c.startswith("rln")]].copy()
    particles.insert(0, "rlnImageName", [f"{i + 1:06d}@p.mrcs" for i in range(len(table))])
    tables = {"optics": pd.DataFrame([summary["optics"]]), "particles": particles}
    starfile.write(tables, tmp_path / "p.star")
    run = subprocess.run(
        ["relion_reconstruct", "--i", "p.star", "--o", "r.mrc", "--ctf", "--angpix", "5"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    truth, _ = prepare_volume(SimulateParticlesParameters(**options))
    curve = fourier_correlation(truth, np.asarray(mrcfile.read(tmp_path / "r.mrc")), 3)
    assert curve[1:9].min() > 0.99  # measured .999 and above to shell 8
