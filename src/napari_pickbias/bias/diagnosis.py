"""From the sums of all micrographs to the figures of the diagnosis."""

from __future__ import annotations

from dataclasses import dataclass

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
    pooled_frc,
    summarise,
)
from napari_pickbias.bias.mixture import correlations
from napari_pickbias.bias.theory import effective_dimension, predicted_correlation
from napari_pickbias.imaging.volumes import distance_grid


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
    counts, plain, removed = sums.counts.sum(axis=0), sums.plain.sum(axis=0), sums.removed.sum(axis=0)
    frc_plain, frc_removed = (_curve(values, counts) for values in (plain, removed))
    nulls = [
        _curve(sums.null_removed[i].sum(axis=0), sums.null_counts[i].sum(axis=0)) for i in range(len(sums.null_counts))
    ]
    low, high = _band_of(np.stack(nulls)) if nulls else (np.full(len(frc_plain), np.nan),) * 2
    twin_spectra, _ = half_spectra(sums.twin_removed, sums.twin_counts)
    whole = counts.sum(axis=0)
    each = np.maximum(whole, 1)[:, None, None]
    twin_each = np.maximum(sums.twin_counts.sum(axis=0), 1)[:, None, None]
    return Diagnosis(
        levels,
        _classes(sums, frame),
        np.arange(len(frc_plain)) / (frame.box * frame.pixel_size),
        frc_plain,
        frc_removed,
        low,
        high,
        _curve(sums.twin_plain, sums.twin_counts),
        _curve(sums.twin_removed, sums.twin_counts),
        band_correlation(twin_spectra[0], twin_spectra[1], frame.bands.inside),
        band_correlation(twin_spectra[0], twin_spectra[1], frame.bands.beyond),
        _agreement(sums.twin_removed, sums.twin_counts, sharp, beyond),
        sums.raw / each,
        sums.twin_raw / twin_each,
        sums.predicted / each,
        removed.sum(axis=0) / each,
        sums.twin_removed.sum(axis=0) / twin_each,
        frame.sharp,
    )


def _level(sums: Sums, frame: Frame, number: int, sharp: NDArray[np.complex128], beyond: Band) -> Level:
    counts, removed = sums.counts[number:].sum(axis=0), sums.removed[number:].sum(axis=0)
    spectra, used = half_spectra(removed, counts)
    plain, _ = half_spectra(sums.plain[number:].sum(axis=0), counts)
    inside, outside, match = [], [], []
    for null_counts, null_removed in zip(sums.null_counts, sums.null_removed, strict=True):
        level_counts, level_sums = null_counts[number:].sum(axis=0), null_removed[number:].sum(axis=0)
        null, _ = half_spectra(level_sums, level_counts)
        inside.append(band_correlation(null[0], null[1], frame.bands.inside))
        outside.append(band_correlation(null[0], null[1], frame.bands.beyond))
        match.append(_agreement(level_sums, level_counts, sharp, beyond))
    return Level(
        frame.edges[number],
        int(counts.sum()),
        int(used.sum()),
        (
            band_correlation(plain[0], plain[1], frame.bands.inside),
            band_correlation(plain[0], plain[1], frame.bands.beyond),
        ),
        summarise(band_correlation(spectra[0], spectra[1], frame.bands.inside), np.array(inside)),
        summarise(band_correlation(spectra[0], spectra[1], frame.bands.beyond), np.array(outside)),
        summarise(_agreement(removed, counts, sharp, beyond), np.array(match)),
    )


def _agreement(
    halves: NDArray[np.floating], counts: NDArray[np.integer], sharp: NDArray[np.complex128], band: Band
) -> float:
    """Correlate whole averages with the equally treated unfiltered template, views pooled."""
    spectra, used = half_spectra(halves.sum(axis=0)[None], counts.sum(axis=0)[None])
    weight = np.sqrt(counts.sum(axis=0)[used])[:, None, None]
    return band_correlation(spectra[0], sharp[used] * weight, band)


def _curve(halves: NDArray[np.floating], counts: NDArray[np.integer]) -> NDArray[np.float64]:
    spectra, _ = half_spectra(halves, counts)
    return pooled_frc(spectra[0], spectra[1])


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
    plain, removed = sums.plain.sum(axis=0), sums.removed.sum(axis=0)
    nulls = sums.null_removed.sum(axis=1)
    null_counts = sums.null_counts.sum(axis=1)
    mean_score = _mean_score(sums)
    found = []
    for view in range(frame.turns.views):
        one = counts[:, view : view + 1]
        template = frame.bank.images[np.flatnonzero(frame.turns.view == view)[0]][disc].astype(np.float64)
        expected = float("nan")
        if whole[view]:
            dimension = effective_dimension(template, covariance)
            expected = float(predicted_correlation(mean_score, dimension, int(whole[view])))
        null = [
            _halves_agree(nulls[i][:, view : view + 1], null_counts[i][:, view : view + 1], frame.bands.beyond)
            for i in range(len(nulls))
        ]
        known = np.array([value for value in null if np.isfinite(value)])
        ends = np.quantile(known, [0.025, 0.975]) if len(known) > 1 else np.full(2, np.nan)
        correlation = correlations(sums.raw[view][disc][None], sums.predicted[view][disc][None])[0, 0]
        found.append(
            ClassAverage(
                view,
                int(whole[view]),
                float(correlation) if whole[view] else float("nan"),
                expected,
                _halves_agree(plain[:, view : view + 1], one, frame.bands.inside),
                _halves_agree(removed[:, view : view + 1], one, frame.bands.beyond),
                (float(ends[0]), float(ends[1])),
            )
        )
    return tuple(found)


def _halves_agree(halves: NDArray[np.floating], counts: NDArray[np.integer], band: Band) -> float:
    spectra, _ = half_spectra(halves, counts)
    return band_correlation(spectra[0], spectra[1], band)


def _mean_score(sums: Sums) -> float:
    """Return the mean score of the picks: predicted averages hold it in their size."""
    return float(sums.score_sum / max(int(sums.counts.sum()), 1))


def _covariance(power: NDArray[np.float64], disc: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the covariance of the noise of all pairs of pixels of a disc."""
    size = power.shape[0]
    lags = scipy.fft.irfft2(power, s=(size, size), workers=1)
    rows, columns = np.nonzero(disc)
    return np.asarray(lags[(rows[:, None] - rows) % size, (columns[:, None] - columns) % size])
