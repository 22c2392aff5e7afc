"""The frame of every program for RELION's External job type: RELION's promises, kept whatever happens.

RELION starts the program in the background, never looks at its exit code, and waits for one of three empty files in
the job's directory. A program that ends without leaving one is "Running" for ever; so this module imports nothing
heavy, and the job itself is imported where a failure to do so is caught.
"""

from __future__ import annotations

import contextlib
import platform
import shlex
import signal
import sys
import time
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from napari_pickbias import __version__
from napari_pickbias.errors import InputError
from pickbias_relion.external_arguments import Call, job_directory, parse_call
from pickbias_relion.external_directory import (
    ABORT_NOW,
    ABORTED,
    LOG,
    SUCCESS,
    Ending,
    locked,
    log_size,
    log_traceback,
    outputs_of_this_run,
    say,
    tell,
)
from pickbias_relion.project import relion_release

if TYPE_CHECKING:
    from pydantic import BaseModel

    from napari_pickbias.jobs.progress import Progress
    from pickbias_relion.nodes import Node

EXIT_DONE, EXIT_OUR_FAULT, EXIT_INPUT, EXIT_INTERRUPTED = 0, 1, 2, 130


@dataclass(frozen=True)
class Outcome:
    """What a job made.

    Attributes
    ----------
    nodes : list of Node
        Files to announce to RELION.
    lines : list of str
        The last lines of ``run.out``: counts, warnings, where the report is.
    """

    nodes: list[Node]
    lines: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Job:
    """A job as the frame drives it: its parameter model, and a generator function that runs it."""

    parameters: type[BaseModel]
    run: Callable[[Call, Any], Generator[Progress, None, Outcome]]


@dataclass(frozen=True)
class Program:
    """A console script.

    Attributes
    ----------
    name : str
        Its name.
    load : callable
        Imports what the job needs and returns it; called where an import error is caught.
    needs : tuple of str
        Inputs that must be given, such as ``"in_parts"``.
    outputs : tuple of str
        Names of all files that the job may announce as nodes. Those that an earlier run left and this one does not
        stand by are removed, so that no later job takes them for its results.
    """

    name: str
    load: Callable[[], Job]
    needs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()


class Stopped(BaseException):
    """RELION's abort (``number`` 0) or a signal. No ``Exception``: no job may swallow it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def run_external(program: Program, arguments: Sequence[str] | None = None) -> int:
    """Run a job as RELION's External job and leave exactly one exit file, whatever happens.

    Parameters
    ----------
    program : Program
        What to run.
    arguments : sequence of str, optional
        Default: those of the process.

    Returns
    -------
    int
        0 done, 1 a fault of ours, 2 input at fault, 130 aborted, 128 + n ended by signal n. RELION ignores it.

    Notes
    -----
    The contract (RELION 3.1.3, 4.0.1, 5.0.1: src/pipeliner.cpp, src/pipeline_jobs.cpp): the exit file is written last,
    after ``RELION_OUTPUT_NODES.star``; ``RELION_JOB_ABORT_NOW`` stops the job; a directory is used again on Continue.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    directory = job_directory(words)
    if directory is None:
        return _answer(program, words)
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        say(f"--o {directory}: cannot be made: {error.strerror}; give a folder that can be written")
        return EXIT_INPUT
    ending = Ending(directory)
    # Twice: the one signal that is let through may strike on the very threshold of the first.
    try:
        with _signals_raise() as received:
            try:
                return _run(program, words, ending, received)
            finally:
                ending.write()
    except (Stopped, KeyboardInterrupt):
        return EXIT_INTERRUPTED
    finally:
        ending.write()


def _run(program: Program, words: list[str], ending: Ending, received: list[int]) -> int:
    """Run the job and turn every way it can end into an exit file's name, at most one line, and an exit code."""
    directory = ending.directory
    before = log_size(directory)
    try:
        with locked(directory), outputs_of_this_run(directory, program.outputs) as announced, _quiet_streams():
            _work(program, words, directory, received, announced)
    except InputError as error:
        code, line = EXIT_INPUT, str(error)
    except Stopped as stop:
        if stop.number == 0:
            ending.name = ABORTED
            with contextlib.suppress(OSError):
                tell("aborted as RELION asked; finished pieces are kept: Continue goes on from there")
            return EXIT_INTERRUPTED
        name = signal.Signals(stop.number).name
        code, line = 128 + stop.number, f"ended from outside ({name}); finished pieces are kept: run the job again"
    except KeyboardInterrupt:
        ending.name = ABORTED
        code, line = EXIT_INTERRUPTED, "interrupted; finished pieces are kept: run the job again to go on"
    except SystemExit as stop:
        log_traceback(directory, before)
        code = stop.code if isinstance(stop.code, int) and stop.code else EXIT_OUR_FAULT
        line = f"the program left before its end (exit code {stop.code}); see {directory / LOG}"
    except MemoryError:
        log_traceback(directory, before)
        code, line = EXIT_OUR_FAULT, "out of memory; use fewer threads on the Running tab, or a machine with more"
    except ImportError as error:
        log_traceback(directory, before)
        code, line = EXIT_OUR_FAULT, f"a part of the installation is damaged ({error}); reinstall napari-pickbias"
    except BaseException as error:
        log_traceback(directory, before)
        code, line = _fault(error, program, directory)
    else:
        ending.name = SUCCESS
        return EXIT_DONE
    say(line)
    return code


def _work(program: Program, words: list[str], directory: Path, received: list[int], announced: set[str]) -> None:
    """Read the command line, run the job, announce what it made."""
    release = relion_release(directory)
    project = f"RELION {release} project" if release else "no RELION project found: nodes are named as in RELION 5.0"
    tell(f"{program.name} {__version__}, {time.strftime('%Y-%m-%d %H:%M:%S')}, {platform.node()}, {project}")
    tell(f"command: {shlex.join([program.name, *words])}")
    job = program.load()
    from napari_pickbias.runs.log import versions
    from pickbias_relion.nodes import write_output_nodes

    tell("versions: " + ", ".join(f"{name} {number}" for name, number in versions().items()))
    call, parameters, notes = parse_call(program.name, words, job.parameters, program.needs)
    for note in notes:
        tell(f"WARNING: {note}")
    outcome = _drive(job.run(call, parameters), directory, received)
    announced |= {Path(node.path).name for node in outcome.nodes}
    write_output_nodes(directory, outcome.nodes, release)
    for line in outcome.lines:
        tell(line)


def _drive(job: Generator[Progress, None, Outcome], directory: Path, received: list[int]) -> Outcome:
    """Run the job to its end, looking for RELION's abort at every step; the job is closed on every way out."""
    lines = progress_lines()
    next(lines)
    try:
        while True:
            if (directory / ABORT_NOW).exists():
                raise Stopped(0)
            # A signal's exception can be lost where Python lets none through (__del__); its number cannot.
            if received:
                raise KeyboardInterrupt if received[0] == signal.SIGINT else Stopped(received[0])
            try:
                progress = next(job)
            except StopIteration as end:
                outcome: Outcome = end.value
                return outcome
            for line in lines.send(progress):
                tell(line)
    finally:
        job.close()


def progress_lines(step_percent: int = 5) -> Generator[list[str], Progress, None]:
    """Give the lines of ``run.out`` that each step of a job deserves; send it :class:`Progress`.

    Messages always; and a line whenever ``step_percent`` of a stage with at least twenty units is done, with the rate
    and the remaining time. No carriage returns: RELION shows the file as it stands.
    """
    lines: list[str] = []
    stage, shown, first, start = "", 0, 0, 0.0
    while True:
        progress = yield lines
        lines = [f"{progress.stage}: {progress.message}"] if progress.message else []
        if progress.stage != stage:
            stage, shown, first, start = progress.stage, 0, progress.done, time.monotonic()
        steps = 100 * progress.done // max(progress.total, 1) // step_percent
        if progress.total >= 20 and steps > shown:
            shown = steps
            text = f"{stage}: {steps * step_percent:3d} %  {progress.done} of {progress.total}"
            seconds, done = time.monotonic() - start, progress.done - first
            if done > 0 and seconds > 0 and progress.done < progress.total:
                rate = done / seconds
                text += f"  {rate:.0f}/s" if rate >= 10 else f"  {rate:.1g}/s"
                text += f"  {_duration((progress.total - progress.done) / rate)} left"
            lines.append(text)


def _duration(seconds: float) -> str:
    if seconds < 99:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5940 else f"{seconds / 3600:.1f} h"


@contextlib.contextmanager
def _signals_raise() -> Iterator[list[int]]:
    """Turn the first SIGTERM, SIGHUP or SIGINT into an exception and swallow later ones; gives the numbers received.

    A signal that is ignored stays so: ``sh`` starts background jobs with SIGINT ignored, ``nohup`` with SIGHUP.
    """
    received: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        del frame
        received.append(number)
        if len(received) == 1:
            raise KeyboardInterrupt if number == signal.SIGINT else Stopped(number)

    previous: dict[int, Any] = {}
    try:
        for name in ("SIGTERM", "SIGHUP", "SIGINT"):
            number = getattr(signal, name, None)
            # Outside the main thread (a test, a notebook) signals are none of our business.
            with contextlib.suppress(ValueError):
                if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
                    previous[number] = signal.signal(number, handle)
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _quiet_streams() -> Iterator[None]:
    """Send Python's warnings to ``run.out``, for a line in ``run.err`` says that the job failed."""

    def show(message: Warning | str, category: type[Warning], *place: Any) -> None:
        del place
        tell(f"WARNING: {' '.join(str(message).split())} ({category.__name__})")

    for stream in (sys.stdout, sys.stderr):
        # An Å must not end a job in a locale that has none.
        with contextlib.suppress(AttributeError, OSError, ValueError):
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


def _answer(program: Program, words: list[str]) -> int:
    """Answer a command line without ``--o``: a question (``--help``) or a mistake; there is no place for files."""
    try:
        parse_call(program.name, words, program.load().parameters, ())
    except InputError as error:
        say(str(error))
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else EXIT_OUR_FAULT
    return EXIT_INPUT


def _fault(error: BaseException, program: Program, directory: Path) -> tuple[int, str]:
    """Return exit code and line for a full disk and the like, which the user can mend, or for a fault of ours."""
    if isinstance(error, OSError):
        # Libraries that cannot be loaded raise OSErrors too, and then this import fails as well.
        with contextlib.suppress(Exception):
            from napari_pickbias.records.atomic import is_users_matter, write_fault

            if is_users_matter(error):
                return EXIT_INPUT, str(write_fault(error.filename or directory / "run.out", error))
    what = f"{type(error).__name__}: {error}"
    return EXIT_OUR_FAULT, (
        f"a fault in {program.name} itself ({what}); the traceback is in {directory / LOG}: please report it"
    )
