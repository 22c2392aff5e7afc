"""The standard deviation of a micrograph under a mask around every pixel: what local normalisation divides by."""

from __future__ import annotations

import math
from typing import NamedTuple, TypeVar

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from napari_pickbias.matching.engine import Inverse, pair_spectrum
from napari_pickbias.matching.kernels import deviation

SAFE_VARIANCE = 0.03
"""Share of a tile's root mean fourth power down to which single precision gives variances to about 1e-5."""


Kind = TypeVar("Kind", bound=np.generic)


class MaskSpectrum(NamedTuple):
    """A mask ready for correlation with tiles of one size."""

    mask: NDArray[np.float32]
    tile: tuple[int, ...]
    single: NDArray[np.complex64]


def mask_spectrum(mask: NDArray[np.float32], tile: tuple[int, ...]) -> MaskSpectrum:
    """Return the spectrum of a mask of total weight 1."""
    weights = (mask / mask.sum(dtype=np.float64) / math.prod(tile)).astype(np.float32)
    return MaskSpectrum(mask, tile, pair_spectrum(weights, np.zeros_like(weights), tile))


def tile_deviation(
    patch: NDArray[np.float32], spectrum: MaskSpectrum, shape: tuple[int, ...], inverse: Inverse
) -> NDArray[np.float32]:
    """Return the standard deviation under the mask around the first pixels of a tile.

    Mean and mean square are the two parts of one complex transform in single precision. A tile in which some variance
    is small beside the tile's own is done again in double precision.

    Parameters
    ----------
    patch : ndarray, at most as large as the tile
        Of a micrograph; zeros are put behind it, which the wanted pixels must not reach.
    spectrum : MaskSpectrum
    shape : tuple of int
        How many pixels are wanted along each axis; the mask's corner lies on each of them.

    Returns
    -------
    ndarray of that shape, float32
        Infinite where the patch is constant.
    """
    centred = patch - patch.mean(dtype=np.float64).astype(np.float32)
    both = np.empty(patch.shape, np.complex64)
    both.real = centred
    np.multiply(centred, centred, out=centred)
    both.imag = centred
    least = np.float32(SAFE_VARIANCE * np.sqrt(float(np.vdot(centred, centred)) / centred.size) + 1e-30)
    product = scipy.fft.fftn(both, s=spectrum.tile, overwrite_x=True, workers=1)
    product *= spectrum.single
    values = np.ascontiguousarray(inverse(product, shape))
    sd = np.empty(shape, np.float32)
    if deviation(as_stack(values.view(np.float32)), least, as_stack(sd)) == 0:
        return sd
    return _double_deviation(patch, spectrum, shape)


def as_stack(array: NDArray[Kind]) -> NDArray[Kind]:
    """Return a micrograph as a stack of one plane, a tomogram as it is."""
    return array[None] if array.ndim == 2 else array


def _double_deviation(
    patch: NDArray[np.float32], spectrum: MaskSpectrum, shape: tuple[int, ...]
) -> NDArray[np.float32]:
    weights = spectrum.mask.astype(np.float64) / spectrum.mask.sum(dtype=np.float64)
    centred = patch - patch.mean(dtype=np.float64)
    axes = tuple(range(1, patch.ndim + 1))
    both = scipy.fft.rfftn(np.stack([centred, centred**2]), s=spectrum.tile, axes=axes, workers=1)
    both *= np.conj(scipy.fft.rfftn(weights, s=spectrum.tile, workers=1))
    wanted = (slice(None), *(slice(side) for side in shape))
    mean, square = scipy.fft.irfftn(both, s=spectrum.tile, axes=axes, workers=1)[wanted]
    # double precision leaves about 1e-13 of the tile's largest square where the patch is constant
    floor = 1e-11 * max(float(np.max(centred**2)), 1e-30)
    variance = square - mean**2
    return np.where(variance > floor, np.sqrt(np.maximum(variance, floor)), np.inf).astype(np.float32)
