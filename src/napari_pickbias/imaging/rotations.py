"""Rotations, RELION's Euler angles, and grids on SO(3) and the sphere.

A rotation is an active 3x3 matrix ``R`` on column vectors ``(x, y, z)`` that turns the molecule before it is projected
along z: the projection holds the central slice ``F(R^T (kx, ky, 0))``. It is RELION's Euler matrix,
``R = Rz(-psi) Ry(-tilt) Rz(-rot)`` with ``Rz(a)`` turning x towards y; its last row is the viewing direction in the
molecule's frame.
"""

from __future__ import annotations

import re
import warnings
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from napari_pickbias.errors import InputError

Floats = NDArray[np.floating[Any]]
Matrices = NDArray[np.float64]

# Root of psi^4 = psi + 4, the second constant of the spiral; the first is sqrt(2).
_SUPER_FIBONACCI_PSI = 1.533751168755204288118041


class Views(NamedTuple):
    """A distribution of viewing directions.

    ``uniform``: all over the sphere. ``polar``: within ``degrees`` of the z axis, at either end. ``equatorial``:
    within ``degrees`` of the xy plane. Directions are uniform over that area; in-plane angles are uniform.
    """

    kind: Literal["uniform", "polar", "equatorial"]
    degrees: float = 90.0


def parse_views(text: str) -> Views:
    """Read ``uniform``, ``polar:DEG`` or ``equatorial:DEG`` (DEG above 0, at most 90).

    Raises
    ------
    InputError
        If it is none of these.
    """
    if text == "uniform":
        return Views("uniform")
    match = re.fullmatch(r"(polar|equatorial):([0-9]*\.?[0-9]+)", text)
    if match is None or not 0 < float(match[2]) <= 90:
        raise InputError(
            f"--views {text}: not a view distribution; give uniform, polar:DEG or equatorial:DEG with DEG above 0, "
            "at most 90"
        )
    return Views("polar" if match[1] == "polar" else "equatorial", float(match[2]))


def matrices_from_euler(euler_deg: Floats) -> Matrices:
    """Convert RELION's ``(rot, tilt, psi)`` in degrees, shape ``(n, 3)``, to rotations, shape ``(n, 3, 3)``."""
    angles = np.asarray(euler_deg, np.float64).reshape(-1, 3)
    return np.ascontiguousarray(Rotation.from_euler("ZYZ", angles, degrees=True).as_matrix().transpose(0, 2, 1))


def euler_from_matrices(rotations: Floats) -> NDArray[np.float64]:
    """Convert rotations, shape ``(n, 3, 3)``, to RELION's ``(rot, tilt, psi)`` in degrees, shape ``(n, 3)``.

    ``rot`` and ``psi`` lie in -180 ... 180 and ``tilt`` in 0 ... 180. At tilt 0 or 180 only one combination of rot
    and psi is defined; psi is then 0.
    """
    inverse = Rotation.from_matrix(np.asarray(rotations, np.float64).reshape(-1, 3, 3).transpose(0, 2, 1))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Gimbal lock")
        return np.asarray(inverse.as_euler("ZYZ", degrees=True))


def random_rotations(count: int, rng: np.random.Generator, views: Views | None = None) -> Matrices:
    """Draw rotations whose viewing directions follow ``views`` (uniform on SO(3) by default).

    Parameters
    ----------
    count : int
        How many.
    rng : numpy.random.Generator
        Source of randomness: ``count`` rows of three uniform numbers are taken from it.
    views : Views or None
        Distribution of viewing directions.

    Returns
    -------
    ndarray, shape (count, 3, 3)
    """
    return matrices_from_euler(random_euler(count, rng, views))


def random_euler(count: int, rng: np.random.Generator, views: Views | None = None) -> NDArray[np.float64]:
    """Draw RELION angles ``(rot, tilt, psi)`` in degrees, shape ``(count, 3)``, as :func:`random_rotations`."""
    views = views or Views("uniform")
    uniform = rng.random((count, 3))
    limit = np.cos(np.radians(views.degrees))
    if views.kind == "polar":
        side = np.where(uniform[:, 1] < 0.5, 1.0, -1.0)
        cosine = side * (limit + (1 - limit) * np.abs(2 * uniform[:, 1] - 1))
    else:
        reach = 1.0 if views.kind == "uniform" else np.sin(np.radians(views.degrees))
        cosine = reach * (2 * uniform[:, 1] - 1)
    tilt = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
    return np.stack([360 * uniform[:, 0] - 180, tilt, 360 * uniform[:, 2] - 180], axis=1)


def super_fibonacci_rotations(count: int) -> Matrices:
    """Return an even grid of ``count`` rotations on SO(3).

    Source: M. Alexa, Super-Fibonacci Spirals: Fast, Low-Discrepancy Sampling of SO(3), CVPR 2022, algorithm 1.
    The spacing is about ``(8 pi^2 / count)^(1/3)`` radians: 576 rotations for 30 degrees, 4608 for 15.

    Returns
    -------
    ndarray, shape (count, 3, 3)
    """
    step = (np.arange(count) + 0.5) / count
    inner, outer = np.sqrt(step), np.sqrt(1 - step)
    alpha = 2 * np.pi * step * count / np.sqrt(2.0)
    beta = 2 * np.pi * step * count / _SUPER_FIBONACCI_PSI
    quaternions = np.stack(
        [inner * np.sin(alpha), inner * np.cos(alpha), outer * np.sin(beta), outer * np.cos(beta)], axis=1
    )
    return np.asarray(Rotation.from_quat(quaternions).as_matrix())


def rotation_count(step_deg: float) -> int:
    """Return how many rotations an even grid on SO(3) needs for a spacing of ``step_deg`` degrees."""
    return max(1, round(8 * np.pi**2 / float(np.radians(step_deg)) ** 3))


def direction_grid(step_deg: float, *, hemisphere: bool = False) -> NDArray[np.float64]:
    """Return viewing directions spread evenly over the sphere (a Fibonacci lattice).

    Parameters
    ----------
    step_deg : float
        Spacing: each direction gets ``step_deg**2`` square degrees.
    hemisphere : bool
        Only tilts up to 90 degrees: opposite views are mirror images of each other.

    Returns
    -------
    ndarray, shape (n, 2)
        RELION's rot and tilt, degrees, from tilt 0 on.
    """
    area = 2 * np.pi if hemisphere else 4 * np.pi
    count = max(1, round(area / np.radians(step_deg) ** 2))
    index = np.arange(count) + 0.5
    cosine = 1 - index / count * (1 if hemisphere else 2)
    golden_angle = 180 * (3 - np.sqrt(5.0))
    rot = (index * golden_angle + 180) % 360 - 180
    return np.stack([rot, np.degrees(np.arccos(cosine))], axis=1)


def in_plane_angles(step_deg: float) -> NDArray[np.float64]:
    """Return psi angles in degrees, evenly spaced from 0, at most ``step_deg`` apart and closing the circle."""
    count = max(1, int(np.ceil(360 / step_deg - 1e-9)))
    return np.asarray(np.arange(count) * (360 / count), np.float64)


def angular_distance_deg(first: Floats, second: Floats) -> NDArray[np.float64]:
    """Return the angle in degrees of the rotation between ``(..., 3, 3)`` rotations, 0 ... 180.

    From the Frobenius distance, ``|A - B| = 2 sqrt(2) sin(angle / 2)``, which is accurate at small angles.
    """
    distance = np.linalg.norm(np.asarray(first, np.float64) - np.asarray(second, np.float64), axis=(-2, -1))
    return np.asarray(np.degrees(2 * np.arcsin(np.clip(distance / np.sqrt(8.0), 0, 1))))
