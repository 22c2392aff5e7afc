"""From given images to working images: level, size and scale; and which way the contrast goes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_pickbias.imaging.fourier import fourier_crop
from napari_pickbias.outliers.covariance import nuisance
from napari_pickbias.outliers.geometry import make_geometry, pixel_grid


def usable_images(images: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Return which images can be judged: finite everywhere and not constant."""
    low, high = images.min(axis=(1, 2)), images.max(axis=(1, 2))
    return np.asarray(np.isfinite(low) & np.isfinite(high) & (high > low))


def working_box(box_px: int, radius_px: float, working_radius_px: float | None) -> int:
    """Return the side at which images are judged: odd, with the wanted radius, or as given where that is near."""
    if working_radius_px is None or radius_px <= 1.2 * working_radius_px:
        return box_px
    return 2 * round((box_px * working_radius_px / radius_px - 1) / 2) + 1


def prepare(images: NDArray[np.floating], working_px: int, scale: float = 1.0) -> NDArray[np.float32]:
    """Take off every image's own plane, Fourier-crop and divide by the scale.

    The plane (constant and gradient) does not count in any verdict; taking it off keeps single precision accurate
    and the crop free of edge ringing.

    Parameters
    ----------
    images : (m, d, d) array
        Usable images.
    working_px : int
        Side of the result, at most d.
    scale : float
        Unit of grey values.

    Returns
    -------
    (m, working_px, working_px) float32 array
    """
    m, d = len(images), images.shape[-1]
    basis = np.linalg.qr(nuisance(d))[0]
    level = images.mean(axis=(1, 2), keepdims=True, dtype=np.float64)
    flat = ((images - level) / scale).astype(np.float32).reshape(m, -1)
    flat -= (flat @ basis.astype(np.float32)) @ basis.T.astype(np.float32)
    square = flat.reshape(m, d, d)
    return square if working_px == d else np.ascontiguousarray(fourier_crop(square, working_px), np.float32)


def contrast_strength(images: NDArray[np.floating], ring: NDArray[np.bool_], radius_px: float) -> float:
    """Return how much brighter the middle of the images is than the ring, in standard errors over images."""
    y, x = pixel_grid(ring.shape[0])
    inside = np.hypot(y, x) <= radius_px / 2
    weight = inside / inside.sum() - ring / ring.sum()
    level = images.reshape(len(images), -1).astype(np.float64) @ weight.ravel()
    error = level.std(ddof=1) / np.sqrt(len(level))
    return float(level.mean() / error) if error > 0 else 0.0


def detect_contrast(images: NDArray[np.floating], radius_px: float) -> tuple[int, float]:
    """Tell whether particles are bright or dark, from the middle of the images against their rim.

    Parameters
    ----------
    images : (m, d, d) array
    radius_px : float
        Particle radius in pixels of these images.

    Returns
    -------
    sign : int
        +1 where particles are bright, -1 where dark.
    strength : float
        Mean over images of (mean within R/2 - mean of the ring), in standard errors; never negative. Below about 4
        the sign is a guess.

    Raises
    ------
    InputError
        Box too small for the particle.
    """
    images = np.asarray(images)
    geometry = make_geometry(images.shape[-1], radius_px)
    good = usable_images(images)
    if good.sum() < 2:
        return 1, 0.0
    strength = contrast_strength(prepare(images[good], images.shape[-1]), geometry.ring(), radius_px)
    return (1 if strength >= 0 else -1), abs(strength)
