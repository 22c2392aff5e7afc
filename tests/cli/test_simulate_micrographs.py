"""`pickbias simulate micrographs` and `pickbias simulate noise`: files, resumption, refusals in one line."""

from __future__ import annotations

import json
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import starfile

from napari_pickbias.cli.main import main

SMALL = ["--count", "3", "--size", "128", "--pixel-size", "10", "--per-micrograph", "4", "--quiet"]


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def simulate(*words: str) -> int:
    return main(["simulate", *words])


def test_files_and_truth_agree() -> None:
    assert simulate("micrographs", "--out", "out", *SMALL, "--width", "160") == 0
    star, truth = starfile.read("out/micrographs.star"), starfile.read("out/truth.star")
    assert star["micrographs"]["rlnMicrographName"].tolist() == [
        f"micrographs/simulated_{number:04d}.mrc" for number in (1, 2, 3)
    ]
    assert star["micrographs"]["rlnDefocusU"].between(10000, 25300).all()
    assert star["optics"]["rlnMicrographPixelSize"].item() == 10.0
    assert truth["particles"]["rlnMicrographName"].value_counts().tolist() == [4, 4, 4]
    with mrcfile.open("out/micrographs/simulated_0001.mrc") as mrc:
        assert mrc.data.shape == (128, 160)
        assert mrc.voxel_size.x == pytest.approx(10)
    summary = json.loads(Path("out/summary.json").read_text())
    assert summary["results"]["particles"] == 12
    assert {p.name for p in Path("out").iterdir()} >= {"report.html", "report.pdf", "pickbias.log"}
    assert simulate("micrographs", "--out", "out", *SMALL, "--width", "160", "--resume") == 0


def test_an_interrupted_run_goes_on_with_the_same_bytes() -> None:
    assert simulate("micrographs", "--out", "whole", *SMALL) == 0
    assert simulate("micrographs", "--out", "cut", *SMALL) == 0
    images = sorted(Path("cut/micrographs").iterdir())
    images[2].unlink()
    for name in ("summary.json", "truth.star", ".pickbias/finished"):
        Path("cut", name).unlink()
    kept = images[0].stat().st_mtime_ns
    assert simulate("micrographs", "--out", "cut", *SMALL, "--resume") == 0
    assert images[0].stat().st_mtime_ns == kept
    for name in ("micrographs/simulated_0003.mrc", "truth.star", "micrographs.star"):
        assert Path("cut", name).read_bytes() == Path("whole", name).read_bytes()


def test_noise_like_given_micrographs() -> None:
    rng = np.random.default_rng(0)
    for number in range(2):
        mrcfile.write(f"m{number}.mrc", rng.normal(5, 2, (200, 180)).astype(np.float32), voxel_size=3.0)
    assert simulate("noise", "--like", "m*.mrc", "--out", "out", "--count", "2", "--tile", "64", "--quiet") == 0
    star = starfile.read("out/micrographs.star")
    names = [f"micrographs/m{number}_noise_{copy:02d}.mrc" for number in (0, 1) for copy in (1, 2)]
    assert star["micrographs"]["rlnMicrographName"].tolist() == names
    with mrcfile.open(f"out/{names[3]}") as mrc:
        assert mrc.data.shape == (200, 180)
        assert mrc.data.std() == pytest.approx(2, abs=0.2)
        assert mrc.voxel_size.x == pytest.approx(3)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["micrographs", "--map", "no.mrc"], "--map no.mrc: no such file; give a map (.mrc, .map) or phantom"),
        (["micrographs", "--noise", "pink"], "--noise pink: give white, coloured, or like:FILE with a micrograph"),
        (["noise", "--like", "no.mrc"], "--micrographs no.mrc: no such file or folder; check the path"),
        (["noise", "--like", "flat.mrc"], "flat.mrc: is constant; leave out that micrograph"),
        (["micrographs", "--per-micrograph", "900"], "--per-micrograph 900: only "),
    ],
)
def test_refusals_are_one_line(words: list[str], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    mrcfile.write("flat.mrc", np.ones((200, 200), np.float32), voxel_size=3.0)
    assert simulate(*words, "--out", "out", "--quiet") == 2
    said = capsys.readouterr().err
    assert said.startswith(f"pickbias: {line}")
    assert len(said.splitlines()) == 1
    assert not Path("out").exists()
