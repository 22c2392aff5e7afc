"""`pickbias pick --tomograms`: planted particles found again, files, resumption, and refusals in one line."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import scipy.fft
import starfile
from scipy.ndimage import gaussian_filter

from napari_pickbias.cli.main import main
from napari_pickbias.errors import InputError
from napari_pickbias.imaging.phantoms import blob_volume, phantom
from napari_pickbias.imaging.rotations import angular_distance_deg, matrices_from_euler, random_rotations
from napari_pickbias.jobs import pick_tomograms
from napari_pickbias.matching import find_peaks
from napari_pickbias.records import write_mrc
from napari_pickbias.records.tomograms import open_tomograms
from napari_pickbias.runs.pick_tomograms_files import open_score_maps

SHAPE, VOXEL = (48, 96, 90), 10.0
PLACES = np.array(
    [[16, 20, 20], [24, 22, 66], [30, 60, 22], [20, 74, 70], [24, 48, 45], [17, 72, 40], [31, 28, 42], [29, 50, 72]]
)
POSES = random_rotations(len(PLACES), np.random.default_rng(7))
OPTIONS = ["--map", "map.mrc", "--angular-step", "45", "--tilt-range", "-60", "60", "--threads", "1"]


def tomogram(seed: int, amplitude: float) -> np.ndarray:
    """Dark molecules in coloured noise, and a missing wedge."""
    rng = np.random.default_rng(seed)
    molecule, half = phantom(6.0, elongation=1.4), 10
    made = rng.normal(size=SHAPE)
    made += 2 * gaussian_filter(made, 1.5)
    for (z, y, x), pose in zip(PLACES, POSES, strict=True):
        turned = blob_volume(molecule._replace(centres_px=molecule.centres_px @ pose.T), 2 * half)
        part = made[z - half : z + half, y - half : y + half, x - half : x + half]
        part -= amplitude * turned / np.linalg.norm(turned)
    spectrum = scipy.fft.rfftn(made)
    unseen = np.abs(np.fft.fftfreq(SHAPE[0])[:, None, None]) > np.fft.rfftfreq(SHAPE[2]) * np.tan(np.radians(60)) + 1e-9
    spectrum[np.broadcast_to(unseen, spectrum.shape)] = 0
    return scipy.fft.irfftn(spectrum, s=SHAPE).astype(np.float32)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tomograms")
    (folder / "tomograms").mkdir()
    write_mrc(folder / "tomograms" / "full.mrc", tomogram(1, 30), VOXEL)
    write_mrc(folder / "tomograms" / "noise.mrc", tomogram(2, 0), VOXEL)
    write_mrc(folder / "map.mrc", blob_volume(phantom(6.0, elongation=1.4), 32), VOXEL)
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
        assert pick("--tomograms", "tomograms", *OPTIONS, "--out", "out", "--quiet") == 0
    return project / "out"


def test_planted_particles_are_found_at_their_place_and_orientation(finished: Path) -> None:
    table = starfile.read(finished / "per_tomogram" / "full_picks.star")
    found = table[["rlnCoordinateZ", "rlnCoordinateY", "rlnCoordinateX"]].to_numpy()
    apart = np.linalg.norm(found[:, None] - PLACES, axis=2)
    assert sorted(apart.argmin(axis=1)) == list(range(len(PLACES)))
    assert apart.min(axis=1).max() < 1.5
    poses = matrices_from_euler(table[["rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"]].to_numpy())
    off = angular_distance_deg(poses, POSES[apart.argmin(axis=1)])
    # The grid's nearest orientation is up to 35 degrees away; random ones are 126 degrees away on average.
    assert np.median(off) < 40
    assert (table["pickbiasPValue"] < 1e-3).all()
    assert (table["pickbiasQValue"] >= table["pickbiasPValue"]).all()


def test_the_promised_files_and_names_are_there(finished: Path) -> None:
    names = {"particles.star", "candidates.npz", "summary.json", "report.html", "report.pdf", "pickbias.log"}
    assert {path.name for path in finished.iterdir()} == names | {"per_tomogram", ".pickbias"}
    assert not list((finished / ".pickbias").glob("scratch*"))
    particles = starfile.read(finished / "particles.star")
    assert list(particles.columns) == [
        "rlnTomoName",
        "rlnTomoParticleName",
        "rlnCenteredCoordinateXAngst",
        "rlnCenteredCoordinateYAngst",
        "rlnCenteredCoordinateZAngst",
        "rlnAngleRot",
        "rlnAngleTilt",
        "rlnAnglePsi",
        "rlnAutopickFigureOfMerit",
        "pickbiasPValue",
        "pickbiasQValue",
    ]
    best = particles.iloc[0]
    pixels = starfile.read(finished / "per_tomogram" / "full_picks.star").iloc[0]
    for axis, side in zip("XYZ", reversed(SHAPE), strict=True):
        wanted = (pixels[f"rlnCoordinate{axis}"] - side / 2) * VOXEL
        assert best[f"rlnCenteredCoordinate{axis}Angst"] == pytest.approx(wanted, abs=0.02)
    results = json.loads((finished / "summary.json").read_text())["results"]
    assert results["tomograms"] == 2
    assert results["picks"] == len(particles) == sum(results["picks_per_tomogram"].values())
    assert results["picks_per_tomogram"]["noise"] <= 1
    assert results["contrast"] == "black"
    assert results["fdr"] <= 0.05
    assert (
        "A low FDR means that an object is there, not that it is your object." in (finished / "report.html").read_text()
    )


def test_an_interrupted_run_goes_on_with_the_same_result(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = pick_tomograms.coarse_tomogram
    opened: list[int] = []

    def until_the_second(plan: pick_tomograms.Plan, number: int, *rest: Path) -> object:
        opened.append(number)
        if number == 1 and len(opened) < 4:
            raise KeyboardInterrupt
        return whole(plan, number, *rest)

    monkeypatch.setattr(pick_tomograms, "coarse_tomogram", until_the_second)
    words = ["--tomograms", "tomograms", *OPTIONS, "--out", "resumed", "--quiet"]
    assert pick(*words) == 130
    assert not Path("resumed/particles.star").exists()
    assert not list(Path("resumed/.pickbias").glob("scratch*"))
    opened.extend([0] * 4)
    before = len(opened)
    assert pick(*words, "--resume") == 0
    assert opened[before:] == [1]
    assert Path("resumed/particles.star").read_text() == (finished / "particles.star").read_text()
    assert pick(*words) == 2
    assert pick(*words, "--resume") == 0
    assert len(opened) == before + 1


def test_another_threshold_without_searching_again(
    finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def search(*_: object) -> None:
        raise AssertionError("searched again")

    monkeypatch.setattr(pick_tomograms, "coarse_tomogram", search)
    assert pick("--rethreshold", "out", "--fdr", "0.05", "--out", "same", "--quiet") == 0
    assert Path("same/particles.star").read_text() == (finished / "particles.star").read_text()
    was, now = (json.loads((folder / "summary.json").read_text()) for folder in (finished, Path("same")))
    for name in was["results"]:
        if name != "seconds_per_tomogram":
            assert now["results"][name] == was["results"][name], name
    assert now["parameters"]["angular_step"] == 45
    strict = float(starfile.read("same/particles.star")["rlnAutopickFigureOfMerit"].median())
    assert pick("--rethreshold", "same", "--threshold", str(strict), "--out", "strict", "--quiet") == 0
    assert len(starfile.read("strict/particles.star")) < len(starfile.read("same/particles.star"))
    capsys.readouterr()
    assert pick("--rethreshold", "out", "--map", "map.mrc", "--out", "fault") == 2
    assert pick("--rethreshold", "out", "--lowpass", "30", "--out", "fault") == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines == [
        f"pickbias: {option}: is that of the earlier run; leave it out with --rethreshold"
        for option in ("--map", "--lowpass")
    ]
    Path("damaged").mkdir()
    Path("damaged/candidates.npz").write_bytes(Path("out/candidates.npz").read_bytes()[:-3000])
    assert pick("--rethreshold", "damaged", "--out", "fault") == 2
    assert "damaged/candidates.npz: cannot be read" in capsys.readouterr().err


def test_score_maps_are_written_and_read(finished: Path) -> None:
    words = ["--tomograms", "tomograms/full.mrc", *OPTIONS, "--score-maps", "--out", "mapped", "--quiet"]
    assert pick(*words) == 0
    maps = open_score_maps("mapped", "full")
    assert maps.scores.shape == maps.orientations.shape
    assert maps.voxel_size_angstrom == pytest.approx(VOXEL)
    with np.load("mapped/candidates.npz") as saved:
        peaks, orientations = saved["peaks_000000"], saved["euler_deg"]
    again = find_peaks(np.asarray(maps.scores, np.float32), np.asarray(maps.orientations), 3.0, 6.28)
    steps = np.array(SHAPE) / np.array(maps.scores.shape)
    assert len(again) > len(PLACES)
    for peak in again[: len(PLACES)]:
        z, y, x = (np.rint(peak[axis] * step) for axis, step in zip("zyx", steps, strict=True))
        near = np.abs(peaks["z"] - z) + np.abs(peaks["y"] - y) + np.abs(peaks["x"] - x)
        assert near.min() < 4
        assert peaks["score"][near.argmin()] == pytest.approx(peak["score"])
        assert peaks["template"][near.argmin()] == peak["template"]
    assert maps.orientations.min() == -1
    assert maps.orientations.max() < len(orientations)
    with pytest.raises(InputError) as fault:
        open_score_maps("out", "full")
    assert str(fault.value) == f"{Path('out/score_maps/full_scores.mrc')}: no such file; pick with --score-maps"


def test_half_the_voxel_size_gives_the_same_places(project: Path) -> None:
    """The search runs on coarser voxels; places come back in those of the file."""
    fine = np.repeat(np.repeat(np.repeat(tomogram(1, 40)[:, :, :60], 2, 0), 2, 1), 2, 2)
    write_mrc(project / "fine.mrc", fine, VOXEL / 2)
    words = ["--tomograms", "fine.mrc", *OPTIONS, "--contrast", "black", "--threshold", "5.5", "--out", "fine"]
    assert pick(*words, "--quiet") == 0
    summary = json.loads(Path("fine/summary.json").read_text())
    assert summary["results"]["working_pixel_size"] > 1.8 * VOXEL / 2
    table = starfile.read("fine/per_tomogram/fine_picks.star")
    found = table[["rlnCoordinateZ", "rlnCoordinateY", "rlnCoordinateX"]].to_numpy()
    # voxel i became 2 i and 2 i + 1
    inside = PLACES[PLACES[:, 2] < 48]
    apart = np.linalg.norm(found[:, None] - (2 * inside + 0.5), axis=2)
    assert (apart.min(axis=0) < 3).all()


def test_nothing_to_find(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--tomograms", "tomograms/noise.mrc", *OPTIONS, "--contrast", "black", "--quiet"]
    assert pick(*words, "--out", "none") == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert "--fdr 0.05: no score keeps it" in line
    assert line.endswith(
        "check --pixel-size, --contrast, --tilt-range and --diameter, and whether this map is in these tomograms; "
        "without searching again: pickbias pick --rethreshold none"
    )
    assert pick("--rethreshold", "none", "--threshold", "3", "--out", "loose", "--quiet") == 0
    assert len(starfile.read("loose/particles.star")) > 0


def test_a_tomogram_at_fault_is_left_out(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "mixed").mkdir()
    shutil.copy(project / "tomograms" / "full.mrc", project / "mixed")
    broken = tomogram(3, 0)
    broken[5, 5, 5] = np.nan
    write_mrc(project / "mixed" / "broken.mrc", broken, VOXEL)
    words = ["--tomograms", "mixed", *OPTIONS, "--contrast", "black", "--threshold", "5.5", "--out", "left"]
    assert pick(*words) == 0
    assert "left out broken: holds NaN or infinite voxels; mend or leave out that tomogram" in capsys.readouterr().err
    assert json.loads(Path("left/summary.json").read_text())["results"]["left_out"] == 1


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--tomograms", "tomograms"], "--map: is missing; tomograms are searched with a map"),
        (
            ["--tomograms", "tomograms", "--map", "map.mrc", "--ctf", "none"],
            "--ctf: is of micrographs; leave it out with --tomograms",
        ),
        (
            ["--tomograms", "tomograms", "--micrographs", "tomograms", "--map", "map.mrc"],
            "--micrographs: is of micrographs; leave it out with --tomograms",
        ),
        (
            ["--micrographs", "tomograms", "--map", "map.mrc", "--tilt-range", "-60", "60"],
            "--tilt-range: is of tomograms; give --tomograms, or leave it out",
        ),
        (
            ["--tomograms", "image.mrc", "--map", "map.mrc"],
            "image.mrc: holds one image, not a tomogram; for micrographs give --micrographs",
        ),
        (
            ["--tomograms", "nan.mrc", "--map", "map.mrc"],
            "nan.mrc: holds NaN or infinite voxels; mend or leave out that tomogram",
        ),
        (["--tomograms", "constant.mrc", "--map", "map.mrc"], "constant.mrc: is constant; leave out that tomogram"),
        (
            ["--tomograms", "tomograms", "--map", "map.mrc", "--diameter", "500"],
            "full: is 90 × 96 × 48 voxels of 10 Å, too thin for a particle of 500 Å (a box of 600 Å); check "
            "--pixel-size, --templates-pixel-size and --diameter",
        ),
        (
            ["--tomograms", "tomograms", "--map", "map.mrc", "--pixel-size", "40"],
            "--map map.mrc: the particle (114.1 Å) is 2.9 px wide at 40 Å a voxel; check --pixel-size, "
            "--templates-pixel-size and --diameter",
        ),
        (
            ["--tomograms", "tomograms", "--map", "map.mrc", "--threshold", "5", "--fdr", "0.1"],
            "--threshold 5 --fdr 0.1: each sets the threshold; give one of them",
        ),
        (
            ["--tomograms", "tomograms", "--map", "map.mrc", "--tilt-range", "60", "-60"],
            "--tilt-range 60 -60: must rise and lie in -90 to 90 degrees",
        ),
    ],
)
def test_faults_in_one_line(project: Path, words: list[str], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    write_mrc(project / "image.mrc", np.ones((4, 5), np.float32), 8.0)
    write_mrc(project / "constant.mrc", np.ones((30, 30, 30), np.float32), VOXEL)
    write_mrc(project / "nan.mrc", np.full((30, 30, 30), np.nan, np.float32), VOXEL)
    assert pick(*words, "--out", "fault", "--quiet") == 2
    shown = capsys.readouterr().err.strip().splitlines()
    assert len(shown) == 1
    assert shown[0].removeprefix("pickbias: ") == line
    assert not Path("fault").exists()


LISTED = """
data_global

loop_
_rlnTomoName #1
_rlnTomoTiltSeriesPixelSize #2
_rlnTomoTomogramBinning #3
_rlnTomoReconstructedTomogram #4
full 1.25 8.0 tomograms/full.mrc
"""


@pytest.mark.parametrize("command", ["pick", "bias-tomograms"])
@pytest.mark.parametrize(
    ("name", "line"),
    [
        (
            "cut.mrc",
            "cut.mrc: header promises a map of 48×96×90 float32 (1 658 880 bytes) but the file has only",
        ),
        (
            "two",
            "two/b_coarse.mrc: has 20 Å a voxel, two/a_full.mrc 10 Å; pick tomograms of one voxel size at a time",
        ),
        ("unset.mrc", "unset.mrc: its header holds no voxel size; give it in Å with --pixel-size"),
        (
            "nameless.star",
            "nameless.star: lists no reconstructed tomograms (rlnTomoName, rlnTomoReconstructedTomogram); give the "
            "tomograms.star of Reconstruct tomograms, or the .mrc files",
        ),
        (
            "fileless.star",
            "fileless.star: lists no reconstructed tomograms (rlnTomoName, rlnTomoReconstructedTomogram); give the "
            "tomograms.star of Reconstruct tomograms, or the .mrc files",
        ),
        ("gone.star", "gone.star: names the tomogram 'tomograms/gone.mrc', which is not there; looked in "),
        ("nowhere", "--tomograms nowhere: no such file or folder; check the path"),
        ("nan.mrc", "nan.mrc: holds NaN or infinite voxels; mend or leave out that tomogram"),
    ],
)
def test_bad_tomograms(project: Path, command: str, name: str, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    whole = (project / "tomograms" / "full.mrc").read_bytes()
    Path("cut.mrc").write_bytes(whole[:1_000_000])
    Path("two").mkdir(exist_ok=True)
    Path("two/a_full.mrc").write_bytes(whole)
    write_mrc(Path("two/b_coarse.mrc"), np.zeros((30, 30, 30), np.float32), 2 * VOXEL)
    write_mrc(Path("unset.mrc"), np.zeros((30, 30, 30), np.float32), None)
    write_mrc(Path("nan.mrc"), np.full((30, 30, 30), np.nan, np.float32), VOXEL)
    Path("nameless.star").write_text(LISTED.replace("_rlnTomoName", "_rlnName"))
    Path("fileless.star").write_text(LISTED.replace("_rlnTomoReconstructedTomogram", "_rlnTomoEtomoDirectiveFile"))
    Path("gone.star").write_text(LISTED.replace("full.mrc", "gone.mrc"))
    words = [command, "--tomograms", name, "--map", "map.mrc", "--angular-step", "120", "--out", "bad", "--quiet"]
    assert main(words) == 2
    shown = capsys.readouterr().err.strip().splitlines()
    assert len(shown) == 1
    assert shown[0].removeprefix("pickbias: ").startswith(line)


def test_a_list_without_pixel_sizes_takes_those_of_the_headers(project: Path) -> None:
    text = LISTED.replace("_rlnTomoTomogramBinning", "_rlnTomoHand")
    Path("headers.star").write_text(text)
    assert open_tomograms("headers.star").voxel_size_angstrom == pytest.approx(VOXEL)
    Path("listed.star").write_text(LISTED.replace("1.25", "1.35"))
    other = open_tomograms("listed.star")
    assert other.voxel_size_angstrom == pytest.approx(10.8)
    assert other.notes == (
        f"{project / 'tomograms' / 'full.mrc'}: its header says 10 Å a voxel, but 10.8 Å is used; check --pixel-size",
    )


def test_zero_picks_explain_themselves(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--tomograms", "tomograms/noise.mrc", *OPTIONS, "--contrast", "black", "--threshold", "50", "--quiet"]
    assert pick(*words, "--angular-step", "120", "--out", "zero") == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("pickbias: no pick reaches 50: the highest score is ")
    assert ", and noise alone reaches " in line
    assert line.endswith(f"whether this map is in these tomograms; see {Path('zero/report.html')}")


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="this system cannot reserve space on a disk")
def test_a_full_disk_ends_in_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def full(_file: int, _start: int, _size: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    assert pick("--tomograms", "tomograms", *OPTIONS, "--out", "crammed", "--quiet") == 2
    shown = capsys.readouterr().err.strip().splitlines()
    fault = "cannot be written: the disk is full; free some space and run again with --resume"
    assert shown == [f"pickbias: {Path('crammed/.pickbias')}: {fault}"]
