"""The demonstration: every finished job on embedded data, with the truth beside its verdicts."""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_pickbias.jobs.progress import Progress
from napari_pickbias.report.demo import write_demo_report
from napari_pickbias.runs.demo_chapters import (
    DemoPlan,
    chosen_parameters,
    run_bias_part,
    run_outlier_part,
    run_softmodes_part,
)
from napari_pickbias.runs.directory import claim
from napari_pickbias.runs.log import run_log
from napari_pickbias.runs.summary import build_summary, read_summary, write_summary

TOOL = "pickbias demo"


@dataclass(frozen=True)
class DemoRun:
    """A finished demonstration."""

    directory: Path
    summary: dict[str, Any]


def run_demo(
    out: str | Path,
    plan: DemoPlan,
    *,
    seed: int = 0,
    threads: int = 1,
    overwrite: bool = False,
    resume: bool = False,
) -> Generator[Progress, None, DemoRun]:
    """Run every finished job on data made on the spot; yields :class:`Progress`, returns a :class:`DemoRun`.

    Writes ``simulated/`` (the data with their truth), a folder for each job with a report of its own, and a report of
    the whole.
    """
    start = time.perf_counter()
    chosen = chosen_parameters(plan, seed)
    with claim(out, TOOL, chosen, [], overwrite=overwrite, resume=resume) as directory:
        path = directory.path
        if directory.finished:
            yield Progress("finished", 1, 1, f"{path}: this demonstration is finished already; nothing to do")
            return DemoRun(path, read_summary(path / "summary.json"))
        again: dict[str, bool] = {"overwrite": not directory.resumed, "resume": directory.resumed}
        with run_log(path / "pickbias.log", TOOL, chosen):
            chapters = [(yield from run_bias_part(path, plan, seed, threads, again))]
            chapters.append((yield from run_outlier_part(path, plan, seed, threads, again)))
            chapters.append((yield from run_softmodes_part(path, plan, seed, again)))
            results = {chapter.key: chapter.results for chapter in chapters}
            summary = build_summary(TOOL, chosen, [], results, {"total": time.perf_counter() - start})
            files = [*write_demo_report(summary, chapters, path).values(), path / "summary.json"]
            write_summary(path / "summary.json", summary)
            directory.record_outputs([*files, path / "pickbias.log"])
        directory.finish()
    return DemoRun(path, summary)
