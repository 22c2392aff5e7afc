"""Writers for File > Save Selected Layers: picks back into STAR, every row as it stood. No Qt."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from napari_pickbias.errors import InputError
from napari_pickbias.records.pick_edits import PickEdits
from napari_pickbias.records.pick_tables import PickTable, open_picks

SOURCES = ("pickbias_curates", "picks_of")


def write_picks(path: str, data: Any, attributes: Mapping[str, Any]) -> list[str]:
    """Write the picks of a points layer that was read from a file: the rows that are left, with all their columns.

    Rows whose ``keep`` feature says no are left out. Points that were moved are written at their new places, and points
    that were added become rows of their own, as :class:`napari_pickbias.records.pick_tables.PickSource` says.

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
        When the layer is of no file, points of extracted particles were added or moved, nothing is left, or the file
        cannot be written.
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
    target = Path(path)
    if target.suffix.lower() != source.suffix:
        raise InputError(f"{target}: the picks come from a {source.suffix} file; give the same suffix")
    kept, edits = _changes(np.asarray(data, np.float64), features, table)
    return [str(file) for file in source.write_subset(kept, target, edits=edits)]


def _changes(
    data: NDArray[np.float64], features: pd.DataFrame, table: PickTable
) -> tuple[NDArray[np.bool_], PickEdits]:
    """Return which rows of the file are kept, and what was moved and added."""
    rows = pd.to_numeric(features["row"]).fillna(-1).to_numpy(np.int64)
    keep = features["keep"].to_numpy(np.bool_) if "keep" in features else np.ones(len(rows), np.bool_)
    # napari gives an added point the features of another, behind that one.
    of_file = (rows >= 0) & (rows < len(table)) & ~pd.Series(rows).duplicated().to_numpy()
    kept = np.zeros(len(table), np.bool_)
    kept[rows[of_file & keep]] = True
    if table.coordinates_px is None:
        return kept, PickEdits()
    if table.z_px is not None:
        _refuse_other_places(data, rows, of_file, table)
        return kept, PickEdits()
    xy = data[:, :0:-1].round(3)
    moved = of_file.copy()
    moved[of_file] = ~np.isclose(xy[of_file], table.coordinates_px[rows[of_file]], atol=0.01, rtol=0).all(axis=1)
    added = ~of_file & keep
    micrograph = np.clip(np.rint(data[added, 0]), 0, max(0, len(table.micrograph_names) - 1)).astype(np.int64)
    return kept, PickEdits(rows[moved], xy[moved], micrograph, xy[added])


def _refuse_other_places(
    data: NDArray[np.float64], rows: NDArray[np.int64], of_file: NDArray[np.bool_], table: PickTable
) -> None:
    assert table.coordinates_px is not None
    assert table.z_px is not None
    expected = np.column_stack([table.z_px, table.coordinates_px[:, ::-1]])
    if not of_file.all() or not np.allclose(data[:, -3:], expected[rows], atol=0.05, rtol=1e-6):
        raise InputError(
            "picks in tomograms: points were moved or added, whose rows cannot be written; undo that, and add picks in "
            "the program that picked them"
        )
