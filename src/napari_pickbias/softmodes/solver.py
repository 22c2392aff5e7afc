"""The softest directions: generalised eigenvectors ``H u = lambda W u`` with the smallest eigenvalues."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np
import scipy.linalg
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator, lobpcg

from napari_pickbias.imaging.fourier import Floats
from napari_pickbias.softmodes.metric import Convolution, riesz_inverse

ROUND = 25
"""Iterations after which LOBPCG is started afresh from its vectors."""
GUARD_VECTORS = 2
"""Vectors iterated beyond those asked for: the last ones of a block converge slowest."""


class Operator(Protocol):
    """What the solvers need of a Hessian."""

    support: NDArray[np.bool_]
    metric: Convolution
    images: float

    def __call__(self, vectors: Floats) -> NDArray[np.float64]:
        """Apply it to ``(N,)`` or ``(N, k)`` vectors."""
        ...


class Restart(NamedTuple):
    """State of the solver between two rounds."""

    vectors: NDArray[np.float64]
    """``(N, block)``"""

    done: int
    """Iterations done."""


class Spectrum(NamedTuple):
    """Softest modes."""

    eigenvalues: NDArray[np.float64]
    """``(k,)`` rising, for one image."""

    modes: NDArray[np.float64]
    """``(N, k)`` of unit Riesz norm."""

    residuals: NDArray[np.float64]
    """``(k,)`` ``|H u - lambda W u|`` in the norm of the preconditioner, over ``|lambda W u|``."""


def softest(
    hessian: Operator,
    count: int,
    rigid: NDArray[np.float64],
    rng: np.random.Generator,
    *,
    tolerance: float = 1e-3,
    iterations: int = 60,
    on_step: Callable[[], None] | None = None,
    restart: Restart | None = None,
    on_round: Callable[[Restart], None] | None = None,
) -> Spectrum:
    """Return the softest modes by LOBPCG, preconditioned by the inverse metric (A. Knyazev, SISC 23, 2001, 517).

    Parameters
    ----------
    hessian : Hessian
        Of the profile likelihood.
    count : int
        Modes wanted.
    rigid : ndarray, shape (N, 3 or 6)
        Directions to leave out.
    rng : numpy.random.Generator
        Of the start vectors, which are filtered noise.
    tolerance : float
        Of the residuals.
    iterations : int
        At most.
    on_step : callable or None
        Called before each product; what it raises stops the work.
    restart : Restart or None
        Go on from here, with the same result as without the interruption.
    on_round : callable or None
        Given the state after each round of :data:`ROUND` iterations.
    """
    voxels = int(hessian.support.sum())
    block = min(count + GUARD_VECTORS, (voxels - rigid.shape[1]) // 5)
    if block < count:
        return dense_softest(hessian, count, rigid)
    inverse = riesz_inverse(hessian.support, hessian.metric.threads)
    held = hessian.metric(rigid)
    dual = np.linalg.solve(rigid.T @ held, rigid.T).T

    def product(vectors: Floats) -> NDArray[np.float64]:
        if on_step is not None:
            on_step()
        columns = vectors.reshape(voxels, -1)
        image = hessian(columns - dual @ (held.T @ columns)) / hessian.images
        # Without the forces of the constraint, which would stay in the residuals and stall the search
        return np.asarray((image - held @ (dual.T @ image)).reshape(vectors.shape))

    def operator(apply: Callable[[Floats], NDArray[np.float64]]) -> LinearOperator:
        return LinearOperator((voxels, voxels), matvec=apply, matmat=apply, dtype=np.float64)

    # White noise has the metric's spectrum after one product with W: smooth, as soft modes are.
    start = hessian.metric(rng.standard_normal((voxels, block)))
    fitting = restart is not None and restart.vectors.shape == start.shape
    vectors, done = (restart.vectors.copy(), restart.done) if restart is not None and fitting else (start, 0)
    found = None
    for length in _rounds(iterations - done):
        with warnings.catch_warnings():
            # what it says of residuals is reported as numbers
            warnings.simplefilter("ignore", UserWarning)
            values, vectors = lobpcg(
                operator(product),
                vectors,
                B=operator(hessian.metric),
                M=operator(inverse),
                Y=rigid,
                tol=tolerance * 0.1,
                maxiter=length,
                largest=False,
            )[:2]
        done += length
        order = np.argsort(values)[:count]
        found = finish(hessian, values[order], vectors[:, order], rigid)
        if (found.residuals < tolerance).all() or done >= iterations:
            break
        if on_round is not None:
            on_round(Restart(vectors.copy(), done))  # LOBPCG works in place
    assert found is not None
    return found


def _rounds(iterations: int) -> list[int]:
    """Return lengths of rounds: rounding errors stop a long LOBPCG from converging further, a fresh start mends it."""
    return [min(ROUND, iterations - done) for done in range(0, max(iterations, 1), ROUND)]


def dense_softest(hessian: Operator, count: int, rigid: NDArray[np.float64]) -> Spectrum:
    """Return the softest modes from full matrices: for small boxes, and as oracle of :func:`softest`."""
    unit = np.eye(int(hessian.support.sum()))
    weight = hessian.metric(unit)
    matrix = hessian(unit) / hessian.images
    free = scipy.linalg.null_space((weight @ rigid).T)
    values, vectors = scipy.linalg.eigh(
        free.T @ (matrix + matrix.T) @ free / 2, free.T @ weight @ free, subset_by_index=(0, count - 1)
    )
    return finish(hessian, values, free @ vectors, rigid)


def finish(hessian: Operator, values: Floats, vectors: Floats, rigid: NDArray[np.float64]) -> Spectrum:
    """Normalise eigenvectors, fix their signs, and measure residuals."""
    weighted = hessian.metric(vectors)
    norms = np.sqrt(np.einsum("nk,nk->k", vectors, weighted))
    vectors, weighted = vectors / norms, weighted / norms
    # The sign of an eigenvector is arbitrary: the largest voxel is made positive, so that runs agree.
    signs = np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(vectors.shape[1])])
    vectors, weighted = vectors * signs, weighted * signs
    misfit = hessian(vectors) / hessian.images - weighted * values
    # Forces of the constraint belong to the answer: W times the rigid motions.
    held = hessian.metric(rigid)
    misfit -= held @ np.linalg.lstsq(held, misfit, rcond=None)[0]
    inverse = riesz_inverse(hessian.support)
    lengths = np.sqrt(np.einsum("nk,nk->k", misfit, inverse(misfit)).clip(min=0))
    scale = np.sqrt(np.einsum("nk,nk->k", weighted, inverse(weighted))) * np.abs(values)
    return Spectrum(np.asarray(values), np.asarray(vectors), np.asarray(lengths / np.maximum(scale, 1e-300)))
