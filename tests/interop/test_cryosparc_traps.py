"""The live door when things go wrong: each trap of the client, each fault of the user, against the stub server."""

from __future__ import annotations

import dataclasses
import functools
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

cryosparc = pytest.importorskip("cryosparc", reason="cryosparc-tools is not installed: pip install cryosparc-tools")
if not cryosparc.__version__.startswith("5."):
    pytest.skip("the stub server speaks CryoSPARC 5, cryosparc-tools is older", allow_module_level=True)

from interop.cryosparc_files import make_project  # noqa: E402
from interop.cryosparc_project import fault, outliers, save_login, serve  # noqa: E402
from interop.cryosparc_stub import EMAIL, PASSWORD, TOKEN, AnswerError, HangupError, Stub  # noqa: E402

import napari_pickbias.runs.outliers as room  # noqa: E402
from napari_pickbias.jobs.progress import Progress  # noqa: E402
from pickbias_cryosparc import live, live_external, live_outliers  # noqa: E402

pytestmark = pytest.mark.interop


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_project(tmp_path_factory.mktemp("CS-three"))


@pytest.fixture
def stub(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stub]:
    with serve(template, tmp_path, monkeypatch) as server:
        yield server


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the science: the first half of the particles is kept; the door, files and uploads stay."""

    def run_outliers(source, parameters, out, **options):  # type: ignore[no-untyped-def]
        yield Progress("judge", 0, 2, "half of them")
        yield Progress("judge", 2, 2)
        keep = np.arange(len(source)) < len(source) // 2
        files = {"kept": source.write_subset(keep, Path(out) / "kept.cs")[0]}
        results = {"kept": int(keep.sum()), "particles": len(keep), "rejected_by_reason": {"noise": int((~keep).sum())}}
        return room.OutlierRun(Path(out), files, {"results": results}, None)

    monkeypatch.setattr(room, "run_outliers", run_outliers)
    monkeypatch.setattr(live_external, "UPLOAD_PAUSE_SECONDS", 0.01)


def instead(monkeypatch: pytest.MonkeyPatch, run) -> None:  # type: ignore[no-untyped-def]
    """Let the job be another generator function."""
    monkeypatch.setattr(live_outliers, "JOB", dataclasses.replace(live_outliers.JOB, run=run))


# -- the client's traps -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_job_is_failed_not_completed(stub: Stub, capsys, number: signal.Signals) -> None:
    """``with job.run()`` of the client marks it completed. A second signal in the midst of that changes nothing."""
    stub.hooks["jobs.save_output"] = lambda: os.kill(os.getpid(), number)
    stub.hooks["jobs.mark_failed"] = lambda: os.kill(os.getpid(), number)
    before = signal.getsignal(number)
    line = fault(stub, capsys, code=130)
    assert line == "interrupted; finished pieces are kept: run again with --resume J3"
    assert stub.jobs["J3"]["status"] == "failed"
    assert signal.getsignal(number) is before


def test_a_long_traceback_does_not_leave_the_job_running(stub: Stub, capsys, monkeypatch) -> None:
    """The client puts it into a URL, where 64 KiB are too many."""

    def run(external, call, parameters):  # type: ignore[no-untyped-def]
        yield Progress("judge", 0, 1)
        raise RuntimeError("x" * 100_000)

    instead(monkeypatch, run)
    assert outliers(stub) == 1
    err = capsys.readouterr().err
    assert err.startswith("pickbias-cryosparc: a fault in pickbias itself (RuntimeError: xxx")
    assert err.count("\n") == 1
    assert stub.jobs["J3"]["status"] == "failed"
    short = stub.texts("error")[-1]
    assert len(short) == live_external.LONGEST_ERROR
    assert stub.texts("error")[0].startswith("Traceback (most recent call last)")
    assert max(len(target) for _, target, _ in stub.requests) < 4000


def test_an_upload_that_breaks_is_sent_again_whole(stub: Stub, capsys) -> None:
    """The client sends its second attempt without a body."""
    bodies = []

    def once() -> None:
        bodies.append(len(stub.requests[-1][2]))
        if len(bodies) == 1:
            raise HangupError

    stub.hooks["jobs.save_output"] = once
    assert outliers(stub) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "sending particles_kept failed" in out
    assert bodies[1] == 0  # the trap is real
    assert bodies[2] == bodies[0] > 0
    assert len(stub.output("J3", "particles_kept")) == 112


def test_plots_have_short_names_without_slashes(stub: Stub, monkeypatch) -> None:
    """The name becomes a part of the URL and a file name."""

    def run(external, call, parameters):  # type: ignore[no-untyped-def]
        yield Progress("judge", 0, 1)
        external.start()
        external.plot("a/b\\c?&#%\n" + "Å" * 300, b"\x89PNG")
        external.plot("//", b"\x89PNG")
        return []

    instead(monkeypatch, run)
    assert outliers(stub) == 0
    names = [name for name, _ in stub.assets]
    assert names[1] == "plot.png"
    assert names[0].startswith("a b c %ÅÅ") or names[0].startswith("a b c % ÅÅ")
    assert len(names[0]) <= 84


def test_host_and_port_of_the_environment_do_not_clash_with_the_url(stub: Stub, monkeypatch) -> None:
    """As on a master with config.sh sourced; the client reads them when it is imported."""
    from cryosparc.tools import CryoSPARC

    defaults = dict(CryoSPARC.__init__.__kwdefaults__, host="elsewhere", base_port="39000")
    monkeypatch.setattr(CryoSPARC.__init__, "__kwdefaults__", defaults)
    with pytest.raises(TypeError, match="Cannot specify host or base_port"):
        CryoSPARC(stub.url)  # the trap is real
    assert outliers(stub, "--quiet") == 0


def test_an_address_without_scheme_or_with_a_slash(stub: Stub) -> None:
    for url in (stub.url.removeprefix("http://"), stub.url + "/"):
        assert live.main(["outliers", "--url", url, "3", "w1", "j2", "--quiet"]) == 0


def test_another_version_is_said_and_not_an_end(stub: Stub, capsys) -> None:
    stub.version = "v5.7.1+210215"
    assert outliers(stub, "--quiet") == 0
    out, err = capsys.readouterr()
    assert out == ""
    wanted = f"CryoSPARC is 5.7 and cryosparc-tools is {cryosparc.__version__}: pip install 'cryosparc-tools~=5.7.0'"
    assert err == f"pickbias-cryosparc: warning: {wanted}\n"
    assert stub.texts("warning") == [wanted]
    stub.hooks["jobs.connect"] = functools.partial(_raise, AnswerError(422, "Unknown slot"))
    assert outliers(stub, "--quiet") == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.endswith(f"CryoSPARC refused to connect J2.particles: Unknown slot ({wanted})")
    assert stub.jobs["J4"]["status"] == "failed"


def _raise(error: Exception) -> None:
    raise error


def test_nobody_there(stub: Stub, capsys) -> None:
    stub.gone()
    line = fault(stub, capsys)
    assert line.startswith(f"--url {stub.url}: CryoSPARC does not answer there ([Errno 111] Connection refused)")
    assert set(stub.jobs) == {"J2"}


def test_a_server_of_another_age(stub: Stub, capsys) -> None:
    """CryoSPARC 4 has no description of its functions."""
    stub._document = b"<html>"
    line = fault(stub, capsys)
    assert line.startswith(
        f"--url {stub.url}: cannot connect with cryosparc-tools {cryosparc.__version__} (Error reading"
    )
    assert line.endswith("else install the release of the server: pip install 'cryosparc-tools~=<its version>.0'")


def test_what_a_completed_job_refuses_is_one_line(stub: Stub, capsys, monkeypatch) -> None:
    def run(external, call, parameters):  # type: ignore[no-untyped-def]
        yield Progress("judge", 0, 1)
        stub.jobs[external.uid]["status"] = "completed"
        external.add_output("particle", "late", ["blob"], "Late")
        return []

    instead(monkeypatch, run)
    assert outliers(stub) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert "CryoSPARC refused to add the output late: Job J3 is completed" in line
    assert line.endswith("J3 could not be marked as failed: mark it in CryoSPARC")


def test_a_success_of_unknown_status_is_a_success(stub: Stub) -> None:
    """The client raises where an answer's status is not in its document, even on 202."""
    stub.hooks["jobs.mark_completed"] = lambda: (
        stub.jobs["J3"].update(status="completed"),
        _raise(AnswerError(202, "Accepted")),
    )[0]
    assert outliers(stub, "--quiet") == 0


@pytest.mark.parametrize(
    ("answer", "line"),
    [
        (AnswerError(502, "<html>Bad gateway</html>", html=True), "CryoSPARC does not answer"),
        (AnswerError(413, "<html>Too large</html>", html=True), "it answered with HTTP status 413"),
        (AnswerError(422, "missing the following required fields"), "save particles_kept: missing the following"),
    ],
)
def test_error_answers_with_and_without_json(stub: Stub, capsys, answer: AnswerError, line: str) -> None:
    stub.hooks["jobs.save_output"] = functools.partial(_raise, answer)
    assert line in fault(stub, capsys)


def test_a_refused_download(stub: Stub, capsys) -> None:
    """Where the client expects a stream, it cannot read the text of an error."""
    stub.hooks["jobs.load_input"] = functools.partial(_raise, AnswerError(422, "no such slot"))
    line = fault(stub, capsys)
    assert (
        line
        == "CryoSPARC refused to load particles: it answered with an error whose text cryosparc-tools does not read"
    )


def test_a_log_that_fails_costs_no_work(stub: Stub, capsys) -> None:
    for name in ("jobs.add_event_log", "jobs.set_tile_image"):
        stub.hooks[name] = functools.partial(_raise, AnswerError(422, "no"))
    assert outliers(stub) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.count("refused to write to the event log: no") == 1


# -- logins -----------------------------------------------------------------------------------------------------------


def test_a_wrong_or_missing_login(stub: Stub, tmp_path: Path, capsys) -> None:
    wanted = f"--url {stub.url}: the login is missing, wrong or has expired; log in once with: python -m "
    (tmp_path / "config/cryosparc-tools/auth.json").unlink()
    assert fault(stub, capsys).startswith(wanted + "cryosparc.tools login --url " + stub.url)
    save_login(tmp_path, stub.url, token="stolen")
    line = fault(stub, capsys)
    assert line.startswith(wanted)
    assert "stolen" not in line
    assert set(stub.jobs) == {"J2"}


def test_the_environments_login_and_no_trace_of_it(stub: Stub, tmp_path: Path, capsys, monkeypatch) -> None:
    from cryosparc.tools import CryoSPARC

    (tmp_path / "config/cryosparc-tools/auth.json").unlink()
    defaults = dict(CryoSPARC.__init__.__kwdefaults__, email=EMAIL, password=PASSWORD)
    monkeypatch.setattr(CryoSPARC.__init__, "__kwdefaults__", defaults)
    monkeypatch.setenv("CRYOSPARC_PASSWORD", PASSWORD)

    def run(external, call, parameters):  # type: ignore[no-untyped-def]
        yield Progress("judge", 0, 1, f"said by mistake: {PASSWORD}, {TOKEN}")
        raise RuntimeError(f"{PASSWORD} {TOKEN}")

    instead(monkeypatch, run)
    assert outliers(stub) == 1
    out, err = capsys.readouterr()
    said = out + err + "".join(e["text"] for e in stub.events)
    assert "said by mistake: ***, ***" in said
    assert "RuntimeError: *** ***" in said
    for secret in (PASSWORD, TOKEN):
        assert secret not in said
        assert not [p for p in stub.root.rglob("*") if p.is_file() and secret.encode() in p.read_bytes()]


# -- what the user may get wrong --------------------------------------------------------------------------------------


def change(stub: Stub, file: str = "J2/extracted_particles.cs", **fields: object) -> None:
    """Change fields (``blob_path`` for ``blob/path``) of a job's file; None removes one."""
    rows = np.load(stub.root / file)
    for name, value in fields.items():
        name = name.replace("_", "/", 1)
        if value is None:
            keep = [n for n in rows.dtype.names if n != name]
            rows = np.array(rows[keep], [(n, rows.dtype[n]) for n in keep])
        else:
            columns = {n: np.full(len(rows), value) if n == name else rows[n] for n in rows.dtype.names}
            rows = np.empty(len(rows), [(n, v.dtype, v.shape[1:]) for n, v in columns.items()])
            for n, v in columns.items():
                rows[n] = v
    with (stub.root / file).open("wb") as stream:
        np.save(stream, rows)


def outputs(stub: Stub) -> dict:  # type: ignore[type-arg]
    found: dict = stub.jobs["J2"]["spec"]["outputs"]  # type: ignore[type-arg]
    return found


def rename_blob(stub: Stub) -> None:
    outputs(stub)["particles"]["results"][0] |= {"name": "alignments2D", "dtype": "alignments2D"}


FAULTS = {
    "no job": (lambda stub: None, "J9", [], "CryoSPARC refused to find job J9 in P3: Job J9 does not exist in P3"),
    "wrong job": (
        lambda stub: outputs(stub).pop("particles"),
        "J2",
        [],
        "J2: has no particle output (micrographs (exposure)); give an extraction or import job",
    ),
    "no outputs": (lambda stub: outputs(stub).clear(), "J2", [], "J2: has no particle output (it has no outputs)"),
    "no such output": (
        lambda stub: None,
        "J2",
        ["--output", "p"],
        "--output p: J2 has no such output; it has particles (particle), micrographs (exposure)",
    ),
    "wrong output": (
        lambda stub: None,
        "J2",
        ["--output", "micrographs"],
        "--output micrographs: is of type exposure, not of particles; J2 has particles (particle)",
    ),
    "several": (
        lambda stub: outputs(stub).update(
            a=outputs(stub).pop("particles"), b=dict(outputs(stub)["micrographs"], type="particle")
        ),
        "J2",
        [],
        "J2: has 2 particle outputs; choose one with --output: a, b",
    ),
    "not run yet": (
        lambda stub: outputs(stub)["particles"].update(results=[]),
        "J2",
        [],
        "J2.particles: has no results yet; wait until J2 has completed",
    ),
    "no images": (
        rename_blob,
        "J2",
        [],
        "J2.particles: lacks the slot 'blob' (the images); it has alignments2D, location: give the output of an",
    ),
    "no rows": (
        lambda stub: [r.update(num_items=[0]) for r in outputs(stub)["particles"]["results"]],
        "J2",
        [],
        "J2.particles: holds no particles (0 rows); choose another output or job",
    ),
    "field that is read": (
        lambda stub: change(stub, blob_psize_A=None),
        "J2",
        [],
        "J2.particles: has no field 'blob/psize_A', which is needed; give the output of an extraction or import job",
    ),
    "field that is wanted back": (
        lambda stub: change(stub, blob_import_sig=None),
        "J2",
        [],
        "J2.particles: has no field 'blob/import_sig', which is needed",
    ),
    "field of another type": (
        lambda stub: change(stub, blob_sign=np.int64(1)),
        "J2",
        [],
        "J2.particles: has 'blob/sign' as int64, not as f4, which is needed",
    ),
    "path out of the project": (
        lambda stub: change(stub, blob_path=b"../../etc/passwd"),
        "J2",
        [],
        "'blob/path' of row 1 '../../etc/passwd' leads out of the project folder and is not followed",
    ),
    "absolute path": (
        lambda stub: change(stub, blob_path=b"/etc/passwd"),
        "J2",
        [],
        "'blob/path' of row 1 '/etc/passwd' leads out of the project folder and is not followed",
    ),
}


@pytest.mark.parametrize("case", FAULTS)
def test_each_fault_is_one_line_and_fails_the_job(stub: Stub, capsys, monkeypatch, case: str) -> None:
    """Nothing is uploaded, for nothing was computed; but for the paths, which the reader refuses."""
    break_it, source, more, wanted = FAULTS[case]
    break_it(stub)
    if "path" in case:

        def read(source, parameters, out, **options):  # type: ignore[no-untyped-def]
            source.read()
            yield Progress("never", 0, 1)

        monkeypatch.setattr(room, "run_outliers", read)
    assert wanted in fault(stub, capsys, *more, source=source)
    assert stub.jobs["J3"]["status"] == "failed"
    assert not any(name in {"jobs.save_output", "assets.upload"} for name, _, _ in stub.requests)


def test_a_job_folder_outside_the_project_or_not_here(stub: Stub, tmp_path: Path, capsys) -> None:
    (tmp_path / "outside").mkdir()
    stub.hooks["jobs.get_directory"] = lambda: stub.jobs["J3"].update(job_dir="../outside")
    assert "outside: lies outside the project's folder" in fault(stub, capsys)
    assert not list((tmp_path / "outside").iterdir())
    stub.hooks["jobs.get_directory"] = lambda: shutil.rmtree(stub.root / "J4", ignore_errors=True)
    assert "the folder of J4 is not on this machine; run where CryoSPARC's project folder" in fault(stub, capsys)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["P9", "W1", "J2"], "CryoSPARC refused to find project P9: Project P9 does not exist"),
        (["P3", "W9", "J2"], "CryoSPARC refused to create an external job in P3 W9: Workspace W9 does not exist"),
    ],
)
def test_no_such_project_or_workspace(stub: Stub, capsys, words: list[str], line: str) -> None:
    assert live.main(["outliers", "--url", stub.url, *words]) == 2
    assert capsys.readouterr().err == f"pickbias-cryosparc: {line}\n"
    assert set(stub.jobs) == {"J2"}
