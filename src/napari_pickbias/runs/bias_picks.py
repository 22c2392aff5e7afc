"""Picks of any program, by the micrographs they lie on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from napari_pickbias.errors import InputError
from napari_pickbias.records.pick_tables import PickTable, open_picks

SUFFIXES = (".star", ".box", ".cbox", ".cs", ".txt")
SCORES = ("rlnAutopickFigureOfMerit", "score", "pick_stats/ncc_score", "pick_stats/power")
"""Columns that hold a picker's own score, the first of them that is there."""


class ForeignPicks(NamedTuple):
    """Picks of another program by the micrographs they lie on."""

    places: dict[str, NDArray[np.float64]]
    """``(n, 2)`` x, y in pixels of the micrograph's file."""

    scores: dict[str, NDArray[np.float64]]
    """``(n,)`` its own scores; NaN where it gives none."""

    files: list[Path]
    notes: list[str]


def read_foreign_picks(
    where: str | Path, names: Sequence[str], pixel_size: float, picks_pixel_size: float | None
) -> tuple[dict[str, NDArray[np.float64]], list[Path], list[str]]:
    """Read places, files and notes as :func:`read_scored_picks` does.

    Raises
    ------
    InputError
        See there.
    """
    found = read_scored_picks(where, names, pixel_size, picks_pixel_size)
    return found.places, found.files, found.notes


def read_scored_picks(
    where: str | Path, names: Sequence[str], pixel_size: float, picks_pixel_size: float | None
) -> ForeignPicks:
    """Read picks and sort them by micrograph.

    Parameters
    ----------
    where : str or Path
        One file of picks (STAR, ``.cs``, ``.box``, ``.cbox``, Topaz' ``.txt``), or a folder of one such file for each
        micrograph.
    names : sequence of str
        Micrographs, as the user's data name them.
    pixel_size : float
        Of the micrographs, Å.
    picks_pixel_size : float or None
        Of the pixels the picks count in, Å; default: the one in the file, else that of the micrographs.

    Raises
    ------
    InputError
        When there are no picks, or none lies on any of the micrographs.
    """
    path = Path(where)
    if path.is_dir():
        files = sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES)
        if not files:
            raise InputError(
                f"--picks {where}: no pick files ({', '.join(SUFFIXES)}) are there; give their folder or a STAR"
            )
    else:
        files = [path]
    found, total = sort_picks(files, names, pixel_size, picks_pixel_size, f"--picks {where}")
    if total == 0:
        raise InputError(f"--picks {where}: holds no picks")
    if not found.places:
        raise InputError(
            f"--picks {where}: none of its {total} picks lies on the micrographs given (such as {names[0]}); give the "
            "micrographs that were picked"
        )
    missing = [name for name in names if name not in found.places]
    if missing:
        found.notes.append(f"{len(missing)} of {len(names)} micrographs have no picks, such as {missing[0]}")
    return found


def sort_picks(
    files: Sequence[Path], names: Sequence[str], pixel_size: float, picks_pixel_size: float | None, option: str
) -> tuple[ForeignPicks, int]:
    """Read files of picks and sort them by micrograph; returns them and how many picks the files hold in all.

    Raises
    ------
    InputError
        When a file cannot be read, or holds no coordinates. ``option`` names who asked for it.
    """
    keys = {_key(name): name for name in names}
    places: dict[str, list[NDArray[np.float64]]] = {}
    scores: dict[str, list[NDArray[np.float64]]] = {}
    notes: list[str] = []
    total = 0
    for file in files:
        table = read_topaz(file) if file.suffix.lower() == ".txt" else open_picks(file).read()
        if table.coordinates_px is None or table.micrograph is None:
            fault = "holds no coordinates; give picks or particles with rlnCoordinateX and Y"
            raise InputError(f"{option.split()[0]} {file}: {fault}")
        scale = (picks_pixel_size or table.pixel_size_angstrom or pixel_size) / pixel_size
        if abs(scale - 1) < 0.01:
            scale = 1.0
        total += len(table)
        own = _scores(table)
        for number, label in enumerate(table.micrograph_names):
            name = _find(_key(label), keys)
            rows = table.micrograph == number
            if name is None or not rows.any():
                continue
            # the middle of a pixel stays the middle
            places.setdefault(name, []).append((table.coordinates_px[rows] + 0.5) * scale - 0.5)
            scores.setdefault(name, []).append(own[rows])
        notes += [note for note in table.notes if note not in notes]
    joined = {name: np.concatenate(parts) for name, parts in places.items()}
    marks = {name: np.concatenate(parts) for name, parts in scores.items()}
    return ForeignPicks(joined, marks, list(files), notes), total


def _scores(table: PickTable) -> NDArray[np.float64]:
    for name in SCORES:
        if name in table.features:
            return np.asarray(table.features[name].to_numpy(np.float64, na_value=np.nan), np.float64)
    return np.full(len(table), np.nan)


def read_topaz(path: str | Path) -> PickTable:
    """Read the table that ``topaz extract`` writes: tab-separated, ``image_name``, ``x_coord``, ``y_coord``, ``score``.

    Coordinates count pixels from 0, of the micrograph as Topaz was told to scale them (its ``-x``).

    Raises
    ------
    InputError
        When the file cannot be read or has no such columns.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file; check the path, which is taken from the current directory")
    columns = ("image_name", "x_coord", "y_coord")
    try:
        table = pd.read_csv(path, sep="\t", dtype={"image_name": str})
        missing = [name for name in columns if name not in table]
        if missing:
            raise InputError(
                f"{path}: has no column {missing[0]}, so it is no table of Topaz; give one with {', '.join(columns)}"
            )
        places = table[["x_coord", "y_coord"]].to_numpy(np.float64)
        features = pd.DataFrame({"score": table["score"].to_numpy(np.float64)} if "score" in table else {})
    except (OSError, ValueError, pd.errors.ParserError) as error:
        raise InputError(
            f"{path}: cannot be read as a table of Topaz ({str(error).splitlines()[0]}); check it"
        ) from error
    if not np.isfinite(places).all():
        raise InputError(f"{path}: holds coordinates that are not numbers; correct them")
    number, names = pd.factorize(table["image_name"])
    if features.empty:
        features = pd.DataFrame(index=range(len(table)))
    return PickTable(
        features, coordinates_px=places, micrograph=number.astype(np.int64),
        micrograph_names=tuple(str(name) for name in names), micrograph_paths=(None,) * len(names),
    )  # fmt: skip


def _key(name: str) -> str:
    return PurePath(name).name.split(".mrc")[0].removesuffix(".star").removesuffix(".box")


def _find(key: str, keys: dict[str, str]) -> str | None:
    """Return the micrograph of that name, else the only one whose name begins with it, or begins it."""
    if key in keys:
        return keys[key]
    near = [name for other, name in keys.items() if other.startswith(key) or key.startswith(other)]
    return near[0] if len(near) == 1 else None


def check_inside(picks: dict[str, NDArray[np.float64]], sizes: dict[str, tuple[int, int]]) -> None:
    """Refuse picks most of which lie outside their micrographs: they count in other pixels.

    Raises
    ------
    InputError
        When more than one in five does.
    """
    outside = total = 0
    for name, places in picks.items():
        height, width = sizes[name]
        bad = (places < -0.5).any(axis=1) | (places[:, 0] > width - 0.5) | (places[:, 1] > height - 0.5)
        outside += int(bad.sum())
        total += len(places)
    if outside > 0.2 * total:
        raise InputError(
            f"--picks: {outside} of {total} picks lie outside their micrographs; they count in other pixels: give the "
            "pixel size they were picked at as --picks-pixel-size"
        )


def read_poses(
    path: str | Path, names: Sequence[str], pixel_size: float
) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Read places and tilts of refined particles, by the micrograph they lie on.

    Places are corrected by the refined origins: ``rlnOriginXAngst``, else ``rlnOriginX`` of RELION 3.0 and before,
    which counts pixels of the particle images. These files give the pixel of the images alone (``rlnDetectorPixelSize``
    over ``rlnMagnification``, larger where extraction scaled them down) and coordinates in pixels of the micrographs.

    Raises
    ------
    InputError
        When coordinates or angles are missing, or no particle lies on these micrographs.
    """
    table = open_picks(path).read()
    tilt = table.features.get("rlnAngleTilt")
    if table.coordinates_px is None or table.micrograph is None or tilt is None:
        raise InputError(f"--poses {path}: holds no coordinates with rlnAngleTilt; give a refinement's particles")
    image_pixel = _old_image_pixel(table)
    own = table.pixel_size_angstrom or pixel_size
    if image_pixel is not None and "rlnMicrographPixelSize" not in table.features:
        own = pixel_size
    shift = np.zeros((len(table), 2))
    for axis, letter in enumerate("XY"):
        if f"rlnOrigin{letter}Angst" in table.features:
            shift[:, axis] = table.features[f"rlnOrigin{letter}Angst"].to_numpy(np.float64) / own
        elif f"rlnOrigin{letter}" in table.features:
            shift[:, axis] = table.features[f"rlnOrigin{letter}"].to_numpy(np.float64) * ((image_pixel or own) / own)
    places = (table.coordinates_px - shift + 0.5) * (own / pixel_size) - 0.5
    keys = {_key(name): name for name in names}
    angles = tilt.to_numpy(np.float64)
    found = {}
    for number, label in enumerate(table.micrograph_names):
        name = _find(_key(label), keys)
        rows = table.micrograph == number
        if name is not None and rows.any():
            found[name] = (places[rows], angles[rows])
    if not found:
        raise InputError(f"--poses {path}: none of its particles lies on the micrographs given; give those refined")
    return found


def _old_image_pixel(table: PickTable) -> float | None:
    """Return the pixel size of the particle images as RELION 3.0 and before give it, Å; None elsewhere."""
    if not table.has_images or not {"rlnDetectorPixelSize", "rlnMagnification"} <= set(table.features):
        return None
    micrometres, magnification = (
        table.features[name].to_numpy(np.float64) for name in ("rlnDetectorPixelSize", "rlnMagnification")
    )
    return float(np.median(micrometres * 1e4 / magnification))
