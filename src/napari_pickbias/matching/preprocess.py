"""What a micrograph goes through before it is matched: bad area found, brightness and contrast made even.

All lengths are fractions of the particle's diameter; they were found on micrographs whose particles have a diameter of
25 px (docs/reproduction/fdr.md).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_pickbias.errors import InputError

CLIP = 6.0
"""Largest absolute value of a prepared pixel, in local standard deviations."""

WINDOW, MEAN_BLUR, GRADIENT_BLUR, SPREAD_BLUR, MARGIN = 1.2, 0.8, 0.48, 0.24, 1.12
"""Lengths in diameters: the normalising window, the three blurs that show bad area, and the margin kept from it."""

COARSE_SIGMA = 8.0
"""A blur four times as wide or wider is made on pixels that leave this standard deviation: the time of a direct one
grows with its width, and a whole micrograph at full size took most of a minute."""


class Prepared(NamedTuple):
    """A micrograph ready to be matched."""

    image: NDArray[np.float32]
    """``(h, w)``: zero local mean, unit local standard deviation, clipped at 6; zero in bad area."""

    inside: NDArray[np.bool_]
    """``(h, w)``: where picks and spectra are taken: far enough from bad area and from the border."""

    bad_fraction: float
    """Share of the area that is carbon, ice, dirt, or too near to it."""


def prepare(micrograph: NDArray[np.floating] | NDArray[np.integer], diameter_px: float, box_px: int) -> Prepared:
    """Find the bad area of a micrograph and normalise the rest locally.

    Parameters
    ----------
    micrograph : ndarray, shape (h, w)
        Any real type.
    diameter_px : float
        Diameter of the particle.
    box_px : int
        Side of the templates.

    Raises
    ------
    InputError
        When the micrograph is smaller than a template, not finite, or constant, or nothing of it is left to pick from.

    Notes
    -----
    Bad area is where the blurred mean, gradient or standard deviation is far from the rest of the micrograph, in
    robust standard deviations (median and median absolute deviation). A surrogate must never go through this: its own
    local deviation would be divided out.
    """
    image = checked(micrograph, box_px)
    good = ~bad_area(image, diameter_px, box_px)
    weights = good.astype(np.float32)
    sigma = WINDOW * diameter_px
    share = np.maximum(_blurred(weights, sigma), 1e-6)
    mean = _blurred(weights * image, sigma) / share
    centred = np.asarray(weights * (image - mean), np.float32)
    variance = _blurred(centred**2, sigma) / share
    floor = 1e-6 * float(np.median(variance[good])) if good.any() else 0.0
    if floor <= 0:
        raise InputError("micrograph: nothing is left of it beside bad area; leave it out")
    normalised = np.clip(centred / np.sqrt(np.maximum(variance, floor)), -CLIP, CLIP)
    inside = _far_inside(good, MARGIN * diameter_px)
    if not inside.any():
        raise InputError("micrograph: nothing is left of it beside bad area and borders; leave it out")
    return Prepared(normalised.astype(np.float32), inside, 1 - float(good.mean()))


def checked(micrograph: NDArray[np.floating] | NDArray[np.integer], box_px: int) -> NDArray[np.float32]:
    """Return a micrograph as float32 with mean 0 and standard deviation 1, or say what is wrong with it.

    Raises
    ------
    InputError
        When it is no image, smaller than a template, not finite, or constant.
    """
    if micrograph.ndim != 2:
        raise InputError(f"micrograph: has {micrograph.ndim} axes; give one 2-D image")
    if min(micrograph.shape) < box_px:
        raise InputError(
            f"micrograph: is {micrograph.shape[0]} x {micrograph.shape[1]} px, smaller than the templates ({box_px} "
            "px); check the pixel sizes"
        )
    image = np.asarray(micrograph, np.float32)
    mean, sd = float(image.mean(dtype=np.float64)), float(image.std(dtype=np.float64))
    if not np.isfinite(mean) or not np.isfinite(sd):
        raise InputError("micrograph: holds NaN or infinite pixels; mend or leave out that micrograph")
    if sd == 0:
        raise InputError("micrograph: is constant; leave out that micrograph")
    return np.asarray((image - np.float32(mean)) / np.float32(sd))


def bad_area(image: NDArray[np.float32], diameter_px: float, box_px: int) -> NDArray[np.bool_]:
    """Return where a micrograph is carbon, ice or dirt, widened by half a template.

    What is smaller than a particle is left alone.

    Parameters
    ----------
    image : ndarray, shape (h, w), float32
    diameter_px : float
        Diameter of the particle.
    box_px : int
        Side of the templates.
    """
    mean = _blurred(image, MEAN_BLUR * diameter_px)
    gradient = _smooth(ndimage.gaussian_gradient_magnitude, image, GRADIENT_BLUR * diameter_px)
    fine = SPREAD_BLUR * diameter_px
    variance = (
        ndimage.gaussian_filter(image**2, fine, mode="nearest")
        - ndimage.gaussian_filter(image, fine, mode="nearest") ** 2
    )
    spread = np.sqrt(np.maximum(variance, 0))
    strange = (np.abs(_robust(mean)) > 5) | (_robust(gradient) > 6) | (_robust(spread) > 6)
    strange = ndimage.binary_opening(strange, iterations=max(round(0.08 * diameter_px), 1))
    # a strong particle alone in much noise is strange too, but it is small
    regions, _ = ndimage.label(strange)
    areas = np.bincount(regions.ravel())
    strange &= (areas >= np.pi / 4 * diameter_px**2)[regions]
    if not strange.any():
        return np.zeros(image.shape, np.bool_)
    reach = box_px / 2 + 0.16 * diameter_px
    return np.asarray(ndimage.distance_transform_edt(~strange) <= reach)


def _blurred(image: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    return _smooth(ndimage.gaussian_filter, image, sigma)


def _smooth(blur: Callable[..., NDArray[np.floating]], image: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """Blur an image; wide blurs on coarser pixels, whose own blur and that of going back are taken off the width.

    Gradients come out per coarse pixel.
    """
    step = int(sigma // COARSE_SIGMA)
    if step < 4:
        return np.asarray(blur(image, sigma, mode="nearest", truncate=3.0), np.float32)
    height, width = image.shape
    padded = np.pad(image, ((0, -height % step), (0, -width % step)), mode="edge")
    coarse = padded.reshape(padded.shape[0] // step, step, -1, step).mean(axis=(1, 3))
    # variance of a box of `step` pixels, and of linear interpolation between coarse pixels
    left = np.sqrt(sigma**2 - (step**2 - 1) / 12 - step**2 / 6) / step
    smooth = blur(coarse, left, mode="nearest", truncate=3.0)
    fine = ndimage.zoom(smooth, step, order=1, mode="nearest", grid_mode=True)
    return np.asarray(fine[:height, :width], np.float32)


def _robust(values: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return values in robust standard deviations from their median."""
    middle = np.median(values)
    spread = 1.4826 * np.median(np.abs(values - middle))
    return np.asarray((values - middle) / max(float(spread), 1e-12))


def _far_inside(good: NDArray[np.bool_], margin: float) -> NDArray[np.bool_]:
    return np.asarray(ndimage.distance_transform_edt(np.pad(good, 1))[1:-1, 1:-1] > margin)
