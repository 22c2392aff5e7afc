"""The streamed pass that finds the tables of a STAR file; see :mod:`pickbias_relion.star` for the rules."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from napari_pickbias.errors import InputError
from pickbias_relion.star_scan import BLANK, COMMENT, Positions, line_chunks, line_heads, values_of

_VERSION_TAG = re.compile(rb"#\s*version\s+(.*?)\s*$")
_BOM = b"\xef\xbb\xbf"


def text_of(value: bytes) -> str:
    """Decode a value: UTF-8, or Latin-1 where it is not."""
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value.decode("latin-1")


@dataclass(frozen=True)
class Table:
    """One loop, or one list of keys and values, of a STAR file.

    Attributes
    ----------
    block : str
        Name of its block, without ``data_``; empty for unnamed ones.
    is_loop : bool
        False for a list of keys and values.
    labels : tuple of str
        Without the leading ``_``, in the file's order.
    values : tuple of bytes
        Of a list: one for each label, without quotes. Empty for a loop.
    version : str
        Text of the ``# version`` tag before the block; empty without one.
    n_rows : int
        Rows of a loop; 0 for a list.
    line : int
        Line number (from 1) of its ``data_`` line.
    label_line : tuple of int
        Byte offsets of start and end of its last label's line.
    rows_start, rows_stop : int
        Byte offsets of what lies between the first row and the next table (rows, blank lines, comments).
    rows_line : int
        Line number (from 1) at ``rows_start``.
    """

    block: str
    is_loop: bool
    labels: tuple[str, ...]
    values: tuple[bytes, ...]
    version: str
    n_rows: int
    line: int
    label_line: tuple[int, int]
    rows_start: int
    rows_stop: int
    rows_line: int

    @property
    def name(self) -> str:
        """The block as it is written in the file."""
        return f"data_{self.block}"


@dataclass
class _Draft:
    """The table that is being read."""

    block: str
    version: str
    line: int
    is_loop: bool = False
    labels: list[str] = field(default_factory=list)
    values: list[bytes] = field(default_factory=list)
    label_line: tuple[int, int] = (0, 0)
    n_rows: int = 0
    rows_start: int = -1
    rows_line: int = 0
    window: int = 1 << 14
    # Blank and comment lines since the last row (line number of the first); a later row makes them interruptions.
    blank_since: int = 0
    comment_since: int = 0
    gap: tuple[int, int] | None = None  # (line, rows before it)
    comment: int = 0


def index_tables(path: Path, stream: BinaryIO, size: int) -> tuple[tuple[Table, ...], tuple[str, ...]]:
    """Return the tables of a STAR file and what is worth noting about them."""
    indexer = _Indexer(path)
    for offset, data in line_chunks(stream, 0, size):
        at = 0
        while at < len(data):
            at = indexer.take_rows(offset, data, at) if indexer.in_rows else indexer.take_line(offset, data, at)
    indexer.close(size)
    return tuple(indexer.tables), tuple(indexer.notes)


class _Indexer:
    """The state between lines: which table is open, and whether its rows have begun."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tables: list[Table] = []
        self.notes: list[str] = []
        self.in_rows = False
        self._block_line: dict[str, int] = {}  # where each block name stood first
        self._noted: set[str] = set()
        self._line = 1  # number of the line that comes next
        self._version = ""
        self._draft: _Draft | None = None
        self._after_gap = True  # the line before was blank or a comment

    # -- lines outside the rows, one at a time ---------------------------------------------------------------------

    def take_line(self, offset: int, data: bytes, at: int) -> int:
        """Read one line at ``at``; return where the next begins (the same place when the rows begin here)."""
        end = data.index(b"\n", at) + 1
        line = data[at:end]
        if self._line == 1:
            line = line.removeprefix(_BOM)
        words = values_of(line)
        draft = self._draft
        if not words:
            self._tag(line)
        elif self._is_header(words):
            self._open_block(words[0], line, offset + at)
        elif draft is None:
            raise self._fault("is neither a comment nor a data_ block, so this is no STAR file; give a .star file")
        elif words[0] == b"loop_" and len(words) == 1:
            self._open_loop(offset + at)
        elif draft.is_loop and not self._is_label(words, draft):
            if not draft.labels:
                raise self._fault("is a row of a loop that has no column labels; the file is damaged")
            draft.rows_start, draft.rows_line = offset + at, self._line
            self.in_rows = True
            return at
        elif words[0].startswith(b"_"):
            self._add_label(words, line, draft, offset + at, offset + end)
        elif not line.lstrip().startswith(b";"):
            self._note_once("stray", f"line {self._line} stands outside any loop and is ignored, as in RELION")
        self._after_gap = not words
        self._line += 1
        return end

    def _is_header(self, words: list[bytes]) -> bool:
        """Tell a ``data_`` line from a row of a loop that happens to start so."""
        draft = self._draft
        if not words[0].startswith(b"data_"):
            return False
        if draft is None or not draft.is_loop or not draft.labels:
            return True
        return len(words) == 1 and (len(draft.labels) > 1 or self._after_gap)

    def _tag(self, line: bytes) -> None:
        match = _VERSION_TAG.match(line.strip())
        if match:
            self._version = text_of(match[1])

    def _open_block(self, word: bytes, line: bytes, offset: int) -> None:
        self.close(offset)
        if line.endswith(b"\r\n"):
            self._note_once("ends", "has CR+LF line ends, which RELION refuses; convert it with dos2unix")
        self._draft = _Draft(text_of(word[5:]), self._version, self._line)

    def _open_loop(self, offset: int) -> None:
        draft = self._draft
        assert draft is not None
        if draft.labels:  # a list before the loop, or a second loop in one block
            block, version, line = draft.block, draft.version, draft.line
            if draft.is_loop:
                self.notes.append(
                    f"{self.path}: data_{block} has a second loop (line {self._line}); RELION reads the first only"
                )
            self.close(offset)
            draft = self._draft = _Draft(block, version, line)
        draft.is_loop = True

    @staticmethod
    def _is_label(words: list[bytes], draft: _Draft) -> bool:
        """Tell a label from a first row that happens to start with an underscore."""
        if not words[0].startswith(b"_"):
            return False
        return words[0].startswith(b"_rln") or len(words) == 1 or len(words) != len(draft.labels)

    def _add_label(self, words: list[bytes], line: bytes, draft: _Draft, start: int, stop: int) -> None:
        label, hash_sign, _ = words[0].partition(b"#")
        if hash_sign and draft.is_loop:
            self._note_once(
                "glued", f"line {self._line} has no blank before '#'; RELION reads that label as {text_of(label[1:-1])}"
            )
        draft.labels.append(text_of(label[1:]))
        draft.label_line = (start, stop)
        if not draft.is_loop:
            draft.values.append(words[1] if len(words) > 1 else b"")

    # -- rows, a chunk at a time -----------------------------------------------------------------------------------

    def take_rows(self, offset: int, data: bytes, at: int) -> int:
        """Count the rows from ``at`` on; return where the rows end (a new block or loop) or the text does."""
        draft = self._draft
        assert draft is not None
        # Small tables must not cost a look at the whole chunk, so the piece looked at grows with the table.
        data = data[at : data.find(b"\n", at + draft.window) + 1 or len(data)]
        draft.window *= 2
        text = np.frombuffer(data, np.uint8)
        stop, head = line_heads(text)
        blank, comment = text[head] <= BLANK, text[head] == COMMENT
        end = self._first_header(data, stop, head, blank | comment)
        self._count(draft, *(np.flatnonzero(kind[:end]) for kind in (~(blank | comment), blank, comment)))
        for k in np.flatnonzero(comment[:end]).tolist():
            self._tag(data[int(head[k]) : int(stop[k])])
        self._line += end
        self.in_rows = end == len(stop)
        if not end:
            return at
        self._after_gap = bool((blank | comment)[end - 1])
        return at + int(stop[end - 1])

    def _first_header(self, data: bytes, stop: Positions, head: Positions, gap: NDArray[np.bool_]) -> int:
        """Return the index of the first line that begins a block or loop; the number of lines without one."""
        draft = self._draft
        assert draft is not None
        text = np.frombuffer(data, np.uint8)
        first, second = text[head], text[np.minimum(head + 1, len(text) - 1)]
        likely = ((first == ord("d")) & (second == ord("a"))) | ((first == ord("l")) & (second == ord("o")))
        for k in np.flatnonzero(likely).tolist():
            line = data[int(head[k]) : int(stop[k])]
            if not line.startswith((b"data_", b"loop_")):
                continue
            words = values_of(line)
            if len(words) != 1 or (words[0].startswith(b"loop_") and words[0] != b"loop_"):
                continue
            after_gap = bool(gap[k - 1]) if k else self._after_gap
            if len(draft.labels) > 1 or after_gap:
                return int(k)
        return len(stop)

    def _count(self, draft: _Draft, rows: Positions, blank: Positions, comment: Positions) -> None:
        """Add the rows of a chunk; find the first blank line and the first comment that stand between rows."""
        last = int(rows[-1]) if rows.size else -1
        if rows.size:
            if draft.gap is None:
                if draft.blank_since:
                    draft.gap = (draft.blank_since, draft.n_rows)
                elif blank.size and blank[0] < last:
                    before = int(np.searchsorted(rows, blank[0]))
                    draft.gap = (self._line + int(blank[0]), draft.n_rows + before)
            if not draft.comment:
                if draft.comment_since:
                    draft.comment = draft.comment_since
                elif comment.size and comment[0] < last:
                    draft.comment = self._line + int(comment[0])
            draft.blank_since = draft.comment_since = 0
        for name, lines in (("blank_since", blank), ("comment_since", comment)):
            later = lines[lines > last]
            if later.size and not getattr(draft, name):
                setattr(draft, name, self._line + int(later[0]))
        draft.n_rows += len(rows)

    # -- the end of a table ----------------------------------------------------------------------------------------

    def close(self, offset: int) -> None:
        """Finish the open table, which ends at byte ``offset``."""
        draft, self._draft, self.in_rows = self._draft, None, False
        if draft is None or not (draft.labels or draft.is_loop):
            return
        where = f"{self.path}: data_{draft.block}"
        if draft.gap:
            line, before = draft.gap
            self.notes.append(
                f"{where} has a blank line inside its rows (line {line}); RELION stops there and sees only "
                f"{before} of {draft.n_rows} rows"
            )
        if draft.comment:
            self.notes.append(f"{where} has a comment between its rows (line {draft.comment}), which RELION refuses")
        for label in sorted({label for label in draft.labels if draft.labels.count(label) > 1}):
            self.notes.append(f"{where} has the column {label} twice; the first is used")
        if self._block_line.setdefault(draft.block, draft.line) != draft.line:
            self.notes.append(f"{where} stands twice (again in line {draft.line}); the first is used, as in RELION")
        start = draft.rows_start if draft.rows_start >= 0 else max(draft.label_line[1], 0)
        self.tables.append(
            Table(
                block=draft.block,
                is_loop=draft.is_loop,
                labels=tuple(draft.labels),
                values=tuple(draft.values),
                version=draft.version,
                n_rows=draft.n_rows,
                line=draft.line,
                label_line=draft.label_line,
                rows_start=start,
                rows_stop=offset if draft.rows_start >= 0 else start,
                rows_line=draft.rows_line,
            )
        )

    def _note_once(self, kind: str, what: str) -> None:
        """Note the first of what may happen in every line."""
        if kind not in self._noted:
            self._noted.add(kind)
            self.notes.append(f"{self.path}: {what}")

    def _fault(self, what: str) -> InputError:
        return InputError(f"{self.path}: line {self._line} {what}")
