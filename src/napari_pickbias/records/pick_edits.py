"""Picks moved and added by hand, and what an added row takes from the rows that are there."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

NOT_MEASURED = -999
"""What RELION writes where a pick has no score, angle or class: manual picks have it in all three."""


def _no_rows() -> NDArray[np.int64]:
    return np.empty(0, np.int64)


def _no_places() -> NDArray[np.float64]:
    return np.empty((0, 2))


@dataclass(frozen=True)
class PickEdits:
    """Changes to the rows of a file of picks.

    Attributes
    ----------
    moved : ndarray of int, shape (m,)
        Rows of the file whose coordinates change.
    moved_px : ndarray, shape (m, 2)
        Their new x, y, as :attr:`napari_pickbias.records.pick_tables.PickTable.coordinates_px` counts.
    added_micrograph : ndarray of int, shape (a,)
        Micrograph of each added pick, an index into the table's ``micrograph_names``.
    added_px : ndarray, shape (a, 2)
        x, y of the added picks.
    """

    moved: NDArray[np.int64] = field(default_factory=_no_rows)
    moved_px: NDArray[np.float64] = field(default_factory=_no_places)
    added_micrograph: NDArray[np.int64] = field(default_factory=_no_rows)
    added_px: NDArray[np.float64] = field(default_factory=_no_places)

    def __bool__(self) -> bool:
        return bool(len(self.moved) or len(self.added_micrograph))


def is_shared(codes: NDArray[np.int64], micrograph: NDArray[np.int64]) -> bool:
    """Tell whether a column is a matter of micrographs rather than of picks: optics group, defocus, name.

    That is so where it has one value in the whole file, or one in every micrograph and some micrograph has several
    picks to show it.

    Parameters
    ----------
    codes : ndarray of int, shape (n,)
        Equal for rows of equal values.
    micrograph : ndarray of int, shape (n,)
    """
    if not len(codes):
        return False
    if (codes == codes[0]).all():
        return True
    pairs = micrograph * (int(codes.max()) + 1) + codes
    groups = len(np.unique(micrograph))
    return len(np.unique(pairs)) == groups < len(codes)


def donor_row(codes: NDArray[np.int64], micrograph: NDArray[np.int64], where: int) -> int:
    """Return a row whose value an added pick on micrograph ``where`` shares; -1 where there is none.

    See :func:`is_shared`; on a micrograph without picks only what the whole file shares is known.
    """
    if not is_shared(codes, micrograph):
        return -1
    there = np.flatnonzero(micrograph == where)
    if len(there):
        return int(there[0])
    return 0 if (codes == codes[0]).all() else -1
