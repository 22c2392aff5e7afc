"""Small micrographs with known truth, for the tests of pick-free reconstruction."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from napari_pickbias.imaging.noise import COLOURS, gaussian_noise
from napari_pickbias.imaging.phantoms import blob_volume, phantom
from napari_pickbias.imaging.projection import project
from napari_pickbias.imaging.rotations import random_rotations
from napari_pickbias.records import write_mrc


def molecule(size: int) -> np.ndarray:
    """Return the house's phantom in a box of ``size``, its radius 0.7 px less than half the box."""
    return blob_volume(phantom(size / 2 - 0.7), size)


def places(
    shape: tuple[int, int], size: int, count: int, rng: np.random.Generator, *, touching: bool = False
) -> np.ndarray:
    """Return corners ``(n, 2)`` of at most ``count`` boxes; their corners lie 2 L - 1 apart, or L where they touch."""
    apart = size if touching else 2 * size - 1
    free = np.ones((shape[0] - size + 1, shape[1] - size + 1), bool)
    found = []
    for place in rng.permutation(free.size):
        y, x = divmod(int(place), free.shape[1])
        if free[y, x]:
            found.append((y, x))
            free[max(0, y - apart + 1) : y + apart, max(0, x - apart + 1) : x + apart] = False
            if len(found) == count:
                break
    return np.array(found, int).reshape(-1, 2)


def micrograph(
    volume: np.ndarray,
    shape: tuple[int, int],
    snr: float,
    rng: np.random.Generator,
    *,
    density: float = 0.15,
    touching: bool = False,
    colour: str = "white",
    ctf: np.ndarray | None = None,
    particles: bool = True,
) -> tuple[np.ndarray, int]:
    """Return a micrograph of unit noise variance, and how many particles it holds.

    ``density`` is the share of its area that boxes cover; ``snr`` is mean projection energy a box pixel.
    """
    size = len(volume)
    corners = places(shape, size, round(density * shape[0] * shape[1] / size**2), rng, touching=touching)
    images = project(volume, random_rotations(len(corners), rng), ctf=ctf)
    scale = np.sqrt(snr / np.mean(project(volume, random_rotations(200, np.random.default_rng(0)), ctf=ctf) ** 2))
    noise = gaussian_noise(1, shape, rng, power=None if colour == "white" else COLOURS[colour])[0]
    if particles:
        for (y, x), image in zip(corners, images, strict=True):
            noise[y : y + size, x : x + size] += scale * image
    return noise, len(corners) if particles else 0


def write_micrographs(
    folder: Path, volume: np.ndarray, count: int, shape: tuple[int, int], snr: float, seed: int, **more: object
) -> int:
    """Write ``mic_000.mrc`` ... of 10 Å pixels, and ``initial.mrc``; return the number of particles."""
    folder.mkdir(parents=True, exist_ok=True)
    total = 0
    for index in range(count):
        image, number = micrograph(volume, shape, snr, np.random.default_rng([seed, index]), **more)  # type: ignore[arg-type]
        write_mrc(folder / f"mic_{index:03d}.mrc", image, 10.0)
        total += number
    write_mrc(folder / "initial.mrc", volume, 10.0)
    return total
