"""``pickbias bias``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from napari_pickbias.cli.drive import drive, tell
from napari_pickbias.cli.options import build, model_options, run_options
from napari_pickbias.jobs.bias_parameters import BiasParameters
from napari_pickbias.runs.cores import allowed_cores


@click.command("bias", short_help="Tell how much of picks and class averages comes from the template.")
@click.option(
    "--micrographs",
    required=True,
    metavar="FILE|FOLDER",
    help="Micrographs: .star, .cs, a folder, a pattern in quotes, or one .mrc.",
)
@click.option("--map", "map_path", metavar="FILE", help="Map whose views were the templates, not low-passed.")
@click.option("--templates", metavar="FILE", help="Class averages that were the templates, not low-passed.")
@click.option(
    "--picks",
    metavar="FILE|FOLDER",
    help="Picks of any program: .star, .cs, .box, Topaz' .txt; default: the templates pick.",
)
@click.option(
    "--picks-pixel-size", type=click.FloatRange(min=0, min_open=True), help="Å, of the pixels that --picks count in."
)
@click.option(
    "--picker",
    metavar="COMMAND",
    help="A program that picks, run on the micrographs (unless --picks is given) and on noise like them; {micrographs} "
    "stands for its files, {folder} for their folder, {out} for where it is to write.",
)
@click.option(
    "--picker-timeout", type=click.FloatRange(min=0, min_open=True), help="Seconds that one run of --picker may take."
)
@click.option("--averages", metavar="FILE", help="Class averages of these picks by another program: are they bias?")
@click.option("--poses", metavar="FILE", help="Refined particles: tells which views the picks miss.")
@run_options
@model_options(BiasParameters)
def command(
    micrographs: str,
    map_path: str | None,
    templates: str | None,
    picks: str | None,
    picks_pixel_size: float | None,
    poses: str | None,
    picker: str | None,
    picker_timeout: float | None,
    averages: str | None,
    out: str,
    threads: int | None,
    overwrite: bool,
    resume: bool,
    quiet: bool,
    **values: Any,
) -> None:
    """Diagnose picks: how many pure noise would have given, what averages noise gives, what in yours is no bias.

    Writes twin/ (the picks of noise as a particle stack), class_averages.mrcs, predicted_bias.mrcs,
    noise_averages.mrcs, bias_removed.mrcs, fdr.csv, frc.csv, picks_scored.star, summary.json, report.html and
    report.pdf into DIR.
    """
    parameters = build(BiasParameters, values)
    # Numerical libraries take seconds to load: not before the options are known to be sound.
    from napari_pickbias.records.micrographs import open_micrographs
    from napari_pickbias.runs.bias import run_bias
    from napari_pickbias.runs.bias_classes import open_averages
    from napari_pickbias.runs.pick import open_template_input

    wanted = open_template_input(map_path, templates, parameters.templates_pixel_size)
    made = None if averages is None else open_averages(averages)
    found = open_micrographs(micrographs, parameters.pixel_size)
    job = run_bias(
        found, wanted, parameters, out, template_path=Path(map_path or templates or ""), picks=picks,
        picks_pixel_size=picks_pixel_size, poses=poses, picker=picker, picker_timeout=picker_timeout,
        averages=made, threads=threads or allowed_cores(), overwrite=overwrite, resume=resume,
    )  # fmt: skip
    run = drive(job, quiet=quiet)
    if not quiet:
        tell(run, closing_lines)


def closing_lines(results: dict[str, Any]) -> list[str]:
    """Return the verdict, and what to do next."""
    lines = [
        f"verdict: {results['verdict']}",
        f"{results['why']}.",
        f"{results['observed_picks']} picks; noise alone gives {results['expected_null_picks']:.0f} on the same area",
    ]
    if results["agreement"]:
        lines.insert(2, f"{results['agreement']}.")
    if results["recommended_threshold"] is not None:
        lines.append(f"recommended threshold: {results['recommended_threshold']:.2f}")
    return lines
