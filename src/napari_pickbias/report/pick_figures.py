"""Figures of picking: picks on micrographs, scores and those of noise, FDR against threshold, picks a micrograph."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from matplotlib.ticker import NullLocator
from numpy.typing import NDArray

from napari_pickbias.report.panels import (
    SMALL_SIZE,
    Panel,
    dress,
    legend,
    mark_threshold,
    robust_range,
    say,
    scale_bar,
    short_name,
    show_image,
    whole_numbers,
)

if TYPE_CHECKING:
    from matplotlib.figure import FigureBase

    from napari_pickbias.jobs.pick import PickResult
    from napari_pickbias.report.palette import Theme
    from napari_pickbias.report.pick_tomograms import TomogramSlice

BLUE, ORANGE, GREY = "#0072B2", "#E69F00", "#8A8A8A"
Q_LEVELS = ((0.01, "#56B4E9", "q ≤ 0.01"), (0.05, "#F0E442", "q ≤ 0.05"), (1.0, "#D55E00", "q > 0.05"))
"""Colours of picks by their q-value, the surest first; told apart by colour-blind readers."""


class Shown(NamedTuple):
    """A micrograph for the report."""

    name: str
    image: NDArray[np.float32]
    """Made coarser for the page, as it is in the file."""
    pixel_size_angstrom: float
    """Of ``image``."""
    centres_px: NDArray[np.float64]
    """``(n, 2)`` x, y of the picks on ``image``."""
    q: NDArray[np.float64]
    scores: NDArray[np.float64]


def micrograph_panel(result: PickResult, shown: Shown, number: int) -> Panel:
    """Return a micrograph with its picks, coloured by q-value."""
    height, width = shown.image.shape
    text = (
        f"{short_name(shown.name)}, smoothed for this page: {len(shown.q)} picks. Circles have "
        "the diameter of the particle; their colour is the q-value, the share of false picks among all peaks that "
        "stand at least as high."
    )
    diameter = result.candidates.diameter_angstrom / shown.pixel_size_angstrom
    inches = min(7.2 * height / width + 0.3, 8.6)
    return Panel(f"micrograph_{number}", "Picks", text, inches, partial(draw_picks, shown, diameter))


def draw_picks(shown: Shown | TomogramSlice, diameter_px: float, figure: FigureBase, theme: Theme) -> None:
    """Draw an image with a circle for each pick, coloured by its q-value."""
    from matplotlib.collections import EllipseCollection

    axes = figure.subplots()
    show_image(axes, shown.image, robust_range(shown.image, 0.5, 99.5), theme)
    lower = -1.0
    for level, colour, label in Q_LEVELS:
        chosen = (shown.q > lower) & (shown.q <= level)
        lower = level
        if not chosen.any():
            continue
        size = np.full(int(chosen.sum()), diameter_px)
        circles = EllipseCollection(
            size,
            size,
            np.zeros(len(size)),
            units="xy",
            offsets=shown.centres_px[chosen],
            transOffset=axes.transData,
            facecolors="none",
            edgecolors=colour,
            linewidths=0.9,
        )
        axes.add_collection(circles)
        axes.plot([], [], "o", markerfacecolor="none", color=colour, label=f"{label}: {int(chosen.sum())}")
    legend(axes, theme, loc="upper right", frameon=True, labelcolor="black")
    scale_bar(axes, shown.image.shape[1], shown.pixel_size_angstrom)


def score_panel(result: PickResult) -> Panel:
    """Return the scores of all peaks beside those of noise."""
    text = (
        "Heights of all peaks of the score maps (blue), and of the score maps of noise with each micrograph's own "
        "spectrum (grey), for the same area. Where the two agree there is nothing but noise; picks are the peaks right "
        "of the dashed line. Noise standing to the right of the data's own low peaks means that the noise model is too "
        "strong, and that false picks are overstated."
    )
    return Panel("scores", "Scores against those of noise", text, 2.9, partial(_draw_scores, result))


def _draw_scores(result: PickResult, figure: FigureBase, theme: Theme) -> None:
    axes = figure.subplots()
    used = result.candidates.used
    real = np.concatenate([match.peaks["score"] for match in used]).astype(np.float64)
    null = np.concatenate([table["score"] for match in used for table in match.null_peaks]).astype(np.float64)
    repeats = np.mean([len(match.null_peaks) for match in used])
    if not len(real):
        say(axes, theme, "no peaks")
        return
    low = min(real.min(), null.min()) if len(null) else real.min()
    high = min(max(float(real.max()), float(null.max()) if len(null) else 0.0), result.threshold + 25)
    edges = np.arange(np.floor(5 * low) / 5, high + 0.2, 0.1 if high - low < 15 else 0.25)
    counts = np.histogram(null, edges)[0] / repeats
    axes.stairs(counts, edges, fill=True, color=GREY, alpha=0.45, label="noise")
    axes.stairs(np.histogram(np.minimum(real, edges[-1]), edges)[0], edges, color=BLUE, linewidth=1.3, label="data")
    mark_threshold(axes, theme, result.threshold, f"threshold {result.threshold:.2f}")
    # Single peaks count where the two part, so the axis is logarithmic.
    axes.set_yscale("log")
    axes.set_ylim(bottom=0.4)
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(lambda value, _position: f"{value:,g}")
    dress(axes, theme, x="score (standard deviations of the noise)", y="peaks", grid="y")
    legend(axes, theme)


def fdr_panel(result: PickResult) -> Panel:
    """Return the FDR against the threshold."""
    text = (
        "Expected share of false picks among all picks from a score up (line) with its 95 % interval (band: "
        "micrographs drawn anew, counts of false picks as they scatter), and the number of picks (dotted, right axis). "
        "False picks are counted on the area that no sure pick takes."
    )
    return Panel("fdr", "What a threshold costs", text, 2.9, partial(_draw_fdr, result))


def _draw_fdr(result: PickResult, figure: FigureBase, theme: Theme) -> None:
    axes = figure.subplots()
    curve = result.calibration.fdr
    if curve is None or result.fdr is None:
        say(axes, theme, f"no FDR is given: {result.calibration.failed or 'no picks'}")
        axes.set_xticks([])
        axes.set_yticks([])
        return
    known = np.isfinite(curve.fdr)
    x = curve.thresholds[known]
    axes.fill_between(x, curve.low[known], curve.high[known], color=BLUE, alpha=0.2, linewidth=0)
    axes.plot(x, curve.fdr[known], color=BLUE, label="share of false picks")
    axes.axhline(0.05, color=theme.muted, linewidth=0.7, label="5 %")
    mark_threshold(axes, theme, result.threshold, f"threshold {result.threshold:.2f}: {result.fdr[0]:.1%}")
    sure = x[curve.fdr[known] <= 0.002]
    right = max(float(sure[0]) if len(sure) else float(x[-1]), result.threshold) + 1.0
    axes.set_xlim(float(x[0]), min(right, float(x[-1])) if x[-1] > x[0] else right)
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(lambda value, _position: f"{value:.0%}")
    dress(axes, theme, x="threshold (standard deviations of the noise)", y="false picks", grid="y")
    other = axes.twinx()
    other.plot(x, curve.picks[known], ":", color=ORANGE, label="picks")
    other.set_ylim(bottom=0)
    dress(other, theme, y="picks")
    other.patch.set_visible(False)
    other.spines["right"].set_visible(True)
    other.spines["left"].set_visible(False)
    whole_numbers(other, "y")
    axes.plot([], [], ":", color=ORANGE, label="picks (right axis)")
    legend(axes, theme, loc="upper right")


def count_panel(result: PickResult) -> Panel:
    """Return picks of each micrograph beside what noise alone would give."""
    text = (
        "Picks of each micrograph (bars), in the order of the data, and peaks of its noise above that threshold (dots: "
        "mean over its surrogates, whole area). A micrograph with hardly more picks than noise has peaks holds no such "
        "particles, or its noise is not what was assumed."
    )
    return Panel("counts", "Picks a micrograph", text, 2.5, partial(_draw_counts, result))


def _draw_counts(result: PickResult, figure: FigureBase, theme: Theme) -> None:
    axes = figure.subplots()
    counts = np.array([len(columns["score"]) for columns in result.picks.values()])
    noise = np.array(
        [
            np.mean([(table["score"] >= result.threshold).sum() for table in match.null_peaks])
            for match in result.candidates.used
        ]
    )
    place = np.arange(1, len(counts) + 1)
    if len(counts) <= 200:
        axes.bar(place, counts, color=BLUE, width=0.8, label="picks")
    else:
        axes.step(place, counts, where="mid", color=BLUE, linewidth=0.8, label="picks")
    axes.plot(place, noise, "o", color=ORANGE, markersize=3.5, label="noise alone")
    axes.set_xlim(0.3, len(counts) + 0.7)
    axes.set_ylim(bottom=0)
    if len(counts) <= 20:
        axes.set_xticks(place)
    else:
        whole_numbers(axes, "x")
    whole_numbers(axes, "y")
    dress(axes, theme, x="micrograph", y="picks", grid="y")
    legend(axes, theme, ncols=2, loc="lower right", fontsize=SMALL_SIZE, frameon=True, labelcolor="black")
