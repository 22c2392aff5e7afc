"""Sources: a file of a pipeline that gives particles and can be written back as a subset.

The adapters announce themselves through the entry point group ``napari_pickbias.particle_sources`` (one entry per
file suffix), so no room of the package imports an adapter, and a new pipeline touches nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from napari_pickbias.errors import InputError
from napari_pickbias.records.particles import Particles

PARTICLE_SOURCES = "napari_pickbias.particle_sources"


class ParticleSource(Protocol):
    """A particle file of some pipeline."""

    path: Path
    """The file that was opened."""

    suffix: str
    """Suffix of subsets written from it: ``".star"``, ``".cs"`` or ``".mrcs"``."""

    def read(self, pixel_size_angstrom: float | None = None) -> Particles:
        """Read the columns that the science needs; images stay on disk.

        ``pixel_size_angstrom`` overrides the file's own. Raises ``InputError`` when something needed is missing.
        """
        ...

    def input_files(self) -> list[Path]:
        """Return every file that a result depends on: the metadata file first, then the stacks."""
        ...

    def write_subset(
        self, keep: NDArray[np.bool_], target: Path, columns: Mapping[str, NDArray[np.generic]] | None = None
    ) -> list[Path]:
        """Write the kept rows to ``target``, everything else unchanged; return the files written.

        ``columns`` (full length, one value per source row) are appended as own columns. The target appears whole
        or not at all.
        """
        ...


def open_particles(path: str | Path) -> ParticleSource:
    """Open a particle file of any pipeline known here.

    Parameters
    ----------
    path : str or Path
        ``.star`` (RELION), ``.cs`` (cryoSPARC), or a bare ``.mrcs``/``.mrc`` stack.

    Raises
    ------
    InputError
        When the file does not exist, or no adapter reads its suffix.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: no such file; check the path, which is taken from the current directory")
    if path.is_dir():
        raise InputError(f"{path}: is a folder; give the particle file in it (.star, .cs or .mrcs)")
    if not path.is_file():
        raise InputError(f"{path}: is not a regular file; give the particle file itself (.star, .cs or .mrcs)")
    suffix = path.suffix.lower()
    for entry in entry_points(group=PARTICLE_SOURCES):
        if suffix == f".{entry.name}":
            source: ParticleSource = entry.load()(path)
            return source
    if suffix in {".mrcs", ".mrc", ".st"}:
        from napari_pickbias.records.stack_source import StackSource

        return StackSource(path)
    known = ", ".join(sorted([f".{e.name}" for e in entry_points(group=PARTICLE_SOURCES)] + [".mrcs", ".mrc", ".st"]))
    raise InputError(f"{path}: cannot tell what kind of particle file this is; known suffixes are {known}")
