"""Figures of the soft-modes report: spectrum, view spheres with arrows, isosurfaces, sections, what-if, path."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import FigureBase

    from napari_pickbias.jobs.softmodes import SoftmodesResult
    from napari_pickbias.report.palette import Theme
    from napari_pickbias.report.panels import Panel

SHOWN_MODES = 3
BLUE, ORANGE, GREY = "#0072B2", "#E69F00", "#999999"
SHOWN_VIEWS = 500
ARROW_LENGTH = 0.16
"""Of the largest arrow, in units of the sphere's radius."""


def spectrum_panel(result: SoftmodesResult) -> Panel:
    """Return the eigenvalues with free and with known poses."""
    from napari_pickbias.report.panels import Panel

    text = (
        "Information along each mode as a share of an ideal data set's. The distance between the two marks of a mode "
        "is what not knowing the poses costs; the bar shows the error by binning and by the solver's residual."
    )
    return Panel("spectrum", "Eigenvalues", text, 2.6, partial(_draw_spectrum, result))


def _draw_spectrum(result: SoftmodesResult, figure: FigureBase, theme: Theme) -> None:
    from napari_pickbias.report.panels import dress, legend, whole_numbers

    axes = figure.subplots()
    found = result.found
    number = np.arange(1, len(found.eigenvalues) + 1)
    # of these very images values below 0 occur, which no logarithm shows: their bars hang below the axis
    error = np.abs(found.eigenvalues) * (
        found.residuals.clip(max=0.9) if result.binning_error is None else result.binning_error
    )
    axes.vlines(number, found.eigenvalues, found.known_pose_eigenvalues, color=theme.grid)
    axes.plot(number, found.known_pose_eigenvalues, "o", color=ORANGE, label="poses known")
    axes.errorbar(
        number, found.eigenvalues, yerr=np.minimum(error, 0.9 * np.abs(found.eigenvalues)), fmt="s", color=BLUE,
        capsize=2, label="poses free",
    )  # fmt: skip
    marks = "^vD<>P"
    for mark, row in zip(marks, result.scenarios[1:], strict=False):
        axes.plot(
            number[: len(row.eigenvalues)], row.eigenvalues, mark, color=theme.muted, label=row.name, markersize=4
        )
    axes.set_yscale("log")
    whole_numbers(axes, "x")
    dress(axes, theme, x="mode", y="information per image", grid="y")
    legend(axes, theme)


def view_panel(result: SoftmodesResult) -> Panel:
    """Return the view spheres with arrows."""
    from napari_pickbias.report.panels import Panel

    text = (
        "Viewing directions, coloured by the turn that follows mode 1 at its full amplitude; arrows show where each "
        "direction moves, the longest for the largest move. Left: seen from the pole, opposite directions being the "
        "same view. Right: unrolled, with the poles above and below."
    )
    return Panel("views", "Views and how they would turn", text, 3.3, partial(_draw_views, result))


def view_moves(
    result: SoftmodesResult, mode: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return directions ``(m, 3)``, their moves ``(m, 3)`` in radians, and whole turns ``(m,)`` in degrees."""
    rows = np.linspace(0, len(result.rotations) - 1, min(SHOWN_VIEWS, len(result.rotations))).astype(int)
    rotations = result.rotations[rows]
    turn = result.found.pose_change[mode, rows, :3]
    # the rotation exp(-[w]) R has the last row R^T exp([w]) z
    moved = np.einsum("jba,jb->ja", rotations, np.cross(turn, [0.0, 0.0, 1.0]))
    return rotations[:, 2], moved, np.degrees(np.linalg.norm(turn, axis=1))


def _draw_views(result: SoftmodesResult, figure: FigureBase, theme: Theme) -> None:
    from napari_pickbias.report.panels import dress

    direction, moved, turn = view_moves(result)
    longest = float(np.linalg.norm(moved, axis=1).max()) or 1.0
    step = moved * (ARROW_LENGTH / longest)
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.35))
    flip = np.where(direction[:, 2:] < 0, -1, 1)
    # Lambert's map keeps areas: the density of points is that of the views.
    scale = 1 / np.sqrt(1 + np.abs(direction[:, 2:]))
    place = (direction * flip)[:, :2] * scale
    points = _arrows(left, place, (step * flip)[:, :2] * scale, turn)
    circle = np.linspace(0, 2 * np.pi, 200)
    left.plot(np.cos(circle), np.sin(circle), color=theme.muted, linewidth=0.8)
    left.set_aspect("equal")
    left.set_xlim(-1.2, 1.2)
    left.set_ylim(-1.2, 1.2)
    dress(left, theme, x="x (pole in the middle, equator on the rim)", y="y")
    ring = np.hypot(direction[:, 0], direction[:, 1]).clip(min=0.05)
    azimuth = np.degrees(np.arctan2(direction[:, 1], direction[:, 0]))
    # equal areas again: azimuth against height
    about = np.degrees((direction[:, 0] * step[:, 1] - direction[:, 1] * step[:, 0]) / ring**2)
    _arrows(right, np.stack([azimuth, direction[:, 2]], axis=1), np.stack([about, step[:, 2]], axis=1), turn)
    right.set_xlim(-180, 180)
    right.set_xticks([-180, -90, 0, 90, 180])
    right.set_ylim(-1.05, 1.05)
    dress(right, theme, x="azimuth, degrees", y="height, cos(tilt)")
    bar = figure.colorbar(points, ax=[left, right], shrink=0.8)
    bar.set_label("turn, degrees", color=theme.text, fontsize=7.5)
    bar.ax.tick_params(colors=theme.text, labelsize=6.5)


def _arrows(axes: Axes, place: NDArray[np.float64], step: NDArray[np.float64], turn: NDArray[np.float64]) -> Any:
    axes.quiver(
        *place.T, *step.T, turn, cmap="viridis", angles="xy", scale_units="xy", scale=1, width=0.004, headwidth=4,
        alpha=0.8,
    )  # fmt: skip
    return axes.scatter(*place.T, c=turn, s=3, cmap="viridis", zorder=2)


def slice_panel(result: SoftmodesResult) -> Panel:
    """Return sections of map, uncertainty and modes, and the modes' projections."""
    from napari_pickbias.report.panels import Panel

    shown = min(SHOWN_MODES, len(result.found.modes))
    text = (
        "Left three: central sections across z, y and x (rows of mrc files: up). Right three: sums along z, y and x, "
        "on one scale for the three: a mode that views do not see has next to nothing in the projections along them. "
        "First the map, then its uncertainty, then the softest modes: red and blue change in opposite ways."
    )
    return Panel(
        "sections", "Map, uncertainty and modes", text, 1.25 * (shown + 2), partial(_draw_slices, result, shown)
    )


def _draw_slices(result: SoftmodesResult, shown: int, figure: FigureBase, theme: Theme) -> None:
    found = result.found
    volumes = [result.volume, found.uncertainty, *found.modes[:shown]]
    names = ["map", "uncertainty", *(f"mode {i + 1}" for i in range(shown))]
    grid = figure.subplots(len(volumes), 6, squeeze=False)
    middle = result.box_px // 2
    titles = ("across z", "across y", "across x", "sum along z", "sum along y", "sum along x")
    for axes, title in zip(grid[0], titles, strict=True):
        axes.set_title(title, fontsize=7, color=theme.text)
    for row, volume, name in zip(grid, volumes, names, strict=True):
        sections = (volume[middle], volume[:, middle], volume[:, :, middle])
        sums = tuple(volume.sum(axis=axis) for axis in range(3))
        for images, places in ((sections, row[:3]), (sums, row[3:])):
            top = max(float(np.abs(image).max()) for image in images) or 1.0
            signed = name.startswith("mode")
            low = -top if signed else min(float(i[i != 0].min(initial=top)) for i in images)
            for axes, image in zip(places, images, strict=True):
                colours = "RdBu_r" if signed else "gray"
                axes.imshow(image, origin="lower", cmap=colours, vmin=low, vmax=top, interpolation="nearest")
                axes.set_xticks([])
                axes.set_yticks([])
        row[0].set_ylabel(name, color=theme.text, fontsize=7.5)


def what_if_panel(result: SoftmodesResult) -> Panel | None:
    """Return the gains of the what-if rows as bars; None where there are none."""
    rows = [*result.scenarios, *result.advice]
    if len(rows) < 2:
        return None
    from napari_pickbias.report.panels import Panel

    text = (
        "Information along the softest mode of each case, over that of the data: as much as that many times the "
        "particles would give. Each bar compares with the data in the same box."
    )
    return Panel("what_if", "What would help", text, 0.9 + 0.2 * len(rows), partial(_draw_what_if, rows))


def _draw_what_if(rows: list[Any], figure: FigureBase, theme: Theme) -> None:
    from napari_pickbias.report.panels import dress

    axes = figure.subplots()
    place = np.arange(len(rows))[::-1]
    gains = np.array([row.gain for row in rows])
    axes.barh(place, gains, color=[GREY if row.name == "the data" else BLUE for row in rows], height=0.6)
    axes.axvline(1, color=theme.muted, linewidth=0.8)
    axes.set_yticks(place, [row.name + (" (small box)" if row.small_box else "") for row in rows])
    for y, gain in zip(place, gains, strict=True):
        axes.text(gain, y, f" {gain:.2g}", va="center", fontsize=6.5, color=theme.text)
    dress(axes, theme, x="information along the softest mode, times that of the data", y="", grid="x")


def path_panel(result: SoftmodesResult) -> Panel | None:
    """Return the Rayleigh quotient along the path; None without one."""
    if not result.path:
        return None
    from napari_pickbias.report.panels import Panel

    text = (
        "Information per image along the path from the map (0) to the other map (1). Where the lower line is low, "
        "neighbours on the path look alike in all projections once poses adjust, and neither a class nor an energy "
        "along the path is well determined there."
    )
    return Panel("path", "Along the path to the other map", text, 2.4, partial(_draw_path, result))


def _draw_path(result: SoftmodesResult, figure: FigureBase, theme: Theme) -> None:
    from napari_pickbias.report.panels import dress, legend

    axes = figure.subplots()
    place = [point.position for point in result.path]
    axes.plot(place, [point.known_pose_eigenvalue for point in result.path], "o-", color=ORANGE, label="poses known")
    axes.plot(place, [point.eigenvalue for point in result.path], "s-", color=BLUE, label="poses free")
    axes.set_ylim(bottom=0)
    dress(axes, theme, x="position along the path", y="information per image", grid="y")
    legend(axes, theme)
