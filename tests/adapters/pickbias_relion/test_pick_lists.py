"""Pick files: what RELION's next jobs read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import starfile

from pickbias_relion.coordinates import read_pick_lists, read_picks
from pickbias_relion.pick_lists import write_pick_files


def columns(count: int, *, angles: bool = False) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(count)
    found = {
        "x_px": rng.uniform(0, 4000, count).astype(np.float32),
        "y_px": rng.uniform(0, 4000, count).astype(np.float32),
        "score": rng.uniform(3, 9, count).astype(np.float32),
        "psi_deg": rng.uniform(-180, 180, count),
        "template": rng.integers(1, 9, count),
        "p_value": 10.0 ** -rng.uniform(1, 250, count),
        "q_value": rng.uniform(0, 1, count),
    }
    return found | ({"rot_deg": np.ones(count), "tilt_deg": np.ones(count)} if angles else {})


def test_side_by_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tables = {"Movies/a.mrc": columns(3, angles=True), "Movies/b.mrc": columns(0, angles=True)}
    files = write_pick_files(Path("out"), tables)
    assert files["picks of Movies/a.mrc"] == Path("out/per_micrograph/a_picks.star")
    assert Path("out/per_micrograph/b_picks.star").read_bytes() == b""
    found = read_picks("out/per_micrograph/a_picks.star")
    np.testing.assert_allclose(found.coordinates_px[:, 0], tables["Movies/a.mrc"]["x_px"], atol=1e-3)
    assert found.template is not None
    np.testing.assert_array_equal(found.template, tables["Movies/a.mrc"]["template"])
    listed = starfile.read("out/coordinates.star")
    assert listed["rlnMicrographCoordinates"].tolist()[1] == "out/per_micrograph/b_picks.star"
    assert len(read_pick_lists("out/coordinates.star").picks) == 2
    table = starfile.read("out/picks.star")
    assert table["rlnMicrographName"].tolist() == ["Movies/a.mrc"] * 3
    np.testing.assert_allclose(table["pickbiasPValue"], tables["Movies/a.mrc"]["p_value"], rtol=1e-3)
    assert {"rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi", "pickbiasQValue"} <= set(table.columns)
    assert "coords_suffix" not in files


def test_equal_names_and_jobs_keep_the_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tables = {"MotionCorr/job002/A/m.mrc": columns(2), "MotionCorr/job002/B/m.mrc": columns(1)}
    files = write_pick_files(Path("out"), tables)
    assert files["picks of MotionCorr/job002/B/m.mrc"] == Path("out/per_micrograph/B/m_picks.star")
    job = Path("External/job005")
    files = write_pick_files(job, tables, micrographs_star="CtfFind/job003/micrographs_ctf.star", as_job=True)
    assert files["picks of MotionCorr/job002/A/m.mrc"] == job / "A/m_picks.star"
    assert files["coords_suffix"].read_text() == "CtfFind/job003/micrographs_ctf.star\n"
    assert files["coords_suffix"].name == "coords_suffix_picks.star"


def test_nothing_was_picked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    files = write_pick_files(Path("out"), {"a.mrc": columns(0)})
    assert "picks" not in files
    assert files["coordinates"].exists()
