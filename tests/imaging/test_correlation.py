"""FRC and FSC against the definition and known expectations."""

from __future__ import annotations

import numpy as np
import pytest

from napari_pickbias.imaging.correlation import crossing_resolution, fourier_correlation


@pytest.mark.parametrize("shape", [(8, 8), (9, 9), (8, 9, 10)])
def test_correlation_is_its_definition(shape: tuple[int, ...]) -> None:
    a, b = np.random.default_rng(0).standard_normal((2, *shape))
    fa, fb = np.fft.fftn(a), np.fft.fftn(b)
    radius = np.sqrt(sum(f**2 for f in np.meshgrid(*[np.fft.fftfreq(n) for n in shape], indexing="ij")))
    shell = np.rint(radius * min(shape)).astype(int)
    expected = []
    for s in range(min(shape) // 2 + 1):
        x, y = fa[shell == s], fb[shell == s]
        expected.append(np.sum(x * y.conj()).real / np.sqrt(np.sum(np.abs(x) ** 2) * np.sum(np.abs(y) ** 2)))
    np.testing.assert_allclose(fourier_correlation(a, b, len(shape)), expected)
    stacked = fourier_correlation(np.stack([a, a]), np.stack([b, -a]), len(shape))
    np.testing.assert_allclose(stacked, [expected, [-1] * len(expected)])


def test_signal_in_noise_correlates_by_its_share() -> None:
    rng = np.random.default_rng(0)
    signal = rng.standard_normal((48, 48, 48))
    curve = fourier_correlation(
        signal + rng.standard_normal((48, 48, 48)), signal + rng.standard_normal((48, 48, 48)), 3
    )
    # equal powers of signal and noise: 1/2; 20 seeds: .446 ... .558
    np.testing.assert_allclose(curve[8:], 0.5, atol=0.1)


def test_empty_shells_are_nan() -> None:
    assert np.isnan(fourier_correlation(np.ones((6, 6)), np.ones((6, 6)))[1:]).all()


def test_crossing_is_linear_between_shells() -> None:
    assert crossing_resolution(np.array([1, 1, 0.6, 0.4, 0.1]), 100.0, 0.5) == pytest.approx(100 / 2.5)
    assert crossing_resolution(np.array([1, 1, 0.9, 0.8]), 90.0) == 30.0
    assert crossing_resolution(np.array([1, 0.1, 0.9]), 90.0) == float("inf")
    assert crossing_resolution(np.array([1, 1, np.nan]), 90.0) == 90.0
