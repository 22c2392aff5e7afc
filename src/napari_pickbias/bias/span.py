"""Remove from patches everything that picking with a template bank can have put into them.

A pick is the highest of many scores: those of all templates at all places within the minimum distance. All of these
scores lie, up to a small rest, in the span of the templates shifted within reach. What is left of a patch after the
regression on that span is uncorrelated, hence for Gaussian noise independent, of all these scores: whatever the rule of
picking, its average on noise is zero. Patches are analysed in the whitened micrograph, the span lies in the plain one,
and the regression uses their true cross-covariance. Derivation and measurements: ``docs/bias.md``.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from napari_pickbias.imaging.fourier import Floats, radial_frequency, shell_numbers, shift_factors
from napari_pickbias.imaging.volumes import distance_grid, resize_box

KEPT_EIGENVALUE = 1e-3
"""Directions below this share of the span's largest eigenvalue are left alone: smaller shares take particles too."""
PINV_RCOND = 1e-6


def bank_span(
    images: Floats, box: int, reach: float, *, step: float = 3.5, keep: float = KEPT_EIGENVALUE
) -> NDArray[np.float64]:
    """Return an orthonormal basis of templates at all shifts within reach, cut to a box.

    Parameters
    ----------
    images : ndarray, shape (L, b, b)
        Templates as they are scored, zero outside their mask; every second or third in-plane angle is enough.
    box : int
        Side of the patches.
    reach : float
        Largest shift, px: about the minimum distance between picks less what is already smooth (0.7 of it).
    step : float
        Spacing of the shifts, px.
    keep : float
        Share of the largest eigenvalue below which a direction is left out.

    Returns
    -------
    ndarray, shape (k, box * box)
        Rows are orthonormal and zero outside the disc that the box inscribes.
    """
    disc = (distance_grid(box, 2) <= (box - 1) / 2 - 1).ravel()
    count = int(reach / step)
    axis = np.arange(-count, count + 1) * step
    shifts = np.array([(dx, dy) for dy in axis for dx in axis if np.hypot(dx, dy) <= reach + 1e-9])
    grid = max(box, images.shape[-1]) + 2 * int(np.ceil(reach)) + 2
    spectra = scipy.fft.rfft2(resize_box(np.asarray(images, np.float64), grid, 2), workers=1)
    moment = np.zeros((int(disc.sum()),) * 2)
    for rows, columns in zip(*shift_factors(shifts, grid), strict=True):
        moved = resize_box(scipy.fft.irfft2(spectra * rows * columns, s=(grid, grid), workers=1), box, 2)
        flat = moved.reshape(len(moved), -1)[:, disc]
        moment += flat.T @ flat
    values, vectors = np.linalg.eigh(moment)
    chosen = vectors[:, values > keep * values[-1]][:, ::-1]
    basis = np.zeros((chosen.shape[1], box * box))
    basis[:, disc] = chosen.T
    return basis


def local_span(images: Floats, derivatives: bool = True) -> NDArray[np.float64]:
    """Return the span of one template and its neighbourhood: itself, its gradient and its Laplacian.

    For comparison only: where picks are local maxima it leaves bias in the template's own band.

    Parameters
    ----------
    images : ndarray, shape (m, box, box)
        The template, and its neighbours in the bank.
    derivatives : bool
        Without, the templates alone.
    """
    stack = [np.asarray(images, np.float64)]
    if derivatives:
        first = stack[0][:1]
        rows, columns = np.gradient(first, axis=1), np.gradient(first, axis=2)
        stack += [rows, columns, np.gradient(rows, axis=1) + np.gradient(columns, axis=2)]
    flat = np.concatenate(stack).reshape(-1, images.shape[-1] ** 2)
    _, values, vectors = np.linalg.svd(flat, full_matrices=False)
    return np.asarray(vectors[values > 1e-9 * values[0]])


class Removal(NamedTuple):
    """The regression of whitened patches on a span, for one noise spectrum."""

    basis: NDArray[np.float64]
    """``(k, box * box)``: coefficients of a plain patch ``z`` are ``basis @ z``."""

    gain: NDArray[np.float64]
    """``(box * box, k)``: what these coefficients bring into the whitened patch."""

    def apply(self, whitened: Floats, plain: Floats) -> NDArray[np.float64]:
        """Return whitened patches (or sums of them) without their part in the span; both ``(..., box, box)``."""
        flat = np.asarray(plain, np.float64).reshape(-1, self.basis.shape[1])
        part = (flat @ self.basis.T) @ self.gain.T
        return np.asarray(np.asarray(whitened, np.float64) - part.reshape(whitened.shape))


def removal(basis: NDArray[np.float64], power: Floats, whitening: Floats) -> Removal:
    """Return the regression of whitened patches on the span of ``basis``.

    Parameters
    ----------
    basis : ndarray, shape (k, box * box)
        From :func:`bank_span`.
    power : ndarray, shape (n, n // 2 + 1)
        Noise power of the plain image on a grid of ``n`` px, at least the box and six correlation lengths (white noise
        of variance 1 is 1 everywhere).
    whitening : ndarray, shape (n, n // 2 + 1)
        Filter that whitens, on the same grid: :func:`whitening_filter`.
    """
    size, box = power.shape[0], round(np.sqrt(basis.shape[1]))
    if size < box:
        raise ValueError(f"`power` lies on a grid of {size} px, smaller than the box of {box} px")
    spectra = scipy.fft.rfft2(resize_box(basis.reshape(-1, box, box), size, 2), workers=1)

    def filtered(factor: Floats) -> NDArray[np.float64]:
        images = scipy.fft.irfft2(spectra * factor, s=(size, size), workers=1)
        return np.asarray(resize_box(images, box, 2).reshape(len(basis), -1))

    inner = basis @ filtered(power).T
    return Removal(basis, filtered(power * whitening).T @ np.linalg.pinv(inner, rcond=PINV_RCOND, hermitian=True))


def whitening_filter(
    power: Floats, pixel_size: float, *, finest: float, coarsest: float = np.inf
) -> NDArray[np.float64]:
    """Return the filter ``P**-0.5`` of a noise spectrum's radial mean, cut to a band.

    Parameters
    ----------
    power : ndarray, shape (n, n // 2 + 1)
    pixel_size : float
        Å.
    finest, coarsest : float
        Band in Å; ``inf`` leaves the coarse side open. Shells 0 and 1 take the value of shell 2.

    Returns
    -------
    ndarray, shape (n, n // 2 + 1)
    """
    return whitening_on(power, (power.shape[0], power.shape[0]), pixel_size, finest=finest, coarsest=coarsest)


def whitening_on(
    power: Floats, shape: tuple[int, int], pixel_size: float, *, finest: float, coarsest: float = np.inf
) -> NDArray[np.float64]:
    """Return :func:`whitening_filter` on the half-spectrum of an image of ``shape``."""
    size = power.shape[0]
    numbers = np.minimum(shell_numbers((size, size)), size // 2)
    sums = np.bincount(numbers.ravel(), power.ravel())
    radial = sums / np.maximum(np.bincount(numbers.ravel()), 1)
    radial[:2] = radial[2]
    at = radial_frequency(shape) * size
    amplitude = np.interp(at, np.arange(len(radial)), 1 / np.sqrt(np.maximum(radial, 1e-300)))
    # the edges are stated on one common grid, so that patches and images are cut alike
    steps = radial_frequency(shape, pixel_size)
    amplitude *= _edge(steps * finest)
    if np.isfinite(coarsest):
        amplitude *= 1 - _edge(steps * coarsest)
    return np.asarray(amplitude)


def _edge(relative: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a raised-cosine fall from 1 to 0 between 0.9 and 1.1."""
    return np.asarray(0.5 + 0.5 * np.cos(np.pi * np.clip((relative - 0.9) / 0.2, 0, 1)))
