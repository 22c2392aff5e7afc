"""Noise: variances and spectra come out as asked, and estimators find them again."""

from __future__ import annotations

import numpy as np
import pytest

from napari_pickbias.imaging import noise
from napari_pickbias.imaging.fourier import radial_frequency, radius_grid, shell_average


def slow_autocovariance(images: np.ndarray, mask: np.ndarray, mean: float) -> tuple[np.ndarray, np.ndarray]:
    """Every pair of unmasked pixels, one at a time."""
    height, width = images.shape[1:]
    sums, pairs = np.zeros((2 * height, 2 * width)), np.zeros((2 * height, 2 * width))
    for image in images:
        for y1, x1 in np.argwhere(mask):
            for y2, x2 in np.argwhere(mask):
                sums[y1 - y2, x1 - x2] += (image[y1, x1] - mean) * (image[y2, x2] - mean)
                pairs[y1 - y2, x1 - x2] += 1
    return np.where(pairs > 0, sums / np.maximum(pairs, 1), 0), pairs


def test_masked_autocovariance_is_the_slow_version() -> None:
    rng = np.random.default_rng(0)
    images = rng.standard_normal((3, 4, 5)) + 2
    mask = rng.random((4, 5)) < 0.6
    expected, pairs = slow_autocovariance(images, mask, 2.0)
    result, counts = noise.masked_autocovariance(images, mask, mean=2.0)
    np.testing.assert_allclose(result, expected, atol=1e-12)
    np.testing.assert_allclose(counts, pairs, atol=1e-9)
    one_each = np.broadcast_to(mask, images.shape)
    np.testing.assert_allclose(noise.masked_autocovariance(images, one_each, mean=2.0)[0], expected, atol=1e-12)


def test_autocovariance_weights_are_repetitions_and_the_mean_is_found() -> None:
    rng = np.random.default_rng(0)
    images, mask = rng.standard_normal((3, 6, 6)) + 5, np.ones((6, 6), bool)
    weighted, _ = noise.masked_autocovariance(images, mask, weights=np.array([2.0, 1.0, 0.0]))
    repeated, _ = noise.masked_autocovariance(images[[0, 0, 1]], mask)
    np.testing.assert_allclose(weighted, repeated)
    assert weighted[0, 0] == pytest.approx(images[[0, 0, 1]].var())


@pytest.mark.parametrize("colour", sorted(noise.COLOURS))
@pytest.mark.parametrize("shape", [(30, 30), (31, 24)])
def test_filters_have_the_variance_asked_for(colour: str, shape: tuple[int, int]) -> None:
    half = noise.amplitude_filter(shape, noise.COLOURS[colour], variance=2.5)
    white = np.random.default_rng(0).standard_normal(shape)
    full = np.abs(np.fft.fft2(np.fft.irfft2(half * np.fft.rfft2(white), s=shape)) / np.fft.fft2(white)) ** 2
    assert full.mean() == pytest.approx(2.5, rel=1e-5)


def test_published_noise_is_white_within_a_third_of_a_percent() -> None:
    power = noise.COLOURS["published"](radial_frequency((170, 170)))
    assert power.min() == 1
    assert power.max() < 1.003


@pytest.mark.parametrize("colour", ["white", "coloured"])
def test_drawn_noise_has_its_variance_and_spectrum(colour: str) -> None:
    images = noise.gaussian_noise(300, (32, 32), np.random.default_rng(0), power=noise.COLOURS[colour], variance=4)
    assert images.dtype == np.float32
    assert images.shape == (300, 32, 32)
    # 20 seeds: 3.97 ... 4.02 (white), 3.96 ... 4.02 (coloured)
    assert images.var() == pytest.approx(4, rel=0.02)
    frequencies, powers = noise.radial_power(images, np.ones((32, 32)), taper_px=16)
    scale = noise.COLOURS[colour](radial_frequency((512, 512)))
    weights = np.full(257, 2.0)
    weights[[0, -1]] = 1
    expected = 4 * noise.COLOURS[colour](frequencies) * 512**2 / (scale @ weights).sum()
    # 20 seeds: largest relative departure between 0.05 and 0.45 cycles per px 0.01 ... 0.06
    middle = (frequencies > 0.05) & (frequencies < 0.45)
    assert np.abs(powers / expected - 1)[middle].max() < 0.1


def test_coloured_noise_has_no_matching_borders() -> None:
    images = noise.gaussian_noise(400, (24, 24), np.random.default_rng(0), power=noise.COLOURS["amp/index"])
    neighbours = np.corrcoef(images[:, :, 0].ravel(), images[:, :, 1].ravel())[0, 1]
    across = np.corrcoef(images[:, :, 0].ravel(), images[:, :, -1].ravel())[0, 1]
    # 20 seeds: neighbours .79 ... .82, across .28 ... .37; in periodic noise both would be the same
    assert neighbours > 0.75
    assert across < 0.42


def test_radial_power_ignores_masked_particles() -> None:
    rng = np.random.default_rng(0)
    images = noise.gaussian_noise(200, (33, 33), rng, power=noise.COLOURS["coloured"])
    background = radius_grid(33) > 11
    clean = noise.radial_power(images, background)[1]
    with_particles = noise.radial_power(images + 50 * (radius_grid(33) < 9), background)[1]
    np.testing.assert_allclose(with_particles, clean, rtol=1e-6, atol=1e-6)
    assert noise.radial_power(np.asarray(images), background)[0][-1] == 0.5


def test_power_of_an_autocovariance_is_floored() -> None:
    covariance = np.zeros((16, 16))
    covariance[0, 0], covariance[0, 1], covariance[0, -1] = 1.0, 0.9, 0.9  # not a covariance: its power goes negative
    raw = noise.power_of_autocovariance(covariance, taper_px=8)
    floored = noise.power_of_autocovariance(covariance, taper_px=8, floor=0.02)
    assert raw.min() < 0
    assert floored.min() == pytest.approx(0.02 * np.median(raw))
    with_nothing_cut = noise.power_of_autocovariance(np.eye(1, 256).reshape(16, 16), taper_px=8)
    np.testing.assert_allclose(with_nothing_cut, 1)  # a delta is white, whatever the taper


def test_periodogram_has_the_scale_of_the_variance() -> None:
    images = np.random.default_rng(0).standard_normal((2000, 8, 9)) * 3
    # 2000 exponentials a coefficient: standard error 2.2 %; the largest of 40 is below 4 of them
    np.testing.assert_allclose(noise.periodogram(images).mean(axis=0), 9, rtol=0.13)


def test_welch_finds_the_spectrum_and_its_median_survives_bright_tiles() -> None:
    rng = np.random.default_rng(0)
    image = noise.noise_of_spectrum(1, noise.COLOURS["coloured"](radial_frequency((512, 512))), (512, 512), rng)[0]
    expected = noise.COLOURS["coloured"](np.arange(17) / 32)
    for median in (False, True):
        shells = shell_average(noise.welch_power(image, 32, median=median), (32, 32))
        # 10 seeds: largest relative departure from shell 3 on .02 ... .05 (mean), .02 ... .07 (median)
        np.testing.assert_allclose(shells[3:], expected[3:], rtol=0.09)
    image[:64, :64] *= 100
    spoilt = shell_average(noise.welch_power(image, 32), (32, 32))
    robust = shell_average(noise.welch_power(image, 32, median=True, variance_range=(0.05, 0.95)), (32, 32))
    # 10 seeds: 104 ... 155 times too much; with the median .02 ... .06 off
    assert spoilt[5] > 50 * expected[5]
    np.testing.assert_allclose(robust[3:], expected[3:], rtol=0.09)


def test_welch_needs_one_tile() -> None:
    with pytest.raises(ValueError, match="`tile_px` is 64, larger than the image of 32 x 80 px"):
        noise.welch_power(np.zeros((32, 80)), 64)


@pytest.mark.parametrize("shape", [(24, 24), (25, 18)])
def test_phase_surrogate_keeps_every_amplitude_and_the_mean(shape: tuple[int, int]) -> None:
    image = np.random.default_rng(0).standard_normal(shape) ** 2 - 3
    surrogate = noise.phase_surrogate(image, np.random.default_rng(1))
    np.testing.assert_allclose(np.abs(np.fft.fft2(surrogate)), np.abs(np.fft.fft2(image)), rtol=1e-4, atol=1e-4)
    assert surrogate.mean() == pytest.approx(image.mean(), rel=1e-5)
    assert abs(np.corrcoef(surrogate.ravel(), image.ravel())[0, 1]) < 0.2  # 20 seeds: sd 0.04, at most 0.08
    other = noise.phase_surrogate(image, np.random.default_rng(2))
    assert not np.allclose(surrogate, other)


@pytest.mark.parametrize("tile", [16, 17])
def test_gaussian_surrogate_has_the_measured_spectrum(tile: int) -> None:
    spectrum = noise.COLOURS["coloured"](radial_frequency((tile, tile)))
    image = noise.gaussian_surrogate((256, 240), spectrum, (tile, tile), np.random.default_rng(0))
    assert image.shape == (256, 240)
    again = shell_average(noise.welch_power(image, 32), (32, 32))
    # 10 seeds: largest relative departure .03 ... .07, part of it from linear interpolation of a convex curve
    np.testing.assert_allclose(again[4:15], noise.COLOURS["coloured"](np.arange(4, 15) / 32), rtol=0.1)


def test_tabulated_power_interpolates() -> None:
    power = noise.tabulated_power(np.array([0.0, 0.25, 0.5]), np.array([4.0, 2.0, 1.0]))
    np.testing.assert_allclose(power(np.array([0.125, 0.25, 0.7])), [3, 2, 1])


@pytest.mark.parametrize("shape", [(20, 25), (31, 18)])
def test_autocovariance_within_a_reach_is_the_full_one_there(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    image, mask, reach = rng.standard_normal(shape), rng.random(shape) < 0.6, 5
    found, pairs = noise.autocovariance_within(image, mask, reach)
    full, full_pairs = noise.masked_autocovariance(image[None], mask, mean=0.0)
    lags = np.fft.fftfreq(2 * reach, 1 / (2 * reach)).astype(int)
    np.testing.assert_allclose(found, full[np.ix_(lags, lags)], atol=1e-12)
    np.testing.assert_allclose(pairs, full_pairs[np.ix_(lags, lags)], atol=1e-9)
