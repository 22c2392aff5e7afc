"""The views of a soft-modes run as points on a sphere: how surely each is known, and the what-if views beside them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_pickbias.errors import InputError
from napari_pickbias.imaging.rotations import matrices_from_euler, parse_views, random_rotations
from napari_pickbias.jobs.softmodes import SoftmodesResult
from napari_pickbias.jobs.softmodes_whatif import tilted

MOST = 2000
"""Views shown; of more, so many spread evenly over their rows."""
ADDED = 300
OWN = "views of the particles"


class ViewSphere(NamedTuple):
    """Viewing directions.

    Attributes
    ----------
    directions : ndarray, shape (m, 3)
        x, y, z, of length 1.
    rotation_sd_deg : ndarray, shape (m,)
        Standard deviation of each pose about its own value; NaN where it is not known.
    images : ndarray, shape (m,)
        Images that each stands for.
    added : ndarray, shape (n, 3)
        Views that a what-if run added; empty without.
    name, added_name : str
    """

    directions: NDArray[np.float64]
    rotation_sd_deg: NDArray[np.float64]
    images: NDArray[np.float64]
    added: NDArray[np.float64]
    name: str
    added_name: str


def sphere_of(result: SoftmodesResult) -> ViewSphere:
    """Return the views of a run; those of a particle file that was added are not drawn again here."""
    rows = _spread(len(result.rotations))
    spread = np.degrees(np.sqrt(np.mean(result.found.pose_sd[rows, :3] ** 2, axis=1)))
    parameters = result.parameters
    name = OWN if parameters.views is None else f"what if: {parameters.views}"
    added = added_directions(parameters.add_views, result.rotations, parameters.seed)
    return ViewSphere(
        result.rotations[rows, 2], spread, np.asarray(result.weights, np.float64)[rows], added, name,
        f"added: {parameters.add_views}" if len(added) else "",
    )  # fmt: skip


def sphere_of_poses(
    euler_deg: NDArray[np.floating], rotation_sd_deg: NDArray[np.floating] | None, add_views: str | None, seed: int
) -> ViewSphere:
    """Return the views of particles, ``euler_deg`` being RELION's rot, tilt, psi ``(n, 3)``."""
    rows = _spread(len(euler_deg))
    rotations = matrices_from_euler(np.asarray(euler_deg, np.float64)[rows])
    spread = np.full(len(rows), np.nan) if rotation_sd_deg is None else np.asarray(rotation_sd_deg, np.float64)[rows]
    added = added_directions(add_views, rotations, seed)
    return ViewSphere(
        rotations[:, 2], spread, np.ones(len(rows)), added, OWN, f"added: {add_views}" if len(added) else ""
    )


def sphere_of_text(views: str, seed: int) -> ViewSphere:
    """Return what-if views such as ``polar:30``; none of a particle file."""
    directions = added_directions(views, np.zeros((0, 3, 3)), seed)
    unknown = np.full(len(directions), np.nan)
    return ViewSphere(
        directions, unknown, np.ones(len(directions)), np.zeros((0, 3)), f"what if: {views}", ""
    )  # fmt: skip


def added_directions(text: str | None, rotations: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """Return directions ``(n, 3)`` of views that ``text`` describes; none where it names a file, or is None."""
    rng = np.random.default_rng((seed, 7))
    if text is None:
        return np.zeros((0, 3))
    if text.startswith("tilt:"):
        if not len(rotations):
            return np.zeros((0, 3))
        some = rotations[np.linspace(0, len(rotations) - 1, min(ADDED, len(rotations))).astype(np.int64)]
        return np.asarray(tilted(some, float(text[5:]), rng)[:, 2], np.float64)
    try:
        views = parse_views(text)
    except InputError:
        return np.zeros((0, 3))
    return np.asarray(random_rotations(ADDED, rng, views)[:, 2], np.float64)


def _spread(count: int) -> NDArray[np.int64]:
    return np.unique(np.linspace(0, max(count - 1, 0), min(count, MOST)).astype(np.int64))
