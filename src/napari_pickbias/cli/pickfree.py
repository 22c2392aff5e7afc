"""``pickbias pickfree``."""

from __future__ import annotations

from typing import Any

import click

from napari_pickbias.cli.drive import drive, tell
from napari_pickbias.cli.options import build, model_options, run_options
from napari_pickbias.jobs.pickfree_parameters import PickfreeParameters
from napari_pickbias.runs.cores import allowed_cores


@click.command("pickfree", short_help="Reconstruct a low-resolution map from micrographs, without picking.")
@click.option(
    "--micrographs", required=True, metavar="STAR|GLOB", help="A STAR file, a folder, or a pattern in quotes."
)
@click.option("--initial-map", required=True, metavar="FILE", help="Initial map; low-passed and scaled to the data.")
@click.option("--no-whiten", is_flag=True, help="Take the noise as white.")
@click.option("--no-ctf", is_flag=True, help="Take the CTF as 1.")
@click.option("--no-null", is_flag=True, help="Do not run the null: a third of the time, and of the honesty.")
@run_options
@model_options(PickfreeParameters, skip=("whiten", "ctf", "null"))
def command(
    micrographs: str,
    initial_map: str,
    no_whiten: bool,
    no_ctf: bool,
    no_null: bool,
    out: str,
    threads: int | None,
    overwrite: bool,
    resume: bool,
    quiet: bool,
    **values: Any,
) -> None:
    """Reconstruct a map straight from micrographs by approximate expectation-maximisation.

    Says whether the micrographs hold the particle at all, by running the same on noise of their own spectrum. Writes
    map.mrc, half maps, the null's map, iterations/, convergence.csv, fsc.csv, summary.json, report.html and
    report.pdf into DIR.
    """
    switches = {"whiten": not no_whiten, "ctf": not no_ctf, "null": not no_null}
    parameters = build(PickfreeParameters, {**values, **switches})
    # Numerical libraries take seconds to load: not before the options are known to be sound.
    from napari_pickbias.runs.pickfree import outcome_of, run_pickfree

    job = run_pickfree(
        micrographs, initial_map, parameters, out, threads=threads or allowed_cores(), overwrite=overwrite,
        resume=resume,
    )  # fmt: skip
    run = drive(job, quiet=quiet)
    if not quiet:
        tell(run, lambda _: [outcome_of(run.summary)], "map")
