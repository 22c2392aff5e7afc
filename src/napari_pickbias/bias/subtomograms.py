"""What the picks of one tomogram say: aligned sums of sub-tomograms, plain and bias-removed, and the same of noise.

Sums of tomograms add; the figures come from the totals (:mod:`napari_pickbias.bias.subtomogram_figures`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from scipy.ndimage import affine_transform, spline_filter1d

from napari_pickbias.bias.frc import Bands, choose_bands
from napari_pickbias.bias.subtomogram_span import VolumeRemoval, shift_factor, volume_span, volume_whitening
from napari_pickbias.bias.summed import Summed
from napari_pickbias.imaging.fourier import Floats, hermitian_weights, shell_numbers
from napari_pickbias.imaging.volumes import resize_box, soft_ball
from napari_pickbias.matching.volume_bank import VolumeBank
from napari_pickbias.matching.volume_noise import refined, surrogate_volume

REPEATS, PER_SURROGATE = 32, 4
"""Free nulls, and how many of them are cut from one noise volume."""
NULL_SIDE = 160
"""Noise volumes of free nulls are no larger."""
REACH, SHIFT_STEP = 0.7, 0.3
"""Reach of the span and spacing of its shifts, in minimum distances between picks."""
MARGIN = 8
"""Voxels around a box that are whitened with it."""
AT_A_TIME = 64


@dataclass(frozen=True)
class VolumeFrame:
    """What all tomograms of a diagnosis share, at the voxel size of the search.

    Attributes
    ----------
    bank, sharp : VolumeBank
        Templates as they are scored, and the same without low-pass.
    basis : ndarray, shape (k, b ** 3)
        Of the bank span.
    bands : Bands
    voxel_size, finest, coarsest : float
        Å; the latter two are the band of whitened sub-tomograms.
    """

    bank: VolumeBank
    sharp: VolumeBank
    basis: NDArray[np.float64]
    bands: Bands
    voxel_size: float
    finest: float
    coarsest: float

    @property
    def box(self) -> int:
        """Side of the sub-tomograms."""
        return self.bank.box_px

    @property
    def side(self) -> int:
        """Side of the cubes that are whitened."""
        return int(scipy.fft.next_fast_len(self.box + 2 * MARGIN, real=True))

    def whitening(self, power: Floats, shape: tuple[int, int, int] | None = None) -> NDArray[np.float64]:
        """Return the whitening filter of a tomogram's noise on a grid; default: that of the cubes."""
        return volume_whitening(
            power, shape or (self.side,) * 3, self.voxel_size, finest=self.finest, coarsest=self.coarsest
        )


def make_volume_frame(bank: VolumeBank, sharp: VolumeBank, lowpass: float, min_distance: float) -> VolumeFrame:
    """Prepare what all tomograms share.

    Parameters
    ----------
    bank, sharp : VolumeBank
        With ``voxel_size_angstrom``.
    lowpass : float
        Of ``bank``, Å.
    min_distance : float
        Of two picks, voxels of the search.
    """
    voxel = float(bank.voxel_size_angstrom or 1.0)
    finest = max(lowpass / 3, 2.2 * voxel)
    basis = volume_span(bank, REACH * min_distance, step=max(1.0, SHIFT_STEP * min_distance))
    bands = choose_bands(bank.box_px, voxel, lowpass, finest)
    return VolumeFrame(bank, sharp, basis, bands, voxel, finest, 1.7 * bank.box_px * voxel)


@dataclass
class VolumeSums(Summed):
    """Sums over picks, turned back to the map's pose; 2 halves, ``R`` free nulls, ``s`` shells.

    Attributes
    ----------
    counts : (2,), plain, removed : (2, b, b, b)
        Whitened sub-tomograms of the picks.
    plain_power, removed_power : (s,)
        The sum of their powers.
    raw, predicted : (b, b, b)
        Sub-tomograms as they are, and what picking alone puts into them.
    twin_counts, twin_plain, twin_removed, twin_plain_power, twin_removed_power, twin_raw, twin_predicted
        The same of picks of noise.
    null_count : (R,), null_removed : (R, b, b, b), null_power : (R, s)
        Random places of noise.
    sharp_removed : (b, b, b)
        Whitened unfiltered templates, treated like the picks.
    power : (n, n, n // 2 + 1)
        Noise power times the picks.
    score_sum, twin_score_sum : ()
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
    twin_predicted: NDArray[np.float64]
    null_count: NDArray[np.int64]
    null_removed: NDArray[np.float64]
    null_power: NDArray[np.float64]
    sharp_removed: NDArray[np.float64]
    power: NDArray[np.float64]
    score_sum: NDArray[np.float64]
    twin_score_sum: NDArray[np.float64]


def tomogram_evidence(
    volume: NDArray[np.float32],
    noise: NDArray[np.float32],
    power: NDArray[np.float64],
    picks: NDArray[np.void],
    twin: NDArray[np.void],
    frame: VolumeFrame,
    rng: np.random.Generator,
    *,
    repeats: int = REPEATS,
) -> tuple[VolumeSums, NDArray[np.float32]]:
    """Gather the evidence of one tomogram.

    Parameters
    ----------
    volume, noise : ndarray, shape (d, h, w)
        The tomogram at the voxel size of the search, particles bright, mean 0, and its surrogate; memory-mapped.
    power : ndarray, shape (t, t, t // 2 + 1)
        Of the noise.
    picks, twin : ndarray of (z, y, x, score, template)
        Of the tomogram and of the surrogate, in voxels of the search.
    frame : VolumeFrame
    rng : numpy.random.Generator
        For halves and random places.
    repeats : int
        Free nulls.

    Returns
    -------
    sums : VolumeSums
    cubes : ndarray, shape (m, b, b, b), float32
        Sub-tomograms of the twin, as they are.
    """
    whitening = frame.whitening(power)
    step = VolumeRemoval(frame.basis, power, whitening)
    scale = 1 / float(np.std(volume, dtype=np.float64))
    own = _gathered(volume, scale, picks, step, whitening, frame, rng)
    other = _gathered(noise, 1.0, twin, step, whitening, frame, rng)
    nulls = _free_nulls(noise.shape, power, picks["template"], step, frame, rng, repeats)
    cubes, _ = sub_tomograms(noise, twin, frame, whitening)
    sums = VolumeSums(
        **own._asdict(),
        predicted=_predicted(picks, power, frame),
        **{f"twin_{name}": value for name, value in other._asdict().items()},
        twin_predicted=_predicted(twin, power, frame),
        null_count=nulls[0],
        null_removed=nulls[1],
        null_power=nulls[2],
        sharp_removed=_sharp(picks["template"], step, whitening, frame),
        power=refined(power, (frame.side,) * 3) * len(picks),
        score_sum=np.array(float(picks["score"].sum())),
        twin_score_sum=np.array(float(twin["score"].sum())),
    )
    return sums, cubes


def sub_tomograms(
    volume: Floats, picks: NDArray[np.void], frame: VolumeFrame, whitening: Floats, scale: float = 1.0
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Cut boxes around picks, to a fraction of a voxel, plain and whitened; both ``(m, b, b, b)``.

    What reaches beyond the tomogram is 0, its mean.
    """
    box, side = frame.box, frame.side
    plain = np.empty((len(picks), box, box, box), np.float32)
    white = np.empty_like(plain)
    for number, pick in enumerate(picks):
        place = np.array([pick["z"], pick["y"], pick["x"]], np.float64)
        middle = np.rint(place).astype(int)
        spectrum = scipy.fft.rfftn(cut_cube(volume, middle, side), workers=1)
        spectrum *= scale * shift_factor(middle - place, side)
        for target, factor in ((plain, np.float32(1)), (white, whitening.astype(np.float32))):
            target[number] = resize_box(scipy.fft.irfftn(spectrum * factor, s=(side,) * 3, workers=1), box)
    return plain, white


def cut_cube(volume: Floats, middle: NDArray[np.integer], side: int) -> NDArray[np.float32]:
    """Cut a cube with its origin (voxel ``side // 2``) at ``middle``; 0 beyond the volume."""
    cube = np.zeros((side,) * 3, np.float32)
    source, target = [], []
    for place, length in zip(middle.tolist(), volume.shape, strict=True):
        first = place - side // 2
        low, high = max(first, 0), max(min(first + side, length), 0)
        source.append(slice(low, high))
        target.append(slice(low - first, max(high - first, low - first)))
    cube[tuple(target)] = volume[tuple(source)]
    return cube


def turned_back(cubes: Floats, rotations: Floats) -> NDArray[np.float32]:
    """Turn sub-tomograms from the poses ``R`` of their picks to the map's own, by cubic splines; 0 from outside.

    Parameters
    ----------
    cubes : ndarray, shape (m, b, b, b)
        Axes z, y, x, origin at voxel ``b // 2``.
    rotations : ndarray, shape (m, 3, 3)
        ``R`` turns the map, on ``(x, y, z)``, to its pose in the tomogram.
    """
    filtered = np.asarray(cubes, np.float32)
    for axis in (1, 2, 3):
        filtered = spline_filter1d(filtered, 3, axis, np.float32, mode="mirror")
    origin = np.full(3, cubes.shape[-1] // 2, np.float64)
    out = np.empty(cubes.shape, np.float32)
    for number, rotation in enumerate(rotations):
        # value at v of the map's frame is that at R v of the tomogram's; scipy's axes are z, y, x
        matrix = rotation[::-1, ::-1]
        affine_transform(
            filtered[number], matrix, origin - matrix @ origin, output=out[number], order=3, prefilter=False
        )
    return out


def shell_power(cubes: Floats) -> NDArray[np.float64]:
    """Return the power of each cube under :func:`volume_mask`, ``(m, b // 2 + 1)``, shell by shell."""
    return shell_products(masked_volumes(cubes), masked_volumes(cubes))


def shell_products(first: NDArray[np.complexfloating], second: NDArray[np.complexfloating]) -> NDArray[np.float64]:
    """Return ``sum Re(a conj(b))`` of half-spectra ``(m, b, b, b // 2 + 1)`` for each shell, ``(m, b // 2 + 1)``."""
    size = first.shape[-2]
    products = (first.real * second.real + first.imag * second.imag) * hermitian_weights(size)
    numbers = shell_numbers((size,) * 3).ravel()
    inside = numbers <= size // 2
    flat = products.reshape(len(products), -1)[:, inside]
    return np.stack([np.bincount(numbers[inside], row, size // 2 + 1) for row in flat])


def volume_mask(box: int) -> NDArray[np.float32]:
    """Return the soft mask of averages: 1 up to 0.64 of the half box, 0 from 0.94 on, as in two dimensions."""
    return soft_ball(box, 0.64 * box / 2, 0.3 * box / 2)


def masked_volumes(cubes: Floats) -> NDArray[np.complexfloating]:
    """Return the half-spectra of cubes whose mean under :func:`volume_mask` is removed, under that mask."""
    mask = volume_mask(cubes.shape[-1])
    mean = (cubes * mask).sum(axis=(-3, -2, -1), keepdims=True) / mask.sum()
    return np.asarray(scipy.fft.rfftn((cubes - mean) * mask, axes=(-3, -2, -1), workers=1))


class _Gathered(NamedTuple):
    """The sums of one set of picks; see :class:`VolumeSums`."""

    counts: NDArray[np.int64]
    plain: NDArray[np.float64]
    removed: NDArray[np.float64]
    plain_power: NDArray[np.float64]
    removed_power: NDArray[np.float64]
    raw: NDArray[np.float64]


def _gathered(
    volume: Floats,
    scale: float,
    picks: NDArray[np.void],
    step: VolumeRemoval,
    whitening: Floats,
    frame: VolumeFrame,
    rng: np.random.Generator,
) -> _Gathered:
    """Return counts, sums and powers of the sub-tomograms of picks, a few at a time."""
    box, shells = frame.box, frame.box // 2 + 1
    half = rng.permutation(len(picks)) % 2
    counts = np.bincount(half, minlength=2)
    plain, removed = np.zeros((2, box, box, box)), np.zeros((2, box, box, box))
    powers = np.zeros((2, shells))
    raw = np.zeros((box,) * 3)
    for first in range(0, len(picks), AT_A_TIME):
        part, which = picks[first : first + AT_A_TIME], half[first : first + AT_A_TIME]
        rotations = frame.bank.rotations[part["template"]]
        cut, white = sub_tomograms(volume, part, frame, whitening, scale)
        raw += turned_back(cut, rotations).sum(axis=0)
        for target, cubes, number in ((plain, white, 0), (removed, step.apply(white, cut), 1)):
            aligned = turned_back(cubes, rotations)
            powers[number] += shell_power(aligned).sum(axis=0)
            for side in (0, 1):
                target[side] += aligned[which == side].sum(axis=0)
    return _Gathered(counts, plain, removed, powers[0], powers[1], raw)


def _free_nulls(
    shape: tuple[int, ...],
    power: Floats,
    labels: NDArray[np.integer],
    step: VolumeRemoval,
    frame: VolumeFrame,
    rng: np.random.Generator,
    repeats: int,
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Sum bias-removed cubes at random places of noise, with the orientations of the picks."""
    box = frame.box
    z, y, x = (min(side, NULL_SIDE) for side in shape)
    noise, white = np.zeros((z, y, x), np.float32), np.zeros((z, y, x), np.float32)
    filtered = frame.whitening(power, (z, y, x)).astype(np.float32)
    sums, powers = np.zeros((repeats, box, box, box)), np.zeros((repeats, box // 2 + 1))
    rotations = frame.bank.rotations[labels]
    span = np.arange(box)
    for repeat in range(repeats):
        if repeat % PER_SURROGATE == 0:
            surrogate_volume(power, noise, rng)
            white = scipy.fft.irfftn(scipy.fft.rfftn(noise, workers=1) * filtered, s=noise.shape, workers=1)
        corner = np.column_stack([rng.integers(0, side - box + 1, len(labels)) for side in noise.shape])
        for first in range(0, len(labels), AT_A_TIME):
            rows = slice(first, first + AT_A_TIME)
            begin = corner[rows].T[..., None] + span
            where = (begin[0][:, :, None, None], begin[1][:, None, :, None], begin[2][:, None, None, :])
            aligned = turned_back(step.apply(white[where], noise[where]), rotations[rows])
            sums[repeat] += aligned.sum(axis=0)
            powers[repeat] += shell_power(aligned).sum(axis=0)
    return np.full(repeats, len(labels)), sums, powers


def _predicted(picks: NDArray[np.void], power: Floats, frame: VolumeFrame) -> NDArray[np.float64]:
    """Return the sum of what picking noise puts into sub-tomograms: ``Sigma x`` times ``score / s``, turned back."""
    weights = np.bincount(picks["template"], picks["score"], len(frame.bank))
    return _of_templates(frame.bank, weights, refined(power, (frame.side,) * 3), None, frame)


def _sharp(
    labels: NDArray[np.integer], step: VolumeRemoval, whitening: Floats, frame: VolumeFrame
) -> NDArray[np.float64]:
    """Return the sum of whitened unfiltered templates without their part in the span, turned back."""
    weights = np.bincount(labels, minlength=len(frame.bank)).astype(np.float64)
    return _of_templates(frame.sharp, weights, whitening, step, frame)


def _of_templates(
    bank: VolumeBank,
    weights: NDArray[np.floating | np.integer],
    factor: Floats,
    step: VolumeRemoval | None,
    frame: VolumeFrame,
) -> NDArray[np.float64]:
    """Sum the filtered templates of the orientations that occur, each with its weight.

    Without a removal the factor is a noise spectrum, and each template is divided by its score's deviation.
    """
    side, box = frame.side, frame.box
    total = np.zeros((box,) * 3)
    for number in np.flatnonzero(weights).tolist():
        template = bank.template(number)
        spectrum = scipy.fft.rfftn(resize_box(template, side), workers=1) * factor
        cube = resize_box(scipy.fft.irfftn(spectrum, s=(side,) * 3, workers=1), box)[None]
        weight = float(weights[number])
        if step is None:
            weight /= np.sqrt(float((template * cube[0]).sum()))
        else:
            cube = step.apply(cube, template[None])
        total += weight * turned_back(cube, bank.rotations[[number]])[0]
    return total
