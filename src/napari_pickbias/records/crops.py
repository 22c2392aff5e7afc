"""Images cut out of micrographs around their picks, read when asked for."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_pickbias.errors import InputError
from napari_pickbias.records.mrc import open_data

_OPEN_MICROGRAPHS = 8


class MicrographCrops:
    """Square boxes around picks; outside the micrograph its mean stands. See :class:`napari_pickbias.records.Images`.

    Each box has its own mean taken away and is divided by the micrograph's standard deviation, so that boxes of
    micrographs with thick and thin ice can be averaged.

    Parameters
    ----------
    paths : sequence of (Path or None)
        The micrographs.
    micrograph : ndarray of int, shape (n,)
        Index into ``paths``.
    coordinates_px : ndarray, shape (n, 2)
        x, y of the centres in pixels of the micrograph files.
    box_px : int
    step : int, default 1
        Take every so many-th pixel: for thumbnails.

    Raises
    ------
    InputError
        From :meth:`read`, when a micrograph is not there or cannot be read.
    """

    def __init__(
        self,
        paths: Sequence[Path | None],
        micrograph: NDArray[np.int64],
        coordinates_px: NDArray[np.float64],
        box_px: int,
        step: int = 1,
    ) -> None:
        self.paths, self.micrograph, self.coordinates_px = tuple(paths), micrograph, coordinates_px
        self.box_px, self.step = box_px, step
        self._open: OrderedDict[int, tuple[NDArray[Any], float, float]] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def box_sizes(self) -> NDArray[np.int64]:
        """``(n,)`` side of each image, px."""
        return np.full(len(self), -(-self.box_px // self.step), np.int64)

    def __len__(self) -> int:
        return len(self.micrograph)

    def read(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the images of ``rows`` as ``(len(rows), box, box)`` float32, in the order asked for; thread-safe."""
        side = -(-self.box_px // self.step)
        out = np.zeros((len(rows), side, side), np.float32)
        for place in np.argsort(self.micrograph[rows], kind="stable").tolist():
            row = int(rows[place])
            pixels, mean, spread = self._micrograph(int(self.micrograph[row]), row)
            x, y = np.rint(self.coordinates_px[row]).astype(int) - self.box_px // 2
            crop = _window(pixels, y, x, self.box_px, self.step, mean)
            out[place] = (crop - crop.mean()) / spread
        return out

    def _micrograph(self, index: int, row: int) -> tuple[NDArray[Any], float, float]:
        with self._lock:
            found = self._open.get(index)
            if found is not None:
                self._open.move_to_end(index)
                return found
        path = self.paths[index]
        if path is None:
            raise InputError(f"row {row + 1}: its micrograph is not there; open the file within its project's folder")
        pixels = open_data(path)
        if pixels.ndim == 3 and len(pixels) == 1:
            pixels = pixels[0]
        if pixels.ndim != 2:
            raise InputError(
                f"{path}: holds {len(pixels)} images, not one micrograph; align and average the movie first"
            )
        sample = np.asarray(pixels[::7, ::7], np.float32)  # thousands of pixels of any micrograph
        sample = sample[np.isfinite(sample)]
        mean, spread = (float(sample.mean()), float(sample.std())) if sample.size else (0.0, 1.0)
        with self._lock:
            self._open[index] = (pixels, mean, spread or 1.0)
            while len(self._open) > _OPEN_MICROGRAPHS:
                self._open.popitem(last=False)
            return self._open[index]


def _window(pixels: NDArray[Any], y: int, x: int, box: int, step: int, fill: float) -> NDArray[np.float32]:
    """Return ``box`` x ``box`` pixels from ``y``, ``x`` on, every ``step``-th; ``fill`` stands where there are none."""
    height, width = pixels.shape
    ys, xs = np.arange(y, y + box, step), np.arange(x, x + box, step)
    inside_y, inside_x = (ys >= 0) & (ys < height), (xs >= 0) & (xs < width)
    out = np.full((len(ys), len(xs)), fill, np.float32)
    if inside_y.any() and inside_x.any():
        rows, columns = ys[inside_y], xs[inside_x]
        part = pixels[rows[0] : rows[-1] + 1 : step, columns[0] : columns[-1] + 1 : step]
        out[np.ix_(inside_y, inside_x)] = np.nan_to_num(np.asarray(part, np.float32), nan=fill)
    return out
