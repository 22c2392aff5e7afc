"""Pick tables: all that a file tells of its picks or particles, and writing chosen rows of it back unchanged.

The science reads only the columns it needs (:mod:`napari_pickbias.records.sources`); who looks at picks wants all of
them. The adapters announce themselves through the entry point group ``napari_pickbias.pick_sources``, one entry per
file suffix.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from napari_pickbias.errors import InputError
from napari_pickbias.records.pick_edits import PickEdits

PICK_SOURCES = "napari_pickbias.pick_sources"


@dataclass(frozen=True)
class PickTable:
    """The rows of a file with picks, particles or micrographs.

    Attributes
    ----------
    features : DataFrame
        Every column of the file that holds one value a row: floats, integers, or categories of text.
    coordinates_px : ndarray, shape (n, 2), or None
        x, y in unbinned micrograph pixels, rows counted in the order of the micrograph's file.
    micrograph : ndarray of int, shape (n,), or None
        Index into ``micrograph_names``.
    micrograph_names : tuple of str
        As the file has them, in order of appearance.
    micrograph_paths : tuple of (Path or None)
        Where the images are; None for those that are not there.
    pixel_size_angstrom : float or None
        Of the unbinned micrographs; None where the file does not say it.
    has_images : bool
        Whether the rows name particle images of their own.
    notes : tuple of str
    coordinate_columns : tuple of str
        The features that hold x and y as ``coordinates_px`` does; empty where none do.
    z_px : ndarray, shape (n,), or None
        Of picks in tomograms, in the same pixels: ``micrograph`` and its kin then speak of tomograms.
    """

    features: pd.DataFrame
    coordinates_px: NDArray[np.float64] | None = None
    micrograph: NDArray[np.int64] | None = None
    micrograph_names: tuple[str, ...] = ()
    micrograph_paths: tuple[Path | None, ...] = ()
    pixel_size_angstrom: float | None = None
    has_images: bool = False
    notes: tuple[str, ...] = field(default=())
    coordinate_columns: tuple[str, ...] = ()
    z_px: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.features)


class PickSource(Protocol):
    """A file of some pipeline whose rows can be looked at and chosen from."""

    path: Path
    """The file that was opened."""

    suffix: str
    """Suffix of what is written from it."""

    def read(self) -> PickTable:
        """Read all columns. Raises ``InputError`` where the file is damaged."""
        ...

    def write_subset(
        self,
        keep: NDArray[np.bool_],
        target: Path,
        columns: Mapping[str, NDArray[np.generic]] | None = None,
        edits: PickEdits | None = None,
    ) -> list[Path]:
        """Write the kept rows to ``target``, everything else unchanged, and ``columns`` as own columns.

        With ``edits``, moved rows have their new coordinates (where they are kept) and added picks follow as rows of
        their own: what all picks of their micrograph share is theirs too, every other column says "not measured".
        Raises ``InputError`` for edits of rows that have particle images, which would no longer belong to them.
        """
        ...


def open_picks(path: str | Path) -> PickSource:
    """Open a file with picks, particles or micrographs of any pipeline known here.

    Raises
    ------
    InputError
        When the file does not exist, or no adapter reads its suffix.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file; check the path, which is taken from the current directory")
    entries = entry_points(group=PICK_SOURCES)
    for entry in entries:
        if path.suffix.lower() == f".{entry.name}":
            source: PickSource = entry.load()(path)
            return source
    known = ", ".join(sorted(f".{e.name}" for e in entries)) or "none (the adapters are not installed)"
    raise InputError(f"{path}: cannot tell what kind of pick file this is; known suffixes are {known}")
