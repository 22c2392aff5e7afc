"""Noise, and particles in noise, picked with a template bank: what the tests of the diagnosis share."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from napari_pickbias.bias.averages import Turns, cut_patches, make_turns, view_sums
from napari_pickbias.bias.frc import Bands, band_correlation, choose_bands, half_spectra
from napari_pickbias.bias.span import Removal, bank_span, removal, whitening_filter, whitening_on
from napari_pickbias.imaging.fourier import apply_filter, band_filter, radial_frequency
from napari_pickbias.imaging.noise import noise_of_spectrum
from napari_pickbias.imaging.phantoms import blob_volume, phantom
from napari_pickbias.imaging.projection import fourier_volume, project
from napari_pickbias.imaging.rotations import direction_grid, matrices_from_euler, random_rotations
from napari_pickbias.matching import TemplateBank, find_peaks, score_map
from napari_pickbias.matching.bank import soft_disc

BOX, PIXEL, GRID, DISTANCE, LOWPASS, FINEST = 33, 7.0, 128, 14.0, 58.0, 20.0


def power_on(size: int) -> np.ndarray:
    """Noise that falls fourfold within the band that is looked at."""
    return 1 / (1 + (radial_frequency((size, size)) / 0.1) ** 2) + 0.05


class Scene(NamedTuple):
    """A bank of low-passed views of a phantom, and all that removes its bias."""

    volume: np.ndarray
    bank: TemplateBank
    sharp: np.ndarray
    turns: Turns
    power: np.ndarray
    removal: Removal
    bands: Bands


def make_scene(directions: int = 8, psi_step: float = 15.0) -> Scene:
    blobs = phantom(9.0, elongation=1.6)
    volume = blob_volume(blobs, BOX)
    views = direction_grid(np.degrees(np.sqrt(4 * np.pi / directions)))
    psi = np.arange(0, 360, psi_step)
    euler = np.column_stack([np.repeat(views, len(psi), axis=0), np.tile(psi, len(views))])
    view = np.repeat(np.arange(len(views), dtype=np.int32), len(psi))
    rotations = matrices_from_euler(euler)
    sharp = project(fourier_volume(volume), rotations)
    band = band_filter((BOX, BOX), PIXEL, lowpass_angstrom=LOWPASS)
    mask = soft_disc(BOX, 14.0)
    bank = TemplateBank.from_images(apply_filter(sharp, band), mask, view=view, euler_deg=euler)
    first = np.flatnonzero(euler[:, 2] == 0)
    power = power_on(GRID)
    basis = bank_span(bank.images[::2], BOX, 10.0)
    white = whitening_filter(power, PIXEL, finest=FINEST, coarsest=400.0)
    return Scene(
        volume, bank, np.asarray(sharp[first]), make_turns(view, euler[:, 2], BOX), power,
        removal(basis, power, white), choose_bands(BOX, PIXEL, LOWPASS, FINEST),
    )  # fmt: skip


def micrograph(
    scene: Scene, size: int, rng: np.random.Generator, particles: int = 0, amplitude: float = 8.0
) -> np.ndarray:
    """Noise, with particles whose score is ``amplitude`` noise deviations on average, at least 30 px apart."""
    image = noise_of_spectrum(1, power_on(size), (size, size), rng)[0].astype(np.float64)
    if particles:
        step = size // int(np.ceil(np.sqrt(particles)))
        places = np.array(
            [(y, x) for y in range(step // 2, size - 17, step) for x in range(step // 2, size - 17, step)]
        )
        images = project(fourier_volume(scene.volume), random_rotations(len(places), rng))
        level = np.median(scene.bank.noise_sd(scene.power)) * amplitude
        own = np.linalg.norm((images - images.mean(axis=(1, 2), keepdims=True)).reshape(len(images), -1), axis=1)
        for (y, x), one, norm in zip(places, images, own, strict=True):
            dy, dx = rng.integers(-3, 4, 2)
            image[y + dy - 16 : y + dy + 17, x + dx - 16 : x + dx + 17] += one * level / norm
    return image.astype(np.float32)


def pick(scene: Scene, image: np.ndarray, threshold: float, most: int | None = None) -> np.ndarray:
    scores, best = score_map(image, scene.bank, 1, noise_sd=scene.bank.noise_sd(scene.power), normalise="none")
    return find_peaks(scores, best, threshold, DISTANCE, rule="local_maximum")[:most]


def patches_of(scene: Scene, image: np.ndarray, picks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Whitened and plain patches at picks."""
    white = apply_filter(image, whitening_on(scene.power, image.shape, PIXEL, finest=FINEST, coarsest=400.0))
    places = np.column_stack([picks["y"], picks["x"]])
    return cut_patches(white, places, BOX), cut_patches(image, places, BOX)


def band_values(scene: Scene, patches: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> tuple[float, float]:
    """Correlation of half averages in the template's band and beyond it."""
    sums, counts = view_sums(patches, labels, rng.random(len(labels)) < 0.5, scene.turns)
    spectra, _ = half_spectra(sums, counts)
    inside, beyond = (band_correlation(spectra[0], spectra[1], band) for band in scene.bands)
    return inside, beyond
