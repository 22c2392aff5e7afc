"""The engines of the matching kernel agree, and each stands against numpy."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from napari_pickbias.errors import InputError
from napari_pickbias.matching import TemplateBank, engine, score_map
from napari_pickbias.matching.engine import choose_inverse, padded_buffer, pair_spectrum

needs_ducc0 = pytest.mark.skipif(importlib.util.find_spec("ducc0") is None, reason="ducc0 (extra `fast`) not installed")


@pytest.mark.parametrize("name", ["scipy", pytest.param("ducc0", marks=needs_ducc0)])
@pytest.mark.parametrize(("height", "width", "rows"), [(24, 30, 17), (25, 48, 25), (9, 16, 1)])
def test_the_inverse_is_the_first_rows_of_numpys(name: engine.EngineName, height: int, width: int, rows: int) -> None:
    rng = np.random.default_rng(0)
    images = rng.normal(size=(height, width)) + 1j * rng.normal(size=(height, width))
    spectrum, _ = padded_buffer((height, width))
    spectrum[:] = np.fft.fft2(images) / images.size
    np.testing.assert_allclose(choose_inverse(name)(spectrum, (rows, width)), images[:rows], rtol=0, atol=5e-6)


def test_a_pair_of_templates_comes_out_in_two_parts() -> None:
    rng = np.random.default_rng(1)
    first, second = rng.normal(size=(2, 7, 7)).astype(np.float32)
    image = rng.normal(size=(20, 24))
    both = np.fft.ifft2(np.fft.fft2(image) * pair_spectrum(first, second, (20, 24)))
    for y, x in ((0, 0), (13, 17), (5, 2)):
        patch = image[y : y + 7, x : x + 7]
        assert both[y, x] == pytest.approx((patch * first).sum() + 1j * (patch * second).sum(), abs=1e-5)


@needs_ducc0
def test_both_engines_score_alike() -> None:
    rng = np.random.default_rng(2)
    image = rng.normal(size=(250, 310)).astype(np.float32)
    bank = TemplateBank.from_images(rng.normal(size=(5, 18, 18)))
    ours, theirs = (score_map(image, bank, engine=name)[0] for name in ("scipy", "ducc0"))
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-5)


def test_an_engine_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError) as fault:
        choose_inverse("ducc0")
    assert str(fault.value) == "engine ducc0: is not installed; install it (pip install ducc0) or take scipy"
    assert choose_inverse("auto") is engine._inverse_scipy
    with pytest.raises(InputError, match=r"^engine fftw: is not known; give auto, scipy or ducc0$"):
        choose_inverse("fftw")  # type: ignore[arg-type]
