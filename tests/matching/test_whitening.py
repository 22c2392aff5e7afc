"""Whitened matching: the filter by hand, units on noise, and the gain that a matched filter must bring."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_pickbias.errors import InputError
from napari_pickbias.matching import TemplateBank, score_map
from napari_pickbias.matching.whitening import spectrum_on_grid, whitened


def radial(n: int) -> np.ndarray:
    return np.hypot(np.fft.fftfreq(n)[:, None], np.fft.rfftfreq(n)[None])


def steep(n: int) -> np.ndarray:
    """A spectrum that falls by three decades, with a direction in which there is more of it."""
    along = np.abs(np.fft.fftfreq(n))[:, None] + 0 * radial(n)
    return 40 / (1 + (radial(n) / 0.02) ** 2) ** 1.2 * (1 + along) + 0.05


def noise(power: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    n = power.shape[0]
    return np.fft.irfft2(np.fft.rfft2(rng.normal(size=(n, n))) * np.sqrt(power), s=(n, n))


def blob_bank(box: int = 24) -> TemplateBank:
    y, x = np.mgrid[:box, :box] - box // 2
    images = np.stack([np.exp(-(x**2 / a + y**2 / b)) * np.cos(0.7 * x) for a, b in ((30, 20), (18, 40))])
    return TemplateBank.from_images(images)


def test_the_spectrum_on_its_own_grid_is_itself_and_bilinear_between() -> None:
    power = np.random.default_rng(0).uniform(1, 2, (8, 5))
    np.testing.assert_allclose(spectrum_on_grid(power, (8, 8)), power)
    fine = spectrum_on_grid(power, (16, 16))
    np.testing.assert_allclose(fine[::2, ::2], power)
    np.testing.assert_allclose(fine[1, 1], power[:2, :2].mean())
    np.testing.assert_allclose(fine[15, 0], (power[7, 0] + power[0, 0]) / 2)  # rows are a circle


@settings(deadline=None, derandomize=True, max_examples=30)
@given(size=st.integers(1, 12), height=st.integers(1, 20), width=st.integers(1, 20))
def test_a_flat_spectrum_is_flat_on_every_grid(size: int, height: int, width: int) -> None:
    power = np.full((size, size // 2 + 1), 3.0)
    np.testing.assert_allclose(spectrum_on_grid(power, (height, width)), np.full((height, width // 2 + 1), 3.0))


def test_the_filter_makes_noise_white() -> None:
    power = steep(256)
    image = noise(power, np.random.default_rng(1)).astype(np.float32)
    once, twice = whitened(image, power)
    assert once.var() == pytest.approx(1.0, abs=0.025)  # over 20 seeds: .986-1.010
    expected = np.fft.irfft2(np.fft.rfft2(image.astype(float)) / power, s=image.shape)
    np.testing.assert_allclose(twice, expected, rtol=0, atol=2e-5 * np.abs(expected).max())


@pytest.mark.parametrize("normalise", ["none", "local", "global"])
def test_equals_whitened_templates_on_a_whitened_micrograph(normalise: str) -> None:
    """Both filtered, each template over the whole period: what the docstring states."""
    n, power = 128, steep(128)
    image = 5 + 3 * noise(power, np.random.default_rng(2))
    bank = blob_bank()
    scores, best = score_map(image, bank, whiten=9 * power, normalise=normalise, border="wrap")  # type: ignore[arg-type]
    white = np.fft.irfft2(np.fft.rfft2(image - image.mean()) / np.sqrt(9 * power), s=(n, n))
    values = []
    for template in bank.images.astype(float):
        padded = np.zeros((n, n))
        padded[:24, :24] = template
        padded = np.roll(padded, (-12, -12), axis=(0, 1))
        white_template = np.fft.irfft2(np.fft.rfft2(padded) / np.sqrt(9 * power), s=(n, n))
        white_template /= np.linalg.norm(white_template)
        values.append(np.fft.irfft2(np.fft.rfft2(white) * np.conj(np.fft.rfft2(white_template)), s=(n, n)))
    expected = np.max(values, axis=0)
    if normalise == "global":
        expected /= white.std()
    if normalise == "local":
        weights = bank.mask.astype(float) / bank.mask.sum()
        padded = np.zeros((n, n))
        padded[:24, :24] = weights
        padded = np.roll(padded, (-12, -12), axis=(0, 1))
        mean, square = (
            np.fft.irfft2(np.fft.rfft2(a) * np.conj(np.fft.rfft2(padded)), s=(n, n)) for a in (white, white**2)
        )
        expected /= np.sqrt(square - mean**2)
    np.testing.assert_allclose(scores, expected, rtol=0, atol=2e-4)
    assert (best == np.argmax(values, axis=0)).mean() > 0.999


def test_noise_of_the_given_spectrum_scores_one_in_deviation() -> None:
    power = steep(512)
    image = noise(power, np.random.default_rng(3))
    # the spectrum is known on a smaller grid only
    scores, _ = score_map(image, blob_bank().take(np.array([0])), whiten=steep(128), normalise="none")
    # Over 20 seeds: .977-1.012.
    assert scores[np.isfinite(scores)].std() == pytest.approx(1.0, abs=0.04)


def test_whitening_raises_the_score_of_a_planted_template_as_theory_says() -> None:
    """At the template's place the mean score is ``a / s`` plain and ``a s_white`` whitened (Cauchy-Schwarz: more)."""
    n, power = 256, steep(256)
    bank = blob_bank().take(np.array([0]))
    image = noise(power, np.random.default_rng(4))
    clean = np.zeros((n, n))
    clean[100:124, 90:114] = 30 * bank.images[0]
    gain = []
    for options in ({"noise_sd": bank.noise_sd(power)}, {"whiten": power}):
        with_it, without = (score_map(a, bank, normalise="none", **options)[0] for a in (image + clean, image))  # type: ignore[arg-type]
        gain.append(with_it[112, 102] - without[112, 102])
    assert gain[0] == pytest.approx(30 / bank.noise_sd(power)[0], rel=1e-3)
    assert gain[1] == pytest.approx(30 * bank.noise_sd(1 / power)[0], rel=1e-3)
    assert gain[1] > 1.15 * gain[0]


def test_prenormalised_images_keep_their_scale() -> None:
    """Twice the image, twice the score: nothing is divided by the image's own deviation, locally or at large."""
    rng = np.random.default_rng(5)
    image, bank = rng.normal(size=(60, 70)).astype(np.float32), blob_bank(16)
    sd = bank.noise_sd(np.full((32, 17), 4.0))
    np.testing.assert_allclose(sd, 2.0, rtol=1e-5)
    once = score_map(image, bank, normalise="none", noise_sd=sd)[0]
    image[:20] *= 10  # another deviation elsewhere changes nothing here
    twice = score_map(2 * image, bank, normalise="none", noise_sd=sd)[0]
    np.testing.assert_allclose(twice[30:-8, 8:-8], 2 * once[30:-8, 8:-8], rtol=0, atol=1e-5)
    patch = image[30:46, 40:56].astype(float)
    assert once[38, 48] == pytest.approx((bank.images * patch).sum(axis=(1, 2)).max() / 2, abs=1e-5)


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan, np.inf])
def test_a_spectrum_without_floor_is_refused(bad: float) -> None:
    power = steep(32)
    power[3, 2] = bad
    with pytest.raises(InputError) as fault:
        score_map(np.random.default_rng(0).normal(size=(40, 40)), blob_bank(), whiten=power)
    assert str(fault.value) == "noise spectrum: some powers are not finite or not above zero; give it a floor"


def test_misuse() -> None:
    image = np.random.default_rng(0).normal(size=(40, 40))
    with pytest.raises(ValueError, match="exclude each other"):
        score_map(image, blob_bank(), whiten=steep(32), noise_sd=np.ones(2))
    with pytest.raises(ValueError, match=r"must be \(n, n // 2 \+ 1\)"):
        score_map(image, blob_bank(), whiten=np.ones((32, 32)))
