"""What sets of images have in common: their average, how they differ from it, and their power spectrum."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from napari_pickbias.errors import InputError
from napari_pickbias.jobs.progress import Progress
from napari_pickbias.records.particles import Images

CHUNK_BYTES = 1 << 25


@dataclass(frozen=True)
class SetAverage:
    """One set of images.

    Attributes
    ----------
    name : str
    count : int
        Images averaged; those with NaN are left out.
    mean, deviation : ndarray, shape (box, box)
        Mean of the images, and their standard deviation about it.
    power : ndarray, shape (box, box // 2 + 1)
        Mean of |F|^2 of the images (unnormalised transform, ``rfft2``).
    """

    name: str
    count: int
    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]
    power: NDArray[np.float64]


def average_job(
    images: Images, sets: Mapping[str, NDArray[np.int64]], most: int = 5000
) -> Generator[Progress, None, list[SetAverage]]:
    """Average each set of images; yields :class:`Progress`, returns one :class:`SetAverage` a set.

    Parameters
    ----------
    images : Images
    sets : mapping of name to ndarray of int
        Rows of each set, all of one box size; empty sets are left out.
    most : int
        Larger sets are represented by so many rows spread evenly over them.

    Raises
    ------
    InputError
        When no set holds a row, boxes differ, or an image cannot be read.
    """
    chosen = {name: _spread(np.asarray(rows, np.int64), most) for name, rows in sets.items() if len(rows)}
    if not chosen:
        raise InputError("averages: no images are chosen; keep or reject some first")
    boxes = np.unique(images.box_sizes[np.concatenate(list(chosen.values()))])
    if len(boxes) > 1:
        raise InputError(f"averages: the images are {', '.join(map(str, boxes))} px wide; open one box size at a time")
    box = int(boxes[0])
    step = max(1, CHUNK_BYTES // (box * box * 8))
    total, done = sum(map(len, chosen.values())), 0
    found = []
    for name, rows in chosen.items():
        count = 0
        plain, squares = np.zeros((box, box)), np.zeros((box, box))
        power = np.zeros((box, box // 2 + 1))
        for start in range(0, len(rows), step):
            chunk = images.read(rows[start : start + step]).astype(np.float64)
            chunk = chunk[np.isfinite(chunk).all(axis=(1, 2))]
            count += len(chunk)
            plain += chunk.sum(axis=0)
            squares += (chunk**2).sum(axis=0)
            power += (np.abs(fft.rfft2(chunk)) ** 2).sum(axis=0)
            done += min(step, len(rows) - start)
            yield Progress("average", done, total)
        if count:
            mean = plain / count
            found.append(
                SetAverage(name, count, mean, np.sqrt(np.maximum(squares / count - mean**2, 0)), power / count)
            )
    return found


def _spread(rows: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    if len(rows) <= most:
        return rows
    return rows[np.linspace(0, len(rows) - 1, most).astype(np.int64)]
