"""Predicted bias of low-passed templates, and picking without a template."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from bias.scene import BOX, GRID, PIXEL, Scene, power_on

from napari_pickbias.bias.mitigation import blob_bank, lowpass_bias
from napari_pickbias.bias.mixture import correlations
from napari_pickbias.bias.theory import sample_picked
from napari_pickbias.imaging.fourier import apply_filter, band_filter
from napari_pickbias.matching import TemplateBank
from napari_pickbias.matching.bank import soft_disc

WHITE = np.ones((GRID, GRID // 2 + 1))


def test_predicted_bias_is_the_template_low_passed_and_less_like_it_the_stronger_that_is(scene: Scene) -> None:
    mask = soft_disc(BOX, 14.0)
    found = [lowpass_bias(scene.sharp, WHITE, PIXEL, lowpass, mask) for lowpass in (14.0, 40.0, 60.0, 90.0, 140.0)]
    assert found[0].correlation == pytest.approx(1, abs=5e-3)  # the mask counts twice
    assert all(a.correlation > b.correlation for a, b in itertools.pairwise(found))
    assert found[-1].correlation < 0.9
    band = band_filter((BOX, BOX), PIXEL, lowpass_angstrom=60.0)
    same = correlations(found[2].predicted, TemplateBank.from_images(apply_filter(scene.sharp, band), mask).images)
    assert np.diag(same).min() > 0.97


def test_predicted_bias_is_the_average_of_picked_coloured_noise(scene: Scene) -> None:
    rng = np.random.default_rng(0)
    power = power_on(GRID)
    found = lowpass_bias(scene.sharp[:1], power, PIXEL, 60.0, soft_disc(BOX, 14.0))
    lags = np.fft.irfft2(power, s=(GRID, GRID))
    rows, columns = np.mgrid[:BOX, :BOX]
    rows, columns = rows.ravel(), columns.ravel()
    covariance = lags[(rows[:, None] - rows) % GRID, (columns[:, None] - columns) % GRID]
    band = apply_filter(scene.sharp[:1], band_filter((BOX, BOX), PIXEL, lowpass_angstrom=60.0))
    mask = soft_disc(BOX, 14.0)
    template = mask * (band[0] - (band[0] * mask).sum() / mask.sum())
    picked = sample_picked(template.reshape(1, -1), 4 * float(np.linalg.norm(template)), 4000, rng, covariance)
    mean = picked.mean(axis=0).reshape(BOX, BOX)
    mean = mask * (mean - (mean * mask).sum() / mask.sum())
    assert correlations(mean[None], found.predicted)[0, 0] > 0.98


def test_a_blob_is_a_template_of_no_molecule() -> None:
    bank = blob_bank(33, 20.0)
    assert len(bank) == 1
    image = bank.images[0]
    np.testing.assert_allclose(image, image.T, atol=1e-6)
    assert image[16, 16] == image.max()
    assert image.sum() == pytest.approx(0, abs=1e-4)
