"""From a micrograph to picks whose errors are known: match, match noise of the same spectrum, compare.

A micrograph at a time (:func:`match_micrograph`), then all together (:func:`calibrate`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from napari_pickbias.errors import InputError
from napari_pickbias.imaging.noise import phase_surrogate
from napari_pickbias.matching.band import band_limited
from napari_pickbias.matching.bank import TemplateBank
from napari_pickbias.matching.noise_model import NoiseMethod, NoiseModel, estimate_noise, surrogate, template_sd
from napari_pickbias.matching.peaks import find_peaks
from napari_pickbias.matching.preprocess import Prepared, checked, prepare
from napari_pickbias.matching.scores import score_map
from napari_pickbias.matching.significance import (
    FreeAreaFdr,
    fit_null,
    free_area_fdr,
    p_values,
    q_values,
)

FINEST_DIAMETER_PX = 25
"""A micrograph is not made coarser than this many pixels per particle diameter, unless a low-pass asks for less."""


@dataclass(frozen=True)
class MatchSettings:
    """How micrographs are matched.

    Attributes
    ----------
    pixel_size : float
        Å, of micrographs and bank.
    lowpass : float or None
        Finest detail used, Å; the micrograph is made coarser where that loses nothing.
    diameter : float
        Of the particle, Å.
    min_distance : float
        Least distance of two picks, Å.
    noise : {"auto", "tile", "phases", "inverted"}
        Where the noise's peaks come from; the last three are conservative.
    surrogates : int
        Noise images for each micrograph.
    rule : {"local_maximum", "greedy", "paper"}
        See :func:`napari_pickbias.matching.find_peaks`.
    floor : float
        Lowest score of kept peaks.
    whiten : bool
        Divide micrograph and templates by the noise's amplitude.
    """

    pixel_size: float
    lowpass: float | None
    diameter: float
    min_distance: float
    noise: NoiseMethod = "auto"
    surrogates: int = 2
    rule: Literal["local_maximum", "greedy", "paper"] = "local_maximum"
    floor: float = 0.0
    whiten: bool = False

    def __post_init__(self) -> None:
        for name in ("pixel_size", "diameter", "min_distance"):
            value = getattr(self, name)
            if not (np.isfinite(value) and value > 0):
                raise InputError(f"--{name.replace('_', '-')} {value:g}: must be above 0 Å")
        if self.surrogates < 1:
            raise InputError(f"--surrogates {self.surrogates}: at least 1 is needed")
        if self.noise not in ("auto", "tile", "phases", "inverted"):
            raise InputError(f"--noise {self.noise}: is not known; give auto, tile, phases or inverted")


@dataclass(frozen=True)
class MicrographMatch:
    """One micrograph's picks and those of its noise.

    Attributes
    ----------
    peaks : ndarray of (y, x, score, template)
        All local maxima from the floor up, highest first, in the micrograph's own pixels; scores in standard deviations
        of a single template's score on the noise.
    null_peaks : list of such arrays
        Of each surrogate.
    noise : NoiseModel
        On the pixels that were matched: ``ratio`` times coarser.
    trusted_from : float
        Score from which peaks are particles more often than not; infinity when none was found.
    bad_fraction : float
        Share of the area left out as carbon, ice or dirt.
    score_sd : (float, float)
        Robust standard deviation of the score map (maximum over templates) of the micrograph, and of its surrogates.
    ratio : (float, float)
        Matched pixel in pixels of the micrograph, rows and columns.
    min_distance_px : float
        In the micrograph's own pixels.
    warnings : tuple of str
        One line each.
    scores, best : ndarray or None
        Score map and winning template on the matched pixels, where asked for.
    """

    peaks: NDArray[np.void]
    null_peaks: list[NDArray[np.void]]
    noise: NoiseModel
    trusted_from: float
    bad_fraction: float
    score_sd: tuple[float, float]
    ratio: tuple[float, float]
    min_distance_px: float
    warnings: tuple[str, ...] = ()
    scores: NDArray[np.float32] | None = None
    best: NDArray[np.int32] | None = None


def match_micrograph(
    micrograph: NDArray[np.floating] | NDArray[np.integer],
    bank: TemplateBank,
    settings: MatchSettings,
    rng: np.random.Generator,
    *,
    threads: int | None = None,
    keep_maps: bool = False,
) -> MicrographMatch:
    """Match one micrograph and surrogates of its noise with a bank of templates.

    Parameters
    ----------
    micrograph : ndarray, shape (h, w)
        Particles bright (multiply by -1 where they are dark).
    bank : TemplateBank
        At the micrograph's own pixel size.
    settings : MatchSettings
    rng : numpy.random.Generator
        For the surrogates.
    threads : int, optional
        Default: all cores this process may use. The result does not depend on it.
    keep_maps : bool
        Return the score map too.

    Raises
    ------
    InputError
        When the micrograph is smaller than a template or than four particles, not finite, constant, or bad all over.
    """
    checked(micrograph, bank.box_px)
    coarse = working_pixel(settings)
    small = band_limited(micrograph, bank, settings.pixel_size, 2 * coarse, threads=threads or 1)
    pixel = settings.pixel_size * max(small.ratio)
    diameter, distance = settings.diameter / pixel, settings.min_distance / pixel
    prepared = prepare(small.micrograph, diameter, small.bank.box_px)
    model = estimate_noise(
        prepared,
        small.bank,
        diameter,
        distance,
        rng,
        method=settings.noise,
        surrogates=settings.surrogates,
        threads=threads,
    )
    sd = template_sd(small.bank, model.power)

    def matched(image: NDArray[np.float32]) -> tuple[NDArray[np.void], float, NDArray[np.float32], NDArray[np.int32]]:
        scores, best = score_map(image, small.bank, threads, noise_sd=sd, normalise="none")
        found = find_peaks(scores, best, settings.floor, distance, rule=settings.rule)
        found = found[prepared.inside[np.rint(found["y"]).astype(int), np.rint(found["x"]).astype(int)]]
        found["y"] *= small.ratio[0]
        found["x"] *= small.ratio[1]
        return found, _robust_sd(scores[prepared.inside]), scores, best

    peaks, spread, scores, best = matched(prepared.image)
    null_peaks, null_spreads = [], []
    for image in _null_images(prepared, model, settings.surrogates, rng):
        found, null_spread, _, _ = matched(image)
        null_peaks.append(found)
        null_spreads.append(null_spread)
    return MicrographMatch(
        peaks,
        null_peaks,
        model,
        model.trusted_from if settings.noise == "auto" else np.inf,
        prepared.bad_fraction,
        (spread, float(np.mean(null_spreads))),
        small.ratio,
        settings.min_distance / settings.pixel_size,
        (),
        scores if keep_maps else None,
        best if keep_maps else None,
    )


def working_pixel(settings: MatchSettings) -> float:
    """Return the pixel size that micrographs are matched at, Å: as coarse as loses nothing."""
    wanted = settings.pixel_size if settings.lowpass is None else settings.lowpass / 2
    return max(settings.pixel_size, min(wanted, settings.diameter / FINEST_DIAMETER_PX))


def _null_images(
    prepared: Prepared, model: NoiseModel, count: int, rng: np.random.Generator
) -> list[NDArray[np.float32]]:
    if model.method == "inverted":
        return [-prepared.image]
    if model.method == "phases":
        return [phase_surrogate(prepared.image, rng) for _ in range(count)]
    shape = (prepared.image.shape[0], prepared.image.shape[1])
    return [surrogate(model, shape, rng) for _ in range(count)]


def _robust_sd(values: NDArray[np.floating]) -> float:
    return float(1.4826 * np.median(np.abs(values - np.median(values))))


@dataclass(frozen=True)
class Calibration:
    """What thresholds mean, over all micrographs.

    Attributes
    ----------
    p, q : list of ndarray
        For each micrograph, of each of its peaks: chance that a peak of its noise is as high, and Benjamini-Hochberg
        q-value over all peaks of all micrographs.
    local_fdr : list of ndarray
        For each micrograph, of each of its peaks: chance that a peak of this height is false; NaN when failed.
    fdr : FreeAreaFdr or None
        FDR against threshold with its 95 % interval; None when failed.
    expected_false : ndarray, shape (t, 3)
        Expected false picks per micrograph at each threshold of ``fdr``, with the ends of a 95 % interval.
    trusted_share : float
        Share of micrographs where a trusted score was found.
    failed : str or None
        Why no FDR is given, one sentence.
    """

    p: list[NDArray[np.float64]]
    q: list[NDArray[np.float64]]
    local_fdr: list[NDArray[np.float64]]
    fdr: FreeAreaFdr | None
    expected_false: NDArray[np.float64]
    trusted_share: float
    failed: str | None = None

    def threshold_at(self, fdr: float) -> float | None:
        """Return the lowest threshold from which on the FDR stays at or below a level; None where there is none."""
        if self.fdr is None:
            return None
        known = np.isfinite(self.fdr.fdr)
        good = np.where(known, self.fdr.fdr <= fdr, True)
        from_here = np.logical_and.accumulate(good[::-1])[::-1] & known
        return float(self.fdr.thresholds[np.argmax(from_here)]) if from_here.any() else None


def calibrate(matches: list[MicrographMatch], rng: np.random.Generator) -> Calibration:
    """Compare the picks of micrographs with those of their noise.

    Parameters
    ----------
    matches : list of MicrographMatch
        Made with the same settings and bank.
    rng : numpy.random.Generator
        For the bootstrap.

    Raises
    ------
    InputError
        When there are too few peaks of noise to tell.
    """
    if not matches:
        raise InputError("micrographs: none was matched; give at least one")
    null = fit_null(np.concatenate([table["score"] for match in matches for table in match.null_peaks]))
    p = [p_values(match.peaks["score"], null) for match in matches]
    lengths = np.cumsum([len(values) for values in p])[:-1]
    q = np.split(q_values(np.concatenate(p)), lengths)
    trusted = np.array([match.trusted_from for match in matches])
    top = max((float(match.peaks["score"][0]) for match in matches if len(match.peaks)), default=3.0)
    thresholds = np.round(np.arange(1.5, max(top, 3.0) + 0.05, 0.05), 6)
    fdr = free_area_fdr(
        [match.peaks for match in matches],
        [match.null_peaks for match in matches],
        thresholds,
        matches[0].min_distance_px,
        float(np.min(trusted)),
        rng,
    )
    expected = np.stack([fdr.false_picks] * 3, axis=1) / len(matches)
    local = [np.interp(match.peaks["score"], thresholds, np.nan_to_num(fdr.fdr)) for match in matches]
    return Calibration(p, q, local, fdr, expected, float(np.isfinite(trusted).mean()))
