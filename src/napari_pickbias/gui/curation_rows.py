"""The table of a curation with rows added by hand. No Qt."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from napari_pickbias.records.pick_edits import NOT_MEASURED, donor_row


def with_added(
    features: pd.DataFrame, micrograph: NDArray[np.int64], file_rows: int, where: NDArray[np.int64]
) -> pd.DataFrame:
    """Return a table with one more row for each of ``where``, the micrographs of added picks.

    A column has what all picks of that micrograph share, else nothing: NaN, -999 among whole numbers, False.

    Parameters
    ----------
    features : DataFrame, n rows
    micrograph : ndarray of int, shape (n,)
    file_rows : int
        The first so many rows are the file's; others were added before.
    where : ndarray of int, shape (k,)
    """
    columns = {}
    for name in features.columns:
        column = features[name]
        codes = pd.factorize(column.iloc[:file_rows], use_na_sentinel=False)[0].astype(np.int64)
        donors = [donor_row(codes, micrograph[:file_rows], place) for place in where.tolist()]
        columns[name] = pd.concat([column, _values(column, donors)], ignore_index=True)
    return pd.DataFrame(columns)


def _values(column: pd.Series, donors: Sequence[int]) -> pd.Series:
    """Return the values of ``donors`` in the column's own type; -1 stands for nothing."""
    taken = column.take(np.maximum(donors, 0)).reset_index(drop=True)
    missing = np.array(donors) < 0
    if not missing.any():
        return taken
    if pd.api.types.is_bool_dtype(column):
        nothing: object = False
    elif pd.api.types.is_unsigned_integer_dtype(column):
        nothing = 0
    elif pd.api.types.is_integer_dtype(column):
        nothing = NOT_MEASURED
    else:
        nothing = np.nan
    taken[missing] = nothing
    return taken


def with_coordinates(
    features: pd.DataFrame, columns: Sequence[str], coordinates_px: NDArray[np.float64]
) -> pd.DataFrame:
    """Return a table whose columns of x and y say where the picks are now."""
    return features.assign(**dict(zip(columns, coordinates_px.T, strict=True)))
