"""`pickbias outliers` from end to end, in its own process, as a user runs it."""

from __future__ import annotations

import csv
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from support import blob_stack, write_project, write_stack

ARGUMENTS = ["--radius", "36", "--working-box", "21", "--threads", "2"]


def pickbias(*arguments: str, cwd: Path, **more: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # type: ignore[call-overload]
        [sys.executable, "-m", "napari_pickbias", *arguments], cwd=cwd, capture_output=True, text=True, **more
    )


def outliers(
    particles: str | Path, out: str | Path, *more: str, cwd: Path, **options: object
) -> subprocess.CompletedProcess[str]:
    return pickbias("outliers", "--particles", str(particles), "--out", str(out), *ARGUMENTS, *more, cwd=cwd, **options)


def one_line(run: subprocess.CompletedProcess[str]) -> str:
    """Return the one line of a refused run."""
    assert run.returncode == 2, run.stderr
    lines = [line for line in run.stderr.splitlines() if line.startswith("pickbias: ")]
    assert run.stderr.splitlines()[-1:] == lines
    assert len(lines) == 1
    assert "Traceback" not in run.stderr
    return lines[0].removeprefix("pickbias: ")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    write_project(folder, blob_stack(240, 40)[0])
    return folder


@pytest.fixture(scope="module")
def finished(project: Path) -> Path:
    run = outliers("Extract/job002/particles.star", "out", cwd=project)
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines()[-1] == "report: out/report.html"
    return project / "out"


def rows_of(star: Path) -> list[str]:
    return [line for line in star.read_text().splitlines() if "@" in line]


def test_the_promised_files_are_there_and_agree(project: Path, finished: Path) -> None:
    names = {p.name for p in finished.iterdir()} - {".pickbias"}
    assert names == {
        "kept.star", "rejected.star", "scores.csv", "summary.json", "report.html", "report.pdf", "pickbias.log",
    }  # fmt: skip
    source = rows_of(project / "Extract/job002/particles.star")
    kept, rejected = rows_of(finished / "kept.star"), rows_of(finished / "rejected.star")
    results = json.loads((finished / "summary.json").read_text())["results"]
    assert (len(kept), len(rejected)) == (results["kept"], results["rejected"])
    assert len(source) == results["particles"]
    assert sum(results["rejected_by_reason"].values()) == results["rejected"]
    with (finished / "scores.csv").open() as stream:
        table = list(csv.DictReader(stream))
    keep = [row["keep"] == "True" for row in table]
    # Kept rows are the rows read, with our columns behind them, in the order read.
    assert all(new.startswith(old) for new, old in zip(kept, np.array(source)[keep], strict=True))
    assert all(new.startswith(old) for new, old in zip(rejected, np.array(source)[~np.array(keep)], strict=True))


def test_the_summary_has_the_names_that_scripts_rely_on(finished: Path) -> None:
    summary = json.loads((finished / "summary.json").read_text())
    assert set(summary) == {"tool", "version", "parameters", "inputs", "results", "seconds", "peak_memory_mb"}
    assert {
        "particles", "kept", "rejected", "rejected_by_reason", "false_keep_rate", "expected_fdr", "e0", "warnings",
        "images_per_second",
    } <= set(summary["results"])  # fmt: skip
    assert set(summary["results"]["rejected_by_reason"]) == {"noise", "partial", "multiple"}
    assert [Path(entry["path"]).name for entry in summary["inputs"]] == ["particles.star", "mic000.mrcs", "mic001.mrcs"]
    assert summary["parameters"]["radius"] == 36
    assert summary["peak_memory_mb"] > 50


def test_inputs_are_never_written_to(project: Path, finished: Path) -> None:
    for entry in json.loads((finished / "summary.json").read_text())["inputs"]:
        path = project / entry["path"]
        assert path.stat().st_size == entry["size"]


def test_a_bare_stack_gives_stacks(tmp_path: Path) -> None:
    images, _ = blob_stack(240, 40)
    write_stack(tmp_path / "particles.mrcs", images)
    run = outliers("particles.mrcs", "out", cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    assert {"kept.mrcs", "rejected.mrcs"} <= {p.name for p in (tmp_path / "out").iterdir()}


def test_the_reference_method_runs_with_the_papers_parameters(project: Path, tmp_path: Path) -> None:
    more = ["--method", "reference", "--working-box", "33", "--kernel-px", "9", "--points", "10", "--eps-px", "5"]
    run = outliers(project / "Extract/job002/particles.star", tmp_path / "out", *more, cwd=project)
    assert run.returncode == 0, run.stderr
    results = json.loads((tmp_path / "out/summary.json").read_text())["results"]
    assert results["false_keep_rate"] is None
    assert results["expected_fdr"] is None
    assert "pickbiasScore" not in (tmp_path / "out/kept.star").read_text()


def test_an_existing_directory_needs_a_flag_and_overwrite_replaces(project: Path, finished: Path) -> None:
    star = "Extract/job002/particles.star"
    assert "--out out: exists already and is not empty" in one_line(outliers(star, "out", cwd=project))
    before = (finished / "kept.star").read_bytes()
    run = outliers(star, "out", "--resume", cwd=project)
    assert run.returncode == 0
    assert "finished already; nothing to do" in run.stdout
    run = outliers(star, "out", "--overwrite", "--seed", "0", cwd=project)
    assert run.returncode == 0, run.stderr
    assert (finished / "kept.star").read_bytes() == before


def slow_environment() -> dict[str, str]:
    return {**os.environ, "PYTHONUNBUFFERED": "1"}


@pytest.fixture(scope="module")
def large_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Many chunks, so that a run can be stopped in the middle."""
    folder = tmp_path_factory.mktemp("large")
    images, _ = blob_stack(240, 40)
    many = np.concatenate([images] * 45)
    write_project(folder, many)
    return folder


def stop_in_the_middle(project: Path, out: Path, signal_number: int) -> int:
    command = [sys.executable, "-m", "napari_pickbias", "outliers", "--particles", "Extract/job002/particles.star"]
    process = subprocess.Popen(
        [*command, "--out", str(out), *ARGUMENTS[:-1], "1"], cwd=project, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 240
    while not list((out / ".pickbias").glob("scores_*.npz")) and time.monotonic() < deadline:
        assert process.poll() is None, process.stderr.read()  # type: ignore[union-attr]
        time.sleep(0.01)
    process.send_signal(signal_number)
    _, errors = process.communicate(timeout=240)
    if signal_number != signal.SIGKILL:
        assert errors.splitlines()[-1] == (
            "pickbias: interrupted; finished pieces are kept: run again with --resume to go on"
        )
        assert "Traceback" not in errors
    return process.returncode


@pytest.fixture(scope="module")
def unbroken(large_project: Path) -> Path:
    run = outliers("Extract/job002/particles.star", "unbroken", cwd=large_project)
    assert run.returncode == 0, run.stderr
    return large_project / "unbroken"


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 130), (signal.SIGKILL, -signal.SIGKILL)],
    ids=["Ctrl-C", "SIGTERM", "kill -9"],
)
def test_a_stopped_run_resumes_with_the_same_result(
    large_project: Path, unbroken: Path, tmp_path: Path, number: int, code: int
) -> None:
    out = tmp_path / "out"
    assert stop_in_the_middle(large_project, out, number) == code
    left = {p.name for p in out.iterdir()}
    assert left <= {".pickbias", "pickbias.log"}, "a stopped run leaves no results, not even partial ones"
    run = outliers("Extract/job002/particles.star", out, "--resume", cwd=large_project)
    assert run.returncode == 0, run.stderr
    for name in ("kept.star", "rejected.star", "scores.csv"):
        assert (out / name).read_bytes() == (unbroken / name).read_bytes()


def test_a_file_size_limit_ends_in_one_line_and_resume_finishes(
    large_project: Path, unbroken: Path, tmp_path: Path
) -> None:
    """A limit on file size fails a write in the middle, as a full disk does."""
    out = tmp_path / "out"
    limit = 400_000

    def small_files() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    run = outliers("Extract/job002/particles.star", out, cwd=large_project, preexec_fn=small_files)
    assert "cannot be written: the file grew beyond the size limit" in one_line(run)
    assert not [p.name for p in out.rglob("*") if p.name.endswith(".part")]
    assert not (out / "kept.star").exists()
    run = outliers("Extract/job002/particles.star", out, "--resume", cwd=large_project)
    assert run.returncode == 0, run.stderr
    assert (out / "kept.star").read_bytes() == (unbroken / "kept.star").read_bytes()
