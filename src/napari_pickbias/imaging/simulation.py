"""Particle stacks with known truth: single particles, and the outliers that picking brings along.

:func:`published_stack` repeats the synthetic experiment of the outlier paper as its code runs it.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_pickbias.imaging.fourier import Floats, fourier_crop, hermitian_weights, radial_frequency, shift_images
from napari_pickbias.imaging.noise import COLOURS, gaussian_noise
from napari_pickbias.imaging.projection import FourierVolume, fourier_volume, project
from napari_pickbias.imaging.rotations import random_rotations

KINDS = ("inlier", "multiple", "noise", "partial")
"""Names of the label codes 0 ... 3."""

EXPERIMENT_BOX_PX = 85
"""Box of the published experiment before downsampling."""

BLOCK = 64
"""Images made at a time: bounds memory, and fixes the bits of a result whatever chunks a caller asks for."""


class PublishedStack(NamedTuple):
    """What :func:`published_stack` returns."""

    images: NDArray[np.float32]
    """``(n, d, d)``, inliers first, then multiple, noise, partial."""

    labels: NDArray[np.int8]
    """``(n,)`` index into :data:`KINDS`."""

    snr: dict[str, float]
    """``mean``: the paper's definition; ``power_full`` and ``power``: variance ratios before and after downsampling."""

    noise_std: float
    """Of a pixel, before downsampling."""


def place(images: Floats, shifts_px: Floats) -> Floats:
    """Displace the content of ``(m, n, n)`` images; what leaves is lost and zeros come in.

    The whole part of each displacement (along x and y, px) is a copy, the rest a periodic Fourier shift by at most half
    a pixel. No Fourier shift is made where all displacements are whole.
    """
    shifts = np.asarray(shifts_px, np.float64)
    whole = np.rint(shifts).astype(np.int64)
    rest = shifts - whole
    moved = shift_images(images, rest) if np.any(rest) else images
    size = images.shape[-1]
    result = np.zeros_like(moved)
    for target, source, (dx, dy) in zip(result, moved, whole, strict=True):
        if abs(dx) >= size or abs(dy) >= size:
            continue
        target[max(dy, 0) : size + min(dy, 0), max(dx, 0) : size + min(dx, 0)] = source[
            max(-dy, 0) : size + min(-dy, 0), max(-dx, 0) : size + min(-dx, 0)
        ]
    return result


def _signed_steps(count: int, lowest: int, highest: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw ``(count, 2)`` whole displacements of ``lowest`` ... ``highest`` px with random signs, each axis alone."""
    size = rng.integers(lowest, highest + 1, (count, 2))
    return np.where(rng.random((count, 2)) < 0.5, -1.0, 1.0) * size


def _experiment_views(volume: FourierVolume, count: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Project as the experiment's simulator does: uniform views, Gaussian offsets, uniform amplitudes; sums over n."""
    size = volume.size
    rotations = random_rotations(count, rng)
    offsets = rng.normal(0, size / 16, (count, 2))
    amplitudes = rng.uniform(2 / 3, 3 / 2, count)
    images = np.empty((count, size, size), np.float32)
    for start in range(0, count, BLOCK):
        part = slice(start, start + BLOCK)
        clean = project(volume, rotations[part], shifts_px=offsets[part])
        images[part] = clean * (amplitudes[part, None, None] / size)
    return images


def _experiment_volume(volume: Floats) -> FourierVolume:
    size = volume.shape[0]
    if volume.ndim != 3 or len(set(volume.shape)) != 1 or size > EXPERIMENT_BOX_PX:
        raise ValueError(f"`volume` has shape {volume.shape}; it must be a cube of at most {EXPERIMENT_BOX_PX} voxels")
    before = (EXPERIMENT_BOX_PX - size + 1) // 2 if size % 2 == 0 else (EXPERIMENT_BOX_PX - size) // 2
    padded = np.pad(volume, (before, EXPERIMENT_BOX_PX - size - before), "edge")
    return fourier_volume(np.asarray(padded / padded.max(), np.float32))


def published_stack(
    volume: Floats,
    snr: float,
    rng: np.random.Generator,
    *,
    new_size: int = 33,
    counts: tuple[int, int, int, int] = (1000, 333, 333, 333),
    colour: str = "published",
    snr_definition: Literal["mean", "power"] = "mean",
    two_particles: Literal["mean", "sum"] = "mean",
) -> PublishedStack:
    """Make the stack of the outlier paper's synthetic experiment, as its code does rather than its text.

    Parameters
    ----------
    volume : ndarray, shape (n, n, n)
        Molecule, bright, at most 85 voxels a side: padded to 85 by repeating its edge, then divided by its maximum.
    snr : float
        Signal to noise by ``snr_definition``.
    rng : numpy.random.Generator
        Source of randomness.
    new_size : int
        Side of the images returned, by Fourier crop from 85 px; the paper uses 33 and 55.
    counts : (int, int, int, int)
        Number of images of each of :data:`KINDS`.
    colour : str
        Key of :data:`~napari_pickbias.imaging.noise.COLOURS`. The published figures are reproduced by ``published``
        (white within 0.3 %) alone.
    snr_definition : {'mean', 'power'}
        ``mean``, the code's: mean of the clean inliers over the central 65 px of the 85-px box, divided by the noise's
        standard deviation there. ``power``: variance of the clean inliers over that of the noise, after downsampling.
    two_particles : {'mean', 'sum'}
        How the two particles of a ``multiple`` image combine; the code takes the mean.

    Returns
    -------
    PublishedStack
        Images in the scale of the published generator.

    Notes
    -----
    L. Kapnulin, A. Heimowitz and N. Sharon, Outlier Removal in Cryo-EM via Radial Profiles, section 3.1, and the
    behaviour of its code where the two differ. In the 85-px box: rotations are uniform; every particle has a Gaussian
    offset (std 85/16 px, periodic) and an amplitude uniform in [2/3, 3/2]; there is no CTF. ``partial``: one particle
    moved by 21 ... 55 px along each axis, either way, with zeros behind it. ``multiple``: two particles, each moved so
    by 8 ... 55 px. ``noise``: nothing. Noise is made on a 170-px grid and cut.
    """
    padded = _experiment_volume(volume)
    size = EXPERIMENT_BOX_PX
    inliers, multiple, _, partial = counts
    clean = np.zeros((sum(counts), size, size), np.float32)
    clean[:inliers] = _experiment_views(padded, inliers, rng)
    pairs = place(_experiment_views(padded, 2 * multiple, rng), _signed_steps(2 * multiple, 8, 55, rng))
    weight = np.float32(0.5 if two_particles == "mean" else 1.0)
    clean[inliers : inliers + multiple] = weight * (pairs[:multiple] + pairs[multiple:])
    if partial:
        clean[-partial:] = place(_experiment_views(padded, partial, rng), _signed_steps(partial, 21, 55, rng))
    noise_std = _experiment_noise_std(clean[:inliers], snr, snr_definition, colour, new_size)
    small = np.empty((len(clean), new_size, new_size), np.float32)
    small_clean, power = np.empty((inliers, new_size, new_size), np.float32), COLOURS[colour]
    for start in range(0, len(clean), BLOCK):
        part = slice(start, start + BLOCK)
        noise = gaussian_noise(len(clean[part]), (size, size), rng, power=power, variance=noise_std**2)
        small[part] = fourier_crop(clean[part] + noise, new_size)
        if start < inliers:
            stop = min(start + BLOCK, inliers)
            small_clean[start:stop] = fourier_crop(clean[start:stop], new_size)
    labels = np.repeat(np.arange(4, dtype=np.int8), counts)
    reached = {
        "mean": _central_mean(clean[:inliers]) / noise_std,
        "power_full": _signal_variance(clean[:inliers]) / noise_std**2,
        "power": _signal_variance(small_clean) / (noise_std**2 * cropped_share(colour, new_size)),
    }
    return PublishedStack(small, labels, reached, noise_std)


def _central_mean(images: Floats) -> float:
    margin = round(EXPERIMENT_BOX_PX * 10 / EXPERIMENT_BOX_PX)
    return float(images[:, margin:-margin, margin:-margin].mean(dtype=np.float64))


def _signal_variance(images: Floats) -> float:
    return float(images.var(dtype=np.float64))


def _experiment_noise_std(clean: Floats, snr: float, definition: str, colour: str, new_size: int) -> float:
    if definition == "mean":
        return _central_mean(clean) / snr
    small = np.concatenate([fourier_crop(part, new_size) for part in np.array_split(clean, 16)])
    return float(np.sqrt(_signal_variance(small) / snr / cropped_share(colour, new_size)))


def cropped_share(colour: str, new_size: int) -> float:
    """Return the share of the noise variance at 85 px that a Fourier crop to ``new_size`` leaves in a pixel."""
    fine = 2 * new_size  # grid steps up to the crop's border, which falls on a grid point and counts half
    grid = 2 * EXPERIMENT_BOX_PX * fine // new_size
    power = COLOURS[colour](radial_frequency((grid, grid)))
    steps = np.abs(np.fft.fftfreq(grid, 1 / grid))
    rows = (steps < fine) + 0.5 * (steps == fine)
    columns = rows[: grid // 2 + 1] * hermitian_weights(grid)
    return float(rows @ power @ columns / (power @ hermitian_weights(grid)).sum())
