"""Outlier removal as an external job: the real cryosparc-tools client against a stub of the server on a real socket."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

cryosparc = pytest.importorskip("cryosparc", reason="cryosparc-tools is not installed: pip install cryosparc-tools")
if not cryosparc.__version__.startswith("5."):
    pytest.skip("the stub server speaks CryoSPARC 5, cryosparc-tools is older", allow_module_level=True)

from interop.cryosparc_files import make_project  # noqa: E402
from interop.cryosparc_project import fault, outliers, serve  # noqa: E402
from interop.cryosparc_stub import TOKEN, HangupError, Stub  # noqa: E402

import napari_pickbias.report.outliers as figures  # noqa: E402
import napari_pickbias.runs.outliers as room  # noqa: E402
from napari_pickbias.report.outlier_figures import verdict_panel  # noqa: E402
from pickbias_cryosparc import live_external  # noqa: E402

pytestmark = pytest.mark.interop
PNG = b"\x89PNG\r\n"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_project(tmp_path_factory.mktemp("CS-three"))


@pytest.fixture
def stub(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stub]:
    with serve(template, tmp_path, monkeypatch) as server:
        yield server


# -- the whole way ----------------------------------------------------------------------------------------------------


def test_the_whole_way(stub: Stub, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert outliers(stub, "--title", "Clean particles") == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.splitlines()[0] == "P3 W1 J3: Clean particles"
    job = stub.jobs["J3"]
    assert (job["status"], job["title"], job["spec"]["type"]) == ("completed", "Clean particles", "snowflake")

    # The outputs connect to the next job: rows by uid, all slots, inherited ones included, nothing changed.
    source, kept, rejected = (
        stub.output("J2", "particles"),
        *(stub.output("J3", f"particles_{name}") for name in ("kept", "rejected")),
    )
    assert set(kept.fields()) == set(source.fields())
    assert len(kept) + len(rejected) == len(source)
    assert sorted([*kept["uid"], *rejected["uid"]]) == sorted(source["uid"])
    assert 130 <= len(kept) <= 170  # 150 of the 225 are particles; 148 are kept
    for part in (kept, rejected):
        rows = np.isin(source["uid"], part["uid"])
        for name in source.fields():
            np.testing.assert_array_equal(part[name], source[name][rows], err_msg=name)
        own = {r["name"]: r for r in job["spec"]["outputs"]["particles_kept"]["results"]}
    assert own["location"]["passthrough"]
    assert not own["blob"]["passthrough"]
    uploaded = np.load(stub.root / "J3/J3_particles_kept.cs").dtype.names
    assert {name.split("/")[0] for name in uploaded} == {"uid", "blob"}  # only the slot that is declared

    # The run's own files are those of the command line, in the job's folder.
    folder = stub.root / "J3"
    assert {"kept.cs", "kept.csg", "rejected.cs", "scores.csv", "report.html", "report.pdf", "summary.json"} <= {
        p.name for p in folder.iterdir()
    }
    assert np.array_equal(np.load(folder / "kept.cs")["uid"], kept["uid"])
    assert json.loads((folder / "summary.json").read_text())["results"]["kept"] == len(kept)

    # The event log: lines, one bar that moved to its end, and the report's figures.
    texts = stub.texts()
    assert any(t.startswith(f"kept {len(kept)} of {len(source)} particles") for t in texts)
    assert any(re.search(r"\[#{10}\] 100%", t) for t in texts)
    assert sum("%  " in t and "[" in t for t in texts) == 1
    assert any(name == "jobs.update_event_log" for name, _, _ in stub.requests)
    plots = [e for e in stub.events if e["type"] == "image"]
    assert len(plots) >= 4
    assert all(data.startswith(PNG) for _, data in stub.assets)
    assert stub.tile["filetype"] == "png"
    assert job["spec"]["outputs"]["particles_kept"]["image"]

    # No secret in what was said, logged or written.
    assert TOKEN not in out + err + "".join(e["text"] for e in stub.events)
    assert not [p for p in folder.rglob("*") if p.is_file() and TOKEN.encode() in p.read_bytes()]


def test_gone_in_the_middle_and_resumed(
    stub: Stub, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The server goes while the job computes: the run is finished all the same, and sent on the second call."""
    monkeypatch.setattr(live_external, "UPLOAD_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(room, "write_outlier_report", lambda *arguments: {})  # the other test's matter
    monkeypatch.setattr(figures, "outlier_panels", lambda result: [verdict_panel(result)])

    def leave() -> None:
        stub.gone()
        raise HangupError

    stub.hooks["assets.upload"] = leave
    line = fault_when_gone(stub, capsys)
    assert "CryoSPARC does not answer" in line
    assert "save particles_kept" in line
    assert "run again with --resume J3" in line
    assert line.endswith("J3 could not be marked as failed: mark it in CryoSPARC")
    assert (stub.root / "J3/kept.cs").exists()
    before = (stub.root / "J3/scores.csv").stat().st_mtime_ns
    stub.hooks.clear()
    with stub:
        assert outliers(stub, "--resume", "J3") == 0
        assert stub.jobs["J4"]["status"] == "completed"
        np.testing.assert_array_equal(
            stub.output("J4", "particles_kept")["uid"], np.load(stub.root / "J3/kept.cs")["uid"]
        )
        assert (stub.root / "J3/scores.csv").stat().st_mtime_ns == before  # nothing was computed again
        assert not list((stub.root / "J4").glob("*.csv"))
        capsys.readouterr()
        assert "was begun with radius = 36.0 (now 30.0)" in fault(stub, capsys, "--resume", "J3", "--radius", "30")
        assert "--resume J2: there is no unfinished run" in fault(stub, capsys, "--resume", "J2")


def fault_when_gone(stub: Stub, capsys: pytest.CaptureFixture[str]) -> str:
    assert outliers(stub) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    return lines[0]
