"""What weakens the bias before it is made: templates low-passed more strongly, and picking without a template."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from napari_pickbias.imaging.fourier import Floats, apply_filter, band_filter
from napari_pickbias.imaging.volumes import distance_grid, resize_box
from napari_pickbias.matching.bank import TemplateBank, soft_disc


class LowpassBias(NamedTuple):
    """What picking with a low-passed template alone puts into an average."""

    lowpass: float
    """Å."""

    predicted: NDArray[np.float64]
    """``(L, b, b)``, unit norm under the mask."""

    correlation: float
    """With the template before its low-pass, mean over templates: how much like it noise will look."""


def lowpass_bias(
    templates: Floats, power: Floats, pixel_size: float, lowpass: float, mask: Floats | None = None
) -> LowpassBias:
    """Predict the biased average of templates low-passed at a resolution, ``Sigma x / s`` (equation B.13).

    Parameters
    ----------
    templates : ndarray, shape (L, b, b)
        Not low-passed.
    power : ndarray, shape (n, n // 2 + 1)
        Of the noise, on a grid of at least twice the box; white noise of variance 1 is 1 everywhere.
    pixel_size, lowpass : float
        Å.
    mask : ndarray, shape (b, b), optional
        Default: a soft disc that touches the box.
    """
    box, size = templates.shape[-1], power.shape[0]
    weights = soft_disc(box, box / 2 - 1.5) if mask is None else np.asarray(mask, np.float64)
    images = np.asarray(templates, np.float64)
    if lowpass > 2 * pixel_size:
        images = np.asarray(apply_filter(images, band_filter((box, box), pixel_size, lowpass_angstrom=lowpass)))
    bank = TemplateBank.from_images(images, weights)
    spectra = scipy.fft.rfft2(resize_box(bank.images.astype(np.float64), size, 2), workers=1)
    along = resize_box(scipy.fft.irfft2(spectra * power, s=(size, size), workers=1), box, 2)
    predicted = TemplateBank.from_images(along, weights).images.astype(np.float64)
    sharp = TemplateBank.from_images(templates, weights).images.astype(np.float64)
    return LowpassBias(lowpass, predicted, float((predicted * sharp).sum(axis=(1, 2)).mean()))


def blob_bank(box: int, diameter_px: float, pixel_size: float | None = None) -> TemplateBank:
    """Return a bank of one difference of Gaussians: picking without a template.

    The inner Gaussian has the particle's radius of gyration if it were a ball, the outer 1.6 times that.

    Parameters
    ----------
    box : int
        Side of the image.
    diameter_px : float
        Of the particle.
    """
    sigma = 0.5 * diameter_px / np.sqrt(5 / 2)
    square = distance_grid(box, 2).astype(np.float64) ** 2
    image = np.exp(-square / (2 * sigma**2)) - np.exp(-square / (2 * (1.6 * sigma) ** 2)) / 1.6**2
    return TemplateBank.from_images(image[None], pixel_size_angstrom=pixel_size)
