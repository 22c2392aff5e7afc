"""Cutting STAR text into lines and values: the bulk way must equal the plain statement of RELION's rules."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pickbias_relion.star_scan import (
    LineError,
    as_strings,
    find_tokens,
    gather,
    line_chunks,
    line_heads,
    token_spans,
    unquote,
    values_of,
)

ANY_LINE = st.text(alphabet="ab1._@/[]-#'\" \t\r\x0b;", max_size=24).map(lambda s: s.encode())


def tokens_of_relion(line: bytes) -> list[bytes]:
    """Cut one line as RELION's ``nextTokenInSTAR`` does, character by character (blank = any byte up to 0x20)."""
    found, at = [], 0
    while True:
        while at < len(line) and line[at] <= 0x20:
            at += 1
        if at == len(line) or line[at : at + 1] == b"#":
            return found
        quote = line[at : at + 1]
        if quote in (b'"', b"'"):
            end = at + 1
            while end < len(line) and not (
                line[end : end + 1] == quote and (end + 1 == len(line) or line[end + 1] <= 0x20)
            ):
                end += 1
            if end == len(line):
                raise ValueError("unclosed")
            found.append(line[at + 1 : end])
            at = end + 1
        else:
            end = at
            while end < len(line) and line[end] > 0x20:
                end += 1
            found.append(line[at:end])
            at = end


@given(ANY_LINE)
@settings(deadline=None, derandomize=True, max_examples=200)
@example(b"\"a\"b\" c 'd'e' #f")
@example(b"''")
@example(b"'")
@example(b"O'Brien/m.mrc a#b #c 'd")
def test_spans_of_a_line_are_those_of_relion(line: bytes) -> None:
    try:
        expected = tokens_of_relion(line)
    except ValueError:
        with pytest.raises(LineError, match="never closed"):
            token_spans(line)
        return
    assert [unquote(line[a:b]) for a, b in token_spans(line)] == expected
    assert values_of(line) == expected


@given(st.lists(ANY_LINE, min_size=1, max_size=12))
@settings(deadline=None, derandomize=True, max_examples=120)
def test_bulk_cutting_equals_line_by_line(lines: list[bytes]) -> None:
    data = b"\n".join(lines) + b"\n"
    expected = []
    for number, line in enumerate(lines):
        try:
            expected.append(tokens_of_relion(line))
        except ValueError:
            with pytest.raises(LineError) as caught:
                find_tokens(data)
            assert caught.value.line == number
            return
    tokens = find_tokens(data)
    assert tokens.n_values.tolist() == [len(words) for words in expected]
    assert [data[a:b] for a, b in zip(tokens.line_start, tokens.line_stop, strict=True)] == [x + b"\n" for x in lines]
    for k, words in enumerate(expected):
        at = slice(tokens.first[k], tokens.first[k] + tokens.n_values[k])
        spans = zip(tokens.start[at].tolist(), tokens.stop[at].tolist(), strict=True)
        assert [unquote(data[a:b]) for a, b in spans] == words
    everything = as_strings(gather(data, tokens.start, tokens.stop)).tolist() if len(tokens.start) else []
    assert everything == [word for words in expected for word in words]


@given(st.lists(ANY_LINE, min_size=1, max_size=12))
@settings(deadline=None, derandomize=True)
def test_heads_are_the_first_dark_bytes(lines: list[bytes]) -> None:
    data = b"\n".join(lines) + b"\n"
    stop, head = line_heads(np.frombuffer(data, np.uint8))
    start = 0
    for k, line in enumerate(lines):
        dark = [i for i, byte in enumerate(line) if byte > 0x20]
        assert head[k] == start + (dark[0] if dark else len(line))
        start += len(line) + 1
        assert stop[k] == start


@given(st.binary(max_size=60), st.integers(1, 9), st.integers(0, 20), st.integers(0, 70))
@settings(deadline=None, derandomize=True, max_examples=120)
def test_chunks_join_to_the_text_and_end_at_line_breaks(text: bytes, size: int, start: int, stop: int) -> None:
    part = text[start:stop]
    chunks = list(line_chunks(io.BytesIO(text), start, min(stop, len(text)), size))
    joined = b"".join(data for _, data in chunks)
    assert joined == part + (b"\n" if part and not part.endswith(b"\n") else b"")
    assert all(data.endswith(b"\n") for _, data in chunks)
    at = start
    for offset, data in chunks:
        assert offset == at
        at += len(data)


def test_a_value_at_the_end_of_the_text_is_gathered_whole() -> None:
    data = b"a bcdef\n"
    assert as_strings(gather(data, np.array([0, 2]), np.array([1, 7]))).tolist() == [b"a", b"bcdef"]


def test_no_values_give_no_rows() -> None:
    assert as_strings(gather(b"\n", np.zeros(0, np.int64), np.zeros(0, np.int64))).shape == (0,)
