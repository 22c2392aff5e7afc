"""MRC files: headers, pixels that stay on disk until they are used, and files written whole or not at all."""

from __future__ import annotations

import contextlib
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
from mrcfile.dtypes import HEADER_DTYPE
from numpy.typing import ArrayLike, DTypeLike, NDArray

from napari_pickbias import __version__
from napari_pickbias.records.atomic import atomic_path
from napari_pickbias.records.mrc_header import (
    IMOD_FLAGS_OFFSET,
    IMOD_STAMP,
    IMOD_STAMP_OFFSET,
    MrcHeader,
    check_size,
    open_stream,
    read_bytes,
    read_header,
)

__all__ = ["MrcHeader", "StackWriter", "open_data", "read_header", "write_mrc"]

_MODE_OF = {"i1": 0, "u1": 0, "i2": 1, "f4": 2, "u2": 6, "f2": 12}
_PIECE = 1 << 24  # values a pass: statistics in bounded memory


def open_data(path: str | Path) -> NDArray[Any]:
    """Open the pixels of an MRC file.

    Parameters
    ----------
    path : str or Path
        Plain files are memory-mapped read-only; gzip and bzip2 files are unpacked into memory.

    Returns
    -------
    ndarray, shape (ny, nx), (nz, ny, nx) or (volumes, nz, ny, nx)
        Two axes for one image, three for a stack or a map, four for a stack of maps; as stored: sections, rows,
        columns, in the file's type and byte order. Read-only.

    Raises
    ------
    InputError
        As :func:`read_header`, and when a compressed file is damaged or ends early.
    """
    header = read_header(path)
    shape = _array_shape(header)
    if not header.compression:
        return np.memmap(header.path, header.dtype, "r", header.data_offset, shape)
    with open_stream(header.path, header.compression) as stream:
        unpacked = read_bytes(header.path, stream, header.data_offset + header.data_bytes)
    check_size(header, len(unpacked))
    return np.frombuffer(unpacked, header.dtype, offset=header.data_offset).reshape(shape)


def _array_shape(header: MrcHeader) -> tuple[int, ...]:
    nz, ny, nx = header.shape
    if header.kind == "image":
        return ny, nx
    if header.kind == "volume stack":
        return header.volumes, nz // header.volumes, ny, nx
    return nz, ny, nx


class StackWriter:
    """Writes images one chunk after another; the file appears when all of them are there.

    Parameters
    ----------
    path : str or Path
        The file to make; an existing one is replaced at the end.
    shape : tuple of int
        ``(n, ny, nx)`` of the whole.
    voxel_size_angstrom : float or None
        Pixel size; None leaves it unset (0) in the header.
    dtype : dtype-like, default float32
        One of int8, uint8 (marked as IMOD does), int16, uint16, float16, float32; its byte order is kept.
    volume : bool, default False
        Write the header of a map instead of a stack of images.
    origin_angstrom : tuple of float, default (0, 0, 0)
        x, y, z.

    Raises
    ------
    InputError
        On a full disk or a folder that cannot be written. Nothing is left behind.
    ValueError
        When the chunks do not add up to ``shape``.

    Examples
    --------
    >>> with StackWriter("kept.mrcs", (1000, 64, 64), 1.2) as stack:  # doctest: +SKIP
    ...     for chunk in chunks:
    ...         stack.append(chunk)
    """

    def __init__(
        self,
        path: str | Path,
        shape: tuple[int, int, int],
        voxel_size_angstrom: float | None,
        *,
        dtype: DTypeLike = np.float32,
        volume: bool = False,
        origin_angstrom: tuple[float, float, float] = (0.0, 0.0, 0.0),
    ) -> None:
        self.dtype = np.dtype(dtype)
        if self.dtype.str[1:] not in _MODE_OF:
            raise ValueError(f"MRC has no mode for {self.dtype.name}; convert to float32 first")
        if min(shape) < 1:
            raise ValueError(f"an MRC file cannot hold an array of shape {shape}")
        self.path, self.shape = Path(path), shape
        self._header = _new_header(self.dtype, shape, voxel_size_angstrom, volume, origin_angstrom)
        self._statistics = _Statistics()
        self._done = 0

    def __enter__(self) -> StackWriter:
        with contextlib.ExitStack() as stack:  # a fault while opening is told like any other
            temporary = stack.enter_context(atomic_path(self.path))
            self._stream: BinaryIO = stack.enter_context(temporary.open("wb"))
            self._write(self._header.tobytes())
            self._exit = stack.pop_all()
        return self

    def append(self, images: ArrayLike) -> None:
        """Add ``(m, ny, nx)`` images (or one ``(ny, nx)`` image); values are cast to the file's type."""
        chunk = np.asarray(images)
        chunk = chunk[None] if chunk.ndim == 2 else chunk
        if chunk.shape[1:] != self.shape[1:] or self._done + len(chunk) > self.shape[0]:
            raise ValueError(f"{chunk.shape} does not fit into {self.shape} after {self._done}")
        step = max(1, _PIECE // (self.shape[1] * self.shape[2]))
        for start in range(0, len(chunk), step):
            piece = np.ascontiguousarray(chunk[start : start + step], self.dtype)
            self._statistics.add(piece)
            self._write(piece.reshape(-1).view(np.uint8).data)
        self._done += len(chunk)

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if fault is not None:
            self._exit.__exit__(kind, fault, traceback)
            return
        with self._exit:
            if self._done != self.shape[0]:
                raise ValueError(f"{self._done} of {self.shape[0]} images were written")
            self._statistics.put(self._header)
            self._stream.seek(0)
            self._write(self._header.tobytes())

    def _write(self, data: bytes | memoryview) -> None:
        self._stream.write(data)


class _Statistics:
    """Minimum, maximum, mean and deviation of values that come in pieces (pairwise update of Chan et al. 1979)."""

    def __init__(self) -> None:
        self.count, self.mean, self.squares = 0, 0.0, 0.0
        self.least, self.most = np.inf, -np.inf

    def add(self, piece: NDArray[Any]) -> None:
        values = piece if piece.dtype.itemsize > 2 else piece.astype(np.float32)  # float16 sums overflow
        mean = float(values.mean(dtype=np.float64))
        squares = float(values.var(dtype=np.float64)) * values.size
        shift, total = mean - self.mean, self.count + values.size
        self.squares += squares + shift * shift * self.count * values.size / total
        self.mean += shift * values.size / total
        self.count = total
        self.least, self.most = min(self.least, float(values.min())), max(self.most, float(values.max()))

    def put(self, header: NDArray[Any]) -> None:
        header["dmin"], header["dmax"], header["dmean"] = self.least, self.most, self.mean
        header["rms"] = np.sqrt(self.squares / self.count)


def _new_header(
    dtype: np.dtype[Any],
    shape: tuple[int, int, int],
    voxel_size_angstrom: float | None,
    volume: bool,
    origin_angstrom: tuple[float, float, float],
) -> NDArray[Any]:
    order = ">" if dtype.str[0] == ">" else "<"
    header = np.zeros((), HEADER_DTYPE.newbyteorder(order))
    nz, ny, nx = shape
    voxel = voxel_size_angstrom or 0.0
    header["nx"], header["ny"], header["nz"] = header["mx"], header["my"], _ = nx, ny, nz
    header["mz"], header["ispg"] = (nz, 1) if volume else (1, 0)
    header["mode"], header["nversion"], header["map"], header["nlabl"] = _MODE_OF[dtype.str[1:]], 20141, b"MAP ", 1
    header["mapc"], header["mapr"], header["maps"] = 1, 2, 3
    header["cella"] = (nx * voxel, ny * voxel, int(header["mz"]) * voxel)
    header["cellb"], header["origin"] = (90.0, 90.0, 90.0), origin_angstrom
    header["dmin"], header["dmax"], header["dmean"], header["rms"] = 0.0, -1.0, -2.0, -1.0  # "not determined" yet
    header["machst"] = (0x44, 0x44, 0, 0) if order == "<" else (0x11, 0x11, 0, 0)
    header["label"][0] = f"napari-pickbias {__version__}".encode()
    if dtype.str[1:] == "u1":  # only IMOD's stamp can say that bytes are unsigned
        extra = bytearray(header.dtype["extra2"].itemsize)
        extra[IMOD_STAMP_OFFSET : IMOD_FLAGS_OFFSET + 4] = np.array([IMOD_STAMP, 0], order + "i4").tobytes()
        header["extra2"] = bytes(extra)
    return header


def write_mrc(
    path: str | Path,
    array: ArrayLike,
    voxel_size_angstrom: float | None,
    *,
    stack: bool = False,
    dtype: DTypeLike = np.float32,
    origin_angstrom: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> Path:
    """Write an image, a stack or a map, whole or not at all.

    Parameters
    ----------
    path : str or Path
    array : array-like, shape (ny, nx) or (nz, ny, nx)
    voxel_size_angstrom : float or None
        Pixel or voxel size, Å; None leaves it unset.
    stack : bool, default False
        Three axes are a stack of images, not a map.
    dtype : dtype-like, default float32
        Stored type; ``np.float16`` is mode 12.
    origin_angstrom : tuple of float, default (0, 0, 0)
        x, y, z.

    Returns
    -------
    Path
        ``path``.

    Raises
    ------
    InputError
        On a full disk, or a folder that is missing or not writable.
    """
    values = np.asarray(array)
    if values.ndim not in {2, 3}:
        raise ValueError(f"an MRC file holds an array of 2 or 3 axes, not {values.ndim}")
    volume = values.ndim == 3 and not stack
    values = values[None] if values.ndim == 2 else values
    shape = (values.shape[0], values.shape[1], values.shape[2])
    with StackWriter(
        path, shape, voxel_size_angstrom, dtype=dtype, volume=volume, origin_angstrom=origin_angstrom
    ) as out:
        out.append(values)
    return Path(path)
