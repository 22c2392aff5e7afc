"""Knockoffs: equal law on noise, the rule's arithmetic, and false shares within what was asked for."""

from __future__ import annotations

import numpy as np
import pytest
from bias.scene import DISTANCE, GRID, Scene, power_on
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_pickbias.bias.knockoffs import compete, inverted_bank, knockoff_threshold, scrambled_bank
from napari_pickbias.imaging.noise import noise_of_spectrum
from napari_pickbias.matching import find_peaks, score_map
from napari_pickbias.matching.noise_model import template_sd
from napari_pickbias.matching.peaks import PEAK


def peaks_of(rows: list[tuple[float, float, float]]) -> np.ndarray:
    table = np.zeros(len(rows), PEAK)
    for name, values in zip(("y", "x", "score"), np.array(rows).reshape(-1, 3).T, strict=True):
        table[name] = values
    return table


def test_the_higher_of_two_near_peaks_wins() -> None:
    real = peaks_of([(10, 10, 5.0), (50, 50, 4.0), (90, 90, 3.0)])
    knockoff = peaks_of([(13, 10, 4.0), (52, 50, 6.0), (10, 90, 2.0)])
    ours, theirs = compete(real, knockoff, 10.0)
    assert ours["score"].tolist() == [5.0, 3.0]
    assert theirs["score"].tolist() == [6.0, 2.0]
    nothing, same = compete(real[:0], knockoff, 10.0)
    assert len(nothing) == 0
    assert sorted(same["score"]) == [2.0, 4.0, 6.0]


@settings(deadline=None, derandomize=True, max_examples=60)
@given(
    real=st.lists(st.integers(0, 12), max_size=40), knockoff=st.lists(st.integers(0, 12), max_size=40),
    rate=st.sampled_from([0.05, 0.1, 0.3, 0.6]),
)  # fmt: skip
def test_threshold_is_the_lowest_that_keeps_the_rate(real: list[int], knockoff: list[int], rate: float) -> None:
    def estimate(t: float) -> float:
        return (1 + sum(k >= t for k in knockoff)) / max(1, sum(r >= t for r in real))

    found = knockoff_threshold(np.array(real, float), np.array(knockoff, float), rate)
    kept = [t for t in sorted(set(real)) if estimate(t) <= rate]
    if kept:
        assert found.threshold == kept[0]
        assert found.taken == sum(r >= kept[0] for r in real)
        assert found.knockoffs == sum(k >= kept[0] for k in knockoff)
        assert found.rate == pytest.approx(estimate(kept[0]))
    else:
        assert found.threshold == np.inf
        assert found.taken == 0


def matched(scene: Scene, bank: object, image: np.ndarray) -> np.ndarray:
    sd = template_sd(bank, power_on(GRID))
    scores, best = score_map(image, bank, 1, noise_sd=sd, normalise="none")
    return find_peaks(scores, best, 1.0, DISTANCE)


def noise_contest(scene: Scene, other: object, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return the scores that templates and knockoffs win on noise."""
    ours, theirs = [], []
    for _ in range(3):
        image = noise_of_spectrum(1, power_on(512), (512, 512), rng)[0]
        won, lost = compete(matched(scene, scene.bank, image), matched(scene, other, image), DISTANCE)
        ours.append(won["score"])
        theirs.append(lost["score"])
    return np.concatenate(ours), np.concatenate(theirs)


def test_noise_is_won_by_either_equally_often(scene: Scene) -> None:
    other = inverted_bank(scene.bank)
    np.testing.assert_allclose((other.images**2).sum(axis=(1, 2)), 1, rtol=1e-4)
    real, knockoff = noise_contest(scene, other, np.random.default_rng(5))
    for level in (2.0, 3.0, 3.5):
        first, second = int((real >= level).sum()), int((knockoff >= level).sum())
        assert abs(first - second) < 3.5 * np.sqrt(first + second), (level, first, second)
    # nothing can be taken from noise at 5 %
    assert knockoff_threshold(real, knockoff, 0.05).taken < 40


def test_scrambled_templates_are_no_knockoffs(scene: Scene) -> None:
    # each has the law of the real one, but turned copies of scrambled images are less alike than those of a molecule:
    # the highest of them is higher, and too many false picks are counted (seen 690 against 311)
    rng = np.random.default_rng(5)
    other = scrambled_bank(scene.bank, rng)
    np.testing.assert_allclose((other.images**2).sum(axis=(1, 2)), 1, rtol=1e-4)
    real, knockoff = noise_contest(scene, other, rng)
    assert (knockoff >= 2).sum() > 1.5 * (real >= 2).sum()


def test_false_share_of_a_mixture_is_what_was_asked_for(scene: Scene) -> None:
    rng = np.random.default_rng(6)
    other = inverted_bank(scene.bank)
    first = np.flatnonzero(scene.bank.euler_deg[:, 2] == 0)
    sd = template_sd(scene.bank, power_on(GRID))
    ours, theirs, true = [], [], []
    planted = 0
    for _ in range(4):
        image = noise_of_spectrum(1, power_on(512), (512, 512), rng)[0].astype(np.float64)
        places = [(y, x) for y in range(40, 480, 60) for x in range(40, 480, 60)]
        for y, x in places:
            one = rng.choice(first) + rng.integers(0, 24)
            image[y - 16 : y + 17, x - 16 : x + 17] += 5.5 * sd[one] * scene.bank.images[one]
        planted += len(places)
        image = image.astype(np.float32)
        won, lost = compete(matched(scene, scene.bank, image), matched(scene, other, image), DISTANCE)
        near = np.hypot(won["y"][:, None] - np.array(places)[:, 0], won["x"][:, None] - np.array(places)[:, 1]).min(
            axis=1
        )
        ours.append(won["score"])
        theirs.append(lost["score"])
        true.append(near < 8)
    real, knockoff, hit = (np.concatenate(part) for part in (ours, theirs, true))
    for rate in (0.05, 0.2):
        chosen = knockoff_threshold(real, knockoff, rate)
        false = float((~hit[real >= chosen.threshold]).mean())
        found = float(hit[real >= chosen.threshold].sum() / planted)
        # binomial error of some 200 picks
        assert false <= rate + 3 * np.sqrt(rate * (1 - rate) / chosen.taken), (rate, chosen, false)
        assert found > 0.9  # seen .97 and .99
