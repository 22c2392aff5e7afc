"""The sign of the particles, told from which tail is longer."""

from __future__ import annotations

import numpy as np
import pytest
from picking_scenes import bank, noise, scene

from napari_pickbias.matching.contrast import Contrast, clearest, compare_tails, contrast_tails
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
    found = clearest([contrast_tails(prepare(sign * image, 18, 24), bank(), 18, 10, threads=1)])
    assert found.sign == sign
    assert found.clear


def tails_of(seed: int, count: int, particles: int, strength: float) -> list[tuple[Contrast, ...]]:
    rng = np.random.default_rng(seed)
    images = [scene(rng, particles, strength)[0] if particles else noise(rng) for _ in range(count)]
    return [contrast_tails(prepare(image, 18, 24), bank(), 18, 10, threads=1) for image in images]


def test_noise_has_none() -> None:
    tails = tails_of(1, 4, 0, 0.0)
    assert not any(clearest([one]).clear for one in tails)
    assert not clearest(tails).clear


def test_few_weak_particles_show_in_the_highest_peaks() -> None:
    """Twenty of score 5 on each of three micrographs: the highest tenth is mostly noise, the highest peaks are not."""
    tails = tails_of(0, 3, 20, 5.0)
    wide, narrow = (clearest([(each[k],) for each in tails]) for k in (0, 2))
    # Over 6 sets the evidence was .3 on average in the tenth, 4.1 in the highest .03 and 4.7 (all above 4) in the .01.
    assert not wide.clear
    found = clearest(tails)
    assert (found, found.sign, found.clear) == (narrow, 1, True)


def test_pooled_by_hand() -> None:
    one, two = Contrast(1, 60, 40, 2.0), Contrast(1, 18, 2, 3.58)
    found = clearest([(one, two), (one, two)])
    assert found[:3] == (1, 36, 4)
    assert found.evidence == pytest.approx(32 / np.sqrt(40))
    assert clearest([]) == (1, 0, 0, 0.0)
    assert clearest([(Contrast(1, 0, 0, 0.0),)]) == (1, 0, 0, 0.0)
