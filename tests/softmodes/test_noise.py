"""Coloured noise: weights have mean 1, white noise changes nothing, half maps give back the noise of their images."""

from __future__ import annotations

import numpy as np
import pytest

from napari_pickbias.imaging.phantoms import blob_volume, phantom
from napari_pickbias.imaging.projection import half_disc
from napari_pickbias.imaging.rotations import parse_views, random_rotations
from napari_pickbias.softmodes import soft_modes
from napari_pickbias.softmodes.noise import half_map_spectrum, marginal_weights, noise_weights, samples_of_coefficients
from napari_pickbias.softmodes.views import make_views

SIZE = 12


def test_white_noise_of_any_level_has_weights_of_one() -> None:
    found = noise_weights(np.full((2, 7), 3.0), SIZE)
    np.testing.assert_allclose(found.factors, 1)
    assert found.variance == pytest.approx(3)


def test_weights_follow_the_inverse_standard_deviation_and_mean_one() -> None:
    spectra = np.array([[8.0, 4, 2, 1, 1, 1], [4.0, 4, 4, 4, 4, 4]])
    found = noise_weights(spectra, SIZE, counts=np.array([30, 10]))
    np.testing.assert_allclose(found.factors[0, 0, 3] / found.factors[0, 0, 0], np.sqrt(8))
    # The shell beyond the last takes its value.
    np.testing.assert_allclose(found.factors[0, 0, 6], found.factors[0, 0, 5])
    disc = half_disc(SIZE)
    weight = np.where(np.arange(disc.shape[1]) > 0, 2.0, 1.0) * np.ones(disc.shape)
    means = [np.average(group[disc] ** 2, weights=weight[disc]) for group in found.factors]
    assert (30 * means[0] + 10 * means[1]) / 40 == pytest.approx(1)


def test_modes_with_coloured_noise_lose_what_the_likelihood_says() -> None:
    """Amplitude a: a^2 lambda J / (2 sigma^2) = ln 20, whatever variance the weights are relative to."""
    volume = blob_volume(phantom(3.2), SIZE)
    rotations = random_rotations(40, np.random.default_rng(0))
    spectrum = np.array([[9.0, 5, 3, 2, 1, 1, 1]])
    results = []
    for factor in (1.0, 16.0):
        weights = noise_weights(factor * spectrum, SIZE)
        results.append(soft_modes(volume, rotations, weights.factors, modes=2, noise_variance=weights.variance))
    np.testing.assert_allclose(results[0].eigenvalues, results[1].eigenvalues, rtol=1e-9)
    np.testing.assert_allclose(results[1].amplitudes, 4 * results[0].amplitudes, rtol=1e-9)
    white = soft_modes(volume, rotations, modes=2, noise_variance=1.0)
    assert abs(results[0].eigenvalues[0] / white.eigenvalues[0] - 1) > 0.05


def test_each_sample_falls_to_one_coefficient() -> None:
    rotations = random_rotations(5, np.random.default_rng(0))
    samples = samples_of_coefficients(make_views(rotations, SIZE))
    disc = half_disc(SIZE)
    weights = np.where(np.arange(SIZE // 2 + 1) > 0, 2.0, 1.0)
    whole = samples.sum(axis=(0, 1)) @ np.where(np.arange(SIZE // 2 + 1) % (SIZE // 2) > 0, 2.0, 1.0)
    # The plane kx = n / 2 stands for both of its sides, which the nearest coefficient may be.
    assert whole == pytest.approx(5 * (disc * weights).sum(), rel=0.02)
    assert samples[0, 0, 0] >= 5


@pytest.mark.parametrize("views", ["uniform", "equatorial:20"])
def test_half_maps_give_back_the_noise_of_an_image(views: str) -> None:
    """Coefficients averaged from noise alone: each half has half of the images."""
    rng = np.random.default_rng(0)
    chosen = make_views(random_rotations(600, rng, parse_views(views)), SIZE)
    samples = samples_of_coefficients(chosen)
    level = 2.5
    found = []
    for _ in range(8):
        halves = []
        for _ in range(2):
            white = np.fft.rfftn(rng.standard_normal((SIZE,) * 3))  # power n^3
            power = level * SIZE**2 / (np.maximum(samples, 1e-3) / 2)
            filtered = np.where(samples > 0, white * np.sqrt(power / SIZE**3), 0)
            halves.append(np.fft.irfftn(filtered, s=(SIZE,) * 3, axes=(0, 1, 2)))
        found.append(half_map_spectrum(*halves, chosen))
    # Five repeats of this mean: within 8 % at all shells.
    np.testing.assert_allclose(np.mean(found, axis=0), level, rtol=0.15)


def test_an_unknown_noise_level_weighs_an_image_by_its_own_misfit() -> None:
    """Second difference of d log l against d / l times that of l, along a change of the template."""
    rng = np.random.default_rng(0)
    pixels, sigma = 4096, 1.7
    noise = sigma * rng.standard_normal(pixels)
    change = rng.standard_normal(pixels)
    change -= noise * (noise @ change) / (noise @ noise)  # the best template: the slope vanishes
    change /= np.linalg.norm(change)

    def misfit(step: float) -> float:
        return 0.5 * float(np.sum((noise - step * change) ** 2))

    weight = float(marginal_weights(np.array([misfit(0.0)]), pixels)[0])
    degrees = (pixels - 1) / 2
    step = 0.5
    second = degrees * (np.log(misfit(step)) + np.log(misfit(-step)) - 2 * np.log(misfit(0.0))) / step**2
    assert second == pytest.approx(weight, rel=1e-3)
    assert weight == pytest.approx(1 / sigma**2, rel=0.06)
    with pytest.raises(ValueError, match="must be above 0"):
        marginal_weights(np.zeros(2), 16)
