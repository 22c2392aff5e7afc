"""`pickbias pickfree` from end to end, in its own process; a kill in the middle; its refusals, each in one line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pickfree_scene import molecule, write_micrographs

from napari_pickbias.cli import main
from napari_pickbias.records import read_volume, write_mrc

BOX = 9
SHAPE = (200, 180)
COMMON = ("--box", str(BOX), "--rotations", "192", "--iterations", "3", "--snr", "1", "--no-whiten")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pickfree")
    write_micrographs(folder, molecule(BOX), 2, SHAPE, 2.0, 5)
    write_micrographs(folder / "noise", molecule(BOX), 2, SHAPE, 2.0, 6, particles=False)
    return folder


def arguments(*more: str, micrographs: str = "mic_*.mrc") -> list[str]:
    words = [sys.executable, "-m", "napari_pickbias", "pickfree", "--micrographs", micrographs]
    return [*words, "--initial-map", "initial.mrc", *more]


def pickfree(project: Path, *more: str, micrographs: str = "mic_*.mrc") -> subprocess.CompletedProcess[str]:
    return subprocess.run(arguments(*more, micrographs=micrographs), cwd=project, capture_output=True, text=True)


@pytest.fixture(scope="module")
def finished(project: Path) -> Path:
    run = pickfree(project, *COMMON, "--out", "out", "--threads", "2")
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines()[-2:] == ["map: out/map.mrc", "report: out/report.html"]
    assert run.stdout.startswith("evidence of the particle (")
    assert "the micrographs have no CTF" in run.stderr
    return project / "out"


def test_the_promised_files_and_names_are_there(finished: Path) -> None:
    maps = {f"{name}.mrc" for name in ("map", "half1", "half2", "null", "start")}
    rest = {"iterations", "convergence.csv", "fsc.csv", "summary.json", "report.html", "report.pdf", "pickbias.log"}
    assert {p.name for p in finished.iterdir()} - {".pickbias"} == maps | rest
    assert len(list((finished / "iterations").glob("iteration_*.mrc"))) == 3
    # the patches are gone when all is done
    assert not list((finished / ".pickbias").glob("*.np*"))
    results = json.loads((finished / "summary.json").read_text())["results"]
    assert results["iterations"] == 3
    assert results["evidence"] is True
    assert results["log_likelihood_per_patch"] > 1
    assert abs(results["null"]["log_likelihood_per_patch"]) < 0.3 * results["log_likelihood_per_patch"]
    assert 0 < results["null"]["norm_ratio"] < results["norm_ratio"]
    assert 0.2 < results["empty_fraction"] < 0.8
    assert results["patches"] == 2 * (200 // BOX) * (180 // BOX)
    assert results["resolution_px"] * 10 == pytest.approx(results["resolution_angstrom"])


def test_maps_and_tables_are_in_the_frame_and_units_of_the_initial_map(project: Path, finished: Path) -> None:
    initial = read_volume(project / "initial.mrc")
    found, start = read_volume(finished / "map.mrc"), read_volume(finished / "start.mrc")
    assert found.data.shape == initial.data.shape
    assert found.voxel_size_angstrom == pytest.approx(10.0)
    # the start is the initial map, low-passed, in its own scale
    assert np.vdot(start.data, initial.data) == pytest.approx(np.vdot(start.data, start.data), rel=0.1)
    results = json.loads((finished / "summary.json").read_text())["results"]
    ratio = np.linalg.norm(found.data) / np.linalg.norm(start.data)
    assert ratio == pytest.approx(results["norm_ratio"], rel=1e-3)
    table = pd.read_csv(finished / "convergence.csv")
    assert table.groupby("chain").size().to_dict() == {"half1": 3, "half2": 3, "map": 3, "surrogates": 3}
    assert table["norm_ratio"].iloc[-1] > 0
    last = table[table["chain"] == "map"].iloc[-1]
    assert last["norm_ratio"] == pytest.approx(results["norm_ratio"], rel=1e-3)
    fsc = pd.read_csv(finished / "fsc.csv")
    assert list(fsc.columns) == [
        "shell", "frequency_per_angstrom", "half_maps", "initial_map", "null_with_initial_map",
    ]  # fmt: skip
    assert fsc["frequency_per_angstrom"].iloc[1] == pytest.approx(1 / 90)
    np.testing.assert_allclose(found.data, read_volume(finished / "iterations/iteration_003.mrc").data)


def test_on_noise_it_says_no_evidence(project: Path) -> None:
    run = pickfree(
        project, *COMMON, "--out", "noise_out", "--iterations", "6", "--contrast", "auto", micrographs="noise/mic_*.mrc"
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith("no evidence of the particle")
    assert "warning: no evidence: the micrographs cannot be told from noise" in run.stderr
    results = json.loads((project / "noise_out/summary.json").read_text())["results"]
    assert results["evidence"] is False
    assert results["resolution_px"] is None
    assert results["norm_ratio"] < 0.75
    assert abs(results["log_likelihood_per_patch"]) < 0.1
    assert "No evidence" in (project / "noise_out/report.html").read_text()


def test_a_kill_in_mid_iteration_and_resume_give_the_identical_result(project: Path, finished: Path) -> None:
    words = arguments(*COMMON, "--out", "killed", "--threads", "1")
    process = subprocess.Popen(words, cwd=project, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    piece = project / "killed/.pickbias/chain_half2.npz"
    end = time.monotonic() + 120
    while not piece.exists():
        assert process.poll() is None
        assert time.monotonic() < end, "the second chain never came"
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (project / "killed/map.mrc").exists()
    refused = pickfree(project, *COMMON, "--out", "killed")
    assert refused.returncode == 2
    assert "exists already and is not empty" in refused.stderr
    again = pickfree(project, *COMMON, "--out", "killed", "--resume", "--threads", "2")
    assert again.returncode == 0, again.stderr
    for name in ("map.mrc", "half2.mrc", "null.mrc", "convergence.csv", "fsc.csv"):
        one, two = (finished / name).read_bytes(), (project / "killed" / name).read_bytes()
        # the header's label holds no time, so whole files can be compared
        assert one == two, name
    third = pickfree(project, *COMMON, "--out", "killed", "--resume")
    assert "finished already; nothing to do" in third.stdout


STAR = """
data_optics

loop_
_rlnOpticsGroup #1
_rlnOpticsGroupName #2
_rlnMicrographPixelSize #3
_rlnVoltage #4
_rlnSphericalAberration #5
_rlnAmplitudeContrast #6
1 one 10.0 300.0 2.7 0.1

data_micrographs

loop_
_rlnMicrographName #1
_rlnOpticsGroup #2
mic_000.mrc 1
"""


@pytest.mark.parametrize(
    ("case", "line"),
    [
        ("box", "pickbias: --box 33: is larger than the initial map, 9 voxels; give at most that"),
        (
            "small",
            "pickbias: small.mrc: is 8 × 8 px of 10 Å, smaller than one box of 9 px of 10 Å; give the initial map in a "
            "tighter box, or check --pixel-size",
        ),
        (
            "voxel",
            "pickbias: mic_000.mrc: its pixels are 10 Å, larger than the 4 Å of a voxel at --box 9; give a smaller "
            "--box, or correct --pixel-size",
        ),
        (
            "few",
            "pickbias: --micrographs: give only 4 patches of 9 px at 10 Å; at least 50 are needed, and some thousands "
            "to be of use: give more micrographs",
        ),
        (
            "ctf",
            "pickbias: micrographs.star: has no CTF columns (rlnDefocusU ...); give the micrographs of a CTF "
            "estimation (micrographs_ctf.star), or --no-ctf to take the CTF as 1",
        ),
        ("device", "pickbias: --device cuda: cannot be used ("),
        ("flat", "pickbias: flat.mrc: all its pixels are alike; leave it out"),
        ("nan", "pickbias: nan.mrc: holds pixels that are no numbers; repair or leave it out"),
        ("zero", "pickbias: --initial-map: holds NaN, or the same value everywhere; give a map of the molecule"),
        ("oblong", "pickbias: --initial-map: its box is 9 × 9 × 8 voxels, not a cube; give a cubic map"),
        ("none", "pickbias: --micrographs nothing/*.mrc: no micrographs (.mrc) are there; give their folder, "),
        ("density", "pickbias: --empty 1.0: input should be less than 1"),
        (
            "lowpass",
            "pickbias: --lowpass 500: is coarser than the box of 90 Å, so nothing of the initial map would be ",
        ),
        ("stages", "pickbias: --stages 3:2: value error, '3:2': iterations must be at least 1, and the fraction above"),
        ("stage", "pickbias: --stages ten: value error, 'ten' is no stage; write iterations:fraction:last_shell, "),
    ],
)
def test_every_fault_is_one_line(
    tmp_path: Path, case: str, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    volume = molecule(BOX)
    write_mrc(tmp_path / "mic_000.mrc", rng.normal(size=(90, 90)).astype(np.float32), 10.0)
    voxel = 4.0 if case == "voxel" else 10.0
    shown = {"zero": 0 * volume, "oblong": volume[:, :, :8].transpose(2, 1, 0).transpose(2, 1, 0)}.get(case, volume)
    write_mrc(tmp_path / "initial.mrc", shown, voxel)
    micrographs, more = "mic_000.mrc", ["--box", "33" if case == "box" else "9"]
    images = {
        "small": rng.normal(size=(8, 8)), "few": rng.normal(size=(20, 20)), "flat": np.ones((90, 90)),
        "nan": np.full((90, 90), np.nan),
    }  # fmt: skip
    if case in images:
        micrographs = f"{case}.mrc"
        write_mrc(tmp_path / micrographs, images[case].astype(np.float32), 10.0)
    if case == "ctf":
        micrographs = "micrographs.star"
        (tmp_path / micrographs).write_text(STAR)
    more += {
        "density": ["--empty", "1"],
        "stages": ["--stages", "3:2"],
        "stage": ["--stages", "ten"],
        "lowpass": ["--lowpass", "500"],
    }.get(case, [])
    if case == "device":
        monkeypatch.setitem(sys.modules, "cupy", None)  # type: ignore[arg-type]
        more += ["--device", "cuda"]
    if case == "none":
        micrographs = "nothing/*.mrc"
    monkeypatch.chdir(tmp_path)
    assert main(arguments(*more, "--out", "out", "--quiet", micrographs=micrographs)[3:]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert said[0].startswith(line)
    assert not (tmp_path / "out/map.mrc").exists()
