"""``pickbias demo``: the main job on data made on the spot."""

from __future__ import annotations

import shutil
from pathlib import Path

import click

from napari_pickbias.cli.drive import drive
from napari_pickbias.cli.options import run_options
from napari_pickbias.runs.cores import allowed_cores

COUNT, QUICK_COUNT = 4000, 1200


@click.command("demo", short_help="Run the main job on data made on the spot.")
@run_options
@click.option("--quick", is_flag=True, help="Fewer particles: about half a minute on two cores.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of every random choice.")
def command(out: str, threads: int | None, overwrite: bool, resume: bool, quiet: bool, quick: bool, seed: int) -> None:
    """Simulate a picked particle stack with junk in it, remove the junk, and compare with the truth.

    DIR/report.html is the thing to open.
    """
    from napari_pickbias.runs.demo import run_demo

    run = drive(
        run_demo(
            out,
            count=QUICK_COUNT if quick else COUNT,
            seed=seed,
            threads=threads or allowed_cores(),
            overwrite=overwrite,
            resume=resume,
        ),
        quiet=quiet,
    )
    if quiet:
        return
    found = run.summary["results"]["outliers"]
    width = shutil.get_terminal_size().columns
    click.echo("-" * min(width, 60))
    for kind, line in found["by_kind"].items():
        click.echo(f"{kind:10s} {line['particles']:5d} made, {line['kept']:5d} kept ({line['kept_fraction']:.1%})")
    click.echo(f"report: {Path(run.directory) / 'report.html'}")
