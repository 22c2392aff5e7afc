"""Two maps from two sets of images: would one map explain both? (paper section 24.3, spurious heterogeneity)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator, cg

from napari_pickbias.imaging.fourier import Floats
from napari_pickbias.softmodes.hessian import Hessian
from napari_pickbias.softmodes.metric import riesz_inverse


class Joint(NamedTuple):
    """What tells two maps apart, given that one map in between is free to be chosen."""

    value: float
    """``min over x of x H1 x + (d - x) H2 (d - x)``, ``d`` the difference of the maps."""

    share: float
    """``value`` over what two ideal sets of as many images would give, ``J1 J2 / (J1 + J2) d W d``."""

    between: NDArray[np.float64]
    """``(N,)`` the step ``x`` from the first map to the one that explains both sets best."""


def joint_information(first: Hessian, second: Hessian, step: Floats, *, iterations: int = 60) -> Joint:
    """Return the loss of both sets of images by the one map that suits both best.

    To second order, each set's poses free: half of :attr:`Joint.value` over the variance of the noise is the
    log-likelihood ratio by which two maps beat one. Conjugate gradients bound it from above.

    Parameters
    ----------
    first, second : Hessian
        Of each map with its own images, on one support.
    step : ndarray, shape (N,)
        Second map less first.
    iterations : int
        Of conjugate gradients, at most.
    """
    count = len(step)
    inverse = riesz_inverse(first.support)
    operator = LinearOperator((count, count), matvec=lambda vector: first(vector) + second(vector))
    preconditioner = LinearOperator((count, count), matvec=inverse)
    right = second(np.asarray(step, np.float64))
    between, _ = cg(operator, right, rtol=1e-4, maxiter=iterations, M=preconditioner)
    rest = step - between
    value = float(between @ first(between) + rest @ second(rest))
    ideal = first.images * second.images / (first.images + second.images) * float(step @ first.metric(step))
    return Joint(value, value / ideal, np.asarray(between))
