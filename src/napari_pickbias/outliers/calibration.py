"""Noise threshold and p-values from surrogate noise, and the decision rule."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_pickbias.outliers import evidence as ev

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Calibration:
    """The three thresholds on the log-odds and the surrogates that the first one comes from.

    Attributes
    ----------
    noise, partial, multiple : float
        An image is kept when all three log-odds exceed these.
    surrogates : (n,) array
        Sorted log-odds against noise of surrogate noise images.
    """

    noise: float
    partial: float
    multiple: float
    surrogates: FloatArray

    def p_value(self, log_odds_noise: FloatArray) -> FloatArray:
        """Return the share of surrogates with at least this log-odds, never 0."""
        above = len(self.surrogates) - np.searchsorted(self.surrogates, log_odds_noise, side="left")
        return np.asarray((above + 1) / (len(self.surrogates) + 1))


def log_odds(log_joint: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Log-odds of one central particle against each of noise, off-centre, two; and against all together.

    Parameters
    ----------
    log_joint : (m, 4) array
        log prior + log evidence.

    Returns
    -------
    each : (m, 3) array
    score : (m,) array
    """
    each = log_joint[:, :1] - log_joint[:, 1:]
    return each, log_joint[:, ev.KEEP] - np.logaddexp.reduce(log_joint[:, 1:], axis=1)


def calibrate(
    log_joint: FloatArray, false_keep_rate: float, partial: float = 0.0, multiple: float = 0.0
) -> Calibration:
    """Set the noise threshold so that a share ``false_keep_rate`` of surrogate noise images is kept.

    Parameters
    ----------
    log_joint : (n, 4) array
        Evidence of the surrogates.
    false_keep_rate : float
    partial, multiple : float
        Thresholds of the other two tests.
    """
    each, _ = log_odds(log_joint)
    passing = (each[:, 1] > partial) & (each[:, 2] > multiple)
    kept = np.sort(np.where(passing, each[:, 0], -np.inf))
    allowed = int(np.floor(false_keep_rate * len(kept)))
    threshold = kept[len(kept) - 1 - allowed]  # kept means strictly above
    return Calibration(max(0.0, float(threshold)), partial, multiple, np.sort(each[:, 0]))


def decide(each: FloatArray, calibration: Calibration) -> NDArray[np.int8]:
    """Return the reason code of every image (0 kept, 1 noise, 2 partial, 3 multiple).

    Kept are images that pass all three tests; the others get the reason of the test that they fail by most, which is
    the likeliest alternative to one whole particle.
    """
    margin = each[:, :3] - np.array([calibration.noise, calibration.partial, calibration.multiple])
    kept = (margin > 0).all(axis=1)
    return np.where(kept, 0, margin.argmin(axis=1) + 1).astype(np.int8)
