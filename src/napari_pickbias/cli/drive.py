"""Driving a job's generator: a progress bar with rate and remaining time on standard error."""

from __future__ import annotations

import sys
import time
from collections.abc import Generator
from typing import Any, TypeVar

from napari_pickbias.jobs.progress import Progress

Result = TypeVar("Result")
PLAIN_EVERY_SECONDS = 10.0
"""Where standard error is no terminal (a queue's log), a line this often replaces the bar."""


def drive(job: Generator[Progress, None, Result], *, quiet: bool = False) -> Result:
    """Run ``job`` to its end and return its result; progress goes to standard error unless ``quiet``.

    The generator is closed on every way out, so that Ctrl-C lets it put its things in order.
    """
    show: Any = _nothing() if quiet else (_bar() if sys.stderr.isatty() else _lines())
    next(show)
    try:
        while True:
            try:
                progress = next(job)
            except StopIteration as end:
                result: Result = end.value
                return result
            show.send(progress)
    finally:
        job.close()
        show.close()


def _nothing() -> Generator[None, Progress, None]:
    while True:
        yield


def _lines() -> Generator[None, Progress, None]:
    last, stage = 0.0, ""
    while True:
        progress = yield
        now = time.monotonic()
        if progress.message or progress.stage != stage or now - last > PLAIN_EVERY_SECONDS:
            text = f"{progress.stage} {progress.done}/{progress.total}"
            print(f"{text} {progress.message}".rstrip(), file=sys.stderr, flush=True)
            last, stage = now, progress.stage


def _bar() -> Generator[None, Progress, None]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = [
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    ]
    with Bar(*columns, console=Console(stderr=True)) as bar:
        task, stage, start = None, None, 0.0
        while True:
            progress = yield
            if progress.stage != stage:
                task = bar.add_task(progress.stage, total=progress.total, rate="")
                stage, start = progress.stage, time.monotonic()
            rate = progress.done / max(time.monotonic() - start, 1e-3)
            bar.update(task, completed=progress.done, total=progress.total, rate=f"{rate:,.0f}/s" if rate > 5 else "")
