"""Radial profiles of single images: what a selection looks like among all the others."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_pickbias.errors import InputError
from napari_pickbias.imaging.fourier import radial_mean
from napari_pickbias.jobs.averages import CHUNK_BYTES
from napari_pickbias.jobs.progress import Progress
from napari_pickbias.records.particles import Images


@dataclass(frozen=True)
class Profiles:
    """Radial profiles of images of one box.

    Attributes
    ----------
    values : ndarray, shape (n, box // 2 + 1)
        Mean of each image over rings one pixel wide about pixel ``box // 2``; see
        :func:`napari_pickbias.imaging.fourier.radial_mean`.
    of : int
        Images that they stand for: n, or more where they were too many to read.
    """

    values: NDArray[np.float64]
    of: int

    def __len__(self) -> int:
        return len(self.values)


def profile_job(
    images: Images, rows: NDArray[np.int64], most: int = 1000, stage: str = "profile"
) -> Generator[Progress, None, Profiles]:
    """Return the radial profiles of images; yields :class:`Progress`.

    Parameters
    ----------
    images : Images
    rows : ndarray of int
        All of one box; images with NaN are left out.
    most : int
        More are represented by so many spread evenly over them.
    stage : str
        Of the progress.

    Raises
    ------
    InputError
        When boxes differ, or an image cannot be read.
    """
    rows = np.asarray(rows, np.int64)
    boxes = np.unique(images.box_sizes[rows])
    if len(boxes) > 1:
        raise InputError(f"profiles: the images are {', '.join(map(str, boxes))} px wide; open one box size at a time")
    chosen = rows if len(rows) <= most else rows[np.linspace(0, len(rows) - 1, most).astype(np.int64)]
    box = int(boxes[0]) if len(boxes) else 1
    step = max(1, CHUNK_BYTES // (box * box * 8))
    found = [np.empty((0, box // 2 + 1))]
    for start in range(0, len(chosen), step):
        chunk = images.read(chosen[start : start + step])
        found.append(radial_mean(chunk[np.isfinite(chunk).all(axis=(1, 2))]).reshape(-1, box // 2 + 1))
        yield Progress(stage, min(start + step, len(chosen)), len(chosen))
    return Profiles(np.concatenate(found), len(rows))
