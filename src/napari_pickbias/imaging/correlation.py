"""Fourier ring and shell correlations (FRC, FSC) of images and volumes."""

from __future__ import annotations

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from napari_pickbias.imaging.fourier import Floats, hermitian_weights, shell_numbers


def fourier_correlation(first: Floats, second: Floats, dimensions: int = 2) -> NDArray[np.float64]:
    """Correlate two images or volumes shell by shell: the FRC or the FSC.

    Parameters
    ----------
    first, second : ndarray, shape (..., d, h, w) or (..., h, w)
        Real arrays of the same shape.
    dimensions : int
        2 for images, 3 for volumes: the trailing axes that are transformed.

    Returns
    -------
    ndarray, shape (..., n // 2 + 1)
        Correlation in shells 0 ... n // 2, ``n`` the smallest side; shell ``s`` lies at ``s / (n * pixel size)``.
        NaN where one of the two has no power.

    Notes
    -----
    G. Harauz and M. van Heel, Exact filters for general geometry three dimensional reconstruction, 1986.
    """
    shape = first.shape[first.ndim - dimensions :]
    axes = tuple(range(-dimensions, 0))
    a = scipy.fft.rfftn(np.asarray(first, np.float64), axes=axes, workers=1)
    b = scipy.fft.rfftn(np.asarray(second, np.float64), axes=axes, workers=1)
    cross = _shell_sums((a * b.conj()).real, shape)
    power = _shell_sums(np.abs(a) ** 2, shape) * _shell_sums(np.abs(b) ** 2, shape)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(power > 0, cross / np.sqrt(power), np.nan))


def _shell_sums(values: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.float64]:
    numbers = shell_numbers(shape)
    weights = np.broadcast_to(hermitian_weights(shape[-1]), numbers.shape)
    shells = min(shape) // 2 + 1
    inside = numbers < shells
    flat, weight = numbers[inside], weights[inside]
    selected = values.reshape(-1, *numbers.shape)[:, inside]
    sums = np.stack([np.bincount(flat, weight * row, shells) for row in selected])
    return np.asarray(sums.reshape(*values.shape[: values.ndim - len(shape)], shells), np.float64)


def crossing_resolution(correlation: Floats, box_angstrom: float, threshold: float = 0.143) -> float:
    """Return the resolution in Å at which a correlation curve first falls below ``threshold``.

    Parameters
    ----------
    correlation : ndarray, shape (shells,)
        By shell, from :func:`fourier_correlation`; shell 0 is not looked at.
    box_angstrom : float
        Side of the box, Å: shell ``s`` is at ``box_angstrom / s``.
    threshold : float
        0.143 between independent half maps, 0.5 against a known truth.

    Returns
    -------
    float
        Linear between shells; the last shell's resolution if the curve never falls below, infinity if it starts below.
    """
    values = np.asarray(correlation, np.float64)
    below = np.flatnonzero(~(values[1:] >= threshold))
    if below.size == 0:
        return box_angstrom / (len(values) - 1)
    shell = int(below[0]) + 1
    if shell == 1:
        return float("inf")
    before, after = values[shell - 1], values[shell]
    step = (before - threshold) / (before - after) if np.isfinite(after) else 0.0
    return float(box_angstrom / (shell - 1 + step))
