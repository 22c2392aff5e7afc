"""The verdict: picks come from the data, from the template, from both, or it cannot be told.

Three figures, each beside what noise gives: the false discovery rate (is an object there?), the agreement of
bias-removed half averages beyond the template's band (is there structure the template did not bring?), and the
agreement of that structure with the unfiltered template, relative to the average's own reliability (is it *this*
object?). The rule and where its numbers come from: ``docs/bias.md``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

import numpy as np

from napari_pickbias.bias.frc import Null, reliability

VerdictName = Literal["template", "mixed", "data", "undecided"]

FEWEST_PICKS = 100
WIDEST_NULL = 0.1
"""Deviation of the evidence on noise above which it says nothing."""
SURE_Z, SURE_Z_SINGLE, NONE_Z = 4.0, 5.0, 2.5
"""Deviations above noise that count as evidence (for one view alone: more), and below which there is none."""
LEAST_EVIDENCE, NO_EVIDENCE = 0.10, 0.05
"""Effect size: areas with particle edges alone reach .08. With thousands of picks noise scatters so little that 2.5
deviations are an excess of .04: below the second figure, less than ``SURE_Z`` deviations are none."""
IN_BAND_EVIDENCE = 0.30
"""In the template's own band the removal leaves up to .2 on noise, so more is asked for there."""
CLEAN_FDR, NOISE_FDR = 0.20, 0.80
"""FDR whose upper end still counts as clean, and whose lower end counts as noise."""
STANDING_PICKS, STANDING_FDR = 20, 0.50
"""Picks above a higher score, and the upper end of their FDR, that show objects among picks that are mostly noise."""
AGREES, PARTLY = 0.25, 0.10
"""Relative agreement with the unfiltered template."""


class Rate(NamedTuple):
    """A false discovery rate and its 95 % interval; NaN where it cannot be given."""

    value: float
    low: float
    high: float


class Verdict(NamedTuple):
    """The outcome in one word, and why."""

    name: VerdictName
    why: str
    """One sentence."""

    agreement: str
    """One sentence on the unfiltered template; empty where nothing can be said."""

    relative_agreement: float
    """Agreement over reliability; NaN where it cannot be given."""

    fdr_failed: bool
    """True where the noise could not be told from particles, so that no FDR can be given."""


def standing_out(levels: Iterable[tuple[float, int, Rate]]) -> float | None:
    """Return the lowest score from which at least 20 picks are objects more likely than noise; None where none is.

    Parameters
    ----------
    levels : iterable of (float, int, Rate)
        Scores above that of the weakest pick, picks from each score up, and their FDR.
    """
    return min((at for at, picks, fdr in levels if picks >= STANDING_PICKS and fdr.high <= STANDING_FDR), default=None)


def judge(
    picks: int,
    fdr: Rate,
    beyond: Null,
    inside: Null,
    agreement: Null,
    *,
    views: int,
    trusted_share: float,
    stands_out: float | None = None,
) -> Verdict:
    """Return the verdict on a set of picks.

    Parameters
    ----------
    picks : int
    fdr : Rate
        Of all the picks.
    beyond, inside : Null
        Agreement of bias-removed half averages beyond the template's band and within it.
    agreement : Null
        Of the bias-removed averages with the equally treated unfiltered template.
    views : int
        Views that had enough picks for half averages.
    trusted_share : float
        Share of micrographs where a score was found from which picks are particles more often than not.
    stands_out : float, optional
        Of :func:`standing_out`: there are objects among the best of these picks.
    """
    relative, words = _agreement(beyond, agreement)
    if picks < FEWEST_PICKS:
        return _undecided(f"{picks} picks are too few: at least {FEWEST_PICKS} are needed")
    if not np.isfinite(beyond.value):
        return _undecided("no view has enough picks in both halves for averages beyond the template's band")
    if not np.isfinite(beyond.null_sd) or beyond.null_sd > WIDEST_NULL:
        return _undecided(
            f"on noise the evidence beyond the template's band already scatters by {beyond.null_sd:.2f}: more picks, "
            "or templates of more views, are needed"
        )
    sure = SURE_Z_SINGLE if views == 1 else SURE_Z
    evidence = beyond.z >= sure and beyond.value - beyond.null_mean >= LEAST_EVIDENCE
    in_band = inside.z >= sure and inside.value - inside.null_mean >= IN_BAND_EVIDENCE
    if trusted_share < 0.5 and (evidence or in_band):
        return Verdict(
            "undecided",
            "noise is not separable from particles with this template: the averages hold structure that is no bias, "
            "yet no score was found from which picks stand out, so the share of false picks cannot be given",
            words, relative, True,
        )  # fmt: skip
    if not np.isfinite(fdr.value):
        return _undecided("the share of false picks could not be estimated")
    share = f"{fdr.value:.0%} of the picks (95 % interval {fdr.low:.0%} to {fdr.high:.0%}) are what pure noise gives"
    found = f"structure beyond the template's band ({beyond.value:.2f}, noise {_range(beyond)})"
    if evidence and fdr.high <= CLEAN_FDR:
        return Verdict("data", f"{share}, and their averages hold {found}", words, relative, False)
    if evidence:
        return Verdict("mixed", f"the averages hold {found}, but {share}", words, relative, False)
    none = beyond.z < NONE_Z or (beyond.z < SURE_Z and beyond.value - beyond.null_mean < NO_EVIDENCE)
    if none and fdr.low >= NOISE_FDR and stands_out is not None:
        return _undecided(
            f"{share}, and the averages hold nothing beyond the template's band; but from a score of {stands_out:.2f} "
            "up most picks are no noise: judge those by themselves"
        )
    if none and fdr.low >= NOISE_FDR:
        return Verdict(
            "template",
            f"{share}, and their averages hold nothing beyond the template's band ({beyond.value:.2f}, noise "
            f"{_range(beyond)}): what they show comes from the template",
            "", float("nan"), False,
        )  # fmt: skip
    if none:
        reason = "but the averages hold nothing that the template could not have brought"
    else:
        reason = f"and the evidence beyond the template's band is weak ({beyond.value:.2f}, noise {_range(beyond)})"
    return Verdict("undecided", f"{share}, {reason}", "", float("nan"), False)


def _undecided(why: str) -> Verdict:
    return Verdict("undecided", why, "", float("nan"), False)


def _range(null: Null) -> str:
    return f"{null.null_mean:.2f} ± {null.null_sd:.2f}"


def _agreement(beyond: Null, agreement: Null) -> tuple[float, str]:
    whole = reliability(beyond.value)
    if not (np.isfinite(agreement.value) and np.isfinite(agreement.null_sd) and np.isfinite(whole)):
        return float("nan"), ""
    relative = float((agreement.value - agreement.null_mean) / whole)
    if relative >= AGREES and agreement.z >= SURE_Z:
        return relative, f"this structure agrees well with your unfiltered template ({relative:.2f} of what it could)"
    if relative >= PARTLY and agreement.z >= SURE_Z:
        return relative, f"this structure agrees partly with your unfiltered template ({relative:.2f} of what it could)"
    return relative, (
        f"this structure does not detectably agree with your unfiltered template ({relative:.2f} of what it could): "
        "another object, or a template that is round in this band, or a missing CTF"
    )
