"""Where the threshold of picks lies, in micrographs and in tomograms alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from napari_pickbias.errors import InputError
from napari_pickbias.matching.calibrate import Calibration

DEFAULT_FDR = 0.05
"""Where neither an FDR nor a threshold is given."""
UNSURE = 0.5
"""Upper end of the FDR's interval beyond which a threshold is not said to keep any rate."""

Interval = tuple[float, float, float]


class Peaks(Protocol):
    """Peaks of a micrograph or a tomogram, and those of its noise."""

    @property
    def peaks(self) -> NDArray[np.void]:
        """Highest first."""

    @property
    def null_peaks(self) -> Sequence[NDArray[np.void]]:
        """Of each surrogate."""


def asked_threshold(
    used: Sequence[Peaks], calibration: Calibration, threshold: float | None, fdr: float | None, advice: str
) -> float:
    """Return the threshold that was asked for, by itself or by an FDR.

    Parameters
    ----------
    used : sequence of Peaks
        What was searched.
    calibration : Calibration
    threshold, fdr : float or None
        At most one of them; an FDR of ``DEFAULT_FDR`` where neither is given.
    advice : str
        What the user may look at where the FDR cannot be kept.

    Raises
    ------
    InputError
        When no score keeps the FDR, or none surely, or no FDR can be given.
    """
    if threshold is not None:
        return threshold
    wanted = fdr or DEFAULT_FDR
    if calibration.failed is not None:
        raise InputError(
            f"--fdr {wanted:g}: cannot be kept, because no FDR can be given: {calibration.failed.rstrip('.')}; "
            f"{advice}, or give --threshold"
        )
    found = calibration.threshold_at(wanted)
    if found is None:
        raise InputError(
            f"--fdr {wanted:g}: no score keeps it: the highest is {highest_score(used):.2f}, and noise alone reaches "
            f"{highest_noise(used):.2f}; {advice}"
        )
    rate, _ = rates_at(calibration, found)
    if rate is not None and rate[2] > UNSURE:
        count = sum(int((each.peaks["score"] >= found).sum()) for each in used)
        raise InputError(
            f"--fdr {wanted:g}: no score keeps it surely: of the {count} peaks from {found:.2f} up as many as "
            f"{rate[2]:.0%} may be false; {advice}"
        )
    return found


def highest_score(used: Sequence[Peaks]) -> float:
    """Return the highest score of all, 0 without peaks."""
    return max((float(each.peaks["score"].max()) for each in used if len(each.peaks)), default=0.0)


def highest_noise(used: Sequence[Peaks]) -> float:
    """Return how high the highest noise peak of a surrogate is on average."""
    tops = [float(table["score"].max()) for each in used for table in each.null_peaks if len(table)]
    return float(np.mean(tops)) if tops else 0.0


def rates_at(calibration: Calibration, threshold: float) -> tuple[Interval | None, Interval]:
    """Return the FDR and the false picks of one micrograph or tomogram at a threshold, each with its interval."""
    curve = calibration.fdr
    if curve is None or calibration.failed is not None:
        return None, (float("nan"),) * 3

    # Beyond the highest pick nothing is known but that it is no more.
    def read(values: NDArray[Any]) -> float:
        known = np.isfinite(values)
        return float(np.interp(threshold, curve.thresholds[known], values[known])) if known.any() else float("nan")

    expected = calibration.expected_false
    return (
        (read(curve.fdr), read(curve.low), read(curve.high)),
        (read(expected[:, 0]), read(expected[:, 1]), read(expected[:, 2])),
    )
