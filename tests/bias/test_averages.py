"""Averages by matched template and their correlations."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from bias.scene import BOX, DISTANCE, LOWPASS, PIXEL, Scene, power_on

from napari_pickbias.bias.averages import cut_patches, make_turns, sum_by_label, turn_back, turning_matrix, view_sums
from napari_pickbias.bias.evidence import make_frame, micrograph_evidence
from napari_pickbias.bias.frc import (
    Band,
    Null,
    band_correlation,
    choose_bands,
    half_spectra,
    masked_spectra,
    patch_power,
    pooled_frc,
    reliability,
    split_band,
    split_frc,
    split_products,
    summarise,
)
from napari_pickbias.bias.mixture import assign, correlations, fit_mixture, turning_matrices
from napari_pickbias.imaging.correlation import fourier_correlation
from napari_pickbias.imaging.fourier import apply_filter, band_filter, hermitian_weights, shell_numbers
from napari_pickbias.imaging.noise import noise_of_spectrum
from napari_pickbias.matching.noise_model import NoiseModel
from napari_pickbias.matching.peaks import PEAK
from napari_pickbias.matching.preprocess import Prepared


def smooth_image(size: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return apply_filter(rng.standard_normal((size, size)), band_filter((size, size), 1.0, lowpass_angstrom=5.0))


def test_patches_are_cut_where_they_are_asked_for() -> None:
    image = smooth_image(96)
    whole = cut_patches(image, np.array([[40.0, 50.0], [5.0, 5.0]]), 21)
    np.testing.assert_allclose(whole[0], image[30:51, 40:61], atol=1e-5)
    assert np.isfinite(whole[1]).all()
    # a blob between pixels comes to the middle of the box
    y, x = np.mgrid[:96, :96]
    blob = np.exp(-((y - 40.3) ** 2 + (x - 50.6) ** 2) / (2 * 3.0**2))
    patch = cut_patches(blob, np.array([[40.3, 50.6]]), 21)[0]
    rows, columns = np.mgrid[:21, :21] - 10
    np.testing.assert_allclose(patch, np.exp(-(rows**2 + columns**2) / 18), atol=2e-3)


def test_sums_by_label() -> None:
    patches = np.arange(5 * 4.0).reshape(5, 2, 2)
    labels = np.array([2, 0, 2, -1, 0])
    sums = sum_by_label(patches, labels, 3)
    np.testing.assert_array_equal(sums[0], patches[1] + patches[4])
    np.testing.assert_array_equal(sums[1], 0)
    np.testing.assert_array_equal(sums[2], patches[0] + patches[2])


def test_templates_are_turned_back_into_their_view(scene: Scene) -> None:
    """RELION's psi: every template of a view, turned back, is the view's template at psi = 0."""
    turned = turn_back(scene.bank.images, scene.turns)
    psi0 = np.flatnonzero(scene.bank.euler_deg[:, 2] == 0)
    expected = scene.bank.images[psi0] * np.bincount(scene.bank.view)[:, None, None]
    assert np.diag(correlations(turned, expected)).min() > 0.999
    halves, counts = view_sums(
        scene.bank.images, np.arange(len(scene.bank)), np.arange(len(scene.bank)) % 2 == 0, scene.turns
    )
    np.testing.assert_allclose(halves.sum(axis=0), turned, atol=1e-6)
    assert counts.sum() == len(scene.bank)
    assert turning_matrix(9, 0.0).toarray() == pytest.approx(np.eye(81))


def test_views_are_numbered_anew() -> None:
    turns = make_turns(np.array([7, 7, 3]), np.array([0.0, 90.0, 360.0]), 8)
    np.testing.assert_array_equal(turns.view, [1, 1, 0])
    assert turns.views == 2
    assert len(turns.matrices) == 2


def test_pooled_correlation_of_one_view_is_the_ring_correlation() -> None:
    a, b = smooth_image(BOX, 1)[None], smooth_image(BOX, 2)[None]
    fa, fb = masked_spectra(a + b), masked_spectra(a)
    from napari_pickbias.bias.frc import average_mask

    mask = average_mask(BOX)

    def masked(image: np.ndarray) -> np.ndarray:
        return (image - (image * mask).sum() / mask.sum()) * mask

    np.testing.assert_allclose(pooled_frc(fa, fb)[1:9], fourier_correlation(masked((a + b)[0]), masked(a[0]))[1:9])
    assert band_correlation(fa, fa, Band(2, 6)) == pytest.approx(1)
    assert np.isnan(band_correlation(fa[:0], fb[:0], Band(2, 6)))


def test_views_with_few_picks_are_left_out() -> None:
    sums = np.stack([smooth_image(BOX, s) for s in range(4)]).reshape(2, 2, BOX, BOX)
    spectra, used = half_spectra(sums, np.array([[9, 100], [7, 100]]))
    np.testing.assert_array_equal(used, [False, True])
    assert spectra.shape == (2, 1, BOX, BOX // 2 + 1)


def test_all_splits_at_once_are_the_mean_of_all_splits() -> None:
    rng = np.random.default_rng(6)
    patches = rng.standard_normal((20, BOX, BOX)) + smooth_image(BOX, 3)
    power = patch_power(patches).sum(axis=0)[None]
    cross, auto, used = split_products(patches.sum(axis=0)[None], power, np.array([20]), fewest=10)
    assert used.tolist() == [True]
    spectra = masked_spectra(patches)
    numbers, weights = shell_numbers((BOX, BOX)), hermitian_weights(BOX)
    one, two, shell = 0.0, 0.0, numbers == 5
    # every pair of halves appears twice, in both orders
    splits = list(itertools.combinations(range(6), 3))
    few = spectra[:6]
    few_cross, few_auto, _ = split_products(
        patches[:6].sum(axis=0)[None], patch_power(patches[:6]).sum(axis=0)[None], np.array([6]), fewest=3
    )
    for chosen in splits:
        a = few[list(chosen)].sum(axis=0) / np.sqrt(3)
        b = few[[i for i in range(6) if i not in chosen]].sum(axis=0) / np.sqrt(3)
        one += ((a * b.conj()).real * weights)[shell].sum() / len(splits)
        two += ((np.abs(a) ** 2) * weights)[shell].sum() / len(splits)
    assert few_cross[5] == pytest.approx(one)
    assert few_auto[5] == pytest.approx(two)
    # one random split scatters around it
    values = []
    for _ in range(200):
        order = rng.permutation(20)
        halves = np.stack([patches[order[:10]].sum(axis=0), patches[order[10:]].sum(axis=0)])[:, None]
        (first, second), _ = half_spectra(halves, np.full((2, 1), 10))
        values.append(band_correlation(first, second, Band(3, 8)))
    assert split_band(cross, auto, Band(3, 8)) == pytest.approx(np.mean(values), abs=0.01)
    assert np.std(values) > 0.005
    assert split_frc(cross, auto)[5] == pytest.approx(cross[5] / auto[5])


def test_views_of_which_a_half_would_have_too_few_are_left_out_of_all_splits() -> None:
    sums, power = np.ones((2, BOX, BOX)), np.ones((2, BOX // 2 + 1))
    assert split_products(sums, power, np.array([15, 16]))[2].tolist() == [False, True]
    cross, auto, _ = split_products(sums, power, np.array([3, 0]))
    assert np.isnan(split_band(cross, auto, Band(2, 6)))
    assert np.isnan(split_frc(cross, auto)).all()


def test_bands() -> None:
    bands = choose_bands(33, 7.08, 60.0, 20.0)
    assert bands.inside == (1, 4)
    assert bands.beyond == (5, 10)
    assert choose_bands(33, 7.08, 30.0, 14.2).beyond == (9, 15)
    nothing = choose_bands(33, 7.08, 15.0, 14.2).beyond
    assert nothing.last < nothing.first


def test_reliability_and_nulls() -> None:
    assert reliability(1.0) == pytest.approx(1)
    assert reliability(0.5) == pytest.approx(np.sqrt(2 / 3))
    assert np.isnan(reliability(-0.1))
    null = summarise(0.5, np.array([0.1, 0.3, np.nan]))
    assert null.null_mean == pytest.approx(0.2)
    assert null.z == pytest.approx(0.3 / np.std([0.1, 0.3], ddof=1))
    assert np.isnan(summarise(0.5, np.array([0.1])).z)
    assert np.isnan(Null(1.0, 0.0, 0.0).z)


def test_classes_are_matched_one_to_one() -> None:
    x = np.stack([smooth_image(16, s) for s in range(3)])
    template, value = assign(x[[2, 0, 1]], x)
    np.testing.assert_array_equal(template, [2, 0, 1])
    np.testing.assert_allclose(value, 1)
    template, value = assign(x, x[:2])
    assert sorted(template.tolist()) == [-1, 0, 1]
    assert np.isnan(value).sum() == 1


def test_mixture_with_in_plane_alignment() -> None:
    rng = np.random.default_rng(5)
    y, x = np.mgrid[:17, :17] - 8
    bar = np.exp(-(x**2) / 30 - y**2 / 4) - 0.5 * np.exp(-((x - 4) ** 2 + y**2) / 4)
    bar *= 9 / np.linalg.norm(bar)
    turns = turning_matrices(17, [90, 180, 270])
    angle = rng.integers(0, 4, 300)
    clean = np.stack([bar.ravel(), *(turn @ bar.ravel() for turn in turns)])[angle]
    noisy = clean + rng.standard_normal(clean.shape)
    aligned = fit_mixture(noisy, 1, rng, turns=turns, starts=3)
    found = max(correlations((t @ aligned.means.T).T, bar.ravel()[None])[0, 0] for t in [np.eye(289), *turns])
    assert found > 0.95
    assert correlations(fit_mixture(noisy, 1, rng).means, bar.ravel()[None])[0, 0] < 0.92
    with pytest.raises(ValueError, match="cannot fill"):
        fit_mixture(noisy[:2], 3, rng)


def test_a_micrograph_without_picks_adds_nothing(scene: Scene) -> None:
    rng = np.random.default_rng(6)
    image = noise_of_spectrum(1, power_on(160), (160, 160), rng)[0]
    frame = make_frame(scene.bank, scene.sharp, PIXEL, LOWPASS, DISTANCE, (3.0, 3.5))
    model = NoiseModel(scene.power, scene.power, "auto", (0,), np.inf, True)
    prepared = Prepared(image, np.pad(np.ones((120, 120), bool), 20), 0.0)
    sums, twin = micrograph_evidence(prepared, model, np.zeros(0, PEAK), frame, rng, repeats=2, threads=1)
    assert all(not np.any(values) for values in sums.arrays().values())
    assert twin.patches.shape == (0, BOX, BOX)
    picks = np.zeros(1, PEAK)
    picks["y"], picks["x"], picks["score"] = 80, 80, 3.6
    one, _ = micrograph_evidence(prepared, model, picks, frame, rng, repeats=2, threads=1)
    sums.add(one)
    assert sums.counts[1].sum() == 1
    assert sums.counts[0].sum() == 0
    np.testing.assert_allclose(sums.raw.sum(axis=0), sums.raw[scene.turns.view[0]])
