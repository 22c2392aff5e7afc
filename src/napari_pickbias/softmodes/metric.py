"""The Riesz metric of volumes, and convolutions restricted to a support.

Volumes are vectors of the voxels of a support (mask). The metric weighs frequency ``k`` (cycles per voxel) with
``1 / (2 |k|)``, the mean density of the slices of uniform views: with it, uniform views at known poses have the
information ``J`` in every direction, and ``v W v`` is the mean energy of a volume's projections (sum over pixels).
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from napari_pickbias.imaging.fourier import Floats, radial_frequency

DC_CELL = 2.3801
"""Mean of ``1 / |k|`` over a cubic cell of side 1 about the origin."""


class Convolution(NamedTuple):
    """A symmetric convolution between the voxels of a support, by FFT on a grid of twice the side."""

    symbol: NDArray[np.float64]
    """``(2n, 2n, n + 1)`` real factors of the half-spectrum."""

    support: NDArray[np.bool_]
    """``(n, n, n)``"""

    threads: int = 1
    """Columns done at a time; the result does not depend on it."""

    def __call__(self, vectors: Floats) -> NDArray[np.float64]:
        """Convolve ``(N,)`` or ``(N, k)`` vectors."""
        columns = np.asarray(vectors, np.float64).reshape(len(vectors), -1)
        size = self.support.shape[0]
        result = np.empty(columns.shape)

        def convolve(index: int) -> None:
            padded = np.zeros((2 * size,) * 3)
            padded[:size, :size, :size][self.support] = columns[:, index]
            spectrum = scipy.fft.rfftn(padded, workers=1, overwrite_x=True)
            spectrum *= self.symbol
            full = scipy.fft.irfftn(spectrum, s=(2 * size,) * 3, workers=1, overwrite_x=True)
            result[:, index] = full[:size, :size, :size][self.support]

        for_each(convolve, columns.shape[1], self.threads)
        return result.reshape(vectors.shape)


def for_each(work: Callable[[int], None], count: int, threads: int) -> None:
    """Call ``work(0)`` to ``work(count - 1)``, ``threads`` at a time; each writes its own part of a result."""
    if threads <= 1 or count <= 1:
        for index in range(count):
            work(index)
        return
    with ThreadPoolExecutor(min(threads, count)) as pool:
        for _ in pool.map(work, range(count)):
            pass


def riesz_symbol(size: int) -> NDArray[np.float64]:
    """Return ``1 / (2 |k|)`` on the half-spectrum of a cube of side ``2 size``; its mean over the cell at ``k = 0``."""
    radius = radial_frequency((2 * size,) * 3)
    radius[0, 0, 0] = 1 / (DC_CELL * 2 * size)
    return np.asarray(0.5 / radius)


def riesz_metric(support: NDArray[np.bool_], threads: int = 1) -> Convolution:
    """Return the metric ``W`` of the volumes on ``support``, ``(n, n, n)``."""
    return Convolution(riesz_symbol(support.shape[0]), support, threads)


def riesz_inverse(support: NDArray[np.bool_], threads: int = 1) -> Convolution:
    """Return the filter ``2 |k|``: the inverse of ``W`` but for the support, hence a preconditioner."""
    return Convolution(1 / riesz_symbol(support.shape[0]), support, threads)


def corner_symbol(size: int, coarsest_px: float | None = None) -> NDArray[np.float64]:
    """Return the metric's symbol at and beyond Nyquist, which no slice reaches, and 0 elsewhere.

    Added once for each image it makes those frequencies neutral: eigenvalue 1, neither soft nor stiff. So it does
    with wavelengths above ``coarsest_px`` voxels, on top of what the images tell of them.
    """
    frequency = radial_frequency((2 * size,) * 3)
    neutral = frequency >= 0.5
    if coarsest_px is not None:
        neutral |= frequency < 1 / coarsest_px
    return np.asarray(riesz_symbol(size) * neutral)
