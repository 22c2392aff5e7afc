"""The frame of External jobs: one exit file on every way out."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from napari_pickbias.errors import InputError
from napari_pickbias.jobs.progress import Progress
from pickbias_relion.external import Job, Outcome, Program, progress_lines, run_external
from pickbias_relion.external_directory import Ending, locked
from pickbias_relion.nodes import Node

DIRECTORY = "External/job002"
WORDS = ["--o", f"{DIRECTORY}/", "--in_parts", "particles.star", "--j", "1", "--pipeline_control", f"{DIRECTORY}/"]


class Parameters(BaseModel):
    seconds: float = 0.0


Run = Callable[[Any, Any], Generator[Progress, None, Outcome]]


def program(run: Run, outputs: tuple[str, ...] = ("kept.star", "logfile.pdf")) -> Program:
    return Program("pickbias_relion_test", lambda: Job(Parameters, run), ("in_parts",), outputs)


def good(call: Any, parameters: Any) -> Generator[Progress, None, Outcome]:
    yield Progress("judge", 0, 10, "began")
    (call.directory / "kept.star").write_text("kept")
    return Outcome([Node(call.directory / "kept.star", "particles")], ["kept 1 of 1", "report: somewhere"])


def raising(error: BaseException) -> Run:
    def run(call: Any, parameters: Any) -> Generator[Progress, None, Outcome]:
        yield Progress("judge", 0, 10)
        raise error

    return run


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    directory = tmp_path / DIRECTORY
    directory.mkdir(parents=True)
    (directory / "job.star").write_text("\n# version 30001\n\ndata_job\n\n_rlnJobType    99\n")
    return tmp_path


def exit_files(project: Path) -> list[str]:
    return sorted(path.name for path in (project / DIRECTORY).glob("RELION_JOB_*"))


SUCCESS, FAILURE, ABORTED = (f"RELION_JOB_EXIT_{name}" for name in ("SUCCESS", "FAILURE", "ABORTED"))


def test_success_leaves_nodes_and_one_exit_file(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_external(program(good), WORDS) == 0
    assert exit_files(project) == [SUCCESS]
    assert (project / DIRECTORY / SUCCESS).stat().st_size == 0
    assert "External/job002/kept.star 3 Part" in (project / DIRECTORY / "RELION_OUTPUT_NODES.star").read_text()
    out, err = capsys.readouterr()
    assert err == ""
    lines = out.splitlines()
    assert lines[0].startswith("pickbias_relion_test ")
    assert lines[0].endswith("RELION 3.1 project")
    assert lines[1] == f"command: pickbias_relion_test {' '.join(WORDS)}"
    assert lines[2].startswith("versions: napari-pickbias ")
    assert lines[3:] == ["judge: began", "kept 1 of 1", "report: somewhere"]


def test_the_nodes_are_there_before_the_success_file(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []
    touch = Path.touch

    def watch(path: Path, *rest: Any, **more: Any) -> None:
        seen.append(sorted(p.name for p in path.parent.iterdir()))
        touch(path, *rest, **more)

    monkeypatch.setattr(Path, "touch", watch)
    run_external(program(good), WORDS)
    assert len(seen) == 1
    assert "RELION_OUTPUT_NODES.star" in seen[0]


@pytest.mark.parametrize(
    ("error", "code", "file", "line"),
    [
        (InputError("a.mrcs: is short; copy it again"), 2, FAILURE, "a.mrcs: is short; copy it again"),
        (
            InputError("x: the disk is full; free some space and run again with --resume"),
            2,
            FAILURE,
            "x: the disk is full; free some space and run the job again",
        ),
        (
            ValueError("shapes (2,)\nand (3,)"),
            1,
            FAILURE,
            "a fault in pickbias_relion_test itself (ValueError: shapes (2,) and (3,)); the traceback is in "
            "External/job002/pickbias.log: please report it",
        ),
        (
            OSError(28, "No space left on device", "External/job002/x.npz"),
            2,
            FAILURE,
            "External/job002/x.npz: cannot be written: the disk is full; free some space and run the job again",
        ),
        (
            OSError(28, "No space left on device"),
            2,
            FAILURE,
            "External/job002/run.out: cannot be written: the disk is full; free some space and run the job again",
        ),
        (
            ConnectionResetError(104, "reset"),
            1,
            FAILURE,
            "a fault in pickbias_relion_test itself (ConnectionResetError: [Errno 104] reset); the traceback is in "
            "External/job002/pickbias.log: please report it",
        ),
        (
            MemoryError(),
            1,
            FAILURE,
            "out of memory; use fewer threads on the Running tab, or a machine with more",
        ),
        (
            ImportError("No module named 'numba'"),
            1,
            FAILURE,
            "a part of the installation is damaged (No module named 'numba'); reinstall napari-pickbias",
        ),
        (
            SystemExit(3),
            3,
            FAILURE,
            "the program left before its end (exit code 3); see External/job002/pickbias.log",
        ),
        (
            SystemExit(),
            1,
            FAILURE,
            "the program left before its end (exit code None); see External/job002/pickbias.log",
        ),
        (KeyboardInterrupt(), 130, ABORTED, "interrupted; finished pieces are kept: run the job again to go on"),
        (
            GeneratorExit("odd"),
            1,
            FAILURE,
            "a fault in pickbias_relion_test itself (GeneratorExit: odd); the traceback is in "
            "External/job002/pickbias.log: please report it",
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_every_fault_is_one_line_and_one_exit_file(
    project: Path, capsys: pytest.CaptureFixture[str], error: BaseException, code: int, file: str, line: str
) -> None:
    assert run_external(program(raising(error)), WORDS) == code
    assert exit_files(project) == [file]
    assert capsys.readouterr().err == line + "\n"
    assert not (project / DIRECTORY / "RELION_OUTPUT_NODES.star").exists()
    log = project / DIRECTORY / "pickbias.log"
    users = isinstance(error, (InputError, KeyboardInterrupt))
    assert users or "Traceback (most recent call last)" in log.read_text()


def test_a_traceback_that_the_run_has_logged_is_not_logged_again(project: Path) -> None:
    log = project / DIRECTORY / "pickbias.log"
    log.write_text("an earlier run\nValueError: odd\n")

    def run(call: Any, parameters: Any) -> Generator[Progress, None, Outcome]:
        yield Progress("judge", 0, 10)
        with log.open("a") as stream:
            stream.write("Traceback (most recent call last):\nValueError: odd\n")
        raise ValueError("odd")

    run_external(program(run), WORDS)
    assert log.read_text().count("ValueError: odd") == 2
    run_external(program(raising(ValueError("odd"))), WORDS)
    assert log.read_text().count("ValueError: odd") == 3


def test_a_fault_while_closing_the_job_still_leaves_one_exit_file(project: Path) -> None:
    def run(call: Any, parameters: Any) -> Generator[Progress, None, Outcome]:
        try:
            yield Progress("judge", 0, 10)
            (call.directory / "RELION_JOB_ABORT_NOW").touch()
            yield Progress("judge", 1, 10)
        finally:
            raise ValueError("while closing")

    assert run_external(program(run), WORDS) == 1
    assert exit_files(project) == [FAILURE]


def test_relions_abort_closes_the_job(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    closed = []

    def run(call: Any, parameters: Any) -> Generator[Progress, None, Outcome]:
        try:
            for step in range(10):
                if step == 3:
                    (call.directory / "RELION_JOB_ABORT_NOW").touch()
                yield Progress("judge", step, 10)
        finally:
            closed.append(step)
        return Outcome([])

    assert run_external(program(run), WORDS) == 130
    assert exit_files(project) == [ABORTED]
    assert closed == [3]
    out, err = capsys.readouterr()
    assert err == ""
    assert out.splitlines()[-1] == "aborted as RELION asked; finished pieces are kept: Continue goes on from there"


def test_an_abort_that_was_asked_for_in_the_queue_is_honoured(project: Path) -> None:
    (project / DIRECTORY / "RELION_JOB_ABORT_NOW").touch()
    assert run_external(program(good), WORDS) == 130
    assert exit_files(project) == [ABORTED]
    assert not (project / DIRECTORY / "kept.star").exists()


def test_an_abort_that_comes_too_late_is_taken_away(project: Path) -> None:
    def run(call: Any, parameters: Any) -> Generator[Progress, None, Outcome]:
        outcome = yield from good(call, parameters)
        (call.directory / "RELION_JOB_ABORT_NOW").touch()
        return outcome

    assert run_external(program(run), WORDS) == 0
    assert exit_files(project) == [SUCCESS]


def test_stale_files_are_removed_at_the_start(project: Path) -> None:
    directory = project / DIRECTORY
    for name in (SUCCESS, FAILURE, ABORTED, "RELION_OUTPUT_NODES.star"):
        (directory / name).touch()
    seen = []

    def run(call: Any, parameters: Any) -> Generator[Progress, None, Outcome]:
        seen.extend(path.name for path in call.directory.glob("RELION_*"))
        yield from good(call, parameters)
        return Outcome([])

    assert run_external(program(run), WORDS) == 0
    assert seen == []
    assert exit_files(project) == [SUCCESS]


@pytest.mark.parametrize("error", [InputError("x: y; z"), ValueError("odd"), KeyboardInterrupt()])
def test_outputs_of_an_earlier_run_do_not_outlive_a_failure(project: Path, error: BaseException) -> None:
    assert run_external(program(good), WORDS) == 0
    (project / DIRECTORY / "notes.txt").write_text("the user's own")
    assert run_external(program(raising(error)), WORDS) != 0
    left = {path.name for path in (project / DIRECTORY).iterdir()}
    assert "kept.star" not in left
    assert "notes.txt" in left


def test_outputs_of_an_earlier_run_do_not_outlive_bad_parameters(project: Path) -> None:
    assert run_external(program(good), WORDS) == 0
    assert run_external(program(good), [*WORDS, "--seconds", "many"]) == 2
    assert not (project / DIRECTORY / "kept.star").exists()


def test_outputs_that_this_run_wrote_before_it_failed_stay(project: Path) -> None:
    def run(call: Any, parameters: Any) -> Generator[Progress, None, Outcome]:
        yield Progress("judge", 0, 10)
        (call.directory / "logfile.pdf").write_text("why nothing was kept")
        raise InputError("particles.star: nothing was kept; see the report")

    (project / DIRECTORY / "logfile.pdf").write_text("old")
    (project / DIRECTORY / "kept.star").write_text("old")
    assert run_external(program(run), WORDS) == 2
    assert (project / DIRECTORY / "logfile.pdf").read_text() == "why nothing was kept"
    assert not (project / DIRECTORY / "kept.star").exists()


def test_a_run_that_stands_by_its_earlier_files_keeps_them(project: Path) -> None:
    assert run_external(program(good), WORDS) == 0
    (project / DIRECTORY / "logfile.pdf").write_text("of no run")

    def run(call: Any, parameters: Any) -> Generator[Progress, None, Outcome]:
        yield Progress("finished", 1, 1, "nothing to do")
        return Outcome([Node(call.directory / "kept.star", "particles")])

    assert run_external(program(run), WORDS) == 0
    assert (project / DIRECTORY / "kept.star").read_text() == "kept"
    assert not (project / DIRECTORY / "logfile.pdf").exists()


def test_a_second_process_does_not_touch_the_first_ones_files(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("fcntl", reason="this system has no file locks of that kind")
    (project / DIRECTORY / "kept.star").write_text("being written")
    with locked(Path(DIRECTORY)):
        assert run_external(program(good), WORDS) == 2
    assert (project / DIRECTORY / "kept.star").read_text() == "being written"
    assert exit_files(project) == [FAILURE]
    assert capsys.readouterr().err == (
        "--o External/job002: another process is working there; wait for it or end it, then run the job again\n"
    )


def test_warnings_of_libraries_go_to_run_out(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run(call: Any, parameters: Any) -> Generator[Progress, None, Outcome]:
        warnings.warn("old\nways", UserWarning, stacklevel=1)
        return (yield from good(call, parameters))

    assert run_external(program(run), WORDS) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "WARNING: old ways (UserWarning)" in out.splitlines()


def test_unknown_arguments_are_a_warning_in_run_out(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_external(program(good), [*WORDS, "--gpu", "0"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "WARNING: --gpu is not known here and was ignored" in out.splitlines()


def test_help_in_a_job_is_a_failure_and_not_a_hang(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_external(program(good), [*WORDS, "--help"]) == 1
    assert exit_files(project) == [FAILURE]
    out, err = capsys.readouterr()
    assert "usage: pickbias_relion_test" in out
    assert err == "the program left before its end (exit code 0); see External/job002/pickbias.log\n"


def test_without_a_directory_help_is_an_answer_and_the_rest_a_fault(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_external(program(good), ["--help"]) == 0
    assert "usage: pickbias_relion_test" in capsys.readouterr().out
    assert run_external(program(good), ["--version"]) == 0
    assert capsys.readouterr().out.startswith("pickbias_relion_test ")
    assert run_external(program(good), ["--in_parts", "p.star"]) == 2
    assert capsys.readouterr().err == (
        "--o: the job's directory is missing; RELION gives it, by hand add --o External/job001/\n"
    )


def test_the_directory_is_made_when_missing(project: Path) -> None:
    assert run_external(program(good), ["--o", "External/job009/", "--in_parts", "p.star"]) == 0
    assert (project / "External" / "job009" / SUCCESS).exists()


def test_a_directory_that_cannot_be_made(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "file").touch()
    assert run_external(program(good), ["--o", "file/job009/", "--in_parts", "p.star"]) == 2
    assert capsys.readouterr().err == (
        "--o file/job009: cannot be made: Not a directory; give a folder that can be written\n"
    )


def test_the_exit_file_is_tried_again(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tries = []
    touch = Path.touch

    def stumble(path: Path) -> None:
        tries.append(path.name)
        if len(tries) < 3:
            raise OSError(5, "Input/output error")
        touch(path)

    monkeypatch.setattr(Path, "touch", stumble)
    monkeypatch.setattr("pickbias_relion.external_directory.RETRY_SECONDS", (0.0, 0.0, 0.0))
    ending = Ending(Path(DIRECTORY))
    ending.write()
    ending.write()
    assert tries == [FAILURE] * 3
    assert exit_files(project) == [FAILURE]


def test_an_exit_file_that_cannot_be_written_is_said(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(path: Path) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "touch", refuse)
    monkeypatch.setattr("pickbias_relion.external_directory.RETRY_SECONDS", (0.0,))
    Ending(Path(DIRECTORY)).write()
    assert capsys.readouterr().err == (
        "External/job002/RELION_JOB_EXIT_FAILURE: cannot be written: Read-only file system; mark the job in RELION\n"
    )


# A stand-in for a console script, run as RELION runs it: in its own process, with its streams in files.
SCRIPT = """
import os, sys, time
from pickbias_relion.external import Job, Outcome, Program, run_external

mode = sys.argv.pop(1)

def run(call, parameters):
    from napari_pickbias.jobs.progress import Progress
    try:
        yield Progress("judge", 0, 10, "began")
        for step in range(600):
            (call.directory / "ready").touch()
            if mode == "lost":
                # A signal that strikes here is lost: Python lets no exception out of __del__.
                class Deaf:
                    def __del__(self):
                        for _ in range(20):
                            time.sleep(0.05)
                deaf = Deaf()
                del deaf
            time.sleep(0.05)
            yield Progress("judge", 1, 10)
    finally:
        if mode == "slow":
            (call.directory / "closing").touch()
            time.sleep(0.5)
        (call.directory / "closed").touch()
    return Outcome([])

def load():
    if mode == "import":
        import a_library_that_is_not_there
    if mode == "exit":
        sys.exit(7)
    if mode == "argparse":
        import argparse
        argparse.ArgumentParser(prog="inner").parse_args(["--nonsense"])
    from pydantic import BaseModel
    class Parameters(BaseModel):
        pass
    return Job(Parameters, run)

sys.exit(run_external(Program("pickbias_relion_test", load, ("in_parts",))))
"""


def start(project: Path, mode: str, shell: str = "") -> subprocess.Popen[bytes]:
    (project / "script.py").write_text(SCRIPT)
    command = [sys.executable, "script.py", mode, *WORDS]
    if shell:
        command = ["sh", "-c", shell.format(" ".join(command))]
    paths = [p for p in sys.path if p]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    with (project / DIRECTORY / "run.out").open("ab") as out, (project / DIRECTORY / "run.err").open("ab") as err:
        return subprocess.Popen(command, cwd=project, stdout=out, stderr=err, env=environment)


def wait_for(path: Path, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, f"{path.name} never came"
        time.sleep(0.02)


def streams(project: Path) -> tuple[str, str]:
    return (project / DIRECTORY / "run.out").read_text(), (project / DIRECTORY / "run.err").read_text()


@pytest.mark.parametrize(
    ("mode", "code", "line"),
    [
        (
            "import",
            1,
            "a part of the installation is damaged (No module named 'a_library_that_is_not_there'); "
            "reinstall napari-pickbias\n",
        ),
        ("exit", 7, "the program left before its end (exit code 7); see External/job002/pickbias.log\n"),
    ],
)
def test_a_program_that_cannot_begin(project: Path, mode: str, code: int, line: str) -> None:
    assert start(project, mode).wait(60) == code
    assert exit_files(project) == [FAILURE]
    assert streams(project)[1] == line


def test_a_libraries_argparse_does_not_hang_the_job(project: Path) -> None:
    assert start(project, "argparse").wait(60) == 2
    assert exit_files(project) == [FAILURE]
    assert streams(project)[1].endswith(
        "the program left before its end (exit code 2); see External/job002/pickbias.log\n"
    )


@pytest.mark.skipif(os.name != "posix", reason="signals as RELION's systems know them")
@pytest.mark.parametrize(
    ("number", "mode", "code", "file", "line"),
    [
        (
            signal.SIGTERM,
            "work",
            143,
            FAILURE,
            "ended from outside (SIGTERM); finished pieces are kept: run the job again\n",
        ),
        (
            signal.SIGHUP,
            "work",
            129,
            FAILURE,
            "ended from outside (SIGHUP); finished pieces are kept: run the job again\n",
        ),
        (signal.SIGINT, "work", 130, ABORTED, "interrupted; finished pieces are kept: run the job again to go on\n"),
    ],
)
def test_a_signal_closes_the_job_and_leaves_one_exit_file(
    project: Path, number: signal.Signals, mode: str, code: int, file: str, line: str
) -> None:
    process = start(project, mode)
    wait_for(project / DIRECTORY / "ready")
    process.send_signal(number)
    assert process.wait(60) == code
    assert exit_files(project) == [file]
    assert (project / DIRECTORY / "closed").exists()
    assert streams(project)[1] == line


@pytest.mark.skipif(os.name != "posix", reason="signals as RELION's systems know them")
def test_later_signals_do_not_disturb_the_closing(project: Path) -> None:
    process = start(project, "slow")
    wait_for(project / DIRECTORY / "ready")
    process.terminate()
    wait_for(project / DIRECTORY / "closing")
    process.terminate()
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 143
    assert (project / DIRECTORY / "closed").exists()
    assert exit_files(project) == [FAILURE]


@pytest.mark.skipif(os.name != "posix", reason="signals as RELION's systems know them")
def test_a_signal_that_python_swallows_still_ends_the_job(project: Path) -> None:
    process = start(project, "lost")
    wait_for(project / DIRECTORY / "ready")
    time.sleep(0.3)  # into __del__, which lasts a second
    process.terminate()
    assert process.wait(60) == 143
    assert exit_files(project) == [FAILURE]


@pytest.mark.skipif(os.name != "posix", reason="signals as RELION's systems know them")
def test_a_job_in_the_background_of_sh_is_deaf_to_ctrl_c_and_hears_the_abort(project: Path) -> None:
    # RELION's way: "sh -c 'command &'"; POSIX has such jobs ignore SIGINT, so Ctrl-C in RELION's terminal spares them.
    process = start(project, "work", shell="{} & echo $! > pid; wait")
    wait_for(project / DIRECTORY / "ready")
    os.kill(int((project / "pid").read_text()), signal.SIGINT)
    time.sleep(0.3)
    assert exit_files(project) == []
    (project / DIRECTORY / "RELION_JOB_ABORT_NOW").touch()
    process.wait(60)
    assert exit_files(project) == [ABORTED]
    assert streams(project)[1] == ""


@pytest.mark.skipif(os.name != "posix", reason="signals as RELION's systems know them")
def test_after_kill_9_the_directory_can_be_used_again(project: Path) -> None:
    process = start(project, "work")
    wait_for(project / DIRECTORY / "ready")
    process.kill()
    process.wait(60)
    assert exit_files(project) == []
    assert run_external(program(good), WORDS) == 0
    assert exit_files(project) == [SUCCESS]


def test_a_locale_without_letters_ends_no_job(project: Path) -> None:
    code = (
        "from pickbias_relion.external import Job, Outcome, Program, run_external\n"
        "from pydantic import BaseModel\n"
        "class Parameters(BaseModel): pass\n"
        "def run(call, parameters):\n"
        "    from napari_pickbias.jobs.progress import Progress\n"
        "    yield Progress('learn', 0, 3, 'radius 80 Å, χ² fits')\n"
        "    return Outcome([])\n"
        "raise SystemExit(run_external(Program('p', lambda: Job(Parameters, run))))\n"
    )
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run(
        [sys.executable, "-c", code, *WORDS], cwd=project, env=environment, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert b"learn: radius 80 ?, ?? fits" in done.stdout
    assert exit_files(project) == [SUCCESS]


def test_importing_the_program_loads_nothing_heavy() -> None:
    code = (
        "import sys, pickbias_relion.external_outliers\n"
        "print(sorted({'numpy', 'scipy', 'pandas', 'numba', 'pydantic', 'matplotlib', 'mrcfile'} & set(sys.modules)))"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stderr


def drain(steps: list[Progress]) -> list[str]:
    lines = progress_lines()
    next(lines)
    return [line for step in steps for line in lines.send(step)]


def test_progress_is_a_line_every_five_percent() -> None:
    lines = drain([Progress("judge", done, 1000) for done in range(0, 1001, 10)])
    assert len(lines) == 20
    assert [line.split("%")[0].split()[-1] for line in lines] == [str(5 * n) for n in range(1, 21)]
    assert lines[-1] == "judge: 100 %  1000 of 1000"
    assert not any("\r" in line for line in lines)


def test_progress_in_large_steps_and_small_stages() -> None:
    steps = [Progress("learn", 0, 3, "sample"), Progress("learn", 1, 3), Progress("judge", 500, 699)]
    steps += [Progress("judge", 699, 699), Progress("write", 0, 2, "writing"), Progress("judge", 1, 0)]
    lines = drain(steps)
    assert lines == ["learn: sample", "judge:  70 %  500 of 699", "judge: 100 %  699 of 699", "write: writing"]


def test_progress_tells_rate_and_remaining_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = 0.0
    monkeypatch.setattr("pickbias_relion.external.time.monotonic", lambda: clock)
    lines = progress_lines()
    next(lines)
    assert lines.send(Progress("judge", 100, 1000)) == ["judge:  10 %  100 of 1000"]
    clock = 10.0
    # Units that an earlier run had done count for no speed.
    assert lines.send(Progress("judge", 350, 1000)) == ["judge:  35 %  350 of 1000  25/s  26 s left"]
    clock = 1000.0
    assert lines.send(Progress("judge", 600, 1000)) == ["judge:  60 %  600 of 1000  0.5/s  13 min left"]
    clock = 100000.0
    assert lines.send(Progress("judge", 900, 1000)) == ["judge:  90 %  900 of 1000  0.008/s  3.5 h left"]
