"""Sub-tomograms: turning back, the span in three dimensions, its removal, and agreement over all splits."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.fft

from napari_pickbias.bias import subtomogram_figures
from napari_pickbias.bias.frc import split_frc
from napari_pickbias.bias.subtomogram_figures import half_products, within_ball
from napari_pickbias.bias.subtomogram_span import (
    VolumeRemoval,
    shift_factor,
    span_ball,
    volume_span,
    volume_whitening,
)
from napari_pickbias.bias.subtomograms import (
    cut_cube,
    masked_volumes,
    shell_power,
    shell_products,
    sub_tomograms,
    turned_back,
)
from napari_pickbias.imaging.phantoms import blob_volume, phantom
from napari_pickbias.imaging.volumes import resize_box
from napari_pickbias.matching.peaks import VOLUME_PEAK
from napari_pickbias.matching.volume_bank import VolumeBank, volume_bank
from napari_pickbias.matching.volume_noise import refined

BOX, VOXEL, REACH = 14, 10.0, 3.0


@pytest.fixture(scope="module")
def bank() -> VolumeBank:
    volume = blob_volume(phantom(4.5, elongation=1.4), BOX).astype(np.float32)
    return volume_bank(volume, VOXEL, 75.0, lowpass=40.0, mask_diameter=120.0)


@pytest.fixture(scope="module")
def basis(bank: VolumeBank) -> np.ndarray:
    return volume_span(bank, REACH, step=1.5)


def coloured() -> np.ndarray:
    """Return a smooth spectrum with a missing wedge on tiles of 24 voxels; mean 1."""
    z, y, x = (np.abs(f) for f in np.meshgrid(*[np.fft.fftfreq(24)] * 2, np.fft.rfftfreq(24), indexing="ij"))
    power = 1 / (1 + (np.sqrt(z**2 + y**2 + x**2) / 0.12) ** 2)
    power[z > x * np.tan(np.radians(60)) + 1e-9] = 1e-4
    return np.asarray(power / power.mean())


def test_turning_back_undoes_the_pose(bank: VolumeBank) -> None:
    cubes = np.stack([bank.template(number) for number in range(len(bank))])
    back = turned_back(cubes, bank.rotations)
    assert min(within_ball(back[0], each) for each in back[1:]) > 0.98
    # turned the wrong way they differ
    assert (
        np.median([within_ball(back[0], each) for each in turned_back(cubes, bank.rotations.transpose(0, 2, 1))]) < 0.9
    )


def test_cubes_are_cut_at_fractions_of_a_voxel() -> None:
    places = np.array([20.0, 20.0, 20.0]), np.array([20.4, 19.7, 20.25])
    volume = np.random.default_rng(0).normal(size=(40, 41, 42)).astype(np.float32)
    volume = scipy.fft.irfftn(scipy.fft.rfftn(volume) * (np.indices((40, 41, 22)).sum(axis=0) < 9), s=volume.shape)

    class Frame:
        box, side = 10, 20

    table = np.zeros(2, VOLUME_PEAK)
    for number, place in enumerate(places):
        table["z"][number], table["y"][number], table["x"][number] = place
    plain, white = sub_tomograms(volume, table, Frame, np.ones((20, 20, 11)))  # type: ignore[arg-type]
    np.testing.assert_allclose(plain[0], volume[15:25, 15:25, 15:25], atol=1e-5)
    np.testing.assert_array_equal(plain, white)
    whole = scipy.fft.rfftn(cut_cube(volume, np.array([20, 20, 20]), 20)) * shift_factor(places[0] - places[1], 20)
    np.testing.assert_allclose(plain[1], resize_box(scipy.fft.irfftn(whole, s=(20,) * 3), 10), atol=1e-5)


def test_beyond_the_tomogram_is_nothing() -> None:
    volume = np.ones((6, 7, 8), np.float32)
    cube = cut_cube(volume, np.array([0, 6, 4]), 4)
    assert cube.sum() == 2 * 3 * 4
    assert cube[2:, :3].all()
    assert not cut_cube(volume, np.array([-9, 3, 3]), 4).any()


def test_a_shift_is_a_shift() -> None:
    cube = np.random.default_rng(1).normal(size=(8, 8, 8))
    moved = scipy.fft.irfftn(scipy.fft.rfftn(cube) * shift_factor(np.array([1, -2, 3]), 8), s=(8, 8, 8))
    np.testing.assert_allclose(moved, np.roll(cube, (1, -2, 3), (0, 1, 2)), atol=1e-5)


def test_the_span_holds_the_map_at_other_orientations_and_shifts(bank: VolumeBank, basis: np.ndarray) -> None:
    np.testing.assert_allclose(basis @ basis.T, np.eye(len(basis)), atol=1e-4)
    assert not basis[:, ~span_ball(BOX).ravel()].any()
    assert len(basis) < 0.2 * span_ball(BOX).sum()
    other = volume_bank(
        blob_volume(phantom(4.5, elongation=1.4), BOX).astype(np.float32),
        VOXEL,
        50.0,
        lowpass=40.0,
        mask_diameter=120.0,
    )
    left = []
    for number in range(3, len(other), 17):
        padded = scipy.fft.rfftn(resize_box(other.template(number), 24)) * shift_factor(np.array([1.0, -0.6, 1.7]), 24)
        moved = resize_box(scipy.fft.irfftn(padded, s=(24,) * 3), BOX).ravel() * span_ball(BOX).ravel()
        left.append(1 - (basis @ moved) @ (basis @ moved) / (moved @ moved))
    assert max(left) < 0.03
    # an unfiltered map has more in it than the span
    sharp = volume_bank(blob_volume(phantom(4.5, elongation=1.4), BOX).astype(np.float32), VOXEL, 120.0).template(5)
    part = basis @ sharp.ravel()
    assert 1 - part @ part / float((sharp**2).sum()) > 0.1


def test_what_is_left_knows_nothing_of_the_scores(bank: VolumeBank, basis: np.ndarray) -> None:
    """Exact covariance of what is left with the score ``<x, z>`` of a template at a shift within reach, no sampling.

    ``Cov(w * z, <x, z>)`` is ``P w x``, and the coefficients of the span have ``S P x``.
    """
    power, side = coloured(), 28
    whitening = volume_whitening(power, (side,) * 3, VOXEL, finest=24.0, coarsest=240.0)
    step = VolumeRemoval(basis, power, whitening)
    template = np.roll(bank.template(7), (1, -2, 0), (0, 1, 2)) * span_ball(BOX)
    spectrum = scipy.fft.rfftn(resize_box(template.astype(np.float64), side)) * refined(power, (side,) * 3)
    plain, before = (
        resize_box(scipy.fft.irfftn(spectrum * factor, s=(side,) * 3), BOX) for factor in (np.ones(1), whitening)
    )
    after = step.apply(before[None], plain[None])[0]
    assert np.linalg.norm(after) < 0.05 * np.linalg.norm(before)
    # in the template's own band hardly anything is left
    band = slice(1, 4)
    assert (shell_power(after[None])[0, band] < 1e-3 * shell_power(before[None])[0, band]).all()


def test_agreement_over_all_splits_is_the_mean_over_splits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subtomogram_figures, "FEWEST", 1)
    cubes = np.random.default_rng(3).normal(size=(4, 10, 10, 10)) + np.random.default_rng(4).normal(size=(10, 10, 10))
    cross, auto = half_products(cubes.sum(axis=0), shell_power(cubes).sum(axis=0), 4)
    wanted_cross, wanted_auto = [], []
    for pair in itertools.combinations(range(4), 2):
        rest = [number for number in range(4) if number not in pair]
        first, second = (masked_volumes(cubes[list(rows)].sum(axis=0)[None] / np.sqrt(2)) for rows in (pair, rest))
        wanted_cross.append(shell_products(first, second)[0])
        wanted_auto.append((shell_products(first, first)[0] + shell_products(second, second)[0]) / 2)
    np.testing.assert_allclose(cross, np.mean(wanted_cross, axis=0), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(auto, np.mean(wanted_auto, axis=0), rtol=1e-9, atol=1e-9)
    assert split_frc(cross, auto)[1:4].mean() > 0.3
    monkeypatch.setattr(subtomogram_figures, "FEWEST", 8)
    assert not half_products(cubes.sum(axis=0), shell_power(cubes).sum(axis=0), 4)[1].any()


def test_a_large_box_is_refused() -> None:
    large = volume_bank(blob_volume(phantom(9.0), 26).astype(np.float32), VOXEL, 180.0)
    with pytest.raises(ValueError, match="a box of 26 voxels is out of reach; 24 is the largest"):
        volume_span(large, 3.0, step=1.5)
