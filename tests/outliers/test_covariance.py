from __future__ import annotations

import numpy as np
from scipy.linalg import null_space

from napari_pickbias.outliers import covariance as cov
from napari_pickbias.outliers.geometry import make_geometry, pixel_grid


def exponential(d: int, length: float = 2.0) -> np.ndarray:
    lag = np.fft.fftfreq(2 * d, 1 / (2 * d))
    return np.exp(-np.hypot(lag[:, None], lag[None]) / length)


def pairs_of(mask: np.ndarray) -> np.ndarray:
    spectrum = np.fft.fft2(mask, (2 * len(mask),) * 2)
    return np.rint(np.fft.ifft2(abs(spectrum) ** 2).real)


def test_covariance_matrix_is_the_autocovariance_of_every_pixel_pair() -> None:
    acf = exponential(5)
    sigma = cov.covariance_matrix(acf)
    y, x = (a.ravel() for a in pixel_grid(5))
    np.testing.assert_allclose(sigma, np.exp(-np.hypot(y[:, None] - y, x[:, None] - x) / 2), rtol=1e-12)


def test_inverse_projects_constant_and_gradients_out_exactly() -> None:
    model = cov.noise_model(exponential(9))
    sigma = cov.covariance_matrix(model.acf)
    basis = null_space(cov.nuisance(9).T)  # the Gaussian of what is orthogonal to the nuisance has the same metric
    expected = basis @ np.linalg.inv(basis.T @ sigma @ basis) @ basis.T
    np.testing.assert_allclose(model.inverse, expected, atol=1e-9 * abs(expected).max())
    assert abs(model.inverse @ cov.nuisance(9)).max() < 1e-9 * abs(expected).max()


def test_cholesky_factor_is_that_of_the_covariance() -> None:
    model = cov.noise_model(exponential(7))
    np.testing.assert_allclose(model.cholesky @ model.cholesky.T, model.covariance(), atol=1e-12)


def test_detrended_images_have_no_plane_under_the_mask() -> None:
    rng = np.random.default_rng(0)
    ring = make_geometry(17, 4.0).ring()
    y, x = pixel_grid(17)
    images = rng.standard_normal((6, 17, 17)).astype(np.float32)
    planes = (3 + 0.2 * y - 0.1 * x) * np.arange(6)[:, None, None]
    plain = cov.detrended(images, ring)
    np.testing.assert_allclose(cov.detrended((images + planes).astype(np.float32), ring), plain, atol=2e-5)
    residual = plain[:, ring] @ cov.nuisance(17)[ring.ravel()]
    assert abs(residual).max() < 1e-3


def test_detrending_loss_equals_the_explicit_projection() -> None:
    """Mean over all pixel pairs of one lag of S - P S P, from the matrices themselves."""
    d = 7
    mask = make_geometry(d, 2.0).ring()
    acf = exponential(d)
    inside = np.flatnonzero(mask)
    sigma = cov.covariance_matrix(acf)[np.ix_(inside, inside)]
    Q = np.linalg.qr(cov.nuisance(d)[inside])[0]
    P = np.eye(len(inside)) - Q @ Q.T
    lost = sigma - P @ sigma @ P
    total, count = np.zeros((2 * d, 2 * d)), np.zeros((2 * d, 2 * d))
    row, column = np.divmod(inside, d)
    dy, dx = row[:, None] - row, column[:, None] - column
    np.add.at(total, (dy, dx), lost)
    np.add.at(count, (dy, dx), 1)
    expected = np.where(count > 0, total / np.maximum(count, 1), 0)
    np.testing.assert_allclose(cov.detrending_loss(acf, mask, pairs_of(mask)), expected, atol=1e-12)


def test_estimate_meets_the_analytic_spectrum() -> None:
    """Ratio over the band at 8 seeds: 0.97 ... 1.05."""
    d = 21
    truth = cov.noise_model(cov.regular_autocovariance(exponential(d, 1.5)))
    images = truth.draw(1500, np.random.default_rng(1))
    ring = make_geometry(d, 5.0).ring()
    found = cov.estimate_noise(cov.detrended(images, ring), ring)
    frequency, power = found.radial_spectrum()
    expected = cov.noise_model(cov.regular_autocovariance(exponential(d, 1.5))).radial_spectrum()[1]
    band = frequency > 1.5 / d  # below lies what constants and gradients take away
    np.testing.assert_allclose(power[band] / expected[band], 1, atol=0.1)


def test_isotropic_keeps_a_function_of_the_lag_length_on_short_lags() -> None:
    d = 9
    acf = exponential(d)
    pairs = pairs_of(np.ones((d, d)))
    lag = np.fft.fftfreq(2 * d, 1 / (2 * d))
    short = np.hypot(lag[:, None], lag[None]) <= 3
    np.testing.assert_allclose(cov.isotropic(acf, pairs)[short], acf[short], rtol=1e-12)
