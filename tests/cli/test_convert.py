"""`pickbias convert`: found through the entry points, notes and files said, each fault in one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import starfile

from napari_pickbias.cli.main import main

N = 5


@pytest.fixture(autouse=True)
def _in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def particles(path: str, tilt: float = 0.0) -> np.ndarray:
    """Write a small ``.cs`` file with a pose and a place for each particle."""
    f4 = np.float32
    columns = {
        "uid": np.arange(N, dtype=np.uint64) + np.uint64(1 << 63),
        "blob/path": np.array([b"J1/extract/000000000000000000007_a.mrc"] * N),
        "blob/idx": np.arange(N, dtype="u4"),
        "blob/shape": np.full((N, 2), 8, "u4"),
        "blob/psize_A": np.full(N, 1.5, f4),
        "blob/sign": np.full(N, 1, f4),
        "ctf/exp_group_id": np.full(N, 3, "u4"),
        "ctf/accel_kv": np.full(N, 300, f4),
        "ctf/cs_mm": np.full(N, 2.7, f4),
        "ctf/amp_contrast": np.full(N, 0.1, f4),
        "ctf/df1_A": np.full(N, 12000, f4),
        "ctf/df2_A": np.full(N, 11000, f4),
        "ctf/df_angle_rad": np.full(N, 0.5, f4),
        "ctf/phase_shift_rad": np.zeros(N, f4),
        "ctf/tilt_A": np.full((N, 2), tilt, f4),
        "location/micrograph_uid": np.full(N, 7, "u8"),
        "location/micrograph_path": np.array([b"J1/mics/000000000000000000007_a.mrc"] * N),
        "location/micrograph_shape": np.tile(np.array([100, 140], "u4"), (N, 1)),
        "location/center_x_frac": np.linspace(0.1, 0.9, N).astype(f4),
        "location/center_y_frac": np.linspace(0.2, 0.7, N).astype(f4),
    }
    rows = np.empty(N, [(name, v.dtype, v.shape[1:]) for name, v in columns.items()])
    for name, values in columns.items():
        rows[name] = values
    with Path(path).open("wb") as stream:
        np.save(stream, rows)
    return rows


def convert(*arguments: str) -> int:
    return main(["convert", *arguments])


def fault(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Return the one line on standard error of a call that must be refused."""
    assert convert(*arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1, err
    return err


def test_there_and_back(capsys: pytest.CaptureFixture[str]) -> None:
    rows = particles("p.cs")
    assert convert("p.cs", "--to", "p.star") == 0
    out, err = capsys.readouterr()
    assert out == "wrote p.star\nwrote p_uids.csv\n"
    assert err == ""
    table = starfile.read("p.star")["particles"]
    np.testing.assert_allclose(table["rlnCoordinateY"], rows["location/center_y_frac"] * 100, atol=1e-4)
    assert convert("p.star", "--to", "back.cs", "--quiet") == 0
    assert capsys.readouterr().out == ""
    back = np.load("back.cs")
    for name in ("uid", "blob/path", "blob/idx", "ctf/df1_A", "location/micrograph_uid"):
        np.testing.assert_array_equal(back[name], rows[name], err_msg=name)


def test_options_reach_the_converter() -> None:
    rows = particles("p.cs")
    assert convert("p.cs", "--to", "f.star", "--micrograph-y", "flipped", "--strip-uids", "--quiet") == 0
    table = starfile.read("f.star")["particles"]
    np.testing.assert_allclose(table["rlnCoordinateY"], 100 - rows["location/center_y_frac"] * 100, atol=1e-4)
    assert set(table["rlnMicrographName"]) == {"J1/mics/a.mrc"}
    Path("f_uids.csv").rename("elsewhere.csv")
    assert convert("f.star", "--to", "g.cs", "--uids", "elsewhere.csv", "--micrograph-y", "flipped", "--quiet") == 0
    back = np.load("g.cs")
    np.testing.assert_array_equal(back["uid"], rows["uid"])
    np.testing.assert_allclose(back["location/center_y_frac"], rows["location/center_y_frac"], atol=1e-6)


def test_what_is_left_out_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    particles("p.cs", tilt=0.1)
    assert convert("p.cs", "--to", "p.star", "--quiet") == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("note: beam tilt of the .cs file")


def test_nothing_is_replaced_unasked(capsys: pytest.CaptureFixture[str]) -> None:
    particles("p.cs")
    Path("p.star").write_text("mine")
    Path("q_uids.csv").write_text("mine")
    for target, file in (("p.star", "p.star"), ("q.star", "q_uids.csv")):
        line = fault(capsys, "p.cs", "--to", target)
        assert line == f"pickbias: {file}: exists already; give another name to --to, or --overwrite to replace it\n"
        assert Path(file).read_text() == "mine"
    assert not Path("q.star").exists()
    assert convert("p.cs", "--to", "p.star", "--overwrite") == 0
    assert Path("p.star").read_text() != "mine"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["no.cs", "--to", "a.star"], "pickbias: no.cs: no such file; check the path"),
        (["p.mrc", "--to", "a.star"], "pickbias: p.mrc: cannot be converted; known suffixes are .cs, .csg, .star"),
        (["p.cs", "--to", "a.txt"], "pickbias: --to a.txt: cannot convert p.cs to that; give .star"),
        (["p.cs", "--to", "p.cs"], "pickbias: p.cs: is the input itself, which is never written to"),
        (["p.cs", "--to", "folder"], "pickbias: --to folder: is a folder; give the file to write"),
        (["p.cs", "--to", "none/a.star"], "pickbias: none/a.star: cannot be written: its folder does not exist"),
        (["p.cs", "--to", "a.star", "--uids", "u.csv"], "pickbias: --uids u.csv: is for --to FILE.cs; leave it out"),
        (["p.cs", "--to", "a.cs", "--strip-uids"], "pickbias: --strip-uids: is for --to FILE.star; leave it out"),
        (["p.cs", "--to", "a.cs", "--link-stacks"], "pickbias: --link-stacks: is for --to FILE.star; leave it out"),
        (["p.cs", "--to", "a.star", "--micrographs", "m"], "pickbias: --micrographs m: is for --micrograph-y auto"),
        (["p.cs", "--to", "a.star", "--micrograph-y", "auto"], "pickbias: p.cs: none of its micrographs (such as J1"),
        (["p.cs"], "pickbias: Missing option '--to'"),
        (["folder", "--to", "a.star"], "pickbias: folder: holds no particle group"),
    ],
)
def test_each_fault_is_one_line(capsys: pytest.CaptureFixture[str], arguments: list[str], line: str) -> None:
    particles("p.cs")
    Path("p.mrc").touch()
    Path("folder").mkdir()
    before = sorted(Path().rglob("*"))
    assert fault(capsys, *arguments).startswith(line)
    assert sorted(Path().rglob("*")) == before
