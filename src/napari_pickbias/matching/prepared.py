"""A bank with its spectra, for many micrographs of one shape."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from napari_pickbias.matching.bank import TemplateBank
from napari_pickbias.matching.basis import RotationBasis, RotationGroup, shared_basis
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
    basis : RotationBasis or None
        Where rotations of a view share a basis, only the templates that are left are matched in pairs.
    """

    bank: Templates
    shape: tuple[int, ...]
    border: Literal["exclude", "wrap"]
    tiling: Tiling
    mask: MaskSpectrum
    spectra: tuple[NDArray[np.complex64], ...]
    basis: RotationBasis | None = None

    @property
    def direct(self) -> int:
        """Number of templates that are matched one by one."""
        return len(self.bank) if self.basis is None else len(self.basis.direct)

    def number(self, place: int) -> int:
        """Return the number of a template that is matched directly: the last where there are no more."""
        place = min(place, self.direct - 1)
        return place if self.basis is None else int(self.basis.direct[place])

    @property
    def block(self) -> int:
        """Number of pairs whose spectra are in work at once."""
        return max(1, BLOCK_BYTES[len(self.shape)] // (8 * math.prod(self.tiling.tile)))

    def blocks(self, pool: Executor) -> Iterator[tuple[int, list[NDArray[np.complex64]]]]:
        """Yield the number of the first pair and the spectra of every block of pairs."""
        pairs = (self.direct + 1) // 2
        for first in range(0, pairs, self.block):
            last = min(first + self.block, pairs)
            known = list(self.spectra[first:last])
            yield first, known + list(pool.map(self.pair, range(first + len(known), last)))

    def pair(self, number: int) -> NDArray[np.complex64]:
        """Return the spectrum of two direct templates, ``2 number`` and the next; the last of an odd bank twice."""
        first, second = (self.bank.template(self.number(2 * number + more)) for more in (0, 1))
        return pair_spectrum(first, second, self.tiling.tile)

    def group_blocks(self, pool: Executor) -> Iterator[list[tuple[RotationGroup, list[NDArray[np.complex64]]]]]:
        """Yield the groups whose components are in work at once, with the spectra of pairs of components."""
        groups = () if self.basis is None else self.basis.groups
        first = 0
        while first < len(groups):
            last, pairs = first, 0
            while last < len(groups) and (last == first or pairs + (groups[last].rank + 1) // 2 <= self.block):
                pairs += (groups[last].rank + 1) // 2
                last += 1
            part = groups[first:last]
            tasks = [(group, k) for group in part for k in range(0, group.rank, 2)]
            spectra = iter(list(pool.map(self._component_pair, tasks)))
            yield [(group, [next(spectra) for _ in range(0, group.rank, 2)]) for group in part]
            first = last

    def _component_pair(self, task: tuple[RotationGroup, int]) -> NDArray[np.complex64]:
        group, k = task
        second = group.components[k + 1] if k + 1 < group.rank else np.zeros_like(group.components[k])
        return pair_spectrum(group.components[k], second, self.tiling.tile)


def prepare_bank(
    bank: Templates,
    shape: tuple[int, ...],
    *,
    border: Literal["exclude", "wrap"] = "exclude",
    threads: int | None = None,
    memory_mb: float = 1024,
    rotation_basis: float = 0.0,
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
        Spectra beyond this are made anew for every micrograph; so are those of shared bases.
    rotation_basis : float
        Largest norm of what a basis shared by a view's rotations may leave out of a template; 0 for no such basis. See
        :mod:`napari_pickbias.matching.basis`.

    Raises
    ------
    InputError
        When the error is out of range.
    ValueError
        When the templates are larger than the micrographs, or a basis is asked for in three dimensions.
    """
    box = bank.box_px
    padded = tuple(side + box - 1 for side in shape) if border == "wrap" else shape
    tiling = plan_tiles(padded, box)
    basis = None
    if rotation_basis:
        if not isinstance(bank, TemplateBank):
            raise ValueError("`rotation_basis` is of templates in two dimensions")
        basis = shared_basis(bank, rotation_basis)
    bare = PreparedBank(bank, shape, border, tiling, mask_spectrum(bank.mask, tiling.tile), (), basis)
    count = min(int(memory_mb * 2**20) // (8 * math.prod(tiling.tile)), (bare.direct + 1) // 2)
    if count == 0:
        return bare
    with ThreadPoolExecutor(threads or allowed_cores()) as pool:
        spectra = tuple(pool.map(bare.pair, range(count)))
    return replace(bare, spectra=spectra)


def allowed_cores() -> int:
    """Return the number of cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1
