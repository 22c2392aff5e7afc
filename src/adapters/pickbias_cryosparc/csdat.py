"""CSDAT, the column-stream form of ``.cs`` files: what CryoSPARC's client writes on request and sends over the wire.

Layout (read from cryosparc-tools 5.0.3): the magic, the header's length (u4), a JSON header, then for each column its
length (u4) and its bytes, plain or as one LZ4 block; text columns hold offsets (u8) into the heap of NUL-terminated
strings that ends the file. The client's own reader brings the whole process down on a damaged file (seen: a
segmentation fault on one that was cut short), so files are read here, every length checked.
"""

from __future__ import annotations

import json
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

MAGIC = b"\x95CSDAT"
_MOST_BYTES = 1 << 40


def decode(content: bytes) -> NDArray[Any]:
    """Return the rows of a CSDAT file as a structured array, text as UTF-8 bytes.

    Raises ``ValueError`` that says what is wrong where the content is damaged.
    """
    header, at = _header(content)
    n = header["length"]
    columns: list[tuple[str, np.dtype[Any], tuple[int, ...], NDArray[np.uint8]]] = []
    for name, code, *shape in header["dtype"]:
        dtype, sides = np.dtype("<u8" if code == "|O" else code), tuple(shape[0]) if shape else ()
        if dtype.kind not in "fiuc" or n * dtype.itemsize * int(np.prod(sides, dtype=object)) > _MOST_BYTES:
            raise ValueError(f"column {name} has the impossible type {code}")
        data = b""
        if n:
            size = int.from_bytes(_slice(content, at, 4, name), "little")
            data, at = _slice(content, at + 4, size, name), at + 4 + size
        raw = np.frombuffer(data, np.uint8)
        size = n * dtype.itemsize * int(np.prod(sides, dtype=np.int64))
        if n and name in header["compressed_fields"]:
            raw = lz4_block(raw, size)
        if len(raw) != size:
            raise ValueError(f"column {name} has {len(raw)} bytes where {size} are due")
        columns.append((name, dtype, sides, raw))
    values: dict[str, NDArray[Any]] = {}
    for (name, dtype, sides, raw), (_, code, *_rest) in zip(columns, header["dtype"], strict=True):
        column = raw.view(dtype).reshape(n, *sides)
        values[name] = _texts(column, content[at:], name) if code == "|O" else column
    rows = np.empty(n, [(name, v.dtype, v.shape[1:]) for name, v in values.items()])
    for name, column in values.items():
        rows[name] = column
    return rows


def _header(content: bytes) -> tuple[dict[str, Any], int]:
    size = int.from_bytes(_slice(content, len(MAGIC), 4, "header"), "little")
    start = len(MAGIC) + 4
    try:
        header = json.loads(_slice(content, start, size, "header"))
        sound = (
            isinstance(header["length"], int)
            and header["length"] >= 0
            and header["compression"] in (None, "lz4")
            and all(isinstance(field, list) and len(field) in (2, 3) for field in header["dtype"])
            and isinstance(header.setdefault("compressed_fields", []), list)
        )
    except (KeyError, TypeError, AttributeError, UnicodeDecodeError, json.JSONDecodeError):
        sound = False
    if not sound:
        raise ValueError("its header makes no sense")
    return header, start + size


def _slice(content: bytes, at: int, size: int, what: str) -> bytes:
    if at + size > len(content):
        raise ValueError(f"it ends inside {'its' if what == 'header' else 'the column'} {what}")
    return content[at : at + size]


def _texts(offsets: NDArray[np.uint64], heap: bytes, name: str) -> NDArray[np.bytes_]:
    unique, index = np.unique(offsets, return_inverse=True)
    texts = []
    for offset in unique.tolist():
        end = heap.find(b"\0", offset)
        if offset > len(heap) or end < 0:
            raise ValueError(f"a text of column {name} lies beyond the end")
        texts.append(heap[offset:end])
    return np.array(texts, f"S{max([1, *map(len, texts)])}")[index.reshape(-1)]


def encode(rows: NDArray[Any]) -> bytes:
    """Return a structured array as the content of a CSDAT file, without compression."""
    heap, offsets = bytearray(b"\0"), {b"": 0}
    fields: list[list[Any]] = []
    parts: list[bytes] = []
    for name in rows.dtype.names or ():
        column = np.ascontiguousarray(rows[name])
        if column.dtype.kind == "S":
            unique, index = np.unique(column, return_inverse=True)
            for text in map(bytes, unique):
                if text not in offsets:
                    offsets[text] = len(heap)
                    heap += text + b"\0"
            column = np.array([offsets[bytes(u)] for u in unique], "<u8")[index.reshape(-1)]
            fields.append([name, "|O"])
        else:
            column = column.astype(column.dtype.newbyteorder("<"), copy=False)
            fields.append([name, column.dtype.str, *([list(column.shape[1:])] if column.ndim > 1 else [])])
        if len(rows):
            parts += [column.nbytes.to_bytes(4, "little"), column.tobytes()]
    header = {"length": len(rows), "dtype": fields, "compression": None, "compressed_fields": []}
    text = json.dumps(header).encode()
    return b"".join([MAGIC, len(text).to_bytes(4, "little"), text, *parts, bytes(heap)])


def lz4_block(block: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Return the ``size`` bytes that an LZ4 block unpacks to.

    Source: "LZ4 Block Format Description" of the LZ4 project. Raises ``ValueError`` where the block is damaged or
    unpacks to another size.
    """
    out = np.empty(size, np.uint8)
    if int(_unpack(block, out)) != size:
        raise ValueError("a packed column is damaged")
    return out


@numba.njit(cache=True, nogil=True)
def _unpack(block: Any, out: Any) -> Any:  # pragma: no cover (compiled)
    """Unpack into ``out``; return how many bytes came, or -1 for a block that is not sound."""
    at, done, end, room = 0, 0, len(block), len(out)
    while at < end:
        token = block[at]
        at += 1
        length = token >> 4
        if length == 15:
            more = 255
            while more == 255:
                if at >= end:
                    return -1
                more = block[at]
                at += 1
                length += more
        if at + length > end or done + length > room:
            return -1
        out[done : done + length] = block[at : at + length]
        at += length
        done += length
        if at == end:  # the last sequence is literals alone
            return done
        if at + 2 > end:
            return -1
        back = int(block[at]) | (int(block[at + 1]) << 8)
        at += 2
        length = (token & 15) + 4
        if length == 19:
            more = 255
            while more == 255:
                if at >= end:
                    return -1
                more = block[at]
                at += 1
                length += more
        if back == 0 or back > done or done + length > room:
            return -1
        for i in range(length):  # one by one: the copy may overlap itself
            out[done + i] = out[done - back + i]
        done += length
    return -1
