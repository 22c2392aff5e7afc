"""The chapter of the report on a program's picks of pure noise."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from napari_pickbias.report.document import Section, Table
from napari_pickbias.report.palette import Theme
from napari_pickbias.report.panels import (
    SMALL_SIZE,
    Panel,
    dress,
    legend,
    robust_range,
    say,
    scale_bar,
    show_image,
)

if TYPE_CHECKING:
    from matplotlib.figure import FigureBase

    from napari_pickbias.jobs.bias_picker import PickerNull

KINDS = {"picker": "your picker", "templates": "the templates", "random": "random places"}
COLORS = {"picker": "#0072B2", "templates": "#D55E00", "random": "#8A8A8A"}


def picker_section(taken: PickerNull) -> Section:
    """Return the chapter: counts, the mean of what the program took from noise, and its false picks by own score."""
    null = taken.null
    share = "not known" if not np.isfinite(null.rate.value) else (
        f"{null.rate.value:.0%} ({null.rate.low:.0%} to {null.rate.high:.0%})"
    )  # fmt: skip
    text = (
        f"The program was run on noise like each micrograph, {taken.repeats} times, with the same settings. It picked "
        f"{null.observed} on your micrographs; on as many of noise it picks {null.expected:.0f} (95 % interval "
        f"{null.low:.0f} to {null.high:.0f}). Share of your picks that are such: {share}."
    )
    if taken.recommended is not None:
        text += (
            f" From its own score of {taken.recommended:.4g} on, the share of false picks stays at or below what was "
            "asked for."
        )
    header = ("patches of noise", "number", "correlation with the templates' mean", "halves agree, first 5 shells")
    reference = taken.means["templates"].ravel()
    rows = tuple(
        (
            KINDS[kind],
            str(taken.picks[kind]),
            f"{_correlation(taken.means[kind].ravel(), reference):.2f}",
            f"{float(np.nanmean(taken.frc[kind][1:6])):.2f}" if np.isfinite(taken.frc[kind][1:6]).any() else "–",
        )
        for kind in KINDS
    )
    table = Table("Plain means of patches of noise, nothing aligned", header, rows, frozenset(header[1:]))
    return Section("What your picker takes from noise", (text,), (table,), (_panel(taken),))


def _correlation(first: np.ndarray, second: np.ndarray) -> float:
    if not (first.std() > 0 and second.std() > 0):
        return float("nan")
    return float(np.corrcoef(first, second)[0, 1])


def _panel(taken: PickerNull) -> Panel:
    text = (
        "The mean of what is picked from pure noise: of an unbiased picker it is nothing, as at random places. What "
        "two halves of such picks agree on is the picker's own. The last plot has the share of false picks against the "
        "picker's own score."
    )
    return Panel("picker", "Means of picks of noise", text, 2.3, partial(_draw, taken))


def _draw(taken: PickerNull, figure: FigureBase, theme: Theme) -> None:
    columns = figure.subplots(1, 5, gridspec_kw={"width_ratios": [1, 1, 1, 1.5, 1.5]})
    # deviations of the mean of noise alone: pictures of unlike numbers are told apart fairly
    shown = {kind: taken.means[kind] * np.sqrt(max(taken.picks[kind], 1)) for kind in KINDS}
    limits = robust_range(np.concatenate([shown["picker"], shown["random"]]), 0.5, 99.5)
    for axes, kind in zip(columns, KINDS, strict=False):
        own = robust_range(shown[kind], 0.5, 99.5) if kind == "templates" else limits
        show_image(axes, shown[kind], own, theme)
        axes.set_title(f"{KINDS[kind]}\n{taken.picks[kind]} patches", fontsize=SMALL_SIZE, color=theme.text)
    scale_bar(columns[0], shown["picker"].shape[0], taken.pixel_size)
    curve = columns[3]
    shells = np.arange(1, min(16, len(taken.frc["picker"])))
    for kind, name in KINDS.items():
        curve.plot(shells, taken.frc[kind][shells], color=COLORS[kind], marker=".", markersize=3, label=name)
    curve.axhline(0, color=theme.muted, linewidth=0.5)
    curve.set_ylim(-0.6, 1.05)
    dress(curve, theme, x="shell", y="halves agree", grid="y")
    legend(curve, theme)
    last = columns[4]
    if taken.null.curve is None:
        say(last, theme, "this picker gives\nno scores")
    else:
        fdr = taken.null.curve
        known = np.isfinite(fdr.fdr) & (fdr.picks >= 10)
        last.fill_between(
            fdr.thresholds[known], np.clip(fdr.low[known], 0, 1), np.clip(fdr.high[known], 0, 1), color="#0072B2",
            alpha=0.2, linewidth=0,
        )  # fmt: skip
        last.plot(fdr.thresholds[known], np.clip(fdr.fdr[known], 0, 1), color="#0072B2")
        last.set_ylim(0, 1.02)
    dress(last, theme, x="its own score", y="share of false picks", grid="y")
