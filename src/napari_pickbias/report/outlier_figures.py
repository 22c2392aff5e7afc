"""Figures of outlier removal from its table: verdicts, scores with their thresholds, micrographs."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure, FigureBase
from numpy.typing import NDArray

from napari_pickbias.outliers.verdicts import REASONS
from napari_pickbias.report.palette import LIGHT, REASON_COLORS, Theme
from napari_pickbias.report.panels import (
    LABEL_SIZE,
    SMALL_SIZE,
    Panel,
    counts_of,
    dress,
    legend,
    mark_threshold,
    reason_histograms,
    robust_range,
    short_name,
    whole_numbers,
)

if TYPE_CHECKING:
    from napari_pickbias.jobs.outliers import GroupResult, OutlierResult

SINGLE_MICROGRAPHS = 60
"""Up to so many micrographs are drawn one by one."""
WORST_MICROGRAPHS = 20
FEWEST_OF_MICROGRAPH = 10
"""Particles below which a micrograph's share of rejected ones says little."""
BINS = 60

Codes = NDArray[np.int8]


def reason_codes(result: OutlierResult) -> Codes:
    """Return each row's verdict as index into ``REASONS``."""
    reason = result.table["reason"]
    if not isinstance(reason.dtype, pd.CategoricalDtype) or tuple(reason.cat.categories) != REASONS:
        reason = reason.astype(pd.CategoricalDtype(list(REASONS)))
    return np.asarray(reason.cat.codes, np.int8)


def _rows(result: OutlierResult, group: GroupResult | None) -> NDArray[np.int64] | slice:
    return slice(None) if group is None else group.group.rows


def _column(result: OutlierResult, name: str, rows: NDArray[np.int64] | slice) -> NDArray[Any]:
    if name not in result.table:
        return np.full(len(result.table), np.nan)[rows]
    return result.table[name].to_numpy()[rows]


# Verdicts ------------------------------------------------------------------------------------------------------------


def verdict_panel(result: OutlierResult, group: GroupResult | None = None) -> Panel:
    """Return the bars of particles kept and rejected by reason."""
    counts = counts_of(reason_codes(result)[_rows(result, group)], REASONS)
    text = (
        "How many particles were kept, and how many were rejected for which reason: the test that they fail by most. "
        "A weak particle at the edge of its box, or one of two, may still look most like noise."
    )
    return Panel("verdicts", "Kept and rejected", text, 1.75, partial(_draw_verdicts, counts))


def verdict_figure(result: OutlierResult, group: GroupResult | None = None, theme: Theme = LIGHT) -> Figure:
    """Return :func:`verdict_panel` as a figure."""
    return verdict_panel(result, group).figure(theme)


def _draw_verdicts(counts: Mapping[str, int], figure: FigureBase, theme: Theme) -> None:
    axes = figure.add_subplot()
    total = max(sum(counts.values()), 1)
    places = np.arange(len(counts))
    axes.barh(places, list(counts.values()), color=[REASON_COLORS[r] for r in counts], height=0.72)
    for place, count in zip(places, counts.values(), strict=True):
        axes.annotate(
            f"{count:,}  ({count / total:.1%})",
            (count, place),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=LABEL_SIZE,
            color=theme.text,
        )
    axes.set_yticks(places, labels=list(counts))
    axes.invert_yaxis()
    axes.set_xlim(0, max(counts.values()) * 1.22 or 1)
    dress(axes, theme, x="particles", grid="x")
    axes.tick_params(axis="y", labelsize=LABEL_SIZE, length=0)
    whole_numbers(axes, "x")


# Scores --------------------------------------------------------------------------------------------------------------


def score_panel(result: OutlierResult, group: GroupResult | None = None, *, log: bool = True) -> Panel | None:
    """Return the histograms of log-odds, score and p-value with their thresholds; None where no row has a score.

    Parameters
    ----------
    log : bool
        Logarithmic counts, which show a few rejected beside many kept.
    """
    rows = _rows(result, group)
    if not np.isfinite(_column(result, "score", rows)).any():
        return None
    group = group or (result.groups[0] if len(result.groups) == 1 else None)
    rate = result.parameters.false_keep_rate
    text = (
        "Each particle is tested against three other explanations of its box: noise alone, a particle off the middle, "
        "and two particles. A log-odds of 0 means that both are equally likely, +5 that one whole particle is 150 "
        "times likelier. A particle is kept when it lies right of all three dashed lines. The line against noise "
        "comes from simulated boxes of pure noise with this data set's noise spectrum, set so that at most "
        f"{100 * rate:.3g}% of them pass; the p-value is the share of those boxes that would pass with at least the "
        "particle's log-odds. The score weighs all three explanations together and ranks the particles. "
        "Values beyond the axes are counted in the outermost bins."
    )
    return Panel("scores", "Scores and thresholds", text, 3.7, partial(_draw_scores, result, group, rows, log))


def score_figure(
    result: OutlierResult, group: GroupResult | None = None, theme: Theme = LIGHT, *, log: bool = True
) -> Figure | None:
    """Return :func:`score_panel` as a figure, or None where no row has a score (the published method)."""
    panel = score_panel(result, group, log=log)
    return None if panel is None else panel.figure(theme)


def _draw_scores(
    result: OutlierResult,
    group: GroupResult | None,
    rows: NDArray[np.int64] | slice,
    log: bool,
    figure: FigureBase,
    theme: Theme,
) -> None:
    codes = reason_codes(result)[rows]
    threshold = None if group is None else group.summary.get("c_noise")
    axes = figure.subplots(2, 3).ravel()
    tests: tuple[tuple[str, str, float | None], ...] = (
        ("log_odds_noise", "against noise", threshold),
        ("log_odds_partial", "against a particle off the middle", 0.0),
        ("log_odds_multiple", "against two particles", 0.0),
        ("score", "against all three: the score", None),
    )
    for one, (name, title, limit) in zip(axes[:4], tests, strict=True):
        values = _column(result, name, rows)
        edges = _edges(values, limit)
        reason_histograms(one, values, codes, REASONS, edges, theme, log=log)
        dress(one, theme, x="score" if name == "score" else "log-odds", y="particles", title=title)
        one.set_xlim(edges[0], edges[-1])
        if limit is not None:
            mark_threshold(one, theme, limit, "threshold")
            one.annotate(
                f"{limit:.3g}",
                (limit, 1),
                xycoords=("data", "axes fraction"),
                xytext=(3, -2),
                textcoords="offset points",
                va="top",
                fontsize=SMALL_SIZE,
                color=theme.text,
            )
    _draw_p_values(axes[4], result, codes, _column(result, "p_value", rows), theme, log=log)
    axes[5].set_axis_off()
    handles, labels = axes[0].get_legend_handles_labels()
    unjudged = int((~np.isfinite(_column(result, "score", rows))).sum())
    note = f"\n{unjudged:,} constant or damaged images\nhave no score and are not shown" if unjudged else ""
    axes[5].legend(
        handles,
        labels,
        loc="upper left",
        frameon=False,
        fontsize=LABEL_SIZE,
        labelcolor=theme.text,
        title=f"counts on a {'logarithmic' if log else 'linear'} scale{note}",
        title_fontsize=SMALL_SIZE,
        alignment="left",
    )
    axes[5].get_legend().get_title().set_color(theme.muted)


def _draw_p_values(
    axes: Axes, result: OutlierResult, codes: Codes, p_values: NDArray[Any], theme: Theme, *, log: bool
) -> None:
    positive = p_values[np.isfinite(p_values) & (p_values > 0)]
    lowest = float(positive.min()) if len(positive) else 1e-4
    edges = np.linspace(min(np.log10(lowest), -2.0) - 1e-6, 0.0, 41)
    # A p-value of 0 cannot come from finitely many surrogates, but must not vanish either.
    decades = np.log10(np.maximum(p_values.astype(np.float64), 10.0 ** edges[0]))
    reason_histograms(axes, decades, codes, REASONS, edges, theme, log=log)
    dress(axes, theme, x="p-value", y="particles", title="p-value of pure noise")
    axes.set_xlim(edges[0], edges[-1])
    powers = np.arange(int(np.ceil(edges[0])), 1)
    axes.set_xticks(powers, labels=[f"{10.0**k:g}" for k in powers])
    rate = result.parameters.false_keep_rate
    mark_threshold(axes, theme, float(np.log10(rate)), "false-keep rate")
    axes.annotate(
        f"{rate:g}",
        (np.log10(rate), 1),
        xycoords=("data", "axes fraction"),
        xytext=(3, -2),
        textcoords="offset points",
        va="top",
        fontsize=SMALL_SIZE,
        color=theme.text,
    )


def _edges(values: NDArray[Any], threshold: float | None) -> NDArray[np.float64]:
    low, high = robust_range(values, 0.3, 99.7) or (-1.0, 1.0)
    if threshold is not None:
        room = 0.04 * (high - low)
        low, high = min(low, threshold - room), max(high, threshold + room)
    return np.linspace(low, high, BINS + 1)


# Micrographs ---------------------------------------------------------------------------------------------------------


def micrograph_counts(result: OutlierResult) -> tuple[list[str], NDArray[np.int64]] | None:
    """Return micrographs and their particles by reason, the largest share of rejected ones first.

    Returns
    -------
    (names, counts) or None
        ``counts`` has shape ``(micrographs, len(REASONS))``; None where the data do not name micrographs.
    """
    if "micrograph" not in result.table:
        return None
    numbers, names = pd.factorize(result.table["micrograph"], sort=True, use_na_sentinel=False)
    codes = reason_codes(result)
    flat = np.bincount(numbers.astype(np.int64) * len(REASONS) + codes, minlength=len(names) * len(REASONS))
    counts = flat.reshape(len(names), len(REASONS)).astype(np.int64)
    total = counts.sum(axis=1)
    order = np.lexsort((-total, counts[:, 0] / np.maximum(total, 1)))
    return [str(names[i]) for i in order], counts[order]


def micrograph_panel(result: OutlierResult) -> Panel | None:
    """Return particles per micrograph; None where the data do not name micrographs."""
    found = micrograph_counts(result)
    if found is None:
        return None
    names, counts = found
    if len(names) <= SINGLE_MICROGRAPHS:
        text = (
            "Particles of each micrograph by verdict, the largest share of rejected ones on top. A micrograph that "
            "loses far more than the others is worth a look: ice, carbon, a wrong defocus, or a picker gone astray."
        )
        height = 0.75 + 0.145 * max(len(names), 4)
        return Panel("micrographs", "Micrographs", text, height, partial(_draw_bars, names, counts, "", None))
    text = (
        f"Left: how many of the {len(names):,} micrographs lose which share of their particles. Right: those that lose "
        f"the largest share, among micrographs with {FEWEST_OF_MICROGRAPH} particles or more where there are any. "
        "A tail of bad micrographs points to ice, carbon, a wrong defocus, or a picker gone astray."
    )
    return Panel("micrographs", "Micrographs", text, 3.7, partial(_draw_many, names, counts))


def micrograph_figure(result: OutlierResult, theme: Theme = LIGHT) -> Figure | None:
    """Return :func:`micrograph_panel` as a figure, or None."""
    panel = micrograph_panel(result)
    return None if panel is None else panel.figure(theme)


def _draw_bars(
    names: list[str], counts: NDArray[np.int64], title: str, axes: Axes | None, figure: FigureBase, theme: Theme
) -> None:
    axes = axes or figure.add_subplot()
    places = np.arange(len(names))
    left = np.zeros(len(names), np.int64)
    for code, reason in enumerate(REASONS):
        axes.barh(places, counts[:, code], left=left, color=REASON_COLORS[reason], height=0.8, label=reason)
        left += counts[:, code]
    axes.set_yticks(places, labels=[short_name(name) for name in names])
    for label in axes.get_yticklabels():
        label.set_parse_math(False)
    axes.set_ylim(max(len(names), 4) - 0.4, -0.6)
    axes.set_xlim(0, max(int(left.max()), 1) * 1.02)
    dress(axes, theme, x="particles", title=title)
    axes.tick_params(axis="y", labelsize=min(SMALL_SIZE, 6.0), length=0)
    whole_numbers(axes, "x")
    legend(axes, theme, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=len(REASONS), borderaxespad=0.2)


def _draw_many(names: list[str], counts: NDArray[np.int64], figure: FigureBase, theme: Theme) -> None:
    left, right = figure.subplots(1, 2)
    total = counts.sum(axis=1)
    share = 1 - counts[:, 0] / np.maximum(total, 1)
    left.stairs(*np.histogram(share, np.linspace(0, 1, 26)), fill=True, color=theme.muted)
    dress(left, theme, x="share of particles rejected", y="micrographs", grid="y")
    left.set_xlim(0, 1)
    whole_numbers(left, "y")
    overall = 1 - counts[:, 0].sum() / max(int(total.sum()), 1)
    mark_threshold(left, theme, overall, f"all together: {overall:.1%}")
    legend(left, theme)
    enough = np.flatnonzero(total >= FEWEST_OF_MICROGRAPH)
    worst = (enough if len(enough) else np.arange(len(names)))[:WORST_MICROGRAPHS]
    _draw_bars([names[i] for i in worst], counts[worst], "", right, figure, theme)
