"""What a program that picks takes from pure noise: how many, at which of its own scores, and what they look like.

The program itself is run elsewhere; here are the noise micrographs it is given, and what its picks of them say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import scipy.signal
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.stats import chi2

from napari_pickbias.bias.averages import cut_patches
from napari_pickbias.bias.frc import masked_spectra, pooled_frc
from napari_pickbias.bias.surrogates import whole_surrogate
from napari_pickbias.bias.verdict import Rate, judge
from napari_pickbias.jobs.bias import BiasResult
from napari_pickbias.matching.peaks import PEAK
from napari_pickbias.matching.significance import FreeAreaFdr, free_area_fdr

__all__ = ["OwnNull", "PickerNull", "Taken", "noise_micrograph", "own_null", "picker_null", "taken", "with_picker"]

BINS = 15
"""Bins of that score, of about as many picks each, in which picks and noise are compared."""
DRAWS = 500
"""Bootstrap draws."""
LEVELS = 60
"""Thresholds on the program's own score at which the FDR is given: quantiles of the scores of its picks."""
TRUSTED_SHARE = 0.5
"""From the lowest score above which at most this share is false, picks take their place from false ones."""


class Taken(NamedTuple):
    """Sums of patches in two halves, each patch over the deviation of its micrograph, particles bright."""

    picked: NDArray[np.float64]
    """``(2, b, b)`` at the program's picks of noise."""

    random: NDArray[np.float64]
    """``(2, b, b)`` at as many random places."""

    counts: NDArray[np.int64]
    """``(2,)``."""

    patches: NDArray[np.float32]
    """``(n, b, b)`` of the picks that lie far enough inside."""

    places: NDArray[np.float64]
    """``(n, 2)`` y, x of ``patches`` on the pixels of the diagnosis."""


class OwnNull(NamedTuple):
    """Picks of the data against picks of noise, by the program's own score."""

    observed: int
    expected: float
    """Picks that noise gives in as many micrographs."""

    low: float
    high: float
    """Garwood's 95 % interval of it."""

    rate: Rate
    """Share of all picks that noise gives on the area that no true pick takes."""

    curve: FreeAreaFdr | None
    """Against the program's score; None where it gives none."""


@dataclass(frozen=True)
class PickerNull:
    """All that is known of a program's picks of noise.

    Attributes
    ----------
    command : str
    null : OwnNull
    repeats : int
        Noise images of each micrograph.
    recommended : float or None
        Lowest own score from which on at most the wanted share is false.
    means : dict of ndarray, shape (b, b)
        ``picker``, ``templates``, ``random``: plain mean of patches of noise, nothing aligned.
    frc : dict of ndarray, shape (b // 2 + 1,)
        Of the halves of the same.
    picks : dict of int
        Patches in each.
    pixel_size : float
        Å.
    patches : ndarray, shape (n, b, b)
        The picks of noise, for a noise twin.
    rows : dict of peak tables
        Their places on the pixels of the diagnosis, by micrograph.
    """

    command: str
    null: OwnNull
    repeats: int
    recommended: float | None
    means: dict[str, NDArray[np.float64]]
    frc: dict[str, NDArray[np.float64]]
    picks: dict[str, int]
    pixel_size: float
    patches: NDArray[np.float32]
    rows: dict[str, NDArray[np.void]]


def noise_micrograph(image: NDArray[np.floating], result: BiasResult, number: int, repeat: int) -> NDArray[np.float32]:
    """Draw noise like micrograph ``number``, on the pixels of its file; the same for the same seed.

    Parameters
    ----------
    image : ndarray, shape (h, w)
        The micrograph as it is in its file.
    result : BiasResult
        Knows the noise of each micrograph.
    number, repeat : int
    """
    match = result.candidates.matches[number]
    assert match is not None
    rng = np.random.default_rng([result.parameters.seed, 5, number, repeat])
    return whole_surrogate(image, match.noise, max(float(np.mean(match.ratio)), 1.0), rng)


def taken(
    noise: NDArray[np.floating], places: NDArray[np.floating], result: BiasResult, number: int, repeat: int
) -> Taken:
    """Sum what a program took from a noise micrograph, and the same from random places.

    Parameters
    ----------
    noise : ndarray, shape (h, w)
        Pixels of the file.
    places : ndarray, shape (n, 2)
        x, y in them.
    """
    match = result.candidates.matches[number]
    assert match is not None
    box, border = result.frame.box, int(result.candidates.facts.get("border_px", 0))
    rng = np.random.default_rng([result.parameters.seed, 6, number, repeat])
    small = np.asarray(noise[border : noise.shape[0] - border, border : noise.shape[1] - border], np.float32)
    small = small - small.mean(dtype=np.float64).astype(np.float32)
    for axis in (0, 1):
        side = round(small.shape[axis] / match.ratio[axis])
        if side < small.shape[axis]:
            small = scipy.signal.resample(small, side, axis=axis)
    small = small * np.float32(result.candidates.facts["sign"] / small.std(dtype=np.float64))
    where = (np.asarray(places, np.float64)[:, ::-1] - border) / np.array(match.ratio)
    reach = box / 2
    where = where[((where >= reach) & (where <= np.array(small.shape) - reach)).all(axis=1)]
    anywhere = rng.uniform(reach, np.array(small.shape) - reach, (len(where), 2))
    patches = cut_patches(small, where, box)
    half = rng.permutation(len(where)) % 2
    at_random = cut_patches(small, anywhere, box)
    return Taken(
        np.stack([patches[half == h].sum(axis=0, dtype=np.float64) for h in (0, 1)]),
        np.stack([at_random[half == h].sum(axis=0, dtype=np.float64) for h in (0, 1)]),
        np.bincount(half, minlength=2), patches, where,
    )  # fmt: skip


def own_null(
    real: Sequence[NDArray[np.void]],
    noise: Sequence[Sequence[NDArray[np.void]]],
    min_distance: float,
    rng: np.random.Generator,
) -> OwnNull:
    """Compare a program's picks of micrographs with its picks of noise like them.

    Parameters
    ----------
    real : sequence of peak tables
        One a micrograph; ``score`` is the program's own, or one constant where it gives none.
    noise : sequence of sequences of peak tables
        For each micrograph those of each noise image.
    min_distance : float
        Pixels: nearer to a true pick no false one is counted.
    rng : numpy.random.Generator
        For the interval.
    """
    ours = np.concatenate([table["score"] for table in real])
    theirs = np.concatenate([table["score"] for tables in noise for table in tables])
    repeats = float(np.mean([len(tables) for tables in noise]))
    hits = len(theirs)
    low = chi2.ppf(0.025, 2 * hits) / 2 if hits else 0.0
    expected = (hits / repeats, float(low) / repeats, float(chi2.ppf(0.975, 2 * hits + 2)) / 2 / repeats)
    if not len(ours):
        return OwnNull(0, *expected, Rate(*[float("nan")] * 3), None)
    levels = np.unique(np.quantile(ours, np.linspace(0, 1, LEVELS), method="lower"))
    above = np.array([((ours >= level).sum(), (theirs >= level).sum() / repeats) for level in levels])
    good = above[:, 1] <= TRUSTED_SHARE * above[:, 0]
    trusted = float(levels[np.argmax(good)]) if good.any() else float("inf")
    curve = free_area_fdr(list(real), [list(tables) for tables in noise], levels, min_distance, trusted, rng)
    if len(levels) == 1:
        rate = Rate(*(float(np.clip(values[0], 0, 1)) for values in (curve.fdr, curve.low, curve.high)))
    else:
        rate = _binned_rate(real, noise, levels[:: max(1, len(levels) // BINS)], trusted, min_distance, rng)
    return OwnNull(len(ours), *expected, rate, curve if len(levels) > 1 else None)


def _binned_rate(
    real: Sequence[NDArray[np.void]],
    noise: Sequence[Sequence[NDArray[np.void]]],
    edges: NDArray[np.floating],
    trusted: float,
    distance: float,
    rng: np.random.Generator,
) -> Rate:
    """Return the share of false picks: in each bin of the score as many as noise has there, at most all.

    Noise counts on the area that no higher true pick takes.
    """
    ends = [*edges[1:], np.inf]
    ours = np.stack([np.histogram(table["score"], [*edges, np.inf])[0] for table in real])
    theirs = np.zeros(ours.shape)
    for row, (table, tables) in enumerate(zip(real, noise, strict=True)):
        for column, (low, high) in enumerate(zip(edges, ends, strict=True)):
            taken = table[table["score"] >= max(high, trusted)]
            tree = cKDTree(np.column_stack([taken["y"], taken["x"]])) if len(taken) else None
            for one in tables:
                inside = one[(one["score"] >= low) & (one["score"] < high)]
                if tree is None or not len(inside):
                    theirs[row, column] += len(inside)
                else:
                    nearest, _ = tree.query(np.column_stack([inside["y"], inside["x"]]))
                    theirs[row, column] += int((nearest >= distance).sum())
    repeats = np.array([len(tables) for tables in noise])[:, None]

    def share(picks: NDArray[np.number], false: NDArray[np.number]) -> NDArray[np.float64]:
        both = np.minimum(picks, false).sum(axis=-1)
        return np.asarray(both / np.maximum(picks.sum(axis=-1), 1), np.float64)

    chosen = rng.integers(0, len(real), (DRAWS, len(real)))
    drawn = (rng.poisson(theirs[chosen]) / repeats[chosen]).sum(axis=1)
    low_end, high_end = np.quantile(share(ours[chosen].sum(axis=1), drawn), [0.025, 0.975])
    value = float(share(ours.sum(axis=0), (theirs / repeats).sum(axis=0)))
    return Rate(value, min(float(low_end), value), max(float(high_end), value))


def picker_null(
    command: str,
    result: BiasResult,
    real: Mapping[str, NDArray[np.void]],
    noise: Mapping[str, Sequence[NDArray[np.void]]],
    sums: Sequence[Taken],
    rows: dict[str, NDArray[np.void]],
    repeats: int,
) -> PickerNull:
    """Conclude from a program's picks.

    Parameters
    ----------
    command : str
    result : BiasResult
    real, noise : mapping
        Peak tables of every micrograph that was used, in pixels of its file; see :func:`own_null`.
    sums : sequence of Taken
    rows : dict of peak tables
        Places of ``sums``' patches.
    repeats : int
    """
    names = list(real)
    match = result.candidates.used[0]
    null = own_null(
        [real[name] for name in names], [noise[name] for name in names], match.min_distance_px,
        np.random.default_rng([result.parameters.seed, 7]),
    )  # fmt: skip
    recommended = None
    if null.curve is not None:
        good = np.logical_and.accumulate((null.curve.fdr <= result.parameters.fdr)[::-1])[::-1]
        recommended = float(null.curve.thresholds[np.argmax(good)]) if good.any() else None
    counts = np.sum([one.counts for one in sums], axis=0)
    own = result.twin_patches.astype(np.float64)
    template = np.stack([own[0::2].sum(axis=0), own[1::2].sum(axis=0)])
    kinds = {
        "picker": (np.sum([one.picked for one in sums], axis=0), counts),
        "templates": (template, np.array([(len(own) + 1) // 2, len(own) // 2])),
        "random": (np.sum([one.random for one in sums], axis=0), counts),
    }
    means = {kind: halves.sum(axis=0) / max(int(count.sum()), 1) for kind, (halves, count) in kinds.items()}
    frc = {kind: mean_frc(halves, count) for kind, (halves, count) in kinds.items()}
    return PickerNull(
        command, null, repeats, recommended, means, frc, {kind: int(count.sum()) for kind, (_, count) in kinds.items()},
        result.frame.pixel_size, np.concatenate([one.patches for one in sums]), rows,
    )  # fmt: skip


def mean_frc(halves: NDArray[np.floating], counts: NDArray[np.integer]) -> NDArray[np.float64]:
    """Correlate the means of two halves of patches shell by shell; ``halves`` are sums, ``(2, b, b)``."""
    means = np.asarray(halves, np.float64) / np.maximum(counts, 1)[:, None, None]
    return pooled_frc(masked_spectra(means[:1]), masked_spectra(means[1:]))


def peak_table(places: NDArray[np.floating], scores: NDArray[np.floating] | None) -> NDArray[np.void]:
    """Return x, y and scores as a peak table; without (or with unknown) scores all are 0."""
    table = np.zeros(len(places), PEAK)
    table["x"], table["y"] = np.asarray(places)[:, 0], np.asarray(places)[:, 1]
    if scores is not None:
        table["score"] = np.nan_to_num(np.asarray(scores, np.float64), nan=0.0)
    return table


def with_picker(result: BiasResult, found: PickerNull) -> BiasResult:
    """Return the result with the program's own null in place of the bound that the templates' scores give."""
    first = result.diagnosis.levels[0]
    rate = found.null.rate
    verdict = judge(
        first.picks, rate, first.beyond, first.inside, first.agreement, views=first.views,
        trusted_share=result.calibration.trusted_share,
    )  # fmt: skip
    levels = ((result.levels[0][0], rate, verdict), *result.levels[1:])
    return replace(
        result, rate=rate, verdict=verdict, levels=levels, expected_null_picks=found.null.expected,
        null_interval=(found.null.low, found.null.high),
    )  # fmt: skip
