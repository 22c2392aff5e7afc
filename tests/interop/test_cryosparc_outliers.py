"""Outlier removal as an external job: the real cryosparc-tools client against a stub of the server on a real socket."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from support import blob_stack, write_stack

cryosparc = pytest.importorskip("cryosparc", reason="cryosparc-tools is not installed: pip install cryosparc-tools")
if not cryosparc.__version__.startswith("5."):
    pytest.skip("the stub server speaks CryoSPARC 5, cryosparc-tools is older", allow_module_level=True)

from cryosparc.auth import get_default_auth_config_path  # noqa: E402
from interop.cryosparc_stub import EMAIL, TOKEN, HangupError, Stub  # noqa: E402

import napari_pickbias.report.outliers as figures  # noqa: E402
import napari_pickbias.runs.outliers as room  # noqa: E402
from napari_pickbias.jobs.progress import Progress  # noqa: E402
from napari_pickbias.report.outlier_figures import verdict_panel  # noqa: E402
from pickbias_cryosparc import live, live_client  # noqa: E402

pytestmark = pytest.mark.interop
ARGUMENTS = ["--radius", "36", "--working-box", "21", "--threads", "1", "--fit-images", "200"]
PNG = b"\x89PNG\r\n"


def table(columns: dict[str, np.ndarray]) -> np.ndarray:
    rows = np.empty(len(columns["uid"]), [(name, v.dtype, v.shape[1:]) for name, v in columns.items()])
    for name, values in columns.items():
        rows[name] = values
    return rows


def result(name: str, file: str, count: int, passthrough: bool = False) -> dict[str, object]:
    more = {"versions": [0], "metafiles": [file], "num_items": [count], "passthrough": passthrough}
    return {"name": name, "dtype": name, **more}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with one extraction job, J2: the main file has images and CTF, the passthrough file locations."""
    root = tmp_path_factory.mktemp("CS-three")
    images = blob_stack(150, 25)[0]
    n, stack = len(images), "J2/extract/000000000000000000007_é_particles.mrc"
    write_stack(root / stack, images)
    uid = np.random.default_rng(1).integers(1 << 63, 1 << 64, n, np.uint64)
    f4 = np.float32
    main = table(
        {
            "uid": uid,
            "blob/path": np.array([stack.encode()] * n),
            "blob/idx": np.arange(n, dtype="u4"),
            "blob/shape": np.full((n, 2), images.shape[1], "u4"),
            "blob/psize_A": np.full(n, 4, f4),
            "blob/sign": np.ones(n, f4),
            "blob/import_sig": np.arange(n, dtype="u8"),
        }
    )
    passthrough = table(
        {
            "uid": uid,
            "location/micrograph_uid": np.full(n, 7, "u8"),
            "location/exp_group_id": np.full(n, 3, "u4"),
            "location/micrograph_path": np.array(["J1/mics/é.mrc".encode()] * n),
            "location/micrograph_shape": np.tile(np.array([4000, 4000], "u4"), (n, 1)),
            "location/center_x_frac": np.linspace(0.1, 0.9, n).astype(f4),
            "location/center_y_frac": np.linspace(0.9, 0.1, n).astype(f4),
        }
    )[::-1]
    for name, rows in (("extracted_particles.cs", main), ("J2_passthrough_particles.cs", passthrough)):
        with (root / "J2" / name).open("wb") as stream:
            np.save(stream, rows)
    return root


@pytest.fixture
def stub(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stub]:
    """The server, with a saved login and nothing else in the environment."""
    root = tmp_path / "CS-three"
    shutil.copytree(template, root)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    get_default_auth_config_path.cache_clear()
    with Stub(root) as server:
        n = len(np.load(root / "J2/extracted_particles.cs"))
        file = "J2/extracted_particles.cs"
        results = [result("blob", file, n), result("location", "J2/J2_passthrough_particles.cs", n, True)]
        server.add_job(
            "J2",
            {
                "particles": {"type": "particle", "title": "Extracted", "results": results},
                "micrographs": {"type": "exposure", "title": "Micrographs", "results": []},
            },
        )
        save_login(tmp_path, server.url)
        yield server
    get_default_auth_config_path.cache_clear()


def save_login(folder: Path, url: str) -> None:
    sessions = {url: {EMAIL: {"token": {"access_token": TOKEN, "token_type": "bearer"}, "expires": "2999-01-01T00Z"}}}
    path = folder / "config/cryosparc-tools/auth.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(sessions).replace("T00Z", "T00:00:00Z"))


def outliers(stub: Stub, *more: str, source: str = "J2") -> int:
    return live.main(["outliers", "--url", stub.url, "P3", "W1", source, *ARGUMENTS, *more])


def fault(stub: Stub, capsys: pytest.CaptureFixture[str], *more: str, source: str = "J2", code: int = 2) -> str:
    """Return the one line of a run that must fail; when there is an external job, it failed with the same line."""
    capsys.readouterr()
    before = set(stub.jobs)
    assert outliers(stub, *more, source=source) == code
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    line = lines[0].removeprefix("pickbias-cryosparc: ")
    for uid in set(stub.jobs) - before:
        assert stub.jobs[uid]["status"] == "failed"
        assert stub.texts("error")[-1] == line
    return line


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Replace the science: the first half of the particles is kept; the door, files and uploads stay."""

    def run_outliers(source, parameters, out, **options):  # type: ignore[no-untyped-def]
        yield Progress("judge", 0, 2, "half of them")
        yield Progress("judge", 2, 2)
        keep = np.arange(len(source)) < len(source) // 2
        files = {"kept": source.write_subset(keep, Path(out) / "kept.cs")[0]}
        results = {"kept": int(keep.sum()), "particles": len(keep), "rejected_by_reason": {"noise": int((~keep).sum())}}
        return room.OutlierRun(Path(out), files, {"results": results}, None)

    monkeypatch.setattr(room, "run_outliers", run_outliers)
    return monkeypatch


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
    monkeypatch.setattr(live_client, "UPLOAD_PAUSE_SECONDS", 0.01)
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
    before = (stub.root / "J3/scores.csv").stat()
    stub.hooks.clear()
    with stub:
        assert outliers(stub, "--resume", "J3") == 0
        assert stub.jobs["J4"]["status"] == "completed"
        np.testing.assert_array_equal(
            stub.output("J4", "particles_kept")["uid"], np.load(stub.root / "J3/kept.cs")["uid"]
        )
        assert (stub.root / "J3/scores.csv").stat() == before  # nothing was computed again
        assert not list((stub.root / "J4").glob("*.csv"))
        capsys.readouterr()
        assert "was begun with radius = 36.0 (now 30.0)" in fault(stub, capsys, "--resume", "J3", "--radius", "30")
        assert "--resume J2: there is no unfinished run" in fault(stub, capsys, "--resume", "J2")


def fault_when_gone(stub: Stub, capsys: pytest.CaptureFixture[str]) -> str:
    assert outliers(stub) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    return lines[0]
