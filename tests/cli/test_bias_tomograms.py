"""`pickbias bias-tomograms`: noise is called what it is, particles too; files, resumption, and faults in one line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.fft
import starfile
from scipy.ndimage import gaussian_filter

from napari_pickbias.cli.main import main
from napari_pickbias.imaging.phantoms import blob_volume, phantom
from napari_pickbias.imaging.rotations import random_rotations
from napari_pickbias.jobs import bias_tomograms
from napari_pickbias.records import write_mrc
from napari_pickbias.records.mrc import open_data

SHAPE, VOXEL, COUNT = (52, 104, 104), 10.0, 108
OPTIONS = ["--map", "map.mrc", "--angular-step", "60", "--tilt-range", "-60", "60", "--contrast", "black"]


def tomogram(seed: int, amplitude: float) -> np.ndarray:
    """Dark molecules, no two nearer than 10.5 voxels, in coloured noise, and a missing wedge."""
    rng = np.random.default_rng(seed)
    made = rng.normal(size=SHAPE)
    made += 2 * gaussian_filter(made, 1.5)
    molecule = phantom(6.0, elongation=1.4)
    places: list[np.ndarray] = []
    while len(places) < COUNT and amplitude:
        place = np.array([rng.integers(11, side - 11) for side in SHAPE])
        if all(np.linalg.norm(place - other) > 10.5 for other in places):
            places.append(place)
    for place, pose in zip(places, random_rotations(COUNT, rng), strict=False):
        turned = blob_volume(molecule._replace(centres_px=molecule.centres_px @ pose.T), 20)
        made[tuple(slice(at - 10, at + 10) for at in place)] -= amplitude * turned / np.linalg.norm(turned)
    spectrum = scipy.fft.rfftn(made)
    unseen = np.abs(np.fft.fftfreq(SHAPE[0])[:, None, None]) > np.fft.rfftfreq(SHAPE[2]) * np.tan(np.radians(60)) + 1e-9
    spectrum[np.broadcast_to(unseen, spectrum.shape)] = 0
    return scipy.fft.irfftn(spectrum, s=SHAPE).astype(np.float32)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bias_tomograms")
    write_mrc(folder / "full.mrc", tomogram(1, 34), VOXEL)
    write_mrc(folder / "noise.mrc", tomogram(2, 0), VOXEL)
    write_mrc(folder / "map.mrc", blob_volume(phantom(6.0, elongation=1.4), 32), VOXEL)
    return folder


@pytest.fixture(autouse=True)
def _folder(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)


def diagnose(tomograms: str, out: str, *words: str) -> int:
    more = ["--nulls", "10", "--threads", "1", "--quiet"]
    return main(["bias-tomograms", "--tomograms", tomograms, *OPTIONS, *more, *words, "--out", out])


def results(out: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(Path(out, "summary.json").read_text())["results"]
    return found


def test_noise_looks_like_the_map_and_is_called_template() -> None:
    assert diagnose("noise.mrc", "noise") == 0
    found = results("noise")
    assert found["verdict"] == "template"
    assert found["null_fraction_interval"][0] >= 0.8  # type: ignore[index]
    assert found["plain_agreement"]["in_band"] > 0.8  # type: ignore[index]
    for name in ("evidence_in_band", "evidence_beyond_band"):
        assert abs(found[name]["z"]) < 3.5, name  # type: ignore[index]
    correlation = found["correlation_with_predicted_bias"]
    # noise picks come to .90-.95 of what is expected of them: they are local maxima over orientations, too
    assert correlation["average"] == pytest.approx(correlation["expected_of_noise"], abs=0.1)  # type: ignore[index]
    assert correlation["noise_average"] == pytest.approx(correlation["expected_of_noise"], abs=0.1)  # type: ignore[index]
    assert found["recommended_threshold"] is None


def test_particles_are_called_data_and_the_files_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    conclude = bias_tomograms._concluded

    def interrupted(*_: object) -> object:
        raise KeyboardInterrupt

    monkeypatch.setattr(bias_tomograms, "_concluded", interrupted)
    assert diagnose("full.mrc", "full") == 130
    monkeypatch.setattr(bias_tomograms, "_concluded", conclude)
    monkeypatch.setattr(bias_tomograms, "_evidence", interrupted)  # it was finished before
    assert diagnose("full.mrc", "full", "--resume") == 0
    found, out = results("full"), Path("full")
    assert found["verdict"] == "data"
    assert found["evidence_beyond_band"]["value"] > 0.2  # type: ignore[index]
    assert abs(found["noise_twin"]["beyond"]) < 0.15  # type: ignore[index]
    assert found["noise_twin"]["plain_in_band"] > 0.8  # type: ignore[index]
    assert found["relative_agreement"] > 0.25  # type: ignore[operator]
    assert not list((out / ".pickbias").glob("scratch*"))
    box, voxel = found["box_px"], found["working_pixel_size"]
    for name in (
        "average",
        "noise_average",
        "predicted_bias",
        "bias_removed",
        "bias_removed_half1",
        "map_bias_removed",
    ):
        assert open_data(out / f"{name}.mrc").shape == (box,) * 3
    fsc = pd.read_csv(out / "fsc.csv")
    assert fsc["resolution_angstrom"][2] == pytest.approx(box * voxel / 2, rel=1e-4)  # type: ignore[operator]
    twin = starfile.read(out / "twin" / "particles.star")
    assert len(twin["particles"]) == found["noise_twin"]["picks"]  # type: ignore[index]
    assert twin["optics"]["rlnImageDimensionality"].tolist() == [3]
    for name in twin["particles"]["rlnImageName"]:
        assert open_data(name).shape == (box,) * 3
    text = (out / "report.html").read_text()
    assert "The picks come from the data" in text
    assert (out / "report.pdf").stat().st_size > 10_000
    assert main(["pick", "--rethreshold", "full", "--threshold", "6", "--out", "picked", "--quiet"]) == 0


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            ["--lowpass", "15"],
            "--lowpass 15: is too fine for the diagnosis, whose boxes of ",
        ),
        (["--threshold", "60"], "no pick reaches 60.00: the highest score is "),
        (["--fdr", "2"], "--fdr 2"),
        (["--pixel-size", "40"], "--map map.mrc: the particle (114.1 Å) is 2.9 px wide at 40 Å a voxel; check"),
    ],
)
def test_faults_in_one_line(words: list[str], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    if words[0] == "--lowpass":
        write_mrc(Path("fine.mrc"), np.random.default_rng(0).normal(size=(60, 60, 60)).astype(np.float32), 4.0)
    tomograms = "fine.mrc" if words[0] == "--lowpass" else "noise.mrc"
    coarse = ["--angular-step", "180"]
    assert diagnose(tomograms, "fault", *coarse, *words, "--overwrite") == 2
    shown = capsys.readouterr().err.strip().splitlines()
    assert len(shown) == 1
    assert shown[0].removeprefix("pickbias: ").startswith(line)
