"""Pick files with all their columns, and chosen rows back as they stood."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from napari_pickbias.errors import InputError
from napari_pickbias.records.pick_tables import open_picks
from pickbias_relion.coordinates import read_pick_lists

ROWS = [
    'mics/a.mrc 10.5 20 0.25 001 "his own words" 1',
    "mics/a.mrc 30 40.25 -999 002 x 1",
    "mics/b.mrc 50 60 0.75 003 x 2",
]
LABELS = ["rlnMicrographName", "rlnCoordinateX", "rlnCoordinateY", "rlnAutopickFigureOfMerit", "odd", "note", "group"]


def star(folder: Path, rows: list[str] | None = None, name: str = "picks.star") -> Path:
    labels = [f"_{label} #{i}" for i, label in enumerate(LABELS, 1)]
    path = folder / name
    path.write_text(
        "\n".join(["# made by hand", "data_", "", "loop_", *labels, *(ROWS if rows is None else rows)]) + "\n"
    )
    return path


def test_every_column_is_there_in_its_own_type(tmp_path: Path) -> None:
    table = open_picks(star(tmp_path)).read()
    assert len(table) == 3
    assert table.features.columns.tolist() == LABELS
    assert table.features["rlnCoordinateX"].tolist() == [10.5, 30, 50]
    assert table.features["group"].dtype == np.int64
    assert table.features["note"].tolist() == ["his own words", "x", "x"]
    assert isinstance(table.features["note"].dtype, pd.CategoricalDtype)
    assert table.coordinates_px.tolist() == [[10.5, 20], [30, 40.25], [50, 60]]
    assert table.micrograph.tolist() == [0, 0, 1]
    assert table.micrograph_names == ("mics/a.mrc", "mics/b.mrc")
    assert table.micrograph_paths == (None, None)
    assert table.pixel_size_angstrom is None
    assert not table.has_images


def test_a_column_that_turns_out_to_be_text_is_text(tmp_path: Path) -> None:
    table = open_picks(star(tmp_path, [*ROWS[:2], ROWS[2].replace("003", "n/a")])).read()
    assert table.features["odd"].tolist() == ["001", "002", "n/a"]
    assert table.features["group"].tolist() == [1, 1, 2]


def test_chosen_rows_stand_as_they_stood_with_own_columns_behind(tmp_path: Path) -> None:
    path = star(tmp_path)
    target = tmp_path / "kept.star"
    (written,) = open_picks(path).write_subset(np.array([True, False, True]), target)
    assert written == target
    assert target.read_text() == path.read_text().replace(ROWS[1] + "\n", "")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A RELION project with a list of pick files; the second micrograph has none, the third an empty one."""
    monkeypatch.chdir(tmp_path)
    job = tmp_path / "AutoPick" / "job003" / "Movies"
    job.mkdir(parents=True)
    labels = "".join(f"_{label} #{i}\n" for i, label in enumerate(LABELS[1:], 1))
    for name, rows in (("a", ROWS[:2]), ("d", ROWS[2:])):
        body = "\n".join(row.split(" ", 1)[1] for row in rows)
        (job / f"{name}_autopick.star").write_text(f"data_\n\nloop_\n{labels}{body}\n")
    (job / "c_autopick.star").write_text("")
    lines = [f"Movies/{n}.mrc AutoPick/job003/Movies/{n}_autopick.star" for n in "abcd"]
    path = tmp_path / "AutoPick" / "job003" / "autopick.star"
    head = "data_coordinate_files\n\nloop_\n_rlnMicrographName #1\n_rlnMicrographCoordinates #2\n"
    path.write_text(head + "\n".join(lines) + "\n")
    return path


def test_a_list_of_files_is_one_table_and_names_empty_micrographs_too(project: Path) -> None:
    table = open_picks(project).read()
    assert table.micrograph.tolist() == [0, 0, 3]
    assert table.micrograph_names == tuple(f"Movies/{n}.mrc" for n in "abcd")
    assert table.features["note"].astype(str).tolist() == ["his own words", "x", "x"]
    assert table.notes == (f"{project}: 1 of 4 micrographs have no coordinate file",)


def test_a_list_of_files_is_written_as_one(project: Path) -> None:
    target = project.parent / "good.star"
    files = open_picks(project).write_subset(np.array([False, True, True]), target)
    assert files[0] == target
    assert all(file.is_file() for file in files)
    found = read_pick_lists(target).picks
    assert {name: picks.coordinates_px.tolist() for name, picks in found.items()} == {
        "Movies/a.mrc": [[30.0, 40.25]],
        "Movies/d.mrc": [[50.0, 60.0]],
    }
    original = (project.parent / "Movies" / "a_autopick.star").read_text()
    written = (project.parent / "good_files" / "Movies" / "a_good.star").read_text()
    assert written == original.replace(ROWS[0].split(" ", 1)[1] + "\n", "")
    again = open_picks(target).read()
    assert again.features["odd"].tolist() == [2, 3]


def test_relion_3_lists_by_suffix_are_read(project: Path, tmp_path: Path) -> None:
    micrographs = tmp_path / "micrographs.star"
    names = "".join(f"Movies/{n}.mrc\n" for n in "ad")
    micrographs.write_text(f"data_\n\nloop_\n_rlnMicrographName #1\n{names}")
    suffix = project.parent / "coords_suffix_autopick.star"
    suffix.write_text("micrographs.star\n")
    assert open_picks(suffix).read().micrograph.tolist() == [0, 0, 1]
    suffix.write_text("gone.star\n")
    with pytest.raises(InputError, match="should name the micrographs' STAR file, which is not there"):
        open_picks(suffix)


def test_what_is_at_fault_is_told(project: Path, tmp_path: Path) -> None:
    source = open_picks(project)
    with pytest.raises(InputError, match="0 of 3 picks kept, so no list is written; loosen the criterion"):
        source.write_subset(np.zeros(3, bool), tmp_path / "x.star")
    with pytest.raises(InputError, match="its picks changed while they were looked at; open it again"):
        source.write_subset(np.ones(4, bool), tmp_path / "x.star")
    with pytest.raises(InputError, match="holds no picks"):
        open_picks(project.parent / "Movies" / "c_autopick.star")
    for file in (project.parent / "Movies").iterdir():
        file.unlink()
    with pytest.raises(InputError, match="none of the 4 coordinate files it names is there"):
        open_picks(project)
    with pytest.raises(InputError, match=r"gone.star: no such file"):
        open_picks(tmp_path / "gone.star")
    (tmp_path / "x.txt").write_text("x")
    with pytest.raises(InputError, match=r"known suffixes are .box, .cbox, .cs, .csg, .star"):
        open_picks(tmp_path / "x.txt")


def test_boxes_are_read_as_centres_and_kept_lines_written_back(tmp_path: Path) -> None:
    path = tmp_path / "a.box"
    path.write_text("# x y w h score\n10\t20\t8\t8\t0.5\n\n30 40 8 8 0.7\n")
    source = open_picks(path)
    table = source.read()
    assert table.coordinates_px.tolist() == [[14, 24], [34, 44]]
    assert table.features["score"].tolist() == [0.5, 0.7]
    source.write_subset(np.array([False, True]), tmp_path / "b.box")
    assert (tmp_path / "b.box").read_text() == "# x y w h score\n\n30 40 8 8 0.7\n"


def test_real_files(data_dir: Path) -> None:
    table = open_picks(data_dir / "particles/betagal_10204/AutoPick/job008/autopick.star").read()
    assert len(table) == 699
    assert len(table.micrograph_names) == 10
    assert "rlnAutopickFigureOfMerit" in table.features
    particles = open_picks(data_dir / "particles/betagal_10204/Extract/job009/particles.star").read()
    assert particles.pixel_size_angstrom == pytest.approx(0.885)  # of the micrographs: the images are binned
    assert particles.has_images
    old = open_picks(
        data_dir / "star/cbox/FoilHole_8535783_Data_6461108_6461110_20220309_161226_fractions_OLD_FORMAT.cbox"
    )
    assert len(old.read()) == 125
