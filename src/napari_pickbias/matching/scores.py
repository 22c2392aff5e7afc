"""The score map: the best template at every pixel of a micrograph, in standard deviations of the noise."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from napari_pickbias.errors import InputError
from napari_pickbias.matching.bank import TemplateBank
from napari_pickbias.matching.deviation import tile_deviation
from napari_pickbias.matching.engine import EngineName, Inverse, choose_inverse, padded_buffer
from napari_pickbias.matching.kernels import divide, fold_pair, merge, multiply
from napari_pickbias.matching.prepared import PreparedBank, allowed_cores, prepare_bank
from napari_pickbias.matching.whitening import checked_power, whitened

Real = NDArray[np.floating | np.integer]

OUTSIDE = np.float32(-np.inf)
"""Score where the box leaves the micrograph."""
TILE_BYTES = 256 << 20
"""Tiles' spectra are kept from one block of templates to the next if all of them take no more than this."""


def score_map(
    micrograph: Real,
    bank: TemplateBank | PreparedBank,
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
    bank : TemplateBank or PreparedBank
        Templates, at the micrograph's pixel size. From :func:`prepare_bank` where many micrographs have one shape.
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
    workers = threads or allowed_cores()
    templates = bank.bank if isinstance(bank, PreparedBank) else bank
    if micrograph.ndim != 2:
        raise InputError(f"micrograph: has {micrograph.ndim} axes; give one 2-D image")
    shape = (micrograph.shape[0], micrograph.shape[1])
    if min(shape) < templates.box_px:
        raise InputError(
            f"micrograph: is {shape[0]} x {shape[1]} px, smaller than the templates ({templates.box_px} px); "
            "check the pixel sizes"
        )
    if not isinstance(bank, PreparedBank):
        bank = prepare_bank(bank, shape, border=border, threads=workers, memory_mb=0)
    elif (bank.shape, bank.border) != (shape, border):
        raise ValueError(f"`bank` was prepared for {bank.shape} and border {bank.border!r}, not {shape} and {border!r}")
    with ThreadPoolExecutor(workers) as pool:
        sheet = _sheet(micrograph, templates, noise_sd, whiten, normalise, border, pool, workers)
        best, which = _correlate(sheet, bank, inverse, pool, workers, progress)
        if normalise == "local":
            list(pool.map(partial(_normalise_tile, sheet, bank, inverse, best), bank.tiling.starts))
    return best, which.astype(np.int32)


@dataclass(frozen=True)
class _Sheet:
    """A micrograph as tiles are cut from it.

    ``(image - offset) * factor`` is correlated, ``(reference - offset) * factor`` gives the local deviation; scores are
    ``scale`` times the correlation. Scores of the first valid pixel come to ``corner`` of a map of shape ``shape``.
    """

    image: Real
    reference: Real
    offset: np.float32
    factor: np.float32
    scale: NDArray[np.float32]
    corner: tuple[int, int]
    shape: tuple[int, int]

    def patch(self, image: Real, start: tuple[int, int], tile: tuple[int, int]) -> NDArray[np.float32]:
        """Return the part of a tile that lies on the image."""
        part = image[start[0] : start[0] + tile[0], start[1] : start[1] + tile[1]]
        return ((part - self.offset) * self.factor).astype(np.float32, copy=False)


def _sheet(
    micrograph: Real,
    bank: TemplateBank,
    noise_sd: NDArray[np.floating] | None,
    whiten: NDArray[np.floating] | None,
    normalise: str,
    border: str,
    pool: Executor,
    workers: int,
) -> _Sheet:
    """Bring the micrograph to mean 0 and deviation 1, where single precision is at its best, and settle the units."""
    mean, sd = _moments(micrograph, pool)
    sds = np.ones(len(bank)) if noise_sd is None else np.asarray(noise_sd, np.float64)
    if whiten is None:
        image, reference = micrograph, micrograph
        offset, factor = mean, 1 / sd
        unit = sd if normalise == "none" else 1.0
    else:
        if noise_sd is not None:
            raise ValueError("`noise_sd` and `whiten` exclude each other")
        power = checked_power(whiten)
        level = ((micrograph - np.float32(mean)) * np.float32(1 / sd)).astype(np.float32)
        reference, image = whitened(level, power / sd**2, threads=workers)
        offset, factor = 0.0, 1.0
        sds = bank.noise_sd(1 / power) * sd
        unit = 1 / float(reference.std(dtype=np.float64)) if normalise == "global" else 1.0
    corner = (bank.box_px // 2, bank.box_px // 2)
    if border == "wrap":
        before, after = bank.box_px // 2, bank.box_px - 1 - bank.box_px // 2
        same = reference is image
        image = np.pad(image, (before, after), mode="wrap")
        reference, corner = image if same else np.pad(reference, (before, after), mode="wrap"), (0, 0)
    shape = (micrograph.shape[0], micrograph.shape[1])
    return _Sheet(
        image, reference, np.float32(offset), np.float32(factor), (unit / sds).astype(np.float32), corner, shape
    )


def _moments(micrograph: Real, pool: Executor) -> tuple[float, float]:
    """Return mean and standard deviation, each block of rows in double precision while it is in cache."""

    def block(first: int) -> tuple[int, float, float]:
        values = micrograph[first : first + rows].astype(np.float64)
        mean = float(values.mean())
        values -= mean
        return values.size, mean, float(np.vdot(values, values))

    rows = max(1, 2**17 // micrograph.shape[1])
    parts = np.array(list(pool.map(block, range(0, micrograph.shape[0], rows))))
    if not np.isfinite(parts).all():
        raise InputError("micrograph: holds NaN or infinite pixels; mend or leave out that micrograph")
    mean = float(np.average(parts[:, 1], weights=parts[:, 0]))
    sd = float(np.sqrt((parts[:, 2] + parts[:, 0] * (parts[:, 1] - mean) ** 2).sum() / parts[:, 0].sum()))
    if sd <= 1e-12 * abs(mean):
        raise InputError("micrograph: is constant; leave out that micrograph")
    return mean, sd


@dataclass
class _Scratch(threading.local):
    """A buffer for each thread."""

    tile: tuple[int, int]
    product: tuple[NDArray[np.complex64], NDArray[np.float32]] = field(init=False)

    def __post_init__(self) -> None:
        self.product = padded_buffer(self.tile)


def _correlate(
    sheet: _Sheet,
    bank: PreparedBank,
    inverse: Inverse,
    pool: Executor,
    workers: int,
    progress: Callable[[int, int], None] | None,
) -> tuple[NDArray[np.float32], NDArray[np.integer]]:
    """Return the best score before local normalisation, and its template, at every pixel."""
    count, starts, tile = len(bank.bank), bank.tiling.starts, bank.tiling.tile
    best = np.full(sheet.shape, OUTSIDE, np.float32)
    # half the traffic where the numbers fit
    which = np.full(sheet.shape, -1, np.int16 if count <= np.iinfo(np.int16).max else np.int32)
    scratch = _Scratch(tile)
    kept: list[NDArray[np.complex64]] | None = None
    if len(starts) * tile[0] * tile[1] * 8 <= TILE_BYTES:
        kept = list(pool.map(partial(_tile_spectrum, sheet, tile), starts))
    # fewer tiles than threads: each tile's templates are shared out, into maps of their own
    shares = -(-workers // len(starts))
    for first, spectra in bank.blocks(pool):
        share = -(-len(spectra) // shares)
        tasks = [
            (number, slice(begin, begin + share))
            for begin in range(0, len(spectra), share)
            for number in range(len(starts))
        ]

        def work(
            task: tuple[int, slice], first: int = first, spectra: list[NDArray[np.complex64]] = spectra
        ) -> tuple[NDArray[np.float32], NDArray[np.integer]] | None:
            number, part = task
            spectrum = _tile_spectrum(sheet, tile, starts[number]) if kept is None else kept[number]
            corner, shape = _place(sheet, bank, starts[number])
            maps = (best, which) if part.start == 0 else (np.full(shape, OUTSIDE), np.full(shape, -1, which.dtype))
            corner = corner if part.start == 0 else (0, 0)
            pairs = range(first + part.start, first + part.start + len(spectra[part]))
            _fold_block(spectrum, spectra[part], pairs, sheet.scale, maps, corner, shape, inverse, scratch.product)
            return None if part.start == 0 else maps

        for (number, _), maps in zip(tasks, pool.map(work, tasks), strict=True):
            if maps is not None:
                (y, x), (height, width) = _place(sheet, bank, starts[number])
                inside = (slice(y, y + height), slice(x, x + width))
                merge(best[inside], which[inside], *maps)
        if progress is not None:
            progress(min(2 * (first + len(spectra)), count), count)
    return best, which


def _place(sheet: _Sheet, bank: PreparedBank, start: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return where a tile's scores begin in the map, and how many rows and columns of them there are."""
    step, box = bank.tiling.step, bank.bank.box_px
    shape = [min(step[axis], sheet.image.shape[axis] - box + 1 - start[axis]) for axis in (0, 1)]
    return (start[0] + sheet.corner[0], start[1] + sheet.corner[1]), (shape[0], shape[1])


def _tile_spectrum(sheet: _Sheet, tile: tuple[int, int], start: tuple[int, int]) -> NDArray[np.complex64]:
    spectrum: NDArray[np.complex64] = scipy.fft.fft2(sheet.patch(sheet.image, start, tile), s=tile, workers=1)
    spectrum *= np.float32(1 / (tile[0] * tile[1]))
    return spectrum


def _fold_block(
    tile: NDArray[np.complex64],
    spectra: list[NDArray[np.complex64]],
    pairs: range,
    scale: NDArray[np.float32],
    maps: tuple[NDArray[np.float32], NDArray[np.integer]],
    corner: tuple[int, int],
    shape: tuple[int, int],
    inverse: Inverse,
    scratch: tuple[NDArray[np.complex64], NDArray[np.float32]],
) -> None:
    """Correlate one tile with some pairs of templates and fold the results into the maps while in cache."""
    number_type = maps[1].dtype.type
    product, wide = scratch
    for pair, spectrum in zip(pairs, spectra, strict=True):
        first, second = 2 * pair, min(2 * pair + 1, len(scale) - 1)
        multiply(tile.view(np.float32), spectrum.view(np.float32), wide)
        values = inverse(product, shape[0])
        # a strided array would keep the next loop from being vectorised, so take the scratch's own rows
        rows = wide[: shape[0]] if np.may_share_memory(values, product) else values.view(np.float32)
        numbers = (number_type(first), number_type(second))
        fold_pair(rows, numbers, (scale[first], scale[second]), *maps, corner, shape)


def _normalise_tile(
    sheet: _Sheet, bank: PreparedBank, inverse: Inverse, best: NDArray[np.float32], start: tuple[int, int]
) -> None:
    """Divide a tile's scores by the local standard deviation of the micrograph."""
    corner, shape = _place(sheet, bank, start)
    patch = sheet.patch(sheet.reference, start, bank.tiling.tile)
    divide(best, tile_deviation(patch, bank.mask, shape, inverse), corner)
