"""The sign of the particles, told from which tail is longer."""

from __future__ import annotations

import numpy as np
import pytest
from picking_scenes import bank, noise, scene

from napari_pickbias.matching.contrast import compare_tails, contrast_sign
from napari_pickbias.matching.preprocess import prepare


def test_tails_by_hand() -> None:
    high, low = np.full(60, 5.0), np.full(60, 4.0)
    found = compare_tails(high, low, share=0.5)
    assert (found.sign, found.bright, found.dark) == (1, 60, 0)
    assert found.evidence == pytest.approx(np.sqrt(60))
    assert found.clear
    assert compare_tails(low, high, share=0.5)[:3] == (-1, 0, 60)
    assert not compare_tails(high, high).clear
    assert compare_tails(np.zeros(0), np.zeros(0)) == (1, 0, 0, 0.0)


@pytest.mark.parametrize("sign", [1, -1])
def test_particles_show_their_sign(sign: int) -> None:
    image, _ = scene(np.random.default_rng(0), 60)
    found = contrast_sign(prepare(sign * image, 18, 24), bank(), 18, 10, threads=1)
    assert found.sign == sign
    assert found.clear


def test_noise_has_none() -> None:
    images = [noise(np.random.default_rng(seed)) for seed in range(4)]
    found = [contrast_sign(prepare(image, 18, 24), bank(), 18, 10, threads=1) for image in images]
    assert not any(one.clear for one in found)
