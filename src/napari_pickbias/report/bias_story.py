"""The bias diagnosis told from its written results, in figures as narrow as a dock: bias.md says what they mean.

The page's figures (:mod:`napari_pickbias.report.bias_figures`) are drawn from a result in memory; these from the
output folder, so that a run of any door, of any day, is shown in the same way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from napari_pickbias.bias.frc import average_mask
from napari_pickbias.imaging.fourier import apply_filter, shell_numbers
from napari_pickbias.report.bias import WORDS, next_step
from napari_pickbias.report.bias_figures import BLUE, ORANGE, VERDICT_COLORS, q_colors
from napari_pickbias.report.document import Fact
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
    scale_bar,
    show_image,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import FigureBase

STORY_WIDTH = 4.8
"""Inches: the width of a dock at 100 dots an inch, for which the figures are composed."""
SHOWN_VIEWS = 4
PICTURES = (
    ("templates", "template"),
    ("predicted_bias", "predicted\nfrom bias alone"),
    ("noise_averages", "noise,\naverage"),
    ("class_averages", "your picks,\naverage"),
    ("noise_bias_removed", "noise,\nbias removed"),
    ("bias_removed", "your picks,\nbias removed"),
    ("templates_unfiltered", "template,\nunfiltered"),
)
"""Stacks of the output folder, in the order in which they are shown."""


@dataclass(frozen=True)
class Example:
    """One micrograph and noise like it, as they were matched.

    Attributes
    ----------
    name : str
    micrograph, noise : ndarray, shape (h, w)
    picks_px, twin_px : ndarray, shape (n, 2)
        x, y on these pixels.
    q : ndarray, shape (n,)
        Of the picks.
    diameter_px : float
    """

    name: str
    micrograph: NDArray[np.float32]
    noise: NDArray[np.float32]
    picks_px: NDArray[np.float64]
    twin_px: NDArray[np.float64]
    q: NDArray[np.float64]
    diameter_px: float


@dataclass(frozen=True)
class BiasStory:
    """What an output folder of ``pickbias bias`` says.

    Attributes
    ----------
    results : mapping
        Of ``summary.json``.
    pictures : dict of ndarray, shape (V, b, b)
        The stacks of :data:`PICTURES` that are there.
    fdr, frc : DataFrame
        ``fdr.csv`` and ``frc.csv``.
    pixel_size_angstrom : float
        Of pictures and example.
    twin_counts : ndarray of int, shape (V,), or None
        Picks of noise of each view.
    example : Example or None
    assumed : tuple of str
        What the diagnosis rests on.
    foreign : bool
        Another program picked: the curve over thresholds is that of the templates' peaks, not of its picks.
    """

    results: Mapping[str, Any]
    pictures: dict[str, NDArray[np.float32]]
    fdr: pd.DataFrame
    frc: pd.DataFrame
    pixel_size_angstrom: float
    twin_counts: NDArray[np.int64] | None = None
    example: Example | None = None
    assumed: tuple[str, ...] = ()
    foreign: bool = False

    @property
    def verdict(self) -> str:
        """One of ``data``, ``mixed``, ``template``, ``undecided``."""
        return str(self.results["verdict"])

    @property
    def color(self) -> str:
        """Colour of the verdict."""
        return VERDICT_COLORS.get(self.verdict, VERDICT_COLORS["undecided"])

    @property
    def headline(self) -> str:
        """The verdict and why, in one sentence."""
        return f"{WORDS.get(self.verdict, WORDS['undecided'])}: {self.results['why']}."

    @property
    def next_step(self) -> str:
        """What to do."""
        results = self.results
        return next_step(
            self.verdict, results["null_fraction"] is None, results["threshold"], results.get("data_threshold"),
            thin=results["evidence_beyond_band"]["value"] is None,
        )  # fmt: skip

    def counts(self) -> NDArray[np.int64]:
        """Return the picks of each view."""
        return np.array([one["picks"] for one in self.results["class_averages"]], np.int64)

    def views(self) -> list[int]:
        """Return the views with most picks, the first first."""
        counts = self.counts()
        return [int(view) for view in np.argsort(-counts, kind="stable")[:SHOWN_VIEWS] if counts[view] > 0]


def story_facts(story: BiasStory) -> tuple[Fact, ...]:
    """Return the three figures, each with what noise gives."""
    results = story.results
    value, interval = results["null_fraction"], results["null_fraction_interval"]
    noise = f"noise alone gives {results['expected_null_picks']:.0f} picks on the same area"
    if value is None:
        share, spread = "not given", f"the noise cannot be told from particles with this template; {noise}"
    else:
        share = f"{value:.0%}"
        spread = (
            f"of {results['observed_picks']:,} picks, 95 % interval {interval[0]:.0%} to {interval[1]:.0%}; {noise}"
        )
    beyond, match = results["evidence_beyond_band"], results["template_agreement"]
    relative = results.get("relative_agreement")
    return (
        Fact("Is an object there? Share of false picks", share, spread),
        Fact("Did the template bring it? Evidence beyond its band", _number(beyond["value"]), _null(beyond)),
        Fact(
            "Is it your object? Agreement with the unfiltered template",
            _number(relative),
            (f"{results['agreement']}; " if results.get("agreement") else "") + f"as measured: {_null(match, True)}",
        ),
    )


def _number(value: float | None) -> str:
    return "not given" if value is None or not np.isfinite(value) else f"{value:.2f}"


def _null(found: Mapping[str, Any], with_value: bool = False) -> str:
    if found["null_mean"] is None or found["null_sd"] is None:
        return "too few picks to say what noise gives"
    value = f"{_number(found['value'])}, " if with_value else ""
    z = "" if found.get("z") is None else f", {found['z']:.1f} deviations away"
    return f"{value}noise gives {found['null_mean']:.2f} ± {found['null_sd']:.2f}{z}"


def story_panels(story: BiasStory) -> list[Panel]:
    """Return the figures of the story in its order: pictures, false picks, halves, a micrograph beside its noise."""
    panels = [_picture_panel(story)] if story.views() and story.pictures else []
    panels.append(
        Panel(
            "fdr",
            "False picks against the threshold",
            "Above: share of the picks above a threshold that pure noise would give on the area without particles, "
            "with its 95 % interval. Below: how many picks there are, and how many of them noise explains.",
            3.7,
            partial(_draw_fdr, story),
        )
    )
    panels.append(
        Panel(
            "frc",
            "Do two halves of the picks agree?",
            "Plain (above), noise agrees with itself as well as particles do within the template's band (grey area): "
            "that proves nothing. With the bias removed (below), noise stays within its band (orange); what rises "
            "above it beyond the grey area is in your data.",
            4.1,
            partial(_draw_frc, story),
        )
    )
    if story.example is not None:
        panels.append(
            Panel(
                "micrograph",
                "Picks on a micrograph and on noise",
                "Left: a micrograph with its picks by q, from yellow (surely a particle) to purple. Right: pure noise "
                "of the same spectrum, with the picks that it gives at the same threshold.",
                2.45,
                partial(_draw_example, story.example),
            )
        )
    return panels


def _picture_panel(story: BiasStory) -> Panel:
    rows = [name for name, _ in PICTURES if name in story.pictures]
    text = (
        "A column for each of the views with most picks. Picking pure noise with the template gives averages that look "
        "like it, so a good-looking average proves nothing. When all that picking can have put there is removed, "
        "nothing is left of noise, and of particles their own detail, to be compared with the unfiltered template."
    )
    height = 0.25 + 0.8 * len(rows)
    return Panel("pictures", "What noise gives, and what your picks give", text, height, partial(_draw_pictures, story))


def _draw_pictures(story: BiasStory, figure: FigureBase, theme: Theme) -> None:
    views, counts = story.views(), story.counts()
    rows = [(name, title) for name, title in PICTURES if name in story.pictures]
    seen = {name: _shown(story, name) for name, _ in rows}
    grid = figure.subplots(len(rows), SHOWN_VIEWS, squeeze=False)
    both = [name for name in ("noise_bias_removed", "bias_removed") if name in seen]
    for line, (name, title) in zip(grid, rows, strict=True):
        for axes, view in zip(line, views, strict=False):
            # both bias-removed pictures share one scale: noise must not be stretched into structure
            values = np.concatenate([seen[n][view] for n in both]) if name in both else seen[name][view]
            show_image(axes, seen[name][view], robust_range(values, 0.5, 99.5), theme)
        for axes in line[len(views) :]:
            axes.set_axis_off()
        line[0].set_ylabel(title, fontsize=SMALL_SIZE, color=theme.text, rotation=0, ha="right", va="center")
    for axes, view in zip(grid[0], views, strict=False):
        axes.set_title(f"view {view + 1}: {counts[view]}", fontsize=SMALL_SIZE, color=theme.text)
    scale_bar(grid[0][0], seen[rows[0][0]].shape[-1], story.pixel_size_angstrom)


def _shown(story: BiasStory, name: str) -> NDArray[np.float64]:
    """Return a stack as it is shown: bias-removed pictures weighted by how far the halves agree."""
    stack = story.pictures[name].astype(np.float64)
    if name not in ("noise_bias_removed", "bias_removed"):
        return stack
    box = stack.shape[-1]
    agreement = np.clip(np.nan_to_num(story.frc["bias_removed"].to_numpy(np.float64)), 0, 1)
    agreement[0], agreement[story.results["band_shells"]["beyond"][1] + 1 :] = 0, 0
    worth = np.sqrt(2 * agreement / (1 + agreement))  # reliability of the whole average
    numbers = shell_numbers((box, box))
    weight = np.where(numbers < len(worth), worth[np.minimum(numbers, len(worth) - 1)], 0.0)
    counts = story.counts() if name == "bias_removed" or story.twin_counts is None else story.twin_counts
    strength = np.sqrt(np.maximum(counts, 1))[:, None, None]  # makes noise equally strong in every picture
    return np.asarray(apply_filter(stack, weight) * average_mask(box) * strength)


def _draw_fdr(story: BiasStory, figure: FigureBase, theme: Theme) -> None:
    above, below = figure.subplots(2, 1, sharex=True)
    table, results = story.fdr, story.results
    x = table["threshold"].to_numpy(np.float64)
    good = np.isfinite(table["fdr"].to_numpy(np.float64)) & (table["picks"].to_numpy() >= min(10, table["picks"].max()))
    if not good.any():
        above.text(
            0.5, 0.5, "no share is given: the noise cannot be\ntold from particles with this template",
            transform=above.transAxes, ha="center", va="center", fontsize=LABEL_SIZE, color=theme.muted,
        )  # fmt: skip
    above.fill_between(x[good], table["low"][good], table["high"][good], color=BLUE, alpha=0.25, linewidth=0)
    above.plot(x[good], table["fdr"][good], color=BLUE, linewidth=1.5, label="share of false picks")
    above.set_ylim(0, 1.03)
    above.yaxis.set_major_formatter(lambda value, _position: f"{value:.0%}")
    below.plot(
        x, table["picks"], color=BLUE, linewidth=1.5, label="the templates' peaks" if story.foreign else "your picks"
    )
    below.plot(
        x, table["expected_null_picks"], color=ORANGE, linestyle="--", linewidth=1.5, label="of them as noise gives"
    )
    below.set_ylim(bottom=0.5)
    if good.any():
        plain_log(below)
    for axes in (above, below):
        _mark(axes, story, theme)
    dress(above, theme, y="false picks", grid="y")
    dress(below, theme, x="threshold (standard deviations of the noise)", y="picks", grid="y")
    legend(above, theme, loc="upper right")
    below.legend(*_first(below, 2), fontsize=SMALL_SIZE, frameon=False, labelcolor=theme.text, loc="lower left")
    last = np.flatnonzero(table["picks"].to_numpy() >= 1)
    if len(last):
        right = max(float(x[last[-1]]), float(results["threshold"]) + 0.5, results["recommended_threshold"] or 0)
        above.set_xlim(float(x[0]), right)


def _first(axes: Axes, count: int) -> tuple[list[Any], list[Any]]:
    handles, labels = axes.get_legend_handles_labels()
    return list(handles[:count]), list(labels[:count])


def _mark(axes: Axes, story: BiasStory, theme: Theme) -> None:
    results = story.results
    if not story.foreign:
        mark_threshold(axes, theme, results["threshold"], f"yours, T = {results['threshold']:.2f}")
    recommended = results["recommended_threshold"]
    if recommended is not None:
        color = VERDICT_COLORS["data"]
        axes.axvline(recommended, color=color, linewidth=1.4, label=f"recommended, T = {recommended:.2f}")


def _draw_frc(story: BiasStory, figure: FigureBase, theme: Theme) -> None:
    above, below = figure.subplots(2, 1, sharey=True)
    table, results = story.frc, story.results
    frequency = 1 / table["resolution_angstrom"].to_numpy(np.float64)
    last = min(int(results["band_shells"]["beyond"][1]) + 2, len(frequency) - 1)
    part = slice(1, last + 1)
    edge = (results["band_shells"]["inside"][1] + 0.5) * frequency[1]
    for axes, ours, noise, title in (
        (above, "plain", "noise_plain", "plain"),
        (below, "bias_removed", "noise_bias_removed", "bias removed"),
    ):
        axes.axvspan(0, edge, color=theme.grid, alpha=0.6, linewidth=0, label="template's band")
        axes.plot(frequency[part], table[noise][part], "--", color=ORANGE, marker=".", markersize=4, label="noise")
        axes.plot(frequency[part], table[ours][part], color=BLUE, marker=".", markersize=6, label="your picks")
        axes.axhline(0, color=theme.muted, linewidth=0.5)
        axes.set_ylim(-0.35, 1.05)
        dress(axes, theme, x="spatial frequency (1/Å)" if axes is below else "", y=f"correlation, {title}", grid="y")
        resolution_axis(axes, theme, float(frequency[last]))
    low, high = table["null_low"][part], table["null_high"][part]
    below.fill_between(frequency[part], low, high, color=ORANGE, alpha=0.25, linewidth=0, label="noise, 95 %")
    legend(above, theme, loc="upper right")
    below.legend(*_last_of(below), fontsize=SMALL_SIZE, frameon=False, labelcolor=theme.text, loc="upper right")


def _last_of(axes: Axes) -> tuple[list[Any], list[Any]]:
    handles, labels = axes.get_legend_handles_labels()
    return list(handles[-1:]), list(labels[-1:])


def _draw_example(example: Example, figure: FigureBase, theme: Theme) -> None:
    from matplotlib.collections import EllipseCollection
    from scipy.ndimage import gaussian_filter

    left, right = figure.subplots(1, 2)
    for axes, image, places, colors in (
        (left, example.micrograph, example.picks_px, q_colors(example.q)),
        (right, example.noise, example.twin_px, np.tile(q_colors(np.ones(1)), (len(example.twin_px), 1))),
    ):
        smooth = np.asarray(gaussian_filter(image.astype(np.float64), max(1.0, example.diameter_px / 12)))
        show_image(axes, smooth, robust_range(smooth, 1, 99), theme)
        size = np.full(len(places), example.diameter_px)
        axes.add_collection(
            EllipseCollection(
                size, size, np.zeros(len(size)), units="xy", offsets=places, transOffset=axes.transData,
                facecolors="none", edgecolors=colors, linewidths=1.1,
            )
        )  # fmt: skip
    name = PurePath(example.name).name
    left.set_title(f"{name}: {len(example.q)} picks", fontsize=SMALL_SIZE, color=theme.text, parse_math=False)
    right.set_title(f"noise like it: {len(example.twin_px)} picks", fontsize=SMALL_SIZE, color=theme.text)
