"""``pickbias bias-tomograms``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from napari_pickbias.cli.drive import drive, tell
from napari_pickbias.cli.options import build, model_options, run_options
from napari_pickbias.jobs.bias_tomograms_parameters import BiasTomogramsParameters
from napari_pickbias.runs.cores import allowed_cores


@click.command("bias-tomograms", short_help="Tell how much of picks in tomograms comes from the map.")
@click.option(
    "--tomograms",
    required=True,
    metavar="FILE|FOLDER",
    help="Tomograms: RELION 5's tomograms.star, a folder, a pattern in quotes, or one .mrc.",
)
@click.option("--map", "map_path", required=True, metavar="FILE", help="Map that is looked for, not low-passed.")
@click.option(
    "--tilt-range",
    type=float,
    nargs=2,
    default=None,
    metavar="LOW HIGH",
    help="Lowest and highest tilt in degrees; the map then gets the missing wedge.",
)
@run_options
@model_options(BiasTomogramsParameters, skip=("tilt_range",))
def command(
    tomograms: str,
    map_path: str,
    out: str,
    threads: int | None,
    overwrite: bool,
    resume: bool,
    quiet: bool,
    **values: Any,
) -> None:
    """Diagnose a search of tomograms: what pure noise would have given, and what in the average is no bias.

    Writes twin/ (picks of noise as sub-tomograms), average.mrc, noise_average.mrc, predicted_bias.mrc,
    bias_removed.mrc and its halves, fdr.csv, fsc.csv, candidates.npz, summary.json, report.html and report.pdf into
    DIR.
    """
    parameters = build(BiasTomogramsParameters, values)
    # Numerical libraries take seconds to load: not before the options are known to be sound.
    from napari_pickbias.records.tomograms import open_tomograms
    from napari_pickbias.runs.bias_tomograms import run_bias_tomograms
    from napari_pickbias.runs.pick import open_template_input

    found = open_tomograms(tomograms, parameters.pixel_size)
    wanted = open_template_input(map_path, None, parameters.templates_pixel_size)
    job = run_bias_tomograms(
        found, wanted, parameters, out, template_path=Path(map_path), threads=threads or allowed_cores(),
        overwrite=overwrite, resume=resume,
    )  # fmt: skip
    run = drive(job, quiet=quiet)
    if not quiet:
        tell(run, closing_lines)


def closing_lines(results: dict[str, Any]) -> list[str]:
    """Return the verdict, and what it rests on."""
    lines = [f"verdict: {results['verdict']}", f"{results['why']}."]
    if results["agreement"]:
        lines.append(f"{results['agreement']}.")
    lines.append(
        f"{results['observed_picks']} picks; noise alone gives {results['expected_null_picks']:.0f} in the same volume"
    )
    if results["recommended_threshold"] is not None:
        lines.append(f"recommended threshold: {results['recommended_threshold']:.2f}")
    return lines
