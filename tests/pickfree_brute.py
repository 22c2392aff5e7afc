"""Approximate EM written out in full, for boxes of five pixels: every patch, shift and rotation, in float64."""

from __future__ import annotations

import numpy as np
from scipy.special import logsumexp


def operator(slices: object, size: int) -> np.ndarray:
    """Return the projections as one matrix, ``(K, L^2, L^3)``, from direct Fourier sums."""
    rotations = slices
    offsets = np.arange(size) - size // 2
    z, y, x = (axis.ravel() for axis in np.meshgrid(offsets, offsets, offsets, indexing="ij"))
    py, px = (axis.ravel() for axis in np.meshgrid(offsets, offsets, indexing="ij"))
    ky, kx = (axis.ravel() for axis in np.meshgrid(*[np.fft.fftfreq(size) * size] * 2, indexing="ij"))
    inside = kx**2 + ky**2 < size**2 / 4
    kx, ky = kx[inside] / size, ky[inside] / size
    synthesis = np.exp(2j * np.pi * (np.outer(px, kx) + np.outer(py, ky))) / size**2
    matrices = []
    for rotation in np.asarray(rotations):
        points = np.outer(rotation[0], kx) + np.outer(rotation[1], ky)
        analysis = np.exp(-2j * np.pi * points.T @ np.stack([x, y, z]))
        matrices.append((synthesis @ analysis).real)
    return np.array(matrices)


def shifted(image: np.ndarray, dy: int, dx: int) -> np.ndarray:
    """Return the ``(L, L)`` patch that sees ``image`` moved by ``dy``, ``dx``: pad, shift, crop."""
    size = len(image)
    padded = np.zeros((3 * size, 3 * size))
    padded[size + dy : 2 * size + dy, size + dx : 2 * size + dx] = image
    return padded[size : 2 * size, size : 2 * size]


def back(patch: np.ndarray, dy: int, dx: int) -> np.ndarray:
    """Return the transpose of :func:`shifted`."""
    size = len(patch)
    padded = np.zeros((3 * size, 3 * size))
    padded[size : 2 * size, size : 2 * size] = patch
    return padded[size + dy : 2 * size + dy, size + dx : 2 * size + dx]


def every_shift(size: int) -> list[tuple[int, int]]:
    """Return the shifts that show something, y slowest; the 4L - 1 others are one empty class."""
    return [(dy, dx) for dy in range(1 - size, size) for dx in range(1 - size, size)]


def posterior(
    patches: np.ndarray, images: np.ndarray, variance: float, empty: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return posterior ``(M, K, n_s)``, probability of empty ``(M,)``, log-likelihood over empty, and scores."""
    shifts = every_shift(images.shape[1])
    templates = np.array([[shifted(image, *s) for s in shifts] for image in images.astype(np.float64)])
    energy = np.sum(templates**2, axis=(2, 3)) / 2
    scores = (np.einsum("myx,ksyx->mks", patches.astype(np.float64), templates) - energy) / variance
    prior = np.log((1 - empty) / (len(images) * len(shifts)))
    total = logsumexp((scores + prior).reshape(len(patches), -1), axis=1)
    total = np.logaddexp(total, np.log(empty))
    return np.exp(scores + prior - total[:, None, None]), np.exp(np.log(empty) - total), total, scores


def sums(patches: np.ndarray, probability: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the M-step's sums: weighted patches in the box ``(K, L, L)``, and pixel weights ``(K, L, L)``."""
    size = patches.shape[1]
    shifts = every_shift(size)
    moved = np.array([[back(patch, *s) for s in shifts] for patch in patches.astype(np.float64)])
    seen = np.array([back(np.ones((size, size)), *s) for s in shifts])
    return np.einsum("mks,msyx->kyx", probability, moved), np.einsum("mks,syx->kyx", probability, seen)
