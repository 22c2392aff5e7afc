"""``pickbias convert``."""

from __future__ import annotations

from pathlib import Path

import click

from napari_pickbias.errors import InputError


@click.command("convert", short_help="Convert particles between CryoSPARC (.cs) and RELION (.star).")
@click.argument("source")
@click.option("--to", "target", required=True, metavar="FILE", help="The file to write: .star or .cs.")
@click.option(
    "--micrograph-y",
    type=click.Choice(["same", "flipped", "auto"]),
    default="same",
    show_default=True,
    help="same: both programs read the same MRC micrographs; flipped: RELION made its own from TIFF or EER movies; "
    "auto: ask the images (to .star).",
)
@click.option(
    "--micrographs", metavar="DIR", default=None, help="RELION's micrographs, for --micrograph-y auto; default: own."
)
@click.option("--strip-uids", is_flag=True, help="Take CryoSPARC's 21-digit prefix off micrograph names (to .star).")
@click.option("--link-stacks", is_flag=True, help="Link each .mrc stack as .mrcs, as RELION wants (to .star).")
@click.option(
    "--uids", metavar="CSV", default=None, help="Side table with the uids (to .cs); default: SOURCE's, where there."
)
@click.option("--overwrite", is_flag=True, help="Replace FILE and what stands beside it.")
@click.option("--quiet", is_flag=True, help="No closing lines; notes are still given.")
def command(
    source: str,
    target: str,
    micrograph_y: str,
    micrographs: str | None,
    strip_uids: bool,
    link_stacks: bool,
    uids: str | None,
    overwrite: bool,
    quiet: bool,
) -> None:
    """Convert a particle file; what to is said by the suffix of FILE.

    SOURCE is a CryoSPARC .cs or .csg file, a job or export folder (--to FILE.star), or a RELION STAR file
    (--to FILE.cs). A table of uids is written beside the STAR file, and a .csg beside the .cs file.
    """
    from napari_pickbias.records.converters import find_converter

    convert = find_converter(source)
    there = Path(target)
    if there.is_dir():
        raise InputError(f"--to {target}: is a folder; give the file to write")
    if there.suffix.lower() != ".star" and (strip_uids or link_stacks):
        raise InputError(f"{'--strip-uids' if strip_uids else '--link-stacks'}: is for --to FILE.star; leave it out")
    if there.suffix.lower() != ".cs" and uids is not None:
        raise InputError(f"--uids {uids}: is for --to FILE.cs; leave it out")
    if micrographs is not None and micrograph_y != "auto":
        raise InputError(f"--micrographs {micrographs}: is for --micrograph-y auto; leave it out")
    done = convert(
        source,
        target,
        micrograph_y=micrograph_y,
        micrographs=micrographs,
        strip_uids=strip_uids,
        link_stacks=link_stacks,
        uids=uids,
        overwrite=overwrite,
    )
    for note in done.notes:
        click.echo(f"note: {note}", err=True)
    if not quiet:
        for file in done.files:
            click.echo(f"wrote {file}")
