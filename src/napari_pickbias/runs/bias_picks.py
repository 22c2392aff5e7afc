"""Picks of any program, by the micrographs they lie on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePath

import numpy as np
from numpy.typing import NDArray

from napari_pickbias.errors import InputError
from napari_pickbias.records.pick_tables import open_picks

SUFFIXES = (".star", ".box", ".cbox", ".cs")


def read_foreign_picks(
    where: str | Path, names: Sequence[str], pixel_size: float, picks_pixel_size: float | None
) -> tuple[dict[str, NDArray[np.float64]], list[Path], list[str]]:
    """Read picks and sort them by micrograph.

    Parameters
    ----------
    where : str or Path
        One file of picks (STAR, ``.cs``, ``.box``), or a folder of one such file for each micrograph.
    names : sequence of str
        Micrographs, as the user's data name them.
    pixel_size : float
        Of the micrographs, Å.
    picks_pixel_size : float or None
        Of the pixels the picks count in, Å; default: the one in the file, else that of the micrographs.

    Returns
    -------
    picks : dict
        ``(n, 2)`` x, y in pixels of the micrograph's file, by its name.
    files : list of Path
        That were read.
    notes : list of str

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
    keys = {_key(name): name for name in names}
    found: dict[str, list[NDArray[np.float64]]] = {}
    notes: list[str] = []
    total = 0
    for file in files:
        table = open_picks(file).read()
        if table.coordinates_px is None or table.micrograph is None:
            raise InputError(f"--picks {file}: holds no coordinates; give picks or particles with rlnCoordinateX and Y")
        scale = (picks_pixel_size or table.pixel_size_angstrom or pixel_size) / pixel_size
        if abs(scale - 1) < 0.01:
            scale = 1.0
        total += len(table)
        for number, label in enumerate(table.micrograph_names):
            name = _find(_key(label), keys)
            rows = table.micrograph == number
            if name is None or not rows.any():
                continue
            # the middle of a pixel stays the middle
            found.setdefault(name, []).append((table.coordinates_px[rows] + 0.5) * scale - 0.5)
        notes += [note for note in table.notes if note not in notes]
    if total == 0:
        raise InputError(f"--picks {where}: holds no picks")
    if not found:
        raise InputError(
            f"--picks {where}: none of its {total} picks lies on the micrographs given (such as {names[0]}); give the "
            "micrographs that were picked"
        )
    missing = [name for name in names if name not in found]
    if missing:
        notes.append(f"{len(missing)} of {len(names)} micrographs have no picks, such as {missing[0]}")
    return {name: np.concatenate(parts) for name, parts in found.items()}, files, notes


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

    Places are corrected by the refined origins.

    Raises
    ------
    InputError
        When coordinates or angles are missing, or no particle lies on these micrographs.
    """
    table = open_picks(path).read()
    tilt = table.features.get("rlnAngleTilt")
    if table.coordinates_px is None or table.micrograph is None or tilt is None:
        raise InputError(f"--poses {path}: holds no coordinates with rlnAngleTilt; give a refinement's particles")
    own = table.pixel_size_angstrom or pixel_size
    shift = np.zeros((len(table), 2))
    for axis, letter in enumerate("XY"):
        if f"rlnOrigin{letter}Angst" in table.features:
            shift[:, axis] = table.features[f"rlnOrigin{letter}Angst"].to_numpy(np.float64) / own
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
