"""Matching in tomograms against the plain direct sum, and planted particles found again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.fft

from napari_pickbias.errors import InputError
from napari_pickbias.imaging.phantoms import blob_volume, phantom
from napari_pickbias.imaging.rotations import angular_distance_deg, random_rotations
from napari_pickbias.matching import (
    TemplateBank,
    VolumeBank,
    find_peaks,
    prepare_bank,
    prepared,
    score_map,
    score_volume,
    volume_bank,
)
from napari_pickbias.matching.tiles import plan_tiles


def small_bank(size: int) -> VolumeBank:
    return volume_bank(blob_volume(phantom(size / 3, count=9), size), 4.0, 90.0)


def plain_scores(tomogram: np.ndarray, bank: VolumeBank, normalise: str) -> np.ndarray:
    """The definition, summed directly: shape (L, valid voxels)."""
    patches = np.lib.stride_tricks.sliding_window_view(tomogram.astype(np.float64), (bank.box_px,) * 3)
    weights = bank.mask.astype(np.float64) / bank.mask.sum(dtype=np.float64)
    mean = np.einsum("zyxijk,ijk->zyx", patches, weights)
    square = np.einsum("zyxijk,zyxijk,ijk->zyx", patches, patches, weights, optimize=True)
    sd = {"local": np.sqrt(square - mean**2), "global": tomogram.std(dtype=np.float64), "none": 1.0}[normalise]
    templates = np.stack([bank.template(number) for number in range(len(bank))]).astype(np.float64)
    return np.einsum("zyxijk,lijk->lzyx", patches, templates, optimize=True) / sd


@pytest.mark.parametrize(("size", "shape"), [(9, (13, 16, 15)), (10, (14, 10, 17))])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int8])
@pytest.mark.parametrize("normalise", ["local", "global", "none"])
def test_equals_the_direct_sum(size: int, shape: tuple[int, int, int], dtype: type, normalise: str) -> None:
    tomogram = np.random.default_rng(size).normal(3, 20, shape).astype(dtype)
    bank = small_bank(size).take(np.arange(5))
    sd = np.array([1.0, 0.7, 1.2, 2.0, 0.9])
    plain = plain_scores(tomogram, bank, normalise) / sd[:, None, None, None]
    scores, best = score_volume(tomogram, bank, 2, noise_sd=sd, normalise=normalise)  # type: ignore[arg-type]
    inside = tuple(slice(size // 2, size // 2 + side - size + 1) for side in shape)
    np.testing.assert_allclose(scores[inside], plain.max(axis=0), rtol=0, atol=2e-5 * np.abs(plain).max())
    np.testing.assert_array_equal(best[inside], plain.argmax(axis=0))
    outside = np.ones(shape, bool)
    outside[inside] = False
    assert (scores[outside] == -np.inf).all()
    assert (best[outside] == -1).all()
    assert best.dtype == np.int16


def test_many_tiles_and_blocks_equal_the_direct_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepared, "BLOCK_BYTES", {3: 2 * 8 * 64**3})
    rng = np.random.default_rng(1)
    tomogram = rng.normal(size=(40, 60, 170)).astype(np.float32)
    bank = small_bank(10).take(np.arange(7))
    assert len(plan_tiles(tomogram.shape, 10).starts) > 1
    scores, best = score_volume(tomogram, bank, 3, normalise="none")
    for z, y, x in rng.integers(5, [35, 55, 165], (40, 3)):
        patch = tomogram[z - 5 : z + 5, y - 5 : y + 5, x - 5 : x + 5].astype(np.float64)
        plain = [float((bank.template(number) * patch).sum()) for number in range(7)]
        assert scores[z, y, x] == pytest.approx(max(plain), abs=1e-4)
        assert plain[best[z, y, x]] == pytest.approx(max(plain), abs=1e-4)


def test_planted_particles_are_found_at_their_place_and_orientation(tmp_path: Path) -> None:
    """Five molecules in noise and a missing wedge, written to and read from memory-mapped files."""
    rng = np.random.default_rng(2)
    size, step, shape = 20, 30.0, (40, 100, 90)
    molecule = phantom(6.5)
    bank = volume_bank(blob_volume(molecule, size), 8.0, step, tilt_range=(-60, 60))
    places = np.array([[15, 20, 20], [22, 25, 66], [18, 60, 30], [24, 75, 72], [15, 50, 60]])
    poses = random_rotations(len(places), rng)
    tomogram = np.zeros(shape, np.float32)
    for (z, y, x), pose in zip(places, poses, strict=True):
        turned = blob_volume(molecule._replace(centres_px=molecule.centres_px @ pose.T), size)
        tomogram[z - 10 : z + 10, y - 10 : y + 10, x - 10 : x + 10] += turned / np.linalg.norm(turned)
    tomogram = 25 * tomogram + rng.normal(size=shape).astype(np.float32)
    z, _, x = np.broadcast_arrays(
        np.fft.fftfreq(40)[:, None, None], np.zeros((1, 100, 1)), np.fft.rfftfreq(90)[None, None]
    )
    unseen = np.abs(z) > x * np.tan(np.radians(60)) + 1e-9
    tomogram = scipy.fft.irfftn(np.where(unseen, 0, scipy.fft.rfftn(tomogram)), s=shape).astype(np.float32)
    np.save(tmp_path / "tomogram.npy", tomogram)
    out = tuple(
        np.lib.format.open_memmap(tmp_path / f"{name}.npy", "w+", dtype, shape)
        for name, dtype in (("scores", np.float32), ("best", np.int16))
    )
    scores, best = score_volume(np.load(tmp_path / "tomogram.npy", mmap_mode="r"), bank, 2, out=out)  # type: ignore[arg-type]
    np.testing.assert_array_equal(scores, np.load(tmp_path / "scores.npy"))
    np.testing.assert_array_equal(best, np.load(tmp_path / "best.npy"))
    peaks = find_peaks(scores, best, 5.0, 10.0)[: len(places)]
    found = np.stack([peaks["z"], peaks["y"], peaks["x"]], axis=1)
    nearest = np.linalg.norm(found[:, None] - places, axis=2)
    assert sorted(nearest.argmin(axis=1)) == list(range(len(places)))
    assert nearest.min(axis=1).max() < 1.0
    angles = angular_distance_deg(bank.rotations[peaks["template"]], poses[nearest.argmin(axis=1)])
    grid = [angular_distance_deg(bank.rotations, pose).min() for pose in poses]
    assert max(grid) < step
    assert angles.max() < step


def test_white_noise_has_unit_variance() -> None:
    tomogram = np.random.default_rng(3).normal(2, 9, (60, 60, 60))
    scores, _ = score_volume(tomogram, small_bank(12).take(np.array([3])), normalise="global")
    # Over 20 seeds: .993-1.008.
    assert scores[np.isfinite(scores)].std() == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize(
    ("tomogram", "line"),
    [
        (np.zeros((20, 20)), "tomogram: has 2 axes; give one 3-D volume"),
        (np.zeros((20, 9, 20)), "tomogram: is 20 x 9 x 20 px, smaller than the map (10 px); check the voxel sizes"),
        (np.zeros((20, 20, 20)), "tomogram: is constant; leave out that tomogram"),
        (np.full((20, 20, 20), np.inf), "tomogram: holds NaN or infinite pixels; mend or leave out that tomogram"),
    ],
)
def test_faults(tomogram: np.ndarray, line: str) -> None:
    with pytest.raises(InputError) as fault:
        score_volume(tomogram, small_bank(10))
    assert str(fault.value) == line


def test_misuse() -> None:
    rng = np.random.default_rng(4)
    bank = small_bank(10)
    with pytest.raises(ValueError, match="must have the tomogram's shape"):
        score_volume(
            rng.normal(size=(12, 12, 12)),
            bank,
            out=(np.empty((12, 12, 11), np.float32), np.empty((12, 12, 12), np.int16)),
        )
    with pytest.raises(ValueError, match="take score_volume"):
        score_map(rng.normal(size=(12, 12)), prepare_bank(bank, (12, 12, 12)))
    assert isinstance(prepare_bank(TemplateBank.from_images(rng.normal(size=(1, 9, 9))), (12, 12)).bank, TemplateBank)
