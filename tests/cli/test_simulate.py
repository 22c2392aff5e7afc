"""`pickbias simulate particles`: files a RELION user would have, the truth apart, the same bytes from the same seed."""

from __future__ import annotations

import json
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import starfile

from napari_pickbias.cli.main import main

SMALL = ["--count", "150", "--size", "32", "--pixel-size", "4", "--quiet"]


@pytest.fixture(autouse=True)
def _in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def simulate(*arguments: str) -> int:
    return main(["simulate", "particles", *arguments])


def test_files_and_rows_agree() -> None:
    assert simulate("--out", "out", *SMALL, "--noise-fraction", "0.2") == 0
    star = starfile.read("out/particles.star")
    truth = starfile.read("out/truth.star")["particles"]
    with mrcfile.open("out/particles.mrcs") as mrc:
        assert mrc.data.shape == (150, 32, 32)
        assert mrc.voxel_size.x == pytest.approx(4.0)
    assert len(star["particles"]) == len(truth) == 150
    assert star["particles"]["rlnImageName"].iloc[149] == "000150@particles.mrcs"
    assert star["optics"]["rlnImagePixelSize"].item() == 4.0
    assert "kind" not in star["particles"].columns
    assert (truth["kind"] == "noise").sum() == 30
    results = json.loads(Path("out/summary.json").read_text())["results"]
    assert results["by_kind"] == {"inlier": 120, "multiple": 0, "noise": 30, "partial": 0}
    assert {p.name for p in Path("out").iterdir()} >= {"report.html", "report.pdf", "pickbias.log"}


def test_the_same_seed_gives_the_same_bytes_whatever_the_threads() -> None:
    assert simulate("--out", "a", *SMALL, "--threads", "1", "--seed", "3") == 0
    assert simulate("--out", "b", *SMALL, "--threads", "2", "--seed", "3") == 0
    assert simulate("--out", "c", *SMALL, "--threads", "1", "--seed", "4") == 0
    stacks = [Path(name, "particles.mrcs").read_bytes()[1024:] for name in "abc"]
    assert stacks[0] == stacks[1] != stacks[2]
    assert Path("a/particles.star").read_bytes() == Path("b/particles.star").read_bytes()


def test_noise_like_a_file_has_its_spectrum() -> None:
    rng = np.random.default_rng(0)
    white = rng.normal(size=(512, 512))
    frequency = np.hypot(np.fft.fftfreq(512)[:, None], np.fft.rfftfreq(512)[None])
    coloured = np.fft.irfft2(np.fft.rfft2(white) / (0.05 + frequency), s=(512, 512)).astype(np.float32)
    with mrcfile.new("micrograph.mrc") as mrc:
        mrc.set_data(coloured)
        mrc.voxel_size = 4.0
    assert simulate("--out", "out", *SMALL, "--noise", "like:micrograph.mrc", "--noise-fraction", "1") == 0
    with mrcfile.open("out/particles.mrcs") as mrc:
        power = (np.abs(np.fft.fft2(mrc.data)) ** 2).mean(axis=0)[0, 2:16]
    expected = 1 / (0.05 + np.fft.fftfreq(32)[2:16]) ** 2
    ratio = power / expected
    # Over five seeds the ratio's spread about its mean stays below 25 %.
    assert np.abs(ratio / ratio.mean() - 1).max() < 0.4


def test_a_map_from_disk_is_used() -> None:
    z, y, x = np.mgrid[-16:16, -16:16, -16:16]
    with mrcfile.new("map.mrc") as mrc:
        mrc.set_data(np.exp(-(x**2 + (y / 2) ** 2 + z**2) / 18).astype(np.float32))
        mrc.set_volume()
        mrc.voxel_size = 4.0
    assert simulate("--out", "out", *SMALL, "--map", "map.mrc", "--snr", "5") == 0
    assert json.loads(Path("out/summary.json").read_text())["inputs"][0]["path"] == "map.mrc"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--noise", "pink"], "--noise pink: give white, coloured, or like:FILE with a micrograph or stack"),
        (["--noise", "like:no.mrc"], "--noise like:no.mrc: no such file; give a micrograph or stack (.mrc, .mrcs)"),
        (["--map", "no.mrc"], "--map no.mrc: no such file; give a map (.mrc, .map) or phantom"),
        (["--snr", "0"], "--snr 0.0: input should be greater than 0"),
    ],
)
def test_faults_are_one_line(arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert simulate("--out", "out", "--count", "10", "--size", "32", "--quiet", *arguments) == 2
    assert capsys.readouterr().err == f"pickbias: {line}\n"
    assert not Path("out").exists()
