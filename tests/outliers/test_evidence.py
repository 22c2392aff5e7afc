"""The kernel against plain NumPy and against integrals written out."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.linalg import null_space
from scipy.special import logsumexp
from scipy.stats import multivariate_normal, norm

from napari_pickbias.outliers import covariance as cov
from napari_pickbias.outliers import evidence as ev
from napari_pickbias.outliers.calibration import calibrate, decide, log_odds
from napari_pickbias.outliers.factors import Factors, factor_images, no_factors
from napari_pickbias.outliers.fit import filter_outputs, posteriors
from napari_pickbias.outliers.geometry import make_geometry
from napari_pickbias.outliers.operators import Operators, ParticleModel, build_operators
from napari_pickbias.outliers.template import profile_image, radial_bins, taper

D, R = 13, 3.6


def small_state(*, factors: bool) -> tuple[cov.NoiseModel, ParticleModel, Operators, ev.Tables]:
    lag = np.fft.fftfreq(2 * D, 1 / (2 * D))
    noise = cov.noise_model(cov.regular_autocovariance(np.exp(-np.hypot(lag[:, None], lag[None]))))
    radii = np.arange(radial_bins(D), dtype=float)
    profile = 1.5 * np.exp(-0.5 * (radii / 1.8) ** 2) * taper(radii, R)
    shapes = np.stack([np.cos(radii) * profile, radii * profile, radii**2 * profile / 3])
    some = Factors(np.array([0, 1, 2]), shapes, np.array([0.1, 0.08, 0.05]))
    kappa = np.linspace(0.5, 0, 60)
    prior = np.array([0.5, 0.2, 0.2, 0.1])
    model = ParticleModel(profile, some if factors else no_factors(len(radii)), 0.3, 1.0, prior, kappa)
    operators = build_operators(make_geometry(D, R), noise, model)
    return noise, model, operators, ev.make_tables(operators, model)


def some_images(noise: cov.NoiseModel, model: ParticleModel, count: int = 12) -> np.ndarray:
    rng = np.random.default_rng(3)
    where = rng.uniform(-5, 5, (count, 2))
    particles = profile_image(model.profile, D, where).reshape(count, D, D)
    second = profile_image(model.profile, D, where[::-1] * 1.2).reshape(count, D, D)
    amplitude = np.where(np.arange(count) % 3 > 0, 1.2, 0)[:, None, None]
    pair = np.where(np.arange(count) % 4 == 0, 1.0, 0)[:, None, None]
    return (noise.draw(count, rng) + amplitude * particles + pair * second).astype(np.float32)


def test_filters_are_the_templates_in_the_noise_metric() -> None:
    noise, model, operators, _ = small_state(factors=True)
    images = some_images(noise, model)
    n, c = len(operators.energy), operators.geometry.n_core
    templates = profile_image(model.profile, D, operators.geometry.centres)
    outputs = filter_outputs(images, operators)
    direct = images.reshape(len(images), -1) @ noise.inverse @ templates.T
    np.testing.assert_allclose(outputs[:, :n], direct, atol=1e-4 * abs(direct).max())
    assert outputs.shape[1] == n + c * (1 + 5)


@pytest.mark.parametrize("sign", [1, -1])
def test_likelihood_outside_the_core_is_the_integral_over_amplitude(sign: int) -> None:
    noise, model, operators, tables = small_state(factors=True)
    c, s = operators.geometry.n_core, model.amplitude_sd
    result = ev.judge(sign * filter_outputs(some_images(noise, model), operators), tables, details=True)
    outputs = sign * filter_outputs(some_images(noise, model), operators)
    checked = 0
    for i in range(len(outputs)):
        for t in range(c, len(operators.energy), 7):
            b, e = float(outputs[i, t]), operators.energy[t]
            value = quad(lambda a, b=b, e=e: np.exp(a * b - a * a * e / 2 - (a - 1) ** 2 / (2 * s * s)), -2, 4)[0]
            value /= s * np.sqrt(2 * np.pi)
            if b < 0:  # a dark particle never counts for more than none
                assert result.log_likelihood[i, t] <= -0.5 / (1 / e + s * s) + 1e-5
            else:
                assert result.log_likelihood[i, t] == pytest.approx(np.log(value), abs=2e-4)
                checked += 1
    assert checked > 5


def test_likelihood_in_the_core_is_the_gaussian_marginal() -> None:
    """log N(x; Phi theta0, S + Phi D Phi') - log N(x; 0, S), both of what is orthogonal to the nuisance."""
    noise, model, operators, tables = small_state(factors=True)
    images = some_images(noise, model).astype(np.float64)
    result = ev.judge(filter_outputs(images, operators), tables, details=True)
    basis = null_space(cov.nuisance(D).T)
    x = images.reshape(len(images), -1) @ basis
    sigma = basis.T @ noise.covariance() @ basis
    variances = np.concatenate([[model.amplitude_sd**2], model.factors.column_variance()])
    outputs = filter_outputs(images, operators)
    null = multivariate_normal(np.zeros(len(sigma)), sigma).logpdf(x)
    for t in range(operators.geometry.n_core):
        centre = operators.geometry.centres[t : t + 1]
        phi = np.concatenate(
            [profile_image(model.profile, D, centre)[0][:, None], factor_images(model.factors, D, centre)[0]], axis=1
        )
        phi = basis.T @ phi
        expected = multivariate_normal(phi[:, 0], sigma + (phi * variances) @ phi.T).logpdf(x) - null
        bright = outputs[:, t] > 0
        np.testing.assert_allclose(result.log_likelihood[bright, t], expected[bright], atol=3e-4)


def plain_judge(b: np.ndarray, tab: ev.Tables) -> tuple[np.ndarray, int, float, int]:
    """The evidence of one image, line by line as it is defined."""
    n, (c, K) = len(tab.energy), tab.offset.shape
    v, s2 = 1 / tab.energy, tab.s2
    a = b[:n] * v
    logl = 0.5 * np.log(v / (v + s2)) + a**2 / (2 * v) - (a - 1) ** 2 / (2 * (v + s2))
    logl = np.where(a < 0, np.minimum(logl, -0.5 / (v + s2)), logl)
    y = b[n:].reshape(c, K) + tab.offset
    core = np.append(b[:c] > 0, np.zeros(n - c, bool))
    logl[core] = (0.5 * (y**2).sum(axis=1) - tab.constant)[core[:c]]
    keep = logsumexp(logl[:c] + tab.log_centre)
    off = logsumexp(logl[tab.outside]) - np.log(tab.outside.sum())
    t1 = int(logl.argmax())
    if core[t1]:
        a1, b2 = tab.first_row[t1] @ y[t1], b[:n] - tab.cross_core[t1] @ y[t1]
        e2 = tab.energy - (tab.cross_core[t1].astype(float) ** 2).sum(axis=1)
    else:
        precision = tab.energy[t1] + 1 / s2
        whitened = (b[t1] + 1 / s2) / np.sqrt(precision)
        a1, b2 = whitened / np.sqrt(precision), b[:n] - tab.cross[t1] * whitened
        e2 = tab.energy - tab.cross[t1].astype(float) ** 2
    e2 = np.maximum(e2, 1e-3 * tab.energy)
    far = tab.residual_energy[t1] > 0
    a2, v2 = b2 / e2, (1 + tab.kappa[t1] * a1**2) / e2
    null = 0.95 * norm.pdf(a2, 0, np.sqrt(v2)) + 0.05 * norm.pdf(a2, 0, np.sqrt(v2 + (0.15 * a1) ** 2))
    llr = norm.logpdf(a2, 1, np.sqrt(v2 + s2)) - np.log(null)
    two = logsumexp(llr[far]) - np.log(2 * n)
    joint = tab.log_prior + np.array([keep, 0, off, np.logaddexp(keep, off) + two])
    return joint, t1, float(a1), int(np.flatnonzero(far)[llr[far].argmax()])


@pytest.mark.parametrize("factors", [True, False])
def test_kernel_equals_the_plain_version(factors: bool) -> None:
    noise, model, operators, tables = small_state(factors=factors)
    outputs = filter_outputs(some_images(noise, model, 40), operators)
    result = ev.judge(outputs, tables)
    for i, b in enumerate(outputs.astype(np.float64)):
        joint, t1, a1, t2 = plain_judge(b, tables)
        np.testing.assert_allclose(result.log_joint[i], joint, atol=1e-3)
        assert (result.first[i], result.second[i]) == (t1, t2)
        assert result.first_amplitude[i] == pytest.approx(a1, abs=1e-4)


def test_second_particles_are_not_looked_for_close_by() -> None:
    _, _, operators, tables = small_state(factors=False)
    centres = operators.geometry.centres
    distance = np.linalg.norm(centres[:, None] - centres, axis=2)
    np.testing.assert_array_equal(tables.residual_energy == 0, distance < 0.9 * R - 1e-9)


def test_posteriors_sum_to_one_and_agree_with_the_log_odds() -> None:
    joint = np.random.default_rng(0).normal(0, 300, (50, 4))
    P = posteriors(joint)
    np.testing.assert_allclose(P.sum(axis=1), 1, rtol=1e-12)
    each, score = log_odds(joint)
    sure = (P > 1e-12).all(axis=1)
    np.testing.assert_allclose(1 / (1 + np.exp(-np.clip(score, -700, 700))), P[:, 0], atol=1e-12)
    np.testing.assert_allclose(each[sure], np.log(P[sure, :1] / P[sure, 1:]), rtol=1e-6)


def test_threshold_keeps_no_more_than_the_stated_share_of_surrogates() -> None:
    rng = np.random.default_rng(1)
    joint = rng.normal(0, 3, (4000, 4))
    calibration = calibrate(joint, 0.05)
    each, _ = log_odds(joint)
    kept = decide(each, calibration) == 0
    assert 0.045 < kept.mean() <= 0.05
    p = calibration.p_value(each[:, 0])
    np.testing.assert_allclose(np.sort(p), (np.arange(4000) + 2) / 4001)
    assert calibrate(joint - [50, 0, 0, 0], 0.05).noise == 0  # never below even odds


def test_decision_needs_all_three_tests() -> None:
    calibration = calibrate(np.zeros((100, 4)), 0.01)
    each = np.array([[1, 1, 1], [-1, 1, 1], [1, -1, 1], [1, 1, -1], [np.nan, 1, 1]], float)
    reason = decide(each[:4], calibration)
    assert reason.tolist() == [0, 1, 2, 3]
    assert decide(each[4:], calibration)[0] != 0
