"""What one micrograph's picks say: sums of whitened patches by view, plain and bias-removed, and the same of noise.

Sums of micrographs add; the figures come from the totals (:mod:`napari_pickbias.bias.diagnosis`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_pickbias.bias.averages import Turns, cut_patches, filter_images, make_turns, turned
from napari_pickbias.bias.frc import Bands, choose_bands, patch_power
from napari_pickbias.bias.span import Removal, bank_span, removal, whitening_filter, whitening_on
from napari_pickbias.bias.summed import Summed
from napari_pickbias.imaging.fourier import apply_filter
from napari_pickbias.matching.bank import TemplateBank
from napari_pickbias.matching.noise_model import NoiseModel, surrogate, template_sd
from napari_pickbias.matching.peaks import find_peaks
from napari_pickbias.matching.preprocess import Prepared
from napari_pickbias.matching.scores import score_map

REPEATS = 32
"""Free nulls: patches at random places of noise, with the labels of the picks."""
PER_SURROGATE = 4
"""Free nulls taken from one noise image, each at other places."""
REACH = 0.7
"""Reach of the span in minimum distances between picks."""


@dataclass(frozen=True)
class Frame:
    """What all micrographs of a diagnosis share, on the pixels that are matched.

    Attributes
    ----------
    bank : TemplateBank
        Low-passed templates as they are scored.
    sharp : ndarray, shape (views, box, box)
        Unfiltered templates at in-plane angle 0.
    turns : Turns
    basis : ndarray, shape (k, box * box)
        Of the bank span.
    bands : Bands
    pixel_size : float
        Å.
    finest, coarsest : float
        Band of whitened patches, Å.
    min_distance : float
        Pixels.
    edges : tuple of float
        Lower edges of the score bins, rising; the first is the threshold.
    """

    bank: TemplateBank
    sharp: NDArray[np.float64]
    turns: Turns
    basis: NDArray[np.float64]
    bands: Bands
    pixel_size: float
    finest: float
    coarsest: float
    min_distance: float
    edges: tuple[float, ...]

    @property
    def box(self) -> int:
        """Side of the patches."""
        return self.bank.box_px


def make_frame(
    bank: TemplateBank,
    sharp: NDArray[np.floating],
    pixel_size: float,
    lowpass: float,
    min_distance: float,
    edges: tuple[float, ...],
) -> Frame:
    """Prepare what all micrographs share.

    Parameters
    ----------
    bank : TemplateBank
        On the pixels that are matched.
    sharp : ndarray, shape (views, box, box)
        Unfiltered templates, in rising order of ``bank.view``.
    pixel_size, lowpass : float
        Å.
    min_distance : float
        Pixels.
    edges : tuple of float
        Lower edges of the score bins.
    """
    finest = max(lowpass / 3, 2.2 * pixel_size)
    psi = np.unique(np.round(bank.euler_deg[:, 2] % 360, 4))
    every = max(1, len(psi) // 12)
    chosen = np.isin(np.round(bank.euler_deg[:, 2] % 360, 4), psi[::every])
    basis = bank_span(bank.images[chosen], bank.box_px, REACH * min_distance, step=max(1.0, 0.25 * min_distance))
    return Frame(
        bank, np.asarray(sharp, np.float64), make_turns(bank.view, bank.euler_deg[:, 2], bank.box_px), basis,
        choose_bands(bank.box_px, pixel_size, lowpass, finest), pixel_size, finest, 1.7 * bank.box_px * pixel_size,
        min_distance, edges,
    )  # fmt: skip


@dataclass
class Sums(Summed):
    """Sums over picks; ``B`` score bins, 2 halves, ``V`` views, ``R`` free nulls, ``s`` shells.

    Attributes
    ----------
    counts : (B, 2, V), plain, removed : (B, 2, V, b, b)
        Whitened patches of the picks.
    plain_power, removed_power : (B, V, s)
        The sum of their powers.
    raw, predicted : (V, b, b)
        Patches as they are, and what picking alone puts into them.
    twin_counts : (2, V), twin_plain, twin_removed : (2, V, b, b), twin_raw : (V, b, b)
        Picks of noise, as many as there are real ones.
    twin_plain_power, twin_removed_power : (V, s)
    null_counts : (R, B, 2, V), null_removed : (R, B, 2, V, b, b)
        Random places of noise.
    null_power : (R, B, V, s)
    sharp_removed, sharp_plain : (V, b, b)
        Whitened unfiltered templates, treated like the picks, times the picks.
    power : (n, n // 2 + 1)
        Noise power times the picks.
    score_sum : ()
        Of the picks.
    """

    counts: NDArray[np.int64]
    plain: NDArray[np.float64]
    removed: NDArray[np.float64]
    plain_power: NDArray[np.float64]
    removed_power: NDArray[np.float64]
    raw: NDArray[np.float64]
    predicted: NDArray[np.float64]
    twin_counts: NDArray[np.int64]
    twin_plain: NDArray[np.float64]
    twin_removed: NDArray[np.float64]
    twin_plain_power: NDArray[np.float64]
    twin_removed_power: NDArray[np.float64]
    twin_raw: NDArray[np.float64]
    null_counts: NDArray[np.int64]
    null_removed: NDArray[np.float32]
    null_power: NDArray[np.float32]
    sharp_removed: NDArray[np.float64]
    sharp_plain: NDArray[np.float64]
    power: NDArray[np.float64]
    score_sum: NDArray[np.float64]


@dataclass(frozen=True)
class Twin:
    """The picks of one noise micrograph, ready to be written as a particle stack.

    Attributes
    ----------
    picks : ndarray of (y, x, score, template)
        On the matched pixels.
    patches : ndarray, shape (n, box, box), float32
    image : ndarray, shape (h, w), float32
        The noise micrograph.
    """

    picks: NDArray[np.void]
    patches: NDArray[np.float32]
    image: NDArray[np.float32]


def micrograph_evidence(
    prepared: Prepared,
    noise: NoiseModel,
    picks: NDArray[np.void],
    frame: Frame,
    rng: np.random.Generator,
    *,
    repeats: int = REPEATS,
    threads: int | None = None,
) -> tuple[Sums, Twin]:
    """Gather the evidence of one micrograph.

    Parameters
    ----------
    prepared : Prepared
        The micrograph on the matched pixels.
    noise : NoiseModel
        Its noise.
    picks : ndarray of (y, x, score, template)
        On the matched pixels.
    frame : Frame
    rng : numpy.random.Generator
        For halves, surrogates and random places.
    repeats : int
        Free nulls.
    threads : int, optional
        For matching the noise twin.
    """
    image = prepared.image
    power = noise.power if noise.method == "auto" else noise.tile_power
    size = power.shape[0]
    band = {"finest": frame.finest, "coarsest": frame.coarsest}
    filter_small = whitening_filter(power, frame.pixel_size, **band)
    filter_image = whitening_on(power, (image.shape[0], image.shape[1]), frame.pixel_size, **band)
    step = removal(frame.basis, power, filter_small)
    bins = np.clip(np.searchsorted(frame.edges, picks["score"], side="right") - 1, 0, len(frame.edges) - 1)
    labels = picks["template"].astype(np.int64)

    plain, removed, raw = _patches(image, filter_image.astype(np.float32), picks, labels, step, frame)
    half = _random_halves(len(picks), rng)
    deviations = template_sd(frame.bank, power)
    twin = _noise_twin(prepared, noise, len(picks), deviations, frame, rng, threads)
    twin_labels = twin.picks["template"].astype(np.int64)
    twin_plain, twin_removed, twin_raw = _patches(
        twin.image, filter_image.astype(np.float32), twin.picks, twin_labels, step, frame
    )
    twin_half = _random_halves(len(twin.picks), rng)
    one_bin = np.zeros(len(twin.picks), np.int64)
    null_counts, null_removed, null_power = _free_nulls(
        prepared, noise, bins, labels, step, filter_image.astype(np.float32), frame, rng, repeats
    )
    count = float(len(picks))
    sharp_white = filter_images(frame.sharp, filter_small, size)
    views, twin_views = frame.turns.view[labels], frame.turns.view[twin_labels]
    along = filter_images(frame.bank.images[labels], power, size) * (picks["score"] / deviations[labels])[:, None, None]
    predicted = np.zeros((frame.turns.views, frame.box, frame.box))
    np.add.at(predicted, views, turned(along, labels, frame.turns))
    sums = Sums(
        _counts(bins, half, views, frame),
        _sum(plain, bins, half, views, frame),
        _sum(removed, bins, half, views, frame),
        _power(plain, bins, views, frame),
        _power(removed, bins, views, frame),
        _sum(raw, np.zeros_like(bins), np.zeros_like(half), views, frame)[0, 0],
        predicted,
        _counts(one_bin, twin_half, twin_views, frame)[0],
        _sum(twin_plain, one_bin, twin_half, twin_views, frame)[0],
        _sum(twin_removed, one_bin, twin_half, twin_views, frame)[0],
        _power(twin_plain, one_bin, twin_views, frame)[0],
        _power(twin_removed, one_bin, twin_views, frame)[0],
        _sum(twin_raw, one_bin, np.zeros_like(twin_half), twin_views, frame)[0, 0],
        null_counts,
        null_removed,
        null_power,
        step.apply(sharp_white, frame.sharp) * count,
        sharp_white * count,
        np.array(power) * count,
        np.array(float(picks["score"].sum())),
    )
    return sums, twin


def _patches(
    image: NDArray[np.float32],
    whitening: NDArray[np.float32],
    picks: NDArray[np.void],
    labels: NDArray[np.int64],
    step: Removal,
    frame: Frame,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return whitened, bias-removed and raw patches at picks, all turned back."""
    places = np.column_stack([picks["y"], picks["x"]]).astype(np.float64)
    white = cut_patches(apply_filter(image, whitening), places, frame.box)
    raw = cut_patches(image, places, frame.box)
    left = step.apply(white, raw)
    return (
        turned(white, labels, frame.turns),
        turned(left, labels, frame.turns),
        turned(raw, labels, frame.turns),
    )


def _noise_twin(
    prepared: Prepared,
    noise: NoiseModel,
    count: int,
    deviations: NDArray[np.float64],
    frame: Frame,
    rng: np.random.Generator,
    threads: int | None,
) -> Twin:
    """Pick noise as the micrograph was picked: its highest peaks, as many as the micrograph has picks."""
    image = surrogate(noise, (prepared.image.shape[0], prepared.image.shape[1]), rng)
    scores, best = score_map(image, frame.bank, threads, noise_sd=deviations, normalise="none")
    peaks = find_peaks(scores, best, 0.0, frame.min_distance)
    inside = prepared.inside[np.rint(peaks["y"]).astype(int), np.rint(peaks["x"]).astype(int)]
    peaks = peaks[inside][:count]
    places = np.column_stack([peaks["y"], peaks["x"]]).astype(np.float64)
    return Twin(peaks, cut_patches(image, places, frame.box), image)


def _free_nulls(
    prepared: Prepared,
    noise: NoiseModel,
    bins: NDArray[np.int64],
    labels: NDArray[np.int64],
    step: Removal,
    whitening: NDArray[np.float32],
    frame: Frame,
    rng: np.random.Generator,
    repeats: int,
) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]:
    """Sum bias-removed patches at random places of noise, with the labels and bins of the picks."""
    box, shape = frame.box, (prepared.image.shape[0], prepared.image.shape[1])
    views = frame.turns.view[labels]
    bounds = np.array(shape) - box
    allowed = np.argwhere(prepared.inside[box // 2 :, box // 2 :][: bounds[0] + 1, : bounds[1] + 1])
    counts = np.zeros((repeats, len(frame.edges), 2, frame.turns.views), np.int64)
    sums = np.zeros((*counts.shape, box, box), np.float32)
    power = np.zeros((repeats, len(frame.edges), frame.turns.views, box // 2 + 1), np.float32)
    plain, white = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    span = np.arange(box)
    for repeat in range(repeats if len(labels) and len(allowed) else 0):
        if repeat % PER_SURROGATE == 0:
            plain = surrogate(noise, shape, rng)
            white = np.asarray(apply_filter(plain, whitening), np.float32)
        start = allowed[rng.integers(0, len(allowed), len(labels))]
        rows, columns = (start[:, 0, None] + span)[:, :, None], (start[:, 1, None] + span)[:, None, :]
        left = turned(step.apply(white[rows, columns], plain[rows, columns]), labels, frame.turns)
        half = _random_halves(len(labels), rng)
        counts[repeat] = _counts(bins, half, views, frame)
        sums[repeat] = _sum(left, bins, half, views, frame)
        power[repeat] = _power(left, bins, views, frame)
    return counts, sums, power


def _random_halves(count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    return np.asarray(rng.permutation(count) % 2, np.int64)


def _counts(
    bins: NDArray[np.int64], half: NDArray[np.int64], views: NDArray[np.int64], frame: Frame
) -> NDArray[np.int64]:
    found = np.zeros((len(frame.edges), 2, frame.turns.views), np.int64)
    np.add.at(found, (bins, half, views), 1)
    return found


def _sum(
    patches: NDArray[np.float64],
    bins: NDArray[np.int64],
    half: NDArray[np.int64],
    views: NDArray[np.int64],
    frame: Frame,
) -> NDArray[np.float64]:
    found = np.zeros((len(frame.edges), 2, frame.turns.views, frame.box, frame.box))
    np.add.at(found, (bins, half, views), patches)
    return found


def _power(
    patches: NDArray[np.float64], bins: NDArray[np.int64], views: NDArray[np.int64], frame: Frame
) -> NDArray[np.float64]:
    found = np.zeros((len(frame.edges), frame.turns.views, frame.box // 2 + 1))
    np.add.at(found, (bins, views), patch_power(patches))
    return found
