"""MRC bytes packed by hand, field by field, so that the reader is not tested with its own layout."""

from __future__ import annotations

import struct
from collections.abc import Callable

import numpy as np
import pytest

CODES = {0: "i1", 1: "i2", 2: "f4", 6: "u2", 12: "f2"}


def mrc_bytes(
    array: np.ndarray,
    mode: int,
    order: str = "<",
    *,
    extended: bytes = b"",
    nsymbt: int | None = None,
    space_group: int = 1,
    samples: tuple[int, int, int] | None = None,
    cell: tuple[float, float, float] = (0.0, 0.0, 0.0),
    start: tuple[int, int, int] = (0, 0, 0),
    axes: tuple[int, int, int] = (1, 2, 3),
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0),
    statistics: tuple[float, float, float] = (0.0, -1.0, -2.0),
    imod: tuple[int, int] | None = None,
    map_id: bytes = b"MAP ",
    stamp: bytes | None = None,
) -> bytes:
    nz, ny, nx = array.shape
    stamp = stamp if stamp is not None else {"<": b"DD\0\0", ">": b"\x11\x11\0\0"}[order]
    head = struct.pack(order + "10i", nx, ny, nz, mode, *start, *(samples or (nx, ny, nz)))
    head += struct.pack(order + "6f", *cell, 90, 90, 90)
    head += struct.pack(order + "3i", *axes) + struct.pack(order + "3f", *statistics)
    head += struct.pack(order + "2i", space_group, len(extended) if nsymbt is None else nsymbt)
    head = head.ljust(152, b"\0") + (struct.pack(order + "2i", *imod) if imod else bytes(8))
    head = head.ljust(196, b"\0") + struct.pack(order + "3f", *origin) + map_id.ljust(4, b"\0") + stamp
    head = head.ljust(1024, b"\0")
    code = CODES.get(mode)
    return head + extended + (array.astype(order + code) if code else array).tobytes()


@pytest.fixture(scope="session")
def pack_mrc() -> Callable[..., bytes]:
    return mrc_bytes
