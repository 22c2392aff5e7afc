"""Pick files as tables with all their columns, and chosen rows written back as they stood.

One STAR with coordinates, a list that names one file per micrograph (RELION 3.1 to 5), or EMAN's ``.box``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from napari_pickbias.errors import InputError
from napari_pickbias.records.atomic import atomic_path
from napari_pickbias.records.mrc import read_header
from napari_pickbias.records.pick_edits import PickEdits
from napari_pickbias.records.pick_tables import PickSource, PickTable
from pickbias_relion.box_edits import write_edited_boxes
from pickbias_relion.coordinates import Picks, coordinate_path, read_picks, write_coordinate_list, write_picks
from pickbias_relion.micrographs import NAMES, PIXEL_SIZES, read_micrographs
from pickbias_relion.project import project_path
from pickbias_relion.project_paths import resolve_all, tried
from pickbias_relion.star import StarFile, open_star
from pickbias_relion.star_columns import Columns, iterate_rows, read_columns
from pickbias_relion.star_edits import write_edited
from pickbias_relion.star_index import Table, text_of
from pickbias_relion.star_optics import OLD_PIXEL_LABELS, group_of_rows, pixel_sizes, read_optics
from pickbias_relion.star_scan import unquote
from pickbias_relion.star_subset import write_subset
from pickbias_relion.tomogram_places import TomogramPlaces, tomogram_places

IMAGE, MICROGRAPH, LISTED = "rlnImageName", "rlnMicrographName", "rlnMicrographCoordinates"
_SUFFIX = re.compile(r"coords_suffix_(.+)\.star$")


def open_picks(path: str | Path) -> PickSource:
    """Open a pick, particle or micrograph STAR, a list of pick files, or a ``.box``.

    Raises
    ------
    InputError
        When it cannot be read or holds no rows of that kind.
    """
    path = Path(path)
    if path.suffix.lower() == ".box" or (path.suffix.lower() == ".cbox" and b"data_" not in path.read_bytes()):
        return BoxPicks(path)
    suffix = _SUFFIX.search(path.name)
    if suffix and b"data_" not in (text := path.read_bytes()):
        return ListedPicks(path, _files_of_suffix(path, text, suffix[1]))
    star = open_star(path)
    if not star.tables:
        raise InputError(f"{path}: holds no picks (RELION writes such files for micrographs without any)")
    table = star.rows()
    if LISTED in table.labels:
        columns = read_columns(star, table, texts=[MICROGRAPH, LISTED])
        names, files = columns.texts[MICROGRAPH].strings(), columns.texts[LISTED]
        paths = list(resolve_all(files.values, path))
        return ListedPicks(path, {n: paths[c] for n, c in zip(names.tolist(), files.codes.tolist(), strict=True)})
    return StarPicks(path)


class StarPicks:
    """The rows of one STAR file.

    Parameters
    ----------
    path : str or Path
    """

    suffix = ".star"

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def read(self) -> PickTable:
        """Read all columns; see :class:`napari_pickbias.records.pick_tables.PickTable`."""
        star = open_star(self.path)
        table = star.rows()
        columns = _all_columns(star, table)
        features = _features(table, columns)
        places = tomogram_places(star, table, columns)
        if places is not None:
            return _in_tomograms(star, table, features, places)
        name = next((label for label in NAMES if label in columns.texts), None)
        if name is not None:
            names = columns.texts[name]
            codes, values = names.codes, names.values  # noqa: PD011 (no table of pandas)
        else:
            codes, values = np.zeros(table.n_rows, np.int64), (_micrograph_of(self.path).encode(),)
        return PickTable(
            features=features,
            coordinates_px=_coordinates(columns),
            micrograph=codes,
            micrograph_names=tuple(text_of(v) for v in values),
            micrograph_paths=tuple(resolve_all(values, self.path)),
            pixel_size_angstrom=_pixel_size(star, table),
            has_images=IMAGE in table.labels,
            notes=star.notes,
            coordinate_columns=_coordinate_columns(features),
        )

    def write_subset(
        self,
        keep: NDArray[np.bool_],
        target: Path,
        columns: Mapping[str, NDArray[np.generic]] | None = None,
        edits: PickEdits | None = None,
    ) -> list[Path]:
        """Write the kept rows; see :func:`pickbias_relion.write_subset` and :func:`.star_edits.write_edited`."""
        if edits:
            return write_edited(self.path, keep, target, edits)
        return write_subset(self.path, keep, target, columns)


class ListedPicks:
    """Picks of many micrographs, one file each, and the list that names them.

    Parameters
    ----------
    path : Path
        The list.
    files : mapping of str to (Path or None)
        Micrograph to coordinate file; None, or a file that is not there, means no picks, as in RELION.
    """

    suffix = ".star"

    def __init__(self, path: Path, files: Mapping[str, Path | None]) -> None:
        self.path = path
        self.files = {name: file for name, file in files.items() if file is not None and file.is_file()}
        self._names = tuple(files)
        if not self.files:
            raise InputError(
                f"{path}: none of the {len(files)} coordinate files it names is there; looked in {tried(path)}; "
                "run in the RELION project's folder"
            )

    def read(self) -> PickTable:
        """Read the picks of all micrographs; micrographs without any are listed too."""
        tables = {name: _read_one(file) for name, file in self.files.items()}
        lengths = [0 if t is None else len(t) for t in tables.values()]
        index = {name: i for i, name in enumerate(self._names)}
        numbers = np.repeat([index[name] for name in tables], lengths).astype(np.int64)
        frames = [t.features for t in tables.values() if t is not None]
        features = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()
        features = features.apply(lambda column: column.astype("category") if column.dtype == object else column)
        xy = [t.coordinates_px for t in tables.values() if t is not None and t.coordinates_px is not None]
        pixel = next((t.pixel_size_angstrom for t in tables.values() if t and t.pixel_size_angstrom), None)
        absent = len(self._names) - len(self.files)
        notes = (f"{self.path}: {absent} of {len(self._names)} micrographs have no coordinate file",) if absent else ()
        return PickTable(
            features=features,
            coordinates_px=np.concatenate(xy) if xy else np.empty((0, 2)),
            micrograph=numbers,
            micrograph_names=self._names,
            micrograph_paths=tuple(resolve_all([n.encode("utf-8", "surrogateescape") for n in self._names], self.path)),
            pixel_size_angstrom=pixel,
            notes=notes,
            coordinate_columns=_coordinate_columns(features),
        )

    def write_subset(
        self,
        keep: NDArray[np.bool_],
        target: Path,
        columns: Mapping[str, NDArray[np.generic]] | None = None,
        edits: PickEdits | None = None,
    ) -> list[Path]:
        """Write one coordinate file per micrograph that keeps any, below the target's folder, and the list of them.

        The list is of RELION 4 and 5's kind, and every row stands as it stood. ``target`` comes first of the files
        returned.
        """
        keep, target = np.asarray(keep), Path(target)
        sizes = {name: 0 if (t := _read_one(file)) is None else len(t) for name, file in self.files.items()}
        if keep.shape != (sum(sizes.values()),):
            raise InputError(f"{self.path}: its picks changed while they were looked at; open it again")
        if not keep.any() and not (edits and len(edits.added_px)):
            raise InputError(f"{self.path}: 0 of {len(keep)} picks kept, so no list is written; loosen the criterion")
        written: dict[str, str] = {}
        files, start = [], 0
        folder = target.parent / f"{target.stem}_files"
        for number, name in enumerate(self._names):
            part = slice(start, start + sizes.get(name, 0))
            start = part.stop
            here = _edits_of(edits, part, number)
            if not keep[part].any() and not len(here.added_px):
                continue
            place = coordinate_path(folder, name, target.stem)
            place.parent.mkdir(parents=True, exist_ok=True)
            own = {key: np.asarray(values)[part] for key, values in (columns or {}).items()}
            files += _write_one(self.files.get(name), keep[part], place, own, here)
            written[name] = project_path(files[-1])
        write_coordinate_list(target, written)
        return [target, *files]


class BoxPicks:
    """Picks of one micrograph as EMAN and older crYOLO write them: lines of corner x, y, width, height, score."""

    suffix = ".box"

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def read(self) -> PickTable:
        """Read the centres, the box sizes and the score."""
        picks = read_picks(self.path)
        features = pd.DataFrame(index=range(len(picks)))
        if picks.figure_of_merit is not None:
            features["score"] = picks.figure_of_merit
        name = _micrograph_of(self.path)
        return PickTable(
            features=features,
            coordinates_px=picks.coordinates_px,
            micrograph=np.zeros(len(picks), np.int64),
            micrograph_names=(name,),
            micrograph_paths=tuple(resolve_all([name.encode()], self.path)),
        )

    def write_subset(
        self,
        keep: NDArray[np.bool_],
        target: Path,
        columns: Mapping[str, NDArray[np.generic]] | None = None,
        edits: PickEdits | None = None,
    ) -> list[Path]:
        """Write the kept lines as they stand; own columns have no place in such a file."""
        del columns
        if edits:
            return write_edited_boxes(self.path, keep, target, edits)
        rows = iter(np.asarray(keep).tolist())
        lines = self.path.read_bytes().splitlines(keepends=True)
        kept = [line for line in lines if not line.split() or line.lstrip().startswith(b"#") or next(rows)]
        with atomic_path(target) as temporary:
            temporary.write_bytes(b"".join(kept))
        return [Path(target)]


def _files_of_suffix(path: Path, text: bytes, pick_name: str) -> dict[str, Path | None]:
    named = next(resolve_all(text.split()[:1], path), None)
    if named is None:
        raise InputError(
            f"{path}: should name the micrographs' STAR file, which is not there; looked in {tried(path)}; run in the "
            "RELION project's folder"
        )
    names = read_micrographs(named, 1.0).names.tolist()  # the pixel size does not matter here
    return {name: coordinate_path(path.parent, name, pick_name) for name in names}


def _in_tomograms(star: StarFile, table: Table, features: pd.DataFrame, places: TomogramPlaces) -> PickTable:
    return PickTable(
        features=features,
        coordinates_px=places.coordinates_px[:, :2],
        z_px=places.coordinates_px[:, 2],
        micrograph=places.tomogram,
        micrograph_names=places.names,
        micrograph_paths=places.paths,
        pixel_size_angstrom=places.pixel_size_angstrom or _pixel_size(star, table),
        has_images=IMAGE in table.labels,
        notes=(*star.notes, *places.notes),
    )


def _edits_of(edits: PickEdits | None, part: slice, number: int) -> PickEdits:
    """Return the edits of one micrograph's file, which has the rows ``part`` of the list."""
    if not edits:
        return PickEdits()
    here = (edits.moved >= part.start) & (edits.moved < part.stop)
    new = edits.added_micrograph == number
    added = edits.added_px[new]
    return PickEdits(edits.moved[here] - part.start, edits.moved_px[here], np.zeros(len(added), np.int64), added)


def _write_one(
    file: Path | None, keep: NDArray[np.bool_], place: Path, own: Mapping[str, NDArray[np.generic]], edits: PickEdits
) -> list[Path]:
    """Write one micrograph's picks; one that had none gets a file as RELION's manual picking writes it."""
    if file is None or not len(keep):
        count = len(edits.added_px)
        no_score, no_class = np.full(count, np.nan), np.full(count, -1, np.int64)
        write_picks(place, Picks(edits.added_px, no_score, np.full(count, np.nan), no_class))
        return [place]
    if file.suffix.lower() == ".box":
        place = place.with_suffix(".box")
    return open_picks(file).write_subset(keep, place, own, edits)


def _coordinate_columns(features: pd.DataFrame) -> tuple[str, ...]:
    names = ("rlnCoordinateX", "rlnCoordinateY")
    return names if all(name in features for name in names) else ()


def _read_one(file: Path) -> PickTable | None:
    """Return the table of one coordinate file; None for RELION's empty ones."""
    if file.suffix.lower() != ".box" and not open_star(file).tables:
        return None
    return open_picks(file).read()


def _all_columns(star: StarFile, table: Table) -> Columns:
    """Read every column: as numbers where all its values are numbers, else as text."""
    labels = list(dict.fromkeys(table.labels))
    texts = _texts_of_first_row(star, table) | ({*NAMES, IMAGE, "rlnTomoName"} & set(labels))
    numbers = [label for label in labels if label not in texts]
    try:
        return read_columns(star, table, floats=numbers, texts=[x for x in labels if x in texts])
    except InputError:
        for label in numbers:
            try:
                read_columns(star, table, floats=[label])
            except InputError:
                texts.add(label)
        numbers = [label for label in labels if label not in texts]
        return read_columns(star, table, floats=numbers, texts=[x for x in labels if x in texts])


def _texts_of_first_row(star: StarFile, table: Table) -> set[str]:
    for part in iterate_rows(star, table):
        if not len(part.rows):
            continue
        first = int(part.tokens.first[part.rows[0]])
        spans = zip(part.tokens.start[first:].tolist(), part.tokens.stop[first:].tolist(), strict=True)
        words = [unquote(part.data[a:b]) for (a, b), _ in zip(spans, table.labels, strict=False)]
        return {label for label, word in zip(table.labels, words, strict=True) if not _is_number(word)}
    return set()


def _is_number(word: bytes) -> bool:
    try:
        return bool(np.isfinite(float(word)))
    except ValueError:
        return False


def _features(table: Table, columns: Columns) -> pd.DataFrame:
    features: dict[str, object] = {}
    for label in dict.fromkeys(table.labels):
        if label in columns.floats:
            values = columns.floats[label]
            whole = len(values) and (values == np.rint(values)).all() and np.abs(values).max(initial=0) < 2**53
            features[label] = values.astype(np.int64) if whole else values
        else:
            text = columns.texts[label]
            words = [text_of(v) for v in text.values]  # noqa: PD011 (no table of pandas)
            features[label] = pd.Categorical.from_codes(text.codes.tolist(), categories=pd.Index(words, dtype=object))
    return pd.DataFrame(features, index=range(table.n_rows))


def _coordinates(columns: Columns) -> NDArray[np.float64] | None:
    floats = columns.floats
    if "rlnCoordinateX" in floats and "rlnCoordinateY" in floats:
        return np.stack([floats["rlnCoordinateX"], floats["rlnCoordinateY"]], axis=1)
    if {"CoordinateX", "CoordinateY", "Width", "Height"} <= floats.keys():  # crYOLO: corners
        x, y = (floats[f"Coordinate{a}"] + floats[s] / 2 for a, s in (("X", "Width"), ("Y", "Height")))
        return np.stack([x, y], axis=1)
    return None


def _pixel_size(star: StarFile, table: Table) -> float | None:
    """Return the pixel size of the micrographs, not of the (perhaps binned) particle images."""
    labels: Sequence[str] = PIXEL_SIZES if IMAGE not in table.labels else PIXEL_SIZES[0::2]
    try:
        wanted = [x for x in (*labels, *OLD_PIXEL_LABELS) if x in table.labels]
        whole = [x for x in ("rlnOpticsGroup",) if x in table.labels]
        columns = read_columns(star, table, floats=wanted, integers=whole)
        optics = read_optics(star)
        group = group_of_rows(star, table, columns, optics)
        sizes = pixel_sizes(star, table, columns, optics, group, tuple(labels), None)
    except InputError:
        return None
    return float(np.median(sizes)) if len(sizes) else None


def _micrograph_of(path: Path) -> str:
    """Return the micrograph that a file of picks belongs to, by its name: beside it, or above it, or named as it."""
    stem = path.stem
    while stem:
        for folder in (path.parent, *path.parent.parents[:2]):
            for suffix in (".mrc", ".mrc.gz"):
                beside = folder / f"{stem}{suffix}"
                if beside.is_file() and _is_image(beside):
                    return str(beside)
        stem = stem.rpartition("_")[0]
    return path.stem


def _is_image(path: Path) -> bool:
    try:
        return read_header(path).kind in ("image", "stack")
    except InputError:
        return False
