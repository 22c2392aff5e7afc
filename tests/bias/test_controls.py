"""Control templates, and evidence under another mask."""

from __future__ import annotations

import numpy as np
import pytest

from napari_pickbias.bias.controls import disc_of_sphere, masked_evidence, scrambled, small_mask
from napari_pickbias.bias.frc import Band, average_mask
from napari_pickbias.errors import InputError
from napari_pickbias.imaging.fourier import shell_average
from napari_pickbias.imaging.phantoms import blob_volume, phantom
from napari_pickbias.jobs.bias_controls import control_templates, parse_controls
from napari_pickbias.jobs.pick_templates import TemplateInput


def test_a_sphere_has_its_volume_and_its_diameter() -> None:
    image = disc_of_sphere(48, 30.0)
    assert image.sum() == pytest.approx(4 / 3 * np.pi * 15**3, rel=0.01)
    assert (image[24] > 0).sum() == 29
    np.testing.assert_array_equal(image, image.T)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_scrambling_keeps_the_spectrum_and_nothing_else(dimensions: int) -> None:
    volume = blob_volume(phantom(8.0, elongation=1.5), 32).astype(np.float64)
    image = volume.sum(axis=0) if dimensions == 2 else volume
    found = scrambled(image, 200.0, np.random.default_rng(0))
    assert abs(np.corrcoef(image.ravel(), found.ravel())[0, 1]) < 0.5
    shells = [np.sqrt(shell_average(np.abs(np.fft.rfftn(each)) ** 2, image.shape))[1:6] for each in (image, found)]
    # the ball that it is cut to smooths the spectrum
    assert np.corrcoef(np.log(shells[0]), np.log(shells[1]))[0, 1] > 0.9


def test_evidence_under_a_mask_sees_what_the_mask_holds() -> None:
    rng = np.random.default_rng(1)
    rows, columns = np.mgrid[:33, :33] - 16
    rim = np.cos(2 * np.pi * 8 / 33 * rows) * (np.hypot(rows, columns) > 9)
    counts = np.full((2, 4), 50)
    noise = rng.standard_normal((17, 2, 4, 33, 33)) * np.sqrt(50)
    halves = noise[0] + 15 * rim
    band, diameter = Band(6, 10), 26.0
    wide = masked_evidence(halves, counts, noise[1:], band, average_mask(33))
    small = masked_evidence(halves, counts, noise[1:], band, small_mask(33, diameter))
    assert wide.value > 0.5
    assert abs(small.null_mean) < 0.1
    assert small.value < wide.value - 0.2


def test_options() -> None:
    assert parse_controls("sphere,scrambled,other=a.mrc") == {"sphere": None, "scrambled": None, "other": "a.mrc"}
    for text, part in (("cube", "cube"), ("other", "other"), ("sphere,", "nothing"), ("sphere=2", "sphere=2")):
        with pytest.raises(
            InputError, match=rf"^--controls {text}: {part} is not known; give sphere, scrambled, other"
        ):
            parse_controls(text)


def test_controls_of_maps_and_of_images() -> None:
    rng = np.random.default_rng(2)
    volume = blob_volume(phantom(8.0, elongation=1.5), 32)
    given = TemplateInput("map", volume, 5.0, "map")
    ball = control_templates("sphere", given, 100.0, rng)
    assert ball.kind == "images"
    assert (ball.data[0] > 0).any(axis=0).sum() == 19
    assert control_templates("scrambled", given, 100.0, rng).data.shape == volume.shape
    images = TemplateInput("images", volume[14:17], 5.0, "averages")
    assert control_templates("scrambled", images, 100.0, rng).data.shape == (3, 32, 32)
