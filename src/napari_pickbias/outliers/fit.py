"""Fit of the calibrated detector: noise, radial template, factors and priors from the stack itself (EM)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from napari_pickbias.outliers import evidence as ev
from napari_pickbias.outliers.covariance import NoiseModel, detrended, estimate_noise
from napari_pickbias.outliers.geometry import Geometry
from napari_pickbias.outliers.operators import Operators, ParticleModel, build_operators
from napari_pickbias.outliers.template import Factors, first_profile, learn_factors, no_factors, update_profile

FloatArray = NDArray[np.float64]

LOW_SIGNAL = 8.0
"""Below this e0 the priors are held fixed and the false discovery rate is not stated."""
FIXED_PRIOR = np.array([0.6, 0.2, 0.15, 0.05])


@dataclass(frozen=True)
class Fitted:
    """State of the fit: noise, particles, and the filters and tables made from them."""

    noise: NoiseModel
    model: ParticleModel
    operators: Operators
    tables: ev.Tables


def filter_outputs(images: NDArray[np.floating], operators: Operators) -> NDArray[np.float32]:
    """Return ``images @ filters``, (m, n + c*K) float32."""
    flat = np.ascontiguousarray(images, dtype=np.float32).reshape(len(images), -1)
    return flat @ operators.filters


def posteriors(log_joint: FloatArray) -> FloatArray:
    """Return the posterior probabilities of the four hypotheses, (m, 4)."""
    p = np.exp(log_joint - log_joint.max(axis=1, keepdims=True))
    return np.asarray(p / p.sum(axis=1, keepdims=True))


def centre_weights(log_likelihood: NDArray[np.floating], tables: ev.Tables) -> FloatArray:
    """Return the posterior of the centre of a central particle, (m, c)."""
    logw = log_likelihood[:, : len(tables.log_centre)] + tables.log_centre
    w = np.exp(logw - logw.max(axis=1, keepdims=True))
    return np.asarray(w / w.sum(axis=1, keepdims=True))


def update_kappa(
    result: ev.Evidence, tables: ev.Tables, use: NDArray[np.bool_], radius_px: float, n_bins: int, e0: float
) -> FloatArray:
    """Excess variance of the second amplitude per distance bin, from the stack's own residuals."""
    bins = np.minimum(ev.kappa_bins(radius_px, tables.centres), n_bins - 1)
    z = np.abs(result.second_z[use])
    where = bins[result.first[use]]
    power = float(np.median(result.first_amplitude[use])) ** 2
    kappa = np.zeros(n_bins)
    for k in range(n_bins):
        values = z[(where == k) & np.isfinite(z)]
        if len(values) >= 50:
            kappa[k] = ((np.quantile(values, 0.8) / 1.2816) ** 2 - 1) / max(power, 1e-6)
    return np.clip(kappa, 0, 0.3 * e0)


def fit_model(
    images: NDArray[np.float32],
    geometry: Geometry,
    *,
    rng: np.random.Generator,
    iterations: int = 6,
    counts: tuple[int, ...] = (1, 1, 2, 1),
    max_two: float = 0.1,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Fitted, float]:
    """Fit noise and particle model by expectation maximisation.

    Returns
    -------
    fitted : Fitted
    contrast : float
        See :func:`napari_pickbias.outliers.template.first_profile`.
    """
    R = geometry.radius_px
    ring = geometry.ring()
    x = detrended(images, ring)
    profile, contrast = first_profile(x, ring, R)
    n_bins = int(np.ceil(2 * np.sqrt(2) * (geometry.box_px / 2 + R) / (ev.KAPPA_BIN * R))) + 1
    model = ParticleModel(
        profile, no_factors(len(profile)), 0.35, 0.35 * geometry.inner_px, FIXED_PRIOR, np.zeros(n_bins)
    )
    noise = estimate_noise(x, ring)
    for it in range(iterations + 1):
        operators = build_operators(geometry, noise, model)
        if it == 0:  # the scale of the first template: the average particle must have amplitude 1
            model = replace(model, profile=model.profile * _first_scale(x, operators))
            operators = build_operators(geometry, noise, model)
        tables = ev.make_tables(operators, model)
        if progress is not None:
            progress(it, iterations + 1)
        if it == iterations:
            break
        result = ev.judge(filter_outputs(x, operators), tables, details=True)
        P = posteriors(result.log_joint)
        model = _maximise(x, geometry, noise, model, operators, tables, result, P, rng, counts, max_two)
        quiet = P[:, ev.KEEP] + P[:, ev.NOISE] > 0.5
        if quiet.sum() >= 50:
            noise = estimate_noise(x[quiet], ring)
    return Fitted(noise, model, operators, tables), contrast


def _first_scale(x: NDArray[np.float32], operators: Operators) -> float:
    """Return the amplitude of the brighter half of the images, in units of the first template."""
    outputs = filter_outputs(x, operators)[:, : operators.geometry.n_core]
    best = (outputs / np.sqrt(operators.energy[: operators.geometry.n_core])).argmax(axis=1)
    amplitude = outputs[np.arange(len(x)), best] / operators.energy[best]
    return max(float(np.quantile(amplitude, 0.6)), 0.1)


def _maximise(
    x: NDArray[np.float32],
    geometry: Geometry,
    noise: NoiseModel,
    model: ParticleModel,
    operators: Operators,
    tables: ev.Tables,
    result: ev.Evidence,
    P: FloatArray,
    rng: np.random.Generator,
    counts: tuple[int, ...],
    max_two: float,
) -> ParticleModel:
    """M step, on images whose first particle is central."""
    R, inner, c = geometry.radius_px, geometry.inner_px, operators.geometry.n_core
    central_first = tables.rho[result.first] <= inner
    use = P[:, ev.KEEP] + P[:, ev.TWO] * central_first > 0.5
    if use.sum() < 20:
        return model
    weights = centre_weights(result.log_likelihood[use], tables)
    amplitude = result.first_amplitude[use]
    median = float(np.median(amplitude))
    spread = 1.48 * float(np.median(np.abs(amplitude - median))) / max(median, 1e-6)
    variance = float((weights * tables.rho[:c] ** 2).sum(axis=1).mean() / 2)
    images = x[use]
    sums = (weights * amplitude[:, None]).T @ images.reshape(len(images), -1)
    norms = (weights * amplitude[:, None] ** 2).sum(axis=0)
    profile = update_profile(sums, norms, operators.geometry.centres[:c], geometry.box_px, R) * median
    if profile.max() <= 0:
        profile = model.profile
    mean_centre = weights @ operators.geometry.centres[:c]
    factors: Factors = learn_factors(
        images,
        detrended(noise.draw(len(images), rng), geometry.ring()),
        mean_centre,
        amplitude / max(median, 1e-6),
        profile,
        R,
        counts,
    )
    if operators.e0 < LOW_SIGNAL:
        prior = FIXED_PRIOR
    else:
        prior = P.mean(axis=0)
        prior[ev.TWO] = min(prior[ev.TWO], max_two)
        prior = np.maximum(prior, 1e-3)
        prior = prior / prior.sum()
    kappa = update_kappa(result, tables, use, R, len(model.kappa), operators.e0)
    return ParticleModel(
        profile,
        factors,
        float(np.clip(spread, 0.2, 0.5)),
        float(np.clip(np.sqrt(variance), 0.15 * inner, 0.6 * inner)),
        prior,
        kappa,
    )
