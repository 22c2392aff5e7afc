"""Driving a job's generator: a progress bar with rate and remaining time on standard error, then what was found."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Generator, Iterable
from pathlib import Path
from typing import Any, Protocol, TypeVar

import click

from napari_pickbias.jobs.progress import Progress

Result = TypeVar("Result")
PLAIN_EVERY_SECONDS = 10.0
"""Where standard error is no terminal (a queue's log), a line this often replaces the bar."""


class FinishedRun(Protocol):
    """What every job's run returns."""

    @property
    def directory(self) -> Path: ...  # noqa: D102 - the names say it

    @property
    def files(self) -> dict[str, Path]: ...  # noqa: D102

    @property
    def summary(self) -> dict[str, Any]: ...  # noqa: D102

    @property
    def result(self) -> Any: ...  # noqa: D102


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


def tell(run: FinishedRun, lines: Callable[[dict[str, Any]], Iterable[str]], main_file: str | None = None) -> None:
    """Print warnings, what was found, and where its files are.

    Parameters
    ----------
    run : FinishedRun
        With no result where it had been finished before.
    lines : callable
        Makes the lines from ``results`` of the summary.
    main_file : str, optional
        Name among the run's files, told before the report.
    """
    if run.result is None:
        click.echo(f"{run.directory}: this run is finished already; nothing to do")
        return
    results = run.summary["results"]
    for warning in results["warnings"]:
        click.echo(f"warning: {warning}", err=True)
    for line in lines(results):
        click.echo(line)
    if main_file is not None:
        click.echo(f"{main_file}: {run.files[main_file]}")
    click.echo(f"report: {run.files['html']}")


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
