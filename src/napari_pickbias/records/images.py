"""Lazy image stacks: the pixels of 10⁶ particles in 10⁵ files, read when asked for, in flat memory."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_pickbias.errors import InputError
from napari_pickbias.records.mrc_header import MrcHeader, open_plain, read_header

_BYTES_A_READ = 1 << 25


class MemoryImages:
    """Images that are in memory already.

    Parameters
    ----------
    array : array-like, shape (n, box, box)

    Raises
    ------
    InputError
        When the images are not square.
    """

    def __init__(self, array: ArrayLike) -> None:
        self.array = np.asarray(array)
        if self.array.ndim != 3 or self.array.shape[1] != self.array.shape[2]:
            raise InputError(
                f"images: an array of shape {self.array.shape} is no stack of square images; give (n, box, box)"
            )

    @property
    def box_sizes(self) -> NDArray[np.int64]:
        """``(n,)`` side of each image, px."""
        return np.full(len(self.array), self.array.shape[1], np.int64)

    def __len__(self) -> int:
        return len(self.array)

    def read(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the images of ``rows`` as ``(len(rows), box, box)`` float32."""
        return np.asarray(self.array[rows], np.float32)


class _Layout(NamedTuple):
    """What reading needs of a header; small, because there is one for each of many files."""

    n: int
    box: int
    offset: int
    dtype: np.dtype[Any]


class StackImages:
    """Images of particle rows, each a slice of one of many MRC stacks.

    Nothing is read before it is asked for: a file's header at the first use of the file, pixels at every
    :meth:`read`. Pixels are read, not mapped, so memory does not grow with what has been seen.

    Parameters
    ----------
    paths : sequence of Path
        The stack files.
    file_index : ndarray of int, shape (n,)
        Which of ``paths`` each row's image is in.
    slice_index : ndarray of int, shape (n,)
        Which image of that file, counted from 0.
    box_sizes : ndarray of int, shape (n,), optional
        Side of each image where the metadata say so; saves reading all headers, and is checked against each file when
        it is read. Otherwise :attr:`box_sizes` reads every header once.
    factor : ndarray of float, shape (n,), optional
        Each image is multiplied by its factor when read (cryoSPARC's ``blob/sign``).
    open_files : int, default 64
        How many files are kept open at once.

    Raises
    ------
    InputError
        From :meth:`read` and :attr:`box_sizes`, naming file and row, when a file is missing, short, damaged,
        compressed, not square, or has fewer images than a row asks for.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        file_index: ArrayLike,
        slice_index: ArrayLike,
        *,
        box_sizes: ArrayLike | None = None,
        factor: ArrayLike | None = None,
        open_files: int = 64,
    ) -> None:
        self.paths = tuple(Path(p) for p in paths)
        self.file_index = np.asarray(file_index, np.int64)
        self.slice_index = np.asarray(slice_index, np.int64)
        if self.file_index.shape != self.slice_index.shape or self.file_index.ndim != 1:
            raise ValueError("file_index and slice_index must have one value a row")
        if len(self.file_index) and not 0 <= self.file_index.min() <= self.file_index.max() < len(self.paths):
            raise ValueError("file_index points outside paths")
        self._promised = box_sizes is not None
        self._box_sizes = None if box_sizes is None else np.asarray(box_sizes, np.int64)
        self._factor = None if factor is None else np.asarray(factor, np.float32)
        self._layouts: dict[int, _Layout] = {}
        self._files = _OpenFiles(self.paths, open_files)
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.file_index)

    @property
    def box_sizes(self) -> NDArray[np.int64]:
        """``(n,)`` side of each image, px; reads the header of every file at first use unless given."""
        if self._box_sizes is None:
            used, first = np.unique(self.file_index, return_index=True)
            sides = np.zeros(len(self.paths), np.int64)
            for file, row in zip(used.tolist(), first.tolist(), strict=True):
                sides[file] = self._layout(file, row).box
            self._box_sizes = sides[self.file_index]
        return self._box_sizes

    def read(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the images of ``rows`` as ``(len(rows), box, box)`` float32, in the order asked for.

        Rows are grouped by file and neighbours read in one go. Thread-safe.
        """
        rows = np.asarray(rows, np.int64)
        if not len(rows):
            side = self._layout(int(self.file_index[0]), 0).box if len(self) else 0
            return np.zeros((0, side, side), np.float32)
        order = np.lexsort((self.slice_index[rows], self.file_index[rows]))
        files = self.file_index[rows[order]]
        edges = np.flatnonzero(np.diff(files, prepend=-1, append=-1))
        box = self._layout(int(files[0]), int(rows[order[0]])).box
        out = np.empty((len(rows), box, box), np.float32)
        for start, stop in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
            places = order[start:stop]
            self._read_file(int(files[start]), rows[places], places, out)
        if self._factor is not None:
            out *= self._factor[rows, None, None]
        return out

    def _read_file(
        self, file: int, rows: NDArray[np.int64], places: NDArray[np.int64], out: NDArray[np.float32]
    ) -> None:
        """Fill ``out[places]`` with the images of ``rows``, all in one file and sorted by slice."""
        layout = self._layout(file, int(rows[0]))
        if layout.box != out.shape[1]:
            raise InputError(
                f"{self.paths[file]}: its images are {layout.box} px wide, others read together with it "
                f"{out.shape[1]} px (row {rows[0] + 1}); treat each box size by itself"
            )
        slices = self.slice_index[rows]
        outside = (slices < 0) | (slices >= layout.n)
        if outside.any():
            row = int(rows[outside.argmax()])
            raise InputError(
                f"{self.paths[file]}: has {layout.n} images, but row {row + 1} asks for number "
                f"{self.slice_index[row] + 1}; the stack is not the one the particle file was made with"
            )
        image_bytes = layout.box * layout.box * layout.dtype.itemsize
        for start, stop in _runs(slices, max(1, _BYTES_A_READ // image_bytes)):
            first, count = int(slices[start]), int(slices[stop - 1] - slices[start]) + 1
            at, offset = places[start:stop], layout.offset + first * image_bytes
            if layout.dtype == np.float32 and count == stop - start and at[-1] - at[0] + 1 == count and _rising(at):
                self._files.fill(file, offset, out[at[0] : at[-1] + 1], int(rows[start]))
                continue
            raw = np.empty((count, layout.box, layout.box), layout.dtype)
            self._files.fill(file, offset, raw, int(rows[start]))
            out[at] = raw[slices[start:stop] - first]

    def _layout(self, file: int, row: int) -> _Layout:
        layout = self._layouts.get(file)
        if layout is None:
            layout = _layout_of(self.paths[file], row)
            if self._promised and self._box_sizes is not None and self._box_sizes[row] != layout.box:
                raise InputError(
                    f"{self.paths[file]}: its images are {layout.box} px wide, but row {row + 1} says "
                    f"{self._box_sizes[row]} px; the stack is not the one the particle file was made with"
                )
            with self._lock:
                self._layouts[file] = layout
        return layout


def _runs(slices: NDArray[np.int64], longest: int) -> Iterator[tuple[int, int]]:
    """Yield ``start, stop`` of stretches of sorted ``slices`` that lie close together, bounded in length."""
    start = 0
    for i in range(1, len(slices) + 1):
        at_end = i == len(slices)
        # Reading over one unwanted image costs less than a second system call.
        if at_end or slices[i] - slices[i - 1] > 2 or slices[i] - slices[start] >= longest:
            yield start, i
            start = i


def _rising(numbers: NDArray[np.int64]) -> bool:
    return bool((np.diff(numbers) == 1).all())


def _layout_of(path: Path, row: int) -> _Layout:
    try:
        return particle_layout(read_header(path))
    except InputError as fault:
        raise InputError(f"{fault} (needed by particle row {row + 1})") from None


def particle_layout(header: MrcHeader) -> _Layout:
    """Return where the images lie in a file that can be a particle stack; ``InputError`` where it cannot."""
    nz, ny, nx = header.shape
    if header.compression:
        raise InputError(f"{header.path}: is packed with {header.compression}; unpack it first")
    if ny != nx:
        raise InputError(f"{header.path}: its images are {ny}×{nx}, not square; particles need square boxes")
    return _Layout(nz, nx, header.data_offset, header.dtype)


class _OpenFiles:
    """The files used last, kept open; a file that is dropped closes when its last reader is done."""

    def __init__(self, paths: Sequence[Path], most: int) -> None:
        self._paths, self._most = paths, most
        self._open: OrderedDict[int, _File] = OrderedDict()
        self._lock = threading.Lock()

    def fill(self, file: int, offset: int, array: NDArray[Any], row: int) -> None:
        """Fill ``array`` with the bytes from ``offset`` on."""
        path = self._paths[file]
        try:
            got = self._get(file).fill(offset, array.reshape(-1).view(np.uint8).data)
        except OSError as fault:
            raise InputError(
                f"{path}: cannot be read ({fault.strerror}), needed by particle row {row + 1}; check its disk"
            ) from None
        if got < array.nbytes:
            raise InputError(
                f"{path}: ends before the image of particle row {row + 1}; it became shorter while it was read"
            )

    def _get(self, file: int) -> _File:
        with self._lock:
            handle = self._open.get(file)
            if handle is None:
                handle = self._open[file] = _File(self._paths[file])
                if len(self._open) > self._most:
                    self._open.popitem(last=False)
            else:
                self._open.move_to_end(file)
            return handle


class _File:
    """An open file that several threads may read; closes with its last reference."""

    def __init__(self, path: Path) -> None:
        with open_plain(path) as stream:
            self.number = os.dup(stream.fileno())
        self._lock = threading.Lock()

    def fill(self, offset: int, view: memoryview) -> int:
        done = 0
        while done < len(view) and (got := self._read(view[done:], offset + done)):
            done += got
        return done

    def _read(self, view: memoryview, offset: int) -> int:
        if hasattr(os, "preadv"):
            return os.preadv(self.number, [view], offset)
        with self._lock:  # Windows has no read at a position
            os.lseek(self.number, offset, os.SEEK_SET)
            data = os.read(self.number, len(view))
        view[: len(data)] = data
        return len(data)

    def __del__(self) -> None:
        if hasattr(self, "number"):  # not when opening failed
            os.close(self.number)
