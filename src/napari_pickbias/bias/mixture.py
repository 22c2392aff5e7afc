"""Class averages without labels: expectation-maximisation for a Gaussian mixture of known covariance.

The paper's model of 2-D classification (its Appendix B.1): all classes share the covariance of the noise, the class
means and weights are free. Patches come whitened, so that the covariance is the identity.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csr_array

from napari_pickbias.imaging.fourier import Floats


class Mixture(NamedTuple):
    """A fitted mixture."""

    means: NDArray[np.float64]
    """``(K, d)`` class averages."""

    weights: NDArray[np.float64]
    """``(K,)``, sum 1."""

    labels: NDArray[np.int64]
    """``(m,)`` likeliest class of each patch."""

    log_likelihood: float
    """Per patch, against the model that all patches are noise of mean 0."""

    iterations: int


def fit_mixture(
    patches: Floats,
    classes: int,
    rng: np.random.Generator,
    *,
    starts: int = 5,
    iterations: int = 60,
    tolerance: float = 1e-5,
    initial: Floats | None = None,
    turns: Sequence[csr_array] = (),
) -> Mixture:
    """Fit class means to patches of noise covariance 1.

    Parameters
    ----------
    patches : ndarray, shape (m, d)
    classes : int
        ``K``.
    rng : numpy.random.Generator
        Starts are patches drawn without replacement.
    starts : int
        The fit of the highest likelihood is returned.
    iterations, tolerance
        Stop after this many, or when the log-likelihood per patch rises by less.
    initial : ndarray, shape (K, d), optional
        Means to start from, instead of ``starts`` random ones.
    turns : sequence of sparse arrays, shape (d, d)
        In-plane rotations of a flattened patch, see :func:`turning_matrices`: the class average may stand behind a
        patch in any of them. Empty: patches are aligned already.

    Raises
    ------
    ValueError
        When there are fewer patches than classes.
    """
    data = np.asarray(patches, np.float64)
    if len(data) < classes:
        raise ValueError(f"{len(data)} patches cannot fill {classes} classes")
    if initial is not None:
        return _climb(data, np.array(initial, np.float64), iterations, tolerance, turns)
    best: Mixture | None = None
    for _ in range(max(1, starts)):
        start = data[rng.choice(len(data), classes, replace=False)]
        found = _climb(data, start, iterations, tolerance, turns)
        if best is None or found.log_likelihood > best.log_likelihood:
            best = found
    assert best is not None
    return best


def _climb(
    data: NDArray[np.float64],
    means: NDArray[np.float64],
    iterations: int,
    tolerance: float,
    turns: Sequence[csr_array],
) -> Mixture:
    classes = len(means)
    weights = np.full(classes, 1 / classes)
    last, done = -np.inf, 0
    labels = np.zeros(len(data), np.int64)
    for iteration in range(iterations):
        done = iteration + 1
        # (turns, K, d): every class in every orientation
        turned = np.stack([means, *((turn @ means.T).T for turn in turns)])
        logits = np.einsum("md,tkd->tmk", data, turned, optimize=True)
        logits += (np.log(np.maximum(weights, 1e-300)) - 0.5 * (turned**2).sum(axis=2))[:, None, :]
        top = logits.max(axis=(0, 2), keepdims=True)
        shares = np.exp(logits - top)
        total = shares.sum(axis=(0, 2), keepdims=True)
        shares /= total
        level = float(np.mean(top + np.log(total))) - np.log(len(turned))
        by_class = shares.sum(axis=0)
        labels = by_class.argmax(axis=1)
        counts = by_class.sum(axis=0)
        sums = shares[0].T @ data
        for turn, share in zip(turns, shares[1:], strict=True):
            sums += (turn.T @ (share.T @ data).T).T
        means = sums / np.maximum(counts, 1e-9)[:, None]
        weights = counts / counts.sum()
        if level - last < tolerance:
            break
        last = level
    return Mixture(means, weights, labels, level, done)


def turning_matrices(size: int, angles_deg: Sequence[float]) -> list[csr_array]:
    """Return sparse matrices that turn a flattened ``(size, size)`` image in its plane, by bilinear interpolation.

    Parameters
    ----------
    size : int
    angles_deg : sequence of float
        Positive turns move +x towards +y.
    """
    middle = size // 2
    rows, columns = np.mgrid[:size, :size] - middle
    flat = np.arange(size * size)
    found = []
    for angle in np.radians(angles_deg):
        x = np.cos(angle) * columns + np.sin(angle) * rows + middle
        y = -np.sin(angle) * columns + np.cos(angle) * rows + middle
        x0, y0 = np.floor(x).astype(int), np.floor(y).astype(int)
        entries, places, targets = [], [], []
        for dy in (0, 1):
            for dx in (0, 1):
                weight = (1 - abs(x - (x0 + dx))) * (1 - abs(y - (y0 + dy)))
                inside = (x0 + dx >= 0) & (x0 + dx < size) & (y0 + dy >= 0) & (y0 + dy < size)
                entries.append(weight[inside])
                places.append(((y0 + dy) * size + x0 + dx)[inside])
                targets.append(flat.reshape(size, size)[inside])
        found.append(
            csr_array(
                (np.concatenate(entries), (np.concatenate(targets), np.concatenate(places))), shape=(size**2, size**2)
            )
        )
    return found


def correlations(first: Floats, second: Floats) -> NDArray[np.float64]:
    """Return Pearson's correlation of every row of ``first`` with every row of ``second``: ``(n, m)``."""
    a, b = (np.asarray(v, np.float64).reshape(len(v), -1) for v in (first, second))
    a, b = a - a.mean(axis=1, keepdims=True), b - b.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(a, axis=1)[:, None] * np.linalg.norm(b, axis=1)
    return np.asarray(np.where(norms > 0, a @ b.T / np.where(norms > 0, norms, 1), 0.0))


def assign(averages: Floats, templates: Floats) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Match class averages to templates one to one, so that the sum of correlations is largest.

    Parameters
    ----------
    averages : ndarray, shape (K, ...)
    templates : ndarray, shape (L, ...)

    Returns
    -------
    template : ndarray of int, shape (K,)
        -1 for averages left over where there are more of them than templates.
    correlation : ndarray, shape (K,)
        With that template; NaN where there is none.
    """
    table = correlations(averages, templates)
    rows, columns = linear_sum_assignment(table, maximize=True)
    template, value = np.full(len(table), -1, np.int64), np.full(len(table), np.nan)
    template[rows], value[rows] = columns, table[rows, columns]
    return template, value
