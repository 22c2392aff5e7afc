"""From the sums of all micrographs to the figures of the diagnosis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from napari_pickbias.bias.evidence import Frame, Sums
from napari_pickbias.bias.frc import (
    Band,
    Null,
    band_correlation,
    half_spectra,
    masked_spectra,
    split_band,
    split_frc,
    split_products,
    summarise,
)
from napari_pickbias.bias.mixture import correlations
from napari_pickbias.bias.theory import effective_dimension, predicted_correlation
from napari_pickbias.imaging.volumes import distance_grid

Products = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]
"""Of :func:`napari_pickbias.bias.frc.split_products`."""


@dataclass(frozen=True)
class Level:
    """The evidence of all picks at or above a score."""

    threshold: float
    picks: int
    views: int
    """Views with enough picks in both halves."""
    plain: tuple[float, float]
    """Agreement of plain half averages in the template's band and beyond it."""
    inside: Null
    beyond: Null
    agreement: Null


@dataclass(frozen=True)
class ClassAverage:
    """One view's average."""

    view: int
    picks: int
    correlation: float
    """Of the average as it is with what picking alone puts into it."""
    predicted_null_correlation: float
    """What that would be if all picks were noise, at this number of them."""
    frc_plain: float
    frc_bias_removed: float
    null_band: tuple[float, float]
    """Of the bias-removed agreement beyond the band, 95 % of free nulls."""


@dataclass(frozen=True)
class Diagnosis:
    """All figures and pictures.

    Attributes
    ----------
    levels : tuple of Level
        For the lower edge of each score bin, rising.
    classes : tuple of ClassAverage
    frequency : ndarray, shape (s,)
        1/Å of each shell.
    frc_plain, frc_removed, null_low, null_high : ndarray, shape (s,)
        Pooled over views; the null band is that of the bias-removed curve, 2.5 to 97.5 %.
    twin_plain, twin_removed : ndarray, shape (s,)
        The same curves of the noise twin.
    twin_inside, twin_beyond, twin_agreement : float
        Of the noise twin after removal: it went through the whole pipeline.
    averages, twin_averages, predicted, removed, twin_removed_averages, sharp : ndarray, shape (V, b, b)
        Plain average, that of noise, what picking alone puts there, both bias-removed, and the unfiltered template.
    """

    levels: tuple[Level, ...]
    classes: tuple[ClassAverage, ...]
    frequency: NDArray[np.float64]
    frc_plain: NDArray[np.float64]
    frc_removed: NDArray[np.float64]
    null_low: NDArray[np.float64]
    null_high: NDArray[np.float64]
    twin_plain: NDArray[np.float64]
    twin_removed: NDArray[np.float64]
    twin_inside: float
    twin_beyond: float
    twin_agreement: float
    averages: NDArray[np.float64]
    twin_averages: NDArray[np.float64]
    predicted: NDArray[np.float64]
    removed: NDArray[np.float64]
    twin_removed_averages: NDArray[np.float64]
    sharp: NDArray[np.float64]


def diagnose(sums: Sums, frame: Frame) -> Diagnosis:
    """Return all figures and pictures of a diagnosis.

    Parameters
    ----------
    sums : Sums
        Over all micrographs.
    frame : Frame
        Of any of them.
    """
    total = max(int(sums.counts.sum()), 1)
    sharp = masked_spectra(sums.sharp_removed / total)
    beyond = Band(frame.bands.beyond.first, min(frame.bands.beyond.last, round(2.25 * frame.bands.inside.last)))
    levels = tuple(_level(sums, frame, number, sharp, beyond) for number in range(len(frame.edges)))
    counts, removed = sums.counts.sum(axis=0), sums.removed.sum(axis=0)
    every = _every(sums)
    curve_plain, curve_removed = split_frc(*every.plain[:2]), split_frc(*every.removed[:2])
    nulls = [split_frc(*null[:2]) for null in every.nulls]
    low, high = _band_of(np.stack(nulls)) if nulls else (np.full(len(curve_plain), np.nan),) * 2
    twin_count = sums.twin_counts.sum(axis=0)
    twin_plain = split_products(sums.twin_plain.sum(axis=0), sums.twin_plain_power, twin_count)
    twin_removed = split_products(sums.twin_removed.sum(axis=0), sums.twin_removed_power, twin_count)
    whole = counts.sum(axis=0)
    each = np.maximum(whole, 1)[:, None, None]
    twin_each = np.maximum(sums.twin_counts.sum(axis=0), 1)[:, None, None]
    return Diagnosis(
        levels,
        _classes(sums, frame),
        np.arange(len(curve_plain)) / (frame.box * frame.pixel_size),
        curve_plain,
        curve_removed,
        low,
        high,
        split_frc(*twin_plain[:2]),
        split_frc(*twin_removed[:2]),
        split_band(*twin_removed[:2], frame.bands.inside),
        split_band(*twin_removed[:2], frame.bands.beyond),
        _agreement(sums.twin_removed, sums.twin_counts, sharp, beyond),
        sums.raw / each,
        sums.twin_raw / twin_each,
        sums.predicted / each,
        removed.sum(axis=0) / each,
        sums.twin_removed.sum(axis=0) / twin_each,
        frame.sharp,
    )


class _Every(NamedTuple):
    """What halves have in common, of all picks at or above a score bin (of one view, where one was asked for)."""

    plain: Products
    removed: Products
    nulls: list[Products]


def _every(sums: Sums, number: int = 0, view: int | None = None) -> _Every:
    chosen = slice(None) if view is None else slice(view, view + 1)

    def products(halves: NDArray[np.floating], power: NDArray[np.floating], counts: NDArray[np.integer]) -> Products:
        return split_products(
            halves[number:, :, chosen].sum(axis=(0, 1)), power[number:, chosen].sum(axis=0),
            counts[number:, :, chosen].sum(axis=(0, 1)),
        )  # fmt: skip

    return _Every(
        products(sums.plain, sums.plain_power, sums.counts),
        products(sums.removed, sums.removed_power, sums.counts),
        [products(*each) for each in zip(sums.null_removed, sums.null_power, sums.null_counts, strict=True)],
    )


def _level(sums: Sums, frame: Frame, number: int, sharp: NDArray[np.complex128], beyond: Band) -> Level:
    counts, removed = sums.counts[number:].sum(axis=0), sums.removed[number:].sum(axis=0)
    every, bands = _every(sums, number), frame.bands
    match = [
        _agreement(null[number:].sum(axis=0), count[number:].sum(axis=0), sharp, beyond)
        for null, count in zip(sums.null_removed, sums.null_counts, strict=True)
    ]
    inside, outside = (
        summarise(split_band(*every.removed[:2], band), np.array([split_band(*null[:2], band) for null in every.nulls]))
        for band in (bands.inside, bands.beyond)
    )
    return Level(
        frame.edges[number],
        int(counts.sum()),
        int(every.removed[2].sum()),
        (split_band(*every.plain[:2], bands.inside), split_band(*every.plain[:2], bands.beyond)),
        inside,
        outside,
        summarise(_agreement(removed, counts, sharp, beyond), np.array(match)),
    )


def _agreement(
    halves: NDArray[np.floating], counts: NDArray[np.integer], sharp: NDArray[np.complex128], band: Band
) -> float:
    """Correlate whole averages with the equally treated unfiltered template, views pooled."""
    spectra, used = half_spectra(halves.sum(axis=0)[None], counts.sum(axis=0)[None])
    weight = np.sqrt(counts.sum(axis=0)[used])[:, None, None]
    return band_correlation(spectra[0], sharp[used] * weight, band)


def _band_of(curves: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if np.isnan(curves).all():
        nothing = np.full(curves.shape[1], np.nan)
        return nothing, nothing
    safe = np.where(np.isfinite(curves), curves, 0.0)
    low, high = np.quantile(safe, [0.025, 0.975], axis=0)
    return np.asarray(low), np.asarray(high)


def _classes(sums: Sums, frame: Frame) -> tuple[ClassAverage, ...]:
    counts = sums.counts.sum(axis=0)
    whole = counts.sum(axis=0)
    total = max(int(whole.sum()), 1)
    disc = distance_grid(frame.box, 2) <= (frame.box - 1) / 2 - 1
    covariance = _covariance(sums.power / total, disc)
    mean_score = _mean_score(sums)
    found = []
    for view in range(frame.turns.views):
        every = _every(sums, view=view)
        template = frame.bank.images[np.flatnonzero(frame.turns.view == view)[0]][disc].astype(np.float64)
        expected = float("nan")
        if whole[view]:
            dimension = effective_dimension(template, covariance)
            expected = float(predicted_correlation(mean_score, dimension, int(whole[view])))
        null = np.array([split_band(*each[:2], frame.bands.beyond) for each in every.nulls])
        known = null[np.isfinite(null)]
        ends = np.quantile(known, [0.025, 0.975]) if len(known) > 1 else np.full(2, np.nan)
        correlation = correlations(sums.raw[view][disc][None], sums.predicted[view][disc][None])[0, 0]
        found.append(
            ClassAverage(
                view,
                int(whole[view]),
                float(correlation) if whole[view] else float("nan"),
                expected,
                split_band(*every.plain[:2], frame.bands.inside),
                split_band(*every.removed[:2], frame.bands.beyond),
                (float(ends[0]), float(ends[1])),
            )
        )
    return tuple(found)


def _mean_score(sums: Sums) -> float:
    """Return the mean score of the picks: predicted averages hold it in their size."""
    return float(sums.score_sum / max(int(sums.counts.sum()), 1))


def _covariance(power: NDArray[np.float64], disc: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the covariance of the noise of all pairs of pixels of a disc."""
    size = power.shape[0]
    lags = scipy.fft.irfft2(power, s=(size, size), workers=1)
    rows, columns = np.nonzero(disc)
    return np.asarray(lags[(rows[:, None] - rows) % size, (columns[:, None] - columns) % size])
