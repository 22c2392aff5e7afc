"""What the fit of the calibrated detector found, for reports and logs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_pickbias.outliers.calibration import Calibration
from napari_pickbias.outliers.fit import LOW_SIGNAL, Fitted

HOPELESS = 5.0
"""Below this e0 about two thirds of all good particles cannot be told from noise at a false-keep rate of 1 %."""
FEW = 300
"""Below this number of images the fit is not covered by the published measurements."""


@dataclass(frozen=True)
class DetectorSummary:
    """What the fit found. Lengths are pixels of the images given.

    Attributes
    ----------
    e0 : float
        Squared detection SNR of an average particle.
    alpha : float
        Stated share of pure noise kept.
    pi : tuple of 4 floats
        Fitted shares: one central particle, noise, off-centre, two particles.
    sigma_c : float
        Standard deviation of the offsets of central particles, per axis.
    s_a : float
        Relative standard deviation of the amplitudes.
    c_noise : float
        Threshold on the log-odds against noise.
    template_radius_px, template : (n,) arrays
        Learned radial template, in units of the noise standard deviation of a working pixel.
    noise_frequency, noise_power : (n,) arrays
        Radial noise spectrum: cycles per working pixel; power relative to white noise of the same variance.
    factor_columns : int
        Image columns of the factors that describe how particles differ from the template.
    working_box_px : int
        Side of the images as judged.
    warnings : tuple of str
    n_fit : int
        Images that the fit used.
    contrast : float
        Brightness of the middle of the images over their ring, in standard errors.
    hopeless : bool
        True where e0 is so low that removing anything does more harm than good.
    """

    e0: float
    alpha: float
    pi: tuple[float, float, float, float]
    sigma_c: float
    s_a: float
    c_noise: float
    template_radius_px: NDArray[np.float64]
    template: NDArray[np.float64]
    noise_frequency: NDArray[np.float64]
    noise_power: NDArray[np.float64]
    factor_columns: int
    working_box_px: int
    warnings: tuple[str, ...]
    n_fit: int
    contrast: float
    hopeless: bool


def fit_warnings(e0: float, n_fit: int) -> tuple[str, ...]:
    """Return what a user must know about a fit, in sentences."""
    warnings = []
    if e0 < HOPELESS:
        warnings.append(
            f"signal too low (e0 = {e0:.1f} < {HOPELESS:g}): particles cannot be told from noise one by one; "
            "most good particles would be removed"
        )
    elif e0 < LOW_SIGNAL:
        warnings.append(
            f"low signal (e0 = {e0:.1f} < {LOW_SIGNAL:g}): the false-keep rate holds, but many good particles are "
            "removed and no false discovery rate can be stated"
        )
    if n_fit < FEW:
        warnings.append(
            f"only {n_fit} images to learn from: below {FEW} nothing was measured; pool optics groups or micrographs"
        )
    return tuple(warnings)


def summarise(
    fitted: Fitted, calibration: Calibration, *, alpha: float, n_fit: int, contrast: float, pixel: float
) -> DetectorSummary:
    """Gather the summary; ``pixel`` is the size of a working pixel in pixels of the images given."""
    e0 = fitted.operators.e0
    frequency, power = fitted.noise.radial_spectrum()
    keep, noise, off, two = (float(p) for p in fitted.model.prior)
    shown = int(np.ceil(1.3 * fitted.operators.geometry.radius_px)) + 1
    return DetectorSummary(
        e0=e0,
        alpha=alpha,
        pi=(keep, noise, off, two),
        sigma_c=fitted.model.centre_sd * pixel,
        s_a=fitted.model.amplitude_sd,
        c_noise=calibration.noise,
        template_radius_px=np.arange(shown, dtype=np.float64) * pixel,
        template=fitted.model.profile[:shown].copy(),
        noise_frequency=frequency,
        noise_power=power / float(fitted.noise.acf[0, 0]),
        factor_columns=len(fitted.model.factors.column_variance()),
        working_box_px=fitted.noise.box_px,
        warnings=fit_warnings(e0, n_fit),
        n_fit=n_fit,
        contrast=contrast,
        hopeless=e0 < HOPELESS,
    )
