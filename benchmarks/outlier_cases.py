"""The synthetic stacks on which outlier removal is measured: the published experiment and harder variants of it.

``cases()`` names them; ``make_case(spec, data_dir, seed)`` makes one. Each has 1000 inliers and 333 images of each
kind of outlier, made at 85 px with the published geometry and Fourier-cropped to the working size.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple

import mrcfile
import numpy as np
from numpy.typing import NDArray

from napari_pickbias.imaging.fourier import fourier_resample_volume
from napari_pickbias.imaging.simulation import published_stack
from napari_pickbias.imaging.volumes import mass_centre_and_radius, resize_box, soft_ball

MAPS = {
    "70S": "aspire-python/clean70SRibosome_vol_65p.mrc",
    "5295": "maps/emd_5295.map",
    "2479": "maps/emd_2479.map",
    "1832": "maps/emd_1832.map.gz",
}


class Case(NamedTuple):
    """One stack."""

    name: str
    molecule: str
    snr: float
    definition: Literal["mean", "power"]
    """``mean``: the paper's SNR (1/n); ``power``: variance ratio at the working size (P in the names)."""
    colour: str
    size: int
    two_particles: Literal["mean", "sum"] = "mean"
    held_out: bool = False

    @property
    def radius_px(self) -> float:
        """Radius that holds about 98 % of the mass, working pixels."""
        return (9.0 if self.molecule == "70S" else 8.2) * self.size / 33


def cases() -> list[Case]:
    """Return the 26 cases in the order of the published table."""
    published = [Case(f"70S 1/{n} white 33", "70S", 1 / n, "mean", "published", 33) for n in (10, 20, 40, 70, 100, 184)]
    coloured = [
        Case("70S 1/20 amp/index 33", "70S", 1 / 20, "mean", "amp/index", 33),
        Case("70S 1/20 pow/index 33", "70S", 1 / 20, "mean", "pow/index", 33),
        Case("70S 1/70 pow/index 33", "70S", 1 / 70, "mean", "pow/index", 33),
        Case("70S 1/70 amp/rad 33", "70S", 1 / 70, "mean", "amp/rad", 33),
    ]
    elongated = [
        Case("5295 P.115 white 33", "5295", 0.115, "power", "white", 33),
        Case("5295 P1.4 white 33", "5295", 1.4, "power", "white", 33),
        Case("5295 P.3 amp/index 33", "5295", 0.3, "power", "amp/index", 33),
        Case("5295 P1.4 amp/index 33", "5295", 1.4, "power", "amp/index", 33),
        Case("5295 P.115 pow/index 33", "5295", 0.115, "power", "pow/index", 33),
        Case("70S 1/20 white 33 sum", "70S", 1 / 20, "mean", "white", 33, "sum"),
        Case("5295 P1.4 white 33 sum", "5295", 1.4, "power", "white", 33, "sum"),
    ]
    larger = [
        Case("2479 P.115 amp/rad 55", "2479", 0.115, "power", "amp/rad", 55, held_out=True),
        Case("70S 1/20 white 55", "70S", 1 / 20, "mean", "white", 55),
        Case("5295 P.5 white 55", "5295", 0.5, "power", "white", 55),
        Case("70S 1/70 pow/index 55", "70S", 1 / 70, "mean", "pow/index", 55),
    ]
    held_out = [
        Case("2479 P.4 amp/rad 33", "2479", 0.4, "power", "amp/rad", 33, held_out=True),
        Case("2479 P.115 amp/rad 33", "2479", 0.115, "power", "amp/rad", 33, held_out=True),
        Case("2479 P.4 amp/rad 33 sum", "2479", 0.4, "power", "amp/rad", 33, "sum", held_out=True),
        Case("1832 P.3 mix 33", "1832", 0.3, "power", "mix", 33, held_out=True),
        Case("1832 P.05 mix 33", "1832", 0.05, "power", "mix", 33, held_out=True),
    ]
    return published + coloured + elongated + larger + held_out


def make_case(spec: Case, data_dir: Path, seed: int) -> tuple[NDArray[np.float32], NDArray[np.int8], float]:
    """Make one stack.

    Parameters
    ----------
    spec : Case
        One of ``cases()``.
    data_dir : Path
        Folder of the maps.
    seed : int
        Same seed, same stack.

    Returns
    -------
    images : ndarray, shape (1999, size, size), float32
    labels : ndarray, shape (1999,), int8
        0 inlier, 1 multiple, 2 noise, 3 partial.
    radius_px : float
        Radius of the particle, working pixels.
    """
    volume = load_molecule(spec.molecule, data_dir)
    stack = published_stack(
        volume,
        spec.snr,
        np.random.default_rng(seed),
        new_size=spec.size,
        colour=spec.colour,
        snr_definition=spec.definition,
        two_particles=spec.two_particles,
    )
    return stack.images, stack.labels, spec.radius_px


def load_molecule(molecule: str, data_dir: Path) -> NDArray[np.float32]:
    """Read a map; all but the 70S are brought to a radius of 8.2 px at 33 px, centred, their solvent set to zero."""
    volume = np.asarray(mrcfile.read(data_dir / MAPS[molecule]), np.float32)
    if molecule == "70S":
        return volume
    _, radius = mass_centre_and_radius(volume)
    volume = np.where(volume > 0.05 * volume.max(), volume, np.float32(0))
    scaled = np.asarray(fourier_resample_volume(volume, round(len(volume) * (8.2 * 85 / 33) / radius)), np.float32)
    centre, radius = mass_centre_and_radius(scaled)
    centred = np.roll(resize_box(scaled, 2 * 85), -np.rint(centre[::-1]).astype(int), axis=(0, 1, 2))
    mask = soft_ball(85, 1.15 * radius, 0.2 * radius)
    return np.asarray(resize_box(centred, 85) * mask, np.float32)
