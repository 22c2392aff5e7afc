"""Particles as an array that napari can slice without loading them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from napari_pickbias.errors import InputError
from napari_pickbias.records import Images

MOST_BYTES = 1 << 31
"""Most that one look may load: napari's 3-D view asks for the whole stack."""


class ParticleStack:
    """Images of one box size as a read-only ``(n, box, box)`` float32 array whose pixels stay on disk.

    Parameters
    ----------
    images : Images
        Where the pixels come from.
    rows : ndarray of int, shape (n,)
        Which of them, all of one box size.
    box_px : int
        Side of each image.
    """

    dtype = np.dtype(np.float32)
    ndim = 3

    def __init__(self, images: Images, rows: NDArray[np.int64], box_px: int) -> None:
        self._images = images
        self._rows = rows
        self.shape = (len(rows), box_px, box_px)

    @property
    def size(self) -> int:
        """Number of values."""
        return int(np.prod(self.shape, dtype=np.int64))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> NDArray[np.float32]:
        """Return what NumPy would; only the images that ``key`` selects are read.

        Raises
        ------
        InputError
            When an image cannot be read, or more than ``MOST_BYTES`` are asked for at once.
        """
        keys = key if isinstance(key, tuple) else (key,)
        if any(k is None for k in keys):
            raise IndexError("a particle stack takes no new axes")
        if Ellipsis in [k if k is Ellipsis else None for k in keys]:
            at = next(i for i, k in enumerate(keys) if k is Ellipsis)
            keys = keys[:at] + (slice(None),) * (4 - len(keys)) + keys[at + 1 :]
        which, *within = keys or (slice(None),)
        rows = self._rows[which]
        if np.ndim(rows) == 0:
            return self._images.read(np.array([rows], np.int64))[0][tuple(within)]
        needed = len(rows) * self.shape[1] * self.shape[2] * 4
        if needed > MOST_BYTES:
            raise InputError(
                f"3-D view: needs the whole stack ({needed / 2**30:.0f} GB) in memory; go back to the 2-D view, which "
                "reads one particle at a time"
            )
        if not len(rows):
            return np.zeros((0, *self.shape[1:]), np.float32)[(slice(None), *within)]
        return self._images.read(rows)[(slice(None), *within)]

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError("the pixels are on disk: an array of them is always a copy")
        return self[:].astype(dtype or self.dtype, copy=False)
