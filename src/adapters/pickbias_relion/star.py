"""What a STAR file holds: its blocks, labels and where its rows lie, found without reading the values.

The text is never changed and never parsed as a whole: :func:`open_star` finds the tables in one streamed pass, columns
are read on demand (:mod:`pickbias_relion.star_columns`), and subsets copy the kept lines byte for byte
(:mod:`pickbias_relion.star_subset`). Files of RELION 1 to 5, pyem, Warp, Scipion, starfile and hand-made ones are read.

Where RELION's own reader stumbles, the reading that loses nothing is chosen, and the stumble is noted:

* a blank line inside the rows: RELION silently stops there; all rows are read here
* comment lines inside the rows, CR+LF line ends, ``_rlnLabel#1`` without a blank: RELION refuses or misreads; read here
* two blocks of one name: the first counts, as in RELION
* a first row that starts with ``_``: RELION takes it for a label; here it is a row when it has as many values as there
  are labels (two or more), since labels have none
* a row that starts with ``data_`` is a row when it has several values; in a table of one column, a lone ``data_...``
  begins a block only after a blank line or comment
* a second ``loop_`` inside a block is a table of its own, of the same block name
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from napari_pickbias.errors import InputError
from pickbias_relion.star_index import Table, index_tables, text_of

_LFS = b"version https://git-lfs.github.com/spec/"
_HEAD = 4096

ROW_LABELS = (
    ("rlnImageName",),
    ("rlnTomoParticleName",),
    ("rlnCoordinateX", "rlnCenteredCoordinateXAngst", "CoordinateX"),
    ("rlnMicrographName", "rlnMicrographMovieName"),
)
"""Labels that tell which loop holds particles, picks or micrographs, the surest first; see :meth:`StarFile.rows`."""


@dataclass(frozen=True)
class StarFile:
    """The index of a STAR file.

    Attributes
    ----------
    path : Path
        The file.
    size : int
        Its length in bytes when it was indexed.
    tables : tuple of Table
        In the file's order.
    notes : tuple of str
        What RELION would stumble on, said so that a user understands it.
    """

    path: Path
    size: int
    tables: tuple[Table, ...]
    notes: tuple[str, ...] = ()

    def find(self, block: str, *, loop: bool | None = None) -> Table | None:
        """Return the first table of ``data_<block>``, or None; ``loop`` selects loops or key/value lists only."""
        for table in self.tables:
            if table.block == block and loop in (None, table.is_loop):
                return table
        return None

    def rows(self) -> Table:
        """Return the loop that holds what is picked from, wherever it stands and whatever its block is called.

        That is the first loop with ``rlnImageName``; without one, the first with ``rlnTomoParticleName``; then with
        coordinates; then with ``rlnMicrographName``. So ``data_particles``, ``data_images``, ``data_model_class_1``,
        ``data_micrographs`` and unnamed blocks are all found, and ``data_optics`` never is.

        Raises
        ------
        InputError
            When no loop has any of them.
        """
        for labels in ROW_LABELS:
            for table in self.tables:
                if table.is_loop and any(label in table.labels for label in labels):
                    return table
        if not self.tables:
            raise InputError(f"{self.path}: is empty: no table is in it; give a STAR file with particles")
        names = ", ".join(table.name for table in self.tables[:4]) + (", ..." if len(self.tables) > 4 else "")
        raise InputError(
            f"{self.path}: none of its blocks ({names}) lists particles, picks or micrographs; "
            "give a STAR file with a column rlnImageName, rlnCoordinateX or rlnMicrographName"
        )

    def value(self, label: str, blocks: Sequence[str] | None = None) -> str | None:
        """Return the value of ``label`` in the first key/value list (of ``blocks``) that has it, or None."""
        for table in self.tables:
            if not table.is_loop and label in table.labels and (blocks is None or table.block in blocks):
                return text_of(table.values[table.labels.index(label)])
        return None


def open_star(path: str | Path) -> StarFile:
    """Index a STAR file: one streamed pass, in memory that does not grow with the file.

    A file of zero bytes, or with nothing but comments (relion_autopick without picks), has no tables.

    Raises
    ------
    InputError
        When the file cannot be read, or is no STAR file: binary or UTF-16, a Git LFS pointer, text before the first
        ``data_`` block, rows without labels.
    """
    path = Path(path)
    try:
        with path.open("rb") as stream:
            head = stream.read(_HEAD)
            size = path.stat().st_size
            _refuse_other_kinds(path, head)
            tables, notes = index_tables(path, stream, size)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read: {error.strerror or error}; check the path and its permissions"
        ) from None
    return StarFile(path, size, tables, notes)


def _refuse_other_kinds(path: Path, head: bytes) -> None:
    if head.startswith(_LFS):
        raise InputError(f"{path}: is a Git LFS pointer, not the STAR file itself; fetch it with `git lfs pull`")
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise InputError(f"{path}: is UTF-16 text, which RELION cannot read; save it as plain (UTF-8) text")
    if b"\r" in head and b"\n" not in head:
        raise InputError(
            f"{path}: has line ends of old Macintosh files (CR), which RELION cannot read; convert it to LF"
        )
    if b"\x00" in head:
        raise InputError(f"{path}: is a binary file, not a STAR file; give the .star file that goes with it")


_VERSION = re.compile(r"\d+")


def version_number(table: Table) -> int | None:
    """Return the number of the ``# version`` tag before the block (30001, 50001 ...), or None without one."""
    match = _VERSION.match(table.version)
    return int(match[0]) if match else None
