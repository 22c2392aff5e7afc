"""Bias removal: noise stays inside its null, particles do not; plain averages are fooled by both."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.fft
from bias.scene import BOX, FINEST, GRID, PIXEL, Scene, band_values, micrograph, patches_of, pick, power_on

from napari_pickbias.bias.span import bank_span, local_span, removal, whitening_filter, whitening_on
from napari_pickbias.imaging.noise import noise_of_spectrum


def gather(scene: Scene, seed: int, particles: int, threshold: float, most: int) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(6):
        image = micrograph(scene, 512, rng, particles, 8.0)
        picks = pick(scene, image, threshold, most)
        found.append((*patches_of(scene, image, picks), picks["template"]))
    return tuple(np.concatenate(part) for part in zip(*found, strict=True))


def mean_bands(scene: Scene, patches: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    rng = np.random.default_rng(0)
    inside, beyond = np.mean([band_values(scene, patches, labels, rng) for _ in range(4)], axis=0)
    return float(inside), float(beyond)


def test_noise_is_brought_to_nothing_and_particles_are_not(scene: Scene) -> None:
    whitened, plain, labels = gather(scene, 1, 0, 2.5, 250)
    assert len(labels) > 1200
    assert mean_bands(scene, whitened, labels)[0] > 0.9  # noise alone: the halves agree perfectly
    inside, beyond = mean_bands(scene, scene.removal.apply(whitened, plain), labels)
    # 4 seeds: inside .13 to .26, beyond .02 to .07; smaller eigenvalues would bring it to nothing, and particles too
    assert abs(inside) < 0.35
    assert abs(beyond) < 0.1
    wide = bank_span(scene.bank.images[::2], BOX, 10.0, keep=1e-4)
    white = whitening_filter(scene.power, PIXEL, finest=FINEST, coarsest=400.0)
    inside, beyond = mean_bands(scene, removal(wide, scene.power, white).apply(whitened, plain), labels)
    assert abs(inside) < 0.2  # 4 seeds: .02 to .12
    assert abs(beyond) < 0.08
    template = removal(
        local_span(scene.bank.images[:1], derivatives=False), scene.power, white,
    )  # fmt: skip
    assert mean_bands(scene, template.apply(whitened, plain), labels)[0] > 0.8  # removing one template does not help

    whitened, plain, labels = gather(scene, 2, 100, 4.0, 120)
    inside, beyond = mean_bands(scene, scene.removal.apply(whitened, plain), labels)
    assert inside > 0.25  # 4 seeds: .34 to .49
    assert beyond > 0.2  # 4 seeds: .27 to .34


def test_what_is_left_is_uncorrelated_with_all_scores_in_reach(scene: Scene) -> None:
    """Exact statement of the removal, on patches at random places: no regression is left on any score."""
    rng = np.random.default_rng(3)
    noise = noise_of_spectrum(240, power_on(128), (128, 128), rng)
    white = whitening_on(scene.power, (128, 128), PIXEL, finest=FINEST, coarsest=400.0)
    whitened = scipy.fft.irfft2(scipy.fft.rfft2(noise) * white, s=(128, 128))
    cut = [slice(5, 38), slice(47, 80), slice(90, 123)]
    pairs = [(whitened[:, a, b], noise[:, a, b]) for a in cut for b in cut]
    left = np.concatenate([scene.removal.apply(w, z) for w, z in pairs]).reshape(2160, -1)
    before = np.concatenate([w for w, _ in pairs]).reshape(2160, -1)
    scores = np.concatenate([z for _, z in pairs]).reshape(2160, -1) @ scene.bank.images[::7].reshape(-1, BOX**2).T
    scores /= scores.std(axis=0)

    def explained(values: np.ndarray) -> float:
        return float(np.mean((values.T @ scores / 2160) ** 2) / np.mean(values.var(axis=0)))

    chance = 1 / 2160
    assert explained(before) > 4 * chance
    assert explained(left) == pytest.approx(chance, rel=0.25)


def test_span_holds_templates_at_all_shifts_in_reach(scene: Scene) -> None:
    basis = bank_span(scene.bank.images[::2], BOX, 10.0)
    np.testing.assert_allclose(basis @ basis.T, np.eye(len(basis)), atol=1e-9)
    x = np.zeros((BOX, BOX))
    x[3:, :-2] = scene.bank.images[1][:-3, 2:]  # an angle that is not in it, moved by 3.6 px
    inside = basis @ x.ravel()
    assert float(inside @ inside) / float((x**2).sum()) > 0.96


def test_whitening_makes_noise_white_within_the_band() -> None:
    rng = np.random.default_rng(4)
    noise = noise_of_spectrum(1, power_on(256), (256, 256), rng)[0]
    white = whitening_on(power_on(GRID), (256, 256), PIXEL, finest=FINEST, coarsest=400.0)
    spectrum = np.abs(scipy.fft.rfft2(noise) * white) ** 2 / 256**2
    frequency = np.hypot(np.fft.fftfreq(256)[:, None], np.fft.rfftfreq(256)[None, :])
    band = (frequency > 0.03) & (frequency < 0.28)
    assert spectrum[band].mean() == pytest.approx(1, abs=0.03)
    assert spectrum[frequency > 0.4].max() < 1e-9
    with pytest.raises(ValueError, match="smaller than the box"):
        removal(np.eye(BOX**2)[:2], np.ones((16, 9)), np.ones((16, 9)))
