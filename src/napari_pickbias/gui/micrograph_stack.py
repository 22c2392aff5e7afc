"""Micrographs of any number and size as one array that napari can slice: read when shown, binned, the next ahead."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from napari_pickbias.errors import InputError
from napari_pickbias.gui.preferences import preference
from napari_pickbias.imaging.fourier import apply_filter, band_filter
from napari_pickbias.records import open_data, read_header

MOST_SHOWN_PX = 2048
"""Longest side of a display copy: finer than any screen shows of a whole micrograph."""
_KEPT = 4
"""At least so many display copies are kept: those last shown and the next one."""
_MOST_KEPT = 300
_SAMPLE = 200_000
_EMPTY = -10.0
"""Fills what is no micrograph: black under the limits below."""
LIMITS = (-3.0, 3.0)
"""Contrast limits that suit every display copy."""


class MicrographStack:
    """Display copies of micrographs as a read-only ``(n, ny, nx)`` float32 array.

    Each is binned by a whole number, has median 0 and a (robust) standard deviation of 1, so that one contrast suits
    all, and is read when it is looked at; the one after it is read ahead in a thread. Micrographs that are smaller than
    the others, or not there, are padded. The Preferences say how much memory the copies may take.

    Parameters
    ----------
    paths : sequence of (Path or None)
    binning : int, optional
        By default the least that keeps the longest side below :data:`MOST_SHOWN_PX`.

    Raises
    ------
    InputError
        When not one of the micrographs is there, or a header is damaged.
    """

    dtype = np.dtype(np.float32)
    ndim = 3

    def __init__(self, paths: Sequence[Path | None], binning: int | None = None) -> None:
        self.paths = tuple(paths)
        shapes = {_shape(p) for p in _spread(self.paths)}
        if not shapes:
            raise InputError("micrographs: not one of the images is there; open the file within its project's folder")
        height, width = (max(s[axis] for s in shapes) for axis in (0, 1))
        if len(shapes) > 1:  # cameras turned between sessions: room for either
            height = width = max(height, width)
        self.binning = binning or max(1, -(-max(height, width) // MOST_SHOWN_PX))
        self.shape = (len(self.paths), -(-height // self.binning), -(-width // self.binning))
        self._lowpass_px = 0.0
        copy_mb = 4 * self.shape[1] * self.shape[2] / 2**20
        self.kept = int(np.clip(int(preference("runs", "memory_mb")) / max(copy_mb, 1e-3), _KEPT, _MOST_KEPT))
        self._cache: OrderedDict[int, NDArray[np.float32]] = OrderedDict()
        self._lock = threading.Lock()
        self._ahead = ThreadPoolExecutor(1, thread_name_prefix="micrographs")
        self._coming: dict[int, Future[NDArray[np.float32]]] = {}

    @property
    def size(self) -> int:
        """Number of values."""
        return int(np.prod(self.shape, dtype=np.int64))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> NDArray[np.float32]:
        """Return what NumPy would; only the micrographs that ``key`` selects are read."""
        keys = key if isinstance(key, tuple) else (key,)
        if any(k is Ellipsis for k in keys):
            at = next(i for i, k in enumerate(keys) if k is Ellipsis)
            keys = keys[:at] + (slice(None),) * (4 - len(keys)) + keys[at + 1 :]
        which, *within = keys or (slice(None),)
        rows = np.arange(len(self))[which]
        if np.ndim(rows) == 0:
            return self._one(int(rows))[tuple(within)]
        if len(rows) > 64:
            raise InputError("3-D view: needs all micrographs in memory; go back to the 2-D view")
        images = [self._one(int(row)) for row in rows]
        return (np.stack(images) if images else np.zeros((0, *self.shape[1:]), np.float32))[(slice(None), *within)]

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError("the pixels are on disk: an array of them is always a copy")
        return self[:].astype(dtype or self.dtype, copy=False)

    def set_lowpass(self, period_px: float) -> bool:
        """Show nothing finer than ``period_px`` pixels of the display copies (0: everything); tell whether that is new.

        Who shows the stack must draw it again.
        """
        with self._lock:
            if period_px == self._lowpass_px:
                return False
            self._lowpass_px = period_px
            self._cache.clear()
            self._coming.clear()
        return True

    def close(self) -> None:
        """Stop reading ahead."""
        self._ahead.shutdown(wait=False, cancel_futures=True)

    def _one(self, row: int) -> NDArray[np.float32]:
        with self._lock:
            filtered = self._lowpass_px
            coming = self._coming.pop(row, None)
            cached = self._cache.get(row)
            if cached is not None:
                self._cache.move_to_end(row)
        image = cached if cached is not None else coming.result() if coming is not None else self._load(row)
        with self._lock:
            if filtered == self._lowpass_px:
                self._keep(row, image)
            following = row + 1
            if following < len(self) and following not in self._cache and following not in self._coming:
                self._coming.clear()  # someone who jumps about wants none of the old ones
                try:
                    self._coming[following] = self._ahead.submit(self._load, following)
                except RuntimeError:  # closed
                    self._coming.clear()
        return image

    def _keep(self, row: int, image: NDArray[np.float32]) -> None:
        self._cache[row] = image
        while len(self._cache) > self.kept:
            self._cache.popitem(last=False)

    def _load(self, row: int) -> NDArray[np.float32]:
        path = self.paths[row]
        out = np.full(self.shape[1:], _EMPTY, np.float32)
        if path is None:
            return out
        image = binned(_pixels(path), self.binning)
        if self._lowpass_px > 2:  # finer than two pixels there is nothing
            image = _lowpassed(image, self._lowpass_px)
        shown = standardised(image)
        ny, nx = min(out.shape[0], shown.shape[0]), min(out.shape[1], shown.shape[1])
        out[:ny, :nx] = shown[:ny, :nx]
        return out


def binned(image: NDArray[Any], factor: int) -> NDArray[np.float32]:
    """Return means over ``factor`` x ``factor`` pixels; what is left over at the far edges stays out."""
    if factor == 1:
        return np.array(image, np.float32)
    ny, nx = (n // factor * factor for n in image.shape)
    # A sum of strided views: no copy of the whole in another type.
    total = np.zeros((ny // factor, nx // factor), np.float32)
    for dy in range(factor):
        for dx in range(factor):
            total += image[dy:ny:factor, dx:nx:factor]
    return total / factor**2


@lru_cache(maxsize=4)
def _filter(shape: tuple[int, int], period_px: float) -> NDArray[np.float32]:
    return band_filter(shape, 1.0, lowpass_angstrom=period_px, edge_px=8.0).astype(np.float32)


def _lowpassed(image: NDArray[np.float32], period_px: float) -> NDArray[np.float32]:
    filled = np.nan_to_num(image - np.nanmedian(image))
    return np.asarray(apply_filter(filled, _filter(image.shape, period_px)), np.float32)


def standardised(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return an image with median 0 and a standard deviation of 1, single hot pixels left out of account."""
    step = max(1, image.size // _SAMPLE)
    sample = image.ravel()[::step]
    sample = sample[np.isfinite(sample)]
    low, middle, high = np.percentile(sample, (15.87, 50, 84.13)) if sample.size else (0.0, 0.0, 0.0)
    spread = (high - low) / 2
    return np.nan_to_num((image - np.float32(middle)) / np.float32(spread if spread > 0 else 1.0))


def _pixels(path: Path) -> NDArray[Any]:
    data = open_data(path)
    while data.ndim > 2:  # one section, or the first frame of a movie
        data = data[0]
    return data


def _spread(paths: Sequence[Path | None]) -> list[Path]:
    """Return some of the paths: reading all headers of thousands of micrographs would take a while."""
    there = [p for p in paths if p is not None]
    return [there[i] for i in np.unique(np.linspace(0, len(there) - 1, min(16, len(there))).astype(int))]


def _shape(path: Path) -> tuple[int, int]:
    _, ny, nx = read_header(path).shape
    return ny, nx
