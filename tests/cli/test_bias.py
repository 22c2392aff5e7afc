"""``pickbias bias``: its files, its faults, and that a finished run is not done again."""

from __future__ import annotations

import json
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import starfile

from napari_pickbias.cli.main import main
from napari_pickbias.imaging.phantoms import blob_volume, phantom
from napari_pickbias.imaging.projection import fourier_volume, project
from napari_pickbias.imaging.rotations import matrices_from_euler
from napari_pickbias.records import write_mrc

PIXEL = 7.0


@pytest.fixture(scope="module")
def project_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two micrographs of bright bars, their template, and the places as another program would list them."""
    folder = tmp_path_factory.mktemp("bias")
    rng = np.random.default_rng(4)
    volume = blob_volume(phantom(11.0, elongation=1.5), 32)
    prepared = fourier_volume(volume)
    template = project(prepared, matrices_from_euler(np.array([[0.0, 90.0, 0.0]])))
    write_mrc(folder / "templates.mrcs", np.asarray(template, np.float32), PIXEL, stack=True)
    (folder / "mics").mkdir()
    rows = []
    for number in range(2):
        image = rng.standard_normal((352, 352))
        grid = [(y, x) for y in range(36, 320, 44) for x in range(36, 320, 44)]
        psi = rng.uniform(0, 360, len(grid))
        views = project(
            prepared, matrices_from_euler(np.column_stack([np.zeros(len(grid)), np.full(len(grid), 90.0), psi]))
        )
        for (y, x), view in zip(grid, views, strict=True):
            image[y - 16 : y + 16, x - 16 : x + 16] += 11 * view / np.linalg.norm(view)
            rows.append(f"mics/mic{number}.mrc {x + 0.5} {y - 0.5}")
        write_mrc(folder / "mics" / f"mic{number}.mrc", image.astype(np.float32), PIXEL)
    text = "data_\n\nloop_\n_rlnMicrographName #1\n_rlnCoordinateX #2\n_rlnCoordinateY #3\n"
    (folder / "picks.star").write_text(text + "\n".join(rows) + "\n")
    posed = [f"{row} {tilt:.3f}" for row, tilt in zip(rows, np.linspace(0, 180, len(rows)), strict=True)]
    (folder / "refined.star").write_text(text + "_rlnAngleTilt #4\n" + "\n".join(posed) + "\n")
    return folder


def arguments(folder: Path, out: Path, *more: str) -> list[str]:
    return [
        "bias", "--micrographs", str(folder / "mics"), "--templates", str(folder / "templates.mrcs"), "--out", str(out),
        "--lowpass", "60", "--diameter", "170", "--angular-step", "30", "--contrast", "white", "--nulls", "8",
        "--surrogates", "1", "--threads", "1", *more,
    ]  # fmt: skip


def test_diagnosis_of_own_picks(project_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    own = str(project_folder / "templates.mrcs")
    assert main(arguments(project_folder, out, "--threshold", "4", "--class-averages", "2", "--averages", own)) == 0
    said = capsys.readouterr().out
    summary = json.loads((out / "summary.json").read_text())
    results = summary["results"]
    assert f"verdict: {results['verdict']}" in said
    for name in ("observed_picks", "expected_null_picks", "null_fraction", "null_fraction_interval", "why"):
        assert name in results
    assert set(results["evidence_beyond_band"]) == {"value", "null_mean", "null_sd", "z"}
    assert results["threshold"] == 4
    low, high = results["expected_null_picks_interval"]
    assert low <= results["expected_null_picks"] <= high
    assert 'class="outcome"' in (out / "report.html").read_text()
    averages = mrcfile.read(out / "class_averages.mrcs")
    assert averages.shape[-2:] == (30, 30)
    assert mrcfile.read(out / "predicted_bias.mrcs").shape == averages.shape
    picks = starfile.read(out / "picks_scored.star")
    assert len(picks) == results["observed_picks"]
    assert picks["rlnAutopickFigureOfMerit"].min() >= 4
    twin = starfile.read(out / "twin" / "particles.star")
    stack = mrcfile.read(out / "twin" / "particles.mrcs")
    assert len(twin["particles"]) == len(stack) > 50
    assert twin["optics"]["rlnImagePixelSize"].item() == pytest.approx(PIXEL, rel=0.01)
    assert stack.mean() == pytest.approx(0, abs=0.5)
    page = (out / "report.html").read_text()
    assert "What noise gives, and what your picks give" in page
    assert (out / "report.pdf").stat().st_size > 10_000
    assert len((out / "fdr.csv").read_text().splitlines()) > 20
    assert len((out / "frc.csv").read_text().splitlines()) == 30 // 2 + 2

    # classes that know no template, of picks and of noise, and averages of another program
    classes = results["classes"]
    assert sum(classes["picks"]["picks"]) == results["observed_picks"]
    assert classes["picks"]["mean_correlation"] > 0.6
    assert classes["random"]["mean_correlation"] < 0.5
    assert classes["given"]["correlation"][0] > 0.8 > max(classes["given"]["random_noise"])
    assert mrcfile.read(out / "classes_picks.mrcs").shape == (4, 30, 30)
    assert "Class averages that know no template" in page
    assert "What would weaken the bias" in page
    more = ("--threshold", "4", "--class-averages", "2", "--averages", own)
    assert main(arguments(project_folder, out, *more, "--resume")) == 0
    assert "finished already" in capsys.readouterr().out
    assert main(arguments(project_folder, out, "--threshold", "4")) == 2
    assert "exists already" in capsys.readouterr().err


def test_diagnosis_of_foreign_picks(project_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    picks = str(project_folder / "picks.star")
    poses = str(project_folder / "refined.star")
    assert main(arguments(project_folder, out, "--picks", picks, "--poses", poses, "--quiet")) == 0
    results = json.loads((out / "summary.json").read_text())["results"]
    scored = starfile.read(out / "picks_scored.star")
    assert len(scored) == results["observed_picks"] > 60
    # a pick takes the place of the highest score near it: where the particle is
    places = starfile.read(project_folder / "picks.star")
    first = places[places["rlnMicrographName"] == "mics/mic0.mrc"]
    mine = scored[scored["rlnMicrographName"].str.endswith("mic0.mrc")]
    distance = np.hypot(
        mine["rlnCoordinateX"].to_numpy()[:, None] - first["rlnCoordinateX"].to_numpy(),
        mine["rlnCoordinateY"].to_numpy()[:, None] - first["rlnCoordinateY"].to_numpy(),
    ).min(axis=1)
    assert np.median(distance) < 2
    assert results["null_fraction"] < 0.5
    # the particles near the border are in no view more than in another
    recall = results["view_recall"]
    assert sum(recall["particles"]) == len(places)
    assert sum(recall["found"]) > 60
    assert recall["misses_views"] is False
    assert "Recall by tilt" in (out / "report.html").read_text()


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        (["--picks", "nowhere.star"], "nowhere.star: no such file"),
        (["--picks", "{other}"], "none of its 1 picks lies on the micrographs given"),
        (["--picks", "{far}"], "lie outside their micrographs; they count in other pixels: give the pixel size"),
        (
            ["--picks", "{empty}"],
            "no pick files (.star, .box, .cbox, .cs, .txt) are there; give their folder or a STAR",
        ),
        (["--poses", "{other}"], "holds no coordinates with rlnAngleTilt; give a refinement's particles"),
        (
            ["--threshold", "60"],
            "no pick reaches a score of 60.00; lower --threshold, or check --pixel-size and --contrast",
        ),
        (["--fdr", "2"], "--fdr 2.0: "),
        (["--class-averages", "1"], "--class-averages 1: "),
        (["--averages", "nowhere.mrcs"], "--averages nowhere.mrcs: "),
        (["--map", "some.mrc"], "--map, --templates: both are given"),
    ],
)
def test_faults_are_one_line(
    project_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: list[str], fault: str
) -> None:
    head = "data_\n\nloop_\n_rlnMicrographName #1\n_rlnCoordinateX #2\n_rlnCoordinateY #3\n"
    other, far, empty = tmp_path / "other.star", tmp_path / "far.star", tmp_path / "empty"
    other.write_text(head + "strange.mrc 10 10\n")
    far.write_text(head + "mics/mic0.mrc 3000 3000\n")
    empty.mkdir()
    filled = [text.format(other=other, far=far, empty=empty) for text in changes]
    assert main(arguments(project_folder, tmp_path / "out", *filled)) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert fault in said[-1]
    assert said[-1].startswith("pickbias: ")
