"""The two on-disk forms of a ``.cs`` table: NumPy's structured arrays, and CSDAT column streams.

CryoSPARC writes the NumPy form into job folders and exports; the CSDAT form is what its client writes on request. Both
are read without the client.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray

from napari_pickbias.errors import InputError
from napari_pickbias.records.atomic import atomic_path
from pickbias_cryosparc import csdat

Form = Literal["numpy", "csdat"]
Rows = NDArray[Any]

_NUMPY, _OLD_CSDAT, _LFS = b"\x93NUMPY", b"\x94CSDAT", b"version https://git-lfs"
_LONGEST_HEADER = 10**8  # wide jobs have headers far beyond the 10 000 bytes that NumPy allows by default
_BYTES_A_BLOCK = 1 << 25


@dataclass(frozen=True, eq=False)
class Table:
    """One ``.cs`` file.

    Attributes
    ----------
    path : Path
    rows : structured ndarray
        Fields are named ``slot/field``; ``uid`` is always among them. Memory-mapped where the form allows it.
    form : {"numpy", "csdat"}
    """

    path: Path
    rows: Rows
    form: Form = "numpy"

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of all fields, in the file's order."""
        return self.rows.dtype.names or ()

    @property
    def slots(self) -> list[str]:
        """What stands before the slash in the field names, in the file's order."""
        return list(dict.fromkeys(name.split("/")[0] for name in self.fields if "/" in name))


def read_table(path: str | Path) -> Table:
    """Open a ``.cs`` file of either form.

    Raises
    ------
    InputError
        When the file is missing, damaged, of another kind, or without uids.
    """
    path = Path(path)
    try:
        with path.open("rb") as stream:
            start = stream.read(32)
    except OSError as fault:
        raise InputError(f"{path}: cannot be opened ({fault.strerror}); check the path and its permissions") from None
    if start.startswith(csdat.MAGIC):
        rows, form = _read_csdat(path), "csdat"
    elif start.startswith(_NUMPY):
        rows, form = _read_numpy(path), "numpy"
    else:
        raise InputError(f"{path}: {_what_it_is(start)}")
    if rows.dtype.names is None or rows.ndim != 1:
        raise InputError(f"{path}: is a NumPy array without named fields, not a .cs table; give the job's .cs file")
    if "uid" not in rows.dtype.names or rows.dtype["uid"] != np.dtype("u8"):
        raise InputError(f"{path}: has no field 'uid', so it is not a .cs table; give the job's .cs file")
    return Table(path, rows, form)  # type: ignore[arg-type]


def _what_it_is(start: bytes) -> str:
    if not start:
        return "is empty; copy it again"
    if start.startswith(_LFS):
        return "is a Git LFS pointer, not the data it stands for; fetch it with git lfs pull"
    if start.startswith(_OLD_CSDAT):
        return "is of a CSDAT form that no present client reads; export the job again"
    if start.startswith((b"\xd0\xd1", b"PK\x03\x04", b"\x1f\x8b")):
        return "is not a .cs table (it is an archive); unpack it first"
    return "is not a .cs table; give a particle file of a CryoSPARC job (.cs or .csg)"


def _read_numpy(path: Path) -> Rows:
    try:
        rows: Rows = np.load(path, mmap_mode="r", allow_pickle=False, max_header_size=_LONGEST_HEADER)
        return rows
    except Exception as fault:
        # NumPy reads the header as Python text, so damage there shows as any of that language's errors.
        promised = _promised_rows(path)
        if promised is not None:
            n, size, there = promised
            raise InputError(
                f"{path}: header promises {n} rows of {size} bytes but the file has {there} bytes of rows; "
                "copy it again"
            ) from None
        raise InputError(f"{path}: is damaged ({fault}); copy it again, or export the job again") from None


def _promised_rows(path: Path) -> tuple[int, int, int] | None:
    """Return rows and row size that a sound header promises, and the bytes that follow it; None without one."""
    try:
        with path.open("rb") as stream:
            version = np.lib.format.read_magic(stream)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, dtype = read(stream, max_header_size=_LONGEST_HEADER)
            there = path.stat().st_size - stream.tell()
    except Exception:
        return None  # the header is the damaged part
    n = int(shape[0]) if len(shape) == 1 else -1
    return (n, dtype.itemsize, there) if n >= 0 and not dtype.hasobject and there < n * dtype.itemsize else None


def _read_csdat(path: Path) -> Rows:
    try:
        return csdat.decode(path.read_bytes())
    except (ValueError, TypeError) as fault:
        raise InputError(f"{path}: is damaged: {fault}; copy it again, or export the job again") from None


def write_table(path: str | Path, table: Table, keep: NDArray[np.bool_]) -> Path:
    """Write the kept rows of ``table`` in its own form, whole or not at all.

    In the NumPy form every kept row has the very bytes that it had; in the CSDAT form every value.

    Raises ``InputError`` when the file cannot be written.
    """
    path = Path(path)
    with atomic_path(path) as temporary:
        if table.form == "csdat":
            temporary.write_bytes(csdat.encode(table.rows[np.asarray(keep, bool)]))
        else:
            with temporary.open("wb") as stream:
                _write_numpy(stream, table.rows, np.asarray(keep, bool))
    return path


def _write_numpy(stream: BinaryIO, rows: Rows, keep: NDArray[np.bool_]) -> None:
    header = np.lib.format.header_data_from_array_1_0(rows[:0])
    header["shape"] = (int(keep.sum()),)
    try:
        np.lib.format.write_array_header_1_0(stream, header)
    except ValueError:  # too many fields for the 64 kB of that version
        stream.seek(0)
        stream.truncate()
        np.lib.format.write_array_header_2_0(stream, header)
    step = max(1, _BYTES_A_BLOCK // rows.dtype.itemsize)
    for start in range(0, len(rows), step):
        stream.write(rows[start : start + step][keep[start : start + step]].tobytes())


def write_rows(path: str | Path, rows: Rows) -> Path:
    """Write a structured array as a ``.cs`` file of the NumPy form, whole or not at all."""
    return write_table(path, Table(Path(path), rows), np.ones(len(rows), bool))
