"""Molecules with closed forms: sums of Gaussian blobs, and atoms splatted onto a grid.

A blob's density integrates to its weight. Its projection along any line and its Fourier transform are Gaussians again,
which makes blobs the oracle for projections, CTFs and soft modes.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
import scipy.optimize
import scipy.stats
from numpy.typing import ArrayLike, NDArray

from napari_pickbias.imaging.fourier import Complexes, Floats

REACH = 6.0
"""Standard deviations up to which a splatted Gaussian is drawn: what is left out is below 2e-8 of its peak."""

# Powers of the root of g^4 = g + 1: steps of the low-discrepancy sequence that places the phantom's blobs.
_GOLDEN = 1.2207440846057596


class Blobs(NamedTuple):
    """A molecule of isotropic Gaussians."""

    centres_px: Floats
    """``(k, 3)`` x, y, z from the origin."""

    sigmas_px: Floats
    """``(k,)`` standard deviations."""

    weights: Floats
    """``(k,)`` integrals."""


def phantom(radius_px: float, *, elongation: float = 1.0, count: int = 32) -> Blobs:
    """Return the house's phantom molecule: compact, without any symmetry, chiral, always the same.

    Parameters
    ----------
    radius_px : float
        Radius about the centre of mass that holds 98 % of the mass. Standard deviations are 0.09 to 0.16 of it: from
        about 12 px on, the sampled phantom equals its closed forms to 0.1 %.
    elongation : float
        Length along x over width; 1 is globular, 2 to 3 a rod. Elongated molecules are hard on methods that think in
        radial profiles.
    count : int
        Number of blobs.

    Returns
    -------
    Blobs
        Centre of mass at the origin, total weight 1.
    """
    index = np.arange(count)[:, None] + 0.5
    u = (0.5 + index * _GOLDEN ** -np.arange(1.0, 4.0)) % 1
    cosine, angle = 2 * u[:, 0] - 1, 2 * np.pi * u[:, 1]
    sine = np.sqrt(1 - cosine**2)
    directions = np.stack([sine * np.cos(angle), sine * np.sin(angle), cosine], axis=1)
    # Lobes of different reach, so that no view looks like another.
    lobes = 0.7 + 0.5 * np.exp(4 * (directions @ np.array([0.6, 0.64, 0.48]) - 1)) + 0.2 * directions[:, 2]
    centres = directions * (lobes * u[:, 2] ** (1 / 3))[:, None]
    centres *= np.array([elongation, 1.0, 1.0]) * elongation ** (-1 / 3)
    sigmas = 0.1 + 0.08 * ((index[:, 0] * 0.754877666) % 1)
    weights = 0.5 + (index[:, 0] * 0.569840291) % 1
    weights /= weights.sum()
    centres -= weights @ centres
    blobs = Blobs(centres, sigmas, weights)
    scale = radius_px / mass_radius(blobs, 0.98)
    return Blobs(centres * scale, sigmas * scale, weights)


def mass_radius(blobs: Blobs, share: float) -> float:
    """Return the radius about the origin that holds ``share`` of the weight, from the non-central chi-squared law."""
    squares = np.sum(blobs.centres_px**2, axis=1) / blobs.sigmas_px**2
    farthest = float(np.max(np.linalg.norm(blobs.centres_px, axis=1) + 8 * blobs.sigmas_px))

    def excess(radius: float) -> float:
        inside = scipy.stats.ncx2.cdf((radius / blobs.sigmas_px) ** 2, 3, np.maximum(squares, 1e-9))
        return float(blobs.weights @ inside / blobs.weights.sum()) - share

    return float(scipy.optimize.brentq(excess, 0, farthest))


def blob_volume(blobs: Blobs, size: int) -> NDArray[np.float32]:
    """Sample the density of ``blobs`` at the voxels of a ``(size, size, size)`` box, float32."""
    offsets = np.arange(size) - size // 2
    x, y, z = (_profiles(blobs.centres_px[:, axis], blobs.sigmas_px, offsets) for axis in range(3))
    planes = (y[:, :, None] * x[:, None, :]).reshape(len(x), -1)
    return ((z * blobs.weights[:, None]).T @ planes).reshape(size, size, size).astype(np.float32)


def blob_projections(
    blobs: Blobs, rotations: Floats, size: int, shifts_px: Floats | None = None
) -> NDArray[np.float64]:
    """Return the exact line integrals of turned blobs at the pixels of ``(m, size, size)`` images.

    Parameters
    ----------
    blobs : Blobs
        Molecule.
    rotations : ndarray, shape (m, 3, 3)
        Active rotations.
    size : int
        Side of the images.
    shifts_px : ndarray, shape (m, 2), or None
        Displacements along x and y.
    """
    offsets = np.arange(size) - size // 2
    places = np.asarray(rotations, np.float64)[:, :2] @ blobs.centres_px.T
    if shifts_px is not None:
        places = places + np.asarray(shifts_px, np.float64)[:, :, None]
    images = np.empty((len(places), size, size))
    for image, (x, y) in zip(images, places, strict=True):
        rows = _profiles(y, blobs.sigmas_px, offsets) * blobs.weights[:, None]
        np.matmul(rows.T, _profiles(x, blobs.sigmas_px, offsets), out=image)
    return images


def _profiles(centres: Floats, sigmas: Floats, offsets: NDArray[np.integer]) -> NDArray[np.float64]:
    """Return ``(k, n)`` normalised 1-D Gaussians at ``offsets``."""
    scaled = (offsets[None, :] - centres[:, None]) / sigmas[:, None]
    return np.asarray(np.exp(-0.5 * scaled**2) / (np.sqrt(2 * np.pi) * sigmas[:, None]))


def blob_transform(blobs: Blobs, points: Floats) -> Complexes:
    """Return the Fourier transform of ``blobs`` at x, y, z frequencies ``points``, ``(3, ...)``, radians per px."""
    squares = np.sum(np.asarray(points) ** 2, axis=0)
    result = np.zeros(squares.shape, np.complex128)
    for centre, sigma, weight in zip(*blobs, strict=True):
        phase = np.tensordot(centre, points, axes=1)
        result += weight * np.exp(-0.5 * sigma**2 * squares - 1j * phase)
    return result


def splat_atoms(
    coordinates_angstrom: Floats,
    size: int,
    voxel_size_angstrom: float,
    *,
    sigma_angstrom: ArrayLike,
    weights: ArrayLike = 1.0,
) -> NDArray[np.float32]:
    """Draw atoms as Gaussians into a ``(size, size, size)`` volume.

    Parameters
    ----------
    coordinates_angstrom : ndarray, shape (k, 3)
        x, y, z from the box origin. Atoms outside the box draw only what reaches into it.
    size : int
        Side of the box, voxels.
    voxel_size_angstrom : float
        Å per voxel.
    sigma_angstrom : float or array_like, shape (k,)
        Standard deviations; at least half a voxel, below which a sampled Gaussian loses its integral.
    weights : float or array_like, shape (k,)
        Integrals, such as numbers of electrons.

    Raises
    ------
    ValueError
        If a standard deviation is below half a voxel.
    """
    places = np.asarray(coordinates_angstrom, np.float64).reshape(-1, 3) / voxel_size_angstrom + size // 2
    sigmas = np.broadcast_to(np.asarray(sigma_angstrom, np.float64) / voxel_size_angstrom, len(places))
    if np.any(sigmas < 0.5):
        raise ValueError(f"`sigma_angstrom` must be at least half a voxel, {voxel_size_angstrom / 2:g} Å")
    volume = np.zeros((size, size, size))
    _splat(
        volume,
        places,
        np.ascontiguousarray(sigmas),
        np.ascontiguousarray(np.broadcast_to(np.asarray(weights, np.float64), len(places))),
        REACH,
    )
    return volume.astype(np.float32)


@numba.njit(cache=True, nogil=True)
def _splat(
    volume: NDArray[np.float64],
    places: NDArray[np.float64],
    sigmas: NDArray[np.float64],
    weights: NDArray[np.float64],
    reach: float,
) -> None:  # pragma: no cover
    size = volume.shape[0]
    for atom in range(places.shape[0]):
        sigma = sigmas[atom]
        scale = weights[atom] / (np.sqrt(2 * np.pi) * sigma) ** 3
        low, high = np.empty(3, np.int64), np.empty(3, np.int64)
        for axis in range(3):
            low[axis] = max(0, int(np.ceil(places[atom, axis] - reach * sigma)))
            high[axis] = min(size - 1, int(np.floor(places[atom, axis] + reach * sigma)))
        for z in range(low[2], high[2] + 1):
            factor_z = scale * np.exp(-0.5 * ((z - places[atom, 2]) / sigma) ** 2)
            for y in range(low[1], high[1] + 1):
                factor_y = factor_z * np.exp(-0.5 * ((y - places[atom, 1]) / sigma) ** 2)
                for x in range(low[0], high[0] + 1):
                    volume[z, y, x] += factor_y * np.exp(-0.5 * ((x - places[atom, 0]) / sigma) ** 2)
