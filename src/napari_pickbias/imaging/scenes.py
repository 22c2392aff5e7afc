"""What a particle box shows: a particle, two, a part of one, or nothing; drawn at random and rendered.

Lengths are pixels of the box. Displacements are of the particle from the box origin, along x and y; RELION's origins
(``rlnOriginXAngst``) are their negatives in Å.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_pickbias.imaging.fourier import Floats
from napari_pickbias.imaging.projection import FourierVolume, project
from napari_pickbias.imaging.rotations import Views, matrices_from_euler, random_euler
from napari_pickbias.imaging.simulation import KINDS, place

INLIER, MULTIPLE, NOISE, PARTIAL = range(4)


class Scenes(NamedTuple):
    """Contents of ``m`` boxes. Index 1 of the second axis is the second particle of ``multiple`` boxes."""

    kinds: NDArray[np.int8]
    """``(m,)`` index into ``simulation.KINDS``."""

    euler_deg: NDArray[np.float64]
    """``(m, 2, 3)`` rot, tilt, psi."""

    shifts_px: NDArray[np.float64]
    """``(m, 2, 2)`` x, y."""

    amplitudes: NDArray[np.float64]
    """``(m, 2)``; 0 where there is no such particle."""


def draw_kinds(count: int, shares: tuple[float, float, float], rng: np.random.Generator) -> NDArray[np.int8]:
    """Return the kinds of ``count`` boxes in random order.

    Parameters
    ----------
    count : int
        Number of boxes.
    shares : (float, float, float)
        Shares of ``multiple``, ``noise`` and ``partial`` boxes, each rounded to whole boxes; the rest are inliers.
    rng : numpy.random.Generator
        Source of randomness.
    """
    numbers = [round(share * count) for share in shares]
    kinds = np.zeros(count, np.int8)
    kinds[: sum(numbers)] = np.repeat(np.array([MULTIPLE, NOISE, PARTIAL], np.int8), numbers)[:count]
    rng.shuffle(kinds)
    return kinds


def draw_scenes(
    kinds: NDArray[np.int8],
    rng: np.random.Generator,
    *,
    box_px: int,
    radius_px: float,
    offset_px: float,
    amplitude_range: tuple[float, float] = (0.8, 1.25),
    views: Views | None = None,
) -> Scenes:
    """Draw what boxes of given kinds show.

    Parameters
    ----------
    kinds : ndarray, shape (m,)
        Index into ``simulation.KINDS``.
    rng : numpy.random.Generator
        Source of randomness; how much is drawn from it depends on ``m`` alone.
    box_px : int
        Side of the boxes.
    radius_px : float
        Radius ``R`` of the particle.
    offset_px : float
        Standard deviation of the offset of a single particle, each axis.
    amplitude_range : (float, float)
        Amplitudes are uniform in it.
    views : Views or None
        Distribution of views, uniform by default.

    Returns
    -------
    Scenes
        ``inlier``: one particle near the origin. ``multiple``: two particles 1.5 R to 2.2 R apart in any direction,
        the origin between them (30 to 70 % of the way), as when a picker takes a pair for one. ``partial``: one
        particle whose centre lies within R / 2 of one side of the box, inside or outside. ``noise``: nothing.
    """
    count = len(kinds)
    euler = random_euler(2 * count, rng, views).reshape(count, 2, 3)
    amplitudes = rng.uniform(*amplitude_range, (count, 2))
    offsets = rng.normal(0, 1, (count, 2)) * offset_px
    uniform = rng.random((count, 4))
    angle, distance = 2 * np.pi * uniform[:, 0], radius_px * (1.5 + 0.7 * uniform[:, 1])
    direction = np.stack([np.cos(angle), np.sin(angle)], axis=1) * distance[:, None]
    part = (0.3 + 0.4 * uniform[:, 2])[:, None]
    pair = np.stack([-part * direction, (1 - part) * direction], axis=1)
    shifts = np.zeros((count, 2, 2))
    shifts[:, 0] = offsets
    shifts[kinds == MULTIPLE] = pair[kinds == MULTIPLE]
    edge = _edge_positions(uniform, box_px, radius_px)
    shifts[kinds == PARTIAL, 0] = edge[kinds == PARTIAL]
    present = np.stack([kinds != NOISE, kinds == MULTIPLE], axis=1)
    shifts[~present] = 0
    return Scenes(kinds, euler, shifts, np.where(present, amplitudes, 0.0))


def _edge_positions(uniform: NDArray[np.float64], box_px: int, radius_px: float) -> NDArray[np.float64]:
    """Return ``(m, 2)`` centres within half a radius of one of the four sides, from four uniform numbers each."""
    side = np.minimum((4 * uniform[:, 0]).astype(np.int64), 3)
    across = box_px / 2 + radius_px * (uniform[:, 1] - 0.5)
    along = (2 * uniform[:, 2] - 1) * max(box_px / 2 - radius_px, 0)
    across = np.where(side % 2 == 0, across, -across)
    return np.where((side < 2)[:, None], np.stack([across, along], 1), np.stack([along, across], 1))


def render_scenes(
    volume: NDArray[np.float32] | FourierVolume, scenes: Scenes, ctf: Floats | None = None
) -> NDArray[np.float32]:
    """Return the noise-free images of ``scenes``.

    Parameters
    ----------
    volume : ndarray, shape (n, n, n), float32, or FourierVolume
        Molecule in the boxes' pixels; it should fit the inscribed ball.
    scenes : Scenes
        What to show.
    ctf : ndarray, shape (m, n, n // 2 + 1), or None
        Multiplies each particle's Fourier transform before the particle is put in place.

    Returns
    -------
    ndarray, shape (m, n, n), float32
        Nothing wraps around: what leaves the box is lost.
    """
    size = volume.size if isinstance(volume, FourierVolume) else volume.shape[0]
    images = np.zeros((len(scenes.kinds), size, size), np.float32)
    for number in range(2):
        rows = np.flatnonzero(scenes.amplitudes[:, number])
        if rows.size == 0:
            continue
        shifts = scenes.shifts_px[rows, number]
        whole = np.rint(shifts)
        rotations = matrices_from_euler(scenes.euler_deg[rows, number])
        clean = project(volume, rotations, shifts_px=shifts - whole, ctf=None if ctf is None else ctf[rows])
        images[rows] += place(clean, whole) * scenes.amplitudes[rows, number, None, None].astype(np.float32)
    return images


def kind_names(kinds: NDArray[np.int8]) -> list[str]:
    """Return the names of kind codes."""
    return [KINDS[kind] for kind in kinds]
