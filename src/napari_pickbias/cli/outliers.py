"""``pickbias outliers``."""

from __future__ import annotations

from typing import Any

import click

from napari_pickbias.cli.drive import drive
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
    if quiet:
        return
    if run.result is None:
        click.echo(f"{run.directory}: this run is finished already; nothing to do")
        return
    for warning in run.result.warnings:
        click.echo(f"warning: {warning}", err=True)
    counts = run.result.counts
    total = len(run.result.table)
    rejected = ", ".join(f"{counts[reason]} {reason}" for reason in ("noise", "partial", "multiple"))
    click.echo(f"kept {counts['kept']} of {total} particles ({counts['kept'] / total:.1%}); rejected: {rejected}")
    click.echo(f"report: {run.files['html']}")
