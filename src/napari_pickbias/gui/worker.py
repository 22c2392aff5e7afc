"""A job's generator in a thread of its own: progress and the end reach the main thread, and the end is always clean."""

from __future__ import annotations

import atexit
from collections.abc import Generator
from typing import Any, NamedTuple

from napari.qt.threading import create_worker
from qtpy.QtCore import QObject, Signal
from superqt.utils import FunctionWorker, WorkerBase

from napari_pickbias.jobs.progress import Progress

# A window closed by a script without an event loop: wait for the step in hand, since ending Python under it crashes.
atexit.register(WorkerBase.await_workers)


class Ended(NamedTuple):
    """How a job ended: with a ``value``, by a ``fault``, or ``cancelled``."""

    value: Any = None
    fault: BaseException | None = None
    cancelled: bool = False


class Messages(QObject):
    """Signals of jobs, each with the job's number; they arrive in the thread of their receiver."""

    progressed = Signal(int, object)
    ended = Signal(int, object)


class Job:
    """Steps of a job to be driven in a thread; napari shows its text where it lists running work.

    Parameters
    ----------
    title : str
        What the user calls it.
    number : int
        Sent along with every message, so that those of an older job can be told.
    steps : generator
        Yields :class:`Progress`, returns the result. Always closed in the thread that drove it, at its end or when
        cancelled, so that files are closed and locks released before ``ended`` is sent.
    messages : Messages
        Made in the main thread.
    """

    def __init__(self, title: str, number: int, steps: Generator[Progress, None, Any], messages: Messages) -> None:
        self._title, self._number, self._steps, self._messages = title, number, steps, messages
        self.worker: FunctionWorker[None] | None = None

    def __str__(self) -> str:
        return self._title

    def __call__(self) -> None:
        """Drive the steps; runs in the worker's thread."""
        try:
            ended = self._drive()
        except BaseException as fault:  # whatever it is, the widget must leave its "running" state
            ended = Ended(fault=fault)
        try:
            self._steps.close()
        except Exception as fault:
            ended = Ended(fault=fault)
        self._messages.ended.emit(self._number, ended)

    def _drive(self) -> Ended:
        assert self.worker is not None
        while not self.worker.abort_requested:
            try:
                progress = next(self._steps)
            except StopIteration as end:
                return Ended(value=end.value)
            self._messages.progressed.emit(self._number, progress)
        return Ended(cancelled=True)


def start_job(
    title: str, number: int, steps: Generator[Progress, None, Any], messages: Messages
) -> FunctionWorker[None]:
    """Start driving ``steps`` in a thread; ``quit`` of the worker returned stops it after the step in hand.

    napari knows of the worker: it asks before its window closes over it, stops it then, and waits for it at the end.
    """
    job = Job(title, number, steps, messages)
    worker = create_worker(job, _start_thread=False, _ignore_errors=True, _progress={"desc": title})
    job.worker = worker
    worker.start()
    return worker
