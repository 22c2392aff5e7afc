"""Picks of RELION, EMAN and crYOLO, and the lists that name them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_pickbias.errors import InputError
from pickbias_relion.coordinates import (
    Picks,
    coordinate_path,
    read_pick_lists,
    read_picks,
    write_coordinate_list,
    write_coords_suffix,
    write_picks,
)
from pickbias_relion.micrographs import write_micrographs
from pickbias_relion.star import open_star, version_number


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def fault(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_picks(path)
    return str(caught.value).removeprefix(f"{path}: ")


AUTOPICK = (
    "\n# version 30001\n\ndata_\n\nloop_ \n_rlnCoordinateX #1 \n_rlnCoordinateY #2 \n_rlnClassNumber #3 \n"
    "_rlnAutopickFigureOfMerit #4 \n_rlnAnglePsi #5 \n 10.5 20.5 2 0.25 -30.0 \n 11.5 21.5 1 -999.0 40.0 \n \n"
)


def test_relion_picks(tmp_path: Path) -> None:
    picks = read_picks(write(tmp_path / "m_autopick.star", AUTOPICK))
    assert picks.coordinates_px.tolist() == [[10.5, 20.5], [11.5, 21.5]]
    np.testing.assert_array_equal(picks.figure_of_merit, [0.25, np.nan])
    assert picks.psi_deg is not None
    assert picks.psi_deg.tolist() == [-30, 40]
    assert picks.template is not None
    assert picks.template.tolist() == [2, 1]


def test_fillers_of_manual_picks_are_nothing(tmp_path: Path) -> None:
    text = AUTOPICK.replace("2 0.25 -30.0", "-999 -999.0 -999.0").replace("1 -999.0 40.0", "-999 -999.0 -999.0")
    picks = read_picks(write(tmp_path / "m_manualpick.star", text))
    assert len(picks) == 2
    assert picks.figure_of_merit is picks.psi_deg is picks.template is None


def test_a_file_of_zero_bytes_means_no_picks(tmp_path: Path) -> None:
    assert read_picks(write(tmp_path / "m_autopick.star", "")).coordinates_px.shape == (0, 2)
    assert read_picks(write(tmp_path / "m.box", "")).coordinates_px.shape == (0, 2)


def test_eman_boxes_are_given_by_their_corner(tmp_path: Path) -> None:
    picks = read_picks(write(tmp_path / "m.box", "100\t200\t180\t180\t0.75\n-10 20.5 90 180 0.5\n\n"))
    assert picks.coordinates_px.tolist() == [[190, 290], [35, 110.5]]
    assert picks.figure_of_merit is not None
    assert picks.figure_of_merit.tolist() == [0.75, 0.5]
    assert read_picks(write(tmp_path / "m.box", "1 2 4 4\n")).figure_of_merit is None
    assert read_picks(write(tmp_path / "m.box", "1 2 4 4 -3\n1 2 4 4 -3\n")).figure_of_merit is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("24 40 0 0\nsixty 62 0 0\n", "line 2 holds 'sixty', which is not a number; correct that line"),
        ("24 40 0\n", "line 1 has 3 values; a box needs corner x, y, width and height"),
        ("1 2 4 4 -1\n5 6 4 4 -2\n", "marks the ends of helices (-1, -2), not particles; give a list of boxes"),
    ],
)
def test_faulty_boxes(tmp_path: Path, text: str, reason: str) -> None:
    assert fault(write(tmp_path / "m.box", text)) == reason


CBOX = (
    "\ndata_global\n\n_cbox_format_version 1.0\n\ndata_cryolo\n\nloop_\n_CoordinateX #1\n_CoordinateY #2\n"
    "_CoordinateZ #3\n_Width #4\n_Height #5\n_Confidence #6\n10.0 20.0 <NA> 100.0 50.0 0.5\n"
    "30.0 40.0 <NA> 100.0 50.0 <NA>\n\ndata_cryolo_include\n\nloop_\n_slice_index #1\n\n"
)


def test_cryolo_boxes(tmp_path: Path) -> None:
    picks = read_picks(write(tmp_path / "m.cbox", CBOX))
    assert picks.coordinates_px.tolist() == [[60, 45], [80, 65]]
    np.testing.assert_array_equal(picks.figure_of_merit, [0.5, np.nan])
    assert fault(write(tmp_path / "m.cbox", CBOX.replace("20.0 <NA>", "20.0 3.0"))) == (
        "holds picks in tomograms (_CoordinateZ); give picks in micrographs"
    )
    assert fault(write(tmp_path / "m.cbox", CBOX.replace(" 0.5\n", " high\n"))) == (
        "holds the confidence 'high', which is not a number; correct that value"
    )
    old = read_picks(write(tmp_path / "m.cbox", "4472.0\t3834.5\t200\t200\t0.25\t208\t203\n"))
    assert old.coordinates_px.tolist() == [[4572, 3934.5]]


def test_picks_that_are_none(tmp_path: Path) -> None:
    path = write(tmp_path / "a.star", "data_\nloop_\n_rlnMicrographName\nm.mrc\n")
    assert fault(path) == "data_ has no column rlnCoordinateX; give a file with picks"
    path = write(tmp_path / "b.star", "data_\nloop_\n_rlnCoordinateX\n_rlnCoordinateY\n_rlnCoordinateZ\n1 2 3\n")
    assert fault(path) == "holds picks in tomograms (rlnCoordinateZ); give picks in micrographs"


def test_written_picks_are_read_back(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    picks = Picks(rng.uniform(0, 4096, (4, 2)), np.array([0.5, np.nan, 1.5, 2.5]), rng.normal(size=4), np.arange(-1, 3))
    write_picks(tmp_path / "p.star", picks)
    again = read_picks(tmp_path / "p.star")
    for name in ("coordinates_px", "figure_of_merit", "psi_deg", "template"):
        np.testing.assert_array_equal(getattr(again, name), getattr(picks, name))
    (table,) = open_star(tmp_path / "p.star").tables
    assert (table.block, version_number(table)) == ("", 30001)
    write_picks(tmp_path / "bare.star", Picks(picks.coordinates_px))
    assert read_picks(tmp_path / "bare.star").figure_of_merit is None
    write_picks(tmp_path / "none.star", Picks(np.empty((0, 2))))
    assert (tmp_path / "none.star").read_bytes() == b""


def test_coordinate_files_keep_the_micrographs_folders() -> None:
    def where(micrograph: str) -> str:
        return str(coordinate_path("AutoPick/job009", micrograph, "autopick"))

    assert where("MotionCorr/job002/Movies/a.mrc") == "AutoPick/job009/Movies/a_autopick.star"
    assert where("Import/job001/x/job002/a.b.mrc") == "AutoPick/job009/x/job002/a.b_autopick.star"
    assert where("Micrographs/a.mrc") == "AutoPick/job009/Micrographs/a_autopick.star"
    assert where("a.mrc") == "AutoPick/job009/a_autopick.star"
    assert where("/data/a.mrc") == "AutoPick/job009/data/a_autopick.star"


def test_lists_of_coordinate_files(tmp_path: Path) -> None:
    write(tmp_path / "AutoPick/job003/x/m1_autopick.star", AUTOPICK)
    write(tmp_path / "AutoPick/job003/x/m2_autopick.star", "")
    path = tmp_path / "AutoPick/job003/autopick.star"
    files = {f"MotionCorr/job002/x/{m}.mrc": f"AutoPick/job003/x/{m}_autopick.star" for m in ("m1", "m2", "m3")}
    write_coordinate_list(path, files)
    lists = read_pick_lists(path)
    assert {name: len(picks) for name, picks in lists.picks.items()} == {
        "MotionCorr/job002/x/m1.mrc": 2,
        "MotionCorr/job002/x/m2.mrc": 0,
    }
    assert lists.notes == (f"{path}: 1 of 3 micrographs have no coordinate file (MotionCorr/job002/x/m3.mrc ...)",)
    write_coordinate_list(path, {name: file for name, file in files.items() if "m3" not in name})
    assert read_pick_lists(path).notes == ()
    write_coordinate_list(path, {"a.mrc": "gone.star"})
    with pytest.raises(InputError, match="none of the 1 coordinate files it names is there; looked in"):
        read_pick_lists(path)


def test_the_suffix_file_of_relion_31(tmp_path: Path) -> None:
    names = ["MotionCorr/job002/x/m1.mrc", "MotionCorr/job002/x/m2.mrc"]
    write(tmp_path / "Pick/job004/x/m1_mine.star", AUTOPICK)
    (tmp_path / "Ctf").mkdir()
    write_micrographs(tmp_path / "Ctf/micrographs.star", names, 1.0)
    path = write_coords_suffix(tmp_path / "Pick/job004", "mine", "Ctf/micrographs.star")
    assert path.name == "coords_suffix_mine.star"
    lists = read_pick_lists(path)
    assert [(name, len(picks)) for name, picks in lists.picks.items()] == [(names[0], 2)]
    assert len(lists.notes) == 1
    path.write_text("Ctf/absent.star\n")
    with pytest.raises(
        InputError, match=r"should name the micrographs' STAR file, but 'Ctf/absent\.star' is not there"
    ):
        read_pick_lists(path)
    path.write_text("")
    with pytest.raises(InputError, match="should name the micrographs' STAR file, but '' is not there"):
        read_pick_lists(path)


def test_one_table_of_all_picks(tmp_path: Path) -> None:
    text = (
        "data_particles\nloop_\n_rlnMicrographName\n_rlnCoordinateX\n_rlnCoordinateY\n_rlnAutopickFigureOfMerit\n"
        "m1 1 2 0.1\nm2 3 4 0.2\nm1 5 6 0.3\n"
    )
    lists = read_pick_lists(write(tmp_path / "picks.star", text))
    assert list(lists.picks) == ["m1", "m2"]
    assert lists.picks["m1"].coordinates_px.tolist() == [[1, 2], [5, 6]]
    assert lists.picks["m1"].figure_of_merit is not None
    assert lists.picks["m1"].figure_of_merit.tolist() == [0.1, 0.3]
    with pytest.raises(InputError, match=r"data_ names no micrographs with their picks; give an autopick\.star"):
        read_pick_lists(write(tmp_path / "m_autopick.star", AUTOPICK))


# -- real files --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "n", "scored"),
    [
        ("micrographs/apoferritin_10146/May08_03.05.02_manual.star", 149, False),
        ("micrographs/betagal_10017/picks/CASSPER/Falcon_2012_06_12-14_57_34_0.star", 597, False),
        ("micrographs/betagal_10017/picks/gautomatch/Falcon_2012_06_12-14_57_34_0.star", 365, True),
        ("micrographs/betagal_10017/picks/cryoppp_expert/Falcon_2012_06_12-14_33_35_0.star", 641, False),
        ("micrographs/betagal_10017/picks/topaz/Falcon_2012_06_12-16_26_22_0.box", 796, True),
        ("micrographs/betagal_10017/picks/crYOLO/Falcon_2012_06_12-14_33_35_0.box", 719, True),
        ("micrographs/contaminated/Ucsf_stack_1142_DW_autopick.star", 45, True),
        ("particles/betagal_10204/AutoPick/job008/Movies/20170629_00021_frameImage_autopick.star", 242, True),
        ("particles/betagal_10204/ManualPick/job006/Movies/20170629_00021_frameImage_manualpick.star", 13, False),
        ("star/cbox/napari-boxmanager__TcdA1-0018_frames_sum.cbox", 120, True),
        ("star/cbox/napari-boxmanager__ActLifeact_03047.cbox", 56, True),
        ("star/cbox/FoilHole_8535783_Data_6461108_6461110_20220309_161226_fractions_OLD_FORMAT.cbox", 125, True),
        ("star/box/napari-boxmanager__2d_empty.box", 0, False),
        ("star/relion31/Cryo-EMMAE__prediction_82_test.star", 124, False),
    ],
)
def test_real_picks(data_dir: Path, name: str, n: int, scored: bool) -> None:
    picks = read_picks(data_dir / name)
    assert len(picks) == n
    assert (picks.figure_of_merit is not None) == scored


def test_a_corrupt_real_box_file(data_dir: Path) -> None:
    path = data_dir / "star/box/napari-boxmanager__2d_corrupt_has_string.box"
    assert fault(path) == "line 2 holds 'sixty_three', which is not a number; correct that line"


def test_pickers_agree_on_the_frame_of_real_boxes(data_dir: Path) -> None:
    """crYOLO's box corners, turned into centres, lie on the experts' picks: half their spacing off would not."""
    folder = data_dir / "micrographs/betagal_10017/picks"
    boxes = read_picks(folder / "crYOLO/Falcon_2012_06_12-14_33_35_0.box").coordinates_px
    experts = read_picks(folder / "cryoppp_expert/Falcon_2012_06_12-14_33_35_0.star").coordinates_px

    def agreement(shift: float) -> float:
        distance = np.linalg.norm(boxes[:, None] + shift - experts, axis=2).min(axis=0)
        return float((distance < 30).mean())

    assert agreement(0.0) > 0.8
    assert agreement(-90.0) < 0.3  # the corners themselves


def test_the_real_pick_list(data_dir: Path) -> None:
    lists = read_pick_lists(data_dir / "particles/betagal_10204/AutoPick/job008/autopick.star")
    assert {Path(name).stem: len(picks) for name, picks in lists.picks.items()} == {
        "20170629_00021_frameImage": 242,
        "20170629_00022_frameImage": 228,
        "20170629_00023_frameImage": 229,
    }
    assert "7 of 10 micrographs have no coordinate file" in lists.notes[0]


def test_the_real_optimisation_set_is_read_as_keys_and_values(data_dir: Path) -> None:
    star = open_star(data_dir / "star/tomo5/cylindra__run_it025_optimisation_set.star")
    assert star.value("rlnTomoParticlesFile") == "Class3D/job_class3d/run_it025_data.star"
    assert star.value("rlnTomoTomogramsFile") == "Tomograms/job_tomo/tomograms.star"
    assert star.value("rlnTomoTrajectoriesFile") == ""
