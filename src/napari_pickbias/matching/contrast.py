"""Are the particles bright or dark? Gaussian noise has as many high peaks as low ones, particles have not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_pickbias.imaging.noise import welch_power
from napari_pickbias.matching.bank import TemplateBank
from napari_pickbias.matching.noise_model import matched_peaks, template_sd, tile_side
from napari_pickbias.matching.preprocess import Prepared

CLEAR = 4.0
"""Standard errors from which a difference of the two tails is taken for real."""

SHARES = (0.1, 0.03, 0.01)
"""Shares of all peaks, the highest, that are compared: many weak particles show in the first, few in the last."""


class Contrast(NamedTuple):
    """How the peaks of a micrograph compare with those of its inverse."""

    sign: int
    """1 where the particles are bright (or nothing speaks against it), -1 where they are dark."""

    bright: int
    """Peaks of the micrograph among the highest of both."""

    dark: int
    """Peaks of its inverse among them."""

    evidence: float
    """``(bright - dark) / sqrt(bright + dark)``: standard normal on Gaussian noise, whatever its spectrum."""

    @property
    def clear(self) -> bool:
        """Whether the two tails differ beyond doubt, and by more than half."""
        more, less = max(self.bright, self.dark), min(self.bright, self.dark)
        return abs(self.evidence) >= CLEAR and more > 1.5 * less


def compare_tails(heights: NDArray[np.floating], inverted: NDArray[np.floating], share: float = 0.1) -> Contrast:
    """Compare the highest peaks of a micrograph with those of its inverse.

    Parameters
    ----------
    heights, inverted : ndarray
        Heights of all local maxima, matched and found in one way.
    share : float
        Share of all of them that is compared, the highest.
    """
    both = np.sort(np.concatenate([heights, inverted]))[::-1]
    if not len(both):
        return Contrast(1, 0, 0, 0.0)
    level = both[min(max(round(share * len(both)), 20), len(both)) - 1]
    bright, dark = int((heights >= level).sum()), int((inverted >= level).sum())
    evidence = (bright - dark) / np.sqrt(bright + dark)
    return Contrast(1 if bright >= dark else -1, bright, dark, float(evidence))


def clearest(tails: Sequence[Sequence[Contrast]]) -> Contrast:
    """Return the clearest comparison, each pooled over micrographs.

    Parameters
    ----------
    tails : sequence of (sequence of Contrast)
        Of each micrograph, from :func:`contrast_tails`. Pooling comes before choosing, so that on noise each pooled
        evidence is standard normal; taking the largest of three makes the chance of an error three times that of one,
        2e-4 at ``CLEAR``.
    """
    pooled = []
    for each in zip(*tails, strict=True):
        bright, dark = sum(one.bright for one in each), sum(one.dark for one in each)
        evidence = (bright - dark) / max(bright + dark, 1) ** 0.5
        pooled.append(Contrast(1 if bright >= dark else -1, bright, dark, evidence))
    return max(pooled, key=lambda one: abs(one.evidence), default=Contrast(1, 0, 0, 0.0))


def contrast_tails(
    prepared: Prepared,
    bank: TemplateBank,
    diameter_px: float,
    min_distance_px: float,
    *,
    templates: int = 48,
    threads: int | None = None,
) -> tuple[Contrast, ...]:
    """Compare a micrograph's peaks with those of its inverse, at each of ``SHARES``.

    Parameters
    ----------
    prepared : Prepared
        From :func:`napari_pickbias.matching.preprocess.prepare`.
    bank : TemplateBank
        At the same pixel size, particles bright.
    diameter_px, min_distance_px : float
        Particle's diameter, and least distance of two peaks.
    templates : int
        At most this many, spread over the bank, are tried.
    threads : int, optional
        Of the matching.
    """
    few = bank.take(np.unique(np.linspace(0, len(bank) - 1, min(templates, len(bank))).round().astype(int)))
    sd = template_sd(few, welch_power(prepared.image, tile_side(prepared, diameter_px)))
    bright, dark = (
        matched_peaks(sign * prepared.image, prepared.inside, few, sd, min_distance_px, threads)["score"]
        for sign in (np.float32(1), np.float32(-1))
    )
    return tuple(compare_tails(bright, dark, share) for share in SHARES)
