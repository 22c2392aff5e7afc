"""``pickbias-cryosparc``: jobs of this package as external jobs of a running CryoSPARC.

The frame: command line, login, external job, and a job that is marked completed or failed whatever happens. External
jobs run here, in the caller's process, not on a lane. A new job is a module with a :class:`Job` and a line in ``JOBS``.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import re
import signal
import sys
import time
import traceback
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

from napari_pickbias import __version__
from napari_pickbias.errors import InputError
from pickbias_cryosparc.live_external import ExternalJob, create_external_job
from pickbias_cryosparc.live_session import ServerGoneError, connect, safe

if TYPE_CHECKING:
    from pydantic import BaseModel

    from napari_pickbias.jobs.progress import Progress

JOBS = {"outliers": "pickbias_cryosparc.live_outliers"}
EXIT_DONE, EXIT_OUR_FAULT, EXIT_INPUT, EXIT_INTERRUPTED = 0, 1, 2, 130
PROGRESS_EVERY_SECONDS = 5.0


@dataclass(frozen=True)
class Call:
    """What the command line asks for.

    Attributes
    ----------
    url : str or None
    project, workspace, source : str
        ``P3``, ``W1``, ``J12``.
    output : str or None
        Name of the source job's output; None where it is the only one.
    resume : str or None
        External job in whose folder an unfinished run is.
    threads : int
    """

    url: str | None
    project: str
    workspace: str
    source: str
    output: str | None
    resume: str | None
    threads: int
    title: str
    quiet: bool


@dataclass(frozen=True)
class Job:
    """A job as the frame drives it.

    Attributes
    ----------
    title : str
        Default title of the external job: a noun phrase.
    help : str
    parameters : type of BaseModel
    run : callable
        Generator function of (external job, call, parameters); yields progress, returns the closing lines.
    """

    title: str
    help: str
    parameters: type[BaseModel]
    run: Callable[[ExternalJob, Call, Any], Generator[Progress, None, list[str]]] = field(repr=False)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program and return its exit code.

    0: done. 1: a fault of ours. 2: input, server or usage at fault, said in one line on standard error. 130:
    interrupted. The external job, once there is one, is marked completed or failed on every way out.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        name, call, parameters, job = _read(words)
        return _run(name, call, parameters, job)
    except InputError as error:
        return _say(str(error), EXIT_INPUT)
    except SystemExit as stop:  # --help, --version
        return stop.code if isinstance(stop.code, int) else EXIT_DONE
    except KeyboardInterrupt:
        return _say("interrupted before there was an external job", EXIT_INTERRUPTED)
    except Exception as error:
        if os.environ.get("PICKBIAS_TRACEBACK"):
            raise
        what = f"{type(error).__name__}: {error}"
        return _say(f"a fault in pickbias-cryosparc itself ({what}); please report it", EXIT_OUR_FAULT)


def _run(name: str, call: Call, parameters: Any, job: Job) -> int:
    tell = _nothing if call.quiet else print
    with _interruptible() as ending:
        session = connect(call.url)
        if session.mismatch:
            print(f"pickbias-cryosparc: warning: {session.mismatch}", file=sys.stderr)
        external = create_external_job(session, call.project, call.workspace, call.title or job.title, tell)
        # The external job is there from here on, so that a fault shows in CryoSPARC too.
        try:
            tell(f"{call.project} {call.workspace} {external.uid}: {call.title or job.title}")
            external.log(f"pickbias-cryosparc {name} {__version__}: {call.project} {call.source} -> {external.uid}")
            if session.mismatch:
                external.log(session.mismatch, level="warning")
            lines = _drive(job.run(external, call, parameters), external)
            for line in lines:
                external.log(line)
            external.complete()
        except BaseException as error:
            ending()  # a second Ctrl-C must not keep the job from being marked
            return _fail(external, call, error)
    return EXIT_DONE


def _drive(job: Generator[Progress, None, list[str]], external: ExternalJob) -> list[str]:
    """Run the job to its end, showing its progress; it is closed on every way out, which keeps finished pieces."""
    stage, shown, first, start = "", 0.0, 0, 0.0
    try:
        while True:
            try:
                progress = next(job)
            except StopIteration as end:
                lines: list[str] = end.value
                return lines
            now = time.monotonic()
            if progress.stage != stage:
                stage, first, start = progress.stage, progress.done, now
            if progress.message:
                external.log(f"{progress.stage}: {progress.message}")
            if progress.total > 1 and (now - shown > PROGRESS_EVERY_SECONDS or progress.done == progress.total):
                shown = now
                external.progress(progress_text(progress, first, now - start))
    finally:
        job.close()


def progress_text(progress: Progress, first: int, seconds: float) -> str:
    """Return a bar with percentage, rate and remaining time, such as ``judge: [####------] 40 %  400 of 1000``."""
    share = progress.done / max(progress.total, 1)
    text = f"{progress.stage}: [{'#' * int(10 * share):-<10}] {share:.0%}  {progress.done} of {progress.total}"
    done = progress.done - first
    if done > 0 and seconds > 1 and progress.done < progress.total:
        text += f"  {done / seconds:.3g}/s  {(progress.total - progress.done) * seconds / done:.0f} s left"
    return text


def _fail(external: ExternalJob, call: Call, error: BaseException) -> int:
    """Mark the external job as failed with one line, and say the same line here."""
    again = f"finished pieces are kept: run again with --resume {call.resume or external.uid}"
    if isinstance(error, InputError):
        code, line = EXIT_INPUT, f"{error}; {again}" if isinstance(error, ServerGoneError) else str(error)
    elif isinstance(error, KeyboardInterrupt):
        code, line = EXIT_INTERRUPTED, f"interrupted; {again}"
    elif isinstance(error, MemoryError):
        code, line = EXIT_OUR_FAULT, f"out of memory; use fewer --threads, or a machine with more; {again}"
    else:
        code, line = _other_fault(error)
        if code == EXIT_OUR_FAULT:
            # In the body of a request, where length does no harm; the line that marks the job failed is short.
            external.log("".join(traceback.format_exception(error)), level="error")
    if not external.fail(line):
        line += f"; {external.uid} could not be marked as failed: mark it in CryoSPARC"
    return _say(external.session.safe(line), code)


def _other_fault(error: BaseException) -> tuple[int, str]:
    if isinstance(error, OSError):
        from napari_pickbias.records.atomic import is_users_matter, write_fault

        if error.filename is not None and is_users_matter(error):
            return EXIT_INPUT, str(write_fault(error.filename, error))
    what = f"{type(error).__name__}: {error}"
    return EXIT_OUR_FAULT, f"a fault in pickbias itself ({what}); the traceback is in the event log: please report it"


def _say(text: str, code: int) -> int:
    print(f"pickbias-cryosparc: {' '.join(safe(text).split())}", file=sys.stderr)
    return code


def _nothing(text: str) -> None:
    del text


@contextlib.contextmanager
def _interruptible() -> Iterator[Callable[[], None]]:
    """Turn SIGTERM and SIGHUP into Ctrl-C; gives a function after which all three do nothing."""
    deaf: list[bool] = []

    def handle(number: int, frame: FrameType | None) -> None:
        del number, frame
        if not deaf:
            raise KeyboardInterrupt

    previous: dict[int, Any] = {}
    try:
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)
            # Outside the main thread (a notebook's) signals are none of our business; nohup's stay ignored.
            with contextlib.suppress(ValueError):
                if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
                    previous[number] = signal.signal(number, handle)
        yield lambda: deaf.append(True)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


# -- command line -----------------------------------------------------------------------------------------------------


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; see {self.prog} --help")


def _read(words: list[str]) -> tuple[str, Call, Any, Job]:
    top = _Parser(
        prog="pickbias-cryosparc",
        description="Run a job on particles of a running CryoSPARC, as an external job. Log in once with: "
        "python -m cryosparc.tools login --url URL",
    )
    top.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = top.add_subparsers(dest="job", metavar="JOB", required=True, parser_class=_Parser)
    jobs: dict[str, Job] = {}
    for name, module in JOBS.items():
        jobs[name] = importlib.import_module(module).JOB
        parser = commands.add_parser(name, help=jobs[name].help, description=jobs[name].help, allow_abbrev=False)
        _add_arguments(parser, jobs[name])
    given = vars(top.parse_args(words))
    job = jobs[given["job"]]
    parameters = _validated(job.parameters, given)
    call = Call(
        url=given["url"],
        project=_uid("PROJECT", "P", given["project"]),
        workspace=_uid("WORKSPACE", "W", given["workspace"]),
        source=_uid("SOURCE_JOB", "J", given["source"]),
        output=given["output"],
        resume=_uid("--resume", "J", given["resume"]) if given["resume"] else None,
        threads=_threads(given["threads"]),
        title=given["title"] or "",
        quiet=given["quiet"],
    )
    return given["job"], call, parameters, job


def _add_arguments(parser: argparse.ArgumentParser, job: Job) -> None:
    url = os.environ.get("CRYOSPARC_BASE_URL")
    parser.add_argument("project", metavar="PROJECT", help="such as P3")
    parser.add_argument("workspace", metavar="WORKSPACE", help="such as W1; the external job is made there")
    parser.add_argument("source", metavar="SOURCE_JOB", help="job that has the particles, such as J12")
    parser.add_argument("--url", default=url, help="CryoSPARC's address in your browser; default: CRYOSPARC_BASE_URL")
    parser.add_argument("--output", metavar="NAME", help="output of SOURCE_JOB; needed where it has several")
    parser.add_argument("--title", help=f"title of the external job (default {job.title})")
    parser.add_argument("--resume", metavar="JOB", help="go on with the unfinished run of that external job")
    parser.add_argument("--threads", metavar="N", help="default: all cores this process may use")
    parser.add_argument("--quiet", action="store_true", help="nothing on standard output")
    group = parser.add_argument_group("parameters")
    for name, info in job.parameters.model_fields.items():
        default = "" if info.default is None else f" (default {info.default})"
        text = (info.description or "").replace("%", "%%") + default
        option = "--" + name.replace("_", "-")
        if info.annotation is bool:
            group.add_argument(option, dest=f"parameter_{name}", action="store_const", const=True, help=text)
        else:
            group.add_argument(option, dest=f"parameter_{name}", metavar="VALUE", help=text)


def _validated(model: type[BaseModel], given: dict[str, Any]) -> Any:
    from pydantic import ValidationError

    values = {name: given[f"parameter_{name}"] for name in model.model_fields}
    try:
        return model(**{name: value for name, value in values.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        option = "--" + str(first["loc"][0]).replace("_", "-")
        raise InputError(f"{option} {first['input']}: {first['msg'][:1].lower()}{first['msg'][1:]}") from None


def _uid(what: str, letter: str, text: str) -> str:
    """Return ``P3`` for ``P3``, ``p3`` and ``3``."""
    match = re.fullmatch(rf"{letter}?([1-9]\d*)", text.strip(), re.IGNORECASE | re.ASCII)
    if match is None:
        raise InputError(f"{what} {text}: is no number of that kind; give one such as {letter}12")
    return letter + match[1]


def _threads(text: str | None) -> int:
    if text is None:
        try:
            return len(os.sched_getaffinity(0))
        except AttributeError:
            return os.cpu_count() or 1
    if not text.isdecimal() or int(text) < 1:
        raise InputError(f"--threads {text}: is no number of threads; give 1 or more")
    return int(text)
