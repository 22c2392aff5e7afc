"""Finding tomograms, and refusing what is none."""

from __future__ import annotations

from pathlib import Path

import mrcfile
import numpy as np
import pytest

from napari_pickbias.errors import InputError
from napari_pickbias.records import write_mrc
from napari_pickbias.records.tomograms import open_tomograms


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("b.mrc", "a.rec"):
        write_mrc(tmp_path / name, np.ones((3, 4, 5), np.float32), 8.0)
    return tmp_path


def test_folder_pattern_and_file(folder: Path) -> None:
    found = open_tomograms(".")
    assert found.names == ("a", "b")
    assert found.shapes == ((3, 4, 5),) * 2
    assert found.voxel_size_angstrom == 8.0
    assert found.notes == ()
    assert open_tomograms("*.mrc").names == ("b",)
    assert open_tomograms("a.rec").input_files() == [Path("a.rec")]


def test_pixel_size_overrides_with_a_note(folder: Path) -> None:
    found = open_tomograms("b.mrc", 10.0)
    assert found.voxel_size_angstrom == 10.0
    assert found.notes == ("b.mrc: its header says 8 Å a voxel, but 10 Å is used; check --pixel-size",)


def test_headers_of_1_angstrom_are_told_of(folder: Path) -> None:
    write_mrc(folder / "one.mrc", np.ones((3, 4, 5), np.float32), 1.0)
    assert open_tomograms("one.mrc").notes == (
        "one.mrc: its header says 1 Å a voxel, as headers do that were never set; check --pixel-size",
    )


def test_faults(folder: Path) -> None:
    write_mrc(folder / "image.mrc", np.ones((4, 5), np.float32), 8.0)
    write_mrc(folder / "other.mrc", np.ones((3, 4, 5), np.float32), 12.0)
    write_mrc(folder / "unset.mrc", np.ones((3, 4, 5), np.float32), None)
    with mrcfile.new(folder / "flat.mrc") as file:
        file.set_data(np.ones((3, 4, 5), np.float32))
        file.voxel_size = (8.0, 8.0, 16.0)
    with mrcfile.new(folder / "turned.mrc") as file:
        file.set_data(np.ones((3, 4, 5), np.float32))
        file.voxel_size = 8.0
        file.header.mapc, file.header.maps = 3, 1
    (folder / "list.txt").write_text("x")
    (folder / "empty").mkdir()
    (folder / "same").mkdir()
    for name in ("a.mrc", "a.rec"):
        write_mrc(folder / "same" / name, np.ones((3, 4, 5), np.float32), 8.0)
    for where, line in {
        "image.mrc": "image.mrc: holds one image, not a tomogram; for micrographs give --micrographs",
        "[bo]*.mrc": "other.mrc: has 12 Å a voxel, b.mrc 8 Å; pick tomograms of one voxel size at a time",
        "unset.mrc": "unset.mrc: its header holds no voxel size; give it in Å with --pixel-size",
        "flat.mrc": "flat.mrc: its voxels are 8 × 8 × 16 Å, not cubes; give the size with --pixel-size, or resample it",
        "turned.mrc": "turned.mrc: its columns, rows and sections are not x, y and z; write it in that order",
        "list.txt": "--tomograms list.txt: cannot tell what this file is; give .mrc, .rec, .map or a tomograms.star",
        "empty": "--tomograms empty: no tomograms (.mrc, .rec, .map) are there; give their folder or a list",
        "same": "--tomograms same: two tomograms are called a; give a list that names them",
        "no.mrc": "--tomograms no.mrc: no such file or folder; check the path",
    }.items():
        with pytest.raises(InputError) as fault:
            open_tomograms(where)
        assert str(fault.value) == line
