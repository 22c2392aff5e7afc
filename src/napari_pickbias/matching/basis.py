"""Rotations of one view in a shared basis: fewer correlations than templates, at a stated error of the scores.

Templates ``x_1 ... x_n`` that show one view at many in-plane angles lie near a space of ``r < n`` dimensions: a
particle of radius ``R`` seen down to detail ``d`` has about ``2 pi R / d`` angular frequencies on either side of zero,
whatever the number of angles. With the leading singular vectors ``v_k`` of the stack, ``x_l`` is ``sum_k c_lk v_k`` but
for a residual ``e_l``, and the correlation with ``x_l`` is the same sum of ``r`` correlations. What that changes in a
score is ``<e_l, patch> / (s_l sd)``, at most the residual's norm times the patch's (Cauchy and Schwarz), and on noise
it has the deviation ``s(e_l) / s_l``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.signal
from numpy.typing import NDArray

from napari_pickbias.errors import InputError
from napari_pickbias.matching.bank import TemplateBank

COMPONENT, TEMPLATE, PRODUCT = 1.05, 0.03, 0.006
"""Measured cost (docs/matching.md) of a component's correlation, of a template's maximum, and of one product, in units
of a template's own correlation."""

WORTH_WHILE = 0.85
"""Share of the direct loop's cost above which a group is matched directly."""


@dataclass(frozen=True)
class RotationGroup:
    """Templates of one view in a basis of their own.

    Attributes
    ----------
    first : int
        Number of the first template; the others follow it.
    components : ndarray, shape (r, b, b), float32
        Orthonormal.
    coefficients : ndarray, shape (n, r), float32
        Of each template.
    residuals : ndarray, shape (n, b, b), float32
        Templates less their sums of components.
    """

    first: int
    components: NDArray[np.float32]
    coefficients: NDArray[np.float32]
    residuals: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.coefficients)

    @property
    def rank(self) -> int:
        """Number of components."""
        return len(self.components)


@dataclass(frozen=True)
class RotationBasis:
    """A bank's groups that gain by a basis, and the templates that are matched one by one.

    Attributes
    ----------
    error : float
        Largest norm of a residual, of templates of norm 1.
    groups : tuple of RotationGroup
    direct : ndarray of int
        Numbers of all other templates.
    """

    error: float
    groups: tuple[RotationGroup, ...]
    direct: NDArray[np.int64]


def shared_basis(bank: TemplateBank, error: float) -> RotationBasis:
    """Find a basis for the rotations of each view, wherever that saves time.

    Parameters
    ----------
    bank : TemplateBank
        Templates of one view follow each other.
    error : float
        Largest norm of what a basis leaves out of a template, of templates of norm 1; 0 for no basis at all.

    Raises
    ------
    InputError
        When the error is not in 0 ... 0.5.
    """
    if not 0 <= error <= 0.5:
        raise InputError(f"--rotation-basis {error:g}: must lie in 0 to 0.5")
    groups: list[RotationGroup] = []
    direct: list[NDArray[np.int64]] = []
    edges = np.flatnonzero(np.diff(bank.view)) + 1
    for numbers in np.split(np.arange(len(bank)), edges):
        group = _group(bank.images[numbers], int(numbers[0]), error) if error > 0 and len(numbers) > 3 else None
        if group is None:
            direct.append(numbers)
        else:
            groups.append(group)
    return RotationBasis(error, tuple(groups), np.concatenate([np.zeros(0, np.int64), *direct]))


def _group(images: NDArray[np.float32], first: int, error: float) -> RotationGroup | None:
    """Return the smallest basis of some templates that keeps the error; None where it would not save time."""
    count = len(images)
    flat = images.reshape(count, -1).astype(np.float64)
    values, vectors = np.linalg.eigh(flat @ flat.T)
    values, vectors = np.maximum(values[::-1], 0), vectors[:, ::-1]
    # squared norm of what is left out of each template by 0, 1, ... components
    left = np.cumsum((values * vectors**2)[:, ::-1], axis=1)[:, ::-1].max(axis=0)
    fits = np.flatnonzero(left <= error**2)
    rank = int(fits[0]) if len(fits) else count
    # two components share a transform: one more costs little, unless there is nothing left for it
    rank += rank % 2 if rank < count and values[rank] > 1e-9 * values[0] else 0
    if rank >= count or basis_cost(rank, count) > WORTH_WHILE * count:
        return None
    # in single precision, so that the residuals hold their rounding too
    components = (vectors[:, :rank] / np.sqrt(values[:rank])).T @ flat
    components = components.astype(np.float32)
    coefficients = (flat @ components.T.astype(np.float64)).astype(np.float32)
    residuals = flat - coefficients.astype(np.float64) @ components.astype(np.float64)
    side = images.shape[-1]
    return RotationGroup(
        first, components.reshape(rank, side, side), coefficients, residuals.reshape(images.shape).astype(np.float32)
    )


def basis_cost(rank: int, count: int) -> float:
    """Return the cost of matching ``count`` templates by ``rank`` components, in templates matched one by one."""
    return COMPONENT * rank + count * (TEMPLATE + PRODUCT * rank)


def score_bound(
    basis: RotationBasis,
    mask: NDArray[np.float32],
    noise_sd: NDArray[np.floating] | None = None,
    local_norm: float | None = None,
) -> float:
    """Return how far a score can be from that without a basis, whatever the micrograph shows.

    ``|<e_l, patch>| <= |e_l| |patch|`` for scores that are not divided by a local deviation; where they are,
    ``|e_l / sqrt(w)| sqrt(sum w)``, because the deviation is that of the patch under the mask ``w``.

    Parameters
    ----------
    basis : RotationBasis
    mask : ndarray, shape (b, b)
        Of the bank.
    noise_sd : ndarray, shape (L,), optional
        As :func:`napari_pickbias.matching.score_map` took it.
    local_norm : float, optional
        From :func:`largest_norm`, over the deviation that scores were divided by (1 for ``normalise="none"``). Without
        it the bound is that of ``normalise="local"``.
    """
    weights = np.where(mask > 0, mask, np.inf).astype(np.float64)
    bound = 0.0
    for group in basis.groups:
        left = group.residuals.astype(np.float64)
        if local_norm is None:
            norms = np.sqrt((left**2 / weights).sum(axis=(1, 2)) * mask.sum(dtype=np.float64))
        else:
            norms = np.sqrt((left**2).sum(axis=(1, 2))) * local_norm
        if noise_sd is not None:
            norms = norms / noise_sd[group.first : group.first + len(group)]
        bound = max(bound, float(norms.max()))
    return bound


def score_deviation(
    basis: RotationBasis, bank: TemplateBank, power: NDArray[np.floating], noise_sd: NDArray[np.floating]
) -> float:
    """Return the largest standard deviation, over templates, of what a basis changes in the scores of noise.

    Parameters
    ----------
    basis : RotationBasis
    bank : TemplateBank
        That the basis was made for.
    power : ndarray, shape (n, n // 2 + 1)
        See :meth:`TemplateBank.noise_sd`.
    noise_sd : ndarray, shape (L,)
        Deviation of each template's correlation with such noise.
    """
    largest = 0.0
    for group in basis.groups:
        rows = np.arange(group.first, group.first + len(group))
        left = TemplateBank(group.residuals, bank.mask, bank.view[rows], bank.euler_deg[rows])
        largest = max(largest, float((left.noise_sd(power) / noise_sd[rows]).max()))
    return largest


def largest_norm(image: NDArray[np.float32], mask: NDArray[np.float32]) -> float:
    """Return the largest norm of what a micrograph shows where the mask is not 0, over all places of the mask."""
    seen = (mask > 0).astype(np.float64)[::-1, ::-1]
    squares = scipy.signal.oaconvolve(image.astype(np.float64) ** 2, seen, mode="valid")
    return float(np.sqrt(max(squares.max(), 0.0)))
