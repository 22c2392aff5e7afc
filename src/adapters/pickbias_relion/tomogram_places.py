"""Where the particles of a STAR file lie in their tomograms, in each of RELION's ways to say it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_pickbias.errors import InputError
from pickbias_relion.project_paths import resolve_all
from pickbias_relion.star import StarFile, open_star
from pickbias_relion.star_columns import Columns, read_columns
from pickbias_relion.star_index import Table, text_of

PIXELS = ("rlnCoordinateX", "rlnCoordinateY", "rlnCoordinateZ")
CENTRED = ("rlnCenteredCoordinateXAngst", "rlnCenteredCoordinateYAngst", "rlnCenteredCoordinateZAngst")
_SIZES = ("rlnTomoSizeX", "rlnTomoSizeY", "rlnTomoSizeZ")
_FILES = ("rlnTomoReconstructedTomogram", "rlnTomoReconstructedTomogramDenoised", "rlnTomoReconstructedTomogramHalf1")
_PIXEL = "rlnTomoTiltSeriesPixelSize"


@dataclass(frozen=True)
class TomogramPlaces:
    """Places of the rows of a table.

    Attributes
    ----------
    coordinates_px : ndarray, shape (n, 3)
        x, y, z from the tomogram's corner, in pixels of ``pixel_size_angstrom``. Coordinates that RELION 5 counts from
        the middle of a tomogram whose size nobody knows are left as they are, and a note says so.
    pixel_size_angstrom : float or None
    tomogram : ndarray of int, shape (n,)
        Index into ``names``.
    names : tuple of str
    paths : tuple of (Path or None)
        The tomograms that are there.
    notes : tuple of str
    """

    coordinates_px: NDArray[np.float64]
    pixel_size_angstrom: float | None
    tomogram: NDArray[np.int64]
    names: tuple[str, ...]
    paths: tuple[Path | None, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Known:
    """What a list of tomograms tells of one: half its sides in Å (x, y, z), and its file."""

    middle_angstrom: NDArray[np.float64] | None
    path: Path | None


def tomogram_places(star: StarFile, table: Table, columns: Columns) -> TomogramPlaces | None:
    """Return where the rows lie in tomograms; None where they have no z.

    RELION 3 and 4 count pixels from the corner, RELION 5 Å from the middle. Sizes and files of the tomograms come from
    the ``tomograms.star`` that an optimisation set beside the file names, or that lies beside it.

    Parameters
    ----------
    star, table : StarFile, Table
    columns : Columns
        With the coordinates as floats, and ``rlnTomoName`` or ``rlnMicrographName`` as text where the table has them.

    Raises
    ------
    InputError
        When the list of tomograms cannot be read.
    """
    centred = all(label in columns.floats for label in CENTRED)
    if not centred and not all(label in columns.floats for label in PIXELS):
        return None
    label = next((x for x in ("rlnTomoName", "rlnMicrographName") if x in columns.texts), None)
    if label is None:
        codes, values = np.zeros(table.n_rows, np.int64), (star.path.stem.encode(),)
    else:
        text = columns.texts[label]
        codes, values = text.codes, text.values
    names = tuple(text_of(value) for value in values)
    known = _listed(star.path)
    beside = list(resolve_all(values, star.path))
    paths = tuple(k.path if (k := known.get(name)) else file for name, file in zip(names, beside, strict=True))
    xyz = np.stack([columns.floats[x] for x in (CENTRED if centred else PIXELS)], axis=1)
    if not centred:
        return TomogramPlaces(xyz, _tilt_series_pixel(star), codes, names, paths)
    notes = []
    for index, name in enumerate(names):
        middle = known[name].middle_angstrom if name in known else None
        if middle is not None:
            xyz[codes == index] += middle
        elif not notes:
            notes.append(
                f"{star.path}: the size of tomogram {name} is not known, so places count from its middle; put the "
                "optimisation_set.star or tomograms.star beside it"
            )
    return TomogramPlaces(xyz, 1.0, codes, names, paths, tuple(notes))


def _tilt_series_pixel(star: StarFile) -> float | None:
    """Return the pixel size of the tilt series, which RELION 4's coordinates count."""
    table = next((t for t in star.tables if t.is_loop and _PIXEL in t.labels and t.n_rows), None)
    if table is None:
        return None
    size = float(np.median(read_columns(star, table, floats=[_PIXEL]).floats[_PIXEL]))
    return size if size > 0 else None


def _listed(path: Path) -> dict[str, _Known]:
    """Return what the list of tomograms that belongs to a particle file tells; empty without one."""
    found = _list_of(path)
    if found is None:
        return {}
    star = open_star(found)
    table = next((t for t in star.tables if t.is_loop and "rlnTomoName" in t.labels and t.n_rows), None)
    if table is None:
        return {}
    sized = all(label in table.labels for label in (*_SIZES, _PIXEL))
    label = next((x for x in _FILES if x in table.labels), None)
    texts = ["rlnTomoName", *([label] if label else [])]
    columns = read_columns(star, table, floats=[*_SIZES, _PIXEL] if sized else [], texts=texts)
    middles: list[NDArray[np.float64] | None] = [None] * table.n_rows
    if sized:
        sides = np.stack([columns.floats[x] for x in _SIZES], axis=1) * columns.floats[_PIXEL][:, None]
        middles = list(sides / 2)
    files: list[Path | None] = [None] * table.n_rows
    if label:
        text = columns.texts[label]
        files = list(resolve_all([text.values[code] for code in text.codes.tolist()], star.path))
    names = columns.texts["rlnTomoName"].strings().tolist()
    return {name: _Known(middle, file) for name, middle, file in zip(names, middles, files, strict=True)}


def _list_of(path: Path) -> Path | None:
    sets = sorted(path.parent.glob("*optimisation_set.star"))
    # Of several (one an iteration) the one that is called as the particle file is.
    sets.sort(key=lambda p: not path.name.startswith(p.name.removesuffix("optimisation_set.star")))
    for one in sets:
        try:
            name = open_star(one).value("rlnTomoTomogramsFile")
        except InputError:
            continue
        found = next(resolve_all([name.encode()], one), None) if name else None
        if found is not None:
            return found
    beside = path.parent / "tomograms.star"
    return beside if beside.is_file() and beside != path else None
