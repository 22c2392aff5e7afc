"""Picks moved and added by hand, in every kind of pick file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_pickbias.errors import InputError
from napari_pickbias.records.pick_edits import PickEdits, donor_row, is_shared
from napari_pickbias.records.pick_tables import open_picks

LABELS = ["rlnMicrographName", "rlnCoordinateX", "rlnCoordinateY", "rlnAutopickFigureOfMerit", "rlnOpticsGroup"]
LABELS += ["rlnDefocusU", "hisNote", "rlnAnglePsi", "pickbiasQValue", "hisNumber"]
ROWS = [
    'mics/a.mrc 10.5 20 0.25 1 9000.5 "his own words" 12 0.1 5',
    "mics/a.mrc\t30 40.25 0.5 1 9000.5 x 13 0.2 6   # seen",
    "mics/b.mrc 50 60 0.75 2 8000 x 14 0.3 7",
]
ADDED = PickEdits(added_micrograph=np.array([1, 0]), added_px=np.array([[7.0, 8.5], [1.25, 2.0001]]))
MOVED = PickEdits(moved=np.array([1]), moved_px=np.array([[31.5, 39.0]]))


@pytest.fixture
def star(tmp_path: Path) -> Path:
    path = tmp_path / "picks.star"
    head = ["# mine", "data_optics", "", "loop_", "_rlnOpticsGroup #1", "1", "2", "", "data_particles", "", "loop_"]
    body = [*(f"_{label} #{i}" for i, label in enumerate(LABELS, 1)), *ROWS]
    path.write_text("\n".join([*head, *body, "", "# the end", "data_more", "", "_x 1"]) + "\n")
    return path


def test_a_moved_pick_has_new_coordinates_and_nothing_else_changes(star: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.star"
    open_picks(star).write_subset(np.array([True, True, False]), target, edits=MOVED)
    expected = star.read_text().replace(ROWS[2] + "\n", "").replace("\t30 40.25 ", "\t31.5 39.0 ")
    assert target.read_text() == expected


def test_an_added_pick_is_a_row_with_what_its_micrograph_shares(star: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.star"
    open_picks(star).write_subset(np.array([False, True, True]), target, edits=ADDED)
    lines = target.read_text().splitlines()
    new = ["mics/b.mrc 7.0 8.5 -999 2 8000 None -999 -999 0 ", "mics/a.mrc 1.25 2.0 -999 1 9000.5 None -999 -999 0 "]
    at = lines.index(ROWS[2])
    assert lines[at - 1] == ROWS[1]
    assert lines[at + 1 : at + 3] == new
    assert lines[at + 3 :] == ["", "# the end", "data_more", "", "_x 1"]
    table = open_picks(target).read()
    assert table.coordinates_px.tolist() == [[30, 40.25], [50, 60], [7, 8.5], [1.25, 2]]
    assert [table.micrograph_names[k] for k in table.micrograph] == [f"mics/{n}.mrc" for n in "abba"]


def test_added_picks_alone_are_written_and_nothing_at_all_is_not(star: Path, tmp_path: Path) -> None:
    none = np.zeros(3, bool)
    open_picks(star).write_subset(none, tmp_path / "out.star", edits=ADDED)
    assert len(open_picks(tmp_path / "out.star").read()) == 2
    with pytest.raises(InputError, match="0 of 3 picks kept, so none is written; loosen the criterion"):
        open_picks(star).write_subset(none, tmp_path / "none.star", edits=MOVED)
    with pytest.raises(InputError, match="is the file that is read, which is never overwritten"):
        open_picks(star).write_subset(~none, star, edits=MOVED)
    with pytest.raises(InputError, match="its picks changed while they were looked at; open it again"):
        open_picks(star).write_subset(np.ones(4, bool), tmp_path / "none.star", edits=MOVED)
    assert not (tmp_path / "none.star").exists()


def test_line_ends_and_a_missing_last_one(tmp_path: Path) -> None:
    path, target = tmp_path / "p.star", tmp_path / "out.star"
    path.write_bytes(b"data_\r\n\r\nloop_\r\n_rlnCoordinateX\r\n_rlnCoordinateY\r\n1 2\r\n3 4")
    one = PickEdits(np.array([0]), np.array([[5.0, 6.0]]), np.array([0]), np.array([[7.0, 8.0]]))
    open_picks(path).write_subset(np.array([True, False]), target, edits=one)
    assert target.read_bytes().endswith(b"_rlnCoordinateY\r\n5.0 6.0\r\n7.0 8.0 \r\n")


def test_extracted_particles_keep_their_places(tmp_path: Path) -> None:
    path = tmp_path / "p.star"
    path.write_text("data_\n\nloop_\n_rlnImageName\n_rlnCoordinateX\n_rlnCoordinateY\n1@a.mrcs 1 2\n")
    with pytest.raises(InputError, match="its rows are extracted particles, whose images belong to the old places"):
        open_picks(path).write_subset(np.ones(1, bool), tmp_path / "out.star", edits=ADDED)


def test_corners_of_cryolo_stay_corners(tmp_path: Path) -> None:
    path, target = tmp_path / "p.cbox", tmp_path / "out.cbox"
    labels = "".join(f"_{name}\n" for name in ("CoordinateX", "CoordinateY", "Width", "Height", "Confidence"))
    path.write_text(f"data_cryolo\n\nloop_\n{labels}10 20 8 8 0.5\n30 40 8 8 0.6\n")
    edits = PickEdits(np.array([1]), np.array([[50.0, 60.0]]), np.array([0]), np.array([[5.0, 6.0]]))
    open_picks(path).write_subset(np.ones(2, bool), target, edits=edits)
    assert target.read_text().splitlines()[-3:] == ["10 20 8 8 0.5", "46.0 56.0 8 8 0.6", "1.0 2.0 8 8 0 "]
    assert open_picks(target).read().coordinates_px.tolist() == [[14, 24], [50, 60], [5, 6]]


def test_boxes_keep_their_widths(tmp_path: Path) -> None:
    path, target = tmp_path / "p.box", tmp_path / "out.box"
    path.write_text("10\t20\t8\t6\t0.5\n30\t40\t8\t6\t0.6")
    edits = PickEdits(np.array([0]), np.array([[50.0, 60.0]]), np.array([0]), np.array([[5.0, 6.5]]))
    open_picks(path).write_subset(np.ones(2, bool), target, edits=edits)
    assert target.read_text() == "46\t57\t8\t6\t0.5\n30\t40\t8\t6\t0.6\n1\t3.5\t8\t6\t0\n"
    path.write_text("")
    with pytest.raises(InputError, match="has no box whose width an added pick could take; save as STAR instead"):
        open_picks(path).write_subset(np.ones(0, bool), target, edits=edits)


def test_lists_write_each_micrograph_its_own_edits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second micrograph has no file, the third an empty one: picks added there make files as RELION's own are."""
    monkeypatch.chdir(tmp_path)
    head = "data_\n\nloop_\n_rlnCoordinateX\n_rlnCoordinateY\n_hisNote\n"
    Path("a_p.star").write_text(head + "1 2 x\n3 4 y\n")
    Path("c_p.star").write_text("")
    Path("d_p.star").write_text(head + "5 6 z\n")
    rows = "".join(f"{n}.mrc {n}_p.star\n" for n in "abcd")
    Path("list.star").write_text(
        f"data_coordinate_files\n\nloop_\n_rlnMicrographName\n_rlnMicrographCoordinates\n{rows}"
    )
    edits = PickEdits(
        np.array([1, 2]), np.array([[9.0, 9.5], [7.0, 7.5]]), np.array([1, 2, 3]), np.array([[1.0, 1], [2, 2], [3, 3]])
    )
    open_picks("list.star").write_subset(np.array([False, True, True]), Path("out.star"), edits=edits)
    table = open_picks("out.star").read()
    assert table.micrograph_names == ("a.mrc", "b.mrc", "c.mrc", "d.mrc")
    assert table.micrograph.tolist() == [0, 1, 2, 3, 3]
    assert table.coordinates_px.tolist() == [[9, 9.5], [1, 1], [2, 2], [7, 7.5], [3, 3]]
    assert table.features["hisNote"].tolist() == ["y", np.nan, np.nan, "z", "z"]  # one row shows no difference
    assert table.features["rlnAutopickFigureOfMerit"].dropna().tolist() == [-999, -999]


def test_what_a_micrograph_shares() -> None:
    micrograph = np.array([0, 0, 1, 2])
    assert is_shared(np.array([5, 5, 6, 7]), micrograph)
    assert not is_shared(np.array([5, 4, 6, 7]), micrograph)
    assert not is_shared(np.array([1, 2, 3]), np.array([0, 1, 2]))  # one pick each: nothing shows that it is shared
    assert not is_shared(np.array([], np.int64), np.array([], np.int64))
    assert donor_row(np.array([5, 5, 6, 7]), micrograph, 1) == 2
    assert donor_row(np.array([5, 5, 6, 7]), micrograph, 3) == -1
    assert donor_row(np.array([5, 5, 5, 5]), micrograph, 3) == 0
    assert donor_row(np.array([5, 4, 6, 7]), micrograph, 0) == -1
