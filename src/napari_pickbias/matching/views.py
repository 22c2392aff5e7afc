"""Even grids of views for a template bank, and the point groups that make some of them equal.

Axes are RELION's (compared with the output of ``relion_particle_symmetry_expand`` 3.1.3): C and D have their n-fold
axis along z and D a two-fold along x; T has a three-fold along z and a two-fold towards y; O has its four-folds along
x, y and z; I1, I2 have two-folds along x, y and z, with a five-fold in the xz plane near x or near z; I is I2.
"""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from napari_pickbias.errors import InputError
from napari_pickbias.imaging.rotations import Matrices, direction_grid, in_plane_angles, matrices_from_euler

# Of each set of equal views the one nearest to this direction is taken: no symmetry axis or mirror plane holds it.
_REFERENCE = np.array([0.1931, 0.1187, 0.9740])


def symmetry_rotations(symmetry: str) -> Matrices:
    """Return the rotations of a point group in RELION's setting.

    Parameters
    ----------
    symmetry : str
        ``C1``, ``C2`` ..., ``D1``, ``D2`` ..., ``T``, ``O``, ``I`` (as ``I2``), ``I1``, ``I2``; either case.

    Returns
    -------
    ndarray, shape (m, 3, 3)
        Turning the map by any of them gives the same map.

    Raises
    ------
    InputError
        If it is none of these.
    """
    name = symmetry.upper()
    if not re.fullmatch(r"[CD][1-9][0-9]?|T|O|I|I1|I2", name):
        raise InputError(f"--symmetry {symmetry}: is not known; give C1, C2, ..., D2, ..., T, O, I1 or I2")
    group = Rotation.create_group(name if name[0] in "CD" else name[0]).as_matrix()
    if name == "T":
        return _turned(group, _tetrahedral_setting())
    if name in ("I", "I2"):
        return _turned(group, Rotation.from_euler("z", 90, degrees=True).as_matrix())
    return np.asarray(group, np.float64)


def _turned(group: Matrices, turn: NDArray[np.float64]) -> Matrices:
    return np.asarray(turn @ group @ turn.T)


def _tetrahedral_setting() -> NDArray[np.float64]:
    """Return the rotation that brings the diagonal (a three-fold) to z and the z axis (a two-fold) towards y."""
    three = np.ones(3) / np.sqrt(3)
    towards = np.array([0, 0, 1.0]) - three / np.sqrt(3)
    towards /= np.linalg.norm(towards)
    return np.stack([np.cross(towards, three), towards, three])


def view_grid(angular_step: float, symmetry: str = "C1") -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Return an even grid of views, each with all its in-plane rotations.

    Parameters
    ----------
    angular_step : float
        Degrees between neighbouring directions, and at most between in-plane rotations.
    symmetry : str
        Directions that the group makes equal are taken once: about one in as many as the group has rotations.

    Returns
    -------
    view : ndarray, shape (L,)
        Number of the direction, 0-based.
    euler_deg : ndarray, shape (L, 3)
        RELION's rot, tilt and psi; psi changes fastest.

    Raises
    ------
    InputError
        If the step is not in 0.5 ... 180 degrees, or the group is not known.
    """
    if not 0.5 <= angular_step <= 180:
        raise InputError(f"--angular-step {angular_step:g}: must lie in 0.5 to 180 degrees")
    group = symmetry_rotations(symmetry)
    directions = direction_grid(angular_step)
    pointing = matrices_from_euler(np.column_stack([directions, np.zeros(len(directions))]))[:, 2]
    nearness = np.einsum("i,sij,nj->ns", _REFERENCE, group, pointing)
    # the identity is in the group, so at least equality holds for the nearest
    own = pointing @ _REFERENCE
    kept = directions[own >= nearness.max(axis=1) - 1e-9]
    if len(kept) == 0:  # a step wider than the group's domain
        kept = directions[[int(np.argmax(own))]]
    psi = in_plane_angles(angular_step)
    euler = np.column_stack([np.repeat(kept, len(psi), axis=0), np.tile(psi, len(kept))])
    return np.repeat(np.arange(len(kept), dtype=np.int32), len(psi)), euler
