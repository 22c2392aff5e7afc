"""Figures of the bias diagnosis."""

from __future__ import annotations

from functools import partial
from pathlib import PurePath
from typing import TYPE_CHECKING

import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray

from napari_pickbias.bias.frc import average_mask
from napari_pickbias.imaging.fourier import apply_filter, shell_numbers
from napari_pickbias.report.palette import Theme
from napari_pickbias.report.panels import (
    LABEL_SIZE,
    SMALL_SIZE,
    Panel,
    dress,
    legend,
    mark_threshold,
    plain_log,
    resolution_axis,
    robust_range,
    say,
    scale_bar,
    show_image,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import FigureBase

    from napari_pickbias.jobs.bias import BiasResult

VERDICT_COLORS = {"data": "#009E73", "mixed": "#E69F00", "template": "#D55E00", "undecided": "#6A737D"}
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#8A8A8A"
SHOWN_VIEWS = 4
MOST_SHOWN_PICKS = 1500
BEST_Q, WORST_Q = 1e-4, 1.0


def picture_panel(result: BiasResult) -> Panel:
    """Return the row of pictures that tells the story."""
    shown = min(SHOWN_VIEWS, sum(one.picks > 0 for one in result.diagnosis.classes)) or 1
    text = (
        "One row for each of the views with most picks. Picking pure noise with the template gives averages that look "
        "like it (second and third column), so a good-looking average (fourth) proves nothing. The last columns show "
        "what is left when all that picking can have put there is removed: on noise nothing, on particles their own "
        "detail, to be compared with the template before its low-pass. Both are weighted by how far your halves agree: "
        "plain grey where they do not, or where no view has picks enough to tell."
    )
    return Panel(
        "pictures", "What noise gives, and what your picks give", text, 0.35 + 1.12 * shown, partial(_draw_row, result)
    )


def _draw_row(result: BiasResult, figure: FigureBase, theme: Theme) -> None:
    diagnosis, frame = result.diagnosis, result.frame
    counts = np.array([one.picks for one in diagnosis.classes])
    views = [int(v) for v in np.argsort(-counts)[:SHOWN_VIEWS] if counts[v] > 0] or [0]
    weight = _shell_weights(result)
    mask = average_mask(frame.box)
    twin = np.concatenate([frame.turns.view[table["template"]] for table in result.twin_rows.values()])
    twin_counts = np.bincount(twin, minlength=len(counts))

    def seen(image: NDArray[np.floating], count: int) -> NDArray[np.float64]:
        # times the root of the count noise is equally strong in every picture
        return np.asarray(apply_filter(np.asarray(image, np.float64), weight) * mask * np.sqrt(max(count, 1)))

    first = {view: int(np.flatnonzero(frame.turns.view == view)[0]) for view in views}
    columns = (
        ("template", lambda v: frame.bank.images[first[v]]),
        ("predicted\nfrom bias alone", lambda v: diagnosis.predicted[v]),
        ("noise,\naverage", lambda v: diagnosis.twin_averages[v]),
        ("your picks,\naverage", lambda v: diagnosis.averages[v]),
        ("noise,\nbias removed", lambda v: seen(diagnosis.twin_removed_averages[v], twin_counts[v])),
        ("your picks,\nbias removed", lambda v: seen(diagnosis.removed[v], counts[v])),
        ("template\nunfiltered", lambda v: diagnosis.sharp[v]),
    )
    grid = figure.subplots(len(views), len(columns), squeeze=False)
    for row, view in zip(grid, views, strict=True):
        # both bias-removed pictures share one scale: noise must not be stretched into structure
        limits = robust_range(np.concatenate([np.asarray(columns[k][1](view)) for k in (4, 5)]), 0.5, 99.5)
        for number, (axes, (name, image_of)) in enumerate(zip(row, columns, strict=True)):
            image = np.asarray(image_of(view), np.float64)
            show_image(axes, image, limits if number in (4, 5) else robust_range(image, 0.5, 99.5), theme)
            if view == views[0]:
                axes.set_title(name, fontsize=SMALL_SIZE, color=theme.text)
        row[0].set_ylabel(f"view {view + 1}\n{counts[view]} picks", fontsize=SMALL_SIZE, color=theme.text)
    scale_bar(grid[0][0], frame.box, frame.pixel_size)


def _shell_weights(result: BiasResult) -> NDArray[np.float64]:
    """Return what each frequency is worth: the reliability of your bias-removed averages, for noise and picks alike."""
    frame, curve = result.frame, result.diagnosis.frc_removed
    agreement = np.clip(np.nan_to_num(curve), 0, 1)
    agreement[0], agreement[frame.bands.beyond.last + 1 :] = 0, 0
    reliability = np.sqrt(2 * agreement / (1 + agreement))
    numbers = shell_numbers((frame.box, frame.box))
    return np.asarray(np.where(numbers < len(reliability), reliability[np.minimum(numbers, len(reliability) - 1)], 0.0))


def fdr_panel(result: BiasResult) -> Panel:
    """Return the share of false picks and the counts against the threshold."""
    text = (
        "Left: share of the picks above a threshold that pure noise would give on the area without particles, with its "
        "95 % interval. Right: picks of the micrographs and of noise. Raising the threshold to the recommended one "
        "keeps the share at what was asked for."
    )
    return Panel("fdr", "False picks against the threshold", text, 2.6, partial(_draw_fdr, result))


def _draw_fdr(result: BiasResult, figure: FigureBase, theme: Theme) -> None:
    left, right = figure.subplots(1, 2)
    curve = result.calibration.fdr
    if curve is None or result.verdict.fdr_failed:
        say(left, theme, "the noise cannot be told from\nparticles with this template,\nso no FDR is given")
    else:
        known = np.isfinite(curve.fdr) & (curve.picks >= 10)
        left.fill_between(
            curve.thresholds[known], curve.low[known], curve.high[known], color=BLUE, alpha=0.2, linewidth=0
        )
        left.plot(curve.thresholds[known], curve.fdr[known], color=BLUE, label="share of false picks")
        left.axhline(result.parameters.fdr, color=theme.muted, linewidth=0.6, linestyle=":")
        _mark(left, result, theme)
        left.set_ylim(0, 1.02)
    dress(left, theme, x="threshold (noise deviations)", y="share of false picks", grid="y")
    legend(left, theme)
    used = result.candidates.used
    high = max((float(t["score"].max()) for t in result.picks.values() if len(t)), default=5.0)
    levels = np.linspace(2.0, max(high, 3.0), 120)
    count = max(len(used), 1)
    real = np.concatenate([match.peaks["score"] for match in used])
    noise = np.concatenate([table["score"] for match in used for table in match.null_peaks])
    repeats = max(len(used[0].null_peaks), 1) if used else 1
    right.plot(levels, [(real >= t).sum() / count for t in levels], color=BLUE, label="your micrographs")
    right.plot(
        levels,
        [(noise >= t).sum() / count / repeats for t in levels],
        color=ORANGE,
        linestyle="--",
        label="noise like theirs",
    )
    _mark(right, result, theme)
    right.set_ylim(bottom=0.3)
    plain_log(right)
    dress(right, theme, x="threshold (noise deviations)", y="peaks per micrograph", grid="y")
    legend(right, theme)


def _mark(axes: Axes, result: BiasResult, theme: Theme) -> None:
    if not result.foreign:
        mark_threshold(axes, theme, result.threshold, f"yours, {result.threshold:.2f}")
    if result.recommended is not None:
        axes.axvline(
            result.recommended,
            color=VERDICT_COLORS["data"],
            linewidth=1.0,
            label=f"recommended, {result.recommended:.2f}",
        )


def frc_panel(result: BiasResult) -> Panel:
    """Return plain and bias-removed correlations beside those of noise."""
    text = (
        "Correlation between the averages of two halves of the picks. Plain (left), noise agrees with itself as well "
        "as particles do within the template's band (grey area): this curve proves nothing there. With the bias "
        "removed (right), noise stays within its band (orange); what rises above it beyond the grey area is in your "
        "data."
    )
    return Panel("frc", "Do two halves of the picks agree?", text, 2.6, partial(_draw_frc, result))


def _draw_frc(result: BiasResult, figure: FigureBase, theme: Theme) -> None:
    left, right = figure.subplots(1, 2, sharey=True)
    d, frame = result.diagnosis, result.frame
    last = min(frame.bands.beyond.last + 2, len(d.frequency) - 1)
    part = slice(1, last + 1)
    edge = (frame.bands.inside.last + 0.5) / (frame.box * frame.pixel_size)
    for axes, ours, noise, title in (
        (left, d.frc_plain, d.twin_plain, "plain"),
        (right, d.frc_removed, d.twin_removed, "bias removed"),
    ):
        axes.axvspan(0, edge, color=theme.grid, alpha=0.6, linewidth=0, label="template's band")
        axes.plot(d.frequency[part], noise[part], color=ORANGE, linestyle="--", marker=".", markersize=3, label="noise")
        axes.plot(d.frequency[part], ours[part], color=BLUE, marker=".", markersize=4, label="your picks")
        axes.axhline(0, color=theme.muted, linewidth=0.5)
        axes.set_ylim(-0.45, 1.05)
        dress(axes, theme, x="spatial frequency (1/Å)", y="correlation" if axes is left else "", grid="y")
        resolution_axis(axes, theme, float(d.frequency[last]))
        axes.text(
            0.98, 0.95, title, transform=axes.transAxes, ha="right", va="top", fontsize=LABEL_SIZE, color=theme.text
        )
    right.fill_between(
        d.frequency[part],
        d.null_low[part],
        d.null_high[part],
        color=ORANGE,
        alpha=0.22,
        linewidth=0,
        label="noise, 95 %",
    )
    legend(right, theme, loc="lower center", ncols=2)


def micrograph_panel(result: BiasResult) -> Panel:
    """Return one micrograph with its picks by their chance of being noise, and noise like it with what it gives."""
    text = (
        "Left: a micrograph with its picks, coloured by q, the share of false ones among all peaks as high: yellow at "
        "1e-4 and below, purple at 1. Right: pure noise of the same spectrum, with the picks it gives at the same "
        "threshold."
    )
    return Panel("micrograph", "Picks on a micrograph and on noise", text, 3.7, partial(_draw_micrograph, result))


def _draw_micrograph(result: BiasResult, figure: FigureBase, theme: Theme) -> None:
    left, right = figure.subplots(1, 2)
    name, image, noise = result.example
    for axes, values in ((left, image), (right, noise)):
        show_image(axes, _blurred(values), robust_range(_blurred(values), 1, 99), theme)
    index = result.candidates.names.index(name)
    match = result.candidates.matches[index]
    assert match is not None
    border = result.candidates.facts.get("border_px", 0)
    table = result.picks[name][:MOST_SHOWN_PICKS]
    radius = 0.5 * result.candidates.diameter_angstrom / result.frame.pixel_size
    size = (radius * 2 * 72 * 3.3 / max(image.shape)) ** 2
    y, x = (table["y"] - border) / match.ratio[0], (table["x"] - border) / match.ratio[1]
    colors = q_colors(q_of(result, table["score"]))
    left.scatter(x, y, s=size, edgecolors=colors, facecolors="none", linewidths=0.7)
    twin = result.twin_rows[name]
    twin = twin[twin["score"] >= result.threshold]
    right.scatter(
        twin["x"], twin["y"], s=size, facecolors="none", edgecolors=VERDICT_COLORS["template"], linewidths=0.7
    )
    left.set_title(
        f"{PurePath(name).name}: {len(table)} picks", fontsize=SMALL_SIZE, color=theme.text, parse_math=False
    )
    right.set_title(f"noise: {len(twin)} picks", fontsize=SMALL_SIZE, color=theme.text)


def q_of(result: BiasResult, scores: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the q-value (Benjamini-Hochberg, over all peaks of all micrographs) of each score."""
    every = np.concatenate([match.peaks["score"] for match in result.candidates.used])
    q = np.concatenate(result.calibration.q)
    order = np.argsort(every, kind="stable")
    if not len(every):
        return np.ones(len(scores))
    return np.asarray(np.interp(scores, every[order], q[order], left=1.0))


def q_colors(q: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return colours ``(n, 4)`` by the logarithm of q: yellow at 1e-4 and below, purple at 1 and where unknown."""
    known = np.clip(np.nan_to_num(np.asarray(q, np.float64), nan=WORST_Q), BEST_Q, WORST_Q)
    return np.asarray(colormaps["plasma"](0.25 + 0.75 * np.log(known) / np.log(BEST_Q)), np.float32)


def _blurred(image: NDArray[np.floating]) -> NDArray[np.floating]:
    from scipy.ndimage import gaussian_filter

    return np.asarray(gaussian_filter(np.asarray(image, np.float64), 1.0))
