"""Band-limited resampling, shifts, shells and filters, against direct sums and SciPy."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.fft
import scipy.signal
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_pickbias.imaging import fourier

SIZES = st.integers(1, 17)


def smooth_signal(position: np.ndarray, extent: float) -> np.ndarray:
    """A band-limited periodic signal, sampled at ``position`` px from the origin of a box of ``extent`` px."""
    turns = 2 * np.pi * position / extent
    return 1.5 + np.cos(turns) - 0.4 * np.sin(2 * turns) + 0.3 * np.cos(3 * turns + 0.7)


def images_of(sizes: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """The same smooth image sampled on two grids."""
    old = sizes[0]
    axes = []
    for size in sizes:
        position = (np.arange(size) - size // 2) * (old / size)
        axes.append(np.outer(smooth_signal(position, old), smooth_signal(position + 2.2, old)))
    return axes[0], axes[1]


@pytest.mark.parametrize(("old", "new"), [(85, 33), (64, 33), (64, 32), (85, 32), (20, 9), (9, 8), (8, 8)])
def test_crop_samples_the_same_band_limited_image_on_the_coarser_grid(old: int, new: int) -> None:
    fine, coarse = images_of((old, new))
    np.testing.assert_allclose(fourier.fourier_crop(fine, new), coarse, atol=1e-12)
    np.testing.assert_allclose(fourier.fourier_pad(coarse, old), fine, atol=1e-12)


@given(old=SIZES, new=SIZES, seed=st.integers(0, 5))
@settings(deadline=None, derandomize=True, max_examples=60)
def test_pad_then_crop_is_the_identity_and_constants_stay(old: int, new: int, seed: int) -> None:
    small, large = sorted((old, new))
    image = np.random.default_rng(seed).standard_normal((2, small, small))
    np.testing.assert_allclose(fourier.fourier_crop(fourier.fourier_pad(image, large), small), image, atol=1e-12)
    constant = np.full((large, large), 3.25)
    np.testing.assert_allclose(fourier.fourier_crop(constant, small), 3.25, atol=1e-12)


@given(old=SIZES, new=SIZES, seed=st.integers(0, 5))
@settings(deadline=None, derandomize=True, max_examples=60)
def test_matrix_and_half_spectrum_give_the_same(old: int, new: int, seed: int) -> None:
    image = np.random.default_rng(seed).standard_normal((3, old, old))
    spectrum = fourier.resize_half_spectrum(scipy.fft.rfft2(image), old, new)
    through_fft = scipy.fft.irfft2(spectrum, s=(new, new))
    expected = fourier.fourier_crop(image, new) if new <= old else fourier.fourier_pad(image, new)
    np.testing.assert_allclose(through_fft, expected, atol=1e-12)


def test_large_images_take_the_fft_and_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    image = np.random.default_rng(0).standard_normal((2, 30, 30)).astype(np.float32)
    small = fourier.fourier_crop(image, 13)
    monkeypatch.setattr(fourier, "LARGEST_MATRIX_PX", 10)
    through_fft = fourier.fourier_crop(image, 13)
    assert small.dtype == through_fft.dtype == np.float32
    np.testing.assert_allclose(through_fft, small, atol=1e-6)


def test_resampling_one_axis_is_scipys_when_the_origins_coincide() -> None:
    signal = np.random.default_rng(0).standard_normal(24)
    for new in (12, 8, 6, 36, 48):  # n // 2 of both grids is the same place
        np.testing.assert_allclose(fourier.resampling_matrix(24, new) @ signal, scipy.signal.resample(signal, new))


def test_cropping_white_noise_keeps_its_share_of_the_variance() -> None:
    noise = np.random.default_rng(0).standard_normal((400, 45, 45)).astype(np.float32)
    # the band holds (15 / 45)^2 of the coefficients; 90,000 pixels: standard error 0.5 %
    assert fourier.fourier_crop(noise, 15).var() == pytest.approx((15 / 45) ** 2, rel=0.02)


def test_volumes_resample_like_images_and_keep_density() -> None:
    position = np.arange(20) - 10
    old = smooth_signal(position, 20)
    new = smooth_signal((np.arange(13) - 6) * (20 / 13), 20)
    volume = old[:, None, None] * old[None, :, None] * old[None, None, :]
    expected = new[:, None, None] * new[None, :, None] * new[None, None, :]
    np.testing.assert_allclose(fourier.fourier_resample_volume(volume, 13), expected, atol=1e-11)


@pytest.mark.parametrize("size", [16, 17])
def test_whole_shifts_are_rolls_along_x_and_y(size: int) -> None:
    images = np.random.default_rng(0).standard_normal((2, size, size))
    moved = fourier.shift_images(images, np.array([[3.0, -2.0], [0.0, 1.0]]))
    np.testing.assert_allclose(moved[0], np.roll(images[0], (-2, 3), axis=(0, 1)), atol=1e-12)
    np.testing.assert_allclose(moved[1], np.roll(images[1], (1, 0), axis=(0, 1)), atol=1e-12)


@given(size=st.integers(2, 12), dx=st.floats(-3, 3), dy=st.floats(-3, 3))
@settings(deadline=None, derandomize=True, max_examples=40)
def test_shift_back_is_the_transpose_of_shift(size: int, dx: float, dy: float) -> None:
    a, b = np.random.default_rng(0).standard_normal((2, 1, size, size))
    there, back = np.array([[dx, dy]]), np.array([[-dx, -dy]])
    assert np.sum(fourier.shift_images(a, there) * b) == pytest.approx(np.sum(a * fourier.shift_images(b, back)))


def test_fractional_shift_moves_a_smooth_image() -> None:
    image, _ = images_of((15, 15))
    offset = np.arange(15) - 7
    expected = np.outer(smooth_signal(offset + 0.4, 15), smooth_signal(offset - 1.3 + 2.2, 15))
    np.testing.assert_allclose(fourier.shift_images(image[None], np.array([[1.3, -0.4]]))[0], expected, atol=1e-12)


@pytest.mark.parametrize("shape", [(12, 12), (13, 13), (10, 15), (7, 8, 9)])
def test_shell_average_is_the_mean_over_the_full_spectrum(shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(0).standard_normal(shape)
    power = np.abs(np.fft.fftn(values)) ** 2
    radius = np.sqrt(sum(f**2 for f in np.meshgrid(*[np.fft.fftfreq(n) for n in shape], indexing="ij")))
    shell = np.rint(radius * min(shape)).astype(int)
    expected = [power[shell == s].mean() for s in range(min(shape) // 2 + 1)]
    half = np.abs(np.fft.rfftn(values)) ** 2
    np.testing.assert_allclose(fourier.shell_average(half, shape), expected)
    np.testing.assert_allclose(fourier.shell_average(np.stack([half, 2 * half]), shape)[1], 2 * np.array(expected))


@pytest.mark.parametrize("size", [10, 11])
def test_radial_mean_of_a_radial_image_is_its_profile(size: int) -> None:
    radius = fourier.radius_grid(size)
    assert radius[size // 2, size // 2] == 0
    np.testing.assert_allclose(fourier.radial_mean(np.rint(radius)), np.arange(size // 2 + 1))


def test_frequency_units() -> None:
    rows, columns = fourier.frequency_axes((4, 6), 2.0)
    np.testing.assert_allclose(rows.ravel(), [0, 0.125, -0.25, -0.125])  # 1/Å at 2 Å per pixel
    np.testing.assert_allclose(columns.ravel(), np.arange(4) / 12)
    assert fourier.radial_frequency((4, 4), 1 / (2 * np.pi))[0, -1] == pytest.approx(np.pi)


def test_band_filter_is_one_half_at_its_limits_and_keeps_the_band() -> None:
    band = fourier.band_filter((100, 100), 2.0, lowpass_angstrom=10.0, highpass_angstrom=50.0, edge_px=2)
    assert band[0, 20] == pytest.approx(0.5)  # 200 Å / 10 Å
    assert band[0, 4] == pytest.approx(0.5)  # 200 Å / 50 Å
    assert band[0, 0] == 0
    np.testing.assert_allclose(band[0, 6:19], 1)
    np.testing.assert_allclose(band[0, 22:], 0)
    assert fourier.band_filter((8, 8), 1.0, lowpass_angstrom=4.0, edge_px=0)[0].tolist() == [1, 1, 1, 0, 0]
    kept = fourier.apply_filter(np.full((8, 8), 2.0, np.float32), fourier.band_filter((8, 8), 1.0))
    assert kept.dtype == np.float32
    np.testing.assert_allclose(kept, 2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: fourier.fourier_crop(np.zeros((4, 5)), 3),
            "`images` has shape (4, 5); the last two sides must be equal",
        ),
        (
            lambda: fourier.fourier_crop(np.zeros((4, 4)), 5),
            "`new_size` is 5; it must lie in 1 ... 4, the side of the images",
        ),
        (
            lambda: fourier.fourier_pad(np.zeros((4, 4)), 3),
            "`new_size` is 3; it must be at least 4, the side of the images",
        ),
        (
            lambda: fourier.fourier_resample_volume(np.zeros((4, 4, 3)), 2),
            "`volume` has shape (4, 4, 3); it must be a cube",
        ),
        (
            lambda: fourier.band_filter((8, 8), 1.0, lowpass_angstrom=20, highpass_angstrom=10),
            "`lowpass_angstrom` is 20 and `highpass_angstrom` 10: nothing is left; "
            "the low-pass must be the smaller length",
        ),
    ],
)
def test_wrong_calls_say_what_is_wrong(call, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        call()
    assert str(caught.value) == message
