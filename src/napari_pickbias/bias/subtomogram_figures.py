"""From the sums of all tomograms to the figures of the diagnosis in three dimensions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_pickbias.bias.frc import Band, Null, split_band, split_frc, summarise
from napari_pickbias.bias.subtomogram_span import span_ball
from napari_pickbias.bias.subtomograms import (
    VolumeFrame,
    VolumeSums,
    masked_volumes,
    shell_power,
    shell_products,
)
from napari_pickbias.bias.theory import predicted_correlation
from napari_pickbias.imaging.fourier import Floats, hermitian_weights

FEWEST = 8
"""Picks that each half needs."""
Products = tuple[NDArray[np.float64], NDArray[np.float64]]


@dataclass(frozen=True)
class VolumeDiagnosis:
    """All figures and pictures.

    Attributes
    ----------
    picks, twin_picks : int
    inside, beyond : Null
        Agreement of bias-removed half averages in the template's band and beyond it, beside that of random places.
    plain : (float, float)
        Agreement of plain half averages in the band and beyond it.
    agreement : Null
        Of the bias-removed average with the equally treated unfiltered template, beyond the band.
    twin_inside, twin_beyond, twin_agreement, twin_plain : float, (float, float)
        Of picks of noise, which went through the whole pipeline.
    correlation, twin_correlation : float
        Of the average as it is with what picking alone puts into it.
    predicted_correlation : float
        What that is on average where all picks are noise, at this number of them.
    frequency : ndarray, shape (s,)
        1/Å of each shell.
    fsc_plain, fsc_removed, null_low, null_high, twin_fsc_plain, twin_fsc_removed : ndarray, shape (s,)
    average, twin_average, predicted, removed, twin_removed, sharp : ndarray, shape (b, b, b)
    halves : ndarray, shape (2, b, b, b)
        Bias-removed averages of one random split.
    """

    picks: int
    twin_picks: int
    inside: Null
    beyond: Null
    plain: tuple[float, float]
    agreement: Null
    twin_inside: float
    twin_beyond: float
    twin_agreement: float
    twin_plain: tuple[float, float]
    correlation: float
    twin_correlation: float
    predicted_correlation: float
    frequency: NDArray[np.float64]
    fsc_plain: NDArray[np.float64]
    fsc_removed: NDArray[np.float64]
    null_low: NDArray[np.float64]
    null_high: NDArray[np.float64]
    twin_fsc_plain: NDArray[np.float64]
    twin_fsc_removed: NDArray[np.float64]
    average: NDArray[np.float64]
    twin_average: NDArray[np.float64]
    predicted: NDArray[np.float64]
    removed: NDArray[np.float64]
    twin_removed: NDArray[np.float64]
    sharp: NDArray[np.float64]
    halves: NDArray[np.float64]


def diagnose_volumes(sums: VolumeSums, frame: VolumeFrame) -> VolumeDiagnosis:
    """Return all figures and pictures of a diagnosis.

    Parameters
    ----------
    sums : VolumeSums
        Over all tomograms.
    frame : VolumeFrame
    """
    count, twin_count = int(sums.counts.sum()), int(sums.twin_counts.sum())
    bands, removed, twin_removed = frame.bands, sums.removed.sum(axis=0), sums.twin_removed.sum(axis=0)
    own = half_products(removed, sums.removed_power, count)
    plain = half_products(sums.plain.sum(axis=0), sums.plain_power, count)
    nulls = [
        half_products(*each) for each in zip(sums.null_removed, sums.null_power, sums.null_count.tolist(), strict=True)
    ]
    twin = half_products(twin_removed, sums.twin_removed_power, twin_count)
    twin_plain = half_products(sums.twin_plain.sum(axis=0), sums.twin_plain_power, twin_count)
    inside, beyond = (
        summarise(split_band(*own, band), np.array([split_band(*null, band) for null in nulls]))
        for band in (bands.inside, bands.beyond)
    )
    match = [agreement(null, sums.sharp_removed, bands.beyond) for null in sums.null_removed]
    curves = np.nan_to_num(np.stack([split_frc(*null) for null in nulls]))
    low, high = np.quantile(curves, [0.025, 0.975], axis=0)
    each, twin_each = max(count, 1), max(twin_count, 1)
    return VolumeDiagnosis(
        count,
        twin_count,
        inside,
        beyond,
        (split_band(*plain, bands.inside), split_band(*plain, bands.beyond)),
        summarise(agreement(removed, sums.sharp_removed, bands.beyond), np.array(match)),
        split_band(*twin, bands.inside),
        split_band(*twin, bands.beyond),
        agreement(twin_removed, sums.sharp_removed, bands.beyond),
        (split_band(*twin_plain, bands.inside), split_band(*twin_plain, bands.beyond)),
        within_ball(sums.raw, sums.predicted),
        within_ball(sums.twin_raw, sums.twin_predicted),
        _prediction(sums, frame, count),
        np.arange(frame.box // 2 + 1) / (frame.box * frame.voxel_size),
        split_frc(*plain),
        split_frc(*own),
        low,
        high,
        split_frc(*twin_plain),
        split_frc(*twin),
        sums.raw / each,
        sums.twin_raw / twin_each,
        sums.predicted / each,
        removed / each,
        twin_removed / twin_each,
        sums.sharp_removed / each,
        sums.removed / np.maximum(sums.counts, 1)[:, None, None, None],
    )


def half_products(total: Floats, power: Floats, count: int) -> Products:
    """Return what two half averages have in common and what each holds, on average over all splits into halves.

    The three-dimensional form of :func:`napari_pickbias.bias.frc.split_products`, where the derivation stands.

    Parameters
    ----------
    total : ndarray, shape (b, b, b)
        Sum of aligned sub-tomograms.
    power : ndarray, shape (b // 2 + 1,)
        Sum of their powers, from :func:`napari_pickbias.bias.subtomograms.shell_power`.
    count : int
        Their number; below 16 nothing is returned but zeros.
    """
    if count < 2 * FEWEST:
        return np.zeros(len(power)), np.zeros(len(power))
    own = np.asarray(power, np.float64)
    pairs = shell_power(np.asarray(total, np.float64)[None])[0] - own
    cross = pairs / (2 * (count - 1))
    return cross, own / count + (count - 2) / (2 * count * (count - 1)) * pairs


def agreement(total: Floats, sharp: Floats, band: Band) -> float:
    """Correlate an average with the unfiltered template over a band; NaN where there is nothing."""
    first, second = (masked_volumes(np.asarray(each, np.float64)[None]) for each in (total, sharp))
    part = slice(band.first, band.last + 1)
    cross, one, two = (
        float(shell_products(*pair)[0, part].sum()) for pair in ((first, second), (first, first), (second, second))
    )
    return cross / np.sqrt(one * two) if one * two > 0 else float("nan")


def within_ball(first: Floats, second: Floats) -> float:
    """Return the correlation of two cubes over the ball in them; NaN where one is constant."""
    inside = span_ball(first.shape[0])
    a, b = (np.asarray(each, np.float64)[inside] - each[inside].mean() for each in (first, second))
    norm = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / norm if norm > 0 else float("nan")


def _prediction(sums: VolumeSums, frame: VolumeFrame, count: int) -> float:
    """Return the correlation expected of ``count`` picks of noise with what picking alone puts there.

    Notes
    -----
    ``|mean|^2`` of noise picks against the variance that is left, summed over the ball: the mean of the predicted
    averages' sizes stands for that of every orientation.
    """
    if not count:
        return float("nan")
    inside = span_ball(frame.box)
    size = frame.side
    variance = float((sums.power / count * hermitian_weights(size)).sum() / size**3) * int(inside.sum())
    mean = sums.predicted[inside] / count
    length = float(((mean - mean.mean()) ** 2).sum())
    # in units in which the mean is that of a unit template times the score: predicted_correlation's own
    score = float(sums.score_sum) / count
    dimension = 1 + max(variance - length, 0.0) / length * score**2
    return float(predicted_correlation(score, dimension, count))
