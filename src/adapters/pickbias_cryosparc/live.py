"""``pickbias-cryosparc``: jobs of this package as external jobs of a running CryoSPARC.

The frame: login, external job, and a job that is marked completed or failed whatever happens. External jobs run here,
in the caller's process, not on a lane.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Generator, Iterator, Sequence
from types import FrameType
from typing import TYPE_CHECKING, Any

from napari_pickbias import __version__
from napari_pickbias.errors import InputError
from pickbias_cryosparc.live_command import read_command
from pickbias_cryosparc.live_external import ExternalJob, create_external_job
from pickbias_cryosparc.live_job import Call, Job
from pickbias_cryosparc.live_session import ServerGoneError, connect, safe

if TYPE_CHECKING:
    from napari_pickbias.jobs.progress import Progress

EXIT_DONE, EXIT_OUR_FAULT, EXIT_INPUT, EXIT_INTERRUPTED = 0, 1, 2, 130
PROGRESS_EVERY_SECONDS = 5.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program and return its exit code.

    0: done. 1: a fault of ours. 2: input, server or usage at fault, said in one line on standard error. 130:
    interrupted. The external job, once there is one, is marked completed or failed on every way out.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        name, call, parameters, job = read_command(words)
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
