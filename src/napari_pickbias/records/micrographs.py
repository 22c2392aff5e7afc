"""Micrographs from whatever names them: a list of some pipeline, a folder, a pattern, or one file.

The adapters announce the lists they read through the entry point group ``napari_pickbias.micrograph_sources``, one
entry per file suffix.
"""

from __future__ import annotations

import glob
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path

import numpy as np

from napari_pickbias.errors import InputError
from napari_pickbias.records.mrc_header import MrcHeader, read_header
from napari_pickbias.records.volume import Micrographs, micrographs_from_files

MICROGRAPH_SOURCES = "napari_pickbias.micrograph_sources"
IMAGE_SUFFIXES = (".mrc", ".mrc.gz", ".mrc.bz2")
"""Files of a folder that count as micrographs."""

OpenList = Callable[[Path, float | None], "MicrographSet"]


@dataclass(frozen=True)
class MicrographSet:
    """Micrographs and where they came from.

    Attributes
    ----------
    micrographs : Micrographs
        Their files, pixel sizes, CTF and names; pixels stay on disk.
    source : Path
        What the user gave.
    list_file : Path or None
        The file that lists them; None for a folder or a pattern.
    notes : tuple of str
        Warnings gathered while reading.
    """

    micrographs: Micrographs
    source: Path
    list_file: Path | None = None
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.micrographs)

    def input_files(self) -> list[Path]:
        """Return every file that a result depends on, the list first."""
        return [*([self.list_file] if self.list_file is not None else []), *self.micrographs.paths]


def open_micrographs(where: str | Path, pixel_size_angstrom: float | None = None) -> MicrographSet:
    """Find micrographs.

    Parameters
    ----------
    where : str or Path
        A list (RELION's ``micrographs.star``, cryoSPARC's ``.cs``), a folder of ``.mrc`` files, a pattern such as
        ``Movies/*.mrc``, or one ``.mrc`` file.
    pixel_size_angstrom : float, optional
        Overrides what the data say.

    Raises
    ------
    InputError
        When there is nothing of that name, no micrographs in it, no pixel size, or no adapter reads the list.
    """
    path = Path(where)
    if pixel_size_angstrom is not None and not (np.isfinite(pixel_size_angstrom) and pixel_size_angstrom > 0):
        raise InputError(f"--pixel-size {pixel_size_angstrom}: must be a number above 0, in Å")
    if path.is_dir():
        return _of_files(path, [p for p in sorted(path.iterdir()) if _is_image(p)], pixel_size_angstrom)
    if path.is_file():
        if _is_image(path):
            return _of_files(path, [path], pixel_size_angstrom)
        return _of_list(path, pixel_size_angstrom)
    if glob.has_magic(str(where)):
        found = [Path(name) for name in sorted(glob.glob(str(where)))]  # noqa: PTH207 (also for absolute patterns)
        return _of_files(path, [p for p in found if _is_image(p)], pixel_size_angstrom)
    raise InputError(f"--micrographs {where}: no such file or folder; check the path")


def _is_image(path: Path) -> bool:
    return path.name.lower().endswith(IMAGE_SUFFIXES) and path.is_file()


def _of_files(where: Path, files: list[Path], pixel_size: float | None) -> MicrographSet:
    if not files:
        raise InputError(
            f"--micrographs {where}: no micrographs (.mrc) are there; give their folder, a pattern or a list"
        )
    return MicrographSet(micrographs_from_files(files, pixel_size), where)


def _of_list(path: Path, pixel_size: float | None) -> MicrographSet:
    suffix = path.suffix.lower()
    entries = entry_points(group=MICROGRAPH_SOURCES)
    for entry in entries:
        if suffix == f".{entry.name}":
            reader: OpenList = entry.load()
            return reader(path, pixel_size)
    known = ", ".join(sorted({*(f".{e.name}" for e in entries), *IMAGE_SUFFIXES}))
    raise InputError(f"--micrographs {path}: cannot tell what this file is; known suffixes are {known}")


def read_headers(micrographs: Micrographs) -> list[MrcHeader]:
    """Read and check the header of every micrograph.

    Raises
    ------
    InputError
        For the first file that is missing, cut short, damaged, or no single image.
    """
    headers = []
    for path in micrographs.paths:
        header = read_header(path)
        if header.shape[0] != 1:
            raise InputError(f"{path}: holds {header.describe()}, not one micrograph; align and average movies first")
        headers.append(header)
    return headers


def one_pixel_size(micrographs: Micrographs) -> float:
    """Return the pixel size that all micrographs share, Å.

    Raises
    ------
    InputError
        When they have several (by more than 1 part in 1000).
    """
    sizes = np.asarray(micrographs.pixel_size_angstrom, np.float64)
    if float(np.ptp(sizes)) > 1e-3 * float(sizes[0]):
        odd = int(np.argmax(np.abs(sizes - sizes[0]) > 1e-3 * sizes[0]))
        raise InputError(
            f"{micrographs.names[odd]}: its pixel size is {sizes[odd]:g} Å, that of {micrographs.names[0]} is "
            f"{sizes[0]:g} Å; pick micrographs of each pixel size by themselves"
        )
    return float(sizes[0])
