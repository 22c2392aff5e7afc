"""The demonstration: every finished job on embedded data, with the truth beside its verdicts."""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import starfile

from napari_pickbias.jobs.outlier_parameters import OutlierParameters
from napari_pickbias.jobs.progress import Progress
from napari_pickbias.jobs.simulate import SimulateParticlesParameters
from napari_pickbias.records import open_particles
from napari_pickbias.report.demo import write_demo_report
from napari_pickbias.runs.directory import claim
from napari_pickbias.runs.log import run_log
from napari_pickbias.runs.outliers import run_outliers
from napari_pickbias.runs.simulate import run_simulate_particles
from napari_pickbias.runs.summary import build_summary, read_summary, write_summary

TOOL = "pickbias demo"
RADIUS = 72.0
PARTICLES: dict[str, Any] = {
    "size": 64,
    "pixel_size": 4.0,
    "radius": RADIUS,
    "snr": 0.25,
    "noise": "coloured",
    "noise_fraction": 0.15,
    "partial_fraction": 0.12,
    "multiple_fraction": 0.08,
}
"""A stack like those that template picking gives: a third of it is junk, the noise is coloured, the CTF is there."""


@dataclass(frozen=True)
class DemoRun:
    """A finished demonstration."""

    directory: Path
    summary: dict[str, Any]


def run_demo(
    out: str | Path,
    *,
    count: int,
    seed: int = 0,
    threads: int = 1,
    overwrite: bool = False,
    resume: bool = False,
) -> Generator[Progress, None, DemoRun]:
    """Run every finished job on data made on the spot; yields :class:`Progress`, returns a :class:`DemoRun`.

    Writes ``simulated/`` (the stack with its truth), ``outliers/`` (the run, with a report of its own) and a report of
    the whole.
    """
    start = time.perf_counter()
    simulated = SimulateParticlesParameters(count=count, seed=seed, **PARTICLES)
    parameters = OutlierParameters(radius=RADIUS, seed=seed)
    chosen = {"simulate": simulated.model_dump(), "outliers": parameters.model_dump()}
    with claim(out, TOOL, chosen, [], overwrite=overwrite, resume=resume) as directory:
        path = directory.path
        if directory.finished:
            yield Progress("finished", 1, 1, f"{path}: this demonstration is finished already; nothing to do")
            return DemoRun(path, read_summary(path / "summary.json"))
        again: dict[str, bool] = {"overwrite": not directory.resumed, "resume": directory.resumed}
        with run_log(path / "pickbias.log", TOOL, chosen):
            yield from run_simulate_particles(simulated, path / "simulated", threads=threads, **again)
            run = yield from run_outliers(
                open_particles(path / "simulated" / "particles.star"),
                parameters,
                path / "outliers",
                threads=threads,
                **again,
            )
            results = {"outliers": _against_truth(path)}
            summary = build_summary(TOOL, chosen, [], results, {"total": time.perf_counter() - start})
            files = [*write_demo_report(summary, run.result, path).values(), path / "summary.json"]
            write_summary(path / "summary.json", summary)
            directory.record_outputs([*files, path / "pickbias.log"])
        directory.finish()
    return DemoRun(path, summary)


def _against_truth(path: Path) -> dict[str, Any]:
    """Compare the verdicts with what each image was made as."""
    truth = starfile.read(path / "simulated" / "truth.star")["particles"]
    verdicts = pd.read_csv(path / "outliers" / "scores.csv")
    kept = verdicts["keep"].to_numpy(dtype=bool)
    by_kind = {}
    for kind in ("inlier", "noise", "partial", "multiple"):
        members = (truth["kind"] == kind).to_numpy()
        by_kind[kind] = {
            "particles": int(members.sum()),
            "kept": int(kept[members].sum()),
            "kept_fraction": float(kept[members].mean()) if members.any() else 0.0,
        }
    outliers = (truth["kind"] != "inlier").to_numpy()
    return {
        "by_kind": by_kind,
        "junk_before": float(outliers.mean()),
        "junk_after": float(outliers[kept].mean()) if kept.any() else 0.0,
    }
