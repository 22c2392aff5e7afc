"""``pickbias demo``: the main job on data made on the spot."""

from __future__ import annotations

import shutil
from pathlib import Path

import click

from napari_pickbias.cli.drive import drive
from napari_pickbias.cli.options import run_options
from napari_pickbias.runs.cores import allowed_cores


@click.command("demo", short_help="Run the main job on data made on the spot.")
@run_options
@click.option("--quick", is_flag=True, help="Smaller: under a minute on two cores.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of every random choice.")
def command(out: str, threads: int | None, overwrite: bool, resume: bool, quiet: bool, quick: bool, seed: int) -> None:
    """Run every finished job on data simulated on the spot, and compare with the truth.

    DIR/report.html is the thing to open.
    """
    from napari_pickbias.runs.demo import run_demo
    from napari_pickbias.runs.demo_chapters import FULL, QUICK

    run = drive(
        run_demo(
            out,
            QUICK if quick else FULL,
            seed=seed,
            threads=threads or allowed_cores(),
            overwrite=overwrite,
            resume=resume,
        ),
        quiet=quiet,
    )
    if quiet:
        return
    bias, found = run.summary["results"]["bias"], run.summary["results"]["outliers"]
    width = shutil.get_terminal_size().columns
    click.echo("-" * min(width, 60))
    likeness = bias["plain_agreement"]["in_band"]
    click.echo(f"{bias['observed_picks']} picks from pure noise look like the template ({likeness:.2f})")
    click.echo(f"verdict on them: {bias['verdict']}")
    for kind, line in found["by_kind"].items():
        click.echo(f"{kind:10s} {line['particles']:5d} made, {line['kept']:5d} kept ({line['kept_fraction']:.1%})")
    undecided = run.summary["results"]["softmodes"]["amplitude_fraction"][0]
    click.echo(f"soft modes: a change of {undecided:.1%} of the map is left undecided by the kept particles")
    click.echo(f"report: {Path(run.directory) / 'report.html'}")
