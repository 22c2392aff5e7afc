"""Tomograms from whatever names them: a list of some pipeline, a folder, a pattern, or one file.

The adapters announce the lists they read through the entry point group ``napari_pickbias.tomogram_sources``, one entry
per file suffix.
"""

from __future__ import annotations

import glob
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path

from napari_pickbias.errors import InputError
from napari_pickbias.records.mrc_header import MrcHeader, read_header

TOMOGRAM_SOURCES = "napari_pickbias.tomogram_sources"
SUFFIXES = (".mrc", ".rec", ".map")
TOLERANCE = 0.01


@dataclass(frozen=True)
class TomogramSet:
    """Tomograms of one voxel size; their voxels stay on disk.

    Attributes
    ----------
    paths : tuple of Path
    names : tuple of str
        ``rlnTomoName`` of a list, else the file's name without its suffix; all different.
    shapes : tuple of (d, h, w)
        Sections, rows, columns: z, y, x.
    voxel_size_angstrom : float
    list_file : Path or None
        The file that lists them.
    notes : tuple of str
        Warnings gathered while reading.
    """

    paths: tuple[Path, ...]
    names: tuple[str, ...]
    shapes: tuple[tuple[int, int, int], ...]
    voxel_size_angstrom: float
    list_file: Path | None = None
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.paths)

    def input_files(self) -> list[Path]:
        """Return every file that a result depends on, the list first."""
        return [*([self.list_file] if self.list_file is not None else []), *self.paths]


@dataclass(frozen=True)
class TomogramList:
    """What a list of some pipeline says: names, files, and voxel sizes where it has them (None: the files' headers)."""

    names: tuple[str, ...]
    paths: tuple[Path, ...]
    voxel_sizes_angstrom: tuple[float, ...] | None = None
    notes: tuple[str, ...] = ()


def open_tomograms(where: str | Path, pixel_size_angstrom: float | None = None) -> TomogramSet:
    """Find tomograms and check their headers.

    Parameters
    ----------
    where : str or Path
        A list (RELION 5's ``tomograms.star``), a folder or a pattern of ``.mrc``, ``.rec`` or ``.map`` files, or one.
    pixel_size_angstrom : float, optional
        Voxel size; overrides what the data say.

    Raises
    ------
    InputError
        When there is nothing of that name, a file is no tomogram, or there is no one voxel size.
    """
    path = Path(where)
    if path.is_dir():
        return _checked(_named([p for p in sorted(path.iterdir()) if _is_volume(p)], where), pixel_size_angstrom)
    if path.is_file():
        if _is_volume(path):
            return _checked(_named([path], where), pixel_size_angstrom)
        return _checked(_of_list(path), pixel_size_angstrom, path)
    if glob.has_magic(str(where)):
        found = [Path(name) for name in sorted(glob.glob(str(where)))]  # noqa: PTH207 (also for absolute patterns)
        return _checked(_named([p for p in found if _is_volume(p)], where), pixel_size_angstrom)
    raise InputError(f"--tomograms {where}: no such file or folder; check the path")


def _is_volume(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and path.is_file()


def _named(files: list[Path], where: str | Path) -> TomogramList:
    if not files:
        raise InputError(f"--tomograms {where}: no tomograms (.mrc, .rec, .map) are there; give their folder or a list")
    stems = [path.stem for path in files]
    if len(set(stems)) < len(stems):
        twice = Counter(stems).most_common(1)[0][0]
        raise InputError(f"--tomograms {where}: two tomograms are called {twice}; give a list that names them")
    return TomogramList(tuple(stems), tuple(files))


def _of_list(path: Path) -> TomogramList:
    for entry in entry_points(group=TOMOGRAM_SOURCES):
        if path.suffix.lower() == f".{entry.name}":
            reader: Callable[[Path], TomogramList] = entry.load()
            return reader(path)
    raise InputError(f"--tomograms {path}: cannot tell what this file is; give .mrc, .rec, .map or a tomograms.star")


def _checked(found: TomogramList, pixel_size: float | None, list_file: Path | None = None) -> TomogramSet:
    shapes: list[tuple[int, int, int]] = []
    sizes: list[float] = []
    notes = list(found.notes)
    for number, path in enumerate(found.paths):
        header = read_header(path)
        _refuse_other(header)
        stated = _voxel(header)
        listed = None if found.voxel_sizes_angstrom is None else found.voxel_sizes_angstrom[number]
        size = pixel_size or listed or stated
        if size is None:
            raise InputError(f"{path}: its header holds no voxel size; give it in Å with --pixel-size")
        if stated is not None and stated != 1.0 and abs(stated - size) > 0.02 * size:
            notes.append(
                f"{path}: its header says {stated:.4g} Å a voxel, but {size:.4g} Å is used; check --pixel-size"
            )
        if stated == size == 1.0 and pixel_size is None:
            notes.append(f"{path}: its header says 1 Å a voxel, as headers do that were never set; check --pixel-size")
        if sizes and abs(size - sizes[0]) > TOLERANCE * sizes[0]:
            raise InputError(
                f"{path}: has {size:.4g} Å a voxel, {found.paths[0]} {sizes[0]:.4g} Å; pick tomograms of one voxel "
                "size at a time"
            )
        sizes.append(float(size))
        shapes.append(header.shape)
    return TomogramSet(found.paths, found.names, tuple(shapes), sizes[0], list_file, tuple(notes))


def _refuse_other(header: MrcHeader) -> None:
    if header.shape[0] == 1:
        raise InputError(f"{header.path}: holds one image, not a tomogram; for micrographs give --micrographs")
    if header.kind == "volume stack" and header.volumes > 1:
        raise InputError(
            f"{header.path}: holds {header.volumes} maps, not one tomogram; save each in a file of its own"
        )
    if header.axes != (1, 2, 3):
        raise InputError(f"{header.path}: its columns, rows and sections are not x, y and z; write it in that order")


def _voxel(header: MrcHeader) -> float | None:
    """Return the voxel size of a header, None where it is not set; z is not looked at in headers without it."""
    x, y, z = header.voxel_size_angstrom
    if x is None or y is None:
        return None
    if max(abs(x - y), abs(x - (x if z is None else z))) > 1e-3 * x and header.kind != "stack":
        raise InputError(
            f"{header.path}: its voxels are {x:.4g} × {y:.4g} × {z or x:.4g} Å, not cubes; give the size with "
            "--pixel-size, or resample it"
        )
    return x
