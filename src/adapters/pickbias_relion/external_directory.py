"""The directory of an External job: its exit file, its lock, its log, and what an earlier run left in it."""

from __future__ import annotations

import contextlib
import os
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path

from napari_pickbias.errors import InputError
from pickbias_relion.project import OUTPUT_NODES

SUCCESS, FAILURE, ABORTED = (f"RELION_JOB_EXIT_{name}" for name in ("SUCCESS", "FAILURE", "ABORTED"))
ABORT_NOW = "RELION_JOB_ABORT_NOW"
LOCK = ".pickbias_relion.lock"
LOG = "pickbias.log"
RETRY_SECONDS = (0.2, 1.0, 5.0)


class Ending:
    """The exit file: a failure until something better is known, written once and last."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.name = FAILURE
        self._written = False

    def write(self) -> None:
        """Leave this exit file and no other; the second call does nothing."""
        if self._written:
            return
        # A file server that stumbles for a moment must not leave the job running for ever.
        for pause in (*RETRY_SECONDS, None):
            try:
                for name in {SUCCESS, FAILURE, ABORTED, ABORT_NOW} - {self.name}:
                    (self.directory / name).unlink(missing_ok=True)
                (self.directory / self.name).touch()
                break
            except OSError as error:
                if pause is None:
                    say(f"{self.directory / self.name}: cannot be written: {error.strerror}; mark the job in RELION")
                else:
                    time.sleep(pause)
        self._written = True


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Keep a second process out of the directory: it must not remove what the first one writes.

    Raises
    ------
    InputError
        Another process holds the directory, or it cannot be written.
    """
    try:
        descriptor = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise InputError(
            f"--o {directory}: cannot be written: {error.strerror}; change its permissions or free some space"
        ) from error
    try:
        try:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(
                f"--o {directory}: another process is working there; wait for it or end it, then run the job again"
            ) from error
        except (ImportError, OSError):
            # A system or file server without locks: the run's own lock still keeps the results whole.
            pass
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def outputs_of_this_run(directory: Path, outputs: Sequence[str]) -> Iterator[set[str]]:
    """Remove exit files and nodes at the start, and in the end the outputs that an earlier run left behind.

    A run that finds itself finished already stands by its files, so they cannot be removed beforehand; any other run
    must not leave them, or a later job would take them for its results.

    Yields
    ------
    set of str
        To be filled with the names of the outputs that the run stands by.
    """
    for name in (SUCCESS, FAILURE, ABORTED, OUTPUT_NODES):
        (directory / name).unlink(missing_ok=True)
    earlier = {name: _identity(directory / name) for name in outputs}
    announced: set[str] = set()
    try:
        yield announced
    finally:
        for name, identity in earlier.items():
            if name not in announced and identity is not None and identity == _identity(directory / name):
                with contextlib.suppress(OSError):
                    (directory / name).unlink()


def _identity(path: Path) -> tuple[int, ...] | None:
    """Return what changes when a file is replaced (clocks of file servers are not compared)."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def log_size(directory: Path) -> int:
    """Return the size of the log in bytes, 0 where there is none."""
    try:
        return (directory / LOG).stat().st_size
    except OSError:
        return 0


def log_traceback(directory: Path, size_before: int) -> None:
    """Append the traceback in hand to the log, unless the run has written it there itself since ``size_before``."""
    text = traceback.format_exc()
    with contextlib.suppress(OSError), (directory / LOG).open("a+", encoding="utf-8", errors="replace") as log:
        log.seek(min(size_before, log_size(directory)))
        if text.strip().splitlines()[-1] not in log.read():
            log.write(text)


def tell(text: str) -> None:
    """Write one line to ``run.out`` at once: the GUI shows it while the job runs."""
    print(text, flush=True)


def say(text: str) -> None:
    """Write the one line of ``run.err``; the words of the command line become RELION's."""
    text = " ".join(text.split()).replace("run again with --resume", "run the job again").replace("--out ", "--o ")
    # Nothing may come between a fault and its exit file, not even a full disk under run.err.
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)
