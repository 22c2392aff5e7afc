"""A bare stack of particles as a source: images without metadata."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_pickbias.errors import InputError
from napari_pickbias.records.atomic import write_text
from napari_pickbias.records.images import StackImages, particle_layout
from napari_pickbias.records.mrc import StackWriter, read_header
from napari_pickbias.records.mrc_header import open_plain
from napari_pickbias.records.particles import Particles

_BYTES_A_BLOCK = 1 << 25


class StackSource:
    """A ``.mrcs``, ``.mrc`` or ``.st`` stack of particles, without CTF, poses or micrographs.

    Parameters
    ----------
    path : str or Path

    Raises
    ------
    InputError
        When the file is not a stack of square images.
    """

    suffix = ".mrcs"

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._header = read_header(self.path)
        self._layout = particle_layout(self._header)
        nz, ny, _ = self._header.shape
        if self._header.kind == "volume stack" or (self._header.kind == "volume" and nz == ny):
            raise InputError(
                f"{self.path}: is {self._header.describe()}, not a stack of particles; if it is one all the same, "
                "name it .mrcs"
            )

    def read(self, pixel_size_angstrom: float | None = None) -> Particles:
        """Return the particles; the pixel size is the header's unless given.

        Raises ``InputError`` when neither is there.
        """
        pixel_size = pixel_size_angstrom or self._header.pixel_size_angstrom
        if pixel_size is None:
            raise InputError(f"{self.path}: its header holds no pixel size; give it in Å with --pixel-size")
        n = self._layout.n
        notes = list(self._header.notes)
        if pixel_size_angstrom is None and pixel_size == 1:
            notes.append("the pixel size in the header is exactly 1 Å, which often means that nobody set it")
        return Particles(
            images=StackImages(
                [self.path], np.zeros(n, np.int64), np.arange(n), box_sizes=np.full(n, self._layout.box, np.int64)
            ),
            pixel_size_angstrom=np.full(n, float(pixel_size)),
            optics_group=np.zeros(n, np.int64),
            notes=tuple(f"{self.path}: {note}" for note in notes),
        )

    def input_files(self) -> list[Path]:
        """Return the stack."""
        return [self.path]

    def write_subset(
        self, keep: NDArray[np.bool_], target: Path, columns: Mapping[str, NDArray[np.generic]] | None = None
    ) -> list[Path]:
        """Write the kept images to ``target``: same type and byte values, same pixel size in the header.

        ``columns`` go to ``<target stem>.csv`` beside it, one row a kept image; its first column ``index`` is the
        image's number in the source, counted from 0. MRC has no empty stacks: where nothing is kept no stack is
        written, only the table. Returns the files written.
        """
        keep, target = np.asarray(keep, bool), Path(target)
        if keep.shape != (self._layout.n,):
            raise ValueError(f"keep has shape {keep.shape} for {self._layout.n} images")
        if target.exists() and target.samefile(self.path):
            raise InputError(f"{target}: is the input itself, which is never written to; give another name")
        written = []
        if columns:
            table = target.with_suffix(".csv")
            _write_table(table, np.flatnonzero(keep), columns)
            written.append(table)
        if keep.any():
            self._copy(keep, target)
            written.insert(0, target)
        return written

    def _copy(self, keep: NDArray[np.bool_], target: Path) -> None:
        count, box, offset, dtype = self._layout
        step = max(1, _BYTES_A_BLOCK // (box * box * dtype.itemsize))
        voxel = self._header.pixel_size_angstrom
        with (
            open_plain(self.path) as stream,
            StackWriter(target, (int(keep.sum()), box, box), voxel, dtype=dtype) as out,
        ):
            stream.seek(offset)
            for start in range(0, count, step):
                wanted = min(step, count - start) * box * box
                block = np.fromfile(stream, dtype, wanted)
                if block.size < wanted:
                    raise InputError(f"{self.path}: became shorter while it was read; copy it again")
                if (chosen := keep[start : start + step]).any():
                    out.append(block.reshape(-1, box, box)[chosen])


def _write_table(path: Path, index: NDArray[np.int64], columns: Mapping[str, NDArray[np.generic]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["index", *columns])
    # As text first: float32 then shows its own digits, not those of its float64 neighbour.
    kept = [np.asarray(values)[index].astype(str).tolist() for values in columns.values()]
    writer.writerows(zip(index.tolist(), *kept, strict=True))
    write_text(path, text.getvalue())
