"""The CTF against a plain version, textbook values and its sign; phase flipping against multiplication."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.fft

from napari_pickbias.imaging.ctf import ctf, electron_wavelength_angstrom, phase_flip
from napari_pickbias.imaging.fourier import fourier_crop, frequency_axes

MICROSCOPE = {"voltage_kv": 300.0, "spherical_aberration_mm": 2.7, "amplitude_contrast": 0.1}
DEFOCUS = {"defocus_u_angstrom": 16000.0, "defocus_v_angstrom": 14000.0, "defocus_angle_deg": 30.0}


def plain_ctf(shape: tuple[int, int], pixel: float, phase_shift_deg: float = 0.0, **p: float) -> np.ndarray:
    """The slow version: one coefficient at a time, with defocus interpolated by the angle of the frequency."""
    wavelength = float(electron_wavelength_angstrom(p["voltage_kv"]))
    result = np.empty((shape[0], shape[1] // 2 + 1))
    for i, fy in enumerate(np.fft.fftfreq(shape[0], pixel)):
        for j, fx in enumerate(np.fft.rfftfreq(shape[1], pixel)):
            k2 = fx**2 + fy**2
            relative = np.arctan2(fy, fx) - np.radians(p["defocus_angle_deg"])
            defocus = p["defocus_u_angstrom"] * np.cos(relative) ** 2 + p["defocus_v_angstrom"] * np.sin(relative) ** 2
            chi = (
                np.pi * wavelength * defocus * k2
                - np.pi / 2 * p["spherical_aberration_mm"] * 1e7 * wavelength**3 * k2**2
            )
            w = p["amplitude_contrast"]
            chi += np.radians(phase_shift_deg) + np.arctan(w / np.sqrt(1 - w**2))
            result[i, j] = np.sin(chi)
    return result


@pytest.mark.parametrize(("kilovolt", "picometre"), [(100, 3.7014), (200, 2.5079), (300, 1.9687)])
def test_wavelengths_are_the_textbooks(kilovolt: float, picometre: float) -> None:
    assert electron_wavelength_angstrom(kilovolt) == pytest.approx(picometre / 100, rel=3e-5)


@pytest.mark.parametrize("shape", [(12, 12), (13, 13), (10, 15)])
def test_ctf_is_the_plain_version(shape: tuple[int, int]) -> None:
    result = ctf(shape, 1.7, phase_shift_deg=40.0, **DEFOCUS, **MICROSCOPE)
    assert result.shape == (1, shape[0], shape[1] // 2 + 1)
    np.testing.assert_allclose(result[0], plain_ctf(shape, 1.7, 40.0, **DEFOCUS, **MICROSCOPE), atol=2e-6)


def test_parameters_may_differ_from_image_to_image() -> None:
    two = ctf((8, 8), 2.0, **{**DEFOCUS, "defocus_u_angstrom": np.array([16000.0, 9000.0])}, **MICROSCOPE)
    one = ctf((8, 8), 2.0, **{**DEFOCUS, "defocus_u_angstrom": 9000.0}, **MICROSCOPE)
    np.testing.assert_array_equal(two[1], one[0])
    assert np.abs(two[0] - two[1]).max() > 0.5


def test_it_starts_at_plus_the_amplitude_contrast_and_rises() -> None:
    curve = ctf((256, 256), 2.0, **DEFOCUS, **MICROSCOPE)[0, 0]
    assert curve[0] == pytest.approx(0.1, abs=1e-6)
    assert np.all(np.diff(curve[:8]) > 0)


def test_first_zero_of_a_pure_phase_object() -> None:
    round_defocus = {"defocus_u_angstrom": 10000.0, "defocus_v_angstrom": 10000.0, "defocus_angle_deg": 0.0}
    zero = 1 / np.sqrt(float(electron_wavelength_angstrom(300.0)) * 10000)  # lambda dz k^2 = 1
    size = 4000
    curve = ctf((2, size), 2.0, voltage_kv=300.0, spherical_aberration_mm=0.0, amplitude_contrast=0.0, **round_defocus)[
        0, 0
    ]
    found = np.flatnonzero(np.diff(np.sign(curve[1:])))[0] + 1
    assert found / (size * 2.0) == pytest.approx(zero, abs=1 / (size * 2.0))


def test_larger_defocus_lies_along_its_angle_from_x_to_y() -> None:
    size = 200
    field = ctf((size, size), 2.0, **{**DEFOCUS, "defocus_angle_deg": 90.0}, **MICROSCOPE)[0]
    along_x, along_y = field[0, 1:], field[1 : size // 2 + 1, 0]

    def first_zero(curve: np.ndarray) -> int:
        return int(np.flatnonzero(curve < 0)[0])

    assert first_zero(along_y) < first_zero(along_x)  # 16000 Å along y


@pytest.mark.parametrize("shape", [(16, 16), (17, 17), (12, 15)])
def test_phase_flip_multiplies_by_the_sign(shape: tuple[int, int]) -> None:
    images = np.random.default_rng(0).standard_normal((3, *shape)).astype(np.float32)
    parameters = {**DEFOCUS, "defocus_u_angstrom": np.array([8e3, 16e3, 25e3])}
    sign = np.where(ctf(shape, 2.2, **parameters, **MICROSCOPE) < 0, -1, 1)
    expected = scipy.fft.irfft2(scipy.fft.rfft2(images) * sign, s=shape)
    flipped = phase_flip(images, 2.2, **parameters, **MICROSCOPE)
    assert flipped.dtype == np.float32
    np.testing.assert_allclose(flipped, expected, atol=1e-5)
    np.testing.assert_allclose(flipped.mean(axis=(1, 2)), images.mean(axis=(1, 2)), atol=1e-6)


@pytest.mark.parametrize(("size", "new"), [(32, 15), (32, 16), (33, 15), (33, 16), (33, 32), (32, 31), (32, 32)])
def test_flipping_with_a_crop_is_flipping_then_cropping(size: int, new: int) -> None:
    images = np.random.default_rng(0).standard_normal((2, size, size)).astype(np.float32)
    expected = fourier_crop(phase_flip(images, 1.5, **DEFOCUS, **MICROSCOPE), new)
    result = phase_flip(images, 1.5, new_size=new, **DEFOCUS, **MICROSCOPE)
    np.testing.assert_allclose(result, expected, atol=3e-6)


def test_cropping_needs_square_images_that_are_larger() -> None:
    with pytest.raises(ValueError, match="`new_size` is 18; it must be at most 16, the side of the images"):
        phase_flip(np.zeros((1, 16, 16)), 1.0, new_size=18, **DEFOCUS, **MICROSCOPE)
    with pytest.raises(ValueError, match="the last two sides must be equal"):
        phase_flip(np.zeros((1, 16, 18)), 1.0, new_size=8, **DEFOCUS, **MICROSCOPE)


def test_flipping_undoes_the_oscillation_but_not_the_envelope() -> None:
    rows, columns = frequency_axes((63, 63))
    structure = np.exp(-2 * np.pi**2 * 1.0**2 * (rows**2 + columns**2))
    transfer = ctf((63, 63), 2.0, **DEFOCUS, **MICROSCOPE)
    image = scipy.fft.irfft2(structure * transfer[0], s=(63, 63))
    flipped = scipy.fft.rfft2(phase_flip(image[None], 2.0, **DEFOCUS, **MICROSCOPE)[0])
    np.testing.assert_allclose(flipped.real, structure * np.abs(transfer[0]), atol=1e-5)
