"""The live door with the 4.7 client, which has no pictures, other documents, and shows passwords in its faults.

Runs where cryosparc-tools 4.x is installed in the place of 5.x: the two cannot be there together.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

cryosparc = pytest.importorskip("cryosparc", reason="cryosparc-tools is not installed: pip install cryosparc-tools")
if not cryosparc.__version__.startswith("4."):
    pytest.skip(
        f"cryosparc-tools {cryosparc.__version__} is installed; these tests are of the 4.x client: pip install "
        "'cryosparc-tools~=4.7.0' in an environment of its own",
        allow_module_level=True,
    )

import cryosparc.tools as tools  # noqa: E402
import starfile  # noqa: E402
from interop.cryosparc_files import ARGUMENTS, LAYOUT, make_project, make_refinement  # noqa: E402
from interop.cryosparc_scenes import SIDE, make_pickfree_scene, make_picking_scene  # noqa: E402
from interop.cryosparc_stub4 import EMAIL, LICENSE, PASSWORD, Stub4  # noqa: E402

import napari_pickbias.runs.outliers as room  # noqa: E402
from napari_pickbias.records import read_volume  # noqa: E402
from pickbias_cryosparc import live  # noqa: E402

pytestmark = pytest.mark.interop
PICK = ["--angular-step", "90", "--lowpass", "40", "--threshold", "4", "--surrogates", "4", "--ctf", "none"]
PICK += ["--contrast", "white", "--threads", "1"]


@pytest.fixture
def login(monkeypatch: pytest.MonkeyPatch) -> None:
    """The login that the client read from the environment when it was imported."""
    found = (LICENSE, "elsewhere", 39000, EMAIL, PASSWORD, 300)
    monkeypatch.setattr(tools.CryoSPARC.__init__, "__defaults__", found)
    monkeypatch.setenv("CRYOSPARC_PASSWORD", PASSWORD)
    monkeypatch.setattr("cryosparc.command.RETRY_INTERVAL", 0)
    monkeypatch.setattr(room, "write_outlier_report", lambda *arguments: {})  # the other client's test has it


@contextmanager
def serve(root: Path) -> Iterator[Stub4]:
    """Serve the jobs whose files are there."""
    with Stub4(root) as server:
        for uid, outputs in LAYOUT.items():
            if not (root / uid).exists():
                continue
            groups = [{"name": name, "type": kind} for name, (kind, _) in outputs.items()]
            results = []
            for name, (kind, slots) in outputs.items():
                for slot, file in slots.items():
                    prefix, _, dtype = slot.partition(":")
                    more = {"metafiles": [file], "num_items": [len(np.load(root / file))], "passthrough": False}
                    results.append({"group_name": name, "name": prefix, "type": f"{kind}.{dtype or prefix}", **more})
            server.add_job(uid, groups, results, "extract")
        yield server


@pytest.fixture
def stub(tmp_path: Path, login: None) -> Iterator[Stub4]:
    with serve(make_project(tmp_path / "CS-three")) as server:
        yield server


def run(stub: Stub4, job: str, *more: str, project: str = "P3") -> int:
    return live.main([job, "--url", f"http://127.0.0.1:{stub.base_port}", project, "W1", *more])


def outliers(stub: Stub4, *more: str, project: str = "P3") -> int:
    return run(stub, "outliers", "J2", *ARGUMENTS, *more, project=project)


def test_the_whole_way(stub: Stub4, capsys: pytest.CaptureFixture[str]) -> None:
    assert outliers(stub) == 0
    assert capsys.readouterr().err == ""
    assert stub.jobs["J3"]["status"] == "completed"
    source, kept, rejected = (
        stub.rows("J2", "particles"),
        *(stub.rows("J3", f"particles_{name}") for name in ("kept", "rejected")),
    )
    assert sorted([*kept["uid"], *rejected["uid"]]) == sorted(source["uid"])
    assert set(kept.fields()) == set(source.fields())
    assert 130 <= len(kept) <= 170  # of 150 particles among 225
    assert len([e for e in stub.events if e["type"] == "image"]) >= 4
    assert all(data.startswith(b"\x89PNG") for _, data in stub.assets)
    assert not [e for e in stub.events if e["type"] == "error"]


def test_softmodes(tmp_path: Path, login: None, capsys: pytest.CaptureFixture[str]) -> None:
    with serve(make_refinement(tmp_path / "CS-three")) as stub:
        assert run(stub, "softmodes", "J4", "--modes", "1", "--box", "8", "--iterations", "3", "--threads", "1") == 0
        assert capsys.readouterr().err == ""
        assert stub.jobs["J5"]["status"] == "completed"
        mode = stub.rows("J5", "mode_01")
        for slot in ("map", "map_plus", "map_minus"):
            assert (
                list(read_volume(stub.root / mode[f"{slot}/path"][0]).data.shape) == mode[f"{slot}/shape"][0].tolist()
            )
        source, particles = stub.rows("J4", "particles"), stub.rows("J5", "particles")
        np.testing.assert_array_equal(particles["uid"], source["uid"])
        assert particles["rotation_sd/value"].min() > 0
        assert "alignments3D/pose" in particles.fields()
        stub.jobs["J4"]["output_result_groups"] = [{"name": "particles", "type": "particle"}]
        assert run(stub, "softmodes", "J4") == 2
        line = "J4: has no volume output (particles (particle)); give a 3-D refinement with --volume"
        assert capsys.readouterr().err == f"pickbias-cryosparc: {line}\n"
        assert (stub.jobs["J6"]["status"], stub.events[-1]["text"]) == ("failed", line)


def test_pick_and_bias(tmp_path: Path, login: None, capsys: pytest.CaptureFixture[str]) -> None:
    make_picking_scene(tmp_path / "CS-three")
    with serve(tmp_path / "CS-three") as stub:
        assert run(stub, "pick", "J6", "--templates", "J6", *PICK) == 0
        picks, table = stub.rows("J7", "particles"), starfile.read(stub.root / "J7/picks.star")
        np.testing.assert_allclose(picks["location/center_x_frac"] * SIDE, table["rlnCoordinateX"], atol=2e-3)
        np.testing.assert_allclose(picks["pick_stats/ncc_score"], table["rlnAutopickFigureOfMerit"], atol=1e-4)
        assert set(stub.rows("J6", "exposures").fields()) == set(stub.rows("J7", "micrographs").fields())
        assert run(stub, "bias", "J6", "--volume", "J6", "--picks", "J7", *PICK, "--nulls", "8") == 0
        scored = stub.rows("J8", "particles_scored")
        assert 0 < len(scored) <= len(picks)
        assert np.isin(scored["uid"], picks["uid"]).all()
        twin = stub.rows("J8", "noise_twin")
        assert len(twin) == int(twin["blob/idx"].max()) + 1
        assert capsys.readouterr().err == ""
        assert {stub.jobs[uid]["status"] for uid in ("J7", "J8")} == {"completed"}


def test_pickfree(tmp_path: Path, login: None, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--box", "9", "--rotations", "192", "--iterations", "2", "--snr", "1", "--no-whiten", "--no-null"]
    make_pickfree_scene(tmp_path / "CS-three")
    with serve(tmp_path / "CS-three") as stub:
        assert run(stub, "pickfree", "J6", "--volume", "J6", *words, "--no-ctf", "--threads", "1") == 0
        assert capsys.readouterr().err == ""
        volume = stub.rows("J7", "volume")
        assert [volume[f"{slot}/path"][0] for slot in ("map", "map_half_A", "map_half_B")] == [
            "J7/map.mrc",
            "J7/half1.mrc",
            "J7/half2.mrc",
        ]


def test_faults_are_one_line_and_show_no_password(
    stub: Stub4, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert outliers(stub, project="P9") == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["pickbias-cryosparc: CryoSPARC refused to find project P9: " + lines[0].split("P9: ")[1]]
    assert "Project P9 does not exist" in lines[0]
    stub.jobs["J2"]["output_results"][0]["num_items"] = [0]
    stub.jobs["J2"]["output_results"][1]["num_items"] = [0]
    assert outliers(stub) == 2
    line = "J2.particles: holds no particles (0 rows); choose another output or job"
    assert capsys.readouterr().err == f"pickbias-cryosparc: {line}\n"
    assert (stub.jobs["J3"]["status"], stub.events[-1]) == ("failed", {"text": line, "type": "error"})
    login = (LICENSE, "elsewhere", 39000, EMAIL, PASSWORD + "x", 300)
    monkeypatch.setattr(tools.CryoSPARC.__init__, "__defaults__", login)
    assert outliers(stub) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "open" not in err
    assert "cannot connect with cryosparc-tools 4.7" in err
    assert "Incorrect password" in err
    stub.__exit__(None)
    assert outliers(stub) == 2
    assert "CryoSPARC does not answer there (URL Error [Errno 111] Connection refused)" in capsys.readouterr().err
