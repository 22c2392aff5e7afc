"""A prepared bank gives the same scores; more threads than tiles share the templates out."""

from __future__ import annotations

import numpy as np
import pytest

from napari_pickbias.matching import TemplateBank, prepare_bank, prepared, score_map


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepared, "BLOCK_BYTES", {2: 3 * 8 * 216 * 216})


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("border", ["exclude", "wrap"])
@pytest.mark.parametrize("memory_mb", [0.0, 1.5, 100.0])
@pytest.mark.parametrize("count", [1, 2, 11])
def test_scores_do_not_depend_on_preparation_threads_or_blocks(border: str, memory_mb: float, count: int) -> None:
    """One tile and several blocks: with three threads each thread has templates of its own."""
    rng = np.random.default_rng(count)
    image = rng.normal(size=(130, 150)).astype(np.float32)
    bank = TemplateBank.from_images(rng.normal(size=(count, 14, 14)))
    sd = rng.uniform(0.5, 2, count)
    plain = [score_map(image, bank.take(np.array([n])), 1, border=border, noise_sd=sd[[n]])[0] for n in range(count)]  # type: ignore[arg-type]
    ready = prepare_bank(bank, image.shape, border=border, memory_mb=memory_mb)  # type: ignore[arg-type]
    assert len(ready.spectra) <= memory_mb * 2**20 / (8 * ready.tiling.tile[0] * ready.tiling.tile[1])
    results = [score_map(image, ready, threads, border=border, noise_sd=sd) for threads in (1, 3)]  # type: ignore[arg-type]
    np.testing.assert_allclose(results[0][0], np.max(plain, axis=0), rtol=0, atol=1e-5)
    np.testing.assert_array_equal(results[0][0], results[1][0])
    np.testing.assert_array_equal(results[0][1], results[1][1])


def test_equal_templates_leave_the_first_as_winner() -> None:
    rng = np.random.default_rng(0)
    image = rng.normal(size=(90, 90)).astype(np.float32)
    bank = TemplateBank.from_images(np.tile(rng.normal(size=(1, 12, 12)), (2, 1, 1)))
    four = bank.take(np.array([0, 0, 0, 0]))
    _, best = score_map(image, four, 4)
    # both parts of a transform are rounded apart, pairs of equal templates are not
    assert set(np.unique(best[6:-6, 6:-6])) <= {0, 1}


def test_a_bank_prepared_for_something_else_is_refused() -> None:
    rng = np.random.default_rng(0)
    ready = prepare_bank(TemplateBank.from_images(rng.normal(size=(1, 8, 8))), (40, 50))
    with pytest.raises(ValueError, match=r"prepared for \(40, 50\) and border 'exclude', not \(40, 51\) and 'exclude'"):
        score_map(rng.normal(size=(40, 51)), ready)
    with pytest.raises(ValueError, match="not \\(40, 50\\) and 'wrap'"):
        score_map(rng.normal(size=(40, 50)), ready, border="wrap")


def test_progress_counts_templates() -> None:
    rng = np.random.default_rng(0)
    told: list[tuple[int, int]] = []
    bank = TemplateBank.from_images(rng.normal(size=(3, 8, 8)))
    score_map(rng.normal(size=(40, 50)), bank, progress=lambda done, total: told.append((done, total)))
    assert told == [(3, 3)]
