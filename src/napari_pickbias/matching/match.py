"""One micrograph: its peaks, and those of noise that has its spectrum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from napari_pickbias.errors import InputError
from napari_pickbias.imaging.noise import phase_surrogate
from napari_pickbias.matching.band import band_limited
from napari_pickbias.matching.bank import TemplateBank
from napari_pickbias.matching.basis import largest_norm, score_bound, score_deviation
from napari_pickbias.matching.contrast import Contrast, compare_tails
from napari_pickbias.matching.noise_model import (
    LEAST_FREE,
    SPECTRA_MB,
    NoiseMethod,
    NoiseModel,
    estimate_noise,
    surrogate,
    template_sd,
    trusted_score,
)
from napari_pickbias.matching.peaks import find_peaks
from napari_pickbias.matching.prepared import prepare_bank
from napari_pickbias.matching.preprocess import Prepared, checked, prepare
from napari_pickbias.matching.scores import score_map
from napari_pickbias.matching.whitening import whitened

DIAMETER_PX = 12
"""A micrograph is not made coarser than this many pixels per particle diameter."""

WHITENED_RANGE = 1e-3
"""Noise weaker than this against its strongest frequency is not amplified further: where a micrograph was blurred
before, there is nothing but rounding."""

MUCH_BAD, CROWDED, WIDE = 0.5, 0.6, 3.0
"""Shares of bad and of taken area, and spread of the scores against the noise's, from which a line warns."""


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
    rotation_basis : float
        Largest norm of what a basis shared by a view's rotations may leave out of a template; 0 for no such basis.
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
    rotation_basis: float = 0.0

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
    tails : Contrast or None
        How the peaks compare with those of the inverted micrograph; None where that was not kept.
    warnings : tuple of str
        One line each.
    score_error : (float, float)
        How far a score can be from that without a shared basis, and the standard deviation of the difference on noise,
        at most; 0 without such a basis.
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
    tails: Contrast | None = None
    warnings: tuple[str, ...] = ()
    score_error: tuple[float, float] = (0.0, 0.0)
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
    small = band_limited(micrograph, bank, settings.pixel_size, 2 * working_pixel(settings), threads=threads or 1)
    pixel = settings.pixel_size * max(small.ratio)
    diameter, distance = settings.diameter / pixel, settings.min_distance / pixel
    prepared = prepare(small.micrograph, diameter, small.bank.box_px)
    spectra = prepare_bank(
        small.bank,
        prepared.image.shape,
        threads=threads,
        memory_mb=SPECTRA_MB,
        rotation_basis=settings.rotation_basis,
    )
    model = estimate_noise(
        prepared,
        small.bank,
        diameter,
        distance,
        rng,
        method=settings.noise,
        surrogates=settings.surrogates,
        threads=threads,
        spectra=spectra,
    )
    # whitening the micrograph twice is whitening both it and the templates
    weak = np.maximum(model.power, WHITENED_RANGE * model.power.max()) if settings.whiten else None
    power = model.power if weak is None else model.power / weak**2
    sd = template_sd(small.bank, model.power) if weak is None else small.bank.noise_sd(power)
    norms = [0.0]

    def match(image: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        seen = image if weak is None else whitened(image, weak, threads=threads or 1).twice
        if spectra.basis is not None:
            norms.append(largest_norm(seen, small.bank.mask))
        return score_map(seen, spectra, threads, noise_sd=sd, normalise="none")

    def peaks_of(scores: NDArray[np.float32], best: NDArray[np.int32]) -> NDArray[np.void]:
        found = find_peaks(scores, best, settings.floor, distance, rule=settings.rule)
        return np.asarray(found[prepared.inside[np.rint(found["y"]).astype(int), np.rint(found["x"]).astype(int)]])

    scores, best = match(prepared.image)
    peaks = peaks_of(scores, best)
    null_peaks, null_spreads = [], []
    for image in _null_images(prepared, model, settings.surrogates, rng):
        null_scores, null_best = match(image)
        null_peaks.append(peaks_of(null_scores, null_best))
        null_spreads.append(_robust_sd(null_scores[prepared.inside]))
    spread = (_robust_sd(scores[prepared.inside]), float(np.mean(null_spreads)))
    trusted = np.inf
    if settings.noise == "auto" and model.free_fraction >= LEAST_FREE:
        trusted = trusted_score(peaks, null_peaks)
    tails = compare_tails(peaks["score"], peaks_of(*match(-prepared.image))["score"])
    warnings = match_warnings(prepared, model, spread, tails)
    error = (0.0, 0.0)
    if spectra.basis is not None:
        bound = score_bound(spectra.basis, small.bank.mask, sd, max(norms))
        error = (bound, score_deviation(spectra.basis, small.bank, power, sd))
    for table in (peaks, *null_peaks):
        table["y"] *= small.ratio[0]
        table["x"] *= small.ratio[1]
    return MicrographMatch(
        peaks,
        null_peaks,
        model,
        trusted,
        prepared.bad_fraction,
        spread,
        small.ratio,
        settings.min_distance / settings.pixel_size,
        tails,
        warnings,
        error,
        scores if keep_maps else None,
        best if keep_maps else None,
    )


def match_warnings(
    prepared: Prepared, model: NoiseModel, spread: tuple[float, float], tails: Contrast
) -> tuple[str, ...]:
    """Return what a user should know about one micrograph, a line each.

    Parameters
    ----------
    prepared : Prepared
    model : NoiseModel
    spread : (float, float)
        Of the scores of the micrograph and of its noise.
    tails : Contrast
    """
    lines = []
    if tails.clear and tails.sign < 0:
        lines.append(
            f"contrast: of the {tails.bright + tails.dark} highest peaks of the micrograph and of its inverse "
            f"{tails.dark} are the inverse's; the particles seem to be dark: invert the contrast"
        )
    elif not np.isfinite(model.trusted_from) and not tails.clear:
        lines.append("picks: nothing here differs from noise; check the pixel size, the template and the contrast")
    if prepared.bad_fraction > MUCH_BAD:
        lines.append(f"area: {prepared.bad_fraction:.0%} is carbon, ice or dirt, or near to it, and is not picked from")
    if 1 - model.free_fraction > CROWDED:
        lines.append(
            f"crowded: particles take {1 - model.free_fraction:.0%} of the area; the FDR of low thresholds may come "
            "out too low (fringes between particles are not in the noise model); where particles are round, a "
            "--min-distance near their width leaves the fringes out"
        )
    if spread[0] > WIDE * spread[1]:
        lines.append(
            f"scores: spread {spread[0] / spread[1]:.1f} times as wide as those of its noise; look for ice, dirt or an "
            "aperture's edge"
        )
    return tuple(lines)


def working_pixel(settings: MatchSettings) -> float:
    """Return the pixel size that micrographs are matched at, Å: as coarse as loses nothing."""
    wanted = settings.pixel_size if settings.lowpass is None else settings.lowpass / 2
    return max(settings.pixel_size, min(wanted, settings.diameter / DIAMETER_PX))


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
