"""Picks and micrographs as napari layers: one lazy stack of micrographs, one layer of all picks over it. No Qt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from napari_pickbias.errors import InputError
from napari_pickbias.gui.micrograph_stack import LIMITS, MicrographStack
from napari_pickbias.gui.preferences import preference
from napari_pickbias.gui.tomogram_layers import tomogram_layers
from napari_pickbias.records import read_header
from napari_pickbias.records.pick_tables import PickTable, open_picks

LayerData = tuple[Any, dict[str, Any], str]

KEPT_COLOR, REJECTED_COLOR, SELECTED_COLOR = "#56B4E9", "#E69F00", "#FFFFFF"
"""From Okabe and Ito's palette: bright on a grey micrograph, and to be told apart by everybody."""


def micrograph_pixel_size(table: PickTable) -> float | None:
    """Return the pixel size of the micrographs, Å: what the table says, else the header of the first one there."""
    if table.pixel_size_angstrom:
        return table.pixel_size_angstrom
    for path in table.micrograph_paths:
        if path is not None:
            return read_header(path).pixel_size_angstrom
    return None


def micrograph_layer(table: PickTable, source: str, pixel_size: float | None) -> LayerData | None:
    """Return the micrographs of a table as one lazy stack in Å; None where not one of them is there."""
    if not any(table.micrograph_paths):
        return None
    stack = MicrographStack(table.micrograph_paths)
    scale = stack.binning * (pixel_size or 1.0)
    corner = (stack.binning - 1) / 2 * (pixel_size or 1.0)  # centres of binned pixels lie between those of the file
    unit = "angstrom" if pixel_size else "pixel"
    show = {
        "name": f"{Path(source).stem}: micrographs",
        "scale": (1.0, scale, scale),
        "translate": (0.0, corner, corner),
        "units": ("pixel", unit, unit),
        "axis_labels": ("micrograph", "y", "x"),
        "contrast_limits": LIMITS,
        "rgb": False,
        "multiscale": False,
        "cache": False,
        "metadata": {"micrographs_of": source, "names": table.micrograph_names, "paths": table.micrograph_paths},
    }
    return stack, show, "image"


def picks_layer(table: PickTable, source: str, pixel_size: float | None, diameter_angstrom: float = 0.0) -> LayerData:
    """Return all picks as circles ``(micrograph, y, x)``, every column of the file among the features.

    Raises
    ------
    InputError
        When the table has no coordinates.
    """
    if table.coordinates_px is None or table.micrograph is None:
        raise InputError(f"{source}: has no coordinates of picks; give a file with rlnCoordinateX and rlnCoordinateY")
    count = len(table)
    place = np.column_stack([table.micrograph, table.coordinates_px[:, ::-1]]).astype(np.float32).reshape(count, 3)
    features = table.features.copy()
    features.insert(0, "row", np.arange(count))
    pixel = pixel_size or 1.0
    show: dict[str, Any] = {
        "name": f"{Path(source).stem}: picks",
        "features": features,
        "symbol": "o",
        "size": circle_px(table, pixel_size, diameter_angstrom),
        "face_color": "transparent",
        "border_color": KEPT_COLOR,
        "border_width": 0.08,
        "scale": (1.0, pixel, pixel),
        "units": ("pixel", *(("angstrom" if pixel_size else "pixel",) * 2)),
        "axis_labels": ("micrograph", "y", "x"),
        "metadata": {"picks_of": source, "pixel_size": pixel_size},
    }
    return place, show, "points"


def circle_px(table: PickTable, pixel_size: float | None, diameter_angstrom: float = 0.0) -> float:
    """Return the diameter of a pick's circle in micrograph pixels: as given, as the Preference, or a guess."""
    chosen = diameter_angstrom or 2 * float(preference("particles", "radius"))
    if chosen:
        return chosen / (pixel_size or 1.0)
    if table.coordinates_px is None or not len(table):
        return 100.0
    # Half of what one pick has for itself, if the picks of a micrograph filled the square they lie in.
    assert table.micrograph is not None
    most = max(1, int(np.bincount(table.micrograph).max()))
    extent = float(np.ptp(table.coordinates_px, axis=0).max()) or 1000.0
    return float(np.clip(extent / np.sqrt(most) / 2, 10, 400))


def pick_layers(path: str | Path) -> list[LayerData]:
    """Return the layers of a file with picks or micrographs: the micrographs that are there, then the picks.

    For picks in tomograms see :func:`napari_pickbias.gui.tomogram_layers.tomogram_layers`.

    Raises
    ------
    InputError
        When the file cannot be read, or has neither.
    """
    table = open_picks(path).read()
    source = str(Path(path).absolute())
    if table.z_px is not None:
        return tomogram_layers(table, source)
    pixel_size = micrograph_pixel_size(table)
    micrographs = micrograph_layer(table, source, pixel_size)
    layers = [] if micrographs is None else [micrographs]
    if table.coordinates_px is not None:
        layers.append(picks_layer(table, source, pixel_size))
    if not layers:
        raise InputError(
            f"{path}: has no picks, and its micrographs are not there; open it within its project's folder"
        )
    return layers
