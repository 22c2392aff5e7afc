"""Matching at the band limit: micrograph and templates are resampled to the coarsest pixel that holds the band."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from napari_pickbias.errors import InputError
from napari_pickbias.matching.bank import TemplateBank


class BandLimited(NamedTuple):
    """A micrograph and a bank on coarser pixels."""

    micrograph: NDArray[np.float32]
    """``(h', w')``; its pixel ``j`` lies at ``j * ratio`` of the full micrograph."""

    bank: TemplateBank
    """The templates on the same pixels, normalised anew."""

    ratio: tuple[float, float]
    """Coarse pixel in full pixels, rows and columns; they differ by the rounding of the sides (under 1 %)."""


def band_limited(
    micrograph: NDArray[np.floating] | NDArray[np.integer],
    bank: TemplateBank,
    pixel_size: float,
    lowpass: float,
    *,
    threads: int = 1,
) -> BandLimited:
    """Resample a micrograph and its templates to the coarsest pixel that still holds all detail down to ``lowpass``.

    Frequencies beyond the new Nyquist frequency are cut sharply; within it nothing changes.

    Parameters
    ----------
    micrograph : ndarray, shape (h, w)
        Any real type.
    bank : TemplateBank
        At the micrograph's pixel size.
    pixel_size, lowpass : float
        Å. A ``lowpass`` finer than two pixels leaves everything as it is.

    Raises
    ------
    InputError
        When a template has fewer than 6 coarse pixels left.
    """
    shape = (micrograph.shape[0], micrograph.shape[1])
    factor = min(1.0, 2 * pixel_size / lowpass)
    small = tuple(side if factor == 1 else min(side, 2 * int(np.ceil(side * factor / 2))) for side in shape)
    image = np.asarray(micrograph, dtype=np.float32)
    ratio = (shape[0] / small[0], shape[1] / small[1])
    if small == shape:
        return BandLimited(image, bank, ratio)
    box = int(np.ceil(bank.box_px / min(ratio)))
    if box < 6:
        raise InputError(
            f"--lowpass {lowpass:g}: leaves {box} pixels of a template of {bank.box_px} pixels; give a smaller length"
        )
    rows, columns = (_resampling(bank.box_px, box, step) for step in ratio)
    mask = np.clip(rows @ bank.mask @ columns.T, 0, 1)
    images = np.matmul(rows, bank.images.astype(np.float64)) @ columns.T
    # a mask that shrinks rings a little: what lies far outside is nothing
    coarse = TemplateBank.from_images(images, np.where(mask < 0.01, 0.0, mask))
    coarse = replace(coarse, view=bank.view, euler_deg=bank.euler_deg, pixel_size_angstrom=pixel_size * max(ratio))
    return BandLimited(_cropped(image, (small[0], small[1]), threads), coarse, ratio)


def _cropped(image: NDArray[np.float32], small: tuple[int, int], threads: int) -> NDArray[np.float32]:
    """Keep the low frequencies of an image; pixel 0 stays where it is. The new Nyquist frequencies are left out."""
    spectrum = scipy.fft.rfft2(image, workers=threads)
    rows, columns = (small[0] + 1) // 2, (small[1] + 1) // 2
    kept = np.zeros((small[0], small[1] // 2 + 1), np.complex64)
    kept[:rows, :columns] = spectrum[:rows, :columns]
    kept[1 - rows :, :columns] = spectrum[1 - rows :, :columns]
    kept *= np.float32(small[0] * small[1] / image.size)
    result: NDArray[np.float32] = scipy.fft.irfft2(kept, s=small, workers=threads)
    return result


def _resampling(size: int, new_size: int, ratio: float) -> NDArray[np.float64]:
    """Return the matrix that samples a band-limited signal every ``ratio`` pixels about its origin, without aliases.

    Pixel ``new_size // 2`` lies on pixel ``size // 2``; the signal is zero outside its box.
    """
    position = (np.arange(new_size) - new_size // 2) * ratio + size // 2
    distance = position[:, None] - np.arange(size)[None, :]
    return np.asarray(np.sinc(distance / ratio) / ratio)
