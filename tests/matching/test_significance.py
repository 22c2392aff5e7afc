"""p-values, q-values and the FDR on free area, on noise and on mixtures whose truth is known."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from scipy.stats import genpareto, kstest

from napari_pickbias.errors import InputError
from napari_pickbias.matching import TemplateBank, find_peaks, score_map
from napari_pickbias.matching.peaks import PEAK
from napari_pickbias.matching.significance import PeakNull, cover, fit_null, free_area_fdr, p_values, q_values

DISTANCE = 9.0


@cache
def bank() -> TemplateBank:
    y, x = np.mgrid[-12:12, -12:12]
    return TemplateBank.from_images(np.stack([np.exp(-(x**2 / 40 + y**2 / 12)), np.exp(-(x**2 / 12 + y**2 / 40))]))


def scene(rng: np.random.Generator, particles: int) -> tuple[np.ndarray, np.ndarray]:
    """White noise with particles of signal-to-noise ratio 6 at least 20 px apart."""
    image, places = rng.standard_normal((500, 500)), np.zeros((0, 2))
    while len(places) < particles:
        place = rng.integers(15, 485, 2)
        if (np.hypot(*(places - place).T) >= 20).all():
            places = np.vstack([places, place])
            y, x = place
            image[y - 12 : y + 12, x - 12 : x + 12] += 6 * bank().images[rng.integers(2)]
    return image, places


def peaks(image: np.ndarray) -> np.ndarray:
    scores, best = score_map(image, bank(), 1, normalise="none")
    return find_peaks(scores, best, -np.inf, DISTANCE)


@cache
def noise_peaks() -> list[np.ndarray]:
    rng = np.random.default_rng(100)
    return [peaks(scene(rng, 0)[0]) for _ in range(4)]


@cache
def null() -> PeakNull:
    return fit_null(np.concatenate([table["score"] for table in noise_peaks()]))


def false_picks(table: np.ndarray, places: np.ndarray) -> int:
    away = np.hypot(table["y"][:, None] - places[:, 0], table["x"][:, None] - places[:, 1])
    return int((away.min(axis=1) > 6).sum())


def test_p_values_of_fresh_noise_are_uniform() -> None:
    rng = np.random.default_rng(101)
    p = p_values(np.concatenate([peaks(scene(rng, 0)[0])["score"] for _ in range(2)]), null())
    # 1640 peaks against 3280: over 6 seeds the statistic was .021-.032 and the share .047-.056.
    assert kstest(p, "uniform").statistic < 0.05
    assert (p < 0.05).mean() == pytest.approx(0.05, abs=0.02)


def test_the_tail_is_recovered_where_it_is_known() -> None:
    """Three times beyond the noise peaks p errs on the safe side, by less than a factor of 2 on average."""
    ratios = []
    for seed in range(12):
        heights = genpareto.rvs(-0.15, scale=0.4, size=3000, random_state=np.random.default_rng(seed))
        fitted = fit_null(heights)
        truth = genpareto.isf(1e-4, -0.15, scale=0.4)
        ratios.append(p_values(np.array([truth]), fitted)[0] / 1e-4)
    # Over three such dozens 1.3-1.6; single fits .06-6.
    assert 0.9 < np.exp(np.mean(np.log(ratios))) < 2


def test_p_values_fall_with_height_without_a_jump() -> None:
    heights = np.linspace(null().heights[0] - 1, null().heights[-1] + 3, 20_001)
    p = p_values(heights, null())
    assert (np.diff(p) <= 1e-12).all()
    assert p[0] == 1.0
    assert p[-1] > 0
    step = -np.diff(np.log(p[(heights > null().start - 0.1) & (heights < null().start + 0.1)]))
    assert step.max() < 0.02


def test_no_chance_is_claimed_to_be_nothing() -> None:
    """A bounded tail ends a little above the highest noise peak; what lies beyond was never seen."""
    null = fit_null(np.random.default_rng(2).normal(2.5, 0.4, 3000))
    assert null.shape < 0
    top = null.heights[-1]
    end = null.start - null.scale / null.shape
    beyond = p_values(np.array([top, top + 0.1, end, end + 1, end + 2]), null)
    assert (np.diff(beyond) < 0).all()
    assert beyond[-1] > 1e-60
    # From the highest peak on the logarithm falls in a straight line.
    slopes = np.diff(np.log(beyond)) / np.diff([top, top + 0.1, end, end + 1, end + 2])
    np.testing.assert_allclose(slopes, slopes[0], rtol=1e-6)


def test_exponential_heights_give_exponential_p_values() -> None:
    heights = np.random.default_rng(5).exponential(0.5, 20_000)
    p = p_values(np.array([3.0, 4.0]), fit_null(heights))
    # Over 20 seeds the logarithms were off by -.23 to .06 and -.55 to .09.
    np.testing.assert_allclose(np.log(p), [-6, -8], atol=0.7)


def test_realised_false_discovery_proportion() -> None:
    """The issue's own oracle: below .07 at q = .05, pooled over mixtures; and nearly all particles are found."""
    rng = np.random.default_rng(102)
    false = kept = 0
    for _ in range(5):
        image, places = scene(rng, 60)
        table = peaks(image)
        chosen = table[q_values(p_values(table["score"], null())) <= 0.05]
        false, kept = false + false_picks(chosen, places), kept + len(chosen)
    # Over six such pools .027-.068, together .042 of 1842 picks.
    assert false / kept < 0.07
    assert kept - false > 0.93 * 300


def test_free_area_fdr_is_what_the_truth_says() -> None:
    rng = np.random.default_rng(103)
    levels = np.array([2.5, 3.0, 3.5, 4.0])
    scenes = [scene(rng, 60) for _ in range(4)]
    tables = [peaks(image) for image, _ in scenes]
    surrogates = [[peaks(scene(rng, 0)[0]) for _ in range(2)] for _ in tables]
    found = free_area_fdr(tables, surrogates, levels, DISTANCE, 4.0, rng, draws=200)
    assert found.picks[0] == sum((table["score"] >= 2.5).sum() for table in tables)
    for column, level in enumerate(levels):
        chosen = [table[table["score"] >= level] for table in tables]
        truth = sum(false_picks(c, at) for c, (_, at) in zip(chosen, scenes, strict=True)) / found.picks[column]
        # Over 6 seeds they differed by -.058 to .044.
        assert found.fdr[column] == pytest.approx(truth, abs=0.08)
        assert found.low[column] <= found.fdr[column] <= found.high[column]
    assert found.fdr[0] > 0.6 > 0.2 > found.fdr[3]


def table_of(*rows: tuple[float, float, float]) -> np.ndarray:
    return np.array([(*row, 0) for row in rows], dtype=PEAK)


def test_surrogate_picks_on_taken_places_do_not_count() -> None:
    real = table_of((10, 10, 5.0), (50, 50, 2.2))
    noise = table_of((12, 10, 3.0), (50, 51, 2.5), (80, 80, 2.1))
    rng = np.random.default_rng(0)
    found = free_area_fdr([real], [[noise]], np.array([2.0, 2.4, 6.0]), 5.0, 3.0, rng, draws=50)
    # The pick of score 2.2 is below the trusted score, so noise beside it counts; that beside the other does not.
    np.testing.assert_array_equal(found.false_picks, [2, 1, 0])
    np.testing.assert_array_equal(found.picks, [2, 1, 0])
    np.testing.assert_array_equal(found.fdr, [1.0, 1.0, np.nan])
    every = free_area_fdr([real], [[noise]], np.array([2.0]), 5.0, np.inf, rng, draws=50)
    assert every.false_picks[0] == 3


def test_q_values_by_hand() -> None:
    np.testing.assert_allclose(q_values(np.array([0.01, 0.5, 0.02, 0.04])), [0.04, 0.5, 0.04, 0.16 / 3])
    assert q_values(np.zeros(0)).shape == (0,)


@pytest.mark.parametrize(
    ("heights", "line"),
    [
        (np.arange(50.0), "noise peaks: only 50 were found; at least 200 are needed; use more surrogates"),
        (np.full(300, np.inf), "noise peaks: some heights are not finite; give peaks from find_peaks"),
        (np.ones(300), "noise peaks: the highest are all equal; use more surrogates"),
    ],
)
def test_faults(heights: np.ndarray, line: str) -> None:
    with pytest.raises(InputError) as fault:
        fit_null(heights)
    assert str(fault.value) == line


def test_no_surrogate() -> None:
    with pytest.raises(InputError, match=r"^surrogates: each micrograph needs at least one; raise their number$"):
        free_area_fdr([table_of()], [[]], np.array([3.0]), 5.0, 3.0, np.random.default_rng(0))


def test_peaks_in_tomograms_are_covered_along_z_too() -> None:
    volume_peak = np.dtype([("z", "f4"), ("y", "f4"), ("x", "f4"), ("score", "f4"), ("template", "i4")])
    real = np.array([(10, 5, 5, 7.0, 0), (40, 5, 5, 9.0, 0)], volume_peak)
    noise = np.array([(12, 5, 5, 1.0, 0), (25, 5, 5, 1.0, 0), (40, 5, 8, 1.0, 0)], volume_peak)
    assert cover(real, noise, 4.0).tolist() == [7.0, -np.inf, 9.0]
