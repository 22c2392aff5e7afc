"""Selection bias in closed form: every figure of the theory that can be simulated is simulated."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import t as student_t

from napari_pickbias.bias.mixture import assign, correlations, fit_mixture
from napari_pickbias.bias.theory import (
    bias_directions,
    effective_dimension,
    inverse_mills,
    needed_picks,
    picked_means,
    predicted_correlation,
    predicted_error,
    sample_picked,
    score_deviations,
    spherical_patches,
    tail_probability,
    truncated_variance,
)


def orthogonal(count: int, dimension: int, rng: np.random.Generator) -> np.ndarray:
    return np.linalg.qr(rng.standard_normal((dimension, count)))[0].T


def autoregressive(dimension: int, step: float) -> np.ndarray:
    lag = np.abs(np.subtract.outer(np.arange(dimension), np.arange(dimension)))
    return step**lag


@pytest.mark.parametrize(
    ("level", "tail", "mills", "variance"),
    [
        (2, 2.28e-2, 2.3732, 0.1143),
        (3, 1.35e-3, 3.2831, 0.0706),
        (3.5, 2.33e-4, 3.7514, 0.0569),
        (4, 3.17e-5, 4.2256, 0.0467),
        (4.5, 3.40e-6, 4.7043, 0.0388),
        (5, 2.87e-7, 5.1865, 0.0327),
        (6, 9.87e-10, 6.1585, 0.0240),
    ],
)
def test_cut_normal_law(level: float, tail: float, mills: float, variance: float) -> None:
    assert tail_probability(level) == pytest.approx(tail, rel=4e-3)
    assert inverse_mills(level) == pytest.approx(mills, abs=6e-5)
    assert truncated_variance(level) == pytest.approx(variance, abs=6e-5)
    assert inverse_mills(40.0) == pytest.approx(40 + 1 / 40 - 2 / 40**3, abs=1e-6)


@pytest.mark.parametrize(
    ("dimension", "picks", "measured"),
    [
        (64, 500, 0.693),
        (64, 2000, 0.201),
        (64, 8000, 0.0897),
        (256, 500, 2.49),
        (256, 2000, 0.691),
        (256, 8000, 0.2095),
        (1024, 500, 10.23),
        (1024, 2000, 2.64),
        (1024, 8000, 0.6905),
    ],
)
def test_error_of_labelled_averages(dimension: int, picks: int, measured: float) -> None:
    predicted = predicted_error(4.0, dimension, 5, picks)
    assert predicted == pytest.approx(measured, rel=0.06)
    rng = np.random.default_rng(1)
    x = orthogonal(5, dimension, rng)
    z = sample_picked(x, 4.0, picks, rng)
    label = (z @ x.T).argmax(axis=1)
    error = np.mean([np.sum((z[label == k].mean(axis=0) - 4 * x[k]) ** 2) for k in range(5)])
    # over 20 seeds the ratio to the prediction stays within 0.09 of 1 (fewest degrees of freedom: 5 x 63)
    assert error == pytest.approx(predicted, rel=0.13)


def test_what_more_picks_leave_of_the_error_is_a_factor_alone() -> None:
    """However many picks, the error stays (lambda - T)^2; the correlation goes to 1 all the same."""
    assert predicted_error(4.0, 64, 5, 1e12) == pytest.approx(float(inverse_mills(4.0) - 4) ** 2)
    assert predicted_correlation(inverse_mills(4.0), 64, 1e12) == pytest.approx(1)
    rng = np.random.default_rng(12)
    x = orthogonal(1, 8, rng)
    mean = sample_picked(x, 2.0, 40_000, rng).mean(axis=0)
    assert np.sum((mean - 2 * x[0]) ** 2) == pytest.approx(0.3732**2, rel=0.05)  # 20 seeds: within .02
    assert correlations(mean[None], x)[0, 0] > 0.9999


@pytest.mark.parametrize(
    ("dimension", "level", "picks"), [(225, 3, 250), (225, 5, 4000), (225, 4, 20_000), (1024, 4, 1000)]
)
def test_correlation_of_labelled_averages(dimension: int, level: float, picks: int) -> None:
    rng = np.random.default_rng(2)
    x = orthogonal(5, dimension, rng)
    z = sample_picked(x, level, picks, rng)
    label = (z @ x.T).argmax(axis=1)
    means = np.stack([z[label == k].mean(axis=0) for k in range(5)])
    expected = predicted_correlation(inverse_mills(level), dimension, picks / 5)
    assert np.diag(correlations(means, x)).mean() == pytest.approx(expected, abs=0.015)  # within .01 of it; 20 seeds
    if (dimension, level, picks) == (1024, 4, 1000):
        assert expected == pytest.approx(0.882, abs=1e-3)


def test_unlabelled_classes_find_the_templates_or_collapse() -> None:
    rng = np.random.default_rng(3)
    x = orthogonal(5, 225, rng)
    found = {}
    for picks in (60, 4000):
        z = sample_picked(x, 4.0, picks, rng)
        found[picks] = float(assign(fit_mixture(z, 5, rng).means, x)[1].mean())
    enough = needed_picks(4.0, 225, 5)
    assert 60 < enough < 4000
    assert found[4000] == pytest.approx(predicted_correlation(inverse_mills(4.0), 225, 800), abs=0.02)
    # labelled averages would still correlate by .70 with 60 picks; 6 seeds gave .25 to .49 without labels
    assert predicted_correlation(inverse_mills(4.0), 225, 12) > 0.69
    assert found[60] < 0.6


@pytest.mark.parametrize(("level", "picks", "labelled"), [(4.0, 500, 0.797), (3.0, 1000, 0.824)])
def test_below_the_picks_needed_classes_collapse_in_large_images(level: float, picks: int, labelled: float) -> None:
    rng = np.random.default_rng(0)
    x = orthogonal(5, 1024, rng)
    z = sample_picked(x, level, picks, rng)
    assert predicted_correlation(inverse_mills(level), 1024, picks / 5) == pytest.approx(labelled, abs=0.005)
    assert picks < needed_picks(level, 1024, 5)
    # published .458 and .520; four seeds: .45 to .49 and .36 to .46
    assert assign(fit_mixture(z, 5, rng, starts=2).means, x)[1].mean() < 0.6


@pytest.mark.parametrize("level", [2.0, 4.0, 8.0])
def test_random_starts_find_what_starts_from_the_templates_find(level: float) -> None:
    rng = np.random.default_rng(13)
    x = orthogonal(5, 225, rng)
    z = sample_picked(x, level, 4000, rng)
    random = assign(fit_mixture(z, 5, rng).means, x)[1]
    given = assign(fit_mixture(z, 5, rng, initial=level * x).means, x)[1]
    np.testing.assert_allclose(random, given, atol=0.01)  # .0005 to .006 seen


def test_bias_of_views_of_one_molecule(data_dir: Path) -> None:
    """Five projections of the 70S map, 17 x 17, which resemble each other (inner products .08 to .63)."""
    from napari_pickbias.imaging.fourier import fourier_crop
    from napari_pickbias.imaging.projection import project
    from napari_pickbias.imaging.rotations import random_rotations
    from napari_pickbias.records import read_volume

    rng = np.random.default_rng(0)
    volume = read_volume(data_dir / "aspire-python/clean70SRibosome_vol_65p.mrc", 5.0).data
    x = fourier_crop(project(volume, random_rotations(5, rng)), 17).reshape(5, -1)
    x = x - x.mean(axis=1, keepdims=True)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    found = []
    for level in (1.0, 2.0, 3.0, 4.0, 8.0):
        z = sample_picked(x, level, 20_000, rng)
        found.append(float(assign(fit_mixture(z, 5, rng, initial=level * x).means, x)[1].mean()))
    # published, of other views: these; four sets of views stay within .005
    np.testing.assert_allclose(found, [0.913, 0.989, 0.996, 0.998, 0.999], atol=0.012)


def test_bias_grows_with_the_threshold() -> None:
    rng = np.random.default_rng(4)
    x = orthogonal(5, 225, rng)
    found = []
    for level in (1.0, 2.0, 3.0, 4.0, 8.0):
        z = sample_picked(x, level, 20_000, rng)
        means = fit_mixture(z, 5, rng, initial=level * x).means
        found.append(float(assign(means, x)[1].mean()))
    # near-orthogonal bank, published: .935 .993 .997 .998 1.000
    np.testing.assert_allclose(found, [0.935, 0.993, 0.997, 0.998, 1.0], atol=0.012)
    assert np.all(np.diff(found) > 0)


@pytest.mark.parametrize(("overlap", "factor"), [(0.5, 1.06), (0.8, 1.13), (0.9, 1.23), (0.95, 1.37)])
def test_close_templates_are_pushed_apart(overlap: float, factor: float) -> None:
    rng = np.random.default_rng(5)
    base = orthogonal(2, 100, rng)
    x = np.stack([base[0], overlap * base[0] + np.sqrt(1 - overlap**2) * base[1]])
    z = sample_picked(x, 4.0, 20_000, rng)
    means = fit_mixture(z, 2, rng, initial=4 * x, iterations=400, tolerance=1e-9).means
    separation = np.linalg.norm(means[0] - means[1]) / (4.0 * np.linalg.norm(x[0] - x[1]))
    assert separation == pytest.approx(factor, abs=0.05)
    assert np.diag(correlations(means, x)).min() > 0.98


def test_close_templates_are_pushed_apart_less_at_high_thresholds_and_sooner() -> None:
    rng = np.random.default_rng(5)
    base = orthogonal(2, 100, rng)
    x = np.stack([base[0], 0.9 * base[0] + np.sqrt(1 - 0.9**2) * base[1]])
    factors = []
    for level in (4.0, 8.0, 16.0):
        z = sample_picked(x, level, 20_000, rng)
        means = fit_mixture(z, 2, rng, initial=level * x, iterations=400, tolerance=1e-9).means
        factors.append(np.linalg.norm(means[0] - means[1]) / (level * np.linalg.norm(x[0] - x[1])))
    np.testing.assert_allclose(factors, [1.23, 1.05, 1.01], atol=0.03)
    x = np.stack([base[0], 0.5 * base[0] + np.sqrt(1 - 0.5**2) * base[1]])
    steps = [
        fit_mixture(sample_picked(x, level, 5000, rng), 2, rng, starts=1, iterations=200).iterations
        for level in (2.0, 5.0)
    ]
    assert 15 < steps[0] < 45  # five seeds: 20 to 29
    assert steps[1] < 12  # 6 to 9


@pytest.mark.parametrize(("level", "distance"), [(2.0, 0.227), (4.0, 0.066), (6.0, 0.031)])
def test_coloured_noise(level: float, distance: float) -> None:
    rng = np.random.default_rng(6)
    covariance = autoregressive(40, 0.7)
    x = rng.standard_normal((1, 40))
    x /= np.linalg.norm(x)
    s = float(score_deviations(x, covariance)[0])
    mean = picked_means(x, level, covariance)[0]
    limit = bias_directions(x, covariance)[0]
    z = sample_picked(x, level, 20_000, rng, covariance)
    np.testing.assert_allclose(z.mean(axis=0), mean, atol=5 / np.sqrt(20_000))
    # closed form of the distance to the limit; the published figures are those of another template
    expected = (inverse_mills(level / s) * s / level - 1) * np.linalg.norm(covariance @ x[0]) / s**2
    assert np.linalg.norm(mean / level - limit) == pytest.approx(expected, rel=1e-9)
    assert expected == pytest.approx(distance, rel=0.8)
    assert mean @ x[0] / level == pytest.approx(inverse_mills(level / s) * s / level)
    # compared with the template itself the average stays different, whatever the threshold
    assert correlations(z.mean(axis=0)[None], (covariance @ x[0])[None])[0, 0] > 0.99
    assert correlations(z.mean(axis=0)[None], x)[0, 0] < 0.9


def test_score_of_the_average_over_the_threshold_goes_to_one_in_coloured_noise() -> None:
    """Theorem 3.2: the limit is along Sigma x, and its score is the threshold, whatever the covariance."""
    rng = np.random.default_rng(6)
    covariance = autoregressive(40, 0.7)
    x = rng.standard_normal((1, 40))
    x /= np.linalg.norm(x)
    s = float(score_deviations(x, covariance)[0])
    ratios = [float(picked_means(x, level * s, covariance)[0] @ x[0]) / (level * s) for level in (2.0, 6.0, 40.0)]
    np.testing.assert_allclose(ratios, [1.1866, 1.0264, 1.0006], atol=1e-4)
    along = correlations(picked_means(x, 6 * s, covariance), bias_directions(x, covariance))[0, 0]
    assert along == pytest.approx(1)


def test_whitened_filter_brings_back_the_template_itself() -> None:
    rng = np.random.default_rng(7)
    covariance = autoregressive(40, 0.7)
    x = rng.standard_normal(40)
    matched = np.linalg.solve(covariance, x)[None]
    z = sample_picked(matched, 4.0 * float(score_deviations(matched, covariance)[0]), 40_000, rng, covariance)
    assert correlations(z.mean(axis=0)[None], x[None])[0, 0] > 0.999
    assert correlations(bias_directions(matched, covariance), x[None])[0, 0] == pytest.approx(1)


def test_effective_dimension() -> None:
    rng = np.random.default_rng(8)
    covariance = autoregressive(40, 0.7)
    x = rng.standard_normal((1, 40))
    x /= np.linalg.norm(x)
    assert effective_dimension(x[0], np.eye(40)) == pytest.approx(40)
    s = float(score_deviations(x, covariance)[0])
    expected = predicted_correlation(inverse_mills(3.0), effective_dimension(x[0], covariance), 10)
    along = (covariance @ x[0])[None]
    found = [
        correlations(sample_picked(x, 3.0 * s, 10, rng, covariance).mean(axis=0)[None], along)[0, 0] for _ in range(300)
    ]
    assert np.mean(found) == pytest.approx(expected, abs=0.03)


def test_sampler_equals_scanning() -> None:
    rng = np.random.default_rng(9)
    base = orthogonal(2, 6, rng)
    x = np.stack([base[0], 0.6 * base[0] + 0.8 * base[1]])
    covariance = autoregressive(6, 0.5)
    noise = rng.multivariate_normal(np.zeros(6), covariance, 400_000)
    scanned = noise[(noise @ x.T).max(axis=1) >= 2.0]
    sampled = sample_picked(x, 2.0, 20_000, rng, covariance)
    assert ((sampled @ x.T).max(axis=1) >= 2.0 - 1e-9).all()
    np.testing.assert_allclose(sampled.mean(axis=0), scanned.mean(axis=0), atol=0.04)
    np.testing.assert_allclose(np.cov(sampled.T), np.cov(scanned.T), atol=0.06)
    both = [np.mean((z @ x.T >= 2.0).all(axis=1)) for z in (sampled, scanned)]
    assert both[0] == pytest.approx(both[1], abs=0.015)


def test_tails_decide_whether_averages_come_to_the_template() -> None:
    """(2.8) holds for light tails; for a Pareto tail of index v the limit is v / (v - 1) instead of 1."""
    rng = np.random.default_rng(10)
    u = np.zeros(8)
    u[0] = 1
    light = spherical_patches(400_000, 8, rng, "light") @ u
    heavy = spherical_patches(400_000, 8, rng, "heavy", 5.0) @ u
    assert light[light >= 2.6].mean() / 2.6 == pytest.approx(1, abs=0.03)

    def mean_above(level: float) -> float:
        t = level / np.sqrt(3 / 5)
        return float(np.sqrt(3 / 5) * (5 + t**2) / 4 * student_t.pdf(t, 5) / student_t.sf(t, 5))

    assert heavy[heavy >= 3].mean() == pytest.approx(mean_above(3), rel=0.02)
    assert mean_above(1e3) / 1e3 == pytest.approx(5 / 4, rel=1e-3)
    for law in ("gaussian", "light", "heavy"):
        assert spherical_patches(100_000, 4, rng, law).var() == pytest.approx(1, rel=0.05)
    with pytest.raises(ValueError, match="more than 2"):
        spherical_patches(1, 2, rng, "heavy", 2.0)


def test_picking_white_noise_by_algorithm_2(data_dir: Path) -> None:
    """Five projections of the 70S map on 1024² noise at T = 4: counts, mean score and averages as predicted."""
    from napari_pickbias.imaging.fourier import fourier_crop
    from napari_pickbias.imaging.projection import project
    from napari_pickbias.imaging.rotations import random_rotations
    from napari_pickbias.matching import TemplateBank, find_peaks, score_map
    from napari_pickbias.records import read_volume

    rng = np.random.default_rng(12)
    volume = read_volume(data_dir / "aspire-python/clean70SRibosome_vol_65p.mrc", 5.0).data
    images = fourier_crop(project(volume, random_rotations(5, rng)), 33)
    bank = TemplateBank.from_images(images, np.ones((33, 33)))
    templates = bank.images.reshape(5, -1)
    levels = (4.0, 4.5)
    patches, labels, pixels, scores = ({level: [] for level in levels} for _ in range(4))
    elsewhere = []
    for _ in range(20):
        noise = rng.standard_normal((1024, 1024)).astype(np.float32)
        score, best = score_map(noise, bank, 1, normalise="none", border="wrap")
        for level in levels:
            picks = find_peaks(score, best, level, 33, rule="paper", subpixel=False)
            pixels[level].append(int((score >= level).sum()))
            y, x = picks["y"].astype(int) - 16, picks["x"].astype(int) - 16
            patches[level] += [noise[a : a + 33, b : b + 33].ravel() for a, b in zip(y, x, strict=True)]
            labels[level].append(picks["template"])
            scores[level].append(picks["score"])
        elsewhere += [noise[a : a + 33, b : b + 33].ravel() for a, b in rng.integers(0, 991, (86, 2))]
    # published a micrograph: 158.6 pixels above T = 4 (L N² Q = 166), 86.4 picks of mean score 4.26; at 4.5 16.8, 11.7
    for level, count, mean, near in ((4.0, 86.4, 4.26, 0.03), (4.5, 11.7, 4.72, 0.05)):
        label = np.concatenate(labels[level])
        assert np.mean(pixels[level]) == pytest.approx(5 * 1024**2 * tail_probability(level), rel=0.1)
        assert len(label) / 20 == pytest.approx(count, rel=0.15)
        assert np.concatenate(scores[level]).mean() == pytest.approx(mean, abs=0.03)
        means = np.stack([np.stack(patches[level])[label == k].mean(axis=0) for k in range(5)])
        expected = predicted_correlation(inverse_mills(level), 33**2, np.bincount(label, minlength=5))
        # two seeds: within .015 of it (published .90 to .93 and .69 to .72)
        np.testing.assert_allclose(np.diag(correlations(means, templates)), expected, atol=near)
    # classes without labels: published .90 to .93, and .27 to .54 where picks are too few
    found = [assign(fit_mixture(np.stack(patches[level]), 5, rng).means, templates)[1] for level in levels]
    assert np.median(found[0]) > 0.87
    assert np.mean(found[1]) < 0.6
    assert np.abs(correlations(np.mean(elsewhere, axis=0)[None], templates)).max() < 0.15  # published .05
