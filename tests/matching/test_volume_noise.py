"""The noise of tomograms: spectrum, surrogates and templates' deviations against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.fft

from napari_pickbias.errors import InputError
from napari_pickbias.imaging.fourier import radial_frequency
from napari_pickbias.imaging.phantoms import blob_volume, phantom
from napari_pickbias.matching import VolumeBank, score_volume, volume_bank, volume_noise
from napari_pickbias.matching.volume_noise import (
    refined,
    surrogate_volume,
    volume_power,
    volume_template_sd,
    volume_tile,
)


def coloured(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Noise that is strong at low frequencies and has nothing in a missing wedge about y, 60 degrees seen."""
    spectrum = scipy.fft.rfftn(np.random.default_rng(seed).normal(size=shape))
    spectrum *= np.exp(-8 * radial_frequency(shape) ** 2)
    z = np.fft.fftfreq(shape[0])[:, None, None]
    x = np.fft.rfftfreq(shape[2])[None, None]
    spectrum[np.broadcast_to(np.abs(z) > x * np.tan(np.radians(60)) + 1e-9, spectrum.shape)] = 0
    return scipy.fft.irfftn(spectrum, s=shape).astype(np.float32)


def small_bank() -> VolumeBank:
    return volume_bank(blob_volume(phantom(3.5, count=9), 12), 10.0, 90.0).take(np.arange(4))


def test_white_noise_has_power_one() -> None:
    power = volume_power(np.random.default_rng(0).normal(5, 3, (60, 70, 64)), 16)
    assert power.shape == (16, 16, 9)
    # Over 20 seeds: .988-1.011.
    assert power[:4].mean() == pytest.approx(1, abs=0.03)
    assert power[4:8].mean() == pytest.approx(1, abs=0.03)


def test_a_particle_in_one_tile_does_not_show() -> None:
    noise = np.random.default_rng(1).normal(size=(48, 48, 48))
    plain = volume_power(noise, 16)
    noise[4:12, 4:12, 4:12] += 40
    # Over 20 seeds: .092-.104.
    assert np.abs(np.log(volume_power(noise, 16) / plain)).mean() < 0.2


def test_surrogates_have_the_tomograms_spectrum_and_its_wedge() -> None:
    power = volume_power(coloured((64, 72, 80), 2), 24)
    made = np.empty((64, 72, 80), np.float32)
    surrogate_volume(power, made, np.random.default_rng(3))
    assert made.std() == pytest.approx(1, abs=0.05)
    again = volume_power(made, 24)
    z = np.fft.fftfreq(24)[:, None, None]
    x = np.fft.rfftfreq(24)[None, None]
    deep = np.broadcast_to((np.abs(z) > 0.2) & (x < 0.03), power.shape)
    seen = np.broadcast_to((np.abs(z) < 0.05) & (x > 0.1) & (x < 0.3), power.shape)
    assert again[deep].mean() < 0.01 * again[seen].mean()
    # Over 10 seeds: .954-1.045.
    np.testing.assert_allclose(again[seen].mean(), power[seen].mean(), rtol=0.1)


def test_large_surrogates_are_made_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(volume_noise, "BLOCK_VOXELS", 20**3)
    made = np.full((30, 41, 50), np.nan, np.float32)
    surrogate_volume(np.ones((8, 8, 5)), made, np.random.default_rng(4))
    assert np.isfinite(made).all()
    assert made.std() == pytest.approx(1, abs=0.03)


def test_refined_spectra_keep_their_mean_and_a_flat_one_stays_flat() -> None:
    np.testing.assert_allclose(refined(np.ones((12, 12, 7)), (20, 30, 25)), 1, rtol=1e-12)
    power = np.exp(-10 * radial_frequency((16, 16, 16)))
    fine = refined(power, (48, 48, 48))
    wanted = np.exp(-10 * radial_frequency((48, 48, 48)))
    ratio = fine / wanted
    assert np.quantile(ratio, [0.05, 0.95]) == pytest.approx([ratio.mean()] * 2, rel=0.12)


def test_one_orientations_scores_on_coloured_noise_have_unit_variance() -> None:
    """What makes the score one in standard deviations of the noise."""
    tomogram = coloured((64, 64, 64), 5)
    bank = small_bank()
    sd = volume_template_sd(bank, volume_power(tomogram, volume_tile(tomogram.shape, bank.box_px)))
    white = volume_template_sd(bank, np.ones((16, 16, 9)))
    assert sd.min() > 1.3 * white.max()
    for row in range(2):
        scores, _ = score_volume(tomogram, bank.take(np.array([row])), 1, noise_sd=sd[[row]])
        # Over 10 seeds: .985-.992 (noise divided by its own local deviation is not quite Gaussian).
        assert scores[np.isfinite(scores)].std() == pytest.approx(0.99, abs=0.03)


def test_tiles_are_even_and_fit() -> None:
    assert volume_tile((100, 200, 200), 20) == 40
    assert volume_tile((25, 200, 200), 20) == 24


@pytest.mark.parametrize(
    ("tomogram", "line"),
    [
        (
            np.zeros((10, 30, 40)),
            "tomogram: is 10 × 30 × 40 px at the pixel size of the search; its noise is measured on tiles of 16 px; "
            "check --diameter and the pixel sizes",
        ),
        (np.zeros((32, 32, 32)), "tomogram: most of it is constant; cut off its empty part"),
    ],
)
def test_faults(tomogram: np.ndarray, line: str) -> None:
    with pytest.raises(InputError) as fault:
        volume_power(tomogram, 16)
    assert str(fault.value) == line
