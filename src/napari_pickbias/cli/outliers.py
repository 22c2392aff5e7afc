"""``pickbias outliers``."""

from __future__ import annotations

from typing import Any

import click

from napari_pickbias.cli.drive import drive, tell
from napari_pickbias.cli.options import build, model_options, run_options
from napari_pickbias.jobs.outlier_parameters import OutlierParameters
from napari_pickbias.runs.cores import allowed_cores


@click.command("outliers", short_help="Remove noise, partial and multiple particles from a stack.")
@click.option("--particles", required=True, metavar="FILE", help="Particles: .star, .cs, or a bare .mrcs stack.")
@run_options
@model_options(OutlierParameters)
def command(
    particles: str, out: str, threads: int | None, overwrite: bool, resume: bool, quiet: bool, **values: Any
) -> None:
    """Judge every particle of a picked stack and write those to keep and those to reject.

    Writes kept.* and rejected.* in the input's own format with every column kept, scores.csv, summary.json,
    report.html and report.pdf into DIR.
    """
    parameters = build(OutlierParameters, values)
    # Numerical libraries take seconds to load: not before the options are known to be sound.
    from napari_pickbias.records import open_particles
    from napari_pickbias.runs.outliers import run_outliers

    source = open_particles(particles)
    job = run_outliers(source, parameters, out, threads=threads or allowed_cores(), overwrite=overwrite, resume=resume)
    run = drive(job, quiet=quiet)
    if not quiet:
        tell(run, closing_lines)


def closing_lines(results: dict[str, Any]) -> list[str]:
    """Return how many particles were kept, and why the others were not."""
    reasons = results["rejected_by_reason"]
    rejected = ", ".join(f"{reasons[reason]} {reason}" for reason in ("noise", "partial", "multiple"))
    share = results["kept"] / results["particles"]
    return [f"kept {results['kept']} of {results['particles']} particles ({share:.1%}); rejected: {rejected}"]
