"""The live door with the 4.7 client, which has no pictures, other documents, and shows passwords in its faults.

Runs where cryosparc-tools 4.x is installed in the place of 5.x: the two cannot be there together.
"""

from __future__ import annotations

from collections.abc import Iterator
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
from interop.cryosparc_files import ARGUMENTS, make_project  # noqa: E402
from interop.cryosparc_stub4 import EMAIL, LICENSE, PASSWORD, Stub4  # noqa: E402

import napari_pickbias.runs.outliers as room  # noqa: E402
from pickbias_cryosparc import live  # noqa: E402

pytestmark = pytest.mark.interop


@pytest.fixture
def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stub4]:
    """The server, and the login that the client read from the environment when it was imported."""
    root = make_project(tmp_path / "CS-three")
    login = (LICENSE, "elsewhere", 39000, EMAIL, PASSWORD, 300)
    monkeypatch.setattr(tools.CryoSPARC.__init__, "__defaults__", login)
    monkeypatch.setenv("CRYOSPARC_PASSWORD", PASSWORD)
    monkeypatch.setattr("cryosparc.command.RETRY_INTERVAL", 0)
    monkeypatch.setattr(room, "write_outlier_report", lambda *arguments: {})  # the other client's test has it
    with Stub4(root) as server:
        n = len(np.load(root / "J2/extracted_particles.cs"))
        files = {"blob": "J2/extracted_particles.cs", "location": "J2/J2_passthrough_particles.cs"}
        results = [
            {"group_name": "particles", "name": s, "type": f"particle.{s}", "metafiles": [f], "num_items": [n]}
            for s, f in files.items()
        ]
        server.add_job("J2", [{"name": "particles", "type": "particle"}], results, "extract")
        yield server


def outliers(stub: Stub4, *more: str, project: str = "P3") -> int:
    url = f"http://127.0.0.1:{stub.base_port}"
    return live.main(["outliers", "--url", url, project, "W1", "J2", *ARGUMENTS, *more])


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
