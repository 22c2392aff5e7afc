"""Picks: per-micrograph coordinate files of RELION, EMAN and crYOLO, and the lists that name them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from napari_pickbias.errors import InputError
from napari_pickbias.records.atomic import atomic_path
from pickbias_relion.micrographs import read_micrographs
from pickbias_relion.project_paths import resolve_all, tried
from pickbias_relion.star import StarFile, open_star
from pickbias_relion.star_columns import Columns, FloatArray, IntArray, TextColumn, read_columns
from pickbias_relion.star_index import Table, text_of
from pickbias_relion.star_write import loop_text, write_tables

NOT_SET = -999.0
"""RELION's filler for a pick's figure of merit, angle or class that nobody measured."""

_JOB = re.compile(r"^.+?/job\d{3}[^/]*/")
_SUFFIX = re.compile(r"coords_suffix_(.+)\.star$")


@dataclass(frozen=True)
class Picks:
    """The picks of one micrograph.

    Attributes
    ----------
    coordinates_px : ndarray, shape (n, 2)
        x, y of the centres in unbinned micrograph pixels.
    figure_of_merit : ndarray, shape (n,), or None
        The picker's score; NaN where it gave none. None where it gave none at all.
    psi_deg : ndarray, shape (n,), or None
        In-plane angle of the template that matched.
    template : ndarray of int, shape (n,), or None
        Number of the template that matched (``rlnClassNumber``, from 1; 0 where the picker has no templates); -1 where
        not set.
    """

    coordinates_px: FloatArray
    figure_of_merit: FloatArray | None = None
    psi_deg: FloatArray | None = None
    template: IntArray | None = None

    def __len__(self) -> int:
        return len(self.coordinates_px)

    def take(self, rows: NDArray[np.int64]) -> Picks:
        """Return the picks of ``rows``."""
        score, psi, template = (
            None if a is None else a[rows] for a in (self.figure_of_merit, self.psi_deg, self.template)
        )
        return Picks(self.coordinates_px[rows], score, psi, template)  # type: ignore[arg-type]


@dataclass(frozen=True)
class PickLists:
    """The picks of several micrographs, by the micrograph's name as the file has it."""

    picks: dict[str, Picks]
    notes: tuple[str, ...] = ()


def read_picks(path: str | Path) -> Picks:
    """Read the picks of one micrograph.

    Known kinds: coordinate STAR of RELION 3.0 to 5 (a file of zero bytes is RELION's way to say "none"), EMAN
    ``.box`` (corner and size of each box, and a score), crYOLO ``.cbox`` (as STAR or, before version 1.8, as text).

    Raises
    ------
    InputError
        When the file holds no coordinates, or a value is no number.
    """
    path = Path(path)
    if path.suffix.lower() == ".box":
        return _boxes(path)
    if path.suffix.lower() == ".cbox" and b"data_" not in _read(path):
        return _boxes(path)
    star = open_star(path)
    if not star.tables:
        return Picks(np.empty((0, 2)))
    table = star.rows()
    return _cryolo_picks(star, table) if "CoordinateX" in table.labels else _star_picks(star, table)[0]


def read_pick_lists(path: str | Path) -> PickLists:
    """Read the picks of several micrographs from whatever names them.

    Known kinds: RELION 4 and 5's ``autopick.star``/``manualpick.star`` (``data_coordinate_files``), RELION 3.1's
    ``coords_suffix_NAME.star`` (a text file that names the micrographs' STAR), and any STAR with both
    ``rlnMicrographName`` and coordinates (particles, or the lists of other pickers).

    Coordinate files that are not there are noted, as RELION takes them for micrographs without picks.

    Raises
    ------
    InputError
        When nothing of that kind is in the file, or none of the coordinate files is there.
    """
    path = Path(path)
    suffix = _SUFFIX.search(path.name)
    if suffix and b"data_" not in (text := _read(path)):
        return _suffix_picks(path, text, suffix[1])
    star = open_star(path)
    table = star.rows()
    if "rlnMicrographCoordinates" in table.labels:
        return _listed_picks(star, table)
    if "rlnMicrographName" not in table.labels or "rlnCoordinateX" not in table.labels:
        raise InputError(
            f"{path}: {table.name} names no micrographs with their picks; give an autopick.star, "
            "a coords_suffix file, or a STAR file with rlnMicrographName, rlnCoordinateX and rlnCoordinateY"
        )
    picks, columns = _star_picks(star, table, "rlnMicrographName")
    names = columns.texts["rlnMicrographName"]
    order = np.argsort(names.codes, kind="stable")
    edges = np.searchsorted(names.codes[order], np.arange(len(names.values) + 1))
    rows = (order[a:b] for a, b in itertools.pairwise(edges))
    return PickLists({text_of(n): picks.take(r) for n, r in zip(names.values, rows, strict=True)}, star.notes)


def write_picks(path: str | Path, picks: Picks) -> None:
    """Write the coordinate STAR of one micrograph (an unnamed block with a version tag, as RELION 3.1 to 5 read).

    Without picks a file of zero bytes is written, as RELION does: it cannot read an empty loop.

    Raises
    ------
    InputError
        When the file cannot be written.
    """
    if not len(picks):
        write_tables(path, [])
        return
    columns: dict[str, NDArray[np.generic]] = {
        "rlnCoordinateX": picks.coordinates_px[:, 0],
        "rlnCoordinateY": picks.coordinates_px[:, 1],
    }
    if picks.figure_of_merit is not None:
        columns["rlnAutopickFigureOfMerit"] = picks.figure_of_merit  # NaN becomes RELION's filler
    if picks.template is not None:
        columns["rlnClassNumber"] = np.where(picks.template < 0, int(NOT_SET), picks.template)
    if picks.psi_deg is not None:
        columns["rlnAnglePsi"] = picks.psi_deg
    write_tables(path, [loop_text("", columns)])


def write_coordinate_list(path: str | Path, files: Mapping[str, str]) -> None:
    """Write the pick list of RELION 4 and 5: micrograph name to coordinate file, both relative to the project.

    Raises
    ------
    InputError
        When the file cannot be written.
    ValueError
        Without micrographs.
    """
    columns = {"rlnMicrographName": list(files), "rlnMicrographCoordinates": list(files.values())}
    write_tables(path, [loop_text("coordinate_files", columns)])


def write_coords_suffix(folder: str | Path, pick_name: str, micrographs_star: str) -> Path:
    """Write RELION 3.1's ``coords_suffix_NAME.star`` and return it; ``micrographs_star`` is relative to the project.

    Raises
    ------
    InputError
        When the file cannot be written.
    """
    path = Path(folder) / f"coords_suffix_{pick_name}.star"
    with atomic_path(path) as temporary:
        temporary.write_text(f"{micrographs_star}\n", encoding="utf-8")
    return path


def coordinate_path(folder: str | Path, micrograph: str, pick_name: str) -> Path:
    """Return where a micrograph's coordinate file belongs: RELION keeps the micrographs' folders below the job's.

    ``MotionCorr/job002/Movies/a.mrc`` picked as ``autopick`` in ``AutoPick/job003`` has its picks in
    ``AutoPick/job003/Movies/a_autopick.star`` (``decomposePipelineFileName`` in RELION).
    """
    rest = PurePosixPath(_JOB.sub("", micrograph))
    if rest.is_absolute():
        rest = rest.relative_to("/")
    return Path(folder) / rest.with_name(f"{rest.stem}_{pick_name}.star")


def _star_picks(star: StarFile, table: Table, *texts: str) -> tuple[Picks, Columns]:
    missing = [label for label in ("rlnCoordinateX", "rlnCoordinateY") if label not in table.labels]
    if missing:
        raise InputError(f"{star.path}: {table.name} has no column {missing[0]}; give a file with picks")
    if "rlnCoordinateZ" in table.labels:
        raise InputError(f"{star.path}: holds picks in tomograms (rlnCoordinateZ); give picks in micrographs")
    floats = [x for x in ("rlnAutopickFigureOfMerit", "rlnAnglePsi") if x in table.labels]
    integers = [x for x in ("rlnClassNumber",) if x in table.labels]
    columns = read_columns(
        star, table, floats=["rlnCoordinateX", "rlnCoordinateY", *floats], integers=integers, texts=texts
    )
    template = columns.integers.get("rlnClassNumber")
    if template is not None:
        template = None if (template == NOT_SET).all() else np.where(template == NOT_SET, -1, template)
    picks = Picks(
        _xy(columns.floats["rlnCoordinateX"], columns.floats["rlnCoordinateY"]),
        _set_values(columns.floats.get("rlnAutopickFigureOfMerit")),
        _set_values(columns.floats.get("rlnAnglePsi")),
        template,
    )
    return picks, columns


def _cryolo_picks(star: StarFile, table: Table) -> Picks:
    """Corners and sizes of boxes; what crYOLO does not know is written ``<NA>``."""
    texts = [label for label in ("CoordinateZ", "Confidence") if label in table.labels]
    columns = read_columns(star, table, floats=["CoordinateX", "CoordinateY", "Width", "Height"], texts=texts)
    if "CoordinateZ" in texts and set(columns.texts["CoordinateZ"].values) - {b"<NA>"}:
        raise InputError(f"{star.path}: holds picks in tomograms (_CoordinateZ); give picks in micrographs")
    corner = _xy(columns.floats["CoordinateX"], columns.floats["CoordinateY"])
    size = _xy(columns.floats["Width"], columns.floats["Height"])
    confidence = columns.texts.get("Confidence")
    return Picks(corner + size / 2, None if confidence is None else _optional_floats(star, confidence))


def _optional_floats(star: StarFile, column: TextColumn) -> FloatArray | None:
    values = np.empty(len(column.values))
    for k, text in enumerate(column.values):
        try:
            values[k] = np.nan if text == b"<NA>" else float(text)
        except ValueError:
            fault = f"holds the confidence {text_of(text)!r}, which is not a number; correct that value"
            raise InputError(f"{star.path}: {fault}") from None
    return _set_values(values[column.codes])


def _boxes(path: Path) -> Picks:
    """Lines of ``x y width height [score]`` with x, y the corner of the box (EMAN; older crYOLO)."""
    rows: list[list[float]] = []
    for number, line in enumerate(_read(path).splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith(b"#"):
            continue
        if len(words) < 4:
            raise InputError(
                f"{path}: line {number} has {len(words)} values; a box needs corner x, y, width and height"
            )
        try:
            rows.append([float(word) for word in words[:5]])
        except ValueError:
            bad = next(text_of(word) for word in words[:5] if not _is_number(word))
            raise InputError(f"{path}: line {number} holds {bad!r}, which is not a number; correct that line") from None
    if not rows:
        return Picks(np.empty((0, 2)))
    table = np.array([row[:4] for row in rows])
    score = np.array([row[4] for row in rows]) if all(len(row) == 5 for row in rows) else None
    if score is not None and np.isin(score, (-1, -2)).all():
        raise InputError(f"{path}: marks the ends of helices (-1, -2), not particles; give a list of boxes")
    if score is not None and (score == -3).all():  # EMAN 1's mark for an ordinary box, no score
        score = None
    return Picks(table[:, :2] + table[:, 2:] / 2, score)


def _suffix_picks(path: Path, text: bytes, pick_name: str) -> PickLists:
    words = text.split()
    named = next(resolve_all(words[:1], path), None)
    if named is None:
        name = text_of(words[0]) if words else ""
        raise InputError(
            f"{path}: should name the micrographs' STAR file, but {name!r} is not there; looked in {tried(path)}; "
            "run in the RELION project's folder"
        )
    names = read_micrographs(named, 1.0).names.tolist()  # the pixel size does not matter here
    return _gather(path, {name: coordinate_path(path.parent, name, pick_name) for name in names})


def _listed_picks(star: StarFile, table: Table) -> PickLists:
    columns = read_columns(star, table, texts=["rlnMicrographName", "rlnMicrographCoordinates"])
    files = columns.texts["rlnMicrographCoordinates"]
    paths = list(resolve_all(files.values, star.path))
    names = columns.texts["rlnMicrographName"].strings().tolist()
    return _gather(star.path, {name: paths[code] for name, code in zip(names, files.codes.tolist(), strict=True)})


def _gather(path: Path, files: Mapping[str, Path | None]) -> PickLists:
    picks: dict[str, Picks] = {}
    absent: list[str] = []
    for name, file in files.items():
        if file is None or not file.is_file():
            absent.append(name)
        else:
            picks[name] = read_picks(file)
    if not picks:
        raise InputError(
            f"{path}: none of the {len(files)} coordinate files it names is there; looked in {tried(path)}; "
            "run in the RELION project's folder"
        )
    if not absent:
        return PickLists(picks)
    note = f"{path}: {len(absent)} of {len(files)} micrographs have no coordinate file ({absent[0]} ...)"
    return PickLists(picks, (note,))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}; check the path") from None


def _xy(x: FloatArray, y: FloatArray) -> FloatArray:
    return np.stack([x, y], axis=1)


def _set_values(values: FloatArray | None) -> FloatArray | None:
    """Turn the filler into NaN; None where there is nothing else."""
    if values is None:
        return None
    values = np.where(values == NOT_SET, np.nan, values)
    return None if np.isnan(values).all() else values


def _is_number(word: bytes) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
