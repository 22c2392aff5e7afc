"""Matching at the band limit against matching at full size."""

from __future__ import annotations

import numpy as np
import pytest

from napari_pickbias.errors import InputError
from napari_pickbias.matching import TemplateBank, band_limited, score_map
from napari_pickbias.matching.bank import soft_disc


def smooth_scene() -> tuple[np.ndarray, TemplateBank, list[tuple[int, int]]]:
    """A bank of two smooth templates, planted in band-limited noise."""
    y, x = np.mgrid[-24:24, -24:24]
    templates = np.stack([np.exp(-(x**2 / 130 + y**2 / 30)), np.exp(-(x**2 / 30 + y**2 / 130))])
    bank = TemplateBank.from_images(templates, soft_disc(48, 22.0, 8.0))
    rng = np.random.default_rng(3)
    spectrum = np.fft.rfft2(rng.normal(size=(300, 352)))
    spectrum[np.hypot(np.fft.fftfreq(300)[:, None], np.fft.rfftfreq(352)[None]) > 0.09] = 0
    image = np.fft.irfft2(spectrum, s=(300, 352))
    places = [(80, 90), (200, 250)]
    for number, (row, column) in enumerate(places):
        image[row - 24 : row + 24, column - 24 : column + 24] += 12 * bank.images[number]
    return image, bank, places


def test_scores_and_places_survive_the_crop() -> None:
    image, bank, places = smooth_scene()
    full, _ = score_map(image, bank, normalise="global")
    small = band_limited(image, bank, pixel_size=1.0, lowpass=10.0)
    assert small.micrograph.shape == (60, 72)
    assert small.ratio == (5.0, 352 / 72)
    scores, best = score_map(small.micrograph, small.bank, normalise="global")
    # A coarse pixel stands for ratio**2 fine ones, so scores of white-noise units shrink by the ratio.
    scale = np.sqrt(small.ratio[0] * small.ratio[1])
    for number, (row, column) in enumerate(places):
        at = round(row / small.ratio[0]), round(column / small.ratio[1])
        near = tuple(round(a * r) for a, r in zip(at, small.ratio, strict=True))
        assert best[at] == number
        assert scores[at] * scale == pytest.approx(full[near], rel=0.02)


def test_a_fine_low_pass_changes_nothing() -> None:
    image, bank, _ = smooth_scene()
    same = band_limited(image, bank, pixel_size=1.0, lowpass=1.5)
    np.testing.assert_array_equal(same.micrograph, image.astype(np.float32))
    assert same.bank is bank
    assert same.ratio == (1.0, 1.0)


def test_too_little_left() -> None:
    image, bank, _ = smooth_scene()
    with pytest.raises(InputError) as fault:
        band_limited(image, bank, pixel_size=1.0, lowpass=25.0)
    assert str(fault.value) == "--lowpass 25: leaves 5 pixels of a template of 48 pixels; give a smaller length"
