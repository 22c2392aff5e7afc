"""What the diagnosis refuses, in one line that names file, fault and mend; the rest is in tests/cli."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from napari_pickbias.errors import InputError
from napari_pickbias.jobs import bias_volume
from napari_pickbias.jobs.bias_bait import _omitted
from napari_pickbias.jobs.bias_views import view_recall
from napari_pickbias.runs import bias_picker
from napari_pickbias.runs.bias_picker import run_program, split_command
from napari_pickbias.runs.bias_picks import read_scored_picks, read_topaz

STAR = "data_\n\nloop_\n_rlnMicrographName #1\n"


def refused(call: Any, *values: Any) -> str:
    with pytest.raises(InputError) as fault:
        call(*values)
    return str(fault.value)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("p.star", STAR + "_rlnVoltage #2\nm1.mrc 300\n", "holds no coordinates; give picks or particles with rlnC"),
        ("p.txt", "image_name\tx_coord\ty_coord\n", "holds no picks"),
        ("p.txt", "image_name\tx_coord\ty_coord\nm1\t3\t\n", "holds coordinates that are not numbers; correct them"),
        ("p.txt", "image_name\tx_coord\ty_coord\nm1\tthree\t4\n", "cannot be read as a table of Topaz ("),
        ("p.txt", "", "cannot be read as a table of Topaz ("),
    ],
)
def test_files_of_picks(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    said = refused(read_scored_picks, tmp_path / name, ["m1.mrc"], 2.0, None)
    assert f"{tmp_path / name}: {message}" in said


def test_a_table_of_topaz_that_is_not_there(tmp_path: Path) -> None:
    said = refused(read_topaz, tmp_path / "p.txt")
    assert said.endswith("p.txt: no such file; check the path, which is taken from the current directory")


def test_refined_particles(tmp_path: Path) -> None:
    picks = {"m1.mrc": np.zeros(3, [("x", float), ("y", float)])}
    few = {"m1.mrc": (np.zeros((5, 2)), np.full(5, 20.0))}
    assert refused(view_recall, {"m2.mrc": few["m1.mrc"]}, picks, 30.0) == (
        "--poses: no refined particle lies on the micrographs given; give the particles of these"
    )
    said = refused(view_recall, few, picks, 30.0)
    assert said.startswith("--poses: ")
    assert said.endswith("; give the whole refinement")


def test_the_part_left_out() -> None:
    templates = SimpleNamespace(kind="map", name="--map m.mrc", data=np.ones((8, 8, 8)))
    own, foreign = SimpleNamespace(foreign=False), SimpleNamespace(foreign=True)
    assert refused(_omitted, templates, foreign, None) == (
        "--bait: needs picks that the templates make; leave --picks and --picker out"
    )
    assert refused(_omitted, templates, own, np.ones((8, 8, 8))) == (
        "--bait: the mask leaves out 100.0% of the map's mass; give one that leaves out 0.5 % to 80 %"
    )
    assert refused(_omitted, SimpleNamespace(kind="averages", name="--templates t.mrcs"), own, None) == (
        "--bait: --templates t.mrcs holds class averages; give the map they came from as --map"
    )


def test_picks_too_few_for_a_map(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bias_volume, "make_tools", lambda *_: None)
    job = bias_volume.volume_job(None, None, SimpleNamespace(count=3))  # type: ignore[arg-type]
    assert refused(next, job) == "--volume: 3 picks are too few for a map; leave it out, or lower --threshold"


def test_commands(tmp_path: Path) -> None:
    assert refused(split_command, " ").startswith("--picker: is empty; give a command such as 'topaz extract")
    program = tmp_path / "picker"
    program.write_text("no program")
    program.chmod(0o755)
    said = refused(list, run_program([str(program)], tmp_path / "log.out", "pick", None))
    assert said.startswith(f"--picker {program}: cannot be started: ")
    assert said.endswith("; check it")


def test_a_disk_without_room_for_the_noise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bias_picker, "read_header", lambda _: SimpleNamespace(shape=(1, 4096, 4096)))
    monkeypatch.setattr(bias_picker.shutil, "disk_usage", lambda _: SimpleNamespace(free=10**7))
    record = SimpleNamespace(paths=["m1.mrc"])
    assert refused(bias_picker._check_room, tmp_path / "out" / "work", record, [0]) == (
        f"--out {tmp_path / 'out'}: noise micrographs need 0.1 GB, 0.0 GB are free; give a folder on a larger disk"
    )
