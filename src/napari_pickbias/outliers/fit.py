"""Fit of the calibrated detector: noise, radial template, factors and priors from the stack itself (EM)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from napari_pickbias.outliers import evidence as ev
from napari_pickbias.outliers.covariance import NoiseModel, detrended, estimate_noise
from napari_pickbias.outliers.factors import angular_covariances, learn_factors, no_factors
from napari_pickbias.outliers.geometry import Geometry
from napari_pickbias.outliers.operators import Operators, ParticleModel, build_operators
from napari_pickbias.outliers.options import CalibratedOptions
from napari_pickbias.outliers.template import first_profile, update_profile

FloatArray = NDArray[np.float64]

LOW_SIGNAL = 8.0
"""Below this e0 the priors are held fixed and the false discovery rate is not stated."""
FIXED_PRIOR = (0.6, 0.2, 0.15, 0.05)
"""Shares of one central particle, noise, off-centre, two particles where they cannot be fitted."""
FEWEST_CENTRAL = 20
"""With fewer central particles than this the particle model stays as it is."""


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


def fit_model(
    images: NDArray[np.float32],
    geometry: Geometry,
    options: CalibratedOptions,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Fitted:
    """Fit noise and particle model by expectation maximisation.

    Parameters
    ----------
    images : (m, d, d) float32 array
        Particles bright, noise of about unit variance.
    geometry : Geometry
    options : CalibratedOptions
    progress : callable, optional
        Called with (done, total) after every iteration.
    """
    ring = geometry.ring()
    x = detrended(images, ring)
    model = _first_model(x, geometry)
    noise = estimate_noise(x, ring)
    model = replace(model, profile=model.profile * _first_scale(x, build_operators(geometry, noise, model)))
    for iteration in range(options.iterations + 1):
        operators = build_operators(geometry, noise, model)
        tables = ev.make_tables(operators, model)
        if progress is not None:
            progress(iteration, options.iterations + 1)
        if iteration < options.iterations:
            result = ev.judge(filter_outputs(x, operators), tables, details=True)
            P = posteriors(result.log_joint)
            model = _maximise(x, Fitted(noise, model, operators, tables), result, P, options)
            quiet = P[:, ev.KEEP] + P[:, ev.NOISE] > 0.5  # others have protein in the ring
            if quiet.sum() >= FEWEST_CENTRAL:
                noise = estimate_noise(x[quiet], ring)
    return Fitted(noise, model, operators, tables)


def _first_model(x: NDArray[np.float32], geometry: Geometry) -> ParticleModel:
    """Return the model the iterations start from: the stack mean's radial profile, no factors."""
    profile = first_profile(x, geometry.ring(), geometry.radius_px)
    reach = 2 * np.sqrt(2) * (geometry.box_px / 2 + geometry.radius_px)
    n_bins = int(np.ceil(reach / (ev.KAPPA_BIN * geometry.radius_px))) + 1
    return ParticleModel(
        profile, no_factors(len(profile)), 0.35, 0.35 * geometry.inner_px, np.array(FIXED_PRIOR), np.zeros(n_bins)
    )


def _first_scale(x: NDArray[np.float32], operators: Operators) -> float:
    """Return the amplitude of a typical image in units of the first template: the average particle must have 1."""
    c = operators.geometry.n_core
    outputs = filter_outputs(x, operators)[:, :c]
    best = (outputs / np.sqrt(operators.energy[:c])).argmax(axis=1)
    amplitude = outputs[np.arange(len(x)), best] / operators.energy[best]
    return max(float(np.quantile(amplitude, 0.6)), 0.1)


def _maximise(
    x: NDArray[np.float32], state: Fitted, result: ev.Evidence, P: FloatArray, options: CalibratedOptions
) -> ParticleModel:
    """M step, on images whose first particle is central.

    Not on those with P(keep) > 1/2 alone: elongated views that look like two particles for now would be lost for good.
    """
    model, tables, geometry = state.model, state.tables, state.operators.geometry
    R, inner, c = geometry.radius_px, geometry.inner_px, geometry.n_core
    use = P[:, ev.KEEP] + P[:, ev.TWO] * (tables.rho[result.first] <= inner) > 0.5
    if use.sum() < FEWEST_CENTRAL:
        return model
    images, weights = x[use], centre_weights(result.log_likelihood[use], tables)
    amplitude = result.first_amplitude[use]
    median = max(float(np.median(amplitude)), 1e-6)
    spread = 1.48 * float(np.median(np.abs(amplitude - median))) / median
    variance = float((weights * tables.rho[:c] ** 2).sum(axis=1).mean() / 2)
    sums = (weights * amplitude[:, None]).T @ images.reshape(len(images), -1)
    norms = (weights * amplitude[:, None] ** 2).sum(axis=0)
    # times the median amplitude: else the scale drifts, and with it the meaning of the amplitude prior
    profile = update_profile(sums, norms, geometry.centres[:c], geometry.box_px, R) * median
    if profile.max() <= 0:
        profile = model.profile
    relative = amplitude / median
    total, alone = angular_covariances(
        images,
        geometry.centres,
        weights.argmax(axis=1),
        int(np.ceil(1.3 * R)) + 1,
        options.max_order,
        profile,
        relative,
        state.noise,
    )
    factors = learn_factors(
        total,
        alone,
        len(images),
        profile,
        float(np.mean(relative**2)),
        R,
        share=options.factor_share,
        max_columns=options.max_columns,
    )
    return ParticleModel(
        profile,
        factors,
        float(np.clip(spread, 0.2, 0.5)),
        float(np.clip(np.sqrt(variance), 0.15 * inner, 0.6 * inner)),
        update_prior(P, state.operators.e0, options.max_two),
        update_kappa(result, tables, use, R, len(model.kappa), state.operators.e0),
    )


def update_prior(P: FloatArray, e0: float, max_two: float) -> FloatArray:
    """Return the mean posterior of the hypotheses; held fixed at low signal, where it would run to "all kept"."""
    if e0 < LOW_SIGNAL:
        return np.array(FIXED_PRIOR)
    prior = P.mean(axis=0)
    prior[ev.TWO] = min(prior[ev.TWO], max_two)
    prior = np.maximum(prior, 1e-3)
    return np.asarray(prior / prior.sum())


def update_kappa(
    result: ev.Evidence, tables: ev.Tables, use: NDArray[np.bool_], radius_px: float, n_bins: int, e0: float
) -> FloatArray:
    """Excess variance of the second amplitude per distance bin, from the stack's own residuals.

    The 80 % quantile of ``|z|`` is robust against the images that do have a second particle.
    """
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
