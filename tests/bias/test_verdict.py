"""The rule, branch by branch; and how many picks of any picker noise explains."""

from __future__ import annotations

import numpy as np
import pytest

from napari_pickbias.bias.frc import Null
from napari_pickbias.bias.null import explained_by_noise, poisson_interval
from napari_pickbias.bias.verdict import Rate, Verdict, judge, standing_out
from napari_pickbias.matching.peaks import PEAK

CLEAN, DIRTY, NOISE = Rate(0.02, 0.01, 0.03), Rate(0.39, 0.36, 0.42), Rate(0.97, 0.91, 1.0)
STRONG, WEAK, NONE = Null(0.45, 0.0, 0.02), Null(0.06, 0.0, 0.02), Null(0.01, 0.0, 0.02)
AGREES, STRANGER = Null(0.28, 0.0, 0.02), Null(0.05, 0.0, 0.03)


def verdict(
    rate: Rate,
    beyond: Null,
    *,
    picks: int = 1000,
    inside: Null = NONE,
    agreement: Null = AGREES,
    views: int = 12,
    trusted: float = 1.0,
) -> Verdict:
    return judge(picks, rate, beyond, inside, agreement, views=views, trusted_share=trusted)


@pytest.mark.parametrize(
    ("rate", "beyond", "name"),
    [
        (CLEAN, STRONG, "data"),
        (DIRTY, STRONG, "mixed"),
        (NOISE, STRONG, "mixed"),
        (NOISE, NONE, "template"),
        (DIRTY, NONE, "undecided"),
        (CLEAN, NONE, "undecided"),
        (NOISE, WEAK, "undecided"),
        (NOISE, Null(0.04, 0.0, 0.014), "template"),
        (NOISE, Null(0.04, 0.0, 0.009), "undecided"),
        (Rate(0.9, 0.79, 1.0), NONE, "undecided"),
        (Rate(0.19, 0.15, 0.21), STRONG, "mixed"),
    ],
)
def test_rule(rate: Rate, beyond: Null, name: str) -> None:
    found = verdict(rate, beyond)
    assert found.name == name
    assert "%" in found.why
    assert not found.fdr_failed


@pytest.mark.parametrize(
    ("picks", "rate", "evidence", "deviations", "name"),
    [
        (244, (0.81, 0.72, 0.90), -0.02, -0.1, "undecided"),  # noise, T 3.5: lower end below .80
        (764, (0.97, 0.91, 1.0), 0.0, -0.1, "template"),  # noise, T 3
        (1838, (0.99, 0.91, 1.0), -0.01, -1.0, "template"),  # noise, T 2.5
        (1040, (0.0, 0.0, 0.01), 0.45, 26, "data"),  # right template, T 5
        (1949, (0.02, 0.01, 0.03), 0.49, 30, "data"),
        (2878, (0.20, 0.19, 0.23), 0.46, 19, "mixed"),
        (3619, (0.39, 0.36, 0.40), 0.44, 18, "mixed"),  # T 2.5
        (741, (1.0, 0.95, 1.0), 0.03, 1.5, "template"),  # its weak picks alone
        (903, (1.0, 0.95, 1.0), -0.04, -1.5, "template"),
        (714, (0.0, 0.0, 0.01), 0.14, 7, "data"),  # wrong template, T 5
        (1803, (0.05, 0.03, 0.09), 0.19, 7, "data"),
        (3099, (0.32, 0.30, 0.35), 0.18, 6, "mixed"),
        (4056, (0.49, 0.46, 0.52), 0.18, 6, "mixed"),  # T 2.5
        (957, (1.0, 0.95, 1.0), -0.01, -0.5, "template"),  # its weak picks alone
    ],
)
def test_situations_on_real_micrographs(
    picks: int, rate: tuple[float, float, float], evidence: float, deviations: float, name: str
) -> None:
    """Figures of an independent implementation on beta-galactosidase; where it gave no interval, one that fits."""
    assert verdict(Rate(*rate), Null(evidence, 0.0, abs(evidence / deviations) or 0.02), picks=picks).name == name


def test_what_cannot_be_told() -> None:
    assert "too few" in verdict(CLEAN, STRONG, picks=99).why
    nothing = Null(float("nan"), 0.0, 0.02)
    assert "no view has enough picks" in verdict(CLEAN, nothing).why
    assert "scatters by 0.12" in verdict(CLEAN, Null(0.6, 0.0, 0.12)).why
    assert "could not be estimated" in verdict(Rate(*[float("nan")] * 3), STRONG).why
    assert all(verdict(r, STRONG, picks=99).name == "undecided" for r in (CLEAN, NOISE))


def test_one_view_needs_more() -> None:
    evidence = Null(0.45, 0.0, 0.1)
    assert evidence.z == pytest.approx(4.5)
    assert verdict(CLEAN, evidence).name == "data"
    assert verdict(CLEAN, evidence, views=1).name == "undecided"


def test_small_effects_are_no_evidence_however_sure() -> None:
    assert verdict(CLEAN, Null(0.08, 0.0, 0.005)).name == "undecided"


def test_noise_that_cannot_be_separated_from_particles() -> None:
    found = verdict(CLEAN, STRONG, trusted=0.2)
    assert found.name == "undecided"
    assert found.fdr_failed
    assert "not separable" in found.why
    assert verdict(NOISE, NONE, inside=Null(0.5, 0.0, 0.05), trusted=0.2).fdr_failed
    # on pure noise no such score is found either, and that is as it should be
    assert verdict(NOISE, NONE, inside=Null(0.2, 0.0, 0.05), trusted=0.0).name == "template"


def test_agreement_in_words() -> None:
    assert "agrees well" in verdict(CLEAN, STRONG).agreement
    assert verdict(CLEAN, STRONG).relative_agreement == pytest.approx(0.28 / np.sqrt(0.9 / 1.45))
    assert "agrees partly" in verdict(CLEAN, STRONG, agreement=Null(0.15, 0.0, 0.02)).agreement
    stranger = verdict(CLEAN, STRONG, agreement=STRANGER)
    assert stranger.name == "data"
    assert "not detectably" in stranger.agreement
    assert verdict(NOISE, NONE).agreement == ""
    assert verdict(CLEAN, STRONG, agreement=Null(*[float("nan")] * 3)).agreement == ""


def peaks(scores: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    table = np.zeros(len(scores), PEAK)
    table["y"], table["x"], table["score"] = (
        rng.uniform(0, 4000, len(scores)),
        rng.uniform(0, 4000, len(scores)),
        scores,
    )
    return table


def test_noise_explains_picks_of_noise_and_not_particles() -> None:
    rng = np.random.default_rng(1)

    def noise(count: int) -> np.ndarray:
        return peaks(rng.normal(3, 0.4, count), rng)

    surrogates = [[noise(400), noise(400)] for _ in range(4)]
    everything = explained_by_noise([noise(400) for _ in range(4)], surrogates, 10, np.inf, rng)
    assert everything.rate.value == pytest.approx(0.95, abs=0.05)
    mixed = [np.concatenate([noise(100), peaks(rng.normal(7, 0.5, 300), rng)]) for _ in range(4)]
    found = explained_by_noise(mixed, surrogates, 10, 5.0, rng)
    assert found.rate.value == pytest.approx(0.25, abs=0.02)
    assert found.rate.low < 0.25 < found.rate.high + 0.01
    assert found.false_above[found.edges[:-1] > 5.5].max() < 0.02
    # a picker that takes a few of the noise peaks only: all of them may be noise
    few = explained_by_noise([noise(50) for _ in range(4)], surrogates, 10, np.inf, rng)
    assert few.rate.value > 0.95
    nothing = explained_by_noise([noise(0)], surrogates[:1], 10, np.inf, rng)
    assert np.isnan(nothing.rate.value)


def test_interval_of_a_mean_count() -> None:
    assert poisson_interval(0) == (0.0, pytest.approx(3.689, abs=1e-3))
    assert poisson_interval(10) == (pytest.approx(4.795, abs=1e-3), pytest.approx(18.39, abs=1e-2))
    assert poisson_interval(200, 2) == (pytest.approx(86.6, abs=0.1), pytest.approx(114.9, abs=0.1))


def test_picks_that_score_less_than_peaks_of_noise_are_false() -> None:
    rng = np.random.default_rng(5)

    def table(scores: np.ndarray) -> np.ndarray:
        made = np.zeros(len(scores), PEAK)
        made["score"] = scores
        made["y"], made["x"] = rng.uniform(0, 500, (2, len(scores)))
        return made

    noise = [[table(rng.normal(3, 0.4, 60)) for _ in range(2)] for _ in range(3)]
    blind = [table(rng.uniform(0.5, 2.2, 100)) for _ in range(3)]  # a picker that does not know the score
    assert explained_by_noise(blind, noise, 14.0, np.inf, rng).rate == (1.0, 1.0, 1.0)
    both = [np.concatenate([one, table(rng.normal(8, 0.5, 100))]) for one in blind]
    assert explained_by_noise(both, noise, 14.0, 5.0, rng).rate.value == pytest.approx(0.5, abs=0.01)


def test_objects_among_picks_that_are_mostly_noise() -> None:
    levels = [(4.0, 60, Rate(0.7, 0.6, 0.8)), (4.5, 30, Rate(0.3, 0.2, 0.5)), (5.5, 10, Rate(0.0, 0.0, 0.1))]
    assert standing_out(levels) == 4.5
    assert standing_out(levels[:1]) is None
    assert standing_out(levels[2:]) is None  # too few
    assert standing_out([(4.5, 30, Rate(*[float("nan")] * 3))]) is None
    found = judge(1000, NOISE, NONE, NONE, AGREES, views=12, trusted_share=1.0, stands_out=4.5)
    assert found.name == "undecided"
    assert "from a score of 4.50 up most picks are no noise" in found.why
    assert judge(1000, DIRTY, STRONG, NONE, AGREES, views=12, trusted_share=1.0, stands_out=4.5).name == "mixed"
