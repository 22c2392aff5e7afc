"""Where the particles, the ice and the carbon of a simulated micrograph lie."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_pickbias.errors import InputError
from napari_pickbias.jobs.simulate_micrographs_parameters import SimulateMicrographsParameters

SEPARATION = 1.1
"""Least distance of separated particles' centres, in diameters."""
TOUCHING = (0.9, 1.05)
"""Distance of a touching particle from its neighbour, in diameters."""
TRIES = 400
"""Places tried for each particle before the density counts as out of reach."""


class Ice(NamedTuple):
    """Lumps of ice: dark blobs."""

    centres_px: NDArray[np.float64]
    """``(k, 2)`` x, y."""
    radii_px: NDArray[np.float64]
    """``(k,)`` standard deviation of the blob; it reaches to twice this."""
    depth: NDArray[np.float64]
    """``(k,)`` in standard deviations of the noise."""


class Carbon(NamedTuple):
    """A film of carbon beyond a straight edge: ``x cos + y sin > offset``."""

    angle: float
    offset_px: float


class Layout(NamedTuple):
    """What lies where on one micrograph."""

    centres_px: NDArray[np.float64]
    """``(n, 2)`` x, y of the particles, pixels from the centre of the first pixel."""
    ice: Ice
    carbon: Carbon | None


def lay_out(
    parameters: SimulateMicrographsParameters, shape: tuple[int, int], radius_px: float, rng: np.random.Generator
) -> Layout:
    """Draw the places of everything on one micrograph.

    Particles keep half a diameter from the border and lie neither on ice nor on carbon. They are placed by rejection.

    Raises
    ------
    InputError
        When the number of particles asked for cannot be placed.
    """
    carbon = _carbon(parameters, shape, rng)
    ice = _ice(parameters.ice, shape, radius_px, rng)
    return Layout(_places(parameters, shape, radius_px, ice, carbon, rng), ice, carbon)


def carbon_side(carbon: Carbon, x: NDArray[np.floating], y: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the distance beyond the edge of the film, px; negative where there is none."""
    return np.asarray(x * np.cos(carbon.angle) + y * np.sin(carbon.angle) - carbon.offset_px)


def _carbon(
    parameters: SimulateMicrographsParameters, shape: tuple[int, int], rng: np.random.Generator
) -> Carbon | None:
    there, angle, share = rng.random(), rng.uniform(0, 2 * np.pi), rng.uniform(0.08, 0.25)
    if there >= parameters.carbon:
        return None
    middle = shape[1] / 2 * np.cos(angle) + shape[0] / 2 * np.sin(angle)
    reach = (abs(shape[1] * np.cos(angle)) + abs(shape[0] * np.sin(angle))) / 2
    return Carbon(float(angle), float(middle + reach * (1 - 2 * share)))


def _ice(count: int, shape: tuple[int, int], radius_px: float, rng: np.random.Generator) -> Ice:
    centres = rng.uniform(0, 1, (count, 2)) * (shape[1], shape[0])
    return Ice(centres, radius_px * rng.uniform(0.8, 2.0, count), rng.uniform(4, 10, count))


def _places(
    parameters: SimulateMicrographsParameters,
    shape: tuple[int, int],
    radius_px: float,
    ice: Ice,
    carbon: Carbon | None,
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    wanted = parameters.per_micrograph
    diameter = 2 * radius_px
    least = diameter * (SEPARATION if parameters.arrangement == "separated" else TOUCHING[0])
    low, high = np.array([radius_px, radius_px]), np.array([shape[1], shape[0]]) - 1 - radius_px
    places = np.empty((wanted, 2))
    done = 0
    for _ in range(wanted):
        for _ in range(TRIES):
            place = _propose(parameters, places[:done], diameter, low, high, rng)
            if (place < low).any() or (place > high).any():
                continue
            if done and float(((places[:done] - place) ** 2).sum(axis=1).min()) < least**2:
                continue
            if not _on_dirt(place, radius_px, ice, carbon):
                places[done] = place
                done += 1
                break
        else:
            raise InputError(
                f"--per-micrograph {wanted}: only {done} {parameters.arrangement} particles of "
                f"{diameter * parameters.pixel_size:.4g} Å fit into {shape[0]} × {shape[1]} px of "
                f"{parameters.pixel_size:g} Å; give fewer, a larger --size"
                + (", or --arrangement touching" if parameters.arrangement == "separated" else "")
            )
    return places


def _propose(
    parameters: SimulateMicrographsParameters,
    placed: NDArray[np.float64],
    diameter: float,
    low: NDArray[np.float64],
    high: NDArray[np.float64],
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    if (high <= low).any():
        return low - 1
    uniform = rng.random(5)
    if parameters.arrangement == "touching" and len(placed) and uniform[0] < 0.5:
        neighbour = placed[int(uniform[1] * len(placed))]
        distance = diameter * (TOUCHING[0] + (TOUCHING[1] - TOUCHING[0]) * uniform[2])
        angle = 2 * np.pi * uniform[3]
        return np.asarray(neighbour + distance * np.array([np.cos(angle), np.sin(angle)]))
    return np.asarray(low + (high - low) * uniform[3:])


def _on_dirt(place: NDArray[np.float64], radius_px: float, ice: Ice, carbon: Carbon | None) -> bool:
    if carbon is not None and carbon_side(carbon, place[:1], place[1:])[0] > -radius_px:
        return True
    distance = np.linalg.norm(ice.centres_px - place, axis=1)
    return bool((distance < 2 * ice.radii_px + radius_px).any())
