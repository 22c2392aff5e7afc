"""From micrographs to picks whose errors are known, end to end on micrographs whose truth is known."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from picking_scenes import DISTANCE, PIXEL, bank, false_picks, noise, scene, settings
from scipy.stats import kstest

from napari_pickbias.errors import InputError
from napari_pickbias.matching import TemplateBank
from napari_pickbias.matching.calibrate import (
    Calibration,
    MatchSettings,
    MicrographMatch,
    calibrate,
    match_micrograph,
    working_pixel,
)
from napari_pickbias.matching.contrast import Contrast
from napari_pickbias.matching.match import match_warnings
from napari_pickbias.matching.preprocess import Prepared

PARTICLES, SCENES = 60, 5


def match(image: np.ndarray, seed: int = 0, **changed: object) -> MicrographMatch:
    return match_micrograph(image, bank(), settings(**changed), np.random.default_rng([seed, 7]), threads=1)


@cache
def mixtures() -> tuple[list[MicrographMatch], list[np.ndarray], Calibration]:
    drawn = [scene(np.random.default_rng(seed), PARTICLES) for seed in range(SCENES)]
    matches = [match(image, seed) for seed, (image, _) in enumerate(drawn)]
    return matches, [places for _, places in drawn], calibrate(matches, np.random.default_rng(0))


@cache
def noise_matches() -> list[MicrographMatch]:
    return [match(noise(np.random.default_rng(seed)), seed) for seed in range(4)]


def kept(threshold: float) -> tuple[int, int]:
    """Number of false picks and of picks."""
    matches, truth, _ = mixtures()
    chosen = [match.peaks[match.peaks["score"] >= threshold] for match in matches]
    return sum(false_picks(c, at) for c, at in zip(chosen, truth, strict=True)), sum(len(c) for c in chosen)


def test_p_values_are_uniform_on_noise() -> None:
    found = calibrate(noise_matches(), np.random.default_rng(0))
    p = np.concatenate(found.p)
    # 4 sets of 4 micrographs, 1517 ... 1591 peaks each: .018 ... .028 and .049 ... .054
    assert kstest(p, "uniform").statistic < 0.05
    assert (p < 0.05).mean() == pytest.approx(0.05, abs=0.02)


def test_noise_gives_no_picks() -> None:
    found = calibrate(noise_matches(), np.random.default_rng(0))
    assert found.failed is None
    assert min(q.min() for q in found.q) > 0.05  # 4 sets: .82 ... .94
    assert found.fdr is not None
    assert found.fdr.fdr[found.fdr.thresholds <= 3].min() > 0.8


def test_realised_false_discovery_proportion() -> None:
    """Below .07 at q = .05, and nearly all particles are found."""
    matches, truth, found = mixtures()
    chosen = [match.peaks[q <= 0.05] for match, q in zip(matches, found.q, strict=True)]
    false, count = sum(false_picks(c, at) for c, at in zip(chosen, truth, strict=True)), sum(len(c) for c in chosen)
    assert false / count < 0.07  # 4 other pools: .026 ... .035
    inside = sum(int(((at > 22) & (at < 398)).all(axis=1).sum()) for at in truth)
    assert count - false > 0.9 * inside


def test_predicted_fdr_is_the_true_share() -> None:
    _, _, found = mixtures()
    assert found.fdr is not None
    for level in (2.5, 3.0, 3.5, 4.0):
        place = int(np.argmin(np.abs(found.fdr.thresholds - level)))
        false, count = kept(level)
        assert found.fdr.picks[place] == count
        # 4 other pools: .07 ... .10 too high at 2.5, -.04 ... .04 off above
        assert found.fdr.fdr[place] == pytest.approx(false / count, abs=0.12 if level < 3 else 0.08)
        assert found.fdr.low[place] <= found.fdr.fdr[place] <= found.fdr.high[place]
        np.testing.assert_allclose(found.expected_false[place, 0], found.fdr.false_picks[place] / SCENES)
        assert found.expected_false[place, 1] <= found.expected_false[place, 0] <= found.expected_false[place, 2]


def test_threshold_keeps_the_rate_asked_for() -> None:
    _, _, found = mixtures()
    thresholds = [found.threshold_at(fdr) for fdr in (0.2, 0.1, 0.05, 0.01)]
    assert thresholds == sorted(thresholds)
    false, count = kept(found.threshold_at(0.05))
    assert false / count < 0.1
    assert found.threshold_at(-1.0) is None


def test_local_fdr_never_rises_and_tells_particles_from_noise() -> None:
    matches, _, found = mixtures()
    assert found.local is not None
    assert (np.diff(found.local.fdr) <= 1e-12).all()
    for match, local in zip(matches, found.local_fdr, strict=True):
        assert (local[match.peaks["score"] > 6] < 0.1).all()
        assert (local[match.peaks["score"] < 2.5] > 0.8).all()


def test_scores_are_in_standard_deviations_of_the_noise() -> None:
    """A particle was planted with a score of 7; local normalisation takes a little."""
    matches, truth, _ = mixtures()
    found = []
    for match, places in zip(matches, truth, strict=True):
        away = np.hypot(match.peaks["y"][:, None] - places[:, 0], match.peaks["x"][:, None] - places[:, 1])
        found.append(match.peaks["score"][away.min(axis=1) < 4])
    assert np.median(np.concatenate(found)) == pytest.approx(7, abs=0.7)


def test_threads_do_not_matter() -> None:
    image, _ = scene(np.random.default_rng(3), 40)
    runs = [
        match_micrograph(image, bank(), settings(), np.random.default_rng(1), threads=threads, keep_maps=True)
        for threads in (1, 2)
    ]
    np.testing.assert_array_equal(runs[0].peaks, runs[1].peaks)
    np.testing.assert_array_equal(runs[0].scores, runs[1].scores)
    assert runs[0].scores is not None
    assert runs[0].scores.shape == image.shape


def finer(image: np.ndarray) -> np.ndarray:
    """The same image on pixels half as wide."""
    spectrum = np.pad(np.fft.fftshift(np.fft.fft2(image)), len(image) // 2)
    return np.fft.ifft2(np.fft.ifftshift(spectrum)).real


def test_a_finer_micrograph_gives_the_same_places_in_its_own_pixels() -> None:
    image, places = scene(np.random.default_rng(4), 40)
    fine, fine_templates = finer(image), np.stack([finer(template) for template in bank().images])
    given = settings(pixel_size=PIXEL / 2, lowpass=2 * PIXEL)
    assert working_pixel(given) == PIXEL
    found = match_micrograph(fine, TemplateBank.from_images(fine_templates), given, np.random.default_rng(0), threads=1)
    assert found.ratio == (2.0, 2.0)
    assert found.min_distance_px == 2 * DISTANCE / PIXEL
    strong = found.peaks[found.peaks["score"] > 5]
    away = np.hypot(strong["y"][:, None] / 2 - places[:, 0], strong["x"][:, None] / 2 - places[:, 1]).min(axis=1)
    assert len(strong) > 25
    assert np.quantile(away, 0.9) < 1.5


@pytest.mark.parametrize("method", ["tile", "phases", "inverted"])
def test_conservative_noise_is_conservative(method: str) -> None:
    image, _ = scene(np.random.default_rng(0), PARTICLES)
    plain, cautious = mixtures()[0][0], match(image, 0, noise=method)
    assert cautious.trusted_from == np.inf
    np.testing.assert_array_equal(plain.peaks["score"], cautious.peaks["score"])  # scores keep their unit
    assert len(cautious.null_peaks) == (1 if method == "inverted" else 2)
    counts = [np.mean([(t["score"] >= 3).sum() for t in one.null_peaks]) for one in (plain, cautious)]
    assert counts[1] > (0.7 if method == "inverted" else 1.2) * counts[0]


def test_whitening_finds_the_particles_too() -> None:
    image, places = scene(np.random.default_rng(0), PARTICLES)
    found = match(image, 0, whiten=True)
    strong = found.peaks[found.peaks["score"] >= 5]
    assert len(strong) > 40
    assert false_picks(strong, places) <= 2


def test_dark_particles_are_refused_with_the_reason() -> None:
    dark = [match(-scene(np.random.default_rng(seed), PARTICLES)[0], seed) for seed in range(2)]
    assert any("invert the contrast" in line for line in dark[0].warnings)
    found = calibrate(dark, np.random.default_rng(0))
    assert found.failed is not None
    assert found.failed.endswith("highest peaks are dark: invert the contrast of the micrographs")
    assert found.fdr is None
    assert found.threshold_at(0.05) is None
    assert np.isnan(found.local_fdr[0]).all()
    assert found.expected_false.shape == (0, 3)


def test_no_fdr_where_particles_stayed_in_the_noise() -> None:
    """No trusted score, but the bright tail is clearly longer than the dark one."""
    lost = [
        replace(
            one,
            trusted_from=np.inf,
            noise=replace(one.noise, trusted_from=np.inf),
            tails=Contrast(1, 90, 20, 70 / 110**0.5),
        )
        for one in mixtures()[0]
    ]
    sentence = (
        "particles are there, but with these templates they cannot be told from the noise: they stayed in its "
        "spectrum; give templates nearer to the particle"
    )
    assert calibrate(lost, np.random.default_rng(0)).failed == sentence
    # bright and dark alike: nothing has failed, there is only noise
    nothing = calibrate([replace(one, tails=Contrast(1, 55, 50, 0.5)) for one in lost], np.random.default_rng(0))
    assert nothing.failed is None
    assert nothing.warnings == (
        "the micrographs do not differ from noise; check the pixel size, the templates and the contrast",
    )
    # on a minority of micrographs it does not matter
    assert calibrate([*mixtures()[0], lost[0]], np.random.default_rng(0)).failed is None


def test_heights_tell_where_the_inverted_micrograph_was_not_asked() -> None:
    lost = [
        replace(one, noise=replace(one.noise, trusted_from=np.inf), null_peaks=[one.peaks[len(one.peaks) // 3 :]])
        for one in mixtures()[0]
    ]
    assert "particles are there" in (calibrate(lost, np.random.default_rng(0)).failed or "")


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({"pixel_size": 0.0}, "--pixel-size 0: must be above 0 Å"),
        ({"diameter": -1.0}, "--diameter -1: must be above 0 Å"),
        ({"min_distance": np.nan}, "--min-distance nan: must be above 0 Å"),
        ({"surrogates": 0}, "--surrogates 0: at least 1 is needed"),
        ({"noise": "white"}, "--noise white: is not known; give auto, tile, phases or inverted"),
    ],
)
def test_settings_out_of_range(changed: dict[str, object], line: str) -> None:
    with pytest.raises(InputError) as fault:
        settings(**changed)
    assert str(fault.value) == line


def test_micrograph_smaller_than_a_template() -> None:
    with pytest.raises(InputError) as fault:
        match(np.random.default_rng(0).normal(size=(20, 300)))
    assert str(fault.value) == ("micrograph: is 20 x 300 px, smaller than the templates (24 px); check the pixel sizes")


def test_nothing_to_calibrate() -> None:
    with pytest.raises(InputError, match=r"^micrographs: none was matched; give at least one$"):
        calibrate([], np.random.default_rng(0))


def test_working_pixel() -> None:
    given = MatchSettings(1.0, 20.0, 150.0, 80.0)
    assert working_pixel(given) == 10.0  # the low-pass
    assert working_pixel(replace(given, diameter=96.0)) == 8.0  # twelve pixels a particle
    assert working_pixel(replace(given, lowpass=None)) == 1.0
    assert working_pixel(replace(given, pixel_size=14.0)) == 14.0


def test_warnings_of_a_micrograph() -> None:
    """Each line, and no line where all is well."""
    image = np.zeros((8, 8), np.float32)
    good, bad = Prepared(image, image == 0, 0.02), Prepared(image, image == 0, 0.75)
    model = mixtures()[0][0].noise
    lost, crowded = replace(model, trusted_from=np.inf), replace(model, free_fraction=0.3)
    bright, dark, even = (Contrast(1, 90, 10, 8.0), Contrast(-1, 10, 90, -8.0), Contrast(1, 52, 48, 0.4))
    assert match_warnings(good, model, (1.0, 0.9), bright) == ()
    assert match_warnings(good, model, (1.0, 0.9), even) == ()
    assert match_warnings(good, model, (1.0, 0.9), dark) == (
        "contrast: of the 100 highest peaks of the micrograph and of its inverse 90 are the inverse's; the particles "
        "seem to be dark: invert the contrast",
    )
    assert match_warnings(good, lost, (1.0, 0.9), even) == (
        "picks: nothing here differs from noise; check the pixel size, the template and the contrast",
    )
    assert match_warnings(bad, model, (1.0, 0.9), bright) == (
        "area: 75% is carbon, ice or dirt, or near to it, and is not picked from",
    )
    assert match_warnings(good, crowded, (1.0, 0.9), bright) == (
        "crowded: particles take 70% of the area; the FDR of low thresholds may come out too low (fringes between "
        "particles are not in the noise model); where particles are round, a --min-distance near their width leaves "
        "the fringes out",
    )
    assert match_warnings(good, model, (9.0, 0.9), bright) == (
        "scores: spread 10.0 times as wide as those of its noise; look for ice, dirt or an aperture's edge",
    )
