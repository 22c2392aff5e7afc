"""Noise like a whole micrograph: level, spectrum on the file's own pixels, particles taken out."""

from __future__ import annotations

import numpy as np
import scipy.signal

from napari_pickbias.bias.surrogates import whole_surrogate
from napari_pickbias.imaging.fourier import radial_frequency, shell_average
from napari_pickbias.imaging.noise import noise_of_spectrum, periodogram
from napari_pickbias.imaging.phantoms import blob_volume, phantom
from napari_pickbias.imaging.projection import project
from napari_pickbias.imaging.rotations import matrices_from_euler
from napari_pickbias.matching import TemplateBank
from napari_pickbias.matching.bank import soft_disc
from napari_pickbias.matching.noise_model import estimate_noise
from napari_pickbias.matching.preprocess import prepare


def test_surrogate_has_the_spectrum_of_the_noise_without_its_particles() -> None:
    rng = np.random.default_rng(2)
    side, box = 640, 60
    power = 1 / (1 + (radial_frequency((side, side)) / 0.06) ** 2) + 0.1
    noise = 25 * noise_of_spectrum(1, power, (side, side), rng)[0]
    psi = np.arange(0, 360, 15.0)
    euler = np.column_stack([np.zeros((len(psi), 2)), psi])
    views = project(blob_volume(phantom(22.0, elongation=1.4), box), matrices_from_euler(euler))
    image = noise.astype(np.float64) + 130
    for y in range(60, side - 40, 80):
        for x in range(60, side - 40, 80):
            view = views[rng.integers(len(views))]
            image[y - 30 : y + 30, x - 30 : x + 30] += 300 * view / np.linalg.norm(view)
    # the diagnosis works on pixels of twice the size
    small = scipy.signal.resample(scipy.signal.resample(image, side // 2, axis=0), side // 2, axis=1)
    small_views = scipy.signal.resample(scipy.signal.resample(views, box // 2, axis=1), box // 2, axis=2)
    bank = TemplateBank.from_images(small_views, soft_disc(box // 2, 14.0))
    model = estimate_noise(prepare(small, 22.0, box // 2), bank, 22.0, 13.0, np.random.default_rng(0))
    assert model.excluded[-1] > 40
    drawn = [whole_surrogate(image, model, 2.0, np.random.default_rng(seed)) for seed in range(3)]
    assert drawn[0].shape == image.shape
    assert not np.array_equal(drawn[0], drawn[1])
    np.testing.assert_array_equal(drawn[0], whole_surrogate(image, model, 2.0, np.random.default_rng(0)))
    assert abs(np.mean(drawn) - image.mean()) < 1
    shells = shell_average(np.mean([periodogram(one - one.mean()) for one in drawn], axis=0), (side, side))
    truth = shell_average(625 * power, (side, side))
    with_particles = shell_average(periodogram(image - image.mean()), (side, side))
    # particles dominate shells 8 to 24 (80 to 27 px); fine details are beyond the diagnosis' own pixels
    coarse, fine = slice(8, 24), slice(200, 300)
    figures = [float(v[part].mean() / truth[part].mean()) for v in (with_particles, shells) for part in (coarse, fine)]
    # four scenes: 5.2 to 5.3 with particles; 1.02 to 1.07 and 1.01 to 1.02 without
    assert figures[0] > 2
    assert 0.75 < figures[2] < 1.25, figures
    assert 0.93 < figures[3] < 1.07, figures
