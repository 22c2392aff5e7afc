"""Preprocessing: what is made even, what is found bad, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from napari_pickbias.errors import InputError
from napari_pickbias.imaging.noise import COLOURS, gaussian_noise
from napari_pickbias.matching.preprocess import _smooth, bad_area, prepare

DIAMETER, BOX = 12.0, 24
SIDE = 320


def image(seed: int = 0) -> np.ndarray:
    return gaussian_noise(1, (SIDE, SIDE - 20), np.random.default_rng(seed), power=COLOURS["coloured"])[0]


def test_uneven_light_and_contrast_are_made_even() -> None:
    y = np.linspace(0, 1, SIDE)[:, None]
    uneven = (1 + y) * image() + 4 * y
    prepared = prepare(uneven, DIAMETER, BOX)
    plain = prepare(image(), DIAMETER, BOX)
    assert prepared.bad_fraction < 0.02
    thirds = [prepared.image[part][:, 20:-20] for part in (slice(20, 110), slice(110, 210), slice(210, 300))]
    # 10 seeds: means within .06 (they are local means of coloured noise), deviations .94 ... 1.00
    assert max(abs(float(third.mean())) for third in thirds) < 0.1
    assert all(0.9 < third.std() < 1.05 for third in thirds)
    assert np.corrcoef(prepared.image[20:-20, 20:-20].ravel(), plain.image[20:-20, 20:-20].ravel())[0, 1] > 0.99


def test_scale_and_offset_do_not_matter() -> None:
    first, second = prepare(image(), DIAMETER, BOX), prepare(250 * image() - 3e4, DIAMETER, BOX)
    np.testing.assert_allclose(first.image, second.image, atol=2e-3)
    np.testing.assert_array_equal(first.inside, second.inside)


@pytest.mark.parametrize("kind", [np.int8, np.float16, np.int16])
def test_any_number_type(kind: type) -> None:
    found = prepare(np.round(20 * image()).astype(kind), DIAMETER, BOX)
    assert found.image.dtype == np.float32
    assert np.corrcoef(found.image.ravel(), prepare(image(), DIAMETER, BOX).image.ravel())[0, 1] > 0.999


def test_outliers_are_clipped() -> None:
    hot = image()
    hot[150, 150] += 500
    assert np.abs(prepare(hot, DIAMETER, BOX).image).max() <= 6


def test_a_carbon_edge_and_ice_are_found_and_kept_clear_of() -> None:
    spoiled = image()
    spoiled[:, :50] -= 6 * spoiled.std()
    y, x = np.mgrid[:SIDE, : SIDE - 20]
    ice = np.hypot(y - 220, x - 200) < 20
    spoiled[ice] += 8 * image().std()
    prepared = prepare(spoiled, DIAMETER, BOX)
    assert bad_area(((spoiled - spoiled.mean()) / spoiled.std()).astype(np.float32), DIAMETER, BOX)[ice].all()
    assert (prepared.image[ice] == 0).all()
    assert not prepared.inside[:, : 50 + BOX // 2].any()
    assert not prepared.inside[np.hypot(y - 220, x - 200) < 20 + BOX // 2].any()
    assert prepared.inside[60:120, 150:250].all()
    assert 0.1 < prepared.bad_fraction < 0.5


def test_noise_has_no_bad_area_and_the_border_is_left_out() -> None:
    fractions = [prepare(image(seed), DIAMETER, BOX).bad_fraction for seed in range(5)]
    assert max(fractions) < 0.02  # 20 seeds: at most .008
    inside = prepare(image(1), DIAMETER, BOX).inside
    margin = int(1.12 * DIAMETER)
    assert not inside[:margin].any()
    assert not inside[:, -margin:].any()
    assert inside[margin + 1, SIDE // 2]


@pytest.mark.parametrize(
    ("micrograph", "line"),
    [
        (np.ones((40, 40)), "micrograph: is constant; leave out that micrograph"),
        (np.full((40, 40), np.nan), "micrograph: holds NaN or infinite pixels; mend or leave out that micrograph"),
        (
            np.eye(20),
            "micrograph: is 20 x 20 px, smaller than the templates (24 px); check the pixel sizes",
        ),
        (np.zeros((3, 40, 40)), "micrograph: has 3 axes; give one 2-D image"),
        (
            np.random.default_rng(0).normal(size=(26, 26)),
            "micrograph: nothing is left of it beside bad area and borders; leave it out",
        ),
    ],
)
def test_faults(micrograph: np.ndarray, line: str) -> None:
    with pytest.raises(InputError) as fault:
        prepare(micrograph, DIAMETER, BOX)
    assert str(fault.value) == line


@pytest.mark.parametrize("sigma", [32.0, 47.0])
def test_wide_blurs_on_coarse_pixels_are_the_direct_ones(sigma: float) -> None:
    """Away from the border, where the direct one repeats single pixels and this one means of them."""
    noise = image()[:311, :293] + 2 * (np.arange(293) > 150)
    seen = slice(round(2 * sigma), -round(2 * sigma))
    for blur in (ndimage.gaussian_filter, ndimage.gaussian_gradient_magnitude):
        wide = _smooth(blur, noise.astype(np.float32), sigma)
        plain = blur(noise, sigma, mode="nearest", truncate=3.0)
        assert wide.shape == plain.shape
        scale = 1 if blur is ndimage.gaussian_filter else int(sigma // 8)
        # Of their range within .0036 for the mean and .019 for the gradient on ten seeds.
        assert np.abs(wide / scale - plain)[seen, seen].max() < (0.008 if scale == 1 else 0.04) * np.ptp(
            plain[seen, seen]
        )


def test_narrow_blurs_are_direct() -> None:
    noise = image().astype(np.float32)
    direct = ndimage.gaussian_filter(noise, 31.9, mode="nearest", truncate=3.0)
    np.testing.assert_array_equal(_smooth(ndimage.gaussian_filter, noise, 31.9), direct)
