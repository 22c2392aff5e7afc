"""The 1024-byte MRC header: what a file holds, read with the tolerance that real files need.

Layout after Cheng et al., "MRC2014: Extensions to the MRC format header for electron cryo-microscopy and tomography",
J. Struct. Biol. 192 (2015) 146, and IMOD's description of its own header words (imodStamp, imodFlags).
"""

from __future__ import annotations

import bz2
import gzip
import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from mrcfile.dtypes import HEADER_DTYPE

from napari_pickbias.errors import InputError

HEADER_BYTES = 1024
IMOD_STAMP = 1146047817
IMOD_STAMP_OFFSET, IMOD_FLAGS_OFFSET = 40, 44  # inside the field extra2
_IMOD_SIGNED_BYTES, _IMOD_NIBBLES = 1, 16

DTYPES = {0: "i1", 1: "i2", 2: "f4", 6: "u2", 12: "f2"}
"""Modes that are read, as NumPy types (mode 0 may also turn out to be unsigned)."""

_REFUSED = {
    3: "complex numbers (mode 3, a Fourier transform), not an image; give the real-space file",
    4: "complex numbers (mode 4, a Fourier transform), not an image; give the real-space file",
    16: "colour pictures (mode 16), not densities; save it with one value a pixel, such as mode 2",
    101: "packed 4-bit frames (mode 101), as unaligned movies do; give the motion-corrected micrograph, or convert it "
    "to mode 6 or 2",
}
_MODES = {*DTYPES, *_REFUSED}
_MOST_PIXELS_A_SIDE = 1 << 20

Kind = Literal["image", "stack", "volume", "volume stack"]


@dataclass(frozen=True)
class MrcHeader:
    """What an MRC file holds.

    Attributes
    ----------
    path : Path
    shape : tuple of int
        Sections, rows, columns ``(nz, ny, nx)``; always three numbers.
    dtype : numpy.dtype
        Type of the stored values with its byte order.
    mode : int
        MRC mode number.
    kind : {"image", "stack", "volume", "volume stack"}
        One image; many images; one map; many maps (space group 401 and above). Where the header leaves it open the
        suffix decides (``.mrcs`` and ``.st`` are stacks, ``.map`` and ``.rec`` are volumes).
    volumes : int
        Number of maps in a volume stack, otherwise 1.
    voxel_size_angstrom : tuple of (float or None)
        x, y, z; None where the header says 0, a negative number or no number, which all mean "not set".
    origin_angstrom : tuple of float
        x, y, z of the header's origin.
    start : tuple of int
        Grid position of the first column, row and section (nxstart, nystart, nzstart).
    axes : tuple of int
        Which of x (1), y (2), z (3) the columns, rows and sections run along; normally ``(1, 2, 3)``.
    data_offset : int
        Bytes before the first value: the header and the extended header.
    compression : str
        ``""``, ``"gzip"`` or ``"bzip2"``.
    notes : tuple of str
        What is odd about the file although it can be read.
    """

    path: Path
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    mode: int
    kind: Kind
    volumes: int
    voxel_size_angstrom: tuple[float | None, float | None, float | None]
    origin_angstrom: tuple[float, float, float]
    start: tuple[int, int, int]
    axes: tuple[int, int, int]
    data_offset: int
    compression: str
    notes: tuple[str, ...] = ()

    @property
    def data_bytes(self) -> int:
        """Bytes of pixel data that the header promises."""
        nz, ny, nx = self.shape
        return nz * ny * nx * self.dtype.itemsize

    @property
    def is_stack(self) -> bool:
        """True for one or many images, False for maps."""
        return self.kind in {"image", "stack"}

    @property
    def pixel_size_angstrom(self) -> float | None:
        """Pixel size of the images, Å, or None where it is not set.

        Raises ``InputError`` when x and y differ by more than 1 part in 1000.
        """
        x, y, _ = self.voxel_size_angstrom
        if x is None or y is None:
            return None
        if abs(x - y) > 1e-3 * x:
            raise InputError(
                f"{self.path}: its pixels are {x:.4g} × {y:.4g} Å, not square; resample it, or give the size with "
                "--pixel-size"
            )
        return x

    def describe(self) -> str:
        """Return the content in words, such as ``240 images of 64×64 float16``."""
        nz, ny, nx = self.shape
        if self.kind in {"volume", "volume stack"}:
            return f"a map of {nz}×{ny}×{nx} {self.dtype.name}"
        return f"{nz} image{'s' if nz != 1 else ''} of {ny}×{nx} {self.dtype.name}"


def open_plain(path: Path) -> BinaryIO:
    """Open a file for reading, or say in one line why not."""
    try:
        return path.open("rb")
    except FileNotFoundError:
        raise InputError(
            f"{path}: no such file; check the path, which is taken from the current (or the project's) folder"
        ) from None
    except IsADirectoryError:
        raise InputError(f"{path}: is a folder; give an MRC file in it") from None
    except OSError as fault:
        raise InputError(f"{path}: cannot be opened ({fault.strerror}); check its permissions and its disk") from None


def open_stream(path: Path, compression: str) -> BinaryIO:
    """Open a file so that reading gives the unpacked bytes."""
    if compression == "gzip":
        return gzip.open(path)  # type: ignore[return-value]
    if compression == "bzip2":
        return bz2.open(path)  # type: ignore[return-value]
    return open_plain(path)


def read_bytes(path: Path, stream: BinaryIO, count: int) -> bytes:
    """Read up to ``count`` bytes; fewer come back only at the end of the file."""
    parts: list[bytes] = []
    left = count
    try:
        # In pieces: a damaged header may promise terabytes that must not be allocated before they are seen.
        while left and (part := stream.read(min(left, 1 << 24))):
            parts.append(part)
            left -= len(part)
    except EOFError:
        raise InputError(f"{path}: its packed data end early; copy it again") from None
    except (OSError, zlib.error, ValueError) as fault:
        raise InputError(f"{path}: cannot be unpacked or read ({fault}); copy it again") from None
    return b"".join(parts)


def read_header(path: str | Path) -> MrcHeader:
    """Read the header of an MRC file (plain, gzip or bzip2).

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    MrcHeader

    Raises
    ------
    InputError
        When the file is not MRC, holds no densities (complex, colour or 4-bit modes), or is shorter than its header
        says.
    """
    path = Path(path)
    with open_plain(path) as plain:  # opened once: there may be 10⁵ of them on a slow disk
        raw, size = read_bytes(path, plain, HEADER_BYTES), os.fstat(plain.fileno()).st_size
    # Packed files are told by their first bytes, not by their names.
    compression = "gzip" if raw[:2] == b"\x1f\x8b" else "bzip2" if raw[:3] == b"BZh" else ""
    if not compression:
        return parse_header(path, raw, "", size)
    with open_stream(path, compression) as stream:
        raw = read_bytes(path, stream, HEADER_BYTES)
    return parse_header(path, raw, compression)  # the unpacked size is not known without unpacking


def parse_header(path: Path, raw: bytes, compression: str = "", size: int | None = None) -> MrcHeader:
    """Make sense of the first 1024 bytes; ``size`` is that of the whole unpacked file where known."""
    if len(raw) < HEADER_BYTES:
        _refuse_short(path, raw)
    fields, byte_order, notes = _fields(path, raw, size)
    mode = int(fields["mode"])
    flags = _imod_flags(fields, byte_order)
    if mode in _REFUSED:
        raise InputError(f"{path}: holds {_REFUSED[mode]}")
    if mode == 0 and flags is not None and flags & _IMOD_NIBBLES:
        raise InputError(f"{path}: holds {_REFUSED[101]}")
    code = DTYPES[mode]
    if mode == 0 and (flags is not None and not flags & _IMOD_SIGNED_BYTES):
        code = "u1"
    elif mode == 0 and flags is None and fields["dmin"] >= 0 and 127 < fields["dmax"] <= 255:
        code = "u1"
        notes.append("its 8-bit values are taken as unsigned, because its header gives a maximum above 127")
    dtype = np.dtype(byte_order + code)
    shape = (int(fields["nz"]), int(fields["ny"]), int(fields["nx"]))
    kind, volumes = _kind(path, fields)
    header = MrcHeader(
        path=path,
        shape=shape,
        dtype=dtype,
        mode=mode,
        kind=kind,
        volumes=volumes,
        voxel_size_angstrom=_voxel_size(fields, notes),
        origin_angstrom=_triple(fields["origin"]),
        start=(int(fields["nxstart"]), int(fields["nystart"]), int(fields["nzstart"])),
        axes=_axes(path, fields, notes),
        data_offset=HEADER_BYTES + _extended_bytes(fields, dtype, size, notes),
        compression=compression,
        notes=tuple(notes),
    )
    return header if size is None else check_size(header, size)


def check_size(header: MrcHeader, size: int) -> MrcHeader:
    """Refuse a file shorter than its header promises; note one that is longer."""
    there = size - header.data_offset
    if there < header.data_bytes:
        promise = f"{header.describe()} ({_grouped(header.data_bytes)} bytes)"
        found = f"only {_grouped(there)} bytes of data" if there > 0 else "no data after its header"
        raise InputError(f"{header.path}: header promises {promise} but the file has {found}; copy it again")
    if there == header.data_bytes:
        return header
    extra = f"the file is {_grouped(there - header.data_bytes)} bytes longer than its header says"
    return MrcHeader(**{**header.__dict__, "notes": (*header.notes, extra)})


def _grouped(number: int) -> str:
    return f"{number:,}".replace(",", " ")


def _refuse_short(path: Path, raw: bytes) -> None:
    if raw.startswith(b"version https://git-lfs"):
        raise InputError(f"{path}: is a Git LFS pointer, not the data it stands for; fetch it with git lfs pull")
    if not raw:
        raise InputError(f"{path}: is empty; copy it again")
    raise InputError(f"{path}: has {len(raw)} bytes, fewer than the 1 024 of an MRC header; copy it again")


def _fields(path: Path, raw: bytes, size: int | None) -> tuple[Any, str, list[str]]:
    """Decode the header in the byte order that makes sense of it, whatever its machine stamp says."""
    stamp = raw[212:214]
    stamped = "<" if stamp in {b"DD", b"DA"} else ">" if stamp == b"\x11\x11" else ""
    candidates = []
    for order in "<>":
        fields = np.frombuffer(raw, HEADER_DTYPE.newbyteorder(order), 1)[0]
        sides = [int(fields[name]) for name in ("nx", "ny", "nz")]
        mode = int(fields["mode"])
        if mode not in _MODES or not all(0 < side <= _MOST_PIXELS_A_SIDE * 1024 for side in sides):
            continue
        axes = sorted(int(fields[name]) for name in ("mapc", "mapr", "maps"))
        pixels = sides[0] * sides[1] * sides[2]
        fits = size is None or pixels * np.dtype(DTYPES.get(mode, "u1")).itemsize <= size
        # The best witness first: the axis numbers, whether the data fit into the file, the stamp, the smaller sides.
        candidates.append(((axes == [1, 2, 3], fits, order == stamped, -max(sides)), order, fields))
    if not candidates:
        raise InputError(
            f"{path}: is not an MRC file (its mode and sizes make no sense in either byte order); "
            "check that it is the file you meant"
        )
    _, order, fields = max(candidates, key=lambda c: c[0])
    notes = []
    if bytes(raw[208:212]) not in {b"MAP ", b"MAP\0"}:
        notes.append("no MAP id in the header")
    if not stamped:
        notes.append(f"machine stamp {'zero' if stamp == bytes(2) else 'unknown'}; byte order told by the sizes")
    elif stamped != order:
        notes.append("machine stamp contradicts the byte order of the header")
    return fields, order, notes


def _imod_flags(fields: Any, byte_order: str) -> int | None:
    """Return IMOD's flag word, or None when IMOD did not stamp the file."""
    extra = bytes(fields["extra2"])
    stamp, flags = np.frombuffer(extra[IMOD_STAMP_OFFSET : IMOD_FLAGS_OFFSET + 4], byte_order + "i4")
    return int(flags) if stamp == IMOD_STAMP else None


def _kind(path: Path, fields: Any) -> tuple[Kind, int]:
    nx, ny, nz, mz, space_group = (int(fields[name]) for name in ("nx", "ny", "nz", "mz", "ispg"))
    suffixes = [s.lower() for s in path.suffixes[-2:]]
    suffix = suffixes[0] if len(suffixes) == 2 and suffixes[1] in {".gz", ".bz2"} else (suffixes or [""])[-1]
    if space_group >= 401:
        return "volume stack", nz // mz if 0 < mz <= nz else 1
    if nz == 1:
        return "image", 1
    if suffix in {".mrcs", ".st"}:
        return "stack", 1
    if suffix in {".map", ".rec", ".ccp4"} or space_group != 0:
        return "volume", 1
    # Space group 0 means images, but Chimera and old RELION wrote it on maps too, with a full cell in z.
    voxel_x, voxel_z = _spacing(fields, "x"), _spacing(fields, "z")
    full_cell = mz == nz and voxel_x is not None and voxel_z is not None and abs(voxel_x - voxel_z) < 1e-3 * voxel_x
    return ("volume", 1) if full_cell or (nx == ny == nz == mz) else ("stack", 1)


def _spacing(fields: Any, axis: str) -> float | None:
    length, samples = float(fields["cella"][axis]), int(fields[f"m{axis}"])
    if not (np.isfinite(length) and length > 0 and samples > 0):
        return None
    return float(f"{length / samples:.7g}")  # all that float32 holds, so that 3.54 stays 3.54


def _voxel_size(fields: Any, notes: list[str]) -> tuple[float | None, float | None, float | None]:
    if any(fields["cella"][axis] < 0 for axis in "xyz"):
        notes.append("negative pixel size in the header, taken as not set")
    if not all(np.isfinite(fields["cella"][axis]) for axis in "xyz"):
        notes.append("the pixel size in the header is no number, taken as not set")
    return _spacing(fields, "x"), _spacing(fields, "y"), _spacing(fields, "z")


def _triple(field: Any) -> tuple[float, float, float]:
    """Return x, y, z of a header field; numbers that are none count as 0."""
    x, y, z = (float(field[a]) if np.isfinite(field[a]) else 0.0 for a in "xyz")
    return x, y, z


def _axes(path: Path, fields: Any, notes: list[str]) -> tuple[int, int, int]:
    columns, rows, sections = (int(fields[name]) for name in ("mapc", "mapr", "maps"))
    if sorted((columns, rows, sections)) == [1, 2, 3]:
        return columns, rows, sections
    if any((columns, rows, sections)):
        notes.append(f"axis numbers {columns}, {rows}, {sections} make no sense, taken as 1, 2, 3")
    return 1, 2, 3


def _extended_bytes(fields: Any, dtype: np.dtype[Any], size: int | None, notes: list[str]) -> int:
    """Return the length of the extended header, or 0 where the number cannot be one."""
    length = int(fields["nsymbt"])
    data = int(fields["nz"]) * int(fields["ny"]) * int(fields["nx"]) * dtype.itemsize
    if length >= 0 and (size is None or HEADER_BYTES + length + data <= size):
        return length
    if length < 0 or size == HEADER_BYTES + data:
        notes.append(f"impossible size of the extended header ({length}), taken as 0")
        return 0
    return length
