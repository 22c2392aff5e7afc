"""Maps, micrographs and templates as the science sees them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_pickbias.errors import InputError
from napari_pickbias.records.mrc import open_data
from napari_pickbias.records.mrc_header import MrcHeader, read_header
from napari_pickbias.records.particles import CtfParameters


@dataclass(frozen=True)
class Volume:
    """One density map.

    Attributes
    ----------
    data : ndarray of float32, shape (nz, ny, nx)
        Axes z, y, x, whatever order the file stored them in.
    voxel_size_angstrom : float
        Side of the cubic voxels.
    origin_angstrom : tuple of float
        x, y, z of the first voxel.
    """

    data: NDArray[np.float32]
    voxel_size_angstrom: float
    origin_angstrom: tuple[float, float, float] = (0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Templates:
    """Images to look for.

    Attributes
    ----------
    images : ndarray of float32, shape (n, box, box)
    pixel_size_angstrom : float
    """

    images: NDArray[np.float32]
    pixel_size_angstrom: float

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True)
class Micrographs:
    """Micrographs whose pixels stay on disk.

    Attributes
    ----------
    paths : tuple of Path
    pixel_size_angstrom : ndarray, shape (n,)
    ctf : CtfParameters or None
        None when the data carry no CTF.
    names : tuple of str
        As the user's files name them; the paths themselves unless given.
    """

    paths: tuple[Path, ...]
    pixel_size_angstrom: NDArray[np.float64]
    ctf: CtfParameters | None = None
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.names:
            object.__setattr__(self, "names", tuple(str(p) for p in self.paths))

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, index: int) -> NDArray[np.float32]:
        """Return one micrograph as ``(ny, nx)`` float32."""
        return read_micrograph(self.paths[index])


def read_micrograph(path: str | Path) -> NDArray[np.float32]:
    """Return the pixels of one micrograph as ``(ny, nx)`` float32.

    Raises ``InputError`` when the file holds several images (a movie) or cannot be read.
    """
    pixels = open_data(path)
    if pixels.ndim == 3 and len(pixels) == 1:
        pixels = pixels[0]
    if pixels.ndim != 2:
        raise InputError(f"{path}: holds {len(pixels)} images, not one micrograph; align and average the movie first")
    return np.array(pixels, np.float32)


def micrographs_from_files(paths: Sequence[Path], pixel_size_angstrom: float | None = None) -> Micrographs:
    """Return bare micrograph files as a record, with the pixel sizes of their headers unless one is given.

    Raises ``InputError`` when a file has no pixel size and none is given.
    """
    if pixel_size_angstrom is not None:
        return Micrographs(tuple(paths), np.full(len(paths), float(pixel_size_angstrom)))
    return Micrographs(tuple(paths), np.array([_needed(read_header(p)) for p in paths], np.float64))


def _needed(header: MrcHeader) -> float:
    size = header.pixel_size_angstrom
    if size is None:
        raise InputError(f"{header.path}: its header holds no pixel size; give it in Å with --pixel-size")
    return size


def read_volume(path: str | Path, voxel_size_angstrom: float | None = None) -> Volume:
    """Read a map (plain, gzip or bzip2).

    Parameters
    ----------
    path : str or Path
    voxel_size_angstrom : float, optional
        Overrides the header's.

    Returns
    -------
    Volume
        With axes z, y, x; the origin is the header's, or that of its grid start (nxstart …) where it has none.

    Raises
    ------
    InputError
        When the file holds one image or several maps, has no voxel size and none is given, or its voxels are not
        cubes (by more than 1 part in 1000).
    """
    header = read_header(path)
    data = open_data(path)
    if header.kind == "volume stack":
        if header.volumes != 1:
            raise InputError(f"{path}: holds {header.volumes} maps; save the one you mean in a file of its own")
        data = data[0]
    if header.kind == "stack":
        raise InputError(f"{path}: is {header.describe()}, not a map; if it is a map all the same, name it .map")
    if data.ndim != 3 or data.shape[0] == 1:
        raise InputError(f"{path}: holds one image, not a map; give a three-dimensional map")
    # Columns, rows, sections run along header.axes; the array's axes are sections, rows, columns.
    stored = tuple(3 - axis for axis in reversed(header.axes))
    data = np.ascontiguousarray(np.transpose(data, np.argsort(stored)), np.float32)
    size = voxel_size_angstrom or _cubic_voxel(header)
    origin = header.origin_angstrom
    if not any(origin):
        by_axis = dict(zip(header.axes, header.start, strict=True))
        origin = (by_axis[1] * size, by_axis[2] * size, by_axis[3] * size)
    return Volume(data, float(size), origin)


def _cubic_voxel(header: MrcHeader) -> float:
    x, y, z = header.voxel_size_angstrom
    if x is None or y is None:
        raise InputError(f"{header.path}: its header holds no voxel size; give it in Å with --pixel-size")
    z = x if z is None else z  # stacks of sections are often written without a length in z
    if max(abs(x - y), abs(x - z)) > 1e-3 * x:
        raise InputError(
            f"{header.path}: its voxels are {x:.4g} × {y:.4g} × {z:.4g} Å, not cubes; resample the map, or give the "
            "size with --pixel-size"
        )
    return x
