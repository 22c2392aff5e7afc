"""`pickbias softmodes` from end to end, in its own process, and its refusals, each in one line."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from napari_pickbias.imaging.phantoms import blob_volume, phantom
from napari_pickbias.imaging.projection import project as projections
from napari_pickbias.imaging.rotations import matrices_from_euler
from napari_pickbias.records import read_volume, write_mrc
from napari_pickbias.softmodes.modes import mean_energy

SIZE, COUNT = 16, 60
OPTICS = """
data_optics

loop_
_rlnOpticsGroup #1
_rlnOpticsGroupName #2
_rlnImagePixelSize #3
_rlnImageSize #4
_rlnVoltage #5
_rlnSphericalAberration #6
_rlnAmplitudeContrast #7
1 one 4.0 16 300.0 2.7 0.1

data_particles

loop_
_rlnImageName #1
_rlnOpticsGroup #2
"""


def write_star(path: Path, angles: np.ndarray | None, count: int = COUNT) -> Path:
    """Write particles whose stack is an empty file: the images must never be opened."""
    path.with_name("stack.mrcs").write_bytes(b"")
    labels = "" if angles is None else "_rlnAngleRot #3\n_rlnAngleTilt #4\n_rlnAnglePsi #5\n"
    rows = [f"{i + 1:06d}@stack.mrcs 1" for i in range(count)]
    if angles is not None:
        rows = [f"{row} {a:.3f} {b:.3f} {c:.3f}" for row, (a, b, c) in zip(rows, angles[:count], strict=True)]
    path.write_text(OPTICS + labels + "\n".join(rows) + "\n")
    return path


def random_angles() -> np.ndarray:
    rng = np.random.default_rng(0)
    tilt = np.degrees(np.arccos(rng.uniform(-1, 1, COUNT)))
    return np.stack([rng.uniform(-180, 180, COUNT), tilt, rng.uniform(-180, 180, COUNT)], axis=1)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("softmodes")
    write_mrc(folder / "map.mrc", blob_volume(phantom(4.5), SIZE), 4.0, origin_angstrom=(8.0, 4.0, -4.0))
    write_star(folder / "particles.star", random_angles())
    (folder / "stack.mrcs").unlink()  # poses are enough: the images need not even be there
    return folder


def softmodes(project: Path, out: str, *more: str) -> subprocess.CompletedProcess[str]:
    arguments = ["--map", "map.mrc", "--particles", "particles.star", "--out", out, "--modes", "2", *more]
    return subprocess.run(
        [sys.executable, "-m", "napari_pickbias", "softmodes", *arguments], cwd=project, capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def finished(project: Path) -> Path:
    run = softmodes(project, "out", "--box", "12")
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines()[-1] == "report: out/report.html"
    assert "the particles have no CTF" in run.stderr
    return project / "out"


def test_the_promised_files_and_names_are_there(finished: Path) -> None:
    modes = {f"mode_{i:02d}{end}.mrc" for i in (1, 2) for end in ("", "_plus", "_minus")}
    rest = {"uncertainty.mrc", "spectrum.csv", "particles_softmodes.star", "summary.json", "report.html", "report.pdf"}
    assert {p.name for p in finished.iterdir()} - {".pickbias"} == modes | rest | {"pickbias.log"}
    results = json.loads((finished / "summary.json").read_text())["results"]
    names = ("eigenvalues", "known_pose_eigenvalues", "residuals", "amplitude_fraction", "pose_change_deg")
    assert all(len(results[name]) == 2 for name in names)
    assert isinstance(results["valid"], bool)
    assert any("13 times" in text for text in results["warnings"])
    assert results["eigenvalues"] == sorted(results["eigenvalues"])
    assert all(a <= b for a, b in zip(results["eigenvalues"], results["known_pose_eigenvalues"], strict=True))


def test_maps_have_the_frame_of_the_map_and_modes_unit_norm(project: Path, finished: Path) -> None:
    source = read_volume(project / "map.mrc")
    volumes = {name: read_volume(finished / f"{name}.mrc") for name in ("mode_01", "mode_01_plus", "mode_01_minus")}
    for volume in [*volumes.values(), read_volume(finished / "uncertainty.mrc")]:
        assert volume.data.shape == source.data.shape
        assert volume.voxel_size_angstrom == pytest.approx(4.0)
        np.testing.assert_allclose(volume.origin_angstrom, source.origin_angstrom)
    change = (volumes["mode_01_plus"].data - volumes["mode_01_minus"].data) / 2
    mode = volumes["mode_01"].data
    everywhere = np.ones(mode.shape, bool)
    # The box of 12 cuts frequencies of the support's edge, so the norm is 1 to a few per cent.
    assert mean_energy(mode, everywhere) == pytest.approx(1, abs=0.05)
    fraction = json.loads((finished / "summary.json").read_text())["results"]["amplitude_fraction"][0]
    whole = mean_energy(source.data, everywhere)
    assert np.sqrt(mean_energy(change, everywhere) / whole) == pytest.approx(fraction, rel=0.08)
    assert np.corrcoef(change.ravel(), mode.ravel())[0, 1] > 0.9999


def test_particles_keep_their_rows_and_gain_columns(project: Path, finished: Path) -> None:
    old = [line for line in (project / "particles.star").read_text().splitlines() if "@" in line]
    text = (finished / "particles_softmodes.star").read_text()
    new = [line for line in text.splitlines() if "@" in line]
    assert all(b.startswith(a) for a, b in zip(old, new, strict=True))
    for label in ("RotationSd", "ShiftSdAngst", "Mode01Turn", "Mode01ShiftAngst", "Mode02Turn"):
        assert f"_pickbias{label} " in text
    values = np.array([[float(v) for v in line.split()[5:]] for line in new])
    assert values.shape == (COUNT, 6)
    assert (values > 0).all()


def test_what_if_views_and_a_finished_run(project: Path, finished: Path) -> None:
    del finished
    again = softmodes(project, "out", "--box", "12", "--resume")
    assert again.returncode == 0, again.stderr
    assert "finished already; nothing to do" in again.stdout
    run = softmodes(project, "polar", "--box", "12", "--views", "polar:30", "--no-shifts", "--particles-count", "600")
    assert run.returncode == 0, run.stderr
    results = json.loads((project / "polar/summary.json").read_text())["results"]
    usual = json.loads((project / "out/summary.json").read_text())["results"]
    assert results["eigenvalues"][0] < 0.2 * usual["eigenvalues"][0]
    assert not (project / "polar/particles_softmodes.star").exists()
    assert any("the views are polar:30" in text for text in results["warnings"])
    assert any("views are missing" in text for text in results["warnings"])


def test_what_if_a_path_and_the_noise_of_half_maps(project: Path) -> None:
    rng = np.random.default_rng(0)
    volume = read_volume(project / "map.mrc").data
    for half in (1, 2):
        noisy = volume + 0.02 * rng.standard_normal(volume.shape).astype(np.float32)
        write_mrc(project / f"run_half{half}_unfil.mrc", noisy, 4.0)
    write_mrc(project / "other.mrc", np.roll(volume, 1, axis=0), 4.0)
    options = ["--box", "10", "--noise", "run_half1_unfil.mrc", "--path-to", "other.mrc", "--path-steps", "3"]
    run = softmodes(project, "more", *options, "--what-if", "--add-views", "tilt:30")
    assert run.returncode == 0, run.stderr
    assert "verdict: " in run.stdout
    assert "what if: as many particles again, tilt:30: softest" in run.stdout
    results = json.loads((project / "more/summary.json").read_text())["results"]
    assert [row["what"] for row in results["what_if"]][:2] == ["the data", "as many particles again, tilt:30"]
    assert any(row["what"] == "stage tilted by 30°" and row["small_box"] for row in results["what_if"])
    assert len(results["path"]) == 3
    assert results["difference"]["eigenvalue"] < results["difference"]["known_pose_eigenvalue"]
    assert not any("13 times" in text for text in results["warnings"])
    assert len((project / "more/what_if.csv").read_text().splitlines()) == 1 + len(results["what_if"])
    assert len((project / "more/path.csv").read_text().splitlines()) == 4
    page = (project / "more/report.html").read_text()
    assert "What would help" in page
    assert "Along the path to the other map" in page


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--noise", "map.mrc"],
            "--noise map.mrc: its name has no half1 or half2; give one of two unfiltered half maps",
        ),
        (["--noise", "lone_half1.mrc"], "--noise lone_half1.mrc: its other half, lone_half2.mrc, is not beside it"),
        (["--noise", "particles.star"], "--noise particles.star: holds no noise spectra (rlnSigma2Noise); give "),
        (["--noise", "loud"], "--noise loud: is neither a number above 0 nor a file"),
        (["--views", "gone.star"], "gone.star: no such file; check the path"),
        (["--path-to", "gone.mrc"], "gone.mrc"),
        (["--images"], "stack.mrcs"),
        (["--other-particles", "particles.star"], "--other-particles: there is no other map; give it with --path-to"),
    ],
)
def test_files_that_do_not_serve_are_refused_in_one_line(project: Path, options: list[str], message: str) -> None:
    run = softmodes(project, "refused", *options)
    assert run.returncode == 2
    assert message in run.stderr
    assert "Traceback" not in run.stderr
    assert not (project / "refused").exists()


def test_with_images_the_noise_is_that_of_the_residuals(tmp_path: Path) -> None:
    volume, angles = blob_volume(phantom(4.5), SIZE), random_angles()
    write_mrc(tmp_path / "map.mrc", volume, 4.0)
    write_star(tmp_path / "particles.star", angles)
    images = projections(volume.astype(np.float64), matrices_from_euler(angles))
    images += 0.01 * np.random.default_rng(1).standard_normal(images.shape)
    write_mrc(tmp_path / "stack.mrcs", images.astype(np.float32), 4.0)
    run = softmodes(tmp_path, "out", "--box", "12", "--modes", "1", "--images")
    assert run.returncode == 0, run.stderr
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    assert summary["results"]["noise_variance"] == pytest.approx(0.01**2 * (12 / SIZE) ** 4, rel=0.1)
    # So few particles at so much noise do not hold this map in place: told, and no amplitude beyond the map's own size.
    assert summary["results"]["eigenvalues"][0] < 0
    assert "the softest value is not above 0" in run.stderr
    assert summary["results"]["amplitude_fraction"] == pytest.approx([1])
    assert not summary["results"]["valid"]
    assert any(entry["path"].endswith("stack.mrcs") for entry in summary["inputs"])
    (tmp_path / "stack.mrcs").unlink()
    run = softmodes(tmp_path, "gone", "--images")
    assert run.returncode == 2
    assert "stack.mrcs" in run.stderr.splitlines()[-1]
    assert "Traceback" not in run.stderr


def test_a_killed_run_resumes_with_the_same_files(project: Path, tmp_path: Path) -> None:
    """Killed once a round of the solver has been kept; views about the equator need more than one."""
    options = ["--box", "12", "--noise", "13", "--views", "equatorial:5", "--modes", "1"]
    whole = softmodes(project, str(tmp_path / "whole"), *options)
    assert whole.returncode == 0, whole.stderr
    out = tmp_path / "out"
    command = [sys.executable, "-m", "napari_pickbias", "softmodes", "--map", "map.mrc", "--particles"]
    command += ["particles.star", "--out", str(out), *options]
    process = subprocess.Popen(command, cwd=project, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (out / ".pickbias" / "round.npz").exists() and time.monotonic() < deadline:
        assert process.poll() is None, "it ended before a round of the solver was kept"
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait(60) == -signal.SIGKILL
    assert {path.name for path in out.iterdir()} <= {".pickbias", "pickbias.log"}
    assert not (out / ".pickbias" / "modes.npz").exists()
    again = softmodes(project, str(out), *options, "--resume")
    assert again.returncode == 0, again.stderr
    names = ["spectrum.csv", *sorted(path.name for path in (tmp_path / "whole").glob("*.mrc"))]
    assert len(names) == 5
    for name in names:
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
