"""Micrographs with particles at known places, behind the stub servers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from interop.cryosparc_files import make_micrographs
from pickfree_scene import micrograph, molecule
from picking_scenes import colour

from napari_pickbias.imaging.noise import gaussian_noise
from napari_pickbias.imaging.phantoms import blob_volume, phantom
from napari_pickbias.imaging.projection import project
from napari_pickbias.imaging.rotations import random_rotations

PIXEL_SIZE, BOX, SIDE = 10.0, 24, 256


def make_picking_scene(root: Path, count: int = 2, each: int = 12) -> np.ndarray:
    """Write micrographs of strong bright particles; return their places, ``(count, each, 2)``, x and y."""
    rng = np.random.default_rng(4)
    density = blob_volume(phantom(8.0, elongation=1.6), BOX)
    images, places = [], []
    for _ in range(count):
        image = gaussian_noise(1, (SIDE, SIDE), rng, power=colour)[0]
        grid = np.stack(np.meshgrid(np.arange(4), np.arange(4)), axis=-1).reshape(-1, 2)
        corners = rng.permutation(grid)[:each] * 62 + rng.integers(2, 34, (each, 2))
        shapes = project(density, random_rotations(each, rng))
        shapes -= shapes.mean(axis=(1, 2), keepdims=True)  # brighter areas would pass for carbon
        for (x, y), shape in zip(corners, 0.5 * shapes / shapes.std(axis=(1, 2), keepdims=True), strict=True):
            image[y : y + BOX, x : x + BOX] += shape
        images.append(image)
        places.append(corners + BOX // 2)
    templates = project(density, random_rotations(6, rng))
    make_micrographs(root, np.array(images), density, templates, PIXEL_SIZE)
    return np.array(places)


def make_pickfree_scene(root: Path, box: int = 9) -> None:
    """Write micrographs of touching particles."""
    rng, density = np.random.default_rng(5), molecule(box)
    images = [micrograph(density, (200, 180), 2.0, rng)[0] for _ in range(2)]
    make_micrographs(root, np.array(images), density, project(density, random_rotations(4, rng)), PIXEL_SIZE)
