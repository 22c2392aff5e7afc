"""Subsets of STAR files: the kept lines and everything else, byte for byte, with own columns where wanted."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_pickbias.errors import InputError
from napari_pickbias.records.atomic import atomic_path
from pickbias_relion.star import StarFile, open_star
from pickbias_relion.star_columns import Rows, iterate_rows
from pickbias_relion.star_index import Table
from pickbias_relion.star_scan import line_chunks

NOT_A_NUMBER = b"-999"
"""Stands for NaN in own columns: RELION's own filler, because RELION reads ``nan`` as 0."""

BEYOND = b"1e+30"
"""Stands for infinity in own columns (with its sign): larger than any score, and within single precision."""

_NAME = re.compile(r"_?[A-Za-z][A-Za-z0-9_]*")


def own_label(name: str) -> str:
    """Return the STAR label, without ``_``, of an own column.

    ``log_odds_noise`` becomes ``pickbiasLogOddsNoise``; names that begin with ``pickbias`` or ``rln`` (with or without
    ``_``) are labels already.

    Raises
    ------
    ValueError
        When the name holds anything but letters, digits and ``_``.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(f"`{name}` cannot be a STAR label: use letters, digits and _ only")
    name = name.lstrip("_")
    if re.match(r"(pickbias|rln)[A-Z]", name):
        return name
    return "pickbias" + "".join(part[:1].upper() + part[1:] for part in name.split("_"))


def format_values(values: NDArray[np.generic] | Sequence[object]) -> list[bytes]:
    """Return the text of own values as RELION reads them.

    Floats are the shortest text that gives the same number in their own precision; NaN and infinities become
    :data:`NOT_A_NUMBER` and :data:`BEYOND`; truth is 1 or 0; text is quoted where it must be.

    Raises
    ------
    ValueError
        For text with a line break, or with both kinds of quotes and blanks.
    """
    array = np.asarray(values)
    if array.dtype.kind == "b":
        return [b"1" if v else b"0" for v in array.tolist()]
    if array.dtype.kind in "iu":
        return [b"%d" % v for v in array.tolist()]
    if array.dtype.kind == "f":
        texts = array.astype(np.bytes_).tolist() if array.size else []
        for k in np.flatnonzero(~np.isfinite(array)).tolist():
            value = array[k]
            texts[k] = NOT_A_NUMBER if np.isnan(value) else (b"-" if value < 0 else b"") + BEYOND
        return texts
    return [quote_value(str(v)) for v in array.tolist()]


def quote_value(text: str) -> bytes:
    """Return text as one STAR value."""
    if "\n" in text or "\r" in text:
        raise ValueError(f"a line break cannot stand in a STAR value: {text!r}")
    raw = text.encode("utf-8", "surrogateescape")
    plain = raw and raw[:1] not in (b'"', b"'", b"#", b"_", b";") and not re.search(rb"[\x00-\x20]", raw)
    if plain and not raw.startswith((b"data_", b"loop_")):
        return raw
    for quote in (b'"', b"'"):
        # A quote inside is harmless unless a blank (or the end) follows it.
        if not re.search(re.escape(quote) + rb"(?=[\x00-\x20]|\Z)", raw):
            return quote + raw + quote
    raise ValueError(f"both kinds of quotes stand before blanks in {text!r}, which STAR cannot hold")


def write_subset(
    source_path: str | Path,
    keep: NDArray[np.bool_],
    target_path: str | Path,
    columns: Mapping[str, NDArray[np.generic]] | None = None,
) -> list[Path]:
    """Write the kept rows of a STAR file; everything else stays byte for byte as it was.

    The rows are those of :meth:`StarFile.rows`: the loop with ``rlnImageName``, else with tomo particles, coordinates
    or micrographs. Other blocks, comments, blank lines, order, version tags and line ends are copied. Without
    ``columns`` the written rows are byte for byte the lines read.

    Parameters
    ----------
    source_path, target_path : str or Path
        Different files.
    keep : ndarray of bool, shape (n,)
        One value per row of the source.
    columns : mapping of name to ndarray, shape (n,), optional
        Own columns (see :func:`own_label`). A label ``_pickbiasName #N`` is added after the last label, and the value
        after each row's last value, before a trailing comment and the line end. Where the source already has an own
        column of that name, its values are replaced in place. Values are written as :func:`format_values` says.

    Returns
    -------
    list of Path
        The target.

    Raises
    ------
    InputError
        When nothing is kept, the number of rows differs, a row is ragged, the source changed meanwhile, or the target
        cannot be written.
    ValueError
        For columns of another length, or a name of RELION's that the source already has.
    """
    star, target = open_star(source_path), Path(target_path)
    table = star.rows()
    keep = np.asarray(keep)
    if keep.dtype != np.bool_ or keep.ndim != 1:
        raise ValueError(f"`keep` must be one truth value a row, got {keep.dtype} of shape {keep.shape}")
    _check(star, table, keep, target)
    edit = _plan(table, keep, columns or {})
    with atomic_path(target) as temporary, temporary.open("wb") as out, star.path.open("rb") as stream:
        _copy_head(stream, table, edit, out)
        row = 0
        for part in iterate_rows(star, table):
            _write_rows(part, keep[row : row + len(part.rows)], row, edit, table, out)
            row += len(part.rows)
        _copy(stream, table.rows_stop, star.size, out)
    return [target]


def _check(star: StarFile, table: Table, keep: NDArray[np.bool_], target: Path) -> None:
    if target.exists() and target.samefile(star.path):
        raise InputError(f"{target}: is the file that is read, which is never overwritten; choose another name")
    if len(keep) != table.n_rows:
        raise InputError(
            f"{star.path}: {table.name} has {table.n_rows} rows but {len(keep)} verdicts were made; "
            "the file changed meanwhile, run again"
        )
    if not keep.any():
        raise InputError(
            f"{star.path}: 0 of {table.n_rows} particles kept; RELION cannot read an empty particle set, "
            "so none is written: loosen the criterion"
        )


class _Edit(NamedTuple):
    """What changes in every kept row."""

    replaced: list[tuple[int, list[bytes]]]  # (index of a column of the source, its new texts by kept row)
    added: list[bytes]  # text added to each kept row, with its leading blank; empty without new columns
    labels: list[str]  # of the new columns
    kept_before: NDArray[np.int64]  # number of kept rows before each row


def _plan(table: Table, keep: NDArray[np.bool_], columns: Mapping[str, NDArray[np.generic]]) -> _Edit:
    replaced: list[tuple[int, list[bytes]]] = []
    added: list[list[bytes]] = []
    labels: list[str] = []
    seen: set[str] = set()
    for name, values in columns.items():
        label = own_label(name)
        if np.shape(values) != (table.n_rows,):
            raise ValueError(f"column `{name}` has shape {np.shape(values)}, the source has {table.n_rows} rows")
        if label in seen:
            raise ValueError(f"two columns become the label {label}")
        seen.add(label)
        texts = format_values(np.asarray(values)[keep])
        if label not in table.labels:
            labels.append(label)
            added.append(texts)
        elif label.startswith("pickbias"):
            replaced.append((table.labels.index(label), texts))
        else:
            raise ValueError(f"the source has a column {label} already, and only own columns are replaced")
    joined = [b" " + b" ".join(texts) for texts in zip(*added, strict=True)]
    return _Edit(sorted(replaced, key=lambda item: item[0]), joined, labels, np.cumsum(keep) - keep)


def _copy_head(stream: BinaryIO, table: Table, edit: _Edit, out: BinaryIO) -> None:
    """Copy what stands before the rows, with the labels of new columns in the manner of the last label's line."""
    start, stop = table.label_line
    _copy(stream, 0, stop, out)
    if edit.labels:
        stream.seek(start)
        line = stream.read(stop - start)
        numbered = b"#" in line
        ending = line[len(line.rstrip()) :]
        for number, label in enumerate(edit.labels, len(table.labels) + 1):
            out.write(b"_" + label.encode() + (b" #%d" % number if numbered else b"") + ending)
    _copy(stream, stop, table.rows_start, out)


def _copy(stream: BinaryIO, start: int, stop: int, out: BinaryIO) -> None:
    for offset, data in line_chunks(stream, start, stop):
        out.write(data[: stop - offset])


def _write_rows(part: Rows, keep: NDArray[np.bool_], row: int, edit: _Edit, table: Table, out: BinaryIO) -> None:
    """Write the kept lines of one piece, and the blank lines and comments between them."""
    tokens = part.tokens
    wanted = np.ones(len(tokens.n_values), np.bool_)
    wanted[part.rows] = keep
    text = memoryview(part.data)[: max(0, table.rows_stop - part.offset)]  # without a line end that was only added
    pieces: list[bytes | memoryview] = []
    if not (edit.added or edit.replaced):
        edges = np.flatnonzero(np.diff(wanted, prepend=False, append=False))
        for first, last in zip(edges[0::2].tolist(), (edges[1::2] - 1).tolist(), strict=True):
            pieces.append(text[tokens.line_start[first] : tokens.line_stop[last]])
        out.writelines(pieces)
        return
    is_row = tokens.n_values > 0
    kept = int(edit.kept_before[row]) if len(keep) else 0
    for line in np.flatnonzero(wanted).tolist():
        at = int(tokens.line_start[line])
        if is_row[line]:
            first = int(tokens.first[line])
            for index, texts in edit.replaced:
                pieces += [text[at : tokens.start[first + index]], texts[kept]]
                at = int(tokens.stop[first + index])
            if edit.added:
                end = int(tokens.stop[first + len(table.labels) - 1])
                pieces += [text[at:end], edit.added[kept]]
                at = end
            kept += 1
        pieces.append(text[at : tokens.line_stop[line]])
    out.writelines(pieces)
