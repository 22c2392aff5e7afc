"""RELION micrograph STAR files: names, pixel sizes, CTF."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_pickbias.errors import InputError
from napari_pickbias.records.micrographs import MicrographSet
from napari_pickbias.records.particles import CtfParameters
from napari_pickbias.records.volume import Micrographs
from pickbias_relion.project_paths import resolve_all, tried
from pickbias_relion.star import open_star
from pickbias_relion.star_columns import FloatArray, IntArray, read_columns
from pickbias_relion.star_index import text_of
from pickbias_relion.star_optics import (
    CTF_LABELS,
    OLD_PIXEL_LABELS,
    ctf_parameters,
    group_of_rows,
    pixel_sizes,
    read_optics,
)
from pickbias_relion.star_write import ctf_columns, loop_text, optics_columns, write_tables

NAMES = ("rlnMicrographName", "rlnMicrographMovieName")
PIXEL_SIZES = ("rlnMicrographPixelSize", "rlnImagePixelSize", "rlnMicrographOriginalPixelSize", "rlnPixelSize")


@dataclass(frozen=True)
class MicrographList:
    """The micrographs of a STAR file.

    Attributes
    ----------
    star_path : Path
        The file.
    files : tuple of bytes, length n
        Names as they stand in the file.
    pixel_size_angstrom : ndarray, shape (n,)
        Å.
    optics_group : ndarray, shape (n,)
        Index into ``optics_group_names``.
    optics_group_names : tuple of str
    ctf : CtfParameters or None
        None without defocus values.
    notes : tuple of str
        Warnings gathered while reading.
    """

    star_path: Path
    files: tuple[bytes, ...]
    pixel_size_angstrom: FloatArray
    optics_group: IntArray
    optics_group_names: tuple[str, ...]
    ctf: CtfParameters | None
    notes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.files)

    @property
    def names(self) -> NDArray[np.str_]:
        """``(n,)`` decoded names."""
        return np.array([text_of(name) for name in self.files], np.str_)

    def paths(self) -> list[Path]:
        """Return where the images are.

        Raises
        ------
        InputError
            For the first that is not there.
        """
        found: list[Path] = []
        for name, path in zip(self.files, resolve_all(self.files, self.star_path), strict=True):
            if path is None:
                raise InputError(
                    f"{self.star_path}: names the micrograph {text_of(name)!r}, which is not there; looked in "
                    f"{tried(self.star_path)}; run in the RELION project's folder, or put the micrographs back"
                )
            found.append(path)
        return found


def read_micrographs(path: str | Path, pixel_size_angstrom: float | None = None) -> MicrographList:
    """Read a list of micrographs (or movies) of RELION 3.0, 3.1, 4 or 5.

    The pixel size is ``rlnMicrographPixelSize`` of the optics group; without it, as RELION does, that of the images or
    of the movies; in files of 3.0, ``rlnDetectorPixelSize`` (µm) · 10⁴ / ``rlnMagnification``.

    Raises
    ------
    InputError
        When the file lists no micrographs, has no pixel size, or a value is no number.
    """
    star = open_star(path)
    table = next((t for t in star.tables if t.is_loop and any(name in t.labels for name in NAMES)), None)
    if table is None or table.n_rows == 0:
        raise InputError(f"{star.path}: lists no micrographs; give a micrographs.star with rlnMicrographName")
    label = next(name for name in NAMES if name in table.labels)
    floats = [x for x in (*PIXEL_SIZES, *OLD_PIXEL_LABELS, *CTF_LABELS) if x in table.labels]
    integers = [x for x in ("rlnOpticsGroup",) if x in table.labels]
    columns = read_columns(star, table, floats=floats, integers=integers, texts=[label])
    optics = read_optics(star)
    group = group_of_rows(star, table, columns, optics)
    ctf, ctf_notes = ctf_parameters(star, columns, optics, group)
    names = columns.texts[label]
    return MicrographList(
        star_path=star.path,
        files=tuple(names.values[code] for code in names.codes.tolist()),
        pixel_size_angstrom=pixel_sizes(star, table, columns, optics, group, PIXEL_SIZES, pixel_size_angstrom),
        optics_group=group,
        optics_group_names=optics.names,
        ctf=ctf,
        notes=(*star.notes, *ctf_notes),
    )


def open_micrographs(path: str | Path, pixel_size_angstrom: float | None = None) -> MicrographSet:
    """Open a list of micrographs for a job; see :func:`read_micrographs`.

    Raises
    ------
    InputError
        As :func:`read_micrographs`, and when a micrograph is not there.
    """
    found = read_micrographs(path, pixel_size_angstrom)
    names = tuple(found.names.tolist())
    micrographs = Micrographs(tuple(found.paths()), found.pixel_size_angstrom, found.ctf, names)
    return MicrographSet(micrographs, Path(path), Path(path), found.notes)


def write_micrographs(
    path: str | Path, names: Sequence[str], pixel_size_angstrom: ArrayLike, ctf: CtfParameters | None = None
) -> None:
    """Write a new list of micrographs; names relative to the project's folder.

    Raises
    ------
    InputError
        When the file cannot be written.
    ValueError
        Without micrographs.
    """
    optics, group = optics_columns("rlnMicrographPixelSize", pixel_size_angstrom, ctf, len(names))
    optics["rlnMicrographOriginalPixelSize"] = optics["rlnMicrographPixelSize"]
    columns = {"rlnMicrographName": np.asarray(names, np.str_), "rlnOpticsGroup": group, **ctf_columns(ctf)}
    write_tables(path, [loop_text("optics", optics), loop_text("micrographs", columns)])
