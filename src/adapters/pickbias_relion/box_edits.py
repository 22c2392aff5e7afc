"""EMAN ``.box`` files with picks moved or added by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_pickbias.errors import InputError
from napari_pickbias.records.atomic import atomic_path
from napari_pickbias.records.pick_edits import PickEdits


def write_edited_boxes(path: Path, keep: NDArray[np.bool_], target: Path, edits: PickEdits) -> list[Path]:
    """Write the kept lines with moved corners, then added boxes as wide as the first one, their score 0.

    Raises
    ------
    InputError
        When picks are added to a file without boxes, whose width nobody knows.
    """
    lines = path.read_bytes().splitlines(keepends=True)
    moved = dict(zip(edits.moved.tolist(), edits.moved_px.tolist(), strict=True))
    written, row, first = [], 0, None
    for line in lines:
        words = line.split()
        if not words or line.lstrip().startswith(b"#"):
            written.append(line)
            continue
        first = first or words
        if keep[row]:
            written.append(_line(words, moved[row], words[4:]) if row in moved else line)
        row += 1
    if len(edits.added_px):
        if first is None:
            raise InputError(f"{path}: has no box whose width an added pick could take; save as STAR instead")
        if written and not written[-1].endswith(b"\n"):
            written[-1] += b"\n"
        rest = [b"-3" if word == b"-3" else b"0" for word in first[4:]]  # EMAN 1 marks ordinary boxes with -3
        written += [_line(first, xy, rest) for xy in edits.added_px.tolist()]
    with atomic_path(target) as temporary:
        temporary.write_bytes(b"".join(written))
    return [Path(target)]


def _line(words: list[bytes], centre: list[float], rest: list[bytes]) -> bytes:
    """Return a line with the size of ``words`` around another centre."""
    corner = [b"%.10g" % (at - float(side) / 2) for at, side in zip(centre, words[2:4], strict=True)]
    return b"\t".join([*corner, *words[2:4], *rest]) + b"\n"
