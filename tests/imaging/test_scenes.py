"""Scenes: kinds, places and amplitudes as stated, rendered where they should be."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_pickbias.imaging.ctf import ctf
from napari_pickbias.imaging.phantoms import blob_projections, blob_volume, phantom
from napari_pickbias.imaging.projection import project
from napari_pickbias.imaging.rotations import matrices_from_euler
from napari_pickbias.imaging.scenes import (
    INLIER,
    MULTIPLE,
    NOISE,
    PARTIAL,
    draw_kinds,
    draw_scenes,
    kind_names,
    render_scenes,
)

BOX, RADIUS = 60, 12.0


def scenes_of(kind: int, count: int = 200, **options: object):  # type: ignore[no-untyped-def]
    kinds = np.full(count, kind, np.int8)
    settings_ = {"box_px": BOX, "radius_px": RADIUS, "offset_px": 2.0, **options}
    return draw_scenes(kinds, np.random.default_rng(0), **settings_)  # type: ignore[arg-type]


@given(count=st.integers(1, 60), shares=st.tuples(*[st.floats(0, 0.33)] * 3))
@settings(deadline=None, derandomize=True, max_examples=40)
def test_kinds_have_their_shares(count: int, shares: tuple[float, float, float]) -> None:
    kinds = draw_kinds(count, shares, np.random.default_rng(0))
    assert len(kinds) == count
    wanted = [round(s * count) for s in shares]
    if sum(wanted) <= count:
        assert [int(np.sum(kinds == k)) for k in (MULTIPLE, NOISE, PARTIAL)] == wanted


def test_inliers_lie_at_the_origin_and_are_alone() -> None:
    scenes = scenes_of(INLIER)
    assert scenes.shifts_px[:, 0].std() == pytest.approx(2, rel=0.15)  # 400 numbers: standard error 3.5 %
    assert np.all(scenes.amplitudes[:, 1] == 0)
    assert scenes.amplitudes[:, 0].min() >= 0.8
    assert scenes.amplitudes[:, 0].max() <= 1.25


def test_pairs_are_apart_with_the_origin_between() -> None:
    scenes = scenes_of(MULTIPLE)
    first, second = scenes.shifts_px[:, 0], scenes.shifts_px[:, 1]
    apart = np.linalg.norm(second - first, axis=1)
    assert apart.min() >= 1.5 * RADIUS
    assert apart.max() <= 2.2 * RADIUS
    np.testing.assert_allclose(np.linalg.norm(first, axis=1) + np.linalg.norm(second, axis=1), apart)
    assert np.all(np.linalg.norm(first, axis=1) / apart >= 0.3 - 1e-9)
    assert np.all(scenes.amplitudes > 0)


def test_partial_particles_lie_on_all_four_sides() -> None:
    scenes = scenes_of(PARTIAL)
    place = scenes.shifts_px[:, 0]
    farther = np.abs(place).max(axis=1)
    assert np.all(np.abs(farther - BOX / 2) <= RADIUS / 2)
    assert np.all(np.abs(place).min(axis=1) <= BOX / 2 - RADIUS)
    axis = np.abs(place).argmax(axis=1)
    sides = 2 * axis + (place[np.arange(200), axis] > 0)
    assert np.bincount(sides, minlength=4).min() > 25  # 50 expected, sd 6


def test_noise_boxes_are_empty() -> None:
    scenes = scenes_of(NOISE, 5)
    assert not scenes.amplitudes.any()
    assert not scenes.shifts_px.any()
    assert not render_scenes(blob_volume(phantom(RADIUS), BOX), scenes).any()
    assert kind_names(scenes.kinds) == ["noise"] * 5


def test_kinds_do_not_change_the_other_boxes() -> None:
    kinds = np.array([INLIER, NOISE, PARTIAL, MULTIPLE], np.int8)
    options = {"box_px": BOX, "radius_px": RADIUS, "offset_px": 1.0}
    mixed = draw_scenes(kinds, np.random.default_rng(0), **options)  # type: ignore[arg-type]
    alone = draw_scenes(np.zeros(4, np.int8), np.random.default_rng(0), **options)  # type: ignore[arg-type]
    np.testing.assert_array_equal(mixed.shifts_px[0], alone.shifts_px[0])
    np.testing.assert_array_equal(mixed.euler_deg, alone.euler_deg)


def test_rendered_pairs_are_their_closed_form() -> None:
    blobs = phantom(RADIUS)
    scenes = scenes_of(MULTIPLE, 6)
    images = render_scenes(blob_volume(blobs, BOX), scenes)
    expected = np.zeros_like(images)
    for number in range(2):
        rotations = matrices_from_euler(scenes.euler_deg[:, number])
        shown = blob_projections(blobs, rotations, BOX, scenes.shifts_px[:, number])
        expected += shown * scenes.amplitudes[:, number, None, None]
    # the slice's cut at Nyquist and the part of a particle that lies beyond half a box before it is put in place
    assert np.abs(images - expected).max() < 1e-3 * expected.max()


def test_partial_particles_do_not_come_back_on_the_other_side() -> None:
    blobs = phantom(RADIUS)
    scenes = scenes_of(PARTIAL, 8)
    images = render_scenes(blob_volume(blobs, BOX), scenes)
    rotations = matrices_from_euler(scenes.euler_deg[:, 0])
    expected = blob_projections(blobs, rotations, BOX, scenes.shifts_px[:, 0]) * scenes.amplitudes[:, 0, None, None]
    assert np.abs(images - expected).max() < 1e-3 * blob_projections(blobs, rotations, BOX).max()


def test_ctf_goes_with_its_own_box() -> None:
    volume = blob_volume(phantom(RADIUS), BOX)
    scenes = scenes_of(INLIER, 3, offset_px=0.0)
    microscope = {"voltage_kv": 300.0, "spherical_aberration_mm": 2.7, "amplitude_contrast": 0.1}
    defocus = np.array([8e3, 15e3, 22e3])
    transfer = ctf(
        (BOX, BOX), 3.0, defocus_u_angstrom=defocus, defocus_v_angstrom=defocus, defocus_angle_deg=0.0, **microscope
    )
    images = render_scenes(volume, scenes, transfer)
    expected = project(volume, matrices_from_euler(scenes.euler_deg[:, 0]), ctf=transfer)
    np.testing.assert_allclose(images, expected * scenes.amplitudes[:, 0, None, None], atol=1e-6 * images.max())
