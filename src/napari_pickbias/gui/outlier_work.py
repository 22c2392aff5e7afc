"""What the outlier widget does off the main thread: the run itself, then the layers that will show it. No Qt."""

from __future__ import annotations

import json
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from napari_pickbias.gui.curate_work import Verdicts
from napari_pickbias.gui.outlier_layers import read_scores, result_layers
from napari_pickbias.gui.reader import LayerData, particle_layers
from napari_pickbias.jobs.outlier_parameters import REASONS, OutlierParameters
from napari_pickbias.jobs.outliers import OutlierResult
from napari_pickbias.jobs.progress import Progress
from napari_pickbias.records import open_particles
from napari_pickbias.runs.outliers import run_outliers

Earlier = Literal["keep", "resume", "replace"]
"""What to do with results that lie in the output folder already."""


@dataclass(frozen=True)
class Order:
    """All that a run needs, copied from the widget before it starts."""

    source: Path
    out: Path
    parameters: OutlierParameters
    earlier: Earlier
    threads: int
    lazy: bool


@dataclass(frozen=True)
class Outcome:
    """What a finished run shows.

    Attributes
    ----------
    counts : dict
        Particles by reason.
    particles, layers : list of layer data
        The stacks themselves, for a viewer that does not show them yet, and the layers of the result.
    result : OutlierResult or None
        None where the run had been finished before.
    verdicts : Verdicts
        For going on by hand in the Curate dock.
    """

    order: Order
    files: dict[str, Path]
    counts: dict[str, int]
    warnings: list[str]
    expected_fdr: float | None
    particles: list[LayerData]
    layers: list[LayerData]
    result: OutlierResult | None
    verdicts: Verdicts


def outlier_steps(order: Order) -> Generator[Progress, None, Outcome]:
    """Run outlier removal and prepare what shows it; yields :class:`Progress`.

    Raises
    ------
    InputError
        As :func:`napari_pickbias.runs.outliers.run_outliers`.
    """
    yield Progress("read", 0, 1, str(order.source))
    source = open_particles(order.source)
    run = yield from run_outliers(
        source,
        order.parameters,
        order.out,
        threads=order.threads,
        overwrite=order.earlier == "replace",
        resume=order.earlier == "resume",
    )
    yield Progress("show", 0, 1)
    table: pd.DataFrame = read_scores(run.files["scores"]) if run.result is None else run.result.table
    particles = particle_layers(order.source, pixel_size_angstrom=order.parameters.pixel_size, lazy=order.lazy)
    found = table["reason"].astype(str).value_counts()
    results, radius = _results(run.files), _radius(order, run.result)
    return Outcome(
        order=order,
        files=run.files,
        counts={reason: int(found.get(reason, 0)) for reason in REASONS},
        warnings=list(results.get("warnings") or []),
        expected_fdr=results.get("expected_fdr"),
        particles=particles,
        layers=result_layers(particles, table, radius, run.result),
        result=run.result,
        verdicts=Verdicts(_columns(table), ~table["keep"].to_numpy(bool), radius),
    )


def _columns(table: pd.DataFrame) -> pd.DataFrame:
    """Return the verdict's columns under names that do not hide the file's own."""
    wanted = [name for name in table if name not in ("micrograph", "keep")]
    return table[wanted].rename(columns=lambda name: f"outlier {name}".replace("_", " ")).reset_index(drop=True)


def _results(files: dict[str, Path]) -> dict[str, Any]:
    """Return the figures of ``summary.json``."""
    found: dict[str, Any] = json.loads(files["summary"].read_text(encoding="utf-8"))["results"]
    return found


def _radius(order: Order, result: OutlierResult | None) -> float | None:
    if order.parameters.radius is not None or result is None:
        return order.parameters.radius
    group = result.groups[0].group
    return group.radius_px * group.working_pixel_size_angstrom
