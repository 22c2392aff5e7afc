"""Radial template of the particles in a stack: drawing it, and estimating it from images."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

from napari_pickbias.outliers.geometry import pixel_grid

FloatArray = NDArray[np.float64]


def taper(radii: FloatArray, radius_px: float, end: float = 1.3) -> FloatArray:
    """Return a window of the radius: 1 up to R, falling as a cosine to 0 at ``end`` R."""
    u = np.clip((radii / radius_px - 1) / (end - 1), 0, 1)
    return np.asarray(0.5 + 0.5 * np.cos(np.pi * u))


def radial_bins(box_px: int) -> int:
    """Return the number of whole-pixel radii kept for a box: reaches its corners from any centre inside it."""
    return int(np.ceil(1.5 * box_px)) + 2


def radial_sums(image: FloatArray, centre: FloatArray, n_radii: int) -> tuple[FloatArray, FloatArray]:
    """Sum an image into whole-pixel radii about a centre, each pixel shared between its two neighbours.

    Returns
    -------
    total, weight : (n_radii,) arrays
        ``total / weight`` is the radial mean.
    """
    y, x = pixel_grid(image.shape[0])
    radius = np.hypot(y - centre[0], x - centre[1]).ravel()
    low = radius.astype(np.int64)
    frac = radius - low
    low = np.minimum(low, n_radii - 2)
    values = image.ravel()
    total = np.bincount(low, values * (1 - frac), n_radii) + np.bincount(low + 1, values * frac, n_radii)
    weight = np.bincount(low, 1 - frac, n_radii) + np.bincount(low + 1, frac, n_radii)
    return total[:n_radii], weight[:n_radii]


def profile_image(profile: FloatArray, box_px: int, centres: FloatArray) -> FloatArray:
    """Draw a radial profile about each of several centres, cut off by the box (no wrap), (n, box*box)."""
    y, x = pixel_grid(box_px)
    radius = np.hypot(y.ravel() - centres[:, :1], x.ravel() - centres[:, 1:])
    curve = PchipInterpolator(np.arange(len(profile)), profile, extrapolate=False)
    return np.nan_to_num(curve(radius))


def first_profile(images: NDArray[np.floating], mask: NDArray[np.bool_], radius_px: float) -> FloatArray:
    """First radial template: radial mean of the mean image minus its value in the ring, at least 0, tapered.

    Parameters
    ----------
    images : (m, d, d) array
    mask : (d, d) bool array
        The ring.
    radius_px : float
        Particle radius.

    Returns
    -------
    (n_r,) array
        At whole-pixel radii; a Gaussian of standard deviation R/2 where the middle is not brighter than the ring.
    """
    d = mask.shape[0]
    mean = np.asarray(images).mean(axis=0, dtype=np.float64)
    n_radii = radial_bins(d)
    total, weight = radial_sums(mean, np.zeros(2), n_radii)
    raw = np.where(weight > 0, total / np.maximum(weight, 1e-9) - mean[mask].mean(), 0.0)
    radii = np.arange(n_radii, dtype=np.float64)
    if raw[radii <= radius_px / 2].mean() <= 0:
        raw = np.exp(-0.5 * (radii / (radius_px / 2)) ** 2)
    return np.asarray(np.clip(raw, 0, None) * taper(radii, radius_px))


def update_profile(
    sums: FloatArray, weights: FloatArray, centres: FloatArray, box_px: int, radius_px: float
) -> FloatArray:
    """Radial template from weighted image sums about every centre, minus its tail beyond 1.2 R, tapered.

    Parameters
    ----------
    sums : (n, box*box) array
        Sum over images of weight * amplitude * image for every centre.
    weights : (n,) array
        Sum over images of weight * amplitude squared.
    centres : (n, 2) array
    box_px : int
    radius_px : float
    """
    n_radii = radial_bins(box_px)
    total, weight = np.zeros(n_radii), np.zeros(n_radii)
    for image, w, centre in zip(sums, weights, centres, strict=True):
        t, n = radial_sums(image.reshape(box_px, box_px), centre, n_radii)
        total += t
        weight += w * n
    radii = np.arange(n_radii, dtype=np.float64)
    profile = np.where(weight > 0, total / np.maximum(weight, 1e-300), 0.0)
    tail = (radii > 1.2 * radius_px) & (weight > 0)
    if tail.any():
        profile = profile - np.average(profile[tail], weights=weight[tail])
    return np.asarray(profile * taper(radii, radius_px))
