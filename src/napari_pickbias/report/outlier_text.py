"""The words of the outlier report: key figures, what the error rate means, what was done to each group."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from napari_pickbias.report.document import Fact, Table
from napari_pickbias.report.palette import REASON_COLORS, REASON_MEANINGS

if TYPE_CHECKING:
    from napari_pickbias.jobs.outliers import GroupResult, OutlierResult

REJECTED = ("noise", "partial", "multiple")
# (below this e0, verdict); what share of good particles is found is from the method's tests on simulated data.
SIGNAL = (
    (5.0, "too weak: particles cannot be told from noise one by one"),
    (8.0, "weak: about half of the good particles can be told from noise"),
    (15.0, "fair: most good particles can be told from noise, one in ten or more cannot"),
    (30.0, "good: about nine in ten good particles can be told from noise"),
    (float("inf"), "strong: nearly all good particles can be told from noise"),
)


def percent(part: int, total: int) -> str:
    """Return a count with its share."""
    return f"{part:,} ({part / max(total, 1):.1%})"


def headline(counts: Mapping[str, int]) -> str:
    """Return the outcome in one sentence."""
    total = sum(counts.values())
    if counts["kept"] == 0:
        return (
            f"None of the {total:,} particles was kept: check the radius, the contrast and the pixel size before "
            "believing this."
        )
    if counts["kept"] == total:
        return f"All {total:,} particles were kept." if total > 1 else "The only particle was kept."
    return (
        f"{counts['kept']:,} of {total:,} particles were kept ({counts['kept'] / total:.1%}), "
        f"{total - counts['kept']:,} were rejected."
    )


def signal_words(e0: float) -> str:
    """Return what a value of e0 means."""
    return next(words for limit, words in SIGNAL if e0 < limit or limit == float("inf"))


def key_figures(result: OutlierResult, trusted_e0: float) -> tuple[Fact, ...]:
    """Return the table of key figures."""
    counts = result.counts
    total = sum(counts.values())
    facts = [
        Fact("Particles", f"{total:,}", "judged"),
        Fact("Kept", percent(counts["kept"], total), REASON_MEANINGS["kept"], REASON_COLORS["kept"]),
        Fact("Rejected", percent(total - counts["kept"], total), "for one of the three reasons below"),
    ]
    facts += [Fact(f"as {r}", percent(counts[r], total), REASON_MEANINGS[r], REASON_COLORS[r]) for r in REJECTED]
    return (*facts, _rate(result), _signal(result), _fdr(result, trusted_e0))


def _rate(result: OutlierResult) -> Fact:
    name = "False-keep rate"
    if result.parameters.method == "reference":
        return Fact(name, "not given", "the published rule has no stated error rate")
    value = f"{100 * result.parameters.false_keep_rate:.3g}%"
    return Fact(name, value, "of boxes that hold nothing but random noise, about this share is kept")


def _signal(result: OutlierResult) -> Fact:
    name = "Signal e0"
    known = [group.e0 for group in result.groups if group.e0 is not None]
    if not known:
        return Fact(name, "not given", "the published rule does not measure it")
    lowest = min(known)
    which = " (lowest of the groups)" if len(known) > 1 else ""
    meaning = f"squared signal-to-noise ratio for detecting an average particle{which}; {signal_words(lowest)}"
    return Fact(name, f"{lowest:.1f}", meaning)


def _fdr(result: OutlierResult, trusted_e0: float) -> Fact:
    name = "Expected outliers among the kept"
    if result.expected_fdr is not None:
        return Fact(
            name,
            f"{100 * result.expected_fdr:.2g}%",
            "expected share of kept boxes that do not hold one whole particle; an order of magnitude only: in tests "
            "between a fifth of the true share and twice it",
        )
    if result.parameters.method == "reference":
        reason = "the published rule gives no probabilities"
    elif result.counts["kept"] == 0:
        reason = "nothing was kept"
    else:
        reason = f"the signal is too weak for a meaningful estimate (e0 below {trusted_e0:g})"
    return Fact(name, "not given", reason)


def reading(result: OutlierResult) -> tuple[str, ...]:
    """Return what the figures mean, and what they do not mean."""
    last = (
        "Nothing is lost: the rejected particles are in files of their own beside the kept ones, with all their "
        "columns. Look at the averages below before deleting anything. If the average of the particles rejected as "
        "noise shows a particle, good ones were thrown away; rare views and smaller complexes are rejected first."
    )
    if result.parameters.method == "reference":
        return (
            "The published rule filters each box with a radial template and looks at where its brightest points lie: "
            "in a cluster near the middle (kept), near the edge (partial) or scattered (noise). It has no rule for two "
            "particles. It says yes or no, without a score; how much noise it keeps depends on radius, kernel and box: "
            "on white noise 5 % to 24 % was measured.",
            last,
        )
    rate = f"{100 * result.parameters.false_keep_rate:.3g}%"
    return (
        f"What the false-keep rate says: if a box holds nothing but random noise like that in this data set, it is "
        f"kept with a probability of about {rate}. The threshold was set on simulated boxes of such noise; in tests "
        "with known truth the share kept was within a factor of three of the rate stated.",
        "What it does not say: it is not the share of junk among the kept particles, which also depends on how many "
        "of the picks were junk. It does not cover contaminants of a particle's size and mass (ice, ethane, "
        "aggregates), carbon edges, or two particles closer than their radius. And noise that a template picker chose "
        "because it resembles the template is not random noise: it is kept more often than stated.",
        last,
    )


def group_paragraph(group: GroupResult, counts: Mapping[str, int]) -> str:
    """Return how the particles of one group were prepared, and what was learned from them."""
    geometry = group.group
    radius = geometry.radius_px * geometry.working_pixel_size_angstrom
    text = (
        f"{percent(counts['kept'], len(geometry.rows))} of {len(geometry.rows):,} particles kept. Boxes of "
        f"{geometry.box_px} px at {geometry.pixel_size_angstrom:.4g} Å/px were judged at {geometry.working_box_px} px "
        f"of {geometry.working_pixel_size_angstrom:.3g} Å/px, with a particle radius of {radius:.4g} Å "
        f"({geometry.radius_px:.3g} px). "
    )
    text += "Particles are bright in the data" if group.sign > 0 else "Particles are dark in the data and were inverted"
    text += "; phases were flipped by the CTF first." if geometry.flip else "; phases were not flipped here."
    if group.e0 is not None:
        text += f" Signal e0 = {group.e0:.1f}: {signal_words(group.e0)}."
    shares = group.summary.get("pi")
    if shares is not None and group.e0 is not None and group.e0 >= 8:
        one, noise, off, two = (100 * float(share) for share in shares)
        text += (
            f" In the {int(group.summary['n_fit']):,} images that it learned from, the detector estimates {one:.0f}% "
            f"boxes with one whole particle, {noise:.0f}% noise, {off:.0f}% off the middle and {two:.0f}% with two."
        )
    return text


def group_table(groups: list[GroupResult], counts: list[Mapping[str, int]]) -> Table:
    """Return one row for each group of particles judged together."""
    numbers = ("particles", "kept", *REJECTED, "e0", "threshold")
    rows = []
    for group, found in zip(groups, counts, strict=True):
        limit: Any = group.summary.get("c_noise")
        rows.append(
            (
                group.group.name,
                f"{len(group.group.rows):,}",
                *(f"{found[r]:,}" for r in ("kept", *REJECTED)),
                "–" if group.e0 is None else f"{group.e0:.1f}",
                "–" if limit is None else f"{float(limit):.2f}",
            )
        )
    return Table("Particles judged together", ("group", *numbers), tuple(rows), frozenset(numbers))
