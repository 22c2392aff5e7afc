"""Binning of views: every particle counted, cells small, answers close to those of all particles."""

from __future__ import annotations

import numpy as np
import pytest

from napari_pickbias.imaging.phantoms import blob_volume, phantom
from napari_pickbias.imaging.rotations import random_rotations
from napari_pickbias.softmodes import soft_modes
from napari_pickbias.softmodes.binning import bin_views


@pytest.mark.parametrize("with_defocus", [False, True])
def test_every_particle_is_counted_once_and_near_its_representative(with_defocus: bool) -> None:
    rng = np.random.default_rng(0)
    rotations = random_rotations(5000, rng)
    defocus = rng.uniform(1e4, 2e4, 5000) if with_defocus else None
    bins = bin_views(rotations, defocus, 512, rng)
    assert len(bins.rows) <= 512
    assert len(bins.rows) > 400
    np.testing.assert_array_equal(np.bincount(bins.row_view), bins.weights)
    np.testing.assert_array_equal(bins.row_view[bins.rows], np.arange(len(bins.rows)))
    cosine = np.abs(np.sum(rotations[:, 2] * rotations[bins.rows[bins.row_view], 2], axis=1))
    # Cells of 512 (128 with four defoci) on a hemisphere are 6.3 (13) degrees wide.
    assert np.degrees(np.arccos(cosine.min())) < (28 if with_defocus else 14)
    if defocus is not None:
        assert np.abs(defocus - defocus[bins.rows[bins.row_view]]).max() < 2700


def test_few_particles_stay_as_they_are() -> None:
    bins = bin_views(random_rotations(10, np.random.default_rng(0)), None, 16, np.random.default_rng(1))
    np.testing.assert_array_equal(bins.rows, np.arange(10))
    np.testing.assert_array_equal(bins.weights, 1)


def test_binned_views_give_the_eigenvalues_of_all() -> None:
    volume = blob_volume(phantom(3.5), 10)
    rotations = random_rotations(1500, np.random.default_rng(0))
    bins = bin_views(rotations, None, 300, np.random.default_rng(1))
    # 1500 against 300 weighted views of the same particles: 2 % over five draws
    exact = soft_modes(volume, rotations, modes=2, noise_variance=1.0)
    binned = soft_modes(volume, rotations[bins.rows], weights=bins.weights, modes=2, noise_variance=1.0)
    np.testing.assert_allclose(binned.eigenvalues, exact.eigenvalues, rtol=0.06)
