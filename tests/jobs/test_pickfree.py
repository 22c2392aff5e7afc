"""The pick-free job on records: evidence, defocus groups, whitening, contrast, several starts, the FSC prior."""

from __future__ import annotations

import tracemalloc
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pickfree_scene import micrograph, molecule

from napari_pickbias.errors import InputError
from napari_pickbias.imaging.fourier import fourier_pad, fourier_resample_volume
from napari_pickbias.imaging.noise import COLOURS, gaussian_noise, periodogram
from napari_pickbias.jobs.pickfree import PickfreeResult, judge, pickfree_job
from napari_pickbias.jobs.pickfree_parameters import PickfreeParameters, parse_stages
from napari_pickbias.jobs.pickfree_patches import (
    defocus_groups,
    downsampled,
    small_micrograph,
    surrogate_of,
    whitened,
    whitening_filter,
)
from napari_pickbias.jobs.pickfree_setup import cells_of, course_of
from napari_pickbias.pickfree import Options, Record, Stage
from napari_pickbias.pickfree.chain import first_state, iterate, make_model
from napari_pickbias.pickfree.rotation_levels import rotation_levels
from napari_pickbias.records import CtfParameters, Micrographs, Volume, write_mrc
from napari_pickbias.report.pickfree import pickfree_document

BOX = 9


class Kept(dict[str, Any]):
    """Checkpoints in memory."""

    def load(self, name: str) -> dict[str, np.ndarray] | None:
        return self.get(name)

    def save(self, name: str, arrays: Mapping[str, np.ndarray]) -> None:
        self[name] = dict(arrays)


def run(micrographs: Micrographs, volume: np.ndarray, folder: Path, **more: object) -> PickfreeResult:
    values: dict[str, Any] = {"box": BOX, "rotations": 192, "iterations": 3, "snr": 1.0, "null": False} | more
    job = pickfree_job(micrographs, Volume(volume, 10.0), PickfreeParameters(**values), folder, checkpoints=Kept())
    try:
        while True:
            next(job)
    except StopIteration as end:
        result: PickfreeResult = end.value
        return result


def written(folder: Path, images: list[np.ndarray], pixel_size: float = 10.0) -> Micrographs:
    paths = [write_mrc(folder / f"{i}.mrc", image, pixel_size) for i, image in enumerate(images)]
    return Micrographs(tuple(paths), np.full(len(paths), pixel_size))


def test_contrast_is_found_and_black_micrographs_give_the_same_map(tmp_path: Path) -> None:
    image, _ = micrograph(molecule(BOX), (170, 170), 3.0, np.random.default_rng(0))
    results = {}
    for name, contrast, sign in (("white", "white", 1), ("black", "black", -1), ("auto", "auto", -1)):
        folder = tmp_path / name
        folder.mkdir()
        results[name] = run(written(folder, [sign * image]), molecule(BOX), folder, contrast=contrast, whiten=False)
    assert results["white"].evidence
    np.testing.assert_allclose(
        results["white"].chains["map"].volume, results["black"].chains["map"].volume, rtol=1e-4, atol=1e-6
    )
    likeness = np.corrcoef(results["white"].chains["map"].volume.ravel(), results["auto"].chains["map"].volume.ravel())
    assert likeness[0, 1] > 0.95


def test_large_micrographs_and_maps_are_brought_to_the_box(tmp_path: Path) -> None:
    """The published Method 1: a micrograph of twice as fine pixels gives about what its coarse original gives."""
    image, _ = micrograph(molecule(BOX), (171, 171), 3.0, np.random.default_rng(1))
    coarse, fine = tmp_path / "coarse", tmp_path / "fine"
    coarse.mkdir()
    fine.mkdir()
    one = run(written(coarse, [image]), molecule(BOX), coarse, whiten=False)
    large = fourier_resample_volume(molecule(BOX).astype(np.float64), 2 * BOX).astype(np.float32)
    padded = fourier_pad(image, 342)
    values = PickfreeParameters(box=BOX, rotations=192, iterations=3, snr=1.0, null=False, whiten=False)
    job = pickfree_job(written(fine, [padded], 5.0), Volume(large, 5.0), values, fine, checkpoints=Kept())
    with pytest.raises(StopIteration) as end:
        while True:
            next(job)
    two: PickfreeResult = end.value.value
    assert two.voxel_size_angstrom == pytest.approx(10.0)
    assert two.patches == one.patches
    gains = [r.chains["map"].records[-1].log_likelihood for r in (one, two)]
    assert gains[0] == pytest.approx(gains[1], rel=0.1)


def test_coloured_noise_is_no_evidence_when_whitened(tmp_path: Path) -> None:
    # 16 seeds at 9 px, white and coloured, 8 iterations: -2.6 ... 0.6 standard errors, never evidence
    noise = gaussian_noise(1, (240, 240), np.random.default_rng(2), power=COLOURS["coloured"])[0]
    found = run(written(tmp_path, [noise]), molecule(BOX), tmp_path, null=True)
    assert not found.evidence
    assert found.resolution_px is None
    # without whitening the colour is taken for a signal
    plain = run(written(tmp_path, [noise]), molecule(BOX), tmp_path, whiten=False)
    assert plain.chains["map"].records[-1].log_likelihood > 5 * abs(found.chains["map"].records[-1].log_likelihood)


def test_particles_in_coloured_noise_are_evidence(tmp_path: Path) -> None:
    image, _ = micrograph(molecule(BOX), (200, 200), 3.0, np.random.default_rng(3), colour="coloured")
    found = run(written(tmp_path, [image]), molecule(BOX), tmp_path, null=True, snr=None)
    assert found.evidence
    assert found.norm_ratio() > found.norm_ratio("null")
    assert found.picking
    assert not any("no evidence" in text for text in found.warnings)


def test_several_starts_and_the_fsc_prior(tmp_path: Path) -> None:
    image, _ = micrograph(molecule(BOX), (170, 170), 3.0, np.random.default_rng(4))
    source = written(tmp_path, [image])
    one = run(source, molecule(BOX), tmp_path, whiten=False)
    more = run(source, molecule(BOX), tmp_path, whiten=False, starts=2, prior="fsc", stages="2:0.5,2:1", null=True)
    assert [r.iteration for r in more.chains["map"].records] == [1, 2, 3, 4]
    assert more.chains["map"].records[-1].log_likelihood > 0.8 * one.chains["map"].records[-1].log_likelihood
    assert more.evidence
    # the null has as many starts, and its likeliest is what counts
    for name, gains in (("map", more.starts), ("null", more.null_starts)):
        assert len(set(gains)) == 2
        assert max(gains) == more.chains[name].records[-1].log_likelihood
    assert (len(one.starts), one.null_starts) == (1, [])
    rows = [row[0] for row in pickfree_document(more, {}).sections[1].tables[0].rows]
    assert rows[-2:] == ["surrogates (null), start 1", "surrogates (null), start 2"]


def test_memory_does_not_grow_with_the_patches(tmp_path: Path) -> None:
    """A few numbers a patch stay; the patches themselves (576 bytes each) are read chunk by chunk."""
    size, peaks = 12, []
    levels = rotation_levels(24, 24)
    image = np.random.default_rng(0).normal(size=(64, size, size)).astype(np.float32)
    for count in (64, 4096, 12288):  # the first loads what is loaded once
        file = tmp_path / f"{count}.npy"
        np.tile(image, (count // 64, 1, 1)).tofile(file)
        patches = np.memmap(file, np.float32, "r", shape=(count, size, size))
        model = make_model(size, levels, patches=count)
        state = first_state(model, np.full((size,) * 3, 0.01, np.float32), 1.0, junk=0.02)
        tracemalloc.start()
        iterate(patches, model, state, Stage(1), Options(junk=True), np.arange(count), np.random.default_rng(0))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # 64 bytes a patch: likelihoods, probabilities, row numbers
    assert (peaks[2] - peaks[1]) / 8192 < 200


def test_defocus_groups_are_quantiles() -> None:
    values = np.array([1.0, 1.01, 2.0, 2.0, 3.0, 3.1]) * 1e4
    ones = np.ones(6)
    parameters = CtfParameters(values, values, 0 * ones, 300 * ones, 2.7 * ones, 0.1 * ones, 0 * ones)
    assert defocus_groups(parameters, 6, 3).tolist() == [0, 0, 1, 1, 2, 2]
    assert defocus_groups(parameters.take(np.array([2, 3])), 2, 8).tolist() == [0, 0]
    assert defocus_groups(None, 4, 8).tolist() == [0, 0, 0, 0]
    assert defocus_groups(parameters, 6, 1).tolist() == [0] * 6


def test_down_sampling_keeps_what_the_coarser_grid_holds() -> None:
    rng = np.random.default_rng(5)
    small = rng.normal(size=(20, 31)).astype(np.float32)
    spectrum = np.fft.rfft2(small)
    spectrum[10] = 0  # no Nyquist row: it cannot be told from its mirror image
    small = np.fft.irfft2(spectrum, (20, 31)).astype(np.float32)
    wide = np.zeros((40, 32), complex)
    wide[:10, :16], wide[-9:, :16] = spectrum[:10], spectrum[-9:]
    large = np.fft.irfft2(wide * 4, (40, 62)).astype(np.float32)
    np.testing.assert_allclose(downsampled(large, 5.0, 10.0), small, atol=1e-5)
    np.testing.assert_array_equal(downsampled(small, 10.0, 10.0), small)
    assert downsampled(np.ones((100, 75), np.float32), 1.0, 3.3).shape == (30, 22)


def test_whitening_makes_noise_white(tmp_path: Path) -> None:
    noise = gaussian_noise(1, (256, 256), np.random.default_rng(6), power=COLOURS["mix"])[0]
    power = COLOURS["mix"](np.arange(19) / 36)
    white = whitened(noise, power / power.mean())
    spectrum = periodogram(white)
    low, high = spectrum[2:20, 2:20].mean(), spectrum[90:120, 90:120].mean()
    assert low == pytest.approx(high, rel=0.35)
    assert whitening_filter((9, 9), power)[0, 0] == pytest.approx(power[0] ** -0.5)
    one = surrogate_of(noise, 3, 0)
    np.testing.assert_array_equal(one, surrogate_of(noise, 3, 0))
    assert np.abs(one - surrogate_of(noise, 3, 1)).max() > 0.1
    np.testing.assert_allclose(np.abs(np.fft.rfft2(one)), np.abs(np.fft.rfft2(noise)), rtol=1e-3, atol=1e-2)
    source = written(tmp_path, [5 + 2 * np.random.default_rng(0).normal(size=(90, 90)).astype(np.float32)])
    normal = small_micrograph(source, 0, 10.0, 1.0)
    assert abs(float(np.median(normal))) < 1e-6
    assert float(normal.std()) == pytest.approx(1, abs=0.05)


def test_evidence_needs_three_standard_errors_over_the_null() -> None:
    found = Record(1, 0.05, 0.01, 0.5, 0.0, 1.0, 1.0, 100, 0.0)
    null = replace(found, log_likelihood=0.0, standard_error=0.002)
    assert judge(found, null)[0]
    assert judge(found, None)[0]
    assert not judge(found, replace(null, log_likelihood=0.03))[0]
    assert not judge(replace(found, log_likelihood=0.02), null)[0]
    # a null below zero gives nothing away, and a gain within the search's own errors is none
    assert judge(found, replace(null, log_likelihood=-1.0))[1] < 6
    assert not judge(replace(found, log_likelihood=5e-4, standard_error=1e-5), None)[0]


def test_the_paper_preset_is_the_published_course() -> None:
    """S. Kreymer et al.: three stages of 5, 5 and 10 iterations, known noise, no memory of earlier batches."""
    stages, options, rotations = course_of(PickfreeParameters(box=11, preset="paper"), 2)
    assert stages == (Stage(5, 0.05, 3), Stage(5, 0.05, 4), Stage(10, 0.05, 5))
    assert (options.learn_noise, options.memory, options.uniform_prior, options.threads) == (False, False, True, 2)
    # every rotation of so coarse a grid is a cell: brute force
    assert (rotations, cells_of(rotations), cells_of(4608)) == (552, 552, None)
    # what is given by name goes before the preset
    stages, options, rotations = course_of(
        PickfreeParameters(box=11, preset="paper", stages="2:0.1:4,1", rotations=1000, noise=1.5), 1
    )
    assert (stages, rotations) == ((Stage(2, 0.1, 4), Stage(1, 1.0, fine=True)), 1000)
    stages, options, rotations = course_of(PickfreeParameters(box=11, noise=1.5, views=True, junk=True), 1)
    assert stages == (Stage(10, 0.5), Stage(3, 1.0, fine=True))
    assert (options.learn_noise, options.learn_views, options.junk, options.memory) == (False, True, True, True)


def test_stages_are_read() -> None:
    assert parse_stages("10:0.5, 3:1:4,2") == [(10, 0.5, None), (3, 1.0, 4), (2, 1.0, None)]
    for text in ("", "0:1", "3:0", "3:1.5", "a", "3:1:2:4"):
        with pytest.raises(ValueError, match=r"stage|iterations"):
            parse_stages(text)


def test_a_map_outside_its_ball_is_said(tmp_path: Path) -> None:
    image, _ = micrograph(molecule(BOX), (90, 90), 3.0, np.random.default_rng(7))
    corner = np.ones((BOX,) * 3, np.float32)
    corner[0, 0, 0] = 2
    found = run(written(tmp_path, [image]), corner, tmp_path, whiten=False, iterations=1)
    assert any("outside the ball" in text for text in found.warnings)
    with pytest.raises(InputError, match="smaller than one box"):
        run(written(tmp_path, [image[:8]]), molecule(BOX), tmp_path)
