"""`pickbias pick`: files, names that scripts rely on, re-thresholding, and refusals in one line."""

from __future__ import annotations

import json
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import starfile

from napari_pickbias.cli.main import main
from napari_pickbias.imaging.phantoms import blob_volume, phantom
from napari_pickbias.jobs.simulate_micrographs_parameters import SimulateMicrographsParameters
from napari_pickbias.records import write_mrc
from napari_pickbias.runs.simulate_micrographs import run_simulate_micrographs

OPTIONS = ["--angular-step", "45", "--lowpass", "40", "--threads", "1", "--quiet"]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two micrographs with 12 strong particles each, their map and its three main projections."""
    folder = tmp_path_factory.mktemp("pick")
    parameters = SimulateMicrographsParameters(
        count=2, size=320, pixel_size=10, per_micrograph=12, radius=100, elongation=1.6, snr=0.1
    )
    for _ in run_simulate_micrographs(parameters, folder / "made", report=False):
        pass
    volume = blob_volume(phantom(10, elongation=1.6), 32)
    write_mrc(folder / "map.mrc", volume, 10.0)
    write_mrc(folder / "classes.mrcs", np.stack([volume.sum(axis=axis) for axis in (0, 1, 2)]), 10.0, stack=True)
    return folder


@pytest.fixture(autouse=True)
def _folder(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)


def pick(*words: str) -> int:
    return main(["pick", *words])


@pytest.fixture(scope="module")
def finished(project: Path) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        words = ["--micrographs", "made/micrographs.star", "--map", "map.mrc", "--out", "out", "--threshold", "4.5"]
        assert pick(*words, *OPTIONS, "--score-maps") == 0
    return project / "out"


def test_the_promised_files_and_names_are_there(finished: Path) -> None:
    names = {"picks.star", "coordinates.star", "candidates.npz", "summary.json", "report.html", "report.pdf"}
    assert {path.name for path in finished.iterdir()} >= names | {"pickbias.log", "per_micrograph", "score_maps"}
    assert (
        "A low FDR means that an object is there, not that it is your object." in (finished / "report.html").read_text()
    )
    picks = starfile.read(finished / "picks.star")
    assert list(picks.columns) == [
        "rlnMicrographName",
        "rlnCoordinateX",
        "rlnCoordinateY",
        "rlnAutopickFigureOfMerit",
        "rlnAngleRot",
        "rlnAngleTilt",
        "rlnAnglePsi",
        "rlnClassNumber",
        "pickbiasPValue",
        "pickbiasQValue",
    ]
    results = json.loads((finished / "summary.json").read_text())["results"]
    wanted = ("micrographs", "picks", "threshold", "expected_null_picks", "fdr", "seconds_per_micrograph")
    assert all(results[name] is not None for name in wanted)
    assert results["picks"] == len(picks) == sum(results["picks_per_micrograph"].values())
    assert results["micrographs"] == 2
    assert results["ctf"] == "multiply"
    files = starfile.read(finished / "coordinates.star")["rlnMicrographCoordinates"]
    assert files.tolist() == [f"out/per_micrograph/simulated_{number:04d}_picks.star" for number in (1, 2)]
    assert sum(len(starfile.read(file)) for file in files) == len(picks)
    with mrcfile.open(finished / "score_maps" / "simulated_0001_scores.mrc") as scores:
        top = picks.loc[picks["rlnMicrographName"] == "micrographs/simulated_0001.mrc", "rlnAutopickFigureOfMerit"]
        assert scores.data.max() >= top.max() - 1e-3


def test_another_threshold_over_the_same_run(finished: Path) -> None:
    assert pick("--rethreshold", str(finished), "--out", "higher", "--threshold", "5.5", "--quiet") == 0
    low, high = (starfile.read(folder / "picks.star") for folder in (finished, Path("higher")))
    kept = low[low["rlnAutopickFigureOfMerit"] >= 5.5].reset_index(drop=True)
    assert 0 < len(kept) < len(low)
    assert high.equals(kept)
    again = json.loads(Path("higher/summary.json").read_text())
    assert again["parameters"]["lowpass"] == 40
    assert again["results"]["threshold"] == 5.5


def test_a_finished_run_is_left_alone(finished: Path) -> None:
    before = (finished / "picks.star").stat().st_mtime_ns
    words = ["--micrographs", "made/micrographs.star", "--map", "map.mrc", "--threshold", "4.5"]
    assert pick(*words, *OPTIONS, "--score-maps", "--out", "out", "--resume") == 0
    assert (finished / "picks.star").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--map", "map.mrc"], "--micrographs: is missing; give a .star, .cs, folder, pattern or .mrc"),
        (["--micrographs", "made/micrographs"], "--map, --templates: neither is given; give a map or templates"),
        (
            ["--micrographs", "made/micrographs", "--map", "map.mrc", "--templates", "classes.mrcs"],
            "--map, --templates: both are given; give a map or templates",
        ),
        (["--micrographs", "made/micrographs", "--map", "no.mrc"], "--map no.mrc: no such file; give a map"),
        (
            ["--micrographs", "made/micrographs", "--templates", "map.mrc"],
            "--templates map.mrc: is a map of 32×32×32 float32; give it as --map, or images as a stack (.mrcs)",
        ),
        (
            ["--micrographs", "made/micrographs", "--map", "map.mrc", "--templates-pixel-size", "100"],
            "made/micrographs/simulated_0001.mrc: is 320 × 320 px, 3200 Å at 10 Å a pixel; the search needs four",
        ),
        (["--micrographs", "made/micrographs", "--map", "map.mrc", "--threshold", "-1"], "--threshold -1.0: "),
        (["--micrographs", "made/micrographs", "--map", "map.mrc", "--rotation-basis", "2"], "--rotation-basis 2.0: "),
        (["--rethreshold", "made"], "made/candidates.npz: no such file; give the folder of an earlier pickbias pick"),
        (["--rethreshold", "made", "--map", "map.mrc"], "--rethreshold: takes everything from the earlier run; "),
        (["--micrographs", "empty.star", "--map", "map.mrc"], "empty.star: lists no micrographs; give a micrographs"),
        (["--micrographs", "cut.mrc", "--map", "map.mrc"], "cut.mrc: "),
    ],
)
def test_refusals_are_one_line(words: list[str], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("empty.star").write_text("")
    Path("cut.mrc").write_bytes(Path("made/micrographs/simulated_0001.mrc").read_bytes()[:-1000])
    assert pick(*words, "--out", "refused", "--quiet") == 2
    said = capsys.readouterr().err
    assert said.startswith(f"pickbias: {line}")
    assert len(said.splitlines()) == 1
    assert not Path("refused").exists()


def test_nothing_picked_says_why_and_keeps_the_search(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert pick("--rethreshold", str(finished), "--out", "none", "--threshold", "50", "--quiet") == 2
    said = capsys.readouterr().err
    assert said.startswith("pickbias: no pick reaches 50: the highest score is ")
    assert len(said.splitlines()) == 1
    assert Path("none/report.html").exists()
    assert not Path("none/picks.star").exists()


def test_damaged_candidates_are_refused(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("broken").mkdir()
    Path("broken/candidates.npz").write_bytes((finished / "candidates.npz").read_bytes()[:5000])
    assert pick("--rethreshold", "broken", "--out", "x", "--threshold", "5", "--quiet") == 2
    assert capsys.readouterr().err.startswith(
        "pickbias: broken/candidates.npz: cannot be read (BadZipFile); pick again"
    )


def test_class_averages_are_looked_for(finished: Path) -> None:
    words = ["--micrographs", "made/micrographs/simulated_0001.mrc", "--templates", "classes.mrcs", "--out", "classes"]
    assert pick(*words, "--threshold", "4", "--surrogates", "4", *OPTIONS) == 0
    picks = starfile.read("classes/picks.star")
    assert set(picks["rlnClassNumber"]) <= {1, 2, 3}
    assert "rlnAngleRot" not in picks.columns
    del finished


def test_a_rotation_basis_states_its_error(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--micrographs", "made/micrographs/simulated_0001.mrc", "--templates", "classes.mrcs", "--threshold", "4"]
    words += ["--surrogates", "4", "--lowpass", "40", "--threads", "1", "--contrast", "black", "--angular-step", "6"]
    assert pick(*words, "--out", "shared", "--rotation-basis", "0.02") == 0
    said = capsys.readouterr().out
    results = json.loads(Path("shared/summary.json").read_text())["results"]
    error = results["score_error"]
    assert 0 < 2 * error["standard_deviation_on_noise"] < error["largest"] < 1
    assert results["picks"] >= 6
    assert f"rotation basis: scores are within {error['largest']:.2g} of those without it, on noise with a" in said
    assert "--rotation-basis 0.02: scores differ from those without it by " in Path("shared/pickbias.log").read_text()
    assert "of a rotation basis of 0.02; standard deviation on noise" in Path("shared/report.html").read_text()
    assert json.loads((finished / "summary.json").read_text())["results"]["score_error"] is None
