"""Figures about a few chosen images: where their peaks are, and how their profiles lie among those of all."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from matplotlib.figure import FigureBase
from matplotlib.patches import Circle
from numpy.typing import NDArray

from napari_pickbias.report.palette import REASON_COLORS, Theme
from napari_pickbias.report.panels import TITLE_SIZE, Panel, dress, legend, robust_range, say, show_image

if TYPE_CHECKING:
    from napari_pickbias.jobs.profiles import Profiles

CHOSEN_COLOR, BAND_COLOR = "#E69F00", "#56B4E9"
FIRST_COLOR, SECOND_COLOR = "#56B4E9", REASON_COLORS["multiple"]
MOST_IMAGES = 6


class Peaks(NamedTuple):
    """What the outlier detector found in one image; lengths in pixels from pixel ``box // 2``, y and x.

    A place is NaN where there is none; ``second_weight`` is the second particle's height in units of the first's kind,
    and ``odds`` the log-odds of one particle against two.
    """

    first: tuple[float, float]
    second: tuple[float, float]
    second_weight: float
    odds: float
    label: str = ""


def profile_panel(population: Profiles, chosen: Profiles | None, pixel_size_angstrom: float | None) -> Panel:
    """Return the panel of radial profiles: quantiles over all images, and those of the chosen ones."""
    return Panel(
        "selection_profiles",
        "Radial profile of the selection",
        "Bands: where the middle half and the middle 90% of all images lie at each radius, and their median. Orange: "
        "the mean of the selected images, and each of them where they are few. Junk leaves the band: a wide flat "
        "profile is contamination, a step at the rim a neighbour.",
        2.6,
        partial(_draw_profiles, population, chosen, pixel_size_angstrom),
    )


def peaks_panel(images: Sequence[NDArray[np.float32]], peaks: Sequence[Peaks | None], radius_px: float | None) -> Panel:
    """Return the panel of chosen images with the peaks that the test for two particles saw.

    Parameters
    ----------
    images : sequence of ndarray, shape (box, box)
        Only the first :data:`MOST_IMAGES` are shown.
    peaks : sequence of Peaks or None
        One an image; None where nobody looked for peaks.
    radius_px : float or None
        Of the particle, for the circles.
    """
    known = any(p is not None for p in peaks)
    said = (
        "Blue: where the particle was found. Pink: the likeliest second one; solid where two particles are likelier "
        "than one. Below: the second one's height beside the first's, and the log-odds of one against two."
        if known
        else "No peaks are known of these images: remove outliers first, then curate the result."
    )
    return Panel("selection_images", "Selected images", said, 4.6, partial(_draw_peaks, images, peaks, radius_px))


def _draw_profiles(
    population: Profiles, chosen: Profiles | None, pixel: float | None, figure: FigureBase, theme: Theme
) -> None:
    axes = figure.subplots()
    radius = np.arange(population.values.shape[1]) * (pixel or 1.0)
    if len(population):
        low, quarter, middle, upper, high = np.quantile(population.values, (0.05, 0.25, 0.5, 0.75, 0.95), axis=0)
        axes.fill_between(radius, low, high, color=BAND_COLOR, alpha=0.2, linewidth=0, label="90% of all")
        axes.fill_between(radius, quarter, upper, color=BAND_COLOR, alpha=0.35, linewidth=0, label="half of all")
        axes.plot(radius, middle, color=BAND_COLOR, linewidth=1, label=f"median of {population.of:,}")
    if chosen is not None and len(chosen):
        if 1 < len(chosen) <= 10:
            axes.plot(radius, chosen.values.T, color=CHOSEN_COLOR, linewidth=0.6, alpha=0.6)
        mean = chosen.values.mean(axis=0)
        axes.plot(radius, mean, color=CHOSEN_COLOR, linewidth=1.8, label=f"mean of {chosen.of:,} selected")
    dress(axes, theme, x=f"radius ({'Å' if pixel else 'px'})", y="mean grey value", grid="y")
    legend(axes, theme)


def _draw_peaks(
    images: Sequence[NDArray[np.float32]],
    peaks: Sequence[Peaks | None],
    radius: float | None,
    figure: FigureBase,
    theme: Theme,
) -> None:
    grid = figure.subplots(2, MOST_IMAGES // 2).ravel()  # docks are narrow
    for axes in grid[max(1, len(images)) :]:
        axes.set_axis_off()
    if not len(images):
        grid[0].set_axis_off()
        say(grid[0], theme, "nothing is selected")
    for axes, image, peak in zip(grid, images, peaks, strict=False):
        show_image(axes, image, robust_range(image, 0.5, 99.5), theme)
        if peak is None:
            continue
        middle, size = len(image) // 2, radius or len(image) / 4
        two = peak.odds < 0
        for (y, x), color, line in (
            (peak.first, FIRST_COLOR, "-"),
            (peak.second, SECOND_COLOR, "-" if two else ":"),
        ):
            if np.isfinite(y) and np.isfinite(x):
                spot = (x + middle, y + middle)
                axes.add_patch(Circle(spot, size, fill=False, edgecolor=color, linestyle=line, linewidth=1.8))
                axes.plot(*spot, marker="+", color=color, markersize=8)
        axes.set_xlim(-0.5, len(image) - 0.5)
        axes.set_ylim(len(image) - 0.5, -0.5)
        if peak.label:
            axes.set_title(peak.label, fontsize=TITLE_SIZE, color=theme.text)
        if np.isfinite(peak.second_weight):
            words = f"2nd: {peak.second_weight:.2f}   odds: {peak.odds:+.1f}"
            axes.set_xlabel(words, fontsize=TITLE_SIZE, color=theme.muted)
