"""The score map against the plain direct sum, scikit-image, and what noise must give."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from skimage.feature import match_template

from napari_pickbias.errors import InputError
from napari_pickbias.matching import TemplateBank, score_map
from napari_pickbias.matching.tiles import plan_tiles


def plain_scores(image: np.ndarray, bank: TemplateBank, noise_sd: np.ndarray | None = None) -> np.ndarray:
    """The definition, summed directly: shape (L, h, w), -inf where the box leaves the micrograph."""
    image = image.astype(np.float64)
    box, before = bank.box_px, bank.box_px // 2
    weights = bank.mask.astype(np.float64)
    scores = np.full((len(bank), *image.shape), -np.inf)
    for y in range(image.shape[0] - box + 1):
        for x in range(image.shape[1] - box + 1):
            patch = image[y : y + box, x : x + box]
            mean = (weights * patch).sum() / weights.sum()
            sd = np.sqrt((weights * (patch - mean) ** 2).sum() / weights.sum())
            for number, template in enumerate(bank.images.astype(np.float64)):
                scale = 1.0 if noise_sd is None else noise_sd[number]
                scores[number, y + before, x + before] = (template * patch).sum() / (sd * scale)
    return scores


@pytest.mark.parametrize("box", [7, 8])
@pytest.mark.parametrize("shape", [(30, 41), (33, 32)])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int8, np.float64])
def test_equals_the_direct_sum(box: int, shape: tuple[int, int], dtype: type) -> None:
    rng = np.random.default_rng(box)
    image = (rng.normal(3, 20, shape)).astype(dtype)
    bank = TemplateBank.from_images(rng.normal(size=(5, box, box)))
    noise_sd = rng.uniform(0.5, 2, 5)
    plain = plain_scores(image, bank, noise_sd)
    scores, best = score_map(image, bank, 2, noise_sd=noise_sd)
    inside = np.isfinite(plain[0])
    np.testing.assert_array_equal(np.isfinite(scores), inside)
    np.testing.assert_allclose(scores[inside], plain.max(axis=0)[inside], rtol=0, atol=2e-5)
    # Where two templates are equal to rounding, either may win.
    chosen = np.take_along_axis(plain, np.maximum(best, 0)[None], axis=0)[0]
    np.testing.assert_allclose(chosen[inside], plain.max(axis=0)[inside], rtol=0, atol=2e-5)
    assert (best[~inside] == -1).all()


def test_many_tiles_and_blocks_equal_the_direct_sum() -> None:
    """Larger than one tile and more templates than one block; checked at random places."""
    rng = np.random.default_rng(1)
    image = rng.normal(size=(420, 700)).astype(np.float32)
    bank = TemplateBank.from_images(rng.normal(size=(37, 16, 16)))
    assert len(plan_tiles((420, 700), 16).starts) > 1
    scores, best = score_map(image, bank, 2, normalise="none")
    for y, x in rng.integers(8, [412, 692], (60, 2)):
        patch = image[y - 8 : y + 8, x - 8 : x + 8].astype(np.float64)
        plain = (bank.images * patch).sum(axis=(1, 2))
        assert scores[y, x] == pytest.approx(plain.max(), abs=1e-4)
        assert plain[best[y, x]] == pytest.approx(plain.max(), abs=1e-4)


def test_equals_scikit_image_where_definitions_coincide() -> None:
    rng = np.random.default_rng(2)
    image = rng.normal(10, 3, (64, 90))
    template = rng.normal(size=(12, 12))
    bank = TemplateBank.from_images(template[None], np.ones((12, 12)))
    scores, _ = score_map(image, bank)
    theirs = match_template(image, template)
    ours = scores[6 : 6 + theirs.shape[0], 6 : 6 + theirs.shape[1]] / 12.0  # sqrt of the number of mask pixels
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize("masked", [False, True])
def test_equals_opencv_where_definitions_coincide(masked: bool) -> None:
    """Its normalised correlation coefficient; with a mask both means and deviations are those under the mask."""
    rng = np.random.default_rng(6)
    image = rng.normal(10, 3, (64, 90)).astype(np.float32)
    template = rng.normal(size=(13, 13)).astype(np.float32)
    y, x = np.mgrid[-6:7, -6:7]
    mask = (np.hypot(y, x) <= 6.2).astype(np.float32) if masked else np.ones((13, 13), np.float32)
    bank = TemplateBank.from_images(template[None], mask)
    scores, _ = score_map(image, bank)
    theirs = cv2.matchTemplate(image, template, cv2.TM_CCOEFF_NORMED, mask=mask if masked else None)
    ours = scores[6 : 6 + theirs.shape[0], 6 : 6 + theirs.shape[1]] / np.sqrt(mask.sum())
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)


def test_threads_change_nothing() -> None:
    rng = np.random.default_rng(3)
    image = rng.normal(size=(300, 500)).astype(np.float32)
    bank = TemplateBank.from_images(rng.normal(size=(6, 20, 20)))
    one, two = score_map(image, bank, 1), score_map(image, bank, 3)
    np.testing.assert_array_equal(one[0], two[0])
    np.testing.assert_array_equal(one[1], two[1])


def test_white_noise_has_unit_variance_and_mean_zero() -> None:
    rng = np.random.default_rng(4)
    image = rng.normal(5, 7, (600, 600))
    bank = TemplateBank.from_images(rng.normal(size=(1, 24, 24)))
    scores, _ = score_map(image, bank)
    inside = scores[np.isfinite(scores)]
    # Over 20 seeds the mean stayed within .0005 and the deviation within .9999-1.0033.
    assert abs(inside.mean()) < 0.003
    assert inside.std() == pytest.approx(1.0, abs=0.01)


def test_coloured_noise_has_unit_variance_with_its_spectrum() -> None:
    rng = np.random.default_rng(5)
    n = 512
    frequency = np.hypot(np.fft.fftfreq(n)[:, None], np.fft.rfftfreq(n)[None])
    power = 1 / (1 + (frequency / 0.05) ** 2)
    image = np.fft.irfft2(np.fft.rfft2(rng.normal(size=(n, n))) * np.sqrt(power), s=(n, n))
    y, x = np.mgrid[-12:12, -12:12]
    bank = TemplateBank.from_images(np.exp(-(x**2 + y**2) / 30)[None])
    sd = bank.noise_sd(power)
    scores, _ = score_map(image, bank, noise_sd=sd / image.std(), normalise="global")
    # Over 20 seeds: .987-1.009.
    assert scores[np.isfinite(scores)].std() == pytest.approx(1.0, abs=0.03)


def test_wrap_is_the_periodic_correlation() -> None:
    rng = np.random.default_rng(6)
    image = rng.normal(size=(40, 48))
    bank = TemplateBank.from_images(rng.normal(size=(1, 9, 9)))
    scores, _ = score_map(image, bank, border="wrap", normalise="none")
    padded = np.zeros_like(image)
    padded[:9, :9] = bank.images[0]
    padded = np.roll(padded, (-4, -4), axis=(0, 1))
    expected = np.fft.irfft2(np.fft.rfft2(image) * np.conj(np.fft.rfft2(padded)), s=image.shape)
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-4)


def test_a_planted_template_is_found_where_it_was_put() -> None:
    rng = np.random.default_rng(7)
    templates = rng.normal(size=(3, 15, 15))
    image = rng.normal(size=(120, 120))
    bank = TemplateBank.from_images(templates)
    image[50:65, 70:85] += 40 * bank.images[1]
    scores, best = score_map(image, bank)
    peak = np.unravel_index(scores.argmax(), scores.shape)
    assert peak == (50 + 7, 70 + 7)
    assert best[peak] == 1


def test_a_constant_corner_scores_nothing() -> None:
    rng = np.random.default_rng(8)
    image = rng.normal(size=(200, 200)).astype(np.float32)
    image[:60, :60] = 2.5
    scores, _ = score_map(image, TemplateBank.from_images(rng.normal(size=(2, 20, 20))))
    assert np.abs(scores[12:48, 12:48]).max() == 0


def test_non_square_micrographs_are_covered_by_tiles() -> None:
    for shape in ((5760, 4092), (3838, 3710), (1024, 1024), (700, 64)):
        for box in (33, 64, 128):
            if box > min(shape):
                continue
            tiling = plan_tiles(shape, box)
            covered = np.zeros((shape[0] - box + 1, shape[1] - box + 1), dtype=np.int8)
            for y, x in tiling.starts:
                covered[y : y + tiling.step[0], x : x + tiling.step[1]] += 1
            assert (covered == 1).all()
            assert all(side >= box for side in tiling.tile)


@pytest.mark.parametrize(
    ("image", "line"),
    [
        (np.zeros((10, 40)), "micrograph: is 10 x 40 px, smaller than the templates (16 px); check the pixel sizes"),
        (np.zeros((40, 40)), "micrograph: is constant; leave out that micrograph"),
        (np.full((40, 40), np.nan), "micrograph: holds NaN or infinite pixels; mend or leave out that micrograph"),
        (np.zeros((3, 40, 40)), "micrograph: has 3 axes; give one 2-D image"),
    ],
)
def test_faults(image: np.ndarray, line: str) -> None:
    bank = TemplateBank.from_images(np.random.default_rng(0).normal(size=(1, 16, 16)))
    with pytest.raises(InputError) as fault:
        score_map(image, bank)
    assert str(fault.value) == line


def test_templates_are_zero_mean_and_unit_norm_under_the_mask() -> None:
    rng = np.random.default_rng(9)
    bank = TemplateBank.from_images(rng.normal(100, 3, (4, 21, 21)))
    np.testing.assert_allclose(bank.images.sum(axis=(1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose((bank.images.astype(float) ** 2).sum(axis=(1, 2)), 1, rtol=1e-5)
    assert (bank.images[:, bank.mask == 0] == 0).all()
    np.testing.assert_allclose(bank.noise_sd(np.ones((32, 17))), 1, rtol=1e-5)


@pytest.mark.parametrize("value", [0.0, 7.5, np.nan])
def test_a_flat_template_is_refused(value: float) -> None:
    images = np.random.default_rng(0).normal(size=(3, 9, 9))
    images[1] = value
    with pytest.raises(InputError, match=r"template 2 of 3: is constant or not finite under the mask; remove it"):
        TemplateBank.from_images(images)
