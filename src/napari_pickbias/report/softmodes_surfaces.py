"""Isosurfaces drawn as shaded pictures: the surface of the map, coloured by what a soft mode does to it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.figure import FigureBase

    from napari_pickbias.jobs.softmodes import SoftmodesResult
    from napari_pickbias.report.palette import Theme
    from napari_pickbias.report.panels import Panel

BLUE, PINK = (0.0, 0.45, 0.70), (0.80, 0.47, 0.65)
PIXELS = 150
"""Side of a picture of a surface."""
MODE_LEVEL = 0.4
"""Level of a mode's surfaces, of its largest value."""
MAP_LEVEL = 0.2
"""Level of the map's surface, of the mean of its hundred largest voxels."""
LIGHT = np.array([-0.45, 0.55, 0.7])


class Surface(NamedTuple):
    """An isosurface as a viewer sees it."""

    depth: NDArray[np.float64]
    """``(p, p)`` distance from the viewer, voxels; NaN where there is none."""

    shade: NDArray[np.float64]
    """``(p, p)`` brightness, 0 to 1."""

    points: NDArray[np.float64]
    """``(3, p, p)`` z, y, x of the surface in the volume, voxels."""


def oblique_view() -> NDArray[np.float64]:
    """Return the directions right, up and away from the viewer as rows, in x, y, z: from the front, a little above."""
    turn, tip = np.radians(-30.0), np.radians(20.0)
    right = np.array([np.cos(turn), np.sin(turn), 0.0])
    back = np.array([-np.sin(turn) * np.cos(tip), np.cos(turn) * np.cos(tip), -np.sin(tip)])
    return np.stack([right, np.cross(right, back), back])


def isosurface(volume: NDArray[np.float64], level: float, pixels: int = PIXELS) -> Surface:
    """Cast rays into a volume: the first crossing of ``level``, its depth between samples by straight lines."""
    from scipy.ndimage import map_coordinates

    size = volume.shape[0]
    view = oblique_view()
    across = np.linspace(-0.52, 0.52, pixels) * size
    steps = np.arange(-0.8 * size, 0.8 * size, 0.5)
    up, right, away = np.meshgrid(across, across, steps, indexing="ij")
    place = np.tensordot(view.T, np.stack([right, up, away]), axes=1)[::-1] + size // 2
    values = map_coordinates(volume, place.reshape(3, -1), order=1, cval=0.0).reshape(up.shape)
    above = values > level
    first = above.argmax(axis=2)
    hit = above.any(axis=2) & (first > 0)
    rows, columns = np.indices(first.shape)
    low, high = values[rows, columns, np.maximum(first - 1, 0)], values[rows, columns, first]
    part = np.where(hit, (level - low) / np.where(hit, high - low, 1), 0)
    depth = np.where(hit, steps[np.maximum(first - 1, 0)] + 0.5 * part, np.nan)
    flat = np.stack([np.broadcast_to(across, hit.shape), across[:, None] * np.ones(hit.shape), np.nan_to_num(depth)])
    points = np.tensordot(view.T, flat, axes=1)[::-1] + size // 2
    slope = np.stack(
        [map_coordinates(side, points.reshape(3, -1), order=1).reshape(hit.shape) for side in np.gradient(volume)]
    )
    normal = -np.tensordot(view, slope[::-1], axes=1)  # right, up, away
    normal /= np.linalg.norm(normal, axis=0).clip(min=1e-300)
    light = LIGHT * np.array([1, 1, -1]) / np.linalg.norm(LIGHT)
    shade = 0.35 + 0.65 * np.clip(np.tensordot(light, normal, axes=1), 0, 1)
    return Surface(depth, np.where(hit, shade, 0), points)


def displacement(volume: NDArray[np.float64], step: NDArray[np.float64], surface: Surface) -> NDArray[np.float64]:
    """Return how far a change of the map moves its surface along the normal, ``(p, p)`` voxels: change over slope."""
    from scipy.ndimage import map_coordinates

    points = surface.points.reshape(3, -1)
    slope = np.linalg.norm([map_coordinates(side, points, order=1) for side in np.gradient(volume)], axis=0)
    seen = np.isfinite(surface.depth).ravel()
    floor = 0.1 * float(np.median(slope[seen])) if seen.any() else 1.0
    moved = map_coordinates(step, points, order=1) / np.maximum(slope, floor + 1e-300)
    return np.asarray(np.where(np.isfinite(surface.depth), moved.reshape(surface.depth.shape), 0.0))


def map_level(volume: NDArray[np.float64]) -> float:
    """Return the level at which a map's surface is drawn."""
    return MAP_LEVEL * float(np.sort(volume, axis=None)[-100:].mean())


def surface_panel(result: SoftmodesResult) -> Panel:
    """Return coloured isosurfaces of the softest mode and of both its ends."""
    from napari_pickbias.report.panels import Panel

    text = (
        "First the softest mode: where it adds (pink) and takes (blue) density. Then the surfaces of the two ends, the "
        "map plus and minus the mode at odds of 20 to 1, coloured by how far the surface moves along its normal: what "
        "is dark is not determined by the data. Seen from the front, z up."
    )
    return Panel("surfaces", "The softest mode on the map", text, 2.6, partial(_draw_surfaces, result))


def _draw_surfaces(result: SoftmodesResult, figure: FigureBase, theme: Theme) -> None:
    draw_ends(
        figure, theme, result.volume, result.found.modes[0], result.found.amplitudes[0], result.voxel_size_angstrom
    )


def draw_ends(
    figure: FigureBase,
    theme: Theme,
    volume: NDArray[np.float64],
    mode: NDArray[np.float64],
    amplitude: float,
    voxel: float,
) -> None:
    """Draw a mode, and the two ends of a map along it; ``voxel`` in Å."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    axes = figure.subplots(1, 3)
    _show(axes[0], *_mode_picture(mode), "mode", theme)
    ends = []
    for sign in (1, -1):
        end = volume + sign * amplitude * mode
        surface = isosurface(end, map_level(volume))
        ends.append((surface, np.abs(displacement(end, amplitude * mode, surface)) * voxel))
    shown = np.concatenate([moved[np.isfinite(surface.depth)] for surface, moved in ends])
    norm = Normalize(0, (float(np.quantile(shown, 0.98)) if len(shown) else 0.0) or 1.0)
    scale = ScalarMappable(norm, "Purples")
    for place, (surface, moved), title in zip(axes[1:], ends, ("map + mode", "map − mode"), strict=True):
        _show(place, surface, scale.to_rgba(moved)[:, :, :3], title, theme)
    bar = figure.colorbar(scale, ax=list(axes), shrink=0.8)
    bar.set_label("surface moves by, Å", color=theme.text, fontsize=7.5)
    bar.ax.tick_params(colors=theme.text, labelsize=6.5)


def _mode_picture(mode: NDArray[np.float64]) -> tuple[Surface, NDArray[np.float64]]:
    level = MODE_LEVEL * float(np.abs(mode).max())
    up, down = isosurface(mode, level), isosurface(-mode, level)
    front = np.nan_to_num(up.depth, nan=np.inf) <= np.nan_to_num(down.depth, nan=np.inf)
    merged = Surface(
        np.where(front, up.depth, down.depth),
        np.where(front, up.shade, down.shade),
        np.where(front, up.points, down.points),
    )
    return merged, np.where(front[:, :, None], PINK, BLUE)


def _show(axes: Any, surface: Surface, colours: NDArray[np.float64], title: str, theme: Theme) -> None:
    seen = np.isfinite(surface.depth)
    picture = np.concatenate([np.clip(colours * surface.shade[:, :, None], 0, 1), seen[:, :, None]], axis=2)
    axes.imshow(picture, origin="lower", interpolation="bilinear")
    axes.set_title(title, fontsize=8, color=theme.text)
    axes.set_axis_off()
