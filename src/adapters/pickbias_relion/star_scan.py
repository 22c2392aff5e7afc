"""Lines and values of STAR text, found in bulk.

STAR text is treated as bytes. Every byte up to the blank (0x20) separates values, so tabs, carriage returns and form
feeds do; a value may be quoted with ``"`` or ``'``; ``#`` starts a comment where a value could start, and only there
(RELION's own rules, ``nextTokenInSTAR`` in its ``src/strings.cpp``). Rows without quotes and comments, which is nearly
all, are cut with array operations; the others, one by one, by :func:`token_spans`, the plain statement of the rules.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Positions = NDArray[np.int64]

CHUNK = 1 << 20
"""Bytes read at a time: what bounds the memory, whatever the file's size."""

NEWLINE, BLANK, COMMENT, DOUBLE, SINGLE = b"\n"[0], b" "[0], b"#"[0], b'"'[0], b"'"[0]

# A quote ends only where a blank or the line's end follows, so apostrophes inside names are ordinary characters.
_TOKEN = re.compile(
    rb"""(?P<comment>\#[^\n]*)
       | "[^\n]*?"(?=[\x00-\x20]|\Z)
       | '[^\n]*?'(?=[\x00-\x20]|\Z)
       | [^\x00-\x20]+""",
    re.VERBOSE,
)


class LineError(ValueError):
    """A line that cannot be cut into values.

    ``line`` counts from 0 at the start of the text that was given.
    """

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


class Tokens(NamedTuple):
    """The values of a piece of text: positions of lines, and of values inside them (quotes included)."""

    line_start: Positions  # (lines,)
    line_stop: Positions  # (lines,) just past the line break
    first: Positions  # (lines,) index of each line's first value in start and stop
    n_values: Positions  # (lines,) of each line: 0 for blank lines and comments
    start: Positions  # (values,)
    stop: Positions  # (values,)


def token_spans(line: bytes) -> list[tuple[int, int]]:
    """Return start and stop of each value of one line, quotes included; comments left out.

    Raises
    ------
    LineError
        When a quote at the start of a value is not closed.
    """
    spans = []
    for match in _TOKEN.finditer(line):
        if match["comment"] is not None:
            continue
        token = match[0]
        if token[0] in (DOUBLE, SINGLE) and (len(token) == 1 or token[-1] != token[0]):
            raise LineError(0, f"has a {chr(token[0])} that is never closed")
        spans.append(match.span())
    return spans


def unquote(token: bytes) -> bytes:
    """Return a value without its quotes."""
    return token[1:-1] if token[:1] in (b'"', b"'") else token


def values_of(line: bytes) -> list[bytes]:
    """Return the values of one line, unquoted; an unclosed quote counts as an ordinary character."""
    try:
        return [unquote(line[start:stop]) for start, stop in token_spans(line)]
    except LineError:
        return line.split()


def line_chunks(stream: BinaryIO, start: int, stop: int, size: int = CHUNK) -> Iterator[tuple[int, bytes]]:
    """Yield ``(offset, text)`` of the bytes ``start`` to ``stop``, cut at line breaks.

    Every text ends with a line break: one is added to a last line that lacks it (so the last text may reach one byte
    beyond ``stop``).
    """
    stream.seek(start)
    offset, carried = start, b""
    while offset + len(carried) < stop:
        read = stream.read(min(size, stop - offset - len(carried)))
        if not read:
            break
        cut = read.rfind(b"\n") + 1
        if cut:
            data = b"".join((carried, memoryview(read)[:cut]))  # copied once
            yield offset, data
            offset += len(data)
            carried = read[cut:]
        else:
            carried += read
    if carried:
        yield offset, carried + b"\n"


def line_heads(text: Bytes) -> tuple[Positions, Positions]:
    """Return stop and first dark byte of each line; a blank line's head is its line break."""
    stop = np.flatnonzero(text == NEWLINE) + 1
    head = np.concatenate(([0], stop[:-1]))
    blank = np.flatnonzero((text[head] <= BLANK) & (head < stop - 1))
    while blank.size:  # as often as the deepest indentation, over fewer and fewer lines
        head[blank] += 1
        at = head[blank]
        blank = blank[(text[at] <= BLANK) & (at < stop[blank] - 1)]
    return stop, head


def find_tokens(data: bytes) -> Tokens:
    """Cut text that ends with a line break into lines and values.

    Raises
    ------
    LineError
        For an unclosed quote.
    """
    text = np.frombuffer(data, np.uint8)
    dark = text > BLANK
    edges = np.flatnonzero(dark[1:] != dark[:-1]) + 1
    if dark[0]:
        edges = np.concatenate(([0], edges))
    start, stop = edges[0::2], edges[1::2]
    line_stop = np.flatnonzero(text == NEWLINE) + 1
    line_start = np.concatenate(([0], line_stop[:-1]))
    heads = text[start]
    special = (heads == COMMENT) | (heads == DOUBLE) | (heads == SINGLE)
    if special.any():
        lines = np.unique(np.searchsorted(line_stop, start[special], side="right"))
        start, stop = _recut(data, lines, line_start, line_stop, start, stop)
    first = np.searchsorted(start, line_start)
    count = np.diff(first, append=len(start))
    return Tokens(line_start, line_stop, first, count, start, stop)


def _recut(
    data: bytes, lines: Positions, line_start: Positions, line_stop: Positions, start: Positions, stop: Positions
) -> tuple[Positions, Positions]:
    """Replace the values of ``lines`` by what :func:`token_spans` says of them."""
    spans: list[tuple[int, int]] = []
    for line, begin, end in zip(lines.tolist(), line_start[lines].tolist(), line_stop[lines].tolist(), strict=True):
        try:
            spans += [(begin + a, begin + b) for a, b in token_spans(data[begin:end])]
        except LineError as error:
            raise LineError(line, str(error)) from None
    plain = ~np.isin(np.searchsorted(line_stop, start, side="right"), lines)
    cut = np.array(spans, np.int64).reshape(-1, 2)
    start = np.concatenate((start[plain], cut[:, 0]))
    stop = np.concatenate((stop[plain], cut[:, 1]))
    order = np.argsort(start, kind="stable")
    return start[order], stop[order]


def gather(data: bytes, start: Positions, stop: Positions) -> Bytes:
    """Return the values as the rows of a ``(n, longest)`` array, without quotes, padded with zeros."""
    text = np.frombuffer(data, np.uint8)
    if start.size == 0:
        return np.zeros((0, 1), np.uint8)
    quoted = (text[start] == DOUBLE) | (text[start] == SINGLE)
    start, stop = start + quoted, stop - quoted
    width = max(1, int((stop - start).max()))
    # Windows may reach beyond the text; the padding keeps them legal.
    windows = np.lib.stride_tricks.sliding_window_view(np.concatenate((text, np.zeros(width, np.uint8))), width)
    rows = windows[start]
    rows *= np.arange(width) < (stop - start)[:, None]
    return rows


def as_strings(rows: Bytes) -> NDArray[np.bytes_]:
    """View the rows of :func:`gather` as fixed-width byte strings."""
    return np.ascontiguousarray(rows).view(f"S{rows.shape[1]}")[:, 0]
