"""Where the files are that a STAR file names: paths relative to the RELION project's folder."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path


def candidate_roots(star_path: Path) -> list[Path]:
    """Return the folders that may be the project's: those from the STAR file upwards, then the current one.

    A STAR file that is a symbolic link is looked for from both ends of the link.
    """
    found: dict[Path, None] = {}
    for start in (Path(os.path.abspath(star_path)), star_path.resolve()):  # noqa: PTH100 (resolve follows links)
        found.update(dict.fromkeys(start.parents))
    found[Path.cwd()] = None
    return list(found)


def resolve_all(names: Sequence[bytes], star_path: Path) -> Iterator[Path | None]:
    """Yield the existing file of each name, or None where there is none.

    The folder in which the first file was found is tried first for all the others, so a data set of many stacks costs
    one look at each.

    Parameters
    ----------
    names : sequence of bytes
        Names as they stand in the STAR file, absolute or relative to the project's folder.
    star_path : Path
        The STAR file.
    """
    roots = candidate_roots(star_path)
    for name in names:
        # Bytes that are no UTF-8 reach the file system as they are (PEP 383).
        relative = os.fsdecode(name)
        path = next((root / relative for root in roots if relative and (root / relative).is_file()), None)
        if path is not None and not Path(relative).is_absolute():
            root = next(root for root in roots if root / relative == path)
            roots.remove(root)
            roots.insert(0, root)
        yield path


def tried(star_path: Path) -> str:
    """Say where :func:`resolve_all` looked, for messages."""
    folder = Path(os.path.abspath(star_path)).parent  # noqa: PTH100
    linked = star_path.resolve().parent
    also = f", {linked} and those above it" if linked != folder else ""
    return f"{folder} and every folder above it{also}, and {Path.cwd()}"
