"""Writers for File > Save Selected Layers: picks back into STAR, every row as it stood. No Qt."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from napari_pickbias.errors import InputError
from napari_pickbias.records.pick_tables import open_picks

SOURCES = ("pickbias_curates", "picks_of")


def write_picks(path: str, data: Any, attributes: Mapping[str, Any]) -> list[str]:
    """Write the picks of a points layer that was read from a file: the rows that are left, with all their columns.

    Rows whose ``keep`` feature says no are left out; points added or moved by hand have no row of their own in the
    file, so they are refused rather than lost or written as what they are not.

    Parameters
    ----------
    path : str
        The file to make.
    data : ndarray, shape (n, 3)
        micrograph, y, x.
    attributes : mapping
        Of the layer: ``metadata`` and ``features``.

    Returns
    -------
    list of str
        The files written.

    Raises
    ------
    InputError
        When the layer is of no file, points were added or moved, nothing is left, or the file cannot be written.
    """
    metadata, features = attributes.get("metadata", {}), attributes.get("features")
    name = attributes.get("name", "points")
    source_path = next((metadata[key] for key in SOURCES if metadata.get(key)), None)
    if source_path is None or features is None or "row" not in features:
        raise InputError(
            f"layer “{name}”: was not opened from a file of picks, so there are no columns to write back; save as .csv"
        )
    source = open_picks(source_path)
    table = source.read()
    rows = np.asarray(features["row"], np.int64)
    if len(np.unique(rows)) != len(rows):
        raise InputError(f"layer “{name}”: holds points added by hand, which have no row in {source_path}; delete them")
    if table.coordinates_px is None or not np.allclose(
        np.asarray(data)[:, 1:], table.coordinates_px[rows][:, ::-1], atol=0.01
    ):
        raise InputError(f"layer “{name}”: points were moved, so their rows in {source_path} no longer hold; undo that")
    keep = np.zeros(len(table), np.bool_)
    keep[rows[np.asarray(features["keep"], np.bool_)] if "keep" in features else rows] = True
    target = Path(path)
    if target.suffix.lower() != source.suffix:
        raise InputError(f"{target}: the picks come from a {source.suffix} file; give the same suffix")
    return [str(file) for file in source.write_subset(keep, target)]
