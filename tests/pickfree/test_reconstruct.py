"""Reconstruction from patches with known truth: the statistical oracles, each in a size that takes seconds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from pickfree_scene import micrograph, molecule

from napari_pickbias.imaging.correlation import fourier_correlation
from napari_pickbias.imaging.ctf import ctf
from napari_pickbias.imaging.phantoms import blob_volume, phantom
from napari_pickbias.imaging.projection import project
from napari_pickbias.imaging.rotations import matrices_from_euler, random_rotations
from napari_pickbias.jobs.pickfree_patches import cut_patches
from napari_pickbias.pickfree import Options, Stage, align, default_stages, half_set_fsc, paper_stages, reconstruct
from napari_pickbias.pickfree.alignment import refined
from napari_pickbias.pickfree.chain import first_state, make_model
from napari_pickbias.pickfree.expectation import cell_shares, expectation
from napari_pickbias.pickfree.picking import pick_boxes, refine_picks
from napari_pickbias.pickfree.reconstruct import fsc_prior, paper_options, run_stages
from napari_pickbias.pickfree.rotation_levels import rotation_levels
from napari_pickbias.pickfree.start import SNR_GRID, energy_per_pixel, lowpassed, scaled_to
from napari_pickbias.pickfree.tables import build_tables

SIZE = 9
SHAPE = (330, 330)


def scene(size: int, shape: tuple[int, int], snr: float, seed: int, **more: object) -> np.ndarray:
    image, _ = micrograph(molecule(size), shape, snr, np.random.default_rng(seed), **more)  # type: ignore[arg-type]
    return cut_patches(image, size)


def truth(size: int, snr: float) -> np.ndarray:
    """Return the molecule in the units of patches of this signal-to-noise ratio."""
    model = make_model(size, rotation_levels(192), patches=0)
    return scaled_to(model, molecule(size), snr, 1.0)


@pytest.fixture(scope="module")
def patches() -> np.ndarray:
    return scene(SIZE, SHAPE, 2.0, 3)


def test_a_low_passed_start_gains_shells(patches: np.ndarray) -> None:
    # oracle 9 in small: 1296 patches of 9 px, 200 particles. Seeds 0 ... 4 of the scene: shell 3 rises from 0.90 to
    # 0.965 ... 0.985, shell 4 from 0.35 to 0.68 ... 0.83; empty 0.49 ... 0.53 for 0.48.
    target = truth(SIZE, 2.0)
    start = lowpassed(target, 2)
    found = reconstruct(patches, start, rotations=576, iterations=6, options=Options(threads=2))
    before, after = fourier_correlation(start, target, 3), fourier_correlation(found.volume, target, 3)
    assert after[3] > before[3] + 0.03
    assert after[4] > before[4] + 0.2
    particles = round(0.15 * SHAPE[0] * SHAPE[1] / SIZE**2)
    empty = 1 - particles * (2 * SIZE - 1) ** 2 / (SIZE**2 * len(patches))
    assert found.records[-1].empty == pytest.approx(empty, abs=0.08)
    assert found.records[-1].noise_variance == pytest.approx(1, abs=0.05)
    assert found.records[-1].log_likelihood > 5
    # full batches at the end: the likelihood does not fall
    assert np.diff([r.log_likelihood for r in found.records[-3:]]).min() > -0.005
    assert found.records[-1].norm / found.start_norm > 1


def test_touching_particles_are_no_obstacle() -> None:
    """Boxes side by side: most patches see parts of several particles, against the model's letter."""
    # Seeds 5 ... 8: shell 4 from -0.41 to 0.62 ... 0.69, shell 3 at 0.85 ... 0.90 (apart 0.75 ... 0.84), log-likelihood
    # 2.7 ... 3.0 times as high, empty 0.03 ... 0.04 (apart 0.47 ... 0.51)
    target = truth(SIZE, 2.0)
    near, far = (scene(SIZE, (198, 198), 2.0, 5, density=share, touching=share > 0.3) for share in (0.45, 0.15))
    start, found = lowpassed(target, 2), {}
    for name, patches in (("touching", near), ("apart", far)):
        found[name] = reconstruct(patches, start, rotations=192, iterations=4, snr=2.0, options=Options(threads=2))
    curves = {name: fourier_correlation(each.volume, target, 3) for name, each in found.items()}
    before = fourier_correlation(start, target, 3)
    assert curves["touching"][4] > before[4] + 0.2
    # three times as many particles: no worse than those apart
    assert curves["touching"][3] > curves["apart"][3] - 0.03
    assert found["touching"].records[-1].log_likelihood > 1.5 * found["apart"].records[-1].log_likelihood
    assert found["touching"].records[-1].empty < 0.1 < found["apart"].records[-1].empty


def test_the_scale_of_the_start_is_found(patches: np.ndarray) -> None:
    found = reconstruct(patches, 1e-3 * molecule(SIZE), rotations=192, iterations=1)
    model = make_model(SIZE, rotation_levels(192), patches=len(patches))
    # the start holds most of the energy of SNR 2; neighbouring scales are a factor of 2 apart
    snr = found.start_norm**2 * energy_per_pixel(model, lowpassed(molecule(SIZE), 2))
    snr /= np.linalg.norm(lowpassed(molecule(SIZE), 2)) ** 2
    assert snr == pytest.approx(2.0) or snr == pytest.approx(1.0)
    assert {1.0, 2.0} < set(SNR_GRID)


def test_on_noise_the_map_decays_and_picking_keeps_its_template() -> None:
    # oracle 10 in small. Seeds 0 ... 4: norm 0.20 ... 0.33 after 10 iterations, picking 0.63 ... 0.75
    rng = np.random.default_rng(4)
    image = rng.normal(size=SHAPE).astype(np.float32)
    patches = cut_patches(image, SIZE)
    start = truth(SIZE, 1.0)
    found = reconstruct(
        patches, start, rotations=192, snr=1.0, stages=(Stage(10),), lowpass=4, options=Options(threads=2)
    )
    norms = np.array([r.norm for r in found.records]) / found.start_norm
    assert (np.diff(norms) < 0).all()
    assert norms[-1] < 0.5
    gains = [r.log_likelihood for r in found.records]
    assert -0.02 < gains[-1] < 0.01
    assert gains[0] < -0.05
    model = make_model(SIZE, rotation_levels(192), patches=len(patches))
    state = first_state(model, start, 1.0)
    boxes = pick_boxes(image, model.coarse.project(start), 200)
    assert boxes.shape == (200, SIZE, SIZE)
    kept = refine_picks(boxes, model, state, Options(), 6)
    assert kept[-1] / found.start_norm > norms[-1] + 0.2


def test_no_likelihood_is_lost_to_the_basis_or_the_search() -> None:
    # oracles 5, 6 and 11 at 21 px: no overflow; low rank and best-first against the fine grid searched everywhere
    size = 21
    levels, flat = rotation_levels(1152), rotation_levels(1152, 1152)
    target = truth(size, 1.0)
    patches = scene(size, (5 * size, 5 * size), 1.0, 7)
    rows = np.arange(len(patches))
    slices = [make_model(size, grid).fine for grid in (flat, levels)]
    projections = [each.project(target) for each in slices]
    everything = build_tables(projections[0], flat, 1.0, tail=0, coarse_tail=0)
    dense = expectation(patches, rows, everything, flat, 0.55, samples=4096)
    fast = expectation(
        patches,
        rows,
        build_tables(projections[1], levels, 1.0, weights=cell_shares(levels)),
        levels,
        0.55,
        samples=4096,
    )
    assert np.isfinite(dense.log_likelihood).all()
    assert np.isfinite(fast.log_likelihood).all()
    assert np.isfinite(fast.sums).all()
    assert dense.log_likelihood.max() > 88  # where float32 would overflow
    difference = fast.log_likelihood - dense.log_likelihood
    # seeds 7 ... 11: mean -0.06 ... -0.01, largest 0.5
    assert -0.12 < difference.mean() < 0.03
    assert np.abs(difference).max() < 1.0
    assert np.abs(fast.void - dense.void).mean() < 0.015
    maps = [each.backproject(part.sums) for each, part in zip(slices, (dense, fast), strict=True)]
    # 0.987 with cells of 48 degrees; benchmarks/pickfree.py search has the full grids
    assert np.corrcoef(maps[0].ravel(), maps[1].ravel())[0, 1] > 0.97


def test_a_chain_that_goes_on_from_a_saved_state_is_the_same(patches: np.ndarray) -> None:
    few = patches[:300]
    model = make_model(SIZE, rotation_levels(192), patches=len(few))
    state = first_state(model, truth(SIZE, 2.0), 1.0, junk=0.02)
    stages = (Stage(2, 0.4), Stage(2, 1.0, fine=True))
    options = Options(learn_views=True, junk=True)
    whole = list(run_stages(few, model, state, stages, options, np.arange(300), [5]))
    assert [record.iteration for _, record in whole] == [1, 2, 3, 4]
    rest = list(run_stages(few, model, whole[1][0], stages, options, np.arange(300), [5]))
    assert [record for _, record in rest] == [record for _, record in whole[2:]]
    np.testing.assert_array_equal(rest[-1][0].volume, whole[-1][0].volume)


def test_views_and_junk_are_learned() -> None:
    levels = rotation_levels(576)
    model = make_model(SIZE, levels)
    target = truth(SIZE, 1.0)
    rng = np.random.default_rng(8)
    # all particles look along one axis
    angles = np.stack([rng.uniform(-180, 180, 150), np.zeros(150), np.zeros(150)], axis=1)
    images = project(target, matrices_from_euler(angles))
    patches = rng.normal(size=(320, SIZE, SIZE)).astype(np.float32)
    patches[:150] += images
    patches[300:] *= 4  # ice
    state = first_state(replace(model, group=np.zeros(320, np.int64)), target, 1.0, 0.5, 0.02)
    options = Options(learn_views=True, junk=True, learn_noise=False)
    *_, (last, record) = run_stages(
        patches, replace(model, group=np.zeros(320, np.int64)), state, (Stage(3),), options, np.arange(320), [0]
    )
    assert record.junk == pytest.approx(20 / 320, abs=0.02)
    polar = np.abs(levels.coarse[:, 2, 2]) > np.cos(np.radians(40))
    # a quarter of the cells; a tenth of the mass is kept even, and weak patches know little of their view
    assert last.views[polar].sum() / last.views.sum() > 0.4
    even = np.abs(levels.coarse[:, 2, 2]) > np.cos(np.radians(40))
    assert cell_shares(levels)[even].sum() / len(levels.coarse) < 0.35


def test_defocus_groups_with_ctf() -> None:
    """Two groups of micrographs with other CTFs: with the right ones the likelihood is higher than without any."""
    size, voxel = 13, 4.0
    target = blob_volume(phantom(4.5), size)
    filters = [
        ctf(
            (size, size), voxel, defocus_u_angstrom=d, defocus_v_angstrom=d, defocus_angle_deg=0, voltage_kv=300,
            spherical_aberration_mm=2.7, amplitude_contrast=0.1,
        )[0]
        for d in (9000.0, 16000.0)
    ]  # fmt: skip
    parts = []
    for number, transfer in enumerate(filters):
        rng = np.random.default_rng([9, number])
        image, _ = micrograph(target, (221, 221), 4.0, rng, ctf=transfer[None])
        parts.append(cut_patches(image, size))
    patches = np.concatenate(parts)
    group = np.repeat([0, 1], [len(part) for part in parts])
    gains = {}
    for name, chosen in (("right", filters), ("swapped", filters[::-1]), ("none", None)):
        found = reconstruct(
            patches, target, rotations=192, stages=(Stage(2),), snr=4.0, ctfs=chosen,
            group=None if chosen is None else group,
            lowpass=6, options=Options(threads=2),
        )  # fmt: skip
        gains[name] = found.records[-1].log_likelihood
        if name == "right":
            fsc = fourier_correlation(found.volume, target, 3)
    assert gains["right"] > gains["swapped"] + 0.3
    assert gains["right"] > gains["none"] + 0.3
    assert np.nanmin(fsc[1:4]) > 0.8


def test_alignment_finds_rotation_shift_and_hand() -> None:
    size = 15
    blobs = phantom(5.0)
    rotation = random_rotations(1, np.random.default_rng(3))[0]
    moved = blobs._replace(centres_px=(blobs.centres_px * [-1, 1, 1]) @ rotation.T + [0.6, -0.9, 0.2])
    reference, volume = blob_volume(blobs, size), blob_volume(moved, size)
    plain = np.corrcoef(volume.ravel(), reference.ravel())[0, 1]
    found = align(volume, reference, rotations=200)
    assert found.mirrored
    assert found.correlation > 0.98 > plain + 0.05
    one_hand = align(volume, reference, rotations=100, both_hands=False)
    assert one_hand.correlation < found.correlation - 0.02


def test_refined_alignment_stays_near() -> None:
    size = 13
    blobs = phantom(4.5)
    small = matrices_from_euler(np.array([[4.0, 3.0, -2.0]]))[0]
    moved = blobs._replace(centres_px=blobs.centres_px @ small.T + [0.3, -0.2, 0.1])
    reference, volume = blob_volume(blobs, size), blob_volume(moved, size)
    found = refined(volume, reference)
    assert found.correlation > 0.97
    assert np.degrees(np.arccos((np.trace(found.rotation) - 1) / 2)) < 12


def test_stages_of_the_presets() -> None:
    assert default_stages(13) == (Stage(10, 0.5), Stage(3, 1.0, fine=True))
    assert default_stages(2) == (Stage(2, 1.0, fine=True),)
    assert [(s.iterations, s.fraction, s.band) for s in paper_stages(11)] == [(5, 0.05, 3), (5, 0.05, 4), (10, 0.05, 5)]
    chosen = paper_options(Options(threads=3))
    assert (chosen.memory, chosen.learn_noise, chosen.uniform_prior, chosen.threads) == (False, False, True, 3)


def test_the_published_course_runs(patches: np.ndarray) -> None:
    target = truth(SIZE, 2.0)
    found = reconstruct(
        patches, target, rotations=192, snr=2.0, lowpass=2, options=paper_options(Options(threads=2)),
        stages=(Stage(2, 0.3, band=3), Stage(2, 0.3, band=4)),
    )  # fmt: skip
    assert [r.patches for r in found.records] == [round(0.3 * len(patches))] * 4
    assert {r.noise_variance for r in found.records} == {1.0}
    assert np.isfinite(found.volume).all()
    assert fourier_correlation(found.volume, target, 3)[2] > 0.8


def test_the_prior_of_a_half_set_fsc() -> None:
    volume = molecule(SIZE)
    assert half_set_fsc(volume, volume)[1:] == pytest.approx(1)
    fsc = np.array([1.0, 0.9, 0.5, 0.143, -0.2])
    prior = fsc_prior(volume, fsc)
    weight = prior / fsc_prior(volume, np.full(5, 1 / 3))  # FSC 1/3: whole-map FSC 1/2, weight 1
    assert weight[3] == pytest.approx(0.25 / 0.75, rel=0.01)
    assert weight[1] > weight[2] > 1 > weight[4] > 0


def test_shapes_that_do_not_fit_are_refused(patches: np.ndarray) -> None:
    with pytest.raises(ValueError, match="do not have the same side"):
        reconstruct(patches, molecule(11))
    with pytest.raises(ValueError, match="nothing but zeros"):
        reconstruct(patches, 0 * molecule(SIZE), rotations=64, snr=1.0)
