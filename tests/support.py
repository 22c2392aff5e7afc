"""Data and helpers that tests of several rooms share."""

from __future__ import annotations

from pathlib import Path

import mrcfile
import numpy as np


def blob_stack(
    inliers: int, each: int, box: int = 33, radius: float = 9.0, signal: float = 1.2, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Particles that every detector must be able to judge: soft discs in white noise of standard deviation 1.

    Returns images ``(n, box, box)`` float32 and labels (0 inlier, 1 multiple, 2 noise, 3 partial), kinds one after
    another. ``signal`` is the disc's height.
    """
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:box, :box] - box // 2

    def disc(dy: float, dx: float) -> np.ndarray:
        return 1 / (1 + np.exp((np.hypot(y - dy, x - dx) - 0.75 * radius) / 0.8))

    clean, labels = [], []
    for label, count in ((0, inliers), (1, each), (2, each), (3, each)):
        for _ in range(count):
            angle = rng.uniform(0, 2 * np.pi)
            along = np.array([np.sin(angle), np.cos(angle)])
            if label == 0:
                image = disc(*rng.normal(0, 1.2, 2))
            elif label == 1:
                image = disc(*rng.normal(0, 0.8, 2)) + disc(*(1.4 * radius * along))
            elif label == 2:
                image = np.zeros((box, box))
            else:
                image = disc(*(rng.uniform(1.45, 1.7) * radius * along))
            clean.append(signal * image)
            labels.append(label)
    images = np.array(clean) + rng.normal(size=(len(clean), box, box))
    return images.astype(np.float32), np.array(labels, dtype=np.int8)


def write_stack(path: Path, images: np.ndarray, pixel_size: float = 4.0) -> Path:
    """Write images as an MRC stack with the field's own library, so that tests do not lean on our writer."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with mrcfile.new(path, overwrite=True) as mrc:
        mrc.set_data(images)
        mrc.set_image_stack()
        mrc.voxel_size = pixel_size
    return path


def write_project(
    folder: Path,
    images: np.ndarray,
    *,
    pixel_size: float = 4.0,
    stacks: int = 2,
    groups: tuple[tuple[float, int], ...] | None = None,
) -> Path:
    """Write a small RELION 3.1 project with ``stacks`` stacks and return its particles.star.

    ``groups`` states (pixel size, box) of each optics group, one group a stack; by default all share one.
    """
    parts = np.array_split(np.arange(len(images)), stacks)
    rows = []
    for number, members in enumerate(parts):
        name = f"Extract/job002/Movies/mic{number:03d}.mrcs"
        write_stack(folder / name, images[members], pixel_size)
        rows += [
            f"{i + 1:06d}@{name} Movies/mic{number:03d}.mrc {100.5 + i} {200.25 + i} {number + 1 if groups else 1}"
            for i in range(len(members))
        ]
    described = groups or ((pixel_size, images.shape[-1]),)
    optics = [
        f"opticsGroup{k + 1} {k + 1} 300.000000 2.700000 0.100000 {pixel:.6f} {box} 2"
        for k, (pixel, box) in enumerate(described)
    ]
    star = folder / "Extract/job002/particles.star"
    star.write_text(
        "\n# version 30001\n\ndata_optics\n\nloop_\n_rlnOpticsGroupName #1\n_rlnOpticsGroup #2\n_rlnVoltage #3\n"
        "_rlnSphericalAberration #4\n_rlnAmplitudeContrast #5\n_rlnImagePixelSize #6\n_rlnImageSize #7\n"
        "_rlnImageDimensionality #8\n"
        + "\n".join(optics)
        + "\n\n\n# version 30001\n\ndata_particles\n\nloop_\n_rlnImageName #1\n_rlnMicrographName #2\n"
        "_rlnCoordinateX #3\n_rlnCoordinateY #4\n_rlnOpticsGroup #5\n" + "\n".join(rows) + "\n\n"
    )
    return star
