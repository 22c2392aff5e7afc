"""Soft modes as moving surfaces, coloured by how uncertain the map is there, and views on a sphere. No Qt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import marching_cubes

from napari_pickbias.jobs.softmodes import SoftmodesResult
from napari_pickbias.jobs.softmodes_views import ViewSphere
from napari_pickbias.runs.softmodes_folder import read_softmodes

FRAMES = 9
"""From V - a u to V + a u."""
LEVEL_SHARE = 0.97
"""Share of the voxels below the contour level: the report's own."""

VIEW_COLOR, ADDED_COLOR = "#56B4E9", "#E69F00"
Surface = tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float32]]


@dataclass(frozen=True)
class SoftFrames:
    """Contours of all modes.

    Attributes
    ----------
    frames : list of list of (vertices, faces, values)
        One list a mode, one surface a frame; vertices in Å, z y x.
    eigenvalues : ndarray, shape (k,)
    amplitude_fraction : ndarray, shape (k,)
    limits : (float, float)
        Of the values.
    level : float
    """

    frames: list[list[Surface]]
    eigenvalues: NDArray[np.float64]
    amplitude_fraction: NDArray[np.float64]
    limits: tuple[float, float]
    level: float

    def layer(self, mode: int, frame: int) -> tuple[Any, dict[str, Any], str]:
        """Return the layer that shows a frame."""
        show = {
            "name": "soft mode",
            "colormap": "viridis",
            "contrast_limits": self.limits,
            "shading": "smooth",
            "units": "angstrom",
            "metadata": {"softmodes": True},
        }
        return self.frames[mode][frame], show, "surface"


def soft_frames(
    volume: NDArray[np.float64],
    changes: Sequence[NDArray[np.float64]],
    uncertainty: NDArray[np.float64],
    voxel: float,
    *,
    eigenvalues: NDArray[np.float64],
    amplitude_fraction: NDArray[np.float64],
    origin_angstrom: tuple[float, ...] = (0.0, 0.0, 0.0),
    frames: int = FRAMES,
) -> SoftFrames:
    """Return contours of V + t a u for t from -1 to 1.

    Parameters
    ----------
    volume : ndarray, shape (n, n, n)
        V, 0 outside the support.
    changes : sequence of ndarray, shape (n, n, n)
        a u of each mode.
    uncertainty : ndarray, shape (n, n, n)
    voxel : float
        Å.
    eigenvalues, amplitude_fraction : ndarray, shape (k,)
    origin_angstrom : tuple of float
        z, y, x of the map's first voxel.
    frames : int
    """
    inside = volume != 0
    level = float(np.quantile(volume, LEVEL_SHARE))
    top = float(np.quantile(uncertainty[inside], 0.99)) if inside.any() else 1.0
    made = [
        [_surface(volume + t * change, level, uncertainty, voxel, origin_angstrom) for t in np.linspace(-1, 1, frames)]
        for change in changes
    ]
    bottom = float(uncertainty[inside].min()) if inside.any() else 0.0
    limits = (bottom, top) if top > bottom else (bottom, bottom + 1.0)
    return SoftFrames(made, eigenvalues, amplitude_fraction, limits, level)


def frames_of(result: SoftmodesResult, origin_angstrom: tuple[float, ...]) -> SoftFrames:
    """Return the contours of a run's result; ``origin_angstrom`` is z, y, x."""
    found = result.found
    changes = [a * mode for a, mode in zip(found.amplitudes, found.modes, strict=True)]
    return soft_frames(
        result.volume, changes, found.uncertainty, result.voxel_size_angstrom, eigenvalues=found.eigenvalues,
        amplitude_fraction=found.amplitude_fraction, origin_angstrom=origin_angstrom,
    )  # fmt: skip


class SoftShown(NamedTuple):
    """What the dock shows: the moving surface, and layers of the sphere of views."""

    frames: SoftFrames
    sphere: list[tuple[Any, dict[str, Any], str]]


def read_soft(folder: Path) -> tuple[SoftShown, dict[str, Any]]:
    """Return what shows an output folder, and its summary.

    Raises
    ------
    InputError
        When it holds no finished run.
    """
    found = read_softmodes(folder)
    origin = tuple(reversed(found.origin_angstrom))
    frames = soft_frames(
        found.volume, found.changes, found.uncertainty, found.voxel_size_angstrom, eigenvalues=found.eigenvalues,
        amplitude_fraction=found.amplitude_fraction, origin_angstrom=origin,
    )  # fmt: skip
    extent = len(found.volume) * found.voxel_size_angstrom
    return SoftShown(frames, [] if found.sphere is None else sphere_layers(found.sphere, extent, origin)), found.summary


def sphere_layers(
    sphere: ViewSphere, extent_angstrom: float, origin_angstrom: tuple[float, ...]
) -> list[tuple[Any, dict[str, Any], str]]:
    """Return the views as points on a sphere to the right of the map, coloured by how surely their poses are known.

    Parameters
    ----------
    sphere : ViewSphere
    extent_angstrom : float
        Side of the map.
    origin_angstrom : tuple of float
        z, y, x of the map's first voxel.
    """
    radius = 0.45 * extent_angstrom
    centre = np.asarray(origin_angstrom) + extent_angstrom * np.array([0.5, 0.5, 1.65])

    def places(directions: NDArray[np.float64], reach: float) -> NDArray[np.float32]:
        return np.asarray(centre + reach * radius * directions[:, ::-1], np.float32).reshape(-1, 3)

    common: dict[str, Any] = {"units": "angstrom", "border_width": 0, "metadata": {"softmodes_views": True}}
    known = bool(np.isfinite(sphere.rotation_sd_deg).any())
    features = pd.DataFrame({"rotation_sd_deg": np.nan_to_num(sphere.rotation_sd_deg), "images": sphere.images})
    points = {
        **common, "name": sphere.name, "features": features, "size": 0.05 * radius,
        "face_color": "rotation_sd_deg" if known else VIEW_COLOR, "face_colormap": "viridis", "shading": "spherical",
    }  # fmt: skip
    corners, faces = _ball()
    ball = (places(corners, 0.96), faces, np.ones(len(corners), np.float32))
    backing = {
        "name": "sphere of views", "colormap": "gray", "contrast_limits": (0, 3), "opacity": 0.9, "shading": "smooth",
        "units": "angstrom", "metadata": {"softmodes_views": True},
    }  # fmt: skip
    layers: list[tuple[Any, dict[str, Any], str]] = [
        (ball, backing, "surface"), (places(sphere.directions, 1.0), points, "points"),
    ]  # fmt: skip
    if len(sphere.added):
        added = {**common, "name": sphere.added_name, "size": 0.045 * radius, "face_color": ADDED_COLOR}
        layers.append((places(sphere.added, 1.03), added, "points"))
    return layers


def _ball(rings: int = 24) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return a unit sphere: corners x, y, z and triangles."""
    grid = np.mgrid[-1.2 : 1.2 : rings * 1j, -1.2 : 1.2 : rings * 1j, -1.2 : 1.2 : rings * 1j]
    corners, faces, _, _ = marching_cubes(np.sqrt((grid**2).sum(axis=0)), 1.0)
    corners = corners / (rings - 1) * 2.4 - 1.2
    return corners / np.linalg.norm(corners, axis=1, keepdims=True), faces.astype(np.int64)


def _surface(
    values: NDArray[np.float64],
    level: float,
    color: NDArray[np.float64],
    voxel: float,
    origin: tuple[float, ...],
) -> Surface:
    """Return the contour; a single point where no voxel reaches the level (napari takes no empty surface)."""
    if not values.min() < level < values.max():
        return np.zeros((3, 3), np.float32), np.array([[0, 1, 2]]), np.zeros(3, np.float32)
    corners, faces, _, _ = marching_cubes(values.astype(np.float32), level)
    shade = ndimage.map_coordinates(color, corners.T, order=1)
    place = corners * voxel + np.asarray(origin)
    return place.astype(np.float32), faces.astype(np.int64), shade.astype(np.float32)
