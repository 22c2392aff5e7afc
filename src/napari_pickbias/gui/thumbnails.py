"""Small grey pictures of picks or particles, made when they are shown. No Qt."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_pickbias.errors import InputError
from napari_pickbias.gui.micrograph_stack import binned
from napari_pickbias.records import Images, open_particles
from napari_pickbias.records.crops import MicrographCrops
from napari_pickbias.records.pick_tables import PickTable

SIDE = 96
"""Longest side of a thumbnail, px."""
_KEPT = 4000


class Thumbnails:
    """Grey pictures of single rows, the last few thousand of them kept.

    Parameters
    ----------
    images : Images
        Particle images, or crops of micrographs.
    side : int
        Pictures are binned to at most this many pixels.
    """

    def __init__(self, images: Images, side: int = SIDE) -> None:
        self.images, self.side = images, side
        self._cache: OrderedDict[int, NDArray[np.uint8]] = OrderedDict()

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, row: int) -> NDArray[np.uint8]:
        """Return the picture of a row, ``(s, s)``; plain grey where its image cannot be read."""
        found = self._cache.get(row)
        if found is not None:
            self._cache.move_to_end(row)
            return found
        try:
            image = self.images.read(np.array([row], np.int64))[0]
        except InputError:  # one stack missing among hundreds must not empty the gallery
            picture = np.full((self.side, self.side), 60, np.uint8)
        else:
            picture = grey(binned(image, max(1, -(-image.shape[0] // self.side))))
        self._cache[row] = picture
        while len(self._cache) > _KEPT:
            self._cache.popitem(last=False)
        return picture


def grey(image: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return an image as grey levels, the outermost half per cent cut off at either end."""
    finite = image[np.isfinite(image)]
    low, high = np.percentile(finite, (0.5, 99.5)) if finite.size else (0.0, 1.0)
    scaled = (np.nan_to_num(image, nan=low) - low) / (high - low if high > low else 1.0)
    return np.ascontiguousarray(np.clip(255 * scaled, 0, 255), dtype=np.uint8)


def images_of(path: str | Path, table: PickTable, box_px: int) -> tuple[Images | None, float | None]:
    """Return what shows the rows of a file: its particle images, else crops of its micrographs; None without either.

    ``box_px`` is the side of a crop in micrograph pixels. With particle images comes their pixel size in Å, where the
    file knows it.
    """
    if table.z_px is not None:
        return None, None  # tomograms have no pictures of single picks
    if table.has_images:
        try:
            source = open_particles(path)
            try:
                particles = source.read()
            except InputError:
                return source.read(1.0).images, None  # looking needs no pixel size
            return particles.images, float(np.median(particles.pixel_size_angstrom)) if len(particles) else None
        except InputError:
            pass  # its stacks are not there; the micrographs may be
    if table.coordinates_px is None or table.micrograph is None or not any(table.micrograph_paths):
        return None, None
    return MicrographCrops(table.micrograph_paths, table.micrograph, table.coordinates_px, max(8, box_px)), None
