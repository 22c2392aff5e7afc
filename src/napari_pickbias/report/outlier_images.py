"""Figures of outlier removal from its images: examples, averages and power spectra of kept and rejected particles."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, FigureBase
from matplotlib.patches import Circle, Rectangle
from numpy.typing import NDArray

from napari_pickbias.imaging.fourier import radial_mean, radius_grid, shell_average
from napari_pickbias.outliers.verdicts import REASONS
from napari_pickbias.report.palette import LIGHT, REASON_COLORS, REASON_LINES, Theme
from napari_pickbias.report.panels import (
    LABEL_SIZE,
    SMALL_SIZE,
    Panel,
    dress,
    legend,
    plain_log,
    resolution_axis,
    robust_range,
    scale_bar,
    scale_bar_length,
    show_image,
)

if TYPE_CHECKING:
    from napari_pickbias.jobs.outliers import Example, GroupResult, OutlierResult

EXAMPLES_A_LINE = 6
TILE_STEP = (1.06, 1.18)
"""From one example to the next, across and down, in units of its side."""
PEAK = "#56B4E9"
ENOUGH_FOR_SCALE = 20
"""Averages of fewer images are too noisy to choose a common scale by."""

FloatArray = NDArray[np.float64]

# Examples ------------------------------------------------------------------------------------------------------------


def example_panel(result: OutlierResult, group: GroupResult | None = None) -> Panel | None:
    """Return example images of each verdict with what the detector found in them; None where there are none."""
    examples = [e for e in result.examples if group is None or (group.group.rows == e.row).any()]
    lines = _example_lines(examples)
    if not lines:
        return None
    text = (
        "Particles drawn at random, not picked for looks, as the detector saw them: shrunk, phases flipped, particles "
        "bright. Cross: where the particle was found; circle: its radius; × : the second particle, where that is why "
        "it was rejected. Above each image its row in scores.csv and its score (larger: more surely one whole "
        "particle). Grey levels are set for each image by itself."
    )
    radius = {id(e): _radius_px(result, e) for e in examples}
    height = 0.15 + 1.36 * len(lines)
    return Panel("examples", "Examples", text, height, partial(_draw_examples, lines, radius))


def example_figure(result: OutlierResult, group: GroupResult | None = None, theme: Theme = LIGHT) -> Figure | None:
    """Return :func:`example_panel` as a figure, or None."""
    panel = example_panel(result, group)
    return None if panel is None else panel.figure(theme)


def _radius_px(result: OutlierResult, example: Example) -> float:
    for group in result.groups:
        if (group.group.rows == example.row).any():
            return group.group.radius_px
    return float("nan")


def _example_lines(examples: list[Example]) -> list[tuple[str, list[Example]]]:
    """Cut the examples of each verdict into lines."""
    lines = []
    for reason in REASONS:
        chosen = [e for e in examples if e.reason == reason]
        lines += [(reason, chosen[i : i + EXAMPLES_A_LINE]) for i in range(0, len(chosen), EXAMPLES_A_LINE)]
    return lines


def _draw_examples(
    lines: list[tuple[str, list[Example]]], radius: dict[int, float], figure: FigureBase, theme: Theme
) -> None:
    # One axes for all: dozens of axes take seconds. A tile is one unit wide, whatever its number of pixels.
    axes = figure.add_subplot()
    axes.set_axis_off()
    for number, (reason, examples) in enumerate(lines):
        top = number * TILE_STEP[1]
        for column, example in enumerate(examples):
            _draw_example(axes, example, radius[id(example)], (column * TILE_STEP[0], top), theme)
        _bar_in_tile(axes, examples[0], top)
        if number == 0 or lines[number - 1][0] != reason:
            axes.text(
                -0.05,
                top + 0.5,
                reason,
                rotation=90,
                ha="right",
                va="center",
                fontsize=LABEL_SIZE,
                color=theme.text,
                fontweight="bold",
            )
    axes.set_aspect("equal")
    axes.set_xlim(-0.2, EXAMPLES_A_LINE * TILE_STEP[0] - 0.04)
    axes.set_ylim(len(lines) * TILE_STEP[1] - 0.15, -0.16)


def _draw_example(axes: Axes, example: Example, radius_px: float, corner: tuple[float, float], theme: Theme) -> None:
    """Draw one particle as a tile with its upper left at ``corner``."""
    left, top = corner
    side = example.image.shape[0]
    frame = Rectangle(corner, 1, 1, fill=False, edgecolor=REASON_COLORS[example.reason], linewidth=1.4, zorder=3)
    limits = robust_range(example.image, 1, 99.5)
    if limits is None:
        axes.text(
            left + 0.5, top + 0.5, "no finite\npixels", ha="center", va="center", fontsize=SMALL_SIZE, color=theme.muted
        )
    low, high = limits or (0.0, 1.0)
    axes.imshow(
        example.image, cmap="gray", vmin=low, vmax=high, interpolation="nearest", extent=(left, left + 1, top + 1, top)
    )
    axes.add_patch(frame)
    score = example.columns.get("score")
    shown = "" if score is None or not np.isfinite(score) else f"   {score:.2f}"
    axes.text(
        left + 0.5,
        top - 0.03,
        f"{example.row}{shown}",
        ha="center",
        va="bottom",
        fontsize=SMALL_SIZE - 0.5,
        color=theme.text,
    )
    pairs = [("center_y_px", "center_x_px", "+")]
    if example.reason == "multiple":
        pairs.append(("second_y_px", "second_x_px", "x"))
    for y_name, x_name, marker in pairs:
        y, x = (float(example.columns.get(name, np.nan)) for name in (y_name, x_name))
        if not np.isfinite(y + x):
            continue
        # The middle of pixel (i, j) lies half a pixel inside it.
        at = (left + (side // 2 + x + 0.5) / side, top + (side // 2 + y + 0.5) / side)
        (peak,) = axes.plot(*at, marker=marker, color=PEAK, markersize=5, markeredgewidth=1.0, gid=f"peak{marker}")
        peak.set_clip_path(frame)
        if np.isfinite(radius_px):
            line: Any = "-" if marker == "+" else (0, (3, 2))
            circle = Circle(at, radius_px / side, fill=False, color=PEAK, linewidth=0.8, linestyle=line)
            axes.add_patch(circle)
            circle.set_clip_path(frame)


def _bar_in_tile(axes: Axes, example: Example, top: float) -> None:
    """Draw a scale bar in the first tile of a line."""
    width = example.image.shape[0] * example.pixel_size_angstrom
    length = scale_bar_length(width)
    axes.plot(
        [0.06, 0.06 + length / width],
        [top + 0.93] * 2,
        color="white",
        linewidth=2.4,
        solid_capstyle="butt",
        gid="scale-bar",
    )
    box = {"facecolor": "black", "alpha": 0.55, "pad": 1.2, "linewidth": 0}
    axes.text(0.06, top + 0.895, f"{length:g} Å", color="white", fontsize=6, ha="left", va="bottom", bbox=box)


# Averages ------------------------------------------------------------------------------------------------------------


def averages(group: GroupResult) -> dict[str, FloatArray]:
    """Return the average image of each verdict, and ``rejected``: of all rejected particles together."""
    found = {reason: group.sums[reason].image / group.sums[reason].count for reason in REASONS if reason in group.sums}
    bad = [group.sums[reason] for reason in REASONS[1:] if reason in group.sums]
    if bad:
        found["rejected"] = sum(s.image for s in bad) / sum(s.count for s in bad)  # type: ignore[assignment]
    return found


def _on_rim_level(image: FloatArray, radius_px: float) -> FloatArray:
    """Take off the level of the background: its mean beyond the particle radius (or in the corners)."""
    distance = radius_grid(image.shape[0])
    return np.asarray(image - image[distance >= min(1.3 * radius_px, 0.45 * image.shape[0])].mean())


def average_panel(result: OutlierResult, group: GroupResult) -> Panel | None:
    """Return averages of kept and rejected particles with their radial profiles; None without usable images."""
    del result
    if not group.sums:
        return None
    text = (
        "Averages without any alignment, all on one grey scale, each with its background set to the same grey. The "
        "kept average should be round and fade out by the particle's radius (dotted line); a dark rim or middle comes "
        "from the defocus. The noise average should be flat: where it shows a particle, good ones were thrown away. "
        "Right: the same averages along the radius. Averages of few images are mostly noise themselves."
    )
    rows = -(-_tile_count(group) // 3)
    return Panel("averages", "Averages", text, 0.4 + 1.4 * max(rows, 1.4), partial(_draw_averages, group))


def average_figure(result: OutlierResult, group: GroupResult, theme: Theme = LIGHT) -> Figure | None:
    """Return :func:`average_panel` as a figure, or None."""
    panel = average_panel(result, group)
    return None if panel is None else panel.figure(theme)


def _tile_count(group: GroupResult) -> int:
    return len(group.sums) + ("kept" in group.sums and len(group.sums) > 1)


def _draw_averages(group: GroupResult, figure: FigureBase, theme: Theme) -> None:
    radius, pixel = group.group.radius_px, group.group.working_pixel_size_angstrom
    flat = {name: _on_rim_level(image, radius) for name, image in averages(group).items()}
    limits = _common_greys(group, flat)
    tiles = [(f"{name}  (n = {group.sums[name].count:,})", flat[name], name) for name in REASONS if name in flat]
    if "kept" in flat and "rejected" in flat:
        tiles.append(("kept − all rejected", flat["kept"] - flat["rejected"], ""))
    lines = -(-len(tiles) // 3)
    grid = figure.add_gridspec(lines, 5, width_ratios=[1, 1, 1, 0.06, 2.0])
    for number, (title, image, reason) in enumerate(tiles):
        axes = figure.add_subplot(grid[number // 3, number % 3])
        show_image(axes, image, limits, theme, frame=REASON_COLORS.get(reason, ""))
        axes.set_title(title, fontsize=SMALL_SIZE, color=theme.text, pad=2.5)
        if number == 0:
            scale_bar(axes, image.shape[0], pixel)
    axes = figure.add_subplot(grid[:, 4])
    for name, image in flat.items():
        if name != "rejected":
            _profile(axes, image, pixel, REASON_COLORS[name], REASON_LINES[name], name)
    if "kept" in flat and "rejected" in flat:
        _profile(axes, flat["kept"] - flat["rejected"], pixel, theme.text, (0, (1, 1)), "kept − all rejected", 0.9)
    axes.axvline(radius * pixel, color=theme.muted, linewidth=0.8, linestyle=":")
    axes.axhline(0, color=theme.muted, linewidth=0.5)
    dress(axes, theme, x="distance from the middle of the box (Å)", y="grey value over background", grid="y")
    axes.set_xlim(0, None)
    # Few images must not set the scale here either.
    told = robust_range([radial_mean(flat[name]) for name in _enough(group)], 0, 100)
    if told is not None:
        room = 0.12 * (told[1] - told[0])
        axes.set_ylim(min(told[0], 0) - room, max(told[1], 0) + room)
    legend(axes, theme)


def _enough(group: GroupResult) -> list[str]:
    """Return the verdicts whose averages are free enough of noise to choose scales by, or all."""
    return [name for name, sums in group.sums.items() if sums.count >= ENOUGH_FOR_SCALE] or list(group.sums)


def _profile(
    axes: Axes, image: FloatArray, pixel: float, color: str, line: Any, label: str, width: float = 1.3
) -> None:
    values = radial_mean(image)
    axes.plot(np.arange(len(values)) * pixel, values, color=color, linestyle=line, linewidth=width, label=label)


def _common_greys(group: GroupResult, flat: dict[str, FloatArray]) -> tuple[float, float] | None:
    """Return one grey scale for all averages, from those of enough images to be free of their own noise."""
    ranges = [robust_range(flat[name], 0.5, 99.8) for name in _enough(group)]
    known = [r for r in ranges if r is not None]
    return (min(r[0] for r in known), max(r[1] for r in known)) if known else None


# Power spectra -------------------------------------------------------------------------------------------------------


def radial_power(group: GroupResult) -> dict[str, FloatArray]:
    """Return the mean power per pixel of each verdict's images over shells ``0 ... d // 2``.

    White noise of variance v gives v in every shell. Shell s holds the frequencies near ``s / (d * pixel size)``.
    """
    found = {}
    for reason in REASONS:
        if reason in group.sums:
            sums = group.sums[reason]
            side = sums.power.shape[0]
            found[reason] = shell_average(sums.power, (side, side)) / (sums.count * side**2)
    return found


def spectrum_panel(result: OutlierResult, group: GroupResult) -> Panel | None:
    """Return power spectra of kept and rejected particles, and what the detector learned; None without images."""
    del result
    if not group.sums:
        return None
    learned = "template" in group.summary and "noise_power" in group.summary
    text = (
        "Power of the images against spatial frequency, averaged over directions. Rejected boxes of noise lack the "
        "particle's power at low resolution (left); as a ratio to the kept ones they fall below 1 there. A "
        "ratio that stays away from 1 at high frequency means that the rejected boxes have another noise: other "
        "ice, other dose, another normalisation."
    )
    if learned:
        text += (
            " Below: the noise spectrum and the radial particle profile that the detector learned from the data set "
            "itself and judged by. The profile should look like the radial mean of the molecule."
        )
    return Panel("spectra", "Power spectra", text, 4.3 if learned else 2.5, partial(_draw_spectra, group, learned))


def spectrum_figure(result: OutlierResult, group: GroupResult, theme: Theme = LIGHT) -> Figure | None:
    """Return :func:`spectrum_panel` as a figure, or None."""
    panel = spectrum_panel(result, group)
    return None if panel is None else panel.figure(theme)


def _draw_spectra(group: GroupResult, learned: bool, figure: FigureBase, theme: Theme) -> None:
    grid = figure.subplots(2 if learned else 1, 2, squeeze=False)
    power = radial_power(group)
    pixel = group.group.working_pixel_size_angstrom
    side = next(iter(group.sums.values())).power.shape[0]
    for name, values in power.items():
        # Shell 0 is the mean, which is taken off every image.
        frequency = np.arange(1, len(values)) / (side * pixel)
        style: dict[str, Any] = {"color": REASON_COLORS[name], "linestyle": REASON_LINES[name], "linewidth": 1.3}
        label = f"{name}  (n = {group.sums[name].count:,})"
        grid[0, 0].plot(frequency, np.where(values[1:] > 0, values[1:], np.nan), label=label, **style)
        if name != "kept" and "kept" in power:
            with np.errstate(divide="ignore", invalid="ignore"):
                ratio = np.where(power["kept"][1:] > 0, values[1:] / power["kept"][1:], np.nan)
            grid[0, 1].plot(frequency, ratio, label=f"{name} / kept", **style)
    highest = 0.5 / pixel
    plain_log(grid[0, 0])
    dress(grid[0, 0], theme, x="spatial frequency (1/Å)", y="power per pixel", grid="y")
    dress(grid[0, 1], theme, x="spatial frequency (1/Å)", y="power, rejected / kept", grid="y")
    grid[0, 1].axhline(1, color=theme.muted, linewidth=0.8)
    if not grid[0, 1].get_legend_handles_labels()[0]:
        _empty(grid[0, 1], theme, "nothing was rejected" if "kept" in power else "nothing was kept")
    for axes in grid[0]:
        resolution_axis(axes, theme, highest)
        legend(axes, theme)
    if learned:
        _draw_learned(grid[1], group, highest, theme)


def _empty(axes: Axes, theme: Theme, text: str) -> None:
    axes.text(
        0.5, 0.6, text, transform=axes.transAxes, ha="center", va="center", fontsize=LABEL_SIZE, color=theme.muted
    )


def _draw_learned(row: NDArray[Any], group: GroupResult, highest: float, theme: Theme) -> None:
    pixel = group.group.working_pixel_size_angstrom
    noise, template = row
    frequency = np.asarray(group.summary["noise_frequency"], float) / pixel
    power = np.asarray(group.summary["noise_power"], float)
    noise.plot(frequency, np.where(power > 0, power, np.nan), color=theme.text, linewidth=1.2)
    plain_log(noise)
    noise.axhline(1, color=theme.muted, linewidth=0.8, linestyle=":")
    dress(noise, theme, x="spatial frequency (1/Å)", y="learned noise (white = 1)", grid="y")
    resolution_axis(noise, theme, highest)
    radius = np.asarray(group.summary["template_radius_px"], float) * pixel
    template.plot(radius, np.asarray(group.summary["template"], float), color=theme.text, linewidth=1.2)
    template.axhline(0, color=theme.muted, linewidth=0.5)
    template.axvline(group.group.radius_px * pixel, color=theme.muted, linewidth=0.8, linestyle=":", label="radius")
    dress(
        template,
        theme,
        x="distance from the particle's middle (Å)",
        y="learned profile (noise SD)",
        grid="y",
    )
    template.set_xlim(0, None)
    legend(template, theme)
