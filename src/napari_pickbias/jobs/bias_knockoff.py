"""The diagnosis' own picks chosen by knockoffs instead of by a threshold from surrogates."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace

import numpy as np

from napari_pickbias.bias.knockoffs import Selection, compete, inverted_bank, knockoff_threshold
from napari_pickbias.errors import InputError
from napari_pickbias.jobs.bias_parameters import BiasParameters
from napari_pickbias.jobs.pick_candidates import PickCandidates
from napari_pickbias.jobs.pick_match import Plan, searched
from napari_pickbias.jobs.pick_templates import bank_for
from napari_pickbias.jobs.progress import Checkpoints, Progress
from napari_pickbias.matching.noise_model import matched_peaks, template_sd
from napari_pickbias.matching.preprocess import prepare

__all__ = ["knockoff_candidates"]


def knockoff_candidates(
    plan: Plan, candidates: PickCandidates, parameters: BiasParameters, threads: int, checkpoints: Checkpoints
) -> Generator[Progress, None, tuple[PickCandidates, float]]:
    """Match every micrograph with the knockoffs of its bank; only peaks that win against them stay.

    Returns
    -------
    candidates : PickCandidates
        With the winners as peaks, and the outcome in ``facts["knockoff"]``.
    threshold : float
        That keeps the rate asked for.

    Raises
    ------
    InputError
        When no threshold keeps the rate.
    """
    winners, losers = [], []
    for number, match in enumerate(candidates.matches):
        yield Progress("knockoffs", number, len(candidates.matches))
        if match is None:
            continue
        saved = checkpoints.load(f"knockoff_{number:06d}")
        if saved is None:
            optics = plan.micrographs.ctf
            bank = bank_for(plan.views, None if optics is None else optics.take(np.array([number])), plan.ctf)
            other = inverted_bank(bank)
            image, ratio = searched(plan, number)
            prepared = prepare(
                image * np.float32(plan.sign), plan.settings.diameter / plan.settings.pixel_size, bank.box_px
            )
            peaks = matched_peaks(
                prepared.image, prepared.inside, other, template_sd(other, match.noise.power),
                plan.settings.min_distance / plan.settings.pixel_size, threads,
            )  # fmt: skip
            peaks["y"] = peaks["y"] * ratio[0] + plan.border_px
            peaks["x"] = peaks["x"] * ratio[1] + plan.border_px
            saved = {"peaks": peaks}
            checkpoints.save(f"knockoff_{number:06d}", saved)
        ours, theirs = compete(match.peaks, saved["peaks"], match.min_distance_px)
        winners.append(ours)
        losers.append(theirs)
    chosen = knockoff_threshold(
        np.concatenate([table["score"] for table in winners]), np.concatenate([table["score"] for table in losers]),
        parameters.fdr,
    )  # fmt: skip
    if not np.isfinite(chosen.threshold):
        raise InputError(
            f"--select {parameters.select}: at no threshold do templates win so much more often than their knockoffs "
            f"that false picks stay at {parameters.fdr:.0%}; nothing can be picked at that rate: raise --fdr, or give "
            "templates nearer to the particles"
        )
    left = iter(winners)
    matches = tuple(None if match is None else replace(match, peaks=next(left)) for match in candidates.matches)
    facts = candidates.facts | {"knockoff": facts_of(chosen)}
    facts["notes"] = [*facts["notes"], note_of(chosen)]
    return replace(candidates, matches=matches, facts=facts), chosen.threshold


def facts_of(chosen: Selection) -> dict[str, float]:
    """Return the figures for scripts."""
    return {
        "threshold": chosen.threshold, "taken": chosen.taken, "knockoffs": chosen.knockoffs,
        "estimated_false_share": chosen.rate,
    }  # fmt: skip


def note_of(chosen: Selection) -> str:
    """Return one line for the report."""
    return (
        f"picks were chosen by knockoffs of inverted contrast: from a score of {chosen.threshold:.2f} on templates win "
        f"{chosen.taken} places and knockoffs {chosen.knockoffs}, so about {chosen.rate:.1%} of the picks are false"
    )
