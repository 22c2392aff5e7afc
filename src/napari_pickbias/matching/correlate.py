"""The matching loop, in two dimensions and in three: tiles, blocks of templates, and the running maximum."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from napari_pickbias.errors import InputError
from napari_pickbias.matching.deviation import as_stack, tile_deviation
from napari_pickbias.matching.engine import Inverse, padded_buffer
from napari_pickbias.matching.kernels import divide, fold_pair, merge, multiply
from napari_pickbias.matching.prepared import PreparedBank

Real = NDArray[np.floating | np.integer]
Maps = tuple[NDArray[np.float32], NDArray[np.integer]]

OUTSIDE = np.float32(-np.inf)
"""Score where the box leaves the micrograph."""


@dataclass(frozen=True)
class Sheet:
    """A micrograph or tomogram as tiles are cut from it.

    ``(image - offset) * factor`` is correlated, ``(reference - offset) * factor`` gives the local deviation; scores are
    ``scale`` times the correlation. Scores of the first valid pixel come to ``corner`` of a map of shape ``shape``.
    """

    image: Real
    reference: Real
    offset: np.float32
    factor: np.float32
    scale: NDArray[np.float32]
    corner: tuple[int, ...]
    shape: tuple[int, ...]

    def patch(self, image: Real, start: tuple[int, ...], tile: tuple[int, ...]) -> NDArray[np.float32]:
        """Return the part of a tile that lies on the image."""
        part = image[tuple(slice(begin, begin + side) for begin, side in zip(start, tile, strict=True))]
        return ((part - self.offset) * self.factor).astype(np.float32, copy=False)


def moments(image: Real, name: str, pool: Executor) -> tuple[float, float]:
    """Return mean and standard deviation, each block of rows in double precision while it is in cache.

    Raises
    ------
    InputError
        When the image is not finite or constant; ``name`` says what it is.
    """

    def block(first: int) -> tuple[int, float, float]:
        values = image[first : first + rows].astype(np.float64)
        with np.errstate(invalid="ignore"):  # infinite pixels are told of below
            mean = float(values.mean())
            values -= mean
        values = values.ravel()
        return values.size, mean, float(np.vdot(values, values))

    rows = max(1, 2**17 // math.prod(image.shape[1:]))
    parts = np.array(list(pool.map(block, range(0, image.shape[0], rows))))
    if not np.isfinite(parts).all():
        raise InputError(f"{name}: holds NaN or infinite pixels; mend or leave out that {name}")
    mean = float(np.average(parts[:, 1], weights=parts[:, 0]))
    sd = float(np.sqrt((parts[:, 2] + parts[:, 0] * (parts[:, 1] - mean) ** 2).sum() / parts[:, 0].sum()))
    if sd <= 1e-12 * abs(mean):
        raise InputError(f"{name}: is constant; leave out that {name}")
    return mean, sd


@dataclass
class Scratch(threading.local):
    """A buffer for each thread."""

    tile: tuple[int, ...]
    product: tuple[NDArray[np.complex64], NDArray[np.float32]] = field(init=False)

    def __post_init__(self) -> None:
        self.product = padded_buffer(self.tile)


def correlate(
    sheet: Sheet,
    bank: PreparedBank,
    maps: Maps,
    inverse: Inverse,
    pool: Executor,
    workers: int,
    progress: Callable[[int, int], None] | None,
) -> None:
    """Fold the correlations with all templates into the maps of best score (not yet locally normalised) and number.

    Parameters
    ----------
    sheet : Sheet
    bank : PreparedBank
        For images of the sheet's shape.
    maps : (ndarray float32, ndarray of a signed integer type), both of shape ``sheet.shape``
        Best score and template so far: ``-inf`` and -1.
    inverse : callable
        From :func:`napari_pickbias.matching.engine.choose_inverse`.
    pool : Executor
        Of threads.
    workers : int
        Their number. The result does not depend on it.
    progress : callable or None
        Called with the number of templates done and of all templates.
    """
    count, starts, tile = bank.direct, bank.tiling.starts, bank.tiling.tile
    scratch = Scratch(tile)
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
        ) -> Maps | None:
            number, part = task
            spectrum = tile_spectrum(sheet, tile, starts[number])
            corner, shape = place_of(sheet, bank, starts[number])
            own = None if part.start == 0 else (np.full(shape, OUTSIDE), np.full(shape, -1, maps[1].dtype))
            into, corner = (maps, corner) if own is None else (own, (0,) * len(shape))
            pairs = range(first + part.start, first + part.start + len(spectra[part]))
            numbers = [(bank.number(2 * pair), bank.number(2 * pair + 1)) for pair in pairs]
            _fold_block(spectrum, spectra[part], numbers, sheet.scale, into, corner, shape, inverse, scratch.product)
            return own

        for (number, _), own in zip(tasks, pool.map(work, tasks), strict=True):
            if own is not None:
                corner, _ = place_of(sheet, bank, starts[number])
                best, which = maps
                merge(as_stack(best), as_stack(which), as_stack(own[0]), as_stack(own[1]), in_stack(corner, 0))
        if progress is not None:
            progress(min(2 * (first + len(spectra)), count), len(bank.bank))


def normalise_locally(
    sheet: Sheet, bank: PreparedBank, best: NDArray[np.float32], inverse: Inverse, pool: Executor
) -> None:
    """Divide the scores by the standard deviation of ``sheet.reference`` under the mask around every pixel."""

    def work(start: tuple[int, ...]) -> None:
        corner, shape = place_of(sheet, bank, start)
        patch = sheet.patch(sheet.reference, start, bank.tiling.tile)
        divide(as_stack(best), as_stack(tile_deviation(patch, bank.mask, shape, inverse)), in_stack(corner, 0))

    list(pool.map(work, bank.tiling.starts))


def in_stack(values: tuple[int, ...], first: int) -> tuple[int, int, int]:
    """Return a position (``first`` 0) or shape (1) of an image as that of a stack of one plane."""
    z, y, x = (first, *values) if len(values) == 2 else values
    return z, y, x


def place_of(sheet: Sheet, bank: PreparedBank, start: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return where a tile's scores begin in the map, and how many there are along each axis."""
    box = bank.bank.box_px
    corner = tuple(a + b for a, b in zip(start, sheet.corner, strict=True))
    sides = zip(bank.tiling.step, sheet.image.shape, start, strict=True)
    return corner, tuple(min(step, side - box + 1 - begin) for step, side, begin in sides)


def tile_spectrum(sheet: Sheet, tile: tuple[int, ...], start: tuple[int, ...]) -> NDArray[np.complex64]:
    """Return the spectrum of a tile, scaled so that the inverse transform needs no factor."""
    spectrum: NDArray[np.complex64] = scipy.fft.fftn(sheet.patch(sheet.image, start, tile), s=tile, workers=1)
    spectrum *= np.float32(1 / math.prod(tile))
    return spectrum


def own_rows(
    values: NDArray[np.complex64], product: NDArray[np.complex64], wide: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return an inverse transform as whole rows of memory: a strided array would keep loops from being vectorised."""
    if np.may_share_memory(values, product):
        return wide
    return as_stack(np.ascontiguousarray(values).view(np.float32))


def _fold_block(
    tile: NDArray[np.complex64],
    spectra: list[NDArray[np.complex64]],
    pairs: list[tuple[int, int]],
    scale: NDArray[np.float32],
    maps: Maps,
    corner: tuple[int, ...],
    shape: tuple[int, ...],
    inverse: Inverse,
    scratch: tuple[NDArray[np.complex64], NDArray[np.float32]],
) -> None:
    """Correlate one tile with some pairs of templates and fold the results into the maps while in cache."""
    best, which = as_stack(maps[0]), as_stack(maps[1])
    number_type = which.dtype.type
    product, wide = scratch[0], as_stack(scratch[1])
    factor = as_stack(tile.view(np.float32))
    for (first, second), spectrum in zip(pairs, spectra, strict=True):
        multiply(factor, as_stack(spectrum.view(np.float32)), wide)
        rows = own_rows(inverse(product, shape), product, wide)
        numbers = (number_type(first), number_type(second))
        scales = (scale[first], scale[second])
        fold_pair(rows, numbers, scales, best, which, in_stack(corner, 0), in_stack(shape, 1))
