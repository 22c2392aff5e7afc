"""The score map: the best template at every pixel of a micrograph, in standard deviations of the noise."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Literal

import numba
import numpy as np
import scipy.fft
from numpy.typing import NDArray

from napari_pickbias.errors import InputError
from napari_pickbias.matching.bank import TemplateBank
from napari_pickbias.matching.engine import EngineName, Inverse, choose_inverse, template_spectra
from napari_pickbias.matching.tiles import Tiling, plan_tiles
from napari_pickbias.matching.whitening import checked_power, whitened

BLOCK = 32
"""Template spectra in work at once: they stay in the last-level cache while all tiles pass by."""
OUTSIDE = np.float32(-np.inf)
"""Score where the box leaves the micrograph."""


def score_map(
    micrograph: NDArray[np.floating] | NDArray[np.integer],
    bank: TemplateBank,
    threads: int | None = None,
    *,
    noise_sd: NDArray[np.floating] | None = None,
    whiten: NDArray[np.floating] | None = None,
    normalise: Literal["local", "global", "none"] = "local",
    border: Literal["exclude", "wrap"] = "exclude",
    engine: EngineName = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Return the largest score over all templates at every pixel, and the template that gave it.

    The score of template ``x_l`` (zero mean, unit norm under the mask) centred at a pixel is
    ``<x_l, patch> / (s_l * sd)``: ``sd`` is the standard deviation of the patch under the mask
    (``normalise="local"``), of the whole micrograph (``"global"``) or 1 (``"none"``), and ``s_l`` is the standard
    deviation of ``<x_l, noise>`` for noise of unit variance (``noise_sd``; 1 for white noise). On pure noise a single
    template's scores have mean 0 and standard deviation 1. With a binary mask and white noise, ``score / sqrt(number
    of mask pixels)`` is the masked normalised cross-correlation.

    For micrographs that were normalised before, and for their surrogates: ``normalise="none"`` with
    ``noise_sd=bank.noise_sd(power)``, ``power`` in the micrograph's units, gives ``<x_l, patch> / s_l``; nothing is
    divided by a deviation of the image itself.

    With ``whiten`` micrograph and templates are both filtered by ``power ** -0.5``: the score is
    ``<x_l, z> / (s_l * sd)`` with ``z`` the patch of the micrograph divided by ``power`` in Fourier space, ``s_l`` the
    deviation that noise of this power has there, and ``sd`` that of the whitened micrograph.

    Parameters
    ----------
    micrograph : ndarray, shape (h, w)
        Any real type; particles bright.
    bank : TemplateBank
        Templates, at the micrograph's pixel size.
    threads : int, optional
        Default: all cores this process may use. The result does not depend on it.
    noise_sd : ndarray, shape (L,), optional
        ``s_l``, from :meth:`TemplateBank.noise_sd`. Not together with ``whiten``, which brings its own.
    whiten : ndarray, shape (n, n // 2 + 1), optional
        Power of the noise, in the micrograph's units squared, as :meth:`TemplateBank.noise_sd` takes it; ``n`` at
        least the box plus the reach of the inverse filter.
    border : {"exclude", "wrap"}
        Pixels whose box leaves the micrograph get ``-inf``; or the micrograph is periodic (Algorithm 2 of the paper).
    engine : {"auto", "scipy", "ducc0"}
        Who transforms: see :mod:`napari_pickbias.matching.engine`.
    progress : callable, optional
        Called with the number of templates done and of all templates.

    Returns
    -------
    scores : ndarray, shape (h, w), float32
        A template of side ``b`` at pixel ``(y, x)`` covers rows ``y - b // 2`` to ``y - b // 2 + b - 1``.
    best : ndarray, shape (h, w), int32
        Number of the winning template (the first of equals); -1 where the score is ``-inf``.

    Raises
    ------
    InputError
        When the micrograph is smaller than a template, not finite, or constant, when the noise spectrum is not above
        zero, or the engine is not there.
    """
    inverse = choose_inverse(engine)
    image, sd = _standardised(micrograph, bank.box_px)
    reference, reference_sd = image, np.float32(1.0)
    if whiten is not None:
        if noise_sd is not None:
            raise ValueError("`noise_sd` and `whiten` exclude each other")
        reference, image = whitened(image, np.asarray(whiten) / sd**2, threads=threads or _allowed_cores())
        noise_sd, sd = bank.noise_sd(1 / checked_power(whiten)) * sd, 1.0
        reference_sd = reference.std(dtype=np.float64).astype(np.float32)
    box, before = bank.box_px, bank.box_px // 2
    if border == "wrap":
        image, reference = (np.pad(part, (before, box - 1 - before), mode="wrap") for part in (image, reference))
    tiling = plan_tiles((image.shape[0], image.shape[1]), box)
    valid = (image.shape[0] - box + 1, image.shape[1] - box + 1)
    best = np.full(valid, -np.inf, dtype=np.float32)
    # half the traffic where the numbers fit
    which = np.full(valid, -1, dtype=np.int16 if len(bank) <= np.iinfo(np.int16).max else np.int32)
    scale = (np.ones(len(bank)) if noise_sd is None else 1.0 / np.asarray(noise_sd)).astype(np.float32)
    workers = threads or _allowed_cores()
    with ThreadPoolExecutor(workers) as pool:
        for first in range(0, len(bank), BLOCK):
            last = min(first + BLOCK, len(bank))
            images = bank.images[first:last] * scale[first:last, None, None]
            pieces = [images[piece : piece + 4] for piece in range(0, len(images), 4)]
            spectra = [one for piece in pool.map(partial(template_spectra, tile=tiling.tile), pieces) for one in piece]

            def work(
                start: tuple[int, int], first: int = first, spectra: Sequence[NDArray[np.complex64]] = spectra
            ) -> None:
                _match_tile(image, tiling, start, spectra, first, best, which, inverse)

            list(pool.map(work, tiling.starts))
            if progress is not None:
                progress(last, len(bank))
        if normalise == "local":
            best /= _local_sd(reference, bank.mask, tiling, pool)
        elif normalise == "global":
            best /= reference_sd
        else:
            best *= np.float32(sd)
    if border == "wrap":
        return best, which.astype(np.int32)
    shape = (image.shape[0], image.shape[1])
    scores = np.full(shape, OUTSIDE, dtype=np.float32)
    numbers = np.full(shape, -1, dtype=np.int32)
    inside = (slice(before, before + valid[0]), slice(before, before + valid[1]))
    scores[inside], numbers[inside] = best, which
    return scores, numbers


def _standardised(micrograph: NDArray[np.generic], box: int) -> tuple[NDArray[np.float32], float]:
    """Return the micrograph with mean 0 and standard deviation 1 (float32 stays accurate), and its own deviation."""
    if micrograph.ndim != 2:
        raise InputError(f"micrograph: has {micrograph.ndim} axes; give one 2-D image")
    if min(micrograph.shape) < box:
        raise InputError(
            f"micrograph: is {micrograph.shape[0]} x {micrograph.shape[1]} px, smaller than the templates ({box} px); "
            "check the pixel sizes"
        )
    image = micrograph.astype(np.float32)
    mean, sd = float(image.mean(dtype=np.float64)), float(image.std(dtype=np.float64))
    if not np.isfinite(mean) or not np.isfinite(sd):
        raise InputError("micrograph: holds NaN or infinite pixels; mend or leave out that micrograph")
    if sd == 0:
        raise InputError("micrograph: is constant; leave out that micrograph")
    image -= np.float32(mean)
    image /= np.float32(sd)
    return image, sd


def _match_tile(
    image: NDArray[np.float32],
    tiling: Tiling,
    start: tuple[int, int],
    spectra: Sequence[NDArray[np.complex64]],
    first: int,
    best: NDArray[np.float32],
    which: NDArray[np.integer],
    inverse: Inverse,
) -> None:
    """Correlate one tile with a block of templates and fold the results into ``best`` and ``which`` while in cache."""
    y, x = start
    ny, nx = tiling.tile
    patch = image[y : y + ny, x : x + nx]
    tile = scipy.fft.rfft2(patch, s=tiling.tile, workers=1)
    rows = min(tiling.step[0], best.shape[0] - y)
    columns = min(tiling.step[1], best.shape[1] - x)
    product = np.empty_like(tile)
    for offset, spectrum in enumerate(spectra):
        np.multiply(tile, spectrum, out=product)
        scores = inverse(product, nx, rows)
        _fold(scores, which.dtype.type(first + offset), best, which, y, x, columns)


@numba.njit(cache=True, nogil=True)
def _fold(
    scores: NDArray[np.float32],
    number: np.integer,
    best: NDArray[np.float32],
    which: NDArray[np.integer],
    y: int,
    x: int,
    columns: int,
) -> None:
    """Keep the larger score and its template in the map at ``(y, x)``; the first of equals stays.

    Rows are taken as contiguous views of the whole map: an offset inside the loop, or a map that was sliced before it
    came here, would keep the loop from being vectorised.
    """
    for i in range(scores.shape[0]):
        row, best_row, which_row = scores[i], best[y + i][x : x + columns], which[y + i][x : x + columns]
        for j in range(best_row.size):
            better = row[j] > best_row[j]
            best_row[j] = row[j] if better else best_row[j]
            which_row[j] = number if better else which_row[j]


def _local_sd(
    image: NDArray[np.float32], mask: NDArray[np.float32], tiling: Tiling, pool: ThreadPoolExecutor
) -> NDArray[np.float32]:
    """Return the standard deviation under the mask around every valid pixel; infinite where the patch is constant."""
    box = mask.shape[0]
    valid = (image.shape[0] - box + 1, image.shape[1] - box + 1)
    sd = np.empty(valid, dtype=np.float32)
    total = float(mask.sum(dtype=np.float64))
    spectrum = np.conj(scipy.fft.rfft2(mask.astype(np.float64), s=tiling.tile, workers=1)) / total

    def work(start: tuple[int, int]) -> None:
        y, x = start
        patch = image[y : y + tiling.tile[0], x : x + tiling.tile[1]].astype(np.float64)
        both = scipy.fft.rfft2(np.stack([patch, patch**2]), s=tiling.tile, workers=1) * spectrum
        mean, square = scipy.fft.irfft2(both, s=tiling.tile, workers=1)
        rows, columns = min(tiling.step[0], valid[0] - y), min(tiling.step[1], valid[1] - x)
        variance = square[:rows, :columns] - mean[:rows, :columns] ** 2
        # Double precision leaves about 1e-13 of the tile's largest square where the patch is constant.
        floor = 1e-11 * max(float(np.max(patch**2)), 1.0)
        sd[y : y + rows, x : x + columns] = np.where(variance > floor, np.sqrt(np.maximum(variance, floor)), np.inf)

    list(pool.map(work, tiling.starts))
    return sd


def _allowed_cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1
