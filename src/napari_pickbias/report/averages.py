"""Figures that compare sets of images: averages, their difference, how images vary, profiles and power spectra."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import FigureBase
from numpy.typing import NDArray

from napari_pickbias.imaging.fourier import radial_mean, shell_average
from napari_pickbias.report.palette import Theme
from napari_pickbias.report.panels import (
    SMALL_SIZE,
    TITLE_SIZE,
    Panel,
    dress,
    legend,
    plain_log,
    resolution_axis,
    robust_range,
    scale_bar,
    show_image,
)

if TYPE_CHECKING:
    from napari_pickbias.jobs.averages import SetAverage

SET_COLORS = ("#56B4E9", "#E69F00", "#009E73", "#CC79A7")
"""One a set, in their order (Okabe and Ito); kept and rejected come first everywhere."""


def average_panels(
    sets: Sequence[SetAverage],
    pixel_size_angstrom: float | None,
    template: NDArray[np.float64] | None = None,
) -> list[Panel]:
    """Return the panels that compare sets of images.

    Parameters
    ----------
    sets : sequence of SetAverage
        All of one box.
    pixel_size_angstrom : float or None
        None leaves frequencies in cycles a pixel.
    template : ndarray, shape (m, m), optional
        Shown beside the averages: what the picks were found with.
    """
    averages = Panel(
        "set_averages",
        "Averages",
        "Upper row: the average of each set"
        + (", and the first less the second" if len(sets) > 1 else "")
        + (", and the template" if template is not None else "")
        + ". Lower row: how single images differ from it. An average of rejected picks that shows the particle means "
        "that good ones were thrown away; an average that looks like the template proves nothing by itself, for noise "
        "picked with a template averages to the template too.",
        3.4,
        partial(_draw_averages, sets, pixel_size_angstrom, template),
    )
    profiles = Panel(
        "set_profiles",
        "Radial profiles and power spectra",
        "Left: the averages' mean over rings; the band is two standard errors wide on either side. Right: the mean "
        "power spectrum of the single images. Contamination and carbon show as power at low frequencies.",
        2.5,
        partial(_draw_profiles, sets, pixel_size_angstrom),
    )
    return [averages, profiles]


def _draw_averages(
    sets: Sequence[SetAverage],
    pixel: float | None,
    template: NDArray[np.float64] | None,
    figure: FigureBase,
    theme: Theme,
) -> None:
    difference = len(sets) > 1
    columns = len(sets) + difference + (template is not None)
    grid = figure.subplots(2, columns, squeeze=False)
    limits = robust_range(np.stack([s.mean for s in sets]), 0.2, 99.8)
    deviations = robust_range(np.stack([s.deviation for s in sets]), 0.2, 99.8)
    for axes, one, color in zip(grid.T, sets, SET_COLORS, strict=False):
        show_image(axes[0], one.mean, limits, theme, frame=color)
        show_image(axes[1], one.deviation, deviations, theme, frame=color)
        axes[0].set_title(f"{one.name}: {one.count:,}", fontsize=TITLE_SIZE, color=theme.text)
        axes[1].set_title("standard deviation", fontsize=SMALL_SIZE, color=theme.muted)
    rest = len(sets)
    for axes in grid[1, rest:]:
        axes.set_axis_off()
    if difference:
        change = sets[0].mean - sets[1].mean
        show_image(grid[0, rest], change, robust_range(change, 0.2, 99.8), theme)
        grid[0, rest].set_title(f"{sets[0].name} - {sets[1].name}", fontsize=TITLE_SIZE, color=theme.text)
    if template is not None:
        show_image(grid[0, -1], template, robust_range(template, 0.2, 99.8), theme)
        grid[0, -1].set_title("template", fontsize=TITLE_SIZE, color=theme.text)
    if pixel:
        scale_bar(grid[0, 0], sets[0].mean.shape[0], pixel)


def _draw_profiles(sets: Sequence[SetAverage], pixel: float | None, figure: FigureBase, theme: Theme) -> None:
    left, right = figure.subplots(1, 2)
    size = sets[0].mean.shape[0]
    radius = np.arange(size // 2 + 1) * (pixel or 1.0)
    frequency = np.arange(size // 2 + 1) / (size * (pixel or 1.0))
    around = np.maximum(2 * np.pi * np.arange(size // 2 + 1), 1)
    for one, color in zip(sets, SET_COLORS, strict=False):
        profile = radial_mean(one.mean)
        # Of a ring: its pixels vary about the average as single images do, and there are so many of them.
        error = np.sqrt(radial_mean(one.deviation**2) / around / one.count)
        left.plot(radius, profile, color=color, linewidth=1.2, label=one.name)
        left.fill_between(radius, profile - 2 * error, profile + 2 * error, color=color, alpha=0.25, linewidth=0)
        right.plot(frequency[1:], shell_average(one.power, (size, size))[1:], color=color, linewidth=1.2)
    unit = "Å" if pixel else "px"
    dress(left, theme, x=f"radius ({unit})", y="mean grey value", grid="y")
    legend(left, theme)
    dress(right, theme, x=f"spatial frequency (1/{unit})", y="power", grid="y")
    if pixel:
        resolution_axis(right, theme, float(frequency[-1]))
    plain_log(right)
