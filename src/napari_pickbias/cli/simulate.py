"""``pickbias simulate``."""

from __future__ import annotations

from typing import Any

import click

from napari_pickbias.cli.drive import drive
from napari_pickbias.cli.options import build, model_options, run_options
from napari_pickbias.errors import InputError
from napari_pickbias.jobs.simulate_micrographs_parameters import SimulateMicrographsParameters, SimulateNoiseParameters
from napari_pickbias.jobs.simulate_parameters import SimulateParticlesParameters
from napari_pickbias.runs.cores import allowed_cores


@click.group("simulate", short_help="Make data with known truth.")
def command() -> None:
    """Make data with known truth, to try a pipeline on."""


@command.command("particles")
@click.option("--noise", default="white", show_default=True, metavar="white|coloured|like:FILE", help="Noise.")
@click.option("--ctf/--no-ctf", default=True, help="Apply a CTF with random defocus.  [default: ctf]")
@run_options
@model_options(SimulateParticlesParameters, skip={"noise", "ctf"})
def particles(
    noise: str, out: str, threads: int | None, overwrite: bool, resume: bool, quiet: bool, **values: Any
) -> None:
    """Make a particle stack: particles.star, particles.mrcs and truth.star in DIR."""
    like = _like(noise)
    parameters = build(SimulateParticlesParameters, {**values, "noise": "like" if like else noise})
    from napari_pickbias.runs.simulate import run_simulate_particles

    job = run_simulate_particles(
        parameters,
        out,
        noise_like=like,
        threads=threads or allowed_cores(),
        overwrite=overwrite,
        resume=resume,
    )
    run = drive(job, quiet=quiet)
    if not quiet:
        made = ", ".join(f"{count} {kind}" for kind, count in run.summary["results"]["by_kind"].items() if count)
        click.echo(f"made {run.summary['results']['particles']} particle images: {made}")
        click.echo(f"particles: {run.files['particles']}")


@command.command("micrographs")
@click.option("--noise", default="white", show_default=True, metavar="white|coloured|like:FILE", help="Noise.")
@click.option("--ctf/--no-ctf", default=True, help="Apply a CTF with random defocus.  [default: ctf]")
@run_options
@model_options(SimulateMicrographsParameters, skip={"noise", "ctf"})
def micrographs(
    noise: str, out: str, threads: int | None, overwrite: bool, resume: bool, quiet: bool, **values: Any
) -> None:
    """Make micrographs with particles: micrographs.star, micrographs/*.mrc and truth.star in DIR."""
    like = _like(noise)
    parameters = build(SimulateMicrographsParameters, {**values, "noise": "like" if like else noise})
    from threadpoolctl import threadpool_limits

    from napari_pickbias.runs.simulate_micrographs import run_simulate_micrographs

    job = run_simulate_micrographs(parameters, out, noise_like=like, overwrite=overwrite, resume=resume)
    with threadpool_limits(limits=threads or allowed_cores()):
        run = drive(job, quiet=quiet)
    if not quiet:
        results = run.summary["results"]
        click.echo(f"made {results['micrographs']} micrographs with {results['particles']} particles")
        click.echo(f"micrographs: {run.files['micrographs']}")


@command.command("noise")
@click.option(
    "--like",
    required=True,
    multiple=True,
    metavar="FILE",
    help="Micrographs whose noise is taken: STAR, .cs, folder, pattern or .mrc; may be given several times.",
)
@run_options
@model_options(SimulateNoiseParameters)
def noise_micrographs(
    like: tuple[str, ...], out: str, threads: int | None, overwrite: bool, resume: bool, quiet: bool, **values: Any
) -> None:
    """Make noise micrographs with the spectra of given ones: micrographs.star and micrographs/*.mrc in DIR."""
    parameters = build(SimulateNoiseParameters, values)
    from threadpoolctl import threadpool_limits

    from napari_pickbias.runs.simulate_micrographs import run_simulate_noise

    job = run_simulate_noise(like, parameters, out, overwrite=overwrite, resume=resume)
    with threadpool_limits(limits=threads or allowed_cores()):
        run = drive(job, quiet=quiet)
    if not quiet:
        click.echo(f"made {run.summary['results']['micrographs']} noise micrographs")
        click.echo(f"micrographs: {run.files['micrographs']}")


def _like(noise: str) -> str | None:
    """Return the file of ``like:FILE``, or None for noise by name."""
    like = noise.removeprefix("like:") if noise.startswith("like:") else None
    if like == "" or (like is None and noise not in ("white", "coloured")):
        raise InputError(f"--noise {noise}: give white, coloured, or like:FILE with a micrograph or stack")
    return like
