"""The bait: which part is left out, and Omega against sums worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from napari_pickbias.bias.bait import omega, omitted_part, returned, support
from napari_pickbias.imaging.phantoms import blob_volume, phantom
from napari_pickbias.imaging.volumes import soft_ball
from napari_pickbias.matching.views import symmetry_rotations


def test_the_part_is_of_the_share_asked_for_and_lies_outside() -> None:
    volume = blob_volume(phantom(9.0, elongation=1.5), 32).astype(np.float64)
    dense = np.where(volume > 0.2 * volume.max(), volume, 0)
    for share in (0.1, 0.3):
        part = omitted_part(volume, np.eye(3)[None], share)
        assert (dense * part).sum() / dense.sum() == pytest.approx(share, abs=0.04)
        places = np.argwhere(dense > 0) - 16
        weight = dense[dense > 0]
        centre = weight @ places / weight.sum()
        far = np.linalg.norm(places - centre, axis=1)
        inside = part[dense > 0] > 0.5
        assert far[inside].mean() > far[~inside].mean()


def test_the_part_of_a_symmetric_map_is_symmetric() -> None:
    rng = np.random.default_rng(0)
    ball = soft_ball(24, 9.0, 1.0).astype(np.float64)
    # a half-turn about z, which the grid holds exactly
    volume = ball * (1 + 0.1 * rng.random(ball.shape))
    part = omitted_part(volume, symmetry_rotations("C2"))[:, 1:, 1:]
    np.testing.assert_allclose(part, part[:, ::-1, ::-1], atol=1e-6)
    assert (part > 0.5).mean() > 0.05


def test_support_is_a_tenth_of_the_highest_hundred() -> None:
    values = np.zeros((10, 10, 10))
    values[0] = 1.0
    values[1] = 0.11
    values[2] = 0.09
    assert support(values).sum() == 200


def test_omega_is_the_share_that_the_template_brought() -> None:
    rng = np.random.default_rng(1)
    full = 2 + 0.1 * rng.standard_normal(16)
    assert omega(full, full, rng).value == pytest.approx(0)
    assert omega(full, np.zeros(16), rng).value == 1
    found = omega(full, 0.25 * full, rng)
    assert found.value == pytest.approx(0.75)
    assert found.low < 0.75 < found.high
    assert found.high - found.low < 0.05
    # density that is not above zero gives no share
    assert np.isnan(omega(-full, full, rng).low)


def test_the_interval_covers_the_truth() -> None:
    rng = np.random.default_rng(2)
    hits = 0
    for _ in range(200):
        full, baited = 1 + 0.4 * rng.standard_normal(16), 0.5 + 0.4 * rng.standard_normal(16)
        found = omega(full, baited, rng, draws=200)
        hits += found.low <= 0.5 <= found.high
    # 16 groups: somewhat below 95 %; 200 trials have a deviation of 2 %
    assert 0.86 < hits / 200 < 0.99


def test_returned_density() -> None:
    rng = np.random.default_rng(3)
    rest = 1 + 0.05 * rng.random(16)
    assert returned(0.4 * rest, rest, rng).value == pytest.approx(0.4)
    assert np.isnan(returned(rest, -rest, rng).value)
