"""Where the files are that a STAR file names: paths relative to the RELION project's folder."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

# RELION's way to say the format of a file with an unusual suffix: tilt.st:mrc
_FORMAT = re.compile(r":mrcs?$")


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
        found = _find(relative, roots) or _find(_FORMAT.sub("", relative), roots)
        if found is None:
            yield None
            continue
        root, path = found
        roots.remove(root)
        roots.insert(0, root)
        yield path


def _find(name: str, roots: Sequence[Path]) -> tuple[Path, Path] | None:
    """Return the first folder in which the file is, and the file."""
    return next(((root, root / name) for root in roots if name and (root / name).is_file()), None)


def tried(star_path: Path) -> str:
    """Say where :func:`resolve_all` looked, for messages."""
    folder = Path(os.path.abspath(star_path)).parent  # noqa: PTH100
    linked = star_path.resolve().parent
    also = f", {linked} and those above it" if linked != folder else ""
    return f"{folder} and every folder above it{also}, and {Path.cwd()}"
