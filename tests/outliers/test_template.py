from __future__ import annotations

import numpy as np
import pytest

from napari_pickbias.errors import InputError
from napari_pickbias.outliers import covariance as cov
from napari_pickbias.outliers.factors import (
    Factors,
    angular_covariances,
    factor_images,
    harmonic_weights,
    learn_factors,
)
from napari_pickbias.outliers.geometry import make_geometry, pixel_grid
from napari_pickbias.outliers.preparation import detect_contrast, prepare, usable_images, working_box
from napari_pickbias.outliers.template import (
    first_profile,
    profile_image,
    radial_bins,
    radial_sums,
    taper,
    update_profile,
)


def test_grid_of_the_published_size_has_169_centres_49_of_them_in_the_core() -> None:
    """33 px, R = 9: step 3 px up to 21 px, core up to 12 px; what is dropped for lack of energy comes later."""
    geometry = make_geometry(33, 9.0)
    assert len(geometry.centres) == 15**2
    assert geometry.n_core == 49
    assert geometry.inner_px == 7.5
    assert geometry.ring_px == 12.0
    assert (geometry.centre_radius[:49] <= 12).all()
    assert (geometry.centre_radius[49:] > 12).all()


def test_box_too_small_is_refused_with_the_box_that_would_do() -> None:
    with pytest.raises(InputError, match=r"a box of 33 px is too small for a particle of radius 13 px.*at least 35 px"):
        make_geometry(33, 13.0)
    make_geometry(35, 13.0)


@pytest.mark.parametrize(("radius", "text"), [(0.0, "not a positive length"), (np.nan, "positive"), (1.5, "too few")])
def test_radius_that_cannot_be_is_refused(radius: float, text: str) -> None:
    with pytest.raises(InputError, match=text):
        make_geometry(33, radius)


def test_profile_is_cut_off_by_the_box_and_does_not_wrap() -> None:
    profile = np.exp(-0.5 * (np.arange(radial_bins(15)) / 2.0) ** 2)
    image = profile_image(profile, 15, np.array([[7.0, 0.0]])).reshape(15, 15)
    y, x = pixel_grid(15)
    np.testing.assert_allclose(image, np.exp(-((y - 7) ** 2 + x**2) / 8), atol=0.02)
    assert image[0].max() < 1e-6


def test_radial_sums_give_back_a_radial_function() -> None:
    y, x = pixel_grid(21)
    total, weight = radial_sums(np.hypot(y - 2, x + 1.5) * 3.0, np.array([2.0, -1.5]), radial_bins(21))
    radii = np.arange(len(total))
    near = (radii >= 2) & (radii < 7)
    np.testing.assert_allclose(total[near] / weight[near], 3.0 * radii[near], rtol=0.05)
    assert weight.sum() == pytest.approx(21**2)


def test_update_profile_recovers_the_template_from_shifted_particles() -> None:
    radius = 5.0
    radii = np.arange(radial_bins(25), dtype=float)
    truth = 2 * np.cos(radii / 4) * taper(radii, radius)
    centres = np.array([[0.0, 0.0], [2.0, -1.0], [-3.0, 2.5]])
    amplitude, background = np.array([1.0, 0.7, 1.4]), 5.0
    images = amplitude[:, None] * profile_image(truth, 25, centres) + background
    sums = amplitude[:, None] * images
    found = update_profile(sums, amplitude**2, centres, 25, radius)
    np.testing.assert_allclose(found[1:8], truth[1:8], atol=0.12)  # a pixel is shared by two radii: slightly blurred


def test_first_profile_is_a_gaussian_where_nothing_is_bright() -> None:
    ring = make_geometry(21, 5.0).ring()
    images = np.tile(np.where(ring, 1.0, 0.0), (3, 1, 1))
    radii = np.arange(radial_bins(21))
    expected = np.exp(-0.5 * (radii / 2.5) ** 2) * taper(radii, 5.0)
    np.testing.assert_allclose(first_profile(images, ring, 5.0), expected)


def test_harmonic_weights_measure_the_angular_coefficients() -> None:
    """cos(2 phi) has c_2 = 1/2 and nothing else; the ring that the box cuts counts its missing part as 0."""
    y, x = pixel_grid(31)
    centre = np.array([1.3, -2.6])
    image = np.cos(2 * np.arctan2(y - centre[0], x - centre[1])).ravel()
    c = harmonic_weights(31, centre, 12, 3) @ image
    np.testing.assert_allclose(c[2, 4:12], 0.5, atol=0.03)
    np.testing.assert_allclose(np.abs(c[[0, 1, 3], 4:12]), 0, atol=0.03)


def test_factors_of_a_known_kind_are_found_and_no_others() -> None:
    """Images with one elliptic factor of known variance. Variance ratio at 8 seeds: 0.89 ... 1.00."""
    d, radius, count = 25, 6.0, 600
    rng = np.random.default_rng(0)
    noise = cov.noise_model(np.eye(2 * d)[:1].T @ np.eye(2 * d)[:1])
    radii = np.arange(radial_bins(d), dtype=float)
    profile = 2 * np.exp(-0.5 * (radii / 3) ** 2) * taper(radii, radius)
    shape = (radii / 3) ** 2 * np.exp(-0.5 * (radii / 3) ** 2) * taper(radii, radius)
    truth = Factors(np.array([2]), shape[None], np.array([1.5]))
    centres = np.array([[0.0, 0.0], [2.0, 1.0]])
    which = rng.integers(0, 2, count)
    coefficients = rng.normal(0, np.sqrt(1.5), (count, 2))
    drawn = profile_image(profile, d, centres)[which]
    drawn = drawn + np.einsum("npk,nk->np", factor_images(truth, d, centres)[which], coefficients)
    images = drawn.reshape(count, d, d) + noise.draw(count, rng)
    moments = angular_covariances(images, centres, which, 9, 4, profile, np.ones(count), noise)
    found = learn_factors(*moments, count, profile, 1.0, radius)
    assert found.order.tolist() == [2]
    strength = found.variance[0] * (found.profile[0] ** 2 * radii).sum()
    assert strength / (1.5 * (shape**2 * radii).sum()) == pytest.approx(0.95, abs=0.12)
    cosine = found.profile[0] @ shape / np.linalg.norm(found.profile[0]) / np.linalg.norm(shape)
    assert abs(cosine) > 0.98
    limited = learn_factors(*moments, count, profile, 1.0, radius, max_columns=1)
    assert len(limited.order) == 0


def test_noise_alone_has_no_factors() -> None:
    d, count = 25, 500
    noise = cov.noise_model(np.eye(2 * d)[:1].T @ np.eye(2 * d)[:1])
    images = noise.draw(count, np.random.default_rng(2))
    profile = np.exp(-0.5 * (np.arange(radial_bins(d)) / 3) ** 2)
    centres, which = np.zeros((1, 2)), np.zeros(count, int)
    moments = angular_covariances(images, centres, which, 9, 6, profile, np.zeros(count), noise)
    assert len(learn_factors(*moments, count, profile, 1.0, 6.0, share=0.0).order) == 0


def test_prepare_takes_planes_off_and_keeps_the_origin() -> None:
    rng = np.random.default_rng(0)
    images = rng.standard_normal((3, 21, 21)).astype(np.float32)
    y, x = pixel_grid(21)
    shifted = (images + 1e4 + 30 * y - 50 * x).astype(np.float32)
    np.testing.assert_allclose(prepare(shifted, 21), prepare(images, 21), atol=5e-3)
    np.testing.assert_allclose(prepare(images, 21, 4.0), prepare(images, 21) / 4, rtol=1e-5, atol=1e-7)
    blob = np.exp(-(y**2 + x**2) / 18)[None].astype(np.float32)
    small = prepare(blob, 11)[0]
    assert np.unravel_index(small.argmax(), small.shape) == (5, 5)


def test_working_box_is_odd_and_brings_the_radius_to_nine() -> None:
    assert working_box(33, 9.0, 9.0) == 33
    assert working_box(36, 10.5, 9.0) == 36  # near enough: left alone
    assert working_box(55, 15.0, 9.0) == 33
    assert working_box(200, 48.0, 9.0) == 37
    assert working_box(200, 48.0, None) == 200


def test_usable_images() -> None:
    images = np.random.default_rng(0).standard_normal((4, 5, 5))
    images[1, 2, 2], images[2], images[3, 0, 0] = np.nan, 7.0, np.inf
    assert usable_images(images).tolist() == [True, False, False, False]


def test_contrast_is_the_sign_of_the_middle() -> None:
    rng = np.random.default_rng(0)
    y, x = pixel_grid(33)
    images = rng.standard_normal((200, 33, 33)) + 0.5 * np.exp(-(y**2 + x**2) / 40) + 0.1 * y
    bright, strength = detect_contrast(images, 9.0)
    dark, other = detect_contrast(-images, 9.0)
    assert (bright, dark) == (1, -1)
    assert strength == pytest.approx(other, rel=1e-5)
    assert strength > 10
    assert detect_contrast(rng.standard_normal((200, 33, 33)), 9.0)[1] < 4
    assert detect_contrast(np.zeros((3, 33, 33)), 9.0) == (1, 0.0)
