"""Discretised maximum likelihood: noise of known covariance, picked noise, and weights that know only the span."""

from __future__ import annotations

import numpy as np
import pytest

from napari_pickbias.bias.likelihood import Grid, Images, coefficient_variance, maximise, posterior, weighted_map
from napari_pickbias.imaging.fourier import fourier_crop
from napari_pickbias.imaging.phantoms import blob_volume, phantom
from napari_pickbias.imaging.projection import project
from napari_pickbias.imaging.rotations import super_fibonacci_rotations
from napari_pickbias.imaging.volumes import soft_ball

SIZE = 16
ROTATIONS = super_fibonacci_rotations(144)
GRID = Grid(ROTATIONS, coefficient_variance(SIZE, SIZE), 6, np.eye(3)[None])


def alike(one: np.ndarray, other: np.ndarray) -> float:
    ball = soft_ball(SIZE, 6.0, 1.0)
    return float(np.corrcoef((one * ball).ravel(), (other * ball).ravel())[0, 1])


@pytest.fixture(scope="module")
def volume() -> np.ndarray:
    return blob_volume(phantom(5.0, elongation=1.6), SIZE).astype(np.float64)


def images_of(patches: np.ndarray, transfer: np.ndarray | None = None) -> Images:
    return Images(np.asarray(patches, np.float32), np.zeros(len(patches), np.int64), (transfer,))


def picked_noise(volume: np.ndarray, count: int, threshold: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Noise conditioned on its score with a template drawn at random (the exact law of a labelled pick)."""
    rng = np.random.default_rng(seed)
    templates = project(volume, ROTATIONS).reshape(len(ROTATIONS), -1)
    templates -= templates.mean(axis=1, keepdims=True)
    templates /= np.linalg.norm(templates, axis=1, keepdims=True)
    labels = rng.integers(0, len(ROTATIONS), count)
    patches = rng.standard_normal((count, SIZE**2))
    patches += (threshold + 0.2 - np.einsum("ij,ij->i", patches, templates[labels]))[:, None] * templates[labels]
    return patches.reshape(-1, SIZE, SIZE), labels


def test_the_true_rotation_has_the_weight_where_signal_is_strong(volume: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, len(ROTATIONS), 40)
    strong = volume * 60 / np.linalg.norm(project(volume, ROTATIONS[:1]))
    patches = project(strong, ROTATIONS[truth]) + rng.standard_normal((40, SIZE, SIZE))
    weights = posterior(strong, images_of(patches), GRID)
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-5)
    assert (weights.argmax(axis=1) == truth).mean() > 0.95


def test_equals_the_plain_gaussian_likelihood(volume: np.ndarray) -> None:
    rng = np.random.default_rng(1)
    grid = GRID._replace(last_shell=99, rotations=ROTATIONS[:5])
    patches = rng.standard_normal((3, SIZE, SIZE))
    patches = np.fft.irfft2(np.fft.rfft2(patches) * (np.abs(np.fft.rfft2(patches)) > 0), s=(SIZE, SIZE))
    scaled = volume * 3 / np.linalg.norm(project(volume, ROTATIONS[:1]))
    models = project(scaled, ROTATIONS[:5])
    models -= models.mean(axis=(1, 2), keepdims=True)
    logs = -0.5 * ((patches[:, None] - models[None]) ** 2).sum(axis=(2, 3))
    wanted = np.exp(logs - logs.max(axis=1, keepdims=True))
    found = posterior(scaled, images_of(patches), grid)
    np.testing.assert_allclose(found, wanted / wanted.sum(axis=1, keepdims=True), atol=2e-3)


def test_picked_noise_gives_the_template_on_this_and_on_another_grid(volume: np.ndarray) -> None:
    patches, labels = picked_noise(volume, 3000, 5.0, 2)
    images = images_of(patches)
    labelled = weighted_map(np.eye(len(ROTATIONS), dtype=np.float32)[labels], images, GRID)
    assert alike(labelled, volume) > 0.75
    for rotations in (ROTATIONS, super_fibonacci_rotations(200)):
        found, _ = maximise(images, labelled, GRID._replace(rotations=rotations), iterations=4)
        assert alike(found, volume) > 0.7
    rng = np.random.default_rng(3)
    nothing = images_of(rng.standard_normal((3000, SIZE, SIZE)))
    assert abs(alike(maximise(nothing, rng.standard_normal((SIZE,) * 3), GRID, iterations=4)[0], volume)) < 0.3


def test_weights_of_the_span_leave_nothing_of_the_rest(volume: np.ndarray) -> None:
    patches, labels = picked_noise(volume, 3000, 5.0, 4)
    templates = project(volume, ROTATIONS).reshape(len(ROTATIONS), -1)
    templates -= templates.mean(axis=1, keepdims=True)
    _, values, vectors = np.linalg.svd(templates, full_matrices=False)
    basis = vectors[values > 1e-3 * values[0]]
    flat = patches.reshape(len(patches), -1)
    inside = ((flat @ basis.T) @ basis).reshape(patches.shape)
    start = weighted_map(np.eye(len(ROTATIONS), dtype=np.float32)[labels], images_of(inside), GRID)
    _, weights = maximise(images_of(inside), start, GRID, iterations=3)
    rest = weighted_map(weights, images_of(patches - inside), GRID)
    whole = weighted_map(weights, images_of(patches), GRID)
    assert alike(whole, volume) > 0.7
    assert abs(alike(rest, volume)) < 0.1


def test_variance_of_binned_noise() -> None:
    rng = np.random.default_rng(5)
    binned = fourier_crop(rng.standard_normal((400, 24, 24)), 16)
    power = np.abs(np.fft.rfft2(binned))[:, 1:6, 1:6] ** 2
    # 400 x 25 exponential values: 1 % is one deviation
    assert power.mean() == pytest.approx(coefficient_variance(16, 24), rel=0.05)
