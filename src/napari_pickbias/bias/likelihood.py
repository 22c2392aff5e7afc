"""Discretised maximum likelihood: a map from picks whose angles are not known, on a grid of rotations.

Corollary 4.2 of "Structure from Noise" says that a map made in this way from picked noise tends to the template's map.
The weights of a patch over the rotations follow here either from the whole whitened patch, as any refinement has them,
or from that part of it alone that lies in the span of the templates. The rest is independent of that part on noise, so
weights of the second kind, put on the rests, give a map whose mean on noise is zero: the bias removal carries over to
maps of unknown angles.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_pickbias.bias.reconstruction import add_patches, coverage, density_filter, reconstruct, symmetrised
from napari_pickbias.imaging.fourier import Floats, hermitian_weights, shell_numbers
from napari_pickbias.imaging.projection import central_slices, half_disc, spectrum_of_image

ITERATIONS = 5


class Images(NamedTuple):
    """Patches of several micrographs."""

    patches: NDArray[np.float32]
    """``(m, n, n)``."""

    micrograph: NDArray[np.int64]
    """``(m,)``, an index into ``transfers``."""

    transfers: tuple[NDArray[np.float64] | None, ...]
    """CTF of each micrograph on the patches."""


class Grid(NamedTuple):
    """What is assumed of all patches."""

    rotations: NDArray[np.float64]
    """``(G, 3, 3)``."""

    variance: float
    """Of a coefficient of the patches' Fourier transforms on noise."""

    last_shell: int
    """Finest shell that is compared."""

    group: NDArray[np.float64]
    """``(s, 3, 3)`` rotations of the point group."""


def posterior(volume: Floats, images: Images, grid: Grid) -> NDArray[np.float32]:
    """Return the weight of each rotation for each patch, ``(m, G)``, rows summing to 1; all rotations equal a priori.

    Parameters
    ----------
    volume : ndarray, shape (n, n, n)
    images : Images
    grid : Grid
    """
    size = volume.shape[-1]
    disc = half_disc(size) & (shell_numbers((size, size)) <= grid.last_shell) & (shell_numbers((size, size)) > 0)
    weight = np.sqrt(np.broadcast_to(hermitian_weights(size), disc.shape)[disc] / grid.variance)
    slices = central_slices(np.asarray(volume, np.float64), grid.rotations, accuracy=1e-4)[:, disc] * weight
    spectra = spectrum_of_image(np.asarray(images.patches, np.float64))[:, disc] * weight
    found = np.empty((len(spectra), len(slices)), np.float32)
    for number, transfer in enumerate(images.transfers):
        own = np.flatnonzero(images.micrograph == number)
        model = slices if transfer is None else slices * transfer[disc]
        real = np.concatenate([model.real, model.imag], axis=1)
        seen = np.concatenate([spectra[own].real, spectra[own].imag], axis=1)
        score = seen @ real.T - 0.5 * (real**2).sum(axis=1)
        score -= score.max(axis=1, keepdims=True)
        np.exp(score, out=score)
        found[own] = score / score.sum(axis=1, keepdims=True)
    return found


def weighted_map(weights: Floats, images: Images, grid: Grid) -> NDArray[np.float64]:
    """Return the map of patches, each back-projected at all rotations with its weights."""
    return reconstruct(weighted_sum(weights, images, grid), weighted_density(weights, images, grid))


def weighted_sum(weights: Floats, images: Images, grid: Grid) -> NDArray[np.float64]:
    """Return the back-projection of patches at all rotations with their weights, ``(n, n, n)``."""
    size = images.patches.shape[-1]
    numerator = np.zeros((size,) * 3)
    for number, transfer in enumerate(images.transfers):
        own = np.flatnonzero(images.micrograph == number)
        if len(own):
            sums = weights[own].T @ images.patches[own].reshape(len(own), -1)
            numerator += add_patches(sums.reshape(-1, size, size), grid.rotations, transfer)
    return symmetrised(numerator, grid.group)


def weighted_density(weights: Floats, images: Images, grid: Grid) -> NDArray[np.float64]:
    """Return the filter that makes a map of :func:`weighted_sum`; it depends on the weights alone."""
    size = images.patches.shape[-1]
    if all(transfer is None for transfer in images.transfers):
        kernel = coverage(grid.rotations, weights.sum(axis=0, dtype=np.float64), size)
        return density_filter(symmetrised(kernel, grid.group))
    kernel = np.zeros((2 * size,) * 3)
    for number, transfer in enumerate(images.transfers):
        own = np.flatnonzero(images.micrograph == number)
        if len(own):
            kernel += coverage(grid.rotations, weights[own].sum(axis=0, dtype=np.float64), size, transfer)
    return density_filter(symmetrised(kernel, grid.group))


def maximise(
    images: Images, start: Floats, grid: Grid, *, iterations: int = ITERATIONS
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Return the map of greatest likelihood near a start, and the weights that gave it.

    Parameters
    ----------
    images : Images
    start : ndarray, shape (n, n, n)
    grid : Grid
    iterations : int
        Of expectation-maximisation.

    Returns
    -------
    volume : ndarray, shape (n, n, n)
    weights : ndarray, shape (m, G)
    """
    volume = np.asarray(start, np.float64)
    weights = np.zeros((0, 0), np.float32)
    for _ in range(iterations):
        weights = posterior(volume, images, grid)
        volume = weighted_map(weights, images, grid)
    return volume, weights


def coefficient_variance(size: int, box: int) -> float:
    """Return the noise variance of a Fourier coefficient of whitened patches of a box that were binned to ``size``."""
    return float(size**4 / box**2)
