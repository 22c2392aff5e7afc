"""Pick STAR files with picks moved or added by hand: every other row, block and byte as it stood."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_pickbias.errors import InputError
from napari_pickbias.records.atomic import atomic_path
from napari_pickbias.records.pick_edits import NOT_MEASURED, PickEdits, donor_row
from pickbias_relion.micrographs import NAMES
from pickbias_relion.star import StarFile, open_star
from pickbias_relion.star_columns import Columns, TextColumn, iterate_rows, read_columns
from pickbias_relion.star_index import Table
from pickbias_relion.star_scan import line_chunks
from pickbias_relion.star_subset import format_values, quote_value

OWN = ("rlnAutopickFigureOfMerit", "rlnAnglePsi", "rlnClassNumber")
"""What is each pick's own and has no value for one picked by hand: RELION's manual picks say -999 here."""
_CORNERS = {"CoordinateX": "Width", "CoordinateY": "Height"}
"""crYOLO's coordinates are those of the box's corner."""

Texts = Mapping[int, bytes]


def write_edited(
    source_path: str | Path, keep: NDArray[np.bool_], target_path: str | Path, edits: PickEdits
) -> list[Path]:
    """Write the kept rows of a pick STAR with moved coordinates, then the added picks.

    Parameters
    ----------
    source_path, target_path : str or Path
        Different files.
    keep : ndarray of bool, shape (n,)
        One value per row of the source.
    edits : PickEdits
        Micrographs are numbered in order of appearance. An added row takes what all rows of its micrograph share (its
        name, optics group, defocus); scores, angles and classes are -999, other numbers 0, other text ``None``.

    Raises
    ------
    InputError
        When the rows have particle images, nothing is left to write, the source changed, or the target cannot be
        written.
    """
    star, target = open_star(source_path), Path(target_path)
    table = star.rows()
    if "rlnImageName" in table.labels:
        raise InputError(
            f"{star.path}: its rows are extracted particles, whose images belong to the old places; move or add picks "
            "in the file they were extracted from"
        )
    if target.exists() and target.samefile(star.path):
        raise InputError(f"{target}: is the file that is read, which is never overwritten; choose another name")
    if len(keep) != table.n_rows:
        raise InputError(f"{star.path}: its picks changed while they were looked at; open it again")
    if not keep.any() and not len(edits.added_px):
        raise InputError(f"{star.path}: 0 of {table.n_rows} picks kept, so none is written; loosen the criterion")
    labels = list(dict.fromkeys(table.labels))
    columns = read_columns(star, table, texts=labels)
    axes = _axes(star, table)
    added = _added_lines(table, columns, axes, edits)
    _write(star, table, keep, target, _moved_texts(table, columns, axes, edits), added)
    return [target]


def _axes(star: StarFile, table: Table) -> tuple[str, str]:
    for names in (("rlnCoordinateX", "rlnCoordinateY"), ("CoordinateX", "CoordinateY")):
        if all(name in table.labels for name in names):
            return names
    raise InputError(
        f"{star.path}: {table.name} has no coordinates, so no pick can be moved or added; open a pick file"
    )


def _number(value: float) -> bytes:
    return format_values(np.round([value], 3))[0]


def _half(columns: Columns, label: str, row: int) -> float:
    """Return what lies between the centre and what the column holds."""
    side = _CORNERS.get(label)
    if side is None or side not in columns.texts:
        return 0.0
    text = columns.texts[side]
    return float(text.values[int(text.codes[row])]) / 2


def _moved_texts(
    table: Table, columns: Columns, axes: tuple[str, str], edits: PickEdits
) -> dict[int, dict[int, bytes]]:
    """Return the new texts of each moved row, by index of the column."""
    found = {}
    for row, xy in zip(edits.moved.tolist(), edits.moved_px.tolist(), strict=True):
        places = zip(axes, xy, strict=True)
        found[row] = {table.labels.index(name): _number(value - _half(columns, name, row)) for name, value in places}
    return found


def _added_lines(table: Table, columns: Columns, axes: tuple[str, str], edits: PickEdits) -> list[bytes]:
    name = next((label for label in NAMES if label in columns.texts), None)
    micrograph = np.zeros(table.n_rows, np.int64) if name is None else columns.texts[name].codes
    lines = []
    defaults: dict[int, dict[str, bytes]] = {}
    for where, xy in zip(edits.added_micrograph.tolist(), edits.added_px.tolist(), strict=True):
        if where not in defaults:
            defaults[where] = {k: _default(k, text, micrograph, where) for k, text in columns.texts.items()}
        row = dict(defaults[where])
        for label, value in zip(axes, xy, strict=True):
            side = _CORNERS.get(label, "")
            row[label] = _number(value - (float(row[side]) / 2 if side in row else 0.0))
        lines.append(b" ".join(row[label] for label in table.labels))
    return lines


def _default(label: str, text: TextColumn, micrograph: NDArray[np.int64], where: int) -> bytes:
    """Return what stands in a column of an added row."""
    if label in OWN or label.startswith("pickbias"):
        return b"%d" % NOT_MEASURED
    donor = donor_row(text.codes, micrograph, where)
    if donor >= 0:
        return quote_value(text.values[int(text.codes[donor])].decode("utf-8", "surrogateescape"))
    try:
        numbers = [float(value) for value in text.values]
    except ValueError:
        return b"None"
    # Boxes of an added pick are as wide as the others'.
    return _number(float(np.median(numbers))) if label in _CORNERS.values() and numbers else b"0"


def _write(
    star: StarFile,
    table: Table,
    keep: NDArray[np.bool_],
    target: Path,
    moved: Mapping[int, Texts],
    added: list[bytes],
) -> None:
    ending = b"\n"
    with atomic_path(target) as temporary, temporary.open("wb") as out, star.path.open("rb") as stream:
        for offset, data in line_chunks(stream, 0, table.rows_start):
            out.write(data[: table.rows_start - offset])
        row, between = 0, b""  # blank lines and comments after the last row stay behind the added ones
        for part in iterate_rows(star, table):
            tokens, is_row = part.tokens, part.tokens.n_values > 0
            for line in range(len(is_row)):
                start, stop = int(tokens.line_start[line]), int(tokens.line_stop[line])
                if not is_row[line]:
                    between += part.data[start:stop]
                    continue
                out.write(between)
                between = b""
                if keep[row]:
                    first = int(tokens.first[line])
                    at = start
                    for index, text in sorted(moved.get(row, {}).items()):
                        out.write(part.data[at : int(tokens.start[first + index])] + text)
                        at = int(tokens.stop[first + index])
                    out.write(part.data[at:stop])
                    ending = b"\r\n" if part.data[start:stop].endswith(b"\r\n") else b"\n"
                row += 1
        out.writelines(line + b" " + ending for line in added)
        out.write(between)
        for offset, data in line_chunks(stream, table.rows_stop, star.size):
            out.write(data[: star.size - offset])
