"""``.cs`` to STAR and back, by the suffixes of the two files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal, cast

import numpy as np

from napari_pickbias.errors import InputError
from pickbias_cryosparc.from_star import star_to_cs
from pickbias_cryosparc.micrograph_y import check_micrograph_y
from pickbias_cryosparc.to_star import Converted, MicrographY, cs_to_star

__all__ = ["Converted", "convert", "cs_to_star", "star_to_cs"]


def convert(
    source: str | Path,
    target: str | Path,
    *,
    micrograph_y: MicrographY | Literal["auto"] = "same",
    micrographs: str | Path | None = None,
    strip_uids: bool = False,
    link_stacks: bool = False,
    uids: str | Path | None = None,
    overwrite: bool = True,
) -> Converted:
    """Convert a particle file; see :func:`cs_to_star` and :func:`star_to_cs` for the options.

    ``micrograph_y="auto"`` compares particles of a CryoSPARC group with the micrographs that RELION will use (those in
    the folder ``micrographs``, by default CryoSPARC's own); a note says what was found.
    Without ``overwrite`` neither the target nor the file that is written beside it may be there already.

    Raises ``InputError`` when the two suffixes name no conversion, or the target is the source.
    """
    source, target = Path(source), Path(target)
    if not source.exists():
        raise InputError(f"{source}: no such file; check the path, which is taken from the current directory")
    if target.exists() and target.samefile(source):
        raise InputError(f"{target}: is the input itself, which is never written to; give another name")
    star = target.suffix.lower() == ".star"
    beside = target.with_name(f"{target.stem}_uids.csv") if star else target.with_suffix(".csg")
    for file in (target, beside):
        if file.exists() and not overwrite:
            raise InputError(f"{file}: exists already; give another name to --to, or --overwrite to replace it")
    if micrograph_y not in ("same", "flipped", "auto"):
        raise InputError(f"--micrograph-y: is '{micrograph_y}'; give same, flipped or auto")
    from_cs = source.is_dir() or source.suffix.lower() in {".cs", ".csg"}
    if from_cs and target.suffix.lower() == ".star":
        chosen, notes = _micrograph_y(source, micrographs) if micrograph_y == "auto" else (micrograph_y, ())
        done = cs_to_star(source, target, micrograph_y=chosen, strip_uids=strip_uids, link_stacks=link_stacks)
        return replace(done, notes=(*notes, *done.notes))
    if micrograph_y == "auto":
        raise InputError("--micrograph-y auto: compares the images of CryoSPARC files; give same or flipped")
    if source.suffix.lower() == ".star" and target.suffix.lower() == ".cs":
        return star_to_cs(source, target, uids=uids, micrograph_y=micrograph_y)
    raise InputError(
        f"--to {target}: cannot convert {source.name} to that; give .star for CryoSPARC files and .cs for STAR files"
    )


def _micrograph_y(source: Path, micrographs: str | Path | None) -> tuple[MicrographY, tuple[str, ...]]:
    """Return what the images say, and a note of it; ``InputError`` where they cannot tell."""
    # Which particles are compared must not change from call to call.
    found = check_micrograph_y(source, np.random.default_rng(0), micrographs=micrographs)
    figures = f"mean correlation {found.same:.2f} as they are, {found.flipped:.2f} turned over"
    if found.verdict == "undecided":
        raise InputError(
            f"--micrograph-y auto: {found.particles} particles of {source.name} cannot tell ({figures}); give same or "
            "flipped"
        )
    note = f"micrograph y is '{found.verdict}': {found.particles} particles compared with their micrographs, {figures}"
    return cast(MicrographY, found.verdict), (note,)
