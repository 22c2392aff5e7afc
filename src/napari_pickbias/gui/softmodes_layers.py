"""Soft modes as moving surfaces: the map's contour at V + t a u, coloured by how uncertain the map is there. No Qt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import marching_cubes

from napari_pickbias.jobs.softmodes import SoftmodesResult

FRAMES = 9
"""From V - a u to V + a u."""
LEVEL_SHARE = 0.97
"""Share of the voxels below the contour level: the report's own."""

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
    result: SoftmodesResult,
    origin_angstrom: tuple[float, ...] = (0.0, 0.0, 0.0),
    frames: int = FRAMES,
    gain: float = 1.0,
) -> SoftFrames:
    """Return contours of V + t a u for t from -1 to 1.

    Parameters
    ----------
    result : SoftmodesResult
    origin_angstrom : tuple of float
        z, y, x of the map's first voxel.
    frames : int
    gain : float
        Shows changes so many times as large as they are.
    """
    found, voxel = result.found, result.voxel_size_angstrom
    inside = result.volume != 0
    level = float(np.quantile(result.volume, LEVEL_SHARE))
    uncertainty = found.uncertainty
    top = float(np.quantile(uncertainty[inside], 0.99)) if inside.any() else 1.0
    made = []
    for mode, amplitude in zip(found.modes, found.amplitudes, strict=True):
        series = []
        for t in np.linspace(-1, 1, frames):
            series.append(
                _surface(result.volume + gain * t * amplitude * mode, level, uncertainty, voxel, origin_angstrom)
            )
        made.append(series)
    bottom = float(uncertainty[inside].min()) if inside.any() else 0.0
    limits = (bottom, top) if top > bottom else (bottom, bottom + 1.0)
    return SoftFrames(made, found.eigenvalues, found.amplitude_fraction, limits, level)


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
