"""CryoSPARC groups with all their fields, and chosen rows back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_pickbias.errors import InputError
from napari_pickbias.records.mrc import write_mrc
from napari_pickbias.records.pick_edits import PickEdits
from napari_pickbias.records.pick_tables import open_picks
from pickbias_cryosparc.tables import read_table


@pytest.fixture
def main(project) -> Path:
    return next(p for p in sorted(project.job.glob("*.cs")) if "passthrough" not in p.name)


def test_fields_of_both_files_are_columns(project, main: Path) -> None:
    table = open_picks(main).read()
    assert len(table) == len(project.main)
    assert table.features["uid"].tolist() == project.main["uid"].tolist()
    assert table.features["blob/psize_A"].tolist() == project.main["blob/psize_A"].tolist()
    assert {"location/center_x_frac", "location/micrograph_shape_0", "blob/shape_1"} <= set(table.features)
    assert table.features["ctf/type"].astype(str).tolist() == ["spline"] * len(table)
    assert table.has_images


def test_picks_lie_where_the_fractions_say(project, main: Path) -> None:
    table = open_picks(main).read()
    names = [table.micrograph_names[k] for k in table.micrograph]
    by_uid = {row["uid"]: row for row in project.passthrough}
    for uid, name, (x, y) in zip(table.features["uid"], names, table.coordinates_px, strict=True):
        row = by_uid[uid]
        height, width = row["location/micrograph_shape"]
        assert (x, y) == pytest.approx(
            (row["location/center_x_frac"] * width, row["location/center_y_frac"] * height), rel=1e-6
        )
        assert row["location/micrograph_path"].decode() == name


def test_micrographs_are_found_from_the_project_folder(project, main: Path) -> None:
    names = open_picks(main).read().micrograph_names
    path = project.root / names[0]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_mrc(path, np.zeros((4, 4)), 1.0)
    assert open_picks(main).read().micrograph_paths[0].samefile(path)


def test_chosen_rows_are_written_as_a_group(project, main: Path, tmp_path: Path) -> None:
    keep = np.arange(len(project.main)) % 3 == 0
    target = tmp_path / "out" / "kept.cs"
    target.parent.mkdir()
    files = open_picks(main).write_subset(keep, target)
    assert files[0] == target
    assert read_table(target).rows["uid"].tolist() == project.main["uid"][keep].tolist()
    with pytest.raises(InputError, match="0 of 12 particles kept, so none is written; loosen the criterion"):
        open_picks(main).write_subset(np.zeros(12, bool), target)


def test_moved_and_added_picks_are_rows_of_every_file(project, main: Path, tmp_path: Path) -> None:
    rows = project.main[[name for name in project.main.dtype.names if not name.startswith("blob/")]]
    np.save(tmp_path / "x.npy", rows)
    picks = main.with_name("picked_particles.cs")
    passthrough = next(p for p in sorted(project.job.glob("*.cs")) if "passthrough" in p.name)
    folder = tmp_path / "J31"
    folder.mkdir()
    (tmp_path / "x.npy").rename(folder / picks.name)
    (folder / "J31_passthrough_particles.cs").write_bytes(passthrough.read_bytes())
    source = open_picks(folder / picks.name)
    before = source.read()
    assert before.micrograph is not None
    assert not before.has_images
    keep = np.arange(len(before)) != 3
    edits = PickEdits(np.array([3, 5]), np.array([[1.0, 2.0], [30.5, 40.25]]), np.array([1]), np.array([[70.0, 50.0]]))
    target = tmp_path / "kept.cs"
    source.write_subset(keep, target, edits=edits)
    after = open_picks(target).read()
    expected = before.coordinates_px.copy()
    expected[5] = 30.5, 40.25
    assert np.allclose(after.coordinates_px, [*expected[keep], [70.0, 50.0]], atol=1e-4)
    uids = after.features["uid"].tolist()
    assert uids[:-1] == before.features["uid"].to_numpy()[keep].tolist()
    assert len(set(uids)) == len(uids)
    mate = int(np.flatnonzero(before.micrograph == 1)[0])
    new, row = after.features.iloc[-1], before.features.iloc[mate]
    assert new["location/micrograph_path"] == row["location/micrograph_path"]
    assert new["location/micrograph_shape_0"] == row["location/micrograph_shape_0"]
    assert new["ctf/type"] == row["ctf/type"]
    assert (tmp_path / "kept_passthrough.cs").is_file()
    again = tmp_path / "again.cs"
    source.write_subset(keep, again, edits=edits)
    assert again.read_bytes() == target.read_bytes()  # the same pick has the same uid
    none = np.zeros(len(before), bool)
    with pytest.raises(InputError, match="0 of 12 particles kept, so none is written"):
        source.write_subset(none, tmp_path / "none.cs", edits=PickEdits(edits.moved, edits.moved_px))


def test_extracted_particles_keep_their_places(project, main: Path, tmp_path: Path) -> None:
    edits = PickEdits(np.array([3]), np.array([[1.0, 2.0]]))
    with pytest.raises(InputError, match="its rows are extracted particles, whose images belong to the old places"):
        open_picks(main).write_subset(np.ones(12, bool), tmp_path / "kept.cs", edits=edits)
