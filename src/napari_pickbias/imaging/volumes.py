"""Boxes, masks and extents of volumes and images."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_pickbias.imaging.fourier import Floats


def resize_box(array: Floats, size: int, dimensions: int = 3) -> Floats:
    """Crop or zero-pad the last ``dimensions`` axes to ``size``; the origin stays at pixel ``n // 2``."""
    result = array
    for axis in range(array.ndim - dimensions, array.ndim):
        old = result.shape[axis]
        start = old // 2 - size // 2
        if start >= 0 and start + size <= old:
            result = result[(slice(None),) * axis + (slice(start, start + size),)]
        else:
            before, after = max(-start, 0), max(start + size - old, 0)
            widths = [(0, 0)] * result.ndim
            widths[axis] = (before, after)
            result = np.pad(result, widths)
            start = max(start, 0)
            result = result[(slice(None),) * axis + (slice(start, start + size),)]
    return np.ascontiguousarray(result)


def distance_grid(size: int, dimensions: int = 3) -> NDArray[np.float64]:
    """Return the distance of each voxel of a cube (or square) from its origin, px."""
    offsets = (np.arange(size) - size // 2).astype(np.float64)
    squares = np.zeros((1,) * dimensions)
    for axis in range(dimensions):
        squares = squares + offsets.reshape([-1 if i == axis else 1 for i in range(dimensions)]) ** 2
    return np.sqrt(squares)


def soft_ball(size: int, radius_px: float, edge_px: float = 0.0, dimensions: int = 3) -> NDArray[np.float32]:
    """Return a mask: 1 up to ``radius_px``, falling to 0 over ``edge_px`` beyond by a raised cosine; sharp without."""
    distance = distance_grid(size, dimensions)
    if edge_px <= 0:
        return (distance <= radius_px).astype(np.float32)
    position = np.clip((distance - radius_px) / edge_px, 0, 1)
    return (0.5 + 0.5 * np.cos(np.pi * position)).astype(np.float32)


def mass_centre_and_radius(
    volume: Floats, *, share: float = 0.98, threshold: float = 0.2
) -> tuple[NDArray[np.float64], float]:
    """Return where the mass of a volume lies.

    Parameters
    ----------
    volume : ndarray, shape (d, h, w)
        Density, bright.
    share : float
        Share of the mass within the radius.
    threshold : float
        Only density above this share of the maximum counts, so that solvent and its noise do not.

    Returns
    -------
    centre_px : ndarray, shape (3,)
        Centre of mass from the origin, x, y, z.
    radius_px : float
        Radius about it that holds ``share`` of the mass.

    Raises
    ------
    ValueError
        If no voxel is positive.
    """
    top = float(volume.max())
    if not top > 0:
        raise ValueError("`volume` has no positive density; particles must be bright")
    density = np.where(volume > threshold * top, volume, 0)
    z, y, x = np.nonzero(density)
    mass = density[z, y, x].astype(np.float64)
    places = np.stack([x, y, z]) - np.array([[n // 2] for n in volume.shape[::-1]])
    centre = places @ mass / mass.sum()
    distance = np.linalg.norm(places - centre[:, None], axis=0)
    order = np.argsort(distance)
    inside = np.cumsum(mass[order])
    return centre, float(distance[order][np.searchsorted(inside, share * inside[-1])])
