"""Picks in tomograms as points in space. No Qt."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_pickbias.errors import InputError
from napari_pickbias.gui.map_layers import map_layers
from napari_pickbias.gui.preferences import preference
from napari_pickbias.records import read_header
from napari_pickbias.records.pick_tables import PickTable

LayerData = tuple[Any, dict[str, Any], str]

_COLOR = "#56B4E9"


def tomogram_layers(table: PickTable, source: str) -> list[LayerData]:
    """Return the picks of a table with z as points, over its tomogram where there is one alone.

    Parameters
    ----------
    table : PickTable
        With ``z_px``.
    source : str
        The file it is of.

    Returns
    -------
    list of layer data
        Points ``(z, y, x)`` in Å, or ``(tomogram, z, y, x)`` of several tomograms; before them the tomogram of the
        first kind, read when it is shown.
    """
    several = len(table.micrograph_names) > 1
    pixel = tomogram_pixel_size(table)
    layers: list[LayerData] = []
    if not several and table.micrograph_paths and table.micrograph_paths[0] is not None:
        with contextlib.suppress(InputError):  # picks can be looked at without it
            layers += map_layers(table.micrograph_paths[0])
    data, show, kind = tomogram_points(table, source, pixel)
    if not several:
        data = data[:, 1:]
        show |= {name: show[name][1:] for name in ("scale", "units", "axis_labels")}
    return [*layers, (data, show, kind)]


def tomogram_pixel_size(table: PickTable) -> float | None:
    """Return what a pixel of the coordinates is in Å: what the file says, else the first tomogram's voxel."""
    if table.pixel_size_angstrom:
        return table.pixel_size_angstrom
    path = next((p for p in table.micrograph_paths if p is not None), None)
    return None if path is None else read_header(path).voxel_size_angstrom[0]


def places(table_z: NDArray[np.float64], tomogram: NDArray[np.int64], xy: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return ``(n, 4)``: tomogram, z, y, x."""
    return np.column_stack([tomogram, table_z, xy[:, ::-1]]).astype(np.float32).reshape(-1, 4)


def tomogram_points(
    table: PickTable, source: str, pixel_size: float | None, diameter_angstrom: float = 0.0
) -> LayerData:
    """Return all picks as spheres ``(tomogram, z, y, x)``, every column of the file among the features."""
    assert table.z_px is not None
    assert table.micrograph is not None
    assert table.coordinates_px is not None
    pixel, unit = pixel_size or 1.0, "angstrom" if pixel_size else "pixel"
    features = table.features.copy()
    features.insert(0, "row", np.arange(len(table)))
    show: dict[str, Any] = {
        "name": f"{Path(source).stem}: picks",
        "features": features,
        "symbol": "o",
        "size": sphere_px(table, pixel_size, diameter_angstrom),
        # A slab chosen with napari's thickness (right click on the slider) shows spheres as it cuts them.
        "projection_mode": "rescale_spherical",
        "face_color": "transparent",
        "border_color": _COLOR,
        "border_width": 0.08,
        "scale": (1.0, pixel, pixel, pixel),
        "units": ("pixel", unit, unit, unit),
        "axis_labels": ("tomogram", "z", "y", "x"),
        "metadata": {"picks_of": source, "pixel_size": pixel_size, "notes": list(table.notes)},
    }
    return places(table.z_px, table.micrograph, table.coordinates_px), show, "points"


def sphere_px(table: PickTable, pixel_size: float | None, diameter_angstrom: float = 0.0) -> float:
    """Return the diameter of a pick's sphere in pixels: as given, as the Preference, or a guess."""
    chosen = diameter_angstrom or 2 * float(preference("particles", "radius"))
    if chosen:
        return chosen / (pixel_size or 1.0)
    assert table.coordinates_px is not None
    if not len(table):
        return 50.0
    return float(np.clip(np.ptp(table.coordinates_px, axis=0).max() / 40, 10, 1000))
