"""The local standard deviation against the direct sum, where single precision is at its worst."""

from __future__ import annotations

import numpy as np
import pytest

from napari_pickbias.matching import TemplateBank, score_map
from napari_pickbias.matching.bank import soft_disc
from napari_pickbias.matching.deviation import mask_spectrum, tile_deviation
from napari_pickbias.matching.engine import choose_inverse


def plain_deviation(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    patches = np.lib.stride_tricks.sliding_window_view(image.astype(np.float64), mask.shape)
    weights = mask / mask.sum()
    mean = np.einsum("yxij,ij->yx", patches, weights)
    return np.sqrt(np.einsum("yxij,ij->yx", (patches - mean[..., None, None]) ** 2, weights))


@pytest.mark.parametrize("kind", ["noise", "ramp", "quiet half", "hot pixel", "offset"])
def test_equals_the_direct_sum(kind: str) -> None:
    rng = np.random.default_rng(0)
    image = rng.normal(size=(90, 80)).astype(np.float32)
    if kind == "ramp":
        image += np.linspace(-30, 30, 80, dtype=np.float32)
    elif kind == "quiet half":
        image[:, 40:] *= 1e-3
    elif kind == "hot pixel":
        image[20, 20] = 1000
    elif kind == "offset":
        image += 300
    mask = soft_disc(15, 7.0).astype(np.float32)
    # the wanted pixels fill the tile but for the box
    found = tile_deviation(image, mask_spectrum(mask, (90, 80)), (76, 66), choose_inverse("scipy"))
    np.testing.assert_allclose(found, plain_deviation(image, mask.astype(np.float64)), rtol=3e-5)


def test_a_constant_patch_has_infinite_deviation() -> None:
    image = np.random.default_rng(0).normal(size=(60, 60)).astype(np.float32)
    image[:30, :30] = 0.7
    mask = soft_disc(11, 5.0).astype(np.float32)
    found = tile_deviation(image, mask_spectrum(mask, (60, 60)), (50, 50), choose_inverse("scipy"))
    assert np.isinf(found[:20, :20]).all()
    assert np.isfinite(found[30:, 30:]).all()


def test_a_region_a_thousand_times_quieter_scores_as_alone() -> None:
    rng = np.random.default_rng(1)
    image = rng.normal(size=(120, 120)).astype(np.float32)
    image[:, 60:] *= 1e-3
    bank = TemplateBank.from_images(rng.normal(size=(3, 16, 16)))
    together, alone = score_map(image, bank)[0], score_map(image[:, 60:], bank)[0]
    # the scores' numerators are single precision of the louder half: 1e-6 of it
    np.testing.assert_allclose(together[8:-8, 70:-8], alone[8:-8, 10:-8], rtol=0, atol=5e-3)
