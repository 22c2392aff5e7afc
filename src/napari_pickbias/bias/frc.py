"""Correlations between half averages, pooled over views: what two independent halves of the picks have in common.

Plain averages of picked noise agree as well as those of particles; averages of bias-removed patches
(:mod:`napari_pickbias.bias.span`) do not. The bands are the template's own ("in") and the shells beyond it.

One random split into halves makes the figure scatter by about .02. What two halves have in common on average over *all*
splits follows from the sum of the patches and the sum of their powers alone (:func:`split_products`), so no split is
drawn.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from napari_pickbias.imaging.fourier import Floats, hermitian_weights, shell_numbers
from napari_pickbias.imaging.volumes import soft_ball

FEWEST = 8
"""Picks of a view that each half needs."""


class Band(NamedTuple):
    """Shells of a box, first and last included."""

    first: int
    last: int


class Bands(NamedTuple):
    """The template's own band, and what lies beyond it."""

    inside: Band
    beyond: Band


class Null(NamedTuple):
    """A figure beside its distribution on noise."""

    value: float
    null_mean: float
    null_sd: float

    @property
    def z(self) -> float:
        """Deviations above the mean of noise."""
        return (self.value - self.null_mean) / self.null_sd if self.null_sd > 0 else float("nan")


def choose_bands(box: int, pixel_size: float, lowpass: float, finest: float) -> Bands:
    """Return the bands of a box for templates low-passed at ``lowpass``.

    The template's band ends at the shell nearest to ``lowpass``; the band beyond ends at ``finest`` or at 2.5 times the
    template's band, whichever is coarser. Both in Å.
    """
    cut = max(2, round(box * pixel_size / lowpass))
    last = min(int(box * pixel_size / finest), round(2.5 * cut), box // 2 - 1)
    return Bands(Band(1, cut), Band(cut + 1, max(last, cut)))


def average_mask(box: int) -> NDArray[np.float32]:
    """Return the soft mask of averages: 1 up to 0.64 of the half box, 0 from 0.94 on (10.5 and 15.5 px of 33)."""
    return soft_ball(box, 0.64 * box / 2, 0.3 * box / 2, dimensions=2)


def half_spectra(
    sums: Floats, counts: NDArray[np.integer], fewest: int = FEWEST
) -> tuple[NDArray[np.complex128], NDArray[np.bool_]]:
    """Transform the half sums of the views that have enough picks, each over the root of its count.

    Parameters
    ----------
    sums : ndarray, shape (2, views, box, box)
        Or (1, views, box, box) for whole averages.
    counts : ndarray, shape (2, views)

    Returns
    -------
    spectra : ndarray, shape (2, used, box, box // 2 + 1)
        The mean under the mask is removed before the mask is applied.
    used : ndarray of bool, shape (views,)
    """
    used = np.asarray((counts >= fewest).all(axis=0))
    images = np.asarray(sums, np.float64)[:, used] / np.sqrt(np.maximum(counts[:, used], 1))[:, :, None, None]
    return masked_spectra(images), used


def masked_spectra(images: Floats) -> NDArray[np.complex128]:
    """Return the half-spectra of images whose mean under :func:`average_mask` is removed, under that mask."""
    mask = average_mask(images.shape[-1])
    mean = (images * mask).sum(axis=(-2, -1), keepdims=True) / mask.sum()
    return np.asarray(scipy.fft.rfft2((images - mean) * mask, workers=1))


def pooled_frc(first: NDArray[np.complexfloating], second: NDArray[np.complexfloating]) -> NDArray[np.float64]:
    """Correlate two sets of half-spectra ``(views, n, n // 2 + 1)`` shell by shell, all views pooled.

    Returns
    -------
    ndarray, shape (n // 2 + 1,)
        NaN where there is nothing.
    """
    shells = first.shape[-2] // 2 + 1
    cross, one, two = (_shell_sum(v, shells) for v in _products(first, second))
    power = one * two
    return np.where(power > 0, cross / np.sqrt(np.where(power > 0, power, 1)), np.nan)


def patch_power(patches: Floats) -> NDArray[np.float64]:
    """Return the power of each patch under :func:`average_mask`, ``(n, box // 2 + 1)``, shell by shell."""
    size = patches.shape[-1]
    shells = size // 2 + 1
    power = np.abs(masked_spectra(patches)) ** 2 * hermitian_weights(size)
    return np.asarray(power.reshape(len(patches), size * shells) @ _shells_of(size, shells))


def split_products(
    sums: Floats, power: Floats, counts: NDArray[np.integer], fewest: int = FEWEST
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Return what two half averages have in common, and what each holds, on average over all splits into halves.

    Parameters
    ----------
    sums : ndarray, shape (views, box, box)
        Sums of patches.
    power : ndarray, shape (views, box // 2 + 1)
        Sums of their :func:`patch_power`.
    counts : ndarray, shape (views,)
    fewest : int
        Patches that each half needs.

    Returns
    -------
    cross, auto : ndarray, shape (box // 2 + 1,)
        Summed over the views that have enough; ``cross / auto`` is the pooled FRC.
    used : ndarray of bool, shape (views,)

    Notes
    -----
    Of the ``n (n - 1)`` ordered pairs of different patches, whose products sum to ``|S|^2 - Q`` (``S`` the sum, ``Q``
    the sum of powers), a split puts ``n / 2`` times ``n / 2`` into different halves, each pair as often as any other.
    Over the patches of a half this is ``(|S|^2 - Q) / (2 (n - 1))``; a half's own power is
    ``Q / n + (n - 2) (|S|^2 - Q) / (2 n (n - 1))``.
    """
    size = sums.shape[-1]
    used = np.asarray(counts >= 2 * fewest)
    n = np.asarray(counts, np.float64)[used, None]
    own = np.asarray(power, np.float64)[used]
    pairs = patch_power(np.asarray(sums, np.float64)[used]) - own
    cross = pairs / (2 * (n - 1))
    auto = own / n + (n - 2) / (2 * n * (n - 1)) * pairs
    shells = size // 2 + 1
    return cross.sum(axis=0).reshape(shells), auto.sum(axis=0).reshape(shells), used


def split_frc(cross: NDArray[np.float64], auto: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the pooled FRC of each shell from :func:`split_products`; NaN where there is nothing."""
    return np.where(auto > 0, cross / np.where(auto > 0, auto, 1), np.nan)


def split_band(cross: NDArray[np.float64], auto: NDArray[np.float64], band: Band) -> float:
    """Return the correlation of half averages over a band from :func:`split_products`; NaN where there is nothing."""
    part = slice(band.first, band.last + 1)
    one, two = float(cross[part].sum()), float(auto[part].sum())
    return one / two if two > 0 else float("nan")


def _shells_of(size: int, shells: int) -> NDArray[np.float64]:
    """Return the matrix ``(coefficients, shells)`` that sums a half-spectrum shell by shell."""
    return np.asarray(shell_numbers((size, size)).reshape(-1, 1) == np.arange(shells), np.float64)


def band_correlation(first: NDArray[np.complexfloating], second: NDArray[np.complexfloating], band: Band) -> float:
    """Correlate two sets of half-spectra over all coefficients of a band, views pooled; NaN where there are none."""
    size = first.shape[-2]
    if not len(first) or band.last < band.first:
        return float("nan")
    numbers = shell_numbers((size, size))
    inside = (numbers >= band.first) & (numbers <= band.last)
    cross, one, two = (float(v[inside].sum()) for v in _products(first, second))
    return float(cross / np.sqrt(one * two)) if one * two > 0 else float("nan")


def _products(
    first: NDArray[np.complexfloating], second: NDArray[np.complexfloating]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    weights = hermitian_weights(first.shape[-2])
    cross = np.einsum("vij,vij->ij", first, second.conj()).real * weights
    return cross, (np.abs(first) ** 2).sum(axis=0) * weights, (np.abs(second) ** 2).sum(axis=0) * weights


def _shell_sum(values: NDArray[np.float64], shells: int) -> NDArray[np.float64]:
    numbers = shell_numbers((values.shape[0], values.shape[0]))
    inside = numbers < shells
    return np.asarray(np.bincount(numbers[inside], values[inside], shells))


def reliability(half_correlation: float) -> float:
    """Return ``C = sqrt(2 E / (1 + E))``: how well the whole average correlates with its own limit."""
    if not half_correlation > 0:
        return float("nan")
    return float(np.sqrt(2 * half_correlation / (1 + half_correlation)))


def summarise(value: float, null: Floats) -> Null:
    """Put a figure beside the mean and deviation of its values on noise (NaN left out)."""
    values = np.asarray(null, np.float64)
    values = values[np.isfinite(values)]
    if len(values) < 2:
        return Null(value, float("nan"), float("nan"))
    return Null(value, float(values.mean()), float(values.std(ddof=1)))
