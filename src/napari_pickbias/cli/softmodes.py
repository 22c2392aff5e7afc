"""``pickbias softmodes``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from napari_pickbias.cli.drive import drive, tell
from napari_pickbias.cli.options import build, model_options, run_options
from napari_pickbias.jobs.softmodes_parameters import SoftmodesParameters
from napari_pickbias.runs.cores import allowed_cores

if TYPE_CHECKING:
    from napari_pickbias.jobs.softmodes import SoftmodesResult


@click.command("softmodes", short_help="Find which parts of a map and which poses the data leave uncertain.")
@click.option("--map", "map_path", required=True, metavar="FILE", help="Refined map.")
@click.option("--particles", required=True, metavar="FILE", help="Its particles, with poses: .star or .cs.")
@click.option("--mask", "mask_path", metavar="FILE", help="Mask of the map's box; 0.5 and above may change.")
@click.option(
    "--path-to",
    "path_to",
    multiple=True,
    metavar="FILE",
    help="Another map in the same frame: what the images tell along the path to it. Several make a path of frames. Or "
    "models (.pdb), the first fitted into the map.",
)
@click.option(
    "--other-particles",
    metavar="FILE",
    help="Particles of the map of --path-to: would one map explain both sets, or are there two?",
)
@click.option("--no-shifts", is_flag=True, help="Shifts of particles are known.")
@run_options
@model_options(SoftmodesParameters, skip=("shifts",))
def command(
    map_path: str,
    particles: str,
    mask_path: str | None,
    path_to: tuple[str, ...],
    other_particles: str | None,
    no_shifts: bool,
    out: str,
    threads: int | None,
    overwrite: bool,
    resume: bool,
    quiet: bool,
    **values: Any,
) -> None:
    """Find the softest deformations of a map: those that its images can hardly tell from it.

    Without --images no image is read, and none need be there. Writes mode_NN.mrc with mode_NN_plus.mrc and
    mode_NN_minus.mrc, uncertainty.mrc, spectrum.csv, particles_softmodes.*, summary.json, report.html and report.pdf
    into DIR; with the what-if options what_if.csv, with --path-to path.csv.
    """
    parameters = build(SoftmodesParameters, {**values, "shifts": not no_shifts})
    # Numerical libraries take seconds to load: not before the options are known to be sound.
    from threadpoolctl import threadpool_limits

    from napari_pickbias.records import open_particles
    from napari_pickbias.runs.softmodes import run_softmodes

    source = open_particles(particles)
    job = run_softmodes(
        map_path, source, parameters, out, mask_path=mask_path, path_to=path_to, other_particles=other_particles,
        threads=threads or allowed_cores(), overwrite=overwrite, resume=resume,
    )  # fmt: skip
    with threadpool_limits(limits=threads or allowed_cores()):
        run = drive(job, quiet=quiet)
    if not quiet:
        tell(run, lambda _: closing_lines(run.result))


def closing_lines(result: SoftmodesResult) -> list[str]:
    """Return the verdict, the spectrum, and what other data would give."""
    found = result.found
    lines = [
        f"verdict: {result.verdict.code.replace('_', ' ')}: {result.verdict.text}",
        "mode  eigenvalue  known poses  amplitude  pose change",
    ]
    for index in range(len(found.eigenvalues)):
        lines.append(
            f"{index + 1:4d}  {found.eigenvalues[index]:10.4g}  {found.known_pose_eigenvalues[index]:11.4g}  "
            f"{found.amplitude_fraction[index]:9.2%}  {found.pose_change_deg[index]:10.3g}°"
        )
    for row in (*result.scenarios, *result.advice):
        lines.append(f"what if: {row.name}: softest {row.eigenvalues[0]:.4g}, information x {row.gain:.3g}")
    return lines
