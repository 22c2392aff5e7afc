"""What averages of noise picked with templates come to: finite-threshold means, and predictions at finite counts.

Noise patches ``z`` have mean 0 and covariance ``Sigma``; a patch is picked when ``<z, x_l> >= T`` for a template
``x_l``. With ``s_l = sqrt(x_l' Sigma x_l)`` everything depends on the threshold in noise deviations, ``T / s_l``.
Source: "Structure from Noise: Confirmation Bias in Particle Picking in Structural Biology", its Lemma A.1, Theorems
3.1 and 3.2, Proposition 3.3 and equation (B.13); the predictions for finite counts are derived in ``docs/bias.md``.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm, truncnorm

Floats = NDArray[np.floating]

PICKS_PER_PARAMETER = 3.5
"""Unlabelled classification finds the labelled averages only from about this many picks (see :func:`needed_picks`)."""


def tail_probability(threshold: ArrayLike) -> NDArray[np.float64]:
    """Return ``Q(T)``: the chance that a standard normal variable is ``T`` or more."""
    return np.asarray(norm.sf(threshold))


def inverse_mills(threshold: ArrayLike) -> NDArray[np.float64]:
    """Return ``lambda(T) = phi(T) / Q(T)``: the mean of a standard normal variable given that it is at least ``T``."""
    return np.asarray(np.exp(norm.logpdf(threshold) - norm.logsf(threshold)))


def truncated_variance(threshold: ArrayLike) -> NDArray[np.float64]:
    """Return the variance of a standard normal variable given that it is at least ``T`` (Lemma A.1)."""
    level = np.asarray(threshold, np.float64)
    mills = inverse_mills(level)
    return np.asarray(1 + level * mills - mills**2)


def score_deviations(templates: Floats, covariance: Floats | None = None) -> NDArray[np.float64]:
    """Return ``s_l = sqrt(x_l' Sigma x_l)``, the standard deviation of each template's score on noise.

    Parameters
    ----------
    templates : ndarray, shape (L, d)
    covariance : ndarray, shape (d, d), or None
        Of the noise; None is white noise of variance 1.
    """
    x = np.asarray(templates, np.float64)
    return np.asarray(np.sqrt(np.einsum("ld,ld->l", x, _coloured(x, covariance))))


def bias_directions(templates: Floats, covariance: Floats | None = None) -> NDArray[np.float64]:
    """Return ``Sigma x_l / (x_l' Sigma x_l)``: where averages of picked noise, over ``T``, go as ``T`` grows.

    Theorem 3.2, equation (3.4). For a linear score with another filter ``a`` than the template, give ``a``: the average
    is along ``Sigma a``, so that a whitened matched filter ``a = Sigma^-1 x`` brings back ``x`` itself.

    Returns
    -------
    ndarray, shape (L, d)
    """
    x = np.asarray(templates, np.float64)
    return _coloured(x, covariance) / score_deviations(x, covariance)[:, None] ** 2


def picked_means(templates: Floats, threshold: float, covariance: Floats | None = None) -> NDArray[np.float64]:
    """Return ``E[z | <z, x_l> >= T]``, exact at every threshold and overlap of templates (B.13).

    Parameters
    ----------
    templates : ndarray, shape (L, d)
    threshold : float
        ``T``, in the units of the score.

    Returns
    -------
    ndarray, shape (L, d)
    """
    deviations = score_deviations(templates, covariance)
    mean_score = deviations * inverse_mills(threshold / deviations)
    return bias_directions(templates, covariance) * mean_score[:, None]


def predicted_error(threshold: float, dimension: int, templates: int, picks: float) -> float:
    """Return ``E |mean_l - T x_l|**2`` for white noise and well-separated unit templates.

    ``(d - 1) L / M + (lambda(T) - T)**2``: noise of the average, and the rest of a finite threshold, which is a factor
    alone and does not change the picture (compare Proposition 3.3).
    """
    return float((dimension - 1) * templates / picks + (inverse_mills(threshold) - threshold) ** 2)


def predicted_correlation(mean_score: ArrayLike, dimension: float, picks: ArrayLike) -> NDArray[np.float64]:
    """Return the expected correlation of an average of picked white noise with its template.

    ``[1 + (d - 1) / (m lambda**2)]**-0.5``. Few picks give a low correlation although all of them are bias: compare an
    average with this, not with 1.

    Parameters
    ----------
    mean_score : array_like
        Mean score of the picks in noise deviations: :func:`inverse_mills` of the threshold.
    dimension : float
        Pixels under the mask, or for coloured noise :func:`effective_dimension`.
    picks : array_like
        Picks in the average.
    """
    signal = np.asarray(picks, np.float64) * np.asarray(mean_score, np.float64) ** 2
    with np.errstate(divide="ignore"):
        return np.asarray(1 / np.sqrt(1 + (dimension - 1) / signal))


def effective_dimension(template: Floats, covariance: Floats) -> float:
    """Return the dimension that white noise would need for the same correlation in :func:`predicted_correlation`.

    The average of ``m`` picks has the mean ``lambda Sigma x / s`` and beside it the noise
    ``(Sigma - Sigma x x' Sigma / s**2) / m``; the dimension is 1 plus the trace of the latter over the squared length
    of ``Sigma x / s``. The correlation is then that with ``Sigma x``.
    """
    x = np.asarray(template, np.float64)
    along = covariance @ x
    length = float(along @ along) / float(x @ along)
    return 1 + (float(np.trace(covariance)) - length) / length


def needed_picks(threshold: float, dimension: float, templates: int) -> float:
    """Return how many picks unlabelled classification needs to find the templates in picked noise.

    About ``3.5 (d - 1) L / lambda**2``: below it the classes mix although labelled averages still show the templates.
    """
    return float(PICKS_PER_PARAMETER * (dimension - 1) * templates / inverse_mills(threshold) ** 2)


def sample_picked(
    templates: Floats, threshold: float, count: int, rng: np.random.Generator, covariance: Floats | None = None
) -> NDArray[np.float64]:
    """Draw patches from the exact law of picked Gaussian noise, without scanning any noise.

    A template is drawn with weight ``Q(T / s_l)``, its score from the normal law cut at ``T``, the rest of the patch
    given the score; the patch is accepted with probability one over the number of templates that pass, so that the
    union of the half-spaces is sampled evenly. Thresholds of 6 and 8 cost no more than one of 2.

    Parameters
    ----------
    templates : ndarray, shape (L, d)
    threshold : float
    count : int
        Patches wanted.
    covariance : ndarray, shape (d, d), or None

    Returns
    -------
    ndarray, shape (count, d)
    """
    x = np.asarray(templates, np.float64)
    deviations = score_deviations(x, covariance)
    along = bias_directions(x, covariance)
    log_weight = norm.logsf(threshold / deviations)
    weight = np.exp(log_weight - log_weight.max())
    factor = None if covariance is None else np.linalg.cholesky(covariance)
    found: list[NDArray[np.float64]] = []
    have = 0
    while have < count:
        batch = min(8192, 2 * (count - have) + 16)
        label = rng.choice(len(x), batch, p=weight / weight.sum())
        level = threshold / deviations[label]
        score = deviations[label] * truncnorm.rvs(level, np.inf, random_state=rng)
        patch = rng.standard_normal((batch, x.shape[1]))
        if factor is not None:
            patch = patch @ factor.T
        patch += (score - np.einsum("nd,nd->n", patch, x[label]))[:, None] * along[label]
        passing = ((patch @ x.T) >= threshold * (1 - 1e-12)).sum(axis=1)
        kept = patch[rng.random(batch) * np.maximum(passing, 1) < 1]
        found.append(kept)
        have += len(kept)
    return np.concatenate(found)[:count]


def spherical_patches(
    count: int, dimension: int, rng: np.random.Generator, law: Literal["gaussian", "light", "heavy"], tail: float = 5.0
) -> NDArray[np.float64]:
    """Draw spherically symmetric noise patches (the paper's Model 2.2), variance 1 per pixel.

    Parameters
    ----------
    count, dimension : int
    law : {"gaussian", "light", "heavy"}
        ``light``: uniform on the sphere, bounded; ``heavy``: Student's law with ``tail`` degrees of freedom, whose
        scores fall like a Pareto law of that index.
    tail : float
        Above 2.

    Returns
    -------
    ndarray, shape (count, dimension)
    """
    patches = rng.standard_normal((count, dimension))
    if law == "light":
        return np.asarray(patches * (np.sqrt(dimension) / np.linalg.norm(patches, axis=1))[:, None])
    if law == "heavy":
        if not tail > 2:
            raise ValueError(f"`tail` is {tail}; a variance needs more than 2 degrees of freedom")
        return np.asarray(patches * np.sqrt((tail - 2) / rng.chisquare(tail, count))[:, None])
    return np.asarray(patches)


def _coloured(templates: NDArray[np.float64], covariance: Floats | None) -> NDArray[np.float64]:
    return templates if covariance is None else templates @ np.asarray(covariance, np.float64)
