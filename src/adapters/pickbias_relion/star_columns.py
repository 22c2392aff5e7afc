"""Columns of a STAR table, read on demand: only those asked for, as text first, then converted explicitly.

Nothing is guessed from the values: ``001`` asked for as text stays ``001``, and what cannot be a number is an error
that names file, line, column and text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_pickbias.errors import InputError
from pickbias_relion.star import StarFile
from pickbias_relion.star_index import Table, text_of
from pickbias_relion.star_scan import (
    LineError,
    Positions,
    Tokens,
    as_strings,
    find_tokens,
    gather,
    line_chunks,
    unquote,
)

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

_WIDEST_NUMBER = 64
_WIDEST_BATCH = 1 << 25


@dataclass(frozen=True)
class TextColumn:
    """A column of text, stored once per distinct value (micrograph names repeat for every particle).

    Attributes
    ----------
    values : tuple of bytes
        The distinct values in order of appearance, as they stand in the file.
    codes : ndarray of int, shape (n,)
        Index into ``values`` of each row.
    """

    values: tuple[bytes, ...]
    codes: IntArray

    def __len__(self) -> int:
        return len(self.codes)

    def strings(self) -> NDArray[np.str_]:
        """``(n,)`` decoded text (UTF-8, or Latin-1 where it is not)."""
        return np.array([text_of(v) for v in self.values] or [""], dtype=np.str_)[self.codes]


class ImageNames(NamedTuple):
    """A column of image names ``000001@path.mrcs``."""

    files: TextColumn
    slice_index: IntArray  # (n,) counted from 0; -1 for names without a number and @


@dataclass(frozen=True)
class Columns:
    """The columns that were asked for, by label."""

    floats: dict[str, FloatArray] = field(default_factory=dict)
    integers: dict[str, IntArray] = field(default_factory=dict)
    texts: dict[str, TextColumn] = field(default_factory=dict)
    images: dict[str, ImageNames] = field(default_factory=dict)


class Rows(NamedTuple):
    """A piece of a table's rows."""

    offset: int  # byte offset of data
    line: int  # line number (from 1) of the first line of data
    data: bytes
    tokens: Tokens
    rows: Positions  # which of the lines are rows: the others are blank or comments


def iterate_rows(star: StarFile, table: Table) -> Iterator[Rows]:
    """Stream the rows of a table, checked to have one value per label.

    Raises
    ------
    InputError
        For a row with too few or too many values, or an unclosed quote, with the line number; when the file cannot be
        read or has changed since it was indexed.
    """
    line = table.rows_line
    wanted = len(table.labels)
    try:
        with star.path.open("rb") as stream:
            if star.path.stat().st_size != star.size:
                raise InputError(f"{star.path}: changed while it was being read; run again")
            for offset, data in line_chunks(stream, table.rows_start, table.rows_stop):
                try:
                    tokens = find_tokens(data)
                except LineError as fault:
                    raise InputError(f"{star.path}: line {line + fault.line} {fault}; correct that row") from None
                rows = np.flatnonzero(tokens.n_values)
                ragged = tokens.n_values[rows] != wanted
                if ragged.any():
                    k = int(rows[ragged.argmax()])
                    last = offset + int(tokens.line_stop[k]) > star.size
                    raise _ragged(star, table, line + k, int(tokens.n_values[k]), last)
                yield Rows(offset, line, data, tokens, rows)
                line += len(tokens.n_values)
    except OSError as error:
        raise InputError(f"{star.path}: cannot be read: {error.strerror or error}; check its disk") from None


def _ragged(star: StarFile, table: Table, line: int, found: int, last: bool) -> InputError:
    why = "the file ends in the middle of that row" if last else "correct that row, or quote values that hold blanks"
    values = "1 value" if found == 1 else f"{found} values"
    return InputError(
        f"{star.path}: line {line} has {values} for the {len(table.labels)} labels of {table.name}; {why}"
    )


def read_columns(
    star: StarFile,
    table: Table,
    *,
    floats: Sequence[str] = (),
    integers: Sequence[str] = (),
    texts: Sequence[str] = (),
    images: Sequence[str] = (),
) -> Columns:
    """Read the named columns of a loop in one streamed pass.

    Labels are given without the leading ``_``. Floats must be finite (RELION reads ``nan`` and ``inf`` as 0, which
    here is an error, not a value); integers may be written ``2.000``.

    Raises
    ------
    InputError
        When a column is missing, a row ragged, or a value cannot be converted.
    """
    for label in (*floats, *integers, *texts, *images):
        if label not in table.labels:
            raise InputError(f"{star.path}: {table.name} has no column {label}; give a file that has it")
    place, n = table.labels.index, table.n_rows
    float_readers = {label: _Floats(place(label), n) for label in floats}
    integer_readers = {label: _Integers(place(label), n) for label in integers}
    text_readers = {label: _Texts(place(label), n) for label in texts}
    image_readers = {label: _Images(place(label), n) for label in images}
    readers: dict[str, _Reader] = {**float_readers, **integer_readers, **text_readers, **image_readers}
    row = 0
    for part in iterate_rows(star, table):
        for label, reader in readers.items():
            token = part.tokens.first[part.rows] + reader.index
            start, stop = part.tokens.start[token], part.tokens.stop[token]
            try:
                reader.take(row, part.data, start, stop)
            except _ConversionError as bad:
                line = part.line + int(part.rows[bad.row])
                raise InputError(f"{star.path}: line {line}, column {label}: {bad}; correct that value") from None
        row += len(part.rows)
    return Columns(
        {label: reader.result() for label, reader in float_readers.items()},
        {label: reader.whole() for label, reader in integer_readers.items()},
        {label: reader.result() for label, reader in text_readers.items()},
        {label: reader.result() for label, reader in image_readers.items()},
    )


def line_of_row(star: StarFile, table: Table, row: int) -> int:
    """Return the line number (from 1) of a row, for messages."""
    before = 0
    for part in iterate_rows(star, table):
        if row < before + len(part.rows):
            return part.line + int(part.rows[row - before])
        before += len(part.rows)
    raise IndexError(row)


class _ConversionError(ValueError):
    """A value that cannot be converted; ``row`` counts within the piece."""

    def __init__(self, row: int, message: str) -> None:
        super().__init__(message)
        self.row = row


class _Floats:
    def __init__(self, index: int, n_rows: int) -> None:
        self.index = index
        self._out = np.empty(n_rows)

    def take(self, row: int, data: bytes, start: Positions, stop: Positions) -> None:
        self._out[row : row + len(start)] = _numbers(data, start, stop)

    def result(self) -> FloatArray:
        return self._out


class _Integers(_Floats):
    def take(self, row: int, data: bytes, start: Positions, stop: Positions) -> None:
        values = _numbers(data, start, stop)
        broken = values != np.rint(values)
        if broken.any():
            k = int(broken.argmax())
            raise _ConversionError(k, f"{_shown(data, start[k], stop[k])} is not a whole number")
        self._out[row : row + len(start)] = values

    def whole(self) -> IntArray:
        return self._out.astype(np.int64)


class _Texts:
    def __init__(self, index: int, n_rows: int) -> None:
        self.index = index
        self._codes = np.empty(n_rows, np.int64)
        self._known: dict[bytes, int] = {}

    def take(self, row: int, data: bytes, start: Positions, stop: Positions) -> None:
        if not len(start):
            return
        if len(start) * int((stop - start).max()) > _WIDEST_BATCH:  # one very long value among many short ones
            spans = zip(start.tolist(), stop.tolist(), strict=True)
            self._codes[row : row + len(start)] = [self._code(unquote(data[a:b])) for a, b in spans]
            return
        values = as_strings(gather(data, start, stop))
        new, repeats = _runs(values)
        codes = [self._code(value) for value in values[new].tolist()]
        self._codes[row : row + len(start)] = np.repeat(codes, repeats)

    def _code(self, value: bytes) -> int:
        return self._known.setdefault(value, len(self._known))

    def result(self) -> TextColumn:
        return TextColumn(tuple(self._known), self._codes)


class _Images:
    def __init__(self, index: int, n_rows: int) -> None:
        self.index = index
        self._files = _Texts(index, n_rows)
        self._slices = np.full(n_rows, -1, np.int64)

    def take(self, row: int, data: bytes, start: Positions, stop: Positions) -> None:
        text = np.frombuffer(data, np.uint8)
        quoted = (text[start] == ord('"')) | (text[start] == ord("'"))
        start, stop = start + quoted, stop - quoted
        number, at = np.zeros(len(start), np.int64), start.copy()
        active = np.arange(len(start))
        while active.size:  # digit by digit: as often as the longest number
            byte = text[at[active]]
            more = (byte >= ord("0")) & (byte <= ord("9")) & (at[active] < stop[active])
            active = active[more]
            number[active] = 10 * number[active] + (byte[more] - ord("0"))
            at[active] += 1
        numbered = (at > start) & (at < stop) & (text[at] == ord("@"))
        zero = numbered & (number == 0)
        if zero.any():
            k = int(zero.argmax())
            raise _ConversionError(k, f"{_shown(data, start[k], stop[k])} asks for image 0, but images count from 1")
        self._slices[row : row + len(start)] = np.where(numbered, number - 1, -1)
        self._files.take(row, data, np.where(numbered, at + 1, start), stop)

    def result(self) -> ImageNames:
        return ImageNames(self._files.result(), self._slices)


_Reader = _Floats | _Integers | _Texts | _Images


def _runs(values: NDArray[np.bytes_]) -> tuple[Positions, Positions]:
    """Return where values differ from their neighbour before, and how often each stands there in a row.

    Neighbours often agree (the particles of one micrograph follow each other), and comparing is the cheapest step.
    """
    new = np.flatnonzero(np.concatenate(([True], values[1:] != values[:-1])))
    return new, np.diff(new, append=len(values))


def _shown(data: bytes, start: int, stop: int) -> str:
    text = text_of(unquote(data[start:stop]))
    return repr(text if len(text) <= 60 else text[:60] + "...")


def _numbers(data: bytes, start: Positions, stop: Positions) -> FloatArray:
    """Convert values to finite floats; the first that is none raises."""
    if not len(start):
        return np.empty(0)
    wide = stop - start > _WIDEST_NUMBER
    if not wide.any():
        rows = gather(data, start, stop)
        try:
            texts = as_strings(rows)
            new, repeats = _runs(texts)
            values = texts[new].astype(np.float64)
            if np.isfinite(values).all() and not (rows == ord("_")).any():  # Python's float takes 1_000
                return np.repeat(values, repeats)
        except ValueError:
            pass
    for k, (a, b) in enumerate(zip(start.tolist(), stop.tolist(), strict=True)):
        text = unquote(data[a:b])
        try:
            finite = np.isfinite(float(text)) and b"_" not in text and len(text) <= _WIDEST_NUMBER
        except ValueError:
            finite = False
        if not finite:
            raise _ConversionError(k, f"{_shown(data, a, b)} is not a number")
    return np.array([float(unquote(data[a:b])) for a, b in zip(start.tolist(), stop.tolist(), strict=True)])
