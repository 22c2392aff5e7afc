"""How well images tell the maps along a path from their neighbours: the Rayleigh quotient of its direction."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_pickbias.imaging.fourier import Floats
from napari_pickbias.softmodes.hessian import Hessian
from napari_pickbias.softmodes.metric import riesz_metric
from napari_pickbias.softmodes.views import Views


class PathPoint(NamedTuple):
    """One map of a path."""

    position: float
    """Length of the path up to this map, over its whole length (Riesz norm)."""

    eigenvalue: float
    """Information per image along the path with poses free, for a direction of unit Riesz norm."""

    known_pose_eigenvalue: float
    """The same with poses held."""

    speed: float
    """Riesz norm of the direction per unit of ``position``."""


def linear_path(first: Floats, last: Floats, steps: int) -> NDArray[np.float64]:
    """Return ``steps`` maps from ``first`` to ``last``, evenly spaced."""
    share = np.linspace(0, 1, steps)[:, None, None, None]
    return np.asarray((1 - share) * np.asarray(first, np.float64) + share * np.asarray(last, np.float64))


def path_information(
    maps: Floats,
    views: Views,
    support: NDArray[np.bool_],
    *,
    images: float,
    shifts: bool = True,
    contrast: bool = False,
) -> Iterator[PathPoint]:
    """Yield what images tell of each map of a path; poses follow as they please.

    ``R(s) = v H(s) v / (J v W v)`` with ``v`` the path's direction by central differences, at its ends by one-sided
    ones (paper section 3.5, Fig. 22).

    Parameters
    ----------
    maps : ndarray, shape (s, n, n, n)
        Frames in order, at least 2.
    views, support, images, shifts, contrast
        As for :class:`~napari_pickbias.softmodes.hessian.Hessian`.
    """
    frames = np.where(support, np.asarray(maps, np.float64), 0)
    vectors = frames[:, support]
    metric = riesz_metric(support)
    lengths = np.array([np.sqrt(max(step @ metric(step), 0)) for step in np.diff(vectors, axis=0)])
    if not lengths.sum() > 0:
        raise ValueError("the maps of the path are all the same within the mask")
    place = np.concatenate([[0], np.cumsum(lengths)]) / lengths.sum()
    for index, frame in enumerate(frames):
        low, high = max(index - 1, 0), min(index + 1, len(frames) - 1)
        step = vectors[high] - vectors[low]
        norm = float(step @ metric(step)) * images
        # One product a frame: the couplings as a matrix would cost more than they save.
        hessian = Hessian(frame, views, support, images=images, shifts=shifts, contrast=contrast, dense=False)
        free, held = (float(step @ apply(step)) / norm for apply in (hessian, hessian.known_pose))
        speed = np.sqrt(norm / images) / max(place[high] - place[low], 1e-12)
        yield PathPoint(float(place[index]), free, held, float(speed))
