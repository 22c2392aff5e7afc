"""Options of the calibrated detector."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CalibratedOptions:
    """Knobs of the calibrated detector; the defaults are those of docs/reproduction/outliers.md.

    Attributes
    ----------
    step : float
        Step of the grid of particle centres, in units of the particle radius R.
    overhang : float
        Reach of that grid beyond the box, in units of R.
    inner_px : float or None
        Largest allowed offset in pixels; default box/2 - R, where a particle is just whole. Smaller is stricter.
    working_radius_px : float or None
        Images in which R is more than 1.2 times this are Fourier-cropped to it first: finer pixels cost time and gain
        nothing. None: never.
    max_order : int
        Highest angular order of the radial factors.
    factor_share : float
        Factors weaker than this share of the template's squared SNR are left out.
    max_columns : int
        Most image columns of factors (two per factor of positive order); time grows with it.
    max_two : float
        Upper bound of the fitted share of images with two particles; free, it runs away on elongated molecules.
    iterations : int
        Iterations of the fit.
    max_images : int
        Images used for the fit, drawn at random.
    surrogates : int
        Surrogate noise images for the noise threshold.
    """

    step: float = 1 / 3
    overhang: float = 0.5
    inner_px: float | None = None
    working_radius_px: float | None = 9.0
    max_order: int = 6
    factor_share: float = 0.04
    max_columns: int = 32
    max_two: float = 0.1
    iterations: int = 6
    max_images: int = 2000
    surrogates: int = 8000
