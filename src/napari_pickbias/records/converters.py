"""Converters between the particle files of two pipelines, found as the particle sources are.

The adapters announce them through the entry point group ``napari_pickbias.converters``, one entry per suffix of what is
converted; a folder counts as ``cs``, for only CryoSPARC gives folders that are particle groups.
"""

from __future__ import annotations

from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Protocol

from napari_pickbias.errors import InputError

CONVERTERS = "napari_pickbias.converters"


class Conversion(Protocol):
    """What a converter gives back."""

    @property
    def files(self) -> list[Path]:
        """Files written, the target first."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """What could not be carried over, or needs the user's eye."""
        ...


class Converter(Protocol):
    """A function that converts ``source`` to ``target``, whose suffix says to what."""

    def __call__(self, source: str | Path, target: str | Path, **options: Any) -> Conversion:
        """Convert; raises ``InputError`` for everything the user can mend."""
        ...


def find_converter(source: str | Path) -> Converter:
    """Return the converter for a particle file.

    Parameters
    ----------
    source : str or Path
        ``.cs``, ``.csg``, a CryoSPARC job or export folder, or ``.star``.

    Raises
    ------
    InputError
        When there is no such file, or no adapter converts files of its suffix.
    """
    source = Path(source)
    if not source.exists():
        raise InputError(f"{source}: no such file; check the path, which is taken from the current directory")
    suffix = ".cs" if source.is_dir() else source.suffix.lower()
    entries = entry_points(group=CONVERTERS)
    for entry in entries:
        if suffix == f".{entry.name}":
            converter: Converter = entry.load()
            return converter
    known = ", ".join(sorted(f".{e.name}" for e in entries)) or "none (the adapters are not installed)"
    raise InputError(f"{source}: cannot be converted; known suffixes are {known}, and folders of CryoSPARC jobs")
