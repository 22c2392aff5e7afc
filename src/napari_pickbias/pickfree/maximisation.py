"""The M-step: the map of highest posterior probability, by conjugate gradients that never see a matrix."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from napari_pickbias.imaging.fourier import shell_average, shell_numbers
from napari_pickbias.imaging.volumes import soft_ball
from napari_pickbias.pickfree.slices import Slices

Array32 = NDArray[np.float32]
MOST_PENALTY = 1e5
"""Weight of the prior over that of the data from which on the map is zero for all purposes."""


class Normal(NamedTuple):
    """One defocus group's part of the normal equations: ``sum_w A_w^T (weights_w * A_w x)``."""

    slices: Slices
    weights: Array32
    """``(K, L, L)``: how often each pixel of each projection was seen."""

    ctf: Array32 | None
    """``(L, L // 2 + 1)`` or None."""


def pixel_weights(weights: Array32, size: int) -> Array32:
    """Return how often each pixel of each projection was seen, ``(K, L, L)``, from weights by shift, ``(K, n_s)``.

    A shift that shows rows ``top ... bottom`` counts for these: a product with a 0/1 matrix along each axis.
    """
    side = 2 * size - 1
    moved = np.arange(size)[:, None] + (np.arange(side) - (size - 1))[None, :]
    inside = ((moved >= 0) & (moved < size)).astype(np.float32)
    return np.asarray(inside @ weights.reshape(-1, side, side) @ inside.T, np.float32)


def shell_power(volume: Array32) -> NDArray[np.float64]:
    """Return the mean power of the unnormalised transform in shells ``0 ... L // 2``."""
    spectrum = scipy.fft.rfftn(volume.astype(np.float64), workers=1)
    return shell_average(np.abs(spectrum) ** 2, volume.shape)


def own_prior(volume: Array32, knee: float = 2.0) -> NDArray[np.float64]:
    """Return prior powers by shell that follow the map's own: flat up to shell ``knee``, then falling as its square.

    The level is the map's mean power in shells 1 and 2: on pure noise prior and map shrink together, to nothing.
    """
    power = shell_power(volume)
    level = max(float(power[1 : min(3, len(power))].mean()), 1e-30)
    shells = np.maximum(np.arange(len(power)), 1e-9)
    return np.asarray(level * np.minimum(1, (knee / shells) ** 2))


def solve_map(
    parts: Sequence[Normal],
    right: Array32,
    prior: NDArray[np.float64],
    noise_variance: float,
    start: Array32,
    *,
    steps: int = 12,
    band: int | None = None,
) -> Array32:
    """Return the solution of ``(sum_g H_g + s2 F* diag(1 / prior) F) x = right`` within the ball of radius ``L // 2``.

    Parameters
    ----------
    parts : sequence of Normal
        One for each defocus group.
    right : ndarray, shape (L, L, L)
        Back-projection of the posterior sums.
    prior : ndarray, shape (L // 2 + 1,)
        Expected power of the unnormalised transform, by shell; that of the last shell holds beyond it.
    noise_variance : float
    start : ndarray, shape (L, L, L)
        Where the iteration starts: the map before.
    steps : int
        Conjugate-gradient steps, at most; each lowers the objective, so a few are a step of generalised EM.
    band : int or None
        Last shell that may be filled (frequency marching); all by default.
    """
    size = right.shape[0]
    ball = soft_ball(size, size // 2)
    shells = np.minimum(shell_numbers(right.shape), len(prior) - 1)
    # A map that has all but vanished must not make numbers that single precision cannot hold.
    seen = sum(float(part.weights.mean(dtype=np.float64)) * part.slices.count for part in parts)
    most = MOST_PENALTY * max(seen, 1.0)
    penalty = np.minimum(noise_variance * size**3 / np.maximum(prior, 1e-30), most)[shells].astype(np.float32)
    passed = None if band is None else (shell_numbers(right.shape) <= band).astype(np.float32)

    def within(volume: Array32) -> Array32:
        if passed is None:
            return volume * ball
        # a projection that is symmetric (band and ball do not commute): ball, band, ball
        spectrum = scipy.fft.rfftn(volume * ball, workers=1) * passed
        return np.asarray(scipy.fft.irfftn(spectrum, s=right.shape, workers=1) * ball, np.float32)

    def operator(volume: Array32) -> Array32:
        inner = within(volume)
        spectrum = scipy.fft.rfftn(inner, workers=1)
        result = np.asarray(scipy.fft.irfftn(spectrum * penalty, s=right.shape, workers=1), np.float32)
        for part in parts:
            result += part.slices.backproject(part.slices.project(inner, part.ctf) * part.weights, part.ctf)
        return within(result)

    first = start * ball
    solution = conjugate_gradients(operator, within(right), first, steps)
    return within(solution)


def conjugate_gradients(operator: Callable[[Array32], Array32], right: Array32, start: Array32, steps: int) -> Array32:
    """Return an approximate solution of a symmetric positive system; stops early at a residual of 1e-4."""
    solution = start.copy()
    residual = right - operator(solution)
    direction, square = residual.copy(), float(np.vdot(residual, residual))
    goal = 1e-8 * max(float(np.vdot(right, right)), 1e-30)
    for _ in range(steps):
        if square <= goal:
            break
        image = operator(direction)
        curvature = float(np.vdot(direction, image))
        if curvature <= 0:
            break
        length = np.float32(square / curvature)
        solution += length * direction
        residual -= length * image
        previous, square = square, float(np.vdot(residual, residual))
        direction = residual + np.float32(square / previous) * direction
    return solution
