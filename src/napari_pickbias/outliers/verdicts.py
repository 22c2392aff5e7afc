"""The columns that every outlier detector returns, so that doors and reports need not know which one ran."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

REASONS = ("kept", "noise", "partial", "multiple")
"""Reason codes: index into this tuple."""

COLUMNS: dict[str, type] = {
    "keep": np.bool_,
    "reason": np.int8,  # index into REASONS; 0 exactly where keep is true
    "score": np.float32,  # log-odds of one central particle against everything else; larger is better
    "p_value": np.float32,  # share of surrogate noise images that score at least as high against noise
    "log_odds_noise": np.float32,
    "log_odds_partial": np.float32,
    "log_odds_multiple": np.float32,
    "center_y_px": np.float32,  # particle centre minus box centre (pixel n // 2), working pixels
    "center_x_px": np.float32,
    "offset_px": np.float32,  # posterior mean distance from the box centre, working pixels
    "amplitude": np.float32,  # in units of the average particle
    "second_y_px": np.float32,  # likeliest second particle, as center_*; NaN where none is possible
    "second_x_px": np.float32,
    "second_amplitude": np.float32,
}
"""Name and type of each column; NaN where a method does not define it (only ``keep`` and ``reason`` always are)."""


def empty_columns(n: int) -> dict[str, NDArray[np.generic]]:
    """Return all columns for ``n`` images, filled with NaN (or False, 0)."""
    return {
        name: np.full(n, np.nan, dtype) if np.issubdtype(dtype, np.floating) else np.zeros(n, dtype)
        for name, dtype in COLUMNS.items()
    }


class Detector(Protocol):
    """A fitted detector: images of one working size in, verdict columns out."""

    @property
    def box_px(self) -> int:
        """Side of the square working images."""
        ...

    def evaluate(self, images: NDArray[np.float32]) -> dict[str, NDArray[np.generic]]:
        """Return the columns of ``COLUMNS`` for ``(m, box_px, box_px)`` images, particles bright.

        Each image is judged by itself: the result does not depend on how a stack is cut into chunks. Releases the
        GIL, so several threads may call it at once.
        """
        ...
