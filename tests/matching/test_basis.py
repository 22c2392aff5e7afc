"""Rotations in a shared basis: scores stay within the stated bound of those of the plain loop."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_pickbias.errors import InputError
from napari_pickbias.matching import TemplateBank, basis, prepare_bank, prepared, score_map
from napari_pickbias.matching.basis import RotationGroup, largest_norm, score_bound, score_deviation, shared_basis

ANGLES = 40


def turned(box: int, width: float, count: int = ANGLES) -> np.ndarray:
    """A smooth lopsided particle at many angles, shape (count, box, box)."""
    y, x = np.mgrid[:box, :box] - box // 2
    turns = 2 * np.pi * np.arange(count)[:, None, None] / count
    along, across = x * np.cos(turns) + y * np.sin(turns), y * np.cos(turns) - x * np.sin(turns)
    along, across = along / box, across / box
    return np.exp(-((along / 0.22) ** 2) - (across / width) ** 2) + 0.5 * np.exp(
        -(((along - 0.15) / 0.1) ** 2) - (across / 0.1) ** 2
    )


def mixed_bank(box: int = 20) -> TemplateBank:
    """Two smooth views, and between them one of noise at eight angles and one at three, which gain nothing."""
    rng = np.random.default_rng(0)
    stacks = [turned(box, 0.1), rng.normal(size=(8, box, box)), turned(box, 0.2, 3), turned(box, 0.15)]
    view = np.repeat(np.arange(4), [len(stack) for stack in stacks])
    return TemplateBank.from_images(np.concatenate(stacks), view=view)


def test_residuals_keep_the_error_and_the_rest_is_direct() -> None:
    bank = mixed_bank()
    for error in (0.2, 0.05, 0.01):
        found = shared_basis(bank, error)
        assert [group.first for group in found.groups] == [0, ANGLES + 11]
        np.testing.assert_array_equal(found.direct, np.arange(ANGLES, ANGLES + 11))
        for group in found.groups:
            assert group.rank < ANGLES / 2
            flat = group.components.reshape(group.rank, -1)
            np.testing.assert_allclose(flat @ flat.T, np.eye(group.rank), atol=1e-4)
            again = np.tensordot(group.coefficients, group.components, 1) + group.residuals
            np.testing.assert_allclose(again, bank.images[group.first : group.first + ANGLES], atol=1e-6)
            norms = np.sqrt((group.residuals.astype(float) ** 2).sum(axis=(1, 2)))
            assert error / 30 < norms.max() <= error * 1.001
    assert not shared_basis(bank, 0).groups


def test_templates_that_are_all_equal_need_one_component() -> None:
    bank = TemplateBank.from_images(np.repeat(turned(12, 0.1)[:1], 9, axis=0), view=np.zeros(9, int))
    (group,) = shared_basis(bank, 0.01).groups
    assert group.rank == 1
    image = np.random.default_rng(0).normal(size=(60, 70))
    scores, _ = score_map(image, bank, rotation_basis=0.01)
    expected, _ = score_map(image, bank)
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-5)


@settings(deadline=None, derandomize=True, max_examples=12)
@given(
    box=st.integers(13, 24),
    sides=st.tuples(st.integers(40, 90), st.integers(40, 90)),
    error=st.sampled_from([0.3, 0.1, 0.02, 0.003]),
    normalise=st.sampled_from(["local", "global", "none"]),
    seed=st.integers(0, 99),
)
def test_scores_are_within_the_bound(box: int, sides: tuple[int, int], error: float, normalise: str, seed: int) -> None:
    """The worst micrograph too: one that shows a residual."""
    rng = np.random.default_rng(seed)
    bank, noise_sd = mixed_bank(box), rng.uniform(0.5, 2, 2 * ANGLES + 11)
    found = shared_basis(bank, error)
    image = rng.normal(3, 1, sides)
    residual = found.groups[0].residuals[seed % ANGLES]
    image[10 : 10 + box, 5 : 5 + box] += rng.uniform(0, 30) * residual / np.abs(residual).max()
    options = {"noise_sd": noise_sd, "normalise": normalise}
    scores, best = score_map(image, bank, 1, rotation_basis=error, **options)  # type: ignore[arg-type]
    expected, _ = score_map(image, bank, 1, **options)  # type: ignore[arg-type]
    norm = None
    if normalise != "local":  # templates have sum 0, so the mean of the micrograph counts for nothing
        norm = largest_norm((image - image.mean()).astype(np.float32), bank.mask)
        norm /= image.std() if normalise == "global" else 1.0
    bound = score_bound(found, bank.mask, noise_sd, norm)
    inside = np.isfinite(expected)
    np.testing.assert_array_equal(np.isfinite(scores), inside)
    assert np.abs(scores[inside] - expected[inside]).max() <= bound + 1e-4
    assert ((best >= 0) == inside).all()
    # the winner's own score is as near to the highest
    y, x = np.unravel_index(np.argmax(np.where(inside, scores, -np.inf)), scores.shape)
    own, _ = score_map(image, bank.take(best[y, x][None]), 1, **(options | {"noise_sd": noise_sd[[best[y, x]]]}))  # type: ignore[arg-type]
    assert abs(own[y, x] - scores[y, x]) <= bound + 1e-4


def test_the_bound_is_reached() -> None:
    """Where a micrograph shows nothing but the residual of the winner, the score changes by the whole bound."""
    bank = TemplateBank.from_images(turned(20, 0.1), view=np.zeros(ANGLES, int))
    found = shared_basis(bank, 0.1)
    residual = found.groups[0].residuals
    norms = np.sqrt((residual.astype(float) ** 2).sum(axis=(1, 2)))
    worst = int(norms.argmax())
    image = np.zeros((60, 60), np.float32)
    image[20:40, 20:40] = residual[worst]
    plain, _ = score_map(image, bank.take(np.array([worst])), normalise="none")
    bound = score_bound(found, bank.mask, local_norm=largest_norm(image, bank.mask))
    # the basis sees nothing of it
    seen = np.tensordot(found.groups[0].components, residual[worst], 2)
    assert np.abs(seen).max() < 1e-5
    assert plain[30, 30] == pytest.approx(bound, rel=1e-3)


def test_no_error_is_no_basis() -> None:
    rng = np.random.default_rng(1)
    bank, image = mixed_bank(), rng.normal(size=(150, 170)).astype(np.float32)
    assert prepare_bank(bank, image.shape, rotation_basis=0).basis is None
    for one, other in zip(score_map(image, bank), score_map(image, bank, rotation_basis=0), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("border", ["exclude", "wrap"])
def test_nothing_depends_on_threads_blocks_or_preparation(border: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    bank, image = mixed_bank(), rng.normal(size=(250, 330)).astype(np.float32)
    told: list[tuple[int, int]] = []
    plain = score_map(image, bank, 1, border=border, rotation_basis=0.02, progress=lambda *at: told.append(at))  # type: ignore[arg-type]
    assert told == [(11, 91), (91, 91)]
    monkeypatch.setattr(prepared, "BLOCK_BYTES", {2: 3 * 8 * 216 * 216})
    ready = prepare_bank(bank, image.shape, border=border, rotation_basis=0.02, memory_mb=1)  # type: ignore[arg-type]
    for threads in (1, 3, 9):
        for one, other in zip(plain, score_map(image, ready, threads, border=border), strict=True):  # type: ignore[arg-type]
            np.testing.assert_array_equal(one, other)
    with pytest.raises(ValueError, match="given to `prepare_bank`"):
        score_map(image, ready, border=border, rotation_basis=0.02)  # type: ignore[arg-type]


def test_the_difference_on_noise_has_the_stated_deviation() -> None:
    bank = TemplateBank.from_images(turned(20, 0.1), view=np.zeros(ANGLES, int))
    found = shared_basis(bank, 0.1)
    white = np.ones((64, 33))
    stated = score_deviation(found, bank, white, np.ones(ANGLES))
    patches = np.random.default_rng(3).normal(size=(4000, 400))
    seen = (patches @ found.groups[0].residuals.reshape(ANGLES, -1).T).std(axis=0).max()
    # over 20 seeds .98 to 1.04
    assert seen == pytest.approx(stated, rel=0.08)
    assert stated == pytest.approx(np.sqrt((found.groups[0].residuals ** 2).sum(axis=(1, 2))).max(), rel=1e-4)


def test_largest_norm_is_that_of_the_plain_sum() -> None:
    rng = np.random.default_rng(4)
    image = rng.normal(size=(21, 26)).astype(np.float32)
    mask = np.clip(rng.normal(size=(6, 6)), 0, None)
    plain = max(
        np.sqrt((image[y : y + 6, x : x + 6][mask > 0].astype(float) ** 2).sum()) for y in range(16) for x in range(21)
    )
    assert largest_norm(image, mask.astype(np.float32)) == pytest.approx(plain, rel=1e-9)


def test_a_large_basis_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    bank = TemplateBank.from_images(turned(20, 0.1), view=np.zeros(ANGLES, int))
    monkeypatch.setattr(basis, "WORTH_WHILE", 0.1)
    assert not shared_basis(bank, 0.01).groups
    assert score_bound(shared_basis(bank, 0.01), bank.mask) == 0


@pytest.mark.parametrize("error", [-0.1, 0.6, float("nan")])
def test_faults(error: float) -> None:
    with pytest.raises(InputError, match=rf"^--rotation-basis {error:g}: must lie in 0 to 0.5$"):
        shared_basis(mixed_bank(), error)


def test_a_group_tells_its_size() -> None:
    group = RotationGroup(3, np.zeros((2, 4, 4), "f4"), np.zeros((5, 2), "f4"), np.zeros((5, 4, 4), "f4"))
    assert (len(group), group.rank) == (5, 2)
