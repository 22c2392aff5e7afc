"""Lanczos iteration as the paper has it, for comparison with the solver that is used."""

from __future__ import annotations

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from napari_pickbias.imaging.fourier import Floats
from napari_pickbias.softmodes.hessian import Hessian
from napari_pickbias.softmodes.metric import Convolution, riesz_inverse
from napari_pickbias.softmodes.solver import Spectrum, finish


def lanczos_softest(
    hessian: Hessian, count: int, rigid: NDArray[np.float64], rng: np.random.Generator, *, iterations: int = 64
) -> Spectrum:
    """Return the softest Ritz pairs of plain Lanczos with full re-orthogonalisation (paper section 20.1).

    Without inversion the soft end converges slowly: its Ritz values are upper bounds. The Krylov space is that of
    ``W^-1 H`` in the Riesz metric; ``W`` is inverted by conjugate gradients.

    Parameters
    ----------
    hessian, count, rigid, rng
        As for :func:`~napari_pickbias.softmodes.solver.softest`.
    iterations : int
        Size of the Krylov space.
    """
    metric, inverse = hessian.metric, riesz_inverse(hessian.support)
    held = metric(rigid)
    dual = np.linalg.solve(rigid.T @ held, rigid.T).T

    def without_rigid(vector: Floats) -> NDArray[np.float64]:
        return np.asarray(vector - rigid @ (dual.T @ metric(vector)))

    basis = np.empty((len(rigid), 0))
    vector = without_rigid(metric(rng.standard_normal(len(rigid))))
    first = 0.0
    for _ in range(iterations):
        for _ in range(2):
            vector = without_rigid(vector - basis @ (basis.T @ metric(vector)))
        norm = np.sqrt(max(float(vector @ metric(vector)), 0))
        first = first or norm
        if norm < 1e-6 * first:
            break  # the space is used up but for rounding
        basis = np.column_stack([basis, vector / norm])
        image = hessian(basis[:, -1]) / hessian.images
        vector = _solve(metric, inverse, image)
    projected = basis.T @ (hessian(basis) / hessian.images)
    values, parts = scipy.linalg.eigh(
        (projected + projected.T) / 2, subset_by_index=(0, min(count, len(projected)) - 1)
    )
    return finish(hessian, values, basis @ parts, rigid)


def _solve(metric: Convolution, inverse: Convolution, right: Floats, tolerance: float = 1e-8) -> NDArray[np.float64]:
    """Solve ``W x = right`` by preconditioned conjugate gradients."""
    x = np.zeros_like(right)
    rest = np.array(right)
    step = direction = inverse(rest)
    product = float(rest @ step)
    start = product
    for _ in range(200):
        image = metric(direction)
        length = product / float(direction @ image)
        x = x + length * direction
        rest = rest - length * image
        step = inverse(rest)
        following = float(rest @ step)
        if following < tolerance**2 * start:
            break
        direction = step + following / product * direction
        product = following
    return x
