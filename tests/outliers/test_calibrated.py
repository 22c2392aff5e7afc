"""The detector as a whole, on a phantom."""

from __future__ import annotations

import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest

from napari_pickbias.errors import InputError
from napari_pickbias.imaging.fourier import fourier_crop
from napari_pickbias.imaging.noise import COLOURS, gaussian_noise
from napari_pickbias.outliers import classify_stack
from napari_pickbias.outliers.calibrated import CalibratedDetector, CalibratedOptions, fit_detector
from napari_pickbias.outliers.geometry import pixel_grid
from napari_pickbias.outliers.verdicts import COLUMNS, REASONS

QUICK = CalibratedOptions(iterations=3, surrogates=2000)


def kept(columns: dict[str, Any], labels: np.ndarray, label: int) -> float:
    return float(columns["keep"][labels == label].mean())


def same(first: dict[str, Any], second: dict[str, Any]) -> bool:
    return all(np.array_equal(first[k], second[k], equal_nan=first[k].dtype.kind == "f") for k in COLUMNS)


def test_phantom_is_sorted(phantom: Any, detector: CalibratedDetector) -> None:
    """TPR >= .990, TNR >= .92/.99/.99 at five seeds of the stack."""
    columns = detector.evaluate(phantom.images)
    assert kept(columns, phantom.labels, 0) >= 0.98
    assert 1 - kept(columns, phantom.labels, 1) >= 0.88
    assert 1 - kept(columns, phantom.labels, 2) >= 0.97
    assert 1 - kept(columns, phantom.labels, 3) >= 0.97


def test_columns_are_those_of_the_contract(phantom: Any, detector: CalibratedDetector) -> None:
    columns = detector.evaluate(phantom.images[:300])
    assert {name: values.dtype for name, values in columns.items()} == {n: np.dtype(t) for n, t in COLUMNS.items()}
    np.testing.assert_array_equal(columns["reason"] == 0, columns["keep"])
    assert all(np.isfinite(columns[name]).all() for name in COLUMNS)
    assert ((columns["p_value"] > 0) & (columns["p_value"] <= 1)).all()


def test_centres_and_amplitudes_are_close(phantom: Any, detector: CalibratedDetector) -> None:
    """The stack's offsets have a standard deviation of 85/16 px at 85 px: 2.06 px at 33 px, amplitudes mean 1.08."""
    columns = detector.evaluate(phantom.images)
    inside = columns["keep"] & (phantom.labels == 0)
    spread = np.concatenate([columns["center_y_px"][inside], columns["center_x_px"][inside]]).std()
    assert spread == pytest.approx(2.06, rel=0.2)
    assert detector.summary.sigma_c == pytest.approx(2.06, rel=0.25)
    assert np.median(columns["amplitude"][inside]) == pytest.approx(1, abs=0.1)


def test_a_moved_particle_is_found_where_it_is(phantom: Any, detector: CalibratedDetector) -> None:
    """Rolled images: the centre moves along. Worst median error at five seeds 0.25 px."""
    columns = detector.evaluate(phantom.images[:400])
    central = np.flatnonzero(np.hypot(columns["center_y_px"], columns["center_x_px"]) < 1.5)
    moved = detector.evaluate(np.roll(phantom.images[central], (3, -2), axis=(1, 2)))
    assert np.median(abs(moved["center_y_px"] - columns["center_y_px"][central] - 3)) < 0.5
    assert np.median(abs(moved["center_x_px"] - columns["center_x_px"][central] + 2)) < 0.5


def test_verdicts_do_not_depend_on_chunks_or_threads(phantom: Any, detector: CalibratedDetector) -> None:
    whole = detector.evaluate(phantom.images)
    single = [detector.evaluate(phantom.images[i : i + 1]) for i in range(40)]
    assert same({k: np.concatenate([s[k] for s in single]) for k in COLUMNS}, {k: v[:40] for k, v in whole.items()})
    with ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(detector.evaluate, np.array_split(phantom.images, 7)))
    assert same({k: np.concatenate([p[k] for p in parts]) for k in COLUMNS}, whole)


def test_round_trip_through_npz_is_exact(phantom: Any, detector: CalibratedDetector) -> None:
    file = io.BytesIO()
    np.savez(file, **detector.to_arrays())
    file.seek(0)
    restored = CalibratedDetector.from_arrays(np.load(file, allow_pickle=False))
    assert same(restored.evaluate(phantom.images[:200]), detector.evaluate(phantom.images[:200]))
    assert restored.box_px == detector.box_px
    for name, value in asdict(detector.summary).items():
        np.testing.assert_array_equal(getattr(restored.summary, name), value)
        assert type(getattr(restored.summary, name)) is type(getattr(detector.summary, name))


def test_scale_offset_and_gradient_change_nothing(phantom: Any, detector: CalibratedDetector) -> None:
    """x -> 3 x + 5 + gradient, the fit repeated: also where every image has its own offset and gradient."""
    y, x = pixel_grid(33)
    std = phantom.images.std()
    common = 3 * phantom.images + std * (5 + 0.1 * y - 0.05 * x)
    own = np.random.default_rng(5).normal(0, [3, 0.1, 0.1], (len(common), 3))
    planes = own @ np.stack([np.ones_like(y), y, x]).reshape(3, -1)
    before = detector.evaluate(phantom.images)
    for images in (common, common + std * planes.reshape(-1, 33, 33)):
        again = fit_detector(images.astype(np.float32), phantom.radius_px, rng=np.random.default_rng(0))
        after = again.evaluate(images.astype(np.float32))
        np.testing.assert_array_equal(after["keep"], before["keep"])
        np.testing.assert_allclose(after["score"], before["score"], rtol=1e-2, atol=0.1)


def test_dark_particles_are_an_error(phantom: Any) -> None:
    with pytest.raises(InputError, match=r"particles look dark .* invert them with --contrast black"):
        fit_detector(-phantom.images, phantom.radius_px, rng=np.random.default_rng(0), options=QUICK)


def test_box_too_small_is_an_error(phantom: Any) -> None:
    with pytest.raises(InputError, match=r"a box of 33 px is too small"):
        fit_detector(phantom.images, 14.0, rng=np.random.default_rng(0), options=QUICK)


def test_too_few_images_are_an_error(phantom: Any) -> None:
    with pytest.raises(InputError, match=r"99 usable images are too few .* give at least 100"):
        fit_detector(phantom.images[:99], phantom.radius_px, rng=np.random.default_rng(0), options=QUICK)


@pytest.mark.parametrize("rate", [0.0, 1.0, np.nan])
def test_false_keep_rate_out_of_range_is_an_error(phantom: Any, rate: float) -> None:
    with pytest.raises(InputError, match=r"false-keep rate: .* not between 0 and 1"):
        fit_detector(phantom.images, 8.5, rng=np.random.default_rng(0), false_keep_rate=rate)


def test_images_of_another_size_are_an_error(detector: CalibratedDetector) -> None:
    with pytest.raises(InputError, match=r"shape \(2, 32, 32\) does not fit the detector; give \(n, 33, 33\)"):
        detector.evaluate(np.zeros((2, 32, 32), np.float32))


def test_no_images_give_empty_columns(detector: CalibratedDetector) -> None:
    columns = detector.evaluate(np.zeros((0, 33, 33), np.float32))
    assert set(columns) == set(COLUMNS)
    assert all(len(values) == 0 for values in columns.values())


def test_blank_and_damaged_images_are_noise_and_left_out_of_the_fit(phantom: Any) -> None:
    images = phantom.images.copy()
    images[0], images[1, 3, 3], images[2, 0, 0] = 0, np.nan, np.inf
    found = fit_detector(images, phantom.radius_px, rng=np.random.default_rng(0), options=QUICK)
    assert found.summary.n_fit == len(images) - 3
    columns = found.evaluate(images)
    assert columns["reason"][:3].tolist() == [REASONS.index("noise")] * 3
    assert not columns["keep"][:3].any()
    assert np.isnan(columns["score"][:3]).all()
    assert np.isfinite(columns["score"][3:]).all()
    without = fit_detector(images[3:], phantom.radius_px, rng=np.random.default_rng(0), options=QUICK)
    assert same(without.evaluate(images), columns)


def test_large_images_are_judged_at_a_radius_of_nine_pixels(
    make_phantom: Callable[..., Any], detector: CalibratedDetector
) -> None:
    """The same boxes twice as fine: nearly the same verdicts, lengths in the pixels given."""
    coarse = make_phantom(1 / 20, "white", 3, (150, 50, 50, 50))
    fine = np.stack([np.kron(image, np.ones((2, 2))) for image in coarse.images]).astype(np.float32)
    found = fit_detector(fine, 2 * coarse.radius_px, rng=np.random.default_rng(0), options=QUICK)
    plain = fit_detector(coarse.images, coarse.radius_px, rng=np.random.default_rng(0), options=QUICK)
    assert found.box_px == 66
    assert found.summary.working_box_px % 2 == 1
    assert found.summary.sigma_c == pytest.approx(2 * plain.summary.sigma_c, rel=0.15)
    first, second = found.evaluate(fine), plain.evaluate(coarse.images)
    assert (first["keep"] == second["keep"]).mean() > 0.95
    both = first["keep"] & second["keep"]
    assert np.median(abs(first["center_y_px"][both] - 2 * second["center_y_px"][both])) < 1.0


def test_surrogate_noise_of_known_covariance_is_kept_at_the_stated_rate(make_phantom: Callable[..., Any]) -> None:
    """True 1/rho^2 noise, 6000 images. Kept shares at six seeds of stack and noise: see the assertion's margin."""
    stack = make_phantom(1 / 100, "amp/rad", 1, (400, 60, 200, 60))
    found = fit_detector(stack.images, stack.radius_px, rng=np.random.default_rng(0))
    rng = np.random.default_rng(9)
    share = []
    for _ in range(6):
        noise = gaussian_noise(1000, (85, 85), rng, power=COLOURS["amp/rad"], variance=stack.noise_std_full**2)
        share.append(found.evaluate(np.asarray(fourier_crop(noise, 33), np.float32))["keep"].mean())
    assert 0.01 / 3 < np.mean(share) < 0.03


def test_low_signal_is_said(make_phantom: Callable[..., Any]) -> None:
    stack = make_phantom(1 / 400, "white", 2, (300, 50, 50, 50))
    found = fit_detector(stack.images, stack.radius_px, rng=np.random.default_rng(0), options=QUICK)
    assert found.summary.e0 < 8
    assert any("signal" in text and "e0 =" in text for text in found.summary.warnings)
    assert found.summary.hopeless == (found.summary.e0 < 5)
    assert found.expected_fdr(found.evaluate(stack.images)) is None


def test_few_images_are_said(phantom: Any, detector: CalibratedDetector) -> None:
    found = fit_detector(phantom.images[:200], phantom.radius_px, rng=np.random.default_rng(0), options=QUICK)
    assert any("only 200 images" in text for text in found.summary.warnings)
    assert detector.summary.warnings == ()


def test_expected_fdr_is_the_mean_posterior_of_the_kept(phantom: Any, detector: CalibratedDetector) -> None:
    columns = detector.evaluate(phantom.images)
    value = detector.expected_fdr(columns)
    score = columns["score"][columns["keep"]].astype(float)
    assert value == pytest.approx(np.mean(1 / (1 + np.exp(score))))
    assert detector.expected_fdr({k: v[:0] for k, v in columns.items()}) is None


def test_progress_ends_at_its_total(phantom: Any) -> None:
    seen: list[tuple[int, int]] = []
    fit_detector(
        phantom.images,
        phantom.radius_px,
        rng=np.random.default_rng(0),
        options=replace(QUICK, iterations=1),
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(0, 2), (1, 2), (2, 2)]


def test_classify_stack_returns_one_row_per_image(phantom: Any) -> None:
    table = classify_stack(phantom.images, phantom.radius_px, threads=2, iterations=3, surrogates=2000)
    assert list(table.columns) == list(COLUMNS)
    assert len(table) == len(phantom.images)
    assert list(table["reason"].cat.categories) == list(REASONS)
    assert ((table["reason"] == "kept") == table["keep"]).all()
    assert table.attrs["warnings"] == []
    reference = classify_stack(phantom.images, 5.0, "reference", threads=1)
    assert list(reference.columns) == list(COLUMNS)
    assert table["keep"][phantom.labels == 2].mean() < reference["keep"][phantom.labels == 2].mean()


def test_classify_stack_by_the_published_rule_bears_a_damaged_image(phantom: Any) -> None:
    images = np.array(phantom.images[:50])
    images[3, 4, 5] = np.nan
    table = classify_stack(images, 5.0, "reference", threads=1)
    assert not table["keep"][3]
    assert table["keep"].any()


def test_classify_stack_refuses_what_it_does_not_know(phantom: Any) -> None:
    with pytest.raises(InputError, match='method: "magic" is unknown'):
        classify_stack(phantom.images, 8.5, "magic")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"no stack of square boxes"):
        classify_stack(phantom.images[0], 8.5)
