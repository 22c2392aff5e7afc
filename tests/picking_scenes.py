"""Micrographs of coloured noise with particles whose places are known, and a small bank that finds them."""

from __future__ import annotations

from functools import cache

import numpy as np

from napari_pickbias.imaging.fourier import hermitian_weights, radial_frequency
from napari_pickbias.imaging.noise import gaussian_noise
from napari_pickbias.matching import TemplateBank
from napari_pickbias.matching.calibrate import MatchSettings

PIXEL, DIAMETER, DISTANCE = 10.0, 180.0, 100.0


def colour(frequency: np.ndarray) -> np.ndarray:
    """Relative power, cycles per pixel: correlated over some 3 px, as micrographs are once their light is even."""
    return 1 / (1 + (frequency / 0.05) ** 2) + 0.05


@cache
def bank() -> TemplateBank:
    """Twelve ellipses, 15 degrees apart, in a box of 24 px."""
    y, x = np.mgrid[-12:12, -12:12]
    turns = np.deg2rad(np.arange(0, 180, 15))[:, None, None]
    along, across = x * np.cos(turns) + y * np.sin(turns), y * np.cos(turns) - x * np.sin(turns)
    return TemplateBank.from_images(np.exp(-(along**2) / 40 - across**2 / 12))


@cache
def power(size: int = 96) -> np.ndarray:
    """Power of the noise, of variance 1."""
    values = colour(radial_frequency((size, size)))
    return values / float((values * hermitian_weights(size)).sum() / size**2)


@cache
def deviations() -> np.ndarray:
    """Standard deviation of each template's correlation with the noise."""
    return bank().noise_sd(power())


def settings(**changed: object) -> MatchSettings:
    return MatchSettings(
        **{"pixel_size": PIXEL, "lowpass": None, "diameter": DIAMETER, "min_distance": DISTANCE} | changed
    )


def noise(rng: np.random.Generator, side: int = 420) -> np.ndarray:
    return gaussian_noise(1, (side, side), rng, power=colour)[0]


def scene(
    rng: np.random.Generator, particles: int, strength: float = 7.0, side: int = 420
) -> tuple[np.ndarray, np.ndarray]:
    """A micrograph, and the places (y, x) of its particles, at least 20 px apart; their score is the strength."""
    image, places = noise(rng, side), np.zeros((0, 2))
    while len(places) < particles:
        place = rng.integers(12, side - 12, 2)
        if (np.hypot(*(places - place).T) >= 20).all():
            places = np.vstack([places, place])
            y, x = place
            number = rng.integers(len(bank()))
            image[y - 12 : y + 12, x - 12 : x + 12] += strength * deviations()[number] * bank().images[number]
    return image, places


def false_picks(table: np.ndarray, places: np.ndarray) -> int:
    """Number of picks with no particle within 6 px."""
    away = np.hypot(table["y"][:, None] - places[:, 0], table["x"][:, None] - places[:, 1])
    return int((away.min(axis=1, initial=np.inf) > 6).sum())
