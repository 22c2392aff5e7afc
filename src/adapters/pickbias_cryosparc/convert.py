"""``.cs`` to STAR and back, by the suffixes of the two files."""

from __future__ import annotations

from pathlib import Path

from napari_pickbias.errors import InputError
from pickbias_cryosparc.from_star import star_to_cs
from pickbias_cryosparc.to_star import Converted, MicrographY, cs_to_star

__all__ = ["Converted", "convert", "cs_to_star", "star_to_cs"]


def convert(
    source: str | Path,
    target: str | Path,
    *,
    micrograph_y: MicrographY = "same",
    strip_uids: bool = False,
    link_stacks: bool = False,
    uids: str | Path | None = None,
) -> Converted:
    """Convert a particle file; see :func:`cs_to_star` and :func:`star_to_cs` for the options.

    Raises ``InputError`` when the two suffixes name no conversion, or the target is the source.
    """
    source, target = Path(source), Path(target)
    if not source.exists():
        raise InputError(f"{source}: no such file; check the path, which is taken from the current directory")
    if target.exists() and target.samefile(source):
        raise InputError(f"{target}: is the input itself, which is never written to; give another name")
    if micrograph_y not in ("same", "flipped"):
        raise InputError(f"--micrograph-y: is '{micrograph_y}'; give same or flipped")
    from_cs = source.is_dir() or source.suffix.lower() in {".cs", ".csg"}
    if from_cs and target.suffix.lower() == ".star":
        return cs_to_star(source, target, micrograph_y=micrograph_y, strip_uids=strip_uids, link_stacks=link_stacks)
    if source.suffix.lower() == ".star" and target.suffix.lower() == ".cs":
        return star_to_cs(source, target, uids=uids, micrograph_y=micrograph_y)
    raise InputError(
        f"--to {target}: cannot convert {source.name} to that; give .star for CryoSPARC files and .cs for STAR files"
    )
