"""A bank with its spectra, for many micrographs of one shape."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from napari_pickbias.matching.deviation import MaskSpectrum, mask_spectrum
from napari_pickbias.matching.engine import pair_spectrum
from napari_pickbias.matching.tiles import Tiling, plan_tiles

BLOCK_BYTES = {2: 64 << 20, 3: 512 << 20}
"""Template spectra in work at once, by number of dimensions; a tile is transformed anew for each block of them."""


class Templates(Protocol):
    """What is matched: a TemplateBank, or a VolumeBank in three dimensions."""

    @property
    def mask(self) -> NDArray[np.float32]:
        """Weights of the pixels that count, shared by all templates."""
        ...

    @property
    def box_px(self) -> int:
        """Side of the templates."""
        ...

    def __len__(self) -> int: ...

    def template(self, number: int) -> NDArray[np.float32]:
        """Return a template: sum 0, sum of squares 1 under the mask."""
        ...


@dataclass(frozen=True)
class PreparedBank:
    """Templates, the tiles of micrographs of one shape, and the templates' spectra on those tiles.

    Attributes
    ----------
    bank : Templates
    shape : tuple of int
        Of the micrographs or tomograms.
    border : {"exclude", "wrap"}
        See :func:`napari_pickbias.matching.score_map`.
    tiling : Tiling
    mask : MaskSpectrum
    spectra : tuple of ndarray
        Of the first pairs of templates, as many as memory was allowed for; others are made when they are needed.
    """

    bank: Templates
    shape: tuple[int, ...]
    border: Literal["exclude", "wrap"]
    tiling: Tiling
    mask: MaskSpectrum
    spectra: tuple[NDArray[np.complex64], ...]

    @property
    def block(self) -> int:
        """Number of pairs whose spectra are in work at once."""
        return max(1, BLOCK_BYTES[len(self.shape)] // (8 * math.prod(self.tiling.tile)))

    def blocks(self, pool: Executor) -> Iterator[tuple[int, list[NDArray[np.complex64]]]]:
        """Yield the number of the first pair and the spectra of every block of pairs."""
        pairs = (len(self.bank) + 1) // 2
        for first in range(0, pairs, self.block):
            last = min(first + self.block, pairs)
            known = list(self.spectra[first:last])
            yield first, known + list(pool.map(self.pair, range(first + len(known), last)))

    def pair(self, number: int) -> NDArray[np.complex64]:
        """Return the spectrum of templates ``2 number`` and ``2 number + 1``; the last of an odd bank stands twice."""
        other = min(2 * number + 1, len(self.bank) - 1)
        return pair_spectrum(self.bank.template(2 * number), self.bank.template(other), self.tiling.tile)


def prepare_bank(
    bank: Templates,
    shape: tuple[int, ...],
    *,
    border: Literal["exclude", "wrap"] = "exclude",
    threads: int | None = None,
    memory_mb: float = 1024,
) -> PreparedBank:
    """Make the spectra of a bank once for all micrographs of one shape.

    Worth it where micrographs are small, as at a low-pass: there a template's own spectrum costs as much as its
    correlation. :func:`napari_pickbias.matching.score_map` takes the result in the bank's place.

    Parameters
    ----------
    bank : Templates
    shape : tuple of int
        Of the micrographs or tomograms.
    border : {"exclude", "wrap"}
        As it will be given to ``score_map``.
    threads : int, optional
        Default: all cores this process may use.
    memory_mb : float
        Spectra beyond this are made anew for every micrograph.

    Raises
    ------
    ValueError
        When the templates are larger than the micrographs.
    """
    box = bank.box_px
    padded = tuple(side + box - 1 for side in shape) if border == "wrap" else shape
    tiling = plan_tiles(padded, box)
    bare = PreparedBank(bank, shape, border, tiling, mask_spectrum(bank.mask, tiling.tile), ())
    count = min(int(memory_mb * 2**20) // (8 * math.prod(tiling.tile)), (len(bank) + 1) // 2)
    if count == 0:
        return bare
    with ThreadPoolExecutor(threads or allowed_cores()) as pool:
        spectra = tuple(pool.map(bare.pair, range(count)))
    return PreparedBank(bank, shape, border, tiling, bare.mask, spectra)


def allowed_cores() -> int:
    """Return the number of cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1
