"""What one micrograph's picks say in three dimensions: back-projections of their patches at the matched angles.

The removal of :mod:`napari_pickbias.bias.span` is made on patches; back-projection is linear, so it carries over: where
every patch's rest is independent of all scores, so is any map made of them. Sums of micrographs add; curves and maps
come from the totals (:mod:`napari_pickbias.bias.volume_diagnosis`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_pickbias.bias.averages import cut_patches, filter_images
from napari_pickbias.bias.evidence import PER_SURROGATE, Frame
from napari_pickbias.bias.reconstruction import add_patches, coverage
from napari_pickbias.bias.span import Removal, removal, whitening_filter, whitening_on
from napari_pickbias.bias.summed import Summed
from napari_pickbias.imaging.fourier import apply_filter, fourier_crop
from napari_pickbias.imaging.rotations import matrices_from_euler
from napari_pickbias.matching.noise_model import NoiseModel, surrogate, template_sd
from napari_pickbias.matching.peaks import find_peaks
from napari_pickbias.matching.preprocess import Prepared
from napari_pickbias.matching.scores import score_map

GROUPS = 8
"""Parts of each half, for the intervals of figures that are no averages."""


@dataclass
class VolumeSums(Summed):
    """Back-projections; 2 halves, ``G`` groups a half, ``T`` noise micrographs, ``R`` free nulls, ``n`` voxels a side.

    Attributes
    ----------
    counts : (2,)
    raw : (2, G, n, n, n)
        Of patches as they are.
    plain, removed : (2, n, n, n)
        Of whitened patches, and of these with the bias removed.
    kernel : (2, 2 n, 2 n, 2 n)
        Their coverage.
    twin_counts : (T, 2), twin_raw : (T, 2, G, n, n, n), twin_plain, twin_removed : (T, 2, n, n, n)
        Picks of noise micrographs that went through the whole pipeline.
    twin_kernel : (T, 2, 2 n, 2 n, 2 n)
    null_removed : (R, 2, n, n, n)
        Random places of noise with the labels and halves of the picks: their coverage is that of the picks.
    sharp_plain, sharp_removed : (n, n, n)
        Whitened unfiltered templates at the labels of the picks.
    template : (n, n, n)
        Templates as they are scored, at the labels of the picks.
    """

    counts: NDArray[np.int64]
    raw: NDArray[np.float32]
    plain: NDArray[np.float64]
    removed: NDArray[np.float64]
    kernel: NDArray[np.float64]
    twin_counts: NDArray[np.int64]
    twin_raw: NDArray[np.float32]
    twin_plain: NDArray[np.float64]
    twin_removed: NDArray[np.float64]
    twin_kernel: NDArray[np.float64]
    null_removed: NDArray[np.float64]
    sharp_plain: NDArray[np.float64]
    sharp_removed: NDArray[np.float64]
    template: NDArray[np.float64]


class Treated(NamedTuple):
    """How patches of one micrograph are treated."""

    step: Removal
    whitening: NDArray[np.float32]
    """On the half-spectrum of the micrograph."""
    small: NDArray[np.float64]
    """The same on the noise spectrum's grid."""
    size: int
    """Side of the patches that are back-projected."""
    transfer: NDArray[np.float64] | None
    """CTF on them."""


def volume_size(frame: Frame) -> int:
    """Return the side of the maps: the box, binned to the finest shell that is looked at and two more."""
    return int(min(frame.box, max(2 * (frame.bands.beyond.last + 2), 16)))


def treatment(
    noise: NoiseModel, shape: tuple[int, int], frame: Frame, transfer: NDArray[np.float64] | None = None
) -> Treated:
    """Prepare the treatment of the patches of one micrograph of ``shape``; ``transfer`` is its CTF on the patches."""
    power = noise.power if noise.method == "auto" else noise.tile_power
    band = {"finest": frame.finest, "coarsest": frame.coarsest}
    small = whitening_filter(power, frame.pixel_size, **band)
    whole = whitening_on(power, shape, frame.pixel_size, **band).astype(np.float32)
    return Treated(removal(frame.basis, power, small), whole, small, volume_size(frame), transfer)


class Patches(NamedTuple):
    """Patches at picks, binned: as they are, whitened, and with the bias removed; each ``(m, n, n)``."""

    raw: NDArray[np.float32]
    plain: NDArray[np.float32]
    removed: NDArray[np.float32]
    label: NDArray[np.int64]
    """``(m,)`` template."""
    half: NDArray[np.int64]
    """``(m,)`` random half; zeros before one is drawn."""


def patches_at(image: NDArray[np.float32], picks: NDArray[np.void], treated: Treated, frame: Frame) -> Patches:
    """Cut the patches of an image at a table of picks (``y``, ``x`` on its pixels), and treat them."""
    places = np.column_stack([picks["y"], picks["x"]]).astype(np.float64)
    white = cut_patches(np.asarray(apply_filter(image, treated.whitening), np.float32), places, frame.box)
    raw = cut_patches(image, places, frame.box)
    left = treated.step.apply(white, raw)
    label = picks["template"].astype(np.int64)
    size = treated.size
    return Patches(_binned(raw, size), _binned(white, size), _binned(left, size), label, np.zeros_like(label))


def _binned(patches: NDArray[np.floating], size: int) -> NDArray[np.float32]:
    if not len(patches):
        return np.zeros((0, size, size), np.float32)
    return np.asarray(fourier_crop(np.asarray(patches, np.float32), size), np.float32)


def micrograph_volumes(
    prepared: Prepared,
    noise: NoiseModel,
    picks: NDArray[np.void],
    frame: Frame,
    sharp: NDArray[np.floating],
    rng: np.random.Generator,
    *,
    transfer: NDArray[np.float64] | None = None,
    repeats: int = 16,
    twins: int = 2,
    threads: int | None = None,
) -> tuple[VolumeSums, Patches, Patches]:
    """Back-project the picks of one micrograph, and of noise like it.

    Parameters
    ----------
    prepared : Prepared
        The micrograph on the matched pixels.
    noise : NoiseModel
    picks : ndarray of (y, x, score, template)
        On the matched pixels.
    frame : Frame
    sharp : ndarray, shape (L, box, box)
        The unfiltered bank.
    rng : numpy.random.Generator
        For halves, surrogates and random places.
    transfer : ndarray, shape (n, n // 2 + 1), or None
        CTF on patches of :func:`volume_size`.
    repeats, twins : int
        Free nulls, and noise micrographs that go through the whole pipeline.
    threads : int, optional
        For matching these.

    Returns
    -------
    sums : VolumeSums
    picked, twin : Patches
        Of the picks, and of the first noise micrograph's.
    """
    shape = (prepared.image.shape[0], prepared.image.shape[1])
    treated = treatment(noise, shape, frame, transfer)
    labels = picks["template"].astype(np.int64)
    rotations = matrices_from_euler(frame.bank.euler_deg)
    picked = patches_at(prepared.image, picks, treated, frame)
    whole = [back_projected(picked, rotations[labels], rng, treated)]
    first: Patches | None = None
    for _ in range(max(twins, 1)):
        image = surrogate(noise, shape, rng)
        table = pick_noise(image, prepared, noise, len(picks), frame, threads)
        found = patches_at(image, table, treated, frame)
        first = first or found
        whole.append(back_projected(found, rotations[table["template"]], rng, treated))
    assert first is not None
    used, counts = np.unique(labels, return_counts=True)
    unfiltered = np.asarray(sharp)[used]
    plain_sharp = filter_images(unfiltered, treated.small, treated.small.shape[0])
    expected = [
        _added(_binned(each, treated.size) * counts[:, None, None], rotations[used], treated)
        for each in (plain_sharp, treated.step.apply(plain_sharp, unfiltered), frame.bank.images[used])
    ]
    own, noises = whole[0], whole[1:]
    sums = VolumeSums(
        counts=own.counts,
        raw=own.raw,
        plain=own.plain,
        removed=own.removed,
        kernel=own.kernel,
        twin_counts=np.stack([one.counts for one in noises]),
        twin_raw=np.stack([one.raw for one in noises]),
        twin_plain=np.stack([one.plain for one in noises]),
        twin_removed=np.stack([one.removed for one in noises]),
        twin_kernel=np.stack([one.kernel for one in noises]),
        null_removed=_free_nulls(prepared, noise, rotations[labels], own.half, treated, frame, rng, repeats),
        sharp_plain=expected[0],
        sharp_removed=expected[1],
        template=expected[2],
    )
    return sums, picked._replace(half=own.half), first._replace(half=noises[0].half)


class Whole(NamedTuple):
    """All back-projections of one set of patches; names and shapes as in :class:`VolumeSums`."""

    half: NDArray[np.int64]
    counts: NDArray[np.int64]
    raw: NDArray[np.float32]
    plain: NDArray[np.float64]
    removed: NDArray[np.float64]
    kernel: NDArray[np.float64]


def back_projected(
    patches: Patches, rotations: NDArray[np.float64], rng: np.random.Generator, treated: Treated
) -> Whole:
    """Back-project patches in random halves, and the raw ones in random groups of these."""
    half = np.asarray(rng.permutation(len(rotations)) % 2, np.int64)
    group = rng.integers(0, GROUPS, len(rotations))
    return Whole(
        half,
        np.bincount(half, minlength=2),
        _grouped(patches.raw, rotations, half, group, treated),
        _halves(patches.plain, rotations, half, treated),
        _halves(patches.removed, rotations, half, treated),
        _kernels(rotations, half, treated),
    )


def pick_noise(
    image: NDArray[np.float32],
    prepared: Prepared,
    noise: NoiseModel,
    count: int,
    frame: Frame,
    threads: int | None,
) -> NDArray[np.void]:
    """Pick noise as the micrograph was picked: its highest peaks, as many as the micrograph has picks."""
    power = noise.power if noise.method == "auto" else noise.tile_power
    scores, best = score_map(image, frame.bank, threads, noise_sd=template_sd(frame.bank, power), normalise="none")
    peaks = find_peaks(scores, best, 0.0, frame.min_distance)
    inside = prepared.inside[np.rint(peaks["y"]).astype(int), np.rint(peaks["x"]).astype(int)]
    return np.asarray(peaks[inside][:count])


def random_patches(
    plain: NDArray[np.float32],
    white: NDArray[np.float32],
    inside: NDArray[np.bool_],
    count: int,
    treated: Treated,
    frame: Frame,
    rng: np.random.Generator,
) -> NDArray[np.float32]:
    """Return bias-removed patches at random places of noise (``plain``, and whitened), ``(count, n, n)``."""
    box = frame.box
    bounds = np.array(plain.shape) - box
    allowed = np.argwhere(inside[box // 2 :, box // 2 :][: bounds[0] + 1, : bounds[1] + 1])
    start = allowed[rng.integers(0, len(allowed), count)]
    span = np.arange(box)
    rows, columns = (start[:, 0, None] + span)[:, :, None], (start[:, 1, None] + span)[:, None, :]
    return _binned(treated.step.apply(white[rows, columns], plain[rows, columns]), treated.size)


def _free_nulls(
    prepared: Prepared,
    noise: NoiseModel,
    rotations: NDArray[np.float64],
    half: NDArray[np.int64],
    treated: Treated,
    frame: Frame,
    rng: np.random.Generator,
    repeats: int,
) -> NDArray[np.float64]:
    shape = (prepared.image.shape[0], prepared.image.shape[1])
    sums = np.zeros((repeats, 2, *(treated.size,) * 3))
    plain = white = np.zeros(shape, np.float32)
    for repeat in range(repeats if len(rotations) else 0):
        if repeat % PER_SURROGATE == 0:
            plain = surrogate(noise, shape, rng)
            white = np.asarray(apply_filter(plain, treated.whitening), np.float32)
        patches = random_patches(plain, white, prepared.inside, len(rotations), treated, frame, rng)
        sums[repeat] = _halves(patches, rotations, half, treated)
    return sums


def _halves(
    patches: NDArray[np.float32], rotations: NDArray[np.float64], half: NDArray[np.int64], treated: Treated
) -> NDArray[np.float64]:
    return np.stack([_added(patches[half == k], rotations[half == k], treated) for k in range(2)])


def _grouped(
    patches: NDArray[np.float32],
    rotations: NDArray[np.float64],
    half: NDArray[np.int64],
    group: NDArray[np.int64],
    treated: Treated,
) -> NDArray[np.float32]:
    found = np.zeros((2, GROUPS, *(treated.size,) * 3), np.float32)
    for k in range(2):
        for number in range(GROUPS):
            chosen = (half == k) & (group == number)
            found[k, number] = _added(patches[chosen], rotations[chosen], treated)
    return found


def _added(patches: NDArray[np.float32], rotations: NDArray[np.float64], treated: Treated) -> NDArray[np.float64]:
    if not len(patches):
        return np.zeros((treated.size,) * 3)
    return add_patches(patches, rotations, treated.transfer)


def _kernels(rotations: NDArray[np.float64], half: NDArray[np.int64], treated: Treated) -> NDArray[np.float64]:
    found = np.zeros((2, *(2 * treated.size,) * 3))
    for k in range(2):
        if (half == k).any():
            unique, counts = np.unique(rotations[half == k], axis=0, return_counts=True)
            found[k] = coverage(unique, counts.astype(np.float64), treated.size, treated.transfer)
    return found
