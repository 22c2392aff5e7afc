"""``pickbias pick``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from napari_pickbias.cli.drive import drive, tell
from napari_pickbias.cli.options import build, model_options, run_options
from napari_pickbias.cli.pick_tomograms import of_tomograms, pick_tomograms
from napari_pickbias.errors import InputError
from napari_pickbias.jobs.pick_parameters import PickParameters
from napari_pickbias.runs.cores import allowed_cores


@click.command("pick", short_help="Pick particles by template matching, with error rates.")
@click.option(
    "--micrographs", metavar="FILE|FOLDER", help="Micrographs: .star, .cs, a folder, a pattern in quotes, or one .mrc."
)
@click.option(
    "--tomograms", metavar="FILE|FOLDER", help="Tomograms: RELION 5's tomograms.star, a folder, a pattern, or one .mrc."
)
@click.option("--map", "map_path", metavar="FILE", help="Map whose views are looked for.")
@click.option("--templates", metavar="FILE", help="Class averages: .mrcs, _model.star or class_averages.star.")
@click.option(
    "--rethreshold", metavar="DIR", help="Draw another --threshold or --fdr over an earlier run; nothing is searched."
)
@click.option(
    "--tilt-range",
    type=float,
    nargs=2,
    default=None,
    metavar="LOW HIGH",
    help="Tomograms: lowest and highest tilt in degrees; the map then gets the missing wedge.",
)
@click.option("--whiten/--no-whiten", default=False, help="Match with the noise's spectrum divided out.")
@run_options
@model_options(PickParameters, skip=("whiten",))
@click.pass_context
def command(
    context: click.Context,
    /,
    micrographs: str | None,
    tomograms: str | None,
    map_path: str | None,
    templates: str | None,
    rethreshold: str | None,
    tilt_range: tuple[float, float] | None,
    out: str,
    threads: int | None,
    overwrite: bool,
    resume: bool,
    quiet: bool,
    **values: Any,
) -> None:
    """Pick particles by matching the views of a map, or class averages, with micrographs; or a map with tomograms.

    Every pick has a score in standard deviations of the noise, a p-value and a q-value. Writes picks.star,
    per_micrograph/*_picks.star, coordinates.star, candidates.npz, summary.json, report.html and report.pdf into DIR.
    """
    if tomograms is not None or of_tomograms(rethreshold):
        given = {name for name in context.params if context.get_parameter_source(name) is not ParameterSource.DEFAULT}
        pick_tomograms(context.params, given)
        return
    if tilt_range is not None:
        raise InputError("--tilt-range: is of tomograms; give --tomograms, or leave it out")
    parameters = build(PickParameters, values)
    if rethreshold is not None:
        if micrographs or map_path or templates:
            raise InputError(
                "--rethreshold: takes everything from the earlier run; leave out micrographs and templates"
            )
        from napari_pickbias.runs.pick import run_rethreshold

        job = run_rethreshold(rethreshold, parameters, out, overwrite=overwrite, resume=resume)
    else:
        if micrographs is None:
            raise InputError("--micrographs: is missing; give a .star, .cs, folder, pattern or .mrc")
        # Numerical libraries take seconds to load: not before the options are known to be sound.
        from napari_pickbias.records.micrographs import open_micrographs
        from napari_pickbias.runs.pick import open_template_input, run_pick

        found = open_micrographs(micrographs, parameters.pixel_size)
        wanted = open_template_input(map_path, templates, parameters.templates_pixel_size)
        job = run_pick(
            found,
            wanted,
            parameters,
            out,
            template_path=Path(map_path or templates or ""),
            threads=threads or allowed_cores(),
            overwrite=overwrite,
            resume=resume,
        )
    run = drive(job, quiet=quiet)
    if not quiet:
        tell(run, closing_lines, "picks")


def closing_lines(results: dict[str, Any]) -> list[str]:
    """Return what was found, in two lines."""
    used = results["micrographs"] - results["left_out"]
    lines = [f"{results['picks']} picks on {used} micrographs from a score of {results['threshold']:.2f} up"]
    if results["fdr"] is not None:
        low, high = (value or 0.0 for value in results["fdr_interval"])
        false = results["expected_null_picks_per_micrograph"]["value"]
        lines.append(
            f"expected share of false picks: {results['fdr']:.1%} ({low:.1%} to {high:.1%}), {false:.1f} a micrograph"
        )
    if (error := results.get("score_error")) is not None:
        lines.append(
            f"rotation basis: scores are within {error['largest']:.2g} of those without it, on noise with a standard "
            f"deviation of {error['standard_deviation_on_noise']:.2g}"
        )
    return lines
