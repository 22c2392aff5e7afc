"""Radial template and rotation-covariant radial factors of the particles in a stack."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.ndimage
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

from napari_pickbias.outliers.geometry import pixel_grid

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Factors:
    """Radial factors of the particles' variation about the template.

    Attributes
    ----------
    order : (k,) int array
        Angular order l of every factor.
    profile : (k, n_r) array
        u(r) at whole-pixel radii; a factor with l > 0 stands for the two images u(r) cos(l phi), u(r) sin(l phi).
    variance : (k,) array
        Prior variance of each image's coefficient, for particles of amplitude 1.
    """

    order: NDArray[np.int64]
    profile: FloatArray
    variance: FloatArray

    def column_variance(self) -> FloatArray:
        """Return the prior variance per image column (two columns where the order is positive)."""
        return np.repeat(self.variance, np.where(self.order > 0, 2, 1))


def no_factors(n_radii: int) -> Factors:
    """Return the empty set of factors."""
    return Factors(np.zeros(0, np.int64), np.zeros((0, n_radii)), np.zeros(0))


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


def factor_images(factors: Factors, box_px: int, centres: FloatArray) -> FloatArray:
    """Draw all factor columns about each of several centres, (n, box*box, columns)."""
    y, x = pixel_grid(box_px)
    dy, dx = y.ravel() - centres[:, :1], x.ravel() - centres[:, 1:]
    angle = np.arctan2(dy, dx)
    columns = []
    for order, profile in zip(factors.order, factors.profile, strict=True):
        base = profile_image(profile, box_px, centres)
        if order == 0:
            columns.append(base)
        else:
            columns += [base * np.cos(order * angle), base * np.sin(order * angle)]
    return np.stack(columns, axis=2) if columns else np.zeros((*dy.shape, 0))


def first_profile(images: NDArray[np.floating], mask: NDArray[np.bool_], radius_px: float) -> tuple[FloatArray, float]:
    """First radial template: radial mean of the mean image minus its value in the ring.

    Parameters
    ----------
    images : (m, d, d) array
        Images with the common constant and gradient of the ring already taken off.
    mask : (d, d) bool array
        The ring.
    radius_px : float
        Particle radius.

    Returns
    -------
    profile : (n_r,) array
        Clipped at 0 and tapered; a Gaussian of standard deviation R/2 where nothing positive is left.
    contrast : float
        Mean of the mean image within R/2 minus its mean in the ring, in standard errors estimated from the ring.
    """
    d = mask.shape[0]
    mean = np.asarray(images).mean(axis=0, dtype=np.float64)
    n_radii = radial_bins(d)
    total, weight = radial_sums(mean, np.zeros(2), n_radii)
    background = mean[mask].mean()
    raw = np.where(weight > 0, total / np.maximum(weight, 1e-9) - background, 0.0)
    radii = np.arange(n_radii, dtype=np.float64)
    profile = np.clip(raw, 0, None) * taper(radii, radius_px)
    y, x = pixel_grid(d)
    inside = np.hypot(y, x) <= radius_px / 2
    level = np.array([image[inside].mean() - image[mask].mean() for image in images], dtype=np.float64)
    error = level.std(ddof=1) / np.sqrt(len(level))
    contrast = float(level.mean() / error) if error > 0 else 0.0
    if not (profile > 0).any() or contrast < 0:
        profile = np.exp(-0.5 * (radii / (radius_px / 2)) ** 2) * taper(radii, radius_px)
    return profile, contrast


def polar_coefficients(
    images: NDArray[np.floating], centres: FloatArray, radii: FloatArray, max_order: int, n_angles: int
) -> NDArray[np.complex128]:
    """Angular Fourier coefficients of images about a centre of their own, (m, max_order + 1, n_r).

    ``c_l(r) = mean over phi of x(r, phi) exp(-i l phi)``; cubic interpolation, 0 outside the box.
    """
    d = images.shape[-1]
    angle = 2 * np.pi * np.arange(n_angles) / n_angles
    oy, ox = np.outer(radii, np.sin(angle)), np.outer(radii, np.cos(angle))
    out = np.empty((len(images), max_order + 1, len(radii)), np.complex128)
    for k, (image, centre) in enumerate(zip(images, centres, strict=True)):
        points = [oy + centre[0] + d // 2, ox + centre[1] + d // 2]
        ring = scipy.ndimage.map_coordinates(image, points, order=3, mode="constant", output=np.float64)
        out[k] = (np.fft.rfft(ring, axis=1)[:, : max_order + 1] / n_angles).T
    return out


def learn_factors(
    images: NDArray[np.floating],
    noise: NDArray[np.floating],
    centres: FloatArray,
    amplitudes: FloatArray,
    profile: FloatArray,
    radius_px: float,
    counts: tuple[int, ...],
) -> Factors:
    """Radial factors: leading eigenvectors of the angular covariances of the images, minus those of noise.

    Parameters
    ----------
    images, noise : (m, d, d) arrays
        Images with one central particle, without background; surrogate noise of the same number.
    centres : (m, 2) array
        Particle centres (y, x).
    amplitudes : (m,) array
        Particle amplitudes.
    profile : (n_r,) array
        Radial template.
    radius_px : float
        Particle radius.
    counts : tuple of int
        ``counts[l]`` factors of angular order l.
    """
    end = int(np.ceil(1.3 * radius_px))
    radii = np.arange(0.5, end)
    weight = np.sqrt(radii)
    n_angles = 4 * int(np.ceil(0.5 * np.pi * end))
    top = len(counts) - 1
    have = polar_coefficients(images, centres, radii, top, n_angles)
    have[:, 0] -= amplitudes[:, None] * np.interp(radii, np.arange(len(profile)), profile)
    without = polar_coefficients(noise, centres, radii, top, n_angles)
    power = max(float(np.mean(amplitudes**2)), 1e-12)
    whole = np.arange(len(profile), dtype=np.float64)
    window = taper(whole, radius_px)
    order, shapes, variance = [], [], []
    for angular, count in enumerate(counts):
        cov = np.einsum("kr,ks->rs", have[:, angular], have[:, angular].conj()).real / len(have)
        cov -= np.einsum("kr,ks->rs", without[:, angular], without[:, angular].conj()).real / len(without)
        cov *= weight[:, None] * weight
        value, vector = np.linalg.eigh((cov + cov.T) / 2)
        for k in range(1, count + 1):
            if value[-k] <= 1e-6 * max(abs(value).max(), 1e-300) or value[-k] <= 0:
                break
            u = vector[:, -k] / weight
            left = u[0] if angular == 0 else 0.0  # a smooth image has no angular variation at its very centre
            shape = np.interp(whole, np.concatenate([[0.0], radii]), np.concatenate([[left], u]), right=0.0) * window
            order.append(angular)
            shapes.append(shape)
            variance.append(value[-k] * (1 if angular == 0 else 2) / power)
    if not order:
        return no_factors(len(profile))
    return Factors(np.array(order, np.int64), np.array(shapes), np.array(variance))


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
