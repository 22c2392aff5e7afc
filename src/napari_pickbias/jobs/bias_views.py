"""Which views the picks miss, by the poses of refined particles."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from napari_pickbias.bias.views import ViewRecall, matched, recall_by_view
from napari_pickbias.errors import InputError

__all__ = ["ViewRecall", "view_recall"]

RADIUS = 0.4
"""A pick within this share of a diameter is that particle's."""


def view_recall(
    refined: Mapping[str, tuple[NDArray[np.floating], NDArray[np.floating]]],
    picks: Mapping[str, NDArray[np.void]],
    diameter_px: float,
) -> ViewRecall:
    """Compare the recall of refined particles between viewing directions.

    Parameters
    ----------
    refined : mapping
        By the micrograph's name: ``(n, 2)`` x, y in its file's pixels, and the tilt of each particle in degrees.
    picks : mapping of peak tables
        By the micrograph's name, in the same pixels.
    diameter_px : float

    Raises
    ------
    InputError
        When too few refined particles lie on the micrographs that were picked.
    """
    found, tilt = [], []
    for name, (places, angles) in refined.items():
        if name not in picks:
            continue
        table = picks[name]
        found.append(matched(places, np.column_stack([table["x"], table["y"]]), RADIUS * diameter_px))
        tilt.append(np.asarray(angles, np.float64))
    if not found:
        raise InputError("--poses: no refined particle lies on the micrographs given; give the particles of these")
    try:
        return recall_by_view(np.concatenate(tilt), np.concatenate(found))
    except ValueError as error:
        raise InputError(f"--poses: {error}; give the whole refinement") from error
