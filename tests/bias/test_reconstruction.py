"""Weighted back-projection: adjoint, convolution kernel, symmetry, and maps of clean projections."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.fft

from napari_pickbias.bias.reconstruction import add_patches, coverage, density_filter, reconstruct, symmetrised
from napari_pickbias.imaging.correlation import fourier_correlation
from napari_pickbias.imaging.fourier import radial_frequency
from napari_pickbias.imaging.phantoms import blob_volume, phantom
from napari_pickbias.imaging.projection import project
from napari_pickbias.imaging.rotations import random_rotations
from napari_pickbias.imaging.volumes import resize_box, soft_ball
from napari_pickbias.matching.views import symmetry_rotations

SIZE = 16


def transfer(size: int) -> np.ndarray:
    return np.cos(9 * radial_frequency((size, size)) ** 2 * 8)


@pytest.mark.parametrize("seen", [None, transfer(SIZE)])
def test_adding_is_the_adjoint_of_projecting(seen: np.ndarray | None) -> None:
    rng = np.random.default_rng(0)
    volume, images = rng.standard_normal((SIZE,) * 3), rng.standard_normal((5, SIZE, SIZE))
    rotations = random_rotations(5, rng)
    projected = project(volume, rotations, ctf=None if seen is None else seen[None])
    there = (projected * images).sum()
    assert there == pytest.approx((volume * add_patches(images, rotations, seen)).sum(), abs=1e-4 * 5 * SIZE**2)


@pytest.mark.parametrize("seen", [None, transfer(SIZE)])
def test_projecting_and_adding_is_convolving_with_the_coverage(seen: np.ndarray | None) -> None:
    rng = np.random.default_rng(1)
    volume, rotations, weights = rng.standard_normal((SIZE,) * 3), random_rotations(6, rng), np.arange(1.0, 7)
    images = project(volume, rotations, ctf=None if seen is None else seen[None]) * weights[:, None, None]
    there_and_back = add_patches(images, rotations, seen)
    kernel = scipy.fft.rfftn(scipy.fft.ifftshift(coverage(rotations, weights, SIZE, seen)))
    grid = (2 * SIZE,) * 3
    convolved = resize_box(scipy.fft.irfftn(scipy.fft.rfftn(resize_box(volume, 2 * SIZE)) * kernel, s=grid), SIZE)
    assert np.abs(convolved - there_and_back).max() < 2e-3 * np.abs(there_and_back).max()


def test_clean_projections_give_the_map_back() -> None:
    rng = np.random.default_rng(2)
    volume = blob_volume(phantom(6.0, elongation=1.5), 20).astype(np.float64)
    rotations = random_rotations(400, rng)
    density = density_filter(coverage(rotations, np.ones(400), 20))
    found = reconstruct(add_patches(project(volume, rotations), rotations), density)
    mask = soft_ball(20, 8.0, 2.0)
    curve = fourier_correlation(found * mask, volume * mask, 3)
    assert curve[1:9].min() > 0.99
    # nor is its scale lost, but for the share that keeps rare frequencies down
    assert (found * volume).sum() / (volume**2).sum() == pytest.approx(0.91, abs=0.06)


def test_it_is_linear() -> None:
    rng = np.random.default_rng(3)
    rotations = random_rotations(30, rng)
    density = density_filter(coverage(rotations, np.ones(30), SIZE))
    one, two = rng.standard_normal((2, 30, SIZE, SIZE))
    maps = [reconstruct(add_patches(images, rotations), density) for images in (one, two, one - 2 * two)]
    np.testing.assert_allclose(maps[2], maps[0] - 2 * maps[1], atol=1e-6)


def test_symmetrised_sums_equal_patches_at_all_equal_views() -> None:
    rng = np.random.default_rng(4)
    group = symmetry_rotations("D2")
    rotations, images = random_rotations(3, rng), rng.standard_normal((3, SIZE, SIZE))
    images *= soft_ball(SIZE, 5.0, 2.0, 2)
    expanded = np.concatenate([rotations @ one for one in group])
    wanted = add_patches(np.tile(images, (4, 1, 1)), expanded)
    found = symmetrised(add_patches(images, rotations), group)
    ball = soft_ball(SIZE, 6.0)
    # the corners of the box are not the same for all four
    assert np.corrcoef((found * ball).ravel(), (wanted * ball).ravel())[0, 1] > 0.98
    np.testing.assert_array_equal(symmetrised(wanted, symmetry_rotations("C1")), wanted)


def test_what_was_never_seen_is_zero() -> None:
    top = np.eye(3)[None]
    found = reconstruct(np.ones((SIZE,) * 3), density_filter(coverage(top, np.ones(1), SIZE)))
    assert np.isfinite(found).all()
