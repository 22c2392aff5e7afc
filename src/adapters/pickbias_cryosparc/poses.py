"""CryoSPARC's rotation vectors and RELION's Euler angles.

Checked against csparc2star's output for 2019 refined particles: ``rot, tilt, psi`` are the intrinsic ZYZ angles of the
rotation that the vector stands for, and the vectors are not canonical (norms beyond π occur), so they are never
compared or averaged themselves.
"""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import Rotation


def euler_from_rotation_vectors(vectors: ArrayLike) -> NDArray[np.float64]:
    """Return RELION's rot, tilt, psi in degrees, ``(n, 3)``, of CryoSPARC's ``alignments3D/pose``, ``(n, 3)`` radians.

    Tilt lies in [0, 180]. Where tilt is 0 or 180 only the sum or difference of rot and psi is defined; psi is 0 then.
    """
    vectors = np.asarray(vectors, np.float64).reshape(-1, 3)
    if not len(vectors):
        return np.zeros((0, 3))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Gimbal lock", category=UserWarning)
        return np.asarray(Rotation.from_rotvec(vectors).as_euler("ZYZ", degrees=True))


def rotation_vectors_from_euler(euler_deg: ArrayLike) -> NDArray[np.float64]:
    """Return CryoSPARC's rotation vectors, ``(n, 3)`` radians, of RELION's rot, tilt, psi, ``(n, 3)`` degrees."""
    euler = np.asarray(euler_deg, np.float64).reshape(-1, 3)
    return Rotation.from_euler("ZYZ", euler, degrees=True).as_rotvec() if len(euler) else np.zeros((0, 3))
