"""Radial factors: how particles of one stack differ from their common radial template.

A view is not round. Its difference from the template is described, about the particle's centre, by a few images
u(r) cos(l phi), u(r) sin(l phi) with Gaussian coefficients: what is left is closed under rotation, so no view needs to
be aligned. Without them elongated molecules look like two particles.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_pickbias.outliers.covariance import NoiseModel
from napari_pickbias.outliers.geometry import pixel_grid
from napari_pickbias.outliers.template import profile_image, taper

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


def harmonic_weights(box_px: int, centre: FloatArray, n_radii: int, max_order: int) -> NDArray[np.complex128]:
    """Weights that give the angular Fourier coefficients of an image about a centre, (max_order + 1, n_radii, box*box).

    ``c_l(r) = mean over the ring r of x exp(-i l phi)``; every pixel is shared between the whole-pixel radii on its
    two sides, and what lies outside the box counts as 0.
    """
    y, x = pixel_grid(box_px)
    dy, dx = y.ravel() - centre[0], x.ravel() - centre[1]
    radius = np.hypot(dy, dx)
    share = np.clip(1 - np.abs(radius - np.arange(n_radii)[:, None]), 0, None)
    # the number of pixels of a whole ring, from a lattice of the same phase that reaches beyond it
    line = np.arange(-n_radii - 1, n_radii + 2)
    far = np.hypot(line[:, None] - centre[0] % 1, line[None] - centre[1] % 1).ravel()
    whole = np.clip(1 - np.abs(far - np.arange(n_radii)[:, None]), 0, None).sum(axis=1)
    share /= np.maximum(whole, 1e-9)[:, None]
    phase = np.exp(-1j * np.arange(max_order + 1)[:, None] * np.arctan2(dy, dx))
    return np.asarray(phase[:, None, :] * share)


def angular_covariances(
    images: NDArray[np.floating],
    centres: FloatArray,
    which: NDArray[np.integer],
    n_radii: int,
    max_order: int,
    profile: FloatArray,
    amplitudes: FloatArray,
    noise: NoiseModel,
) -> tuple[FloatArray, FloatArray]:
    """Covariance between radii of the angular coefficients about the particle, of the images and of noise alone.

    Parameters
    ----------
    images : (m, d, d) array
    centres : (n, 2) array
        Grid of centres.
    which : (m,) int array
        The centre of every image.
    n_radii, max_order : int
    profile : (n_r,) array
        Radial template; amplitude times it is taken off order 0.
    amplitudes : (m,) array
    noise : NoiseModel

    Returns
    -------
    total, alone : (max_order + 1, n_radii, n_radii) arrays
        Second moments; ``total - alone`` is the particles' own.
    """
    d = images.shape[-1]
    flat = images.reshape(len(images), -1)
    total = np.zeros((max_order + 1, n_radii, n_radii))
    alone = np.zeros_like(total)
    sigma = noise.covariance()
    known: dict[tuple[float, float], FloatArray] = {}
    for t in np.unique(which):
        rows = which == t
        weights = harmonic_weights(d, centres[t], n_radii, max_order)
        stacked = weights.reshape(-1, d * d)
        have = (flat[rows] @ stacked.real.T + 1j * (flat[rows] @ stacked.imag.T)).reshape(-1, max_order + 1, n_radii)
        own = weights[0].real @ profile_image(profile, d, centres[t : t + 1])[0]
        have[:, 0] -= amplitudes[rows, None] * own
        total += np.einsum("klr,kls->lrs", have, have.conj(), optimize=True).real
        low, high = sorted(np.abs(centres[t]).round(6).tolist())  # noise is isotropic: mirrored centres see the same
        if (low, high) not in known:
            smooth = (stacked.real @ sigma + 1j * (stacked.imag @ sigma)).reshape(weights.shape)
            known[low, high] = (smooth @ weights.conj().transpose(0, 2, 1)).real
        alone += rows.sum() * known[low, high]
    return total / len(images), alone / len(images)


def learn_factors(
    total: FloatArray,
    alone: FloatArray,
    n_images: int,
    profile: FloatArray,
    power: float,
    radius_px: float,
    *,
    share: float = 0.04,
    max_columns: int = 32,
) -> Factors:
    """Radial factors: what varies most from particle to particle, measured against the noise.

    Every order's covariance (images minus noise) is whitened by the noise's; the leading eigenvectors of all orders
    together are the factors. An eigenvalue is the squared SNR at which one image shows the factor.

    Parameters
    ----------
    total, alone : (orders, n, n) arrays
        See :func:`angular_covariances`.
    n_images : int
        Number of images behind ``total``: eigenvalues that noise alone reaches (Marchenko-Pastur edge) are left out.
    profile : (n_r,) array
        Radial template.
    power : float
        Mean squared amplitude of the images.
    radius_px : float
        Particle radius.
    share : float
        Factors weaker than this share of the template's own squared SNR are left out: they cannot pass for a second
        particle, and weak factors would begin to describe the outliers among the images.
    max_columns : int
        Most image columns (one for order 0, two for others).
    """
    n = total.shape[1]
    radii = np.arange(n, dtype=np.float64)
    weight = np.sqrt(np.maximum(radii, 1 / 6))  # equal noise in every node, for conditioning
    window = taper(radii, radius_px)
    candidates: list[tuple[float, int, FloatArray]] = []
    least = 0.0
    for angular in range(len(total)):
        use = radii >= angular / 2  # smaller rings have too few pixels for this order
        w = weight[use]
        noise = alone[angular][np.ix_(use, use)] * w[:, None] * w
        signal = total[angular][np.ix_(use, use)] * w[:, None] * w - noise
        value, vector = np.linalg.eigh(noise)
        root = np.sqrt(np.maximum(value, 1e-3 * value.max()))
        colour, white = (vector * root) @ vector.T, (vector / root) @ vector.T
        if angular == 0:
            least = share * float(((white @ (w * profile[:n][use])) ** 2).sum()) * power
        edge = (1 + np.sqrt(use.sum() / (n_images * (1 if angular == 0 else 2)))) ** 2 - 1
        strength, shape = np.linalg.eigh(white @ signal @ white)
        for k in np.flatnonzero(strength > max(1.2 * edge, least)):
            u = np.zeros(n)
            u[use] = colour @ shape[:, k] / w
            candidates.append((float(strength[k]), angular, u * window))
    candidates.sort(key=lambda c: -c[0])
    order, shapes, variance, columns = [], [], [], 0
    for strength_k, angular, u in candidates:
        wide = 1 if angular == 0 else 2
        if columns + wide <= max_columns:
            columns += wide
            order.append(angular)
            shapes.append(np.pad(u, (0, len(profile) - n)))
            variance.append(strength_k * wide / power)
    if not order:
        return no_factors(len(profile))
    return Factors(np.array(order, np.int64), np.array(shapes), np.array(variance))
