"""RELION particle STAR files to the records of the science, and back as subsets."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_pickbias.errors import InputError
from napari_pickbias.records.images import StackImages
from napari_pickbias.records.noise import NoiseSpectra
from napari_pickbias.records.particles import Particles, Poses
from pickbias_relion.project_paths import resolve_all, tried
from pickbias_relion.star import StarFile, open_star
from pickbias_relion.star_columns import Columns, FloatArray, ImageNames, line_of_row, read_columns
from pickbias_relion.star_index import Table, text_of
from pickbias_relion.star_optics import (
    CTF_LABELS,
    FLAGS,
    OLD_PIXEL_LABELS,
    Optics,
    ctf_parameters,
    flag,
    group_of_rows,
    image_sizes,
    pixel_sizes,
    read_optics,
)
from pickbias_relion.star_subset import write_subset

IMAGE = "rlnImageName"
PIXEL_SIZES = ("rlnImagePixelSize", "rlnPixelSize")
_COORDINATES = ("rlnCoordinateX", "rlnCoordinateY")
_ANGLES = ("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi")
_ORIGINS_ANGSTROM = ("rlnOriginXAngst", "rlnOriginYAngst")
_ORIGINS_PX = ("rlnOriginX", "rlnOriginY")
_FLOATS = (*PIXEL_SIZES, *OLD_PIXEL_LABELS, *CTF_LABELS, *_COORDINATES, *_ANGLES, *_ORIGINS_ANGSTROM, *_ORIGINS_PX)
_TOMOGRAPHIC = ("rlnTomoName", "rlnTomoParticleName", "rlnCoordinateZ", "rlnOriginZ", "rlnOriginZAngst")


@dataclass
class RelionParticles:
    """A particle STAR file of RELION 3.0, 3.1, 4 or 5; see :class:`napari_pickbias.records.ParticleSource`."""

    path: Path
    suffix: str = ".star"

    def read(self, pixel_size_angstrom: float | None = None) -> Particles:
        """Read what the science needs; see :func:`read_particles`."""
        return read_particles(self.path, pixel_size_angstrom)

    def read_metadata(self, pixel_size_angstrom: float | None = None) -> Particles:
        """Read as :meth:`read` does, but for the stacks: they need not be there, and no box is looked up in them."""
        return read_particles(self.path, pixel_size_angstrom, images=False)

    def read_noise(self, path: Path) -> NoiseSpectra:
        """Read the noise spectra of a refinement; see :func:`pickbias_relion.noise.read_noise`."""
        from pickbias_relion.noise import read_noise

        return read_noise(path, self.path)

    def input_files(self) -> list[Path]:
        """Return the STAR file and the stacks it names, in order of appearance."""
        star = open_star(self.path)
        table = _particle_table(star)
        images = read_columns(star, table, images=[IMAGE]).images[IMAGE]
        return [self.path, *_stack_paths(star, table, images)]

    def write_subset(
        self, keep: NDArray[np.bool_], target: Path, columns: Mapping[str, NDArray[np.generic]] | None = None
    ) -> list[Path]:
        """Write the kept rows; see :func:`pickbias_relion.write_subset`."""
        return write_subset(self.path, keep, target, columns)


def open_particles(path: str | Path) -> RelionParticles:
    """Open a particle STAR file.

    The file is indexed once here, so what is no STAR file is refused before any work is done.

    Raises
    ------
    InputError
        When it cannot be read or holds no rows of particles, picks or micrographs.
    """
    path = Path(path)
    open_star(path).rows()
    return RelionParticles(path)


def read_particles(path: str | Path, pixel_size_angstrom: float | None = None, *, images: bool = True) -> Particles:
    """Read a particle set of RELION 3.0, 3.1, 4 or 5; images stay on disk.

    Parameters
    ----------
    path : str or Path
        Any STAR file with ``rlnImageName``.
    pixel_size_angstrom : float, optional
        Overrides the file's own, for all particles; Å.
    images : bool
        False: the images will never be read, so stacks that are not there are no fault; box sizes that the file
        does not state are then 0.

    Returns
    -------
    Particles
        Pixel size: ``rlnImagePixelSize`` of the particle's optics group; without it, ``rlnPixelSize``, or
        ``rlnDetectorPixelSize`` (µm) · 10⁴ / ``rlnMagnification`` as RELION 3.0 counts. CTF: per-particle columns, else
        the optics group's; None without defocus or voltage; a missing spherical aberration or amplitude contrast is
        0, as in RELION, and noted. Poses where rot, tilt and psi are present; origins of RELION 3.0 (px) are turned
        into Å. Mask diameter and phase flipping also come from the ``run_itNNN_optimiser.star`` beside a
        ``run_itNNN_data.star``.

    Raises
    ------
    InputError
        When a stack is missing, no pixel size is known, a value is no number, or the particles are tomographic.
    """
    star = open_star(path)
    table = _particle_table(star)
    columns = read_columns(
        star,
        table,
        floats=[label for label in _FLOATS if label in table.labels],
        integers=[label for label in ("rlnOpticsGroup",) if label in table.labels],
        texts=[label for label in ("rlnMicrographName", *FLAGS) if label in table.labels],
        images=[IMAGE],
    )
    optics = read_optics(star)
    names = columns.images[IMAGE]
    notes = [*star.notes, *_check_images(star, table, optics, names)]
    group = group_of_rows(star, table, columns, optics)
    pixel_size = pixel_sizes(star, table, columns, optics, group, PIXEL_SIZES, pixel_size_angstrom)
    ctf, ctf_notes = ctf_parameters(star, columns, optics, group)
    run = _optimiser(star.path)
    flipped, multiplied = (flag(label, columns, optics, star.value(label), run.get(label)) for label in FLAGS)
    if multiplied:
        notes.append(f"{star.path}: the images are multiplied by their CTF already (rlnCtfDataAreCtfPremultiplied)")
    return Particles(
        images=_stacks(star, table, names, image_sizes(optics, group), needed=images),
        pixel_size_angstrom=pixel_size,
        optics_group=group,
        optics_group_names=optics.names,
        ctf=ctf,
        phase_flipped=flipped,
        micrograph=columns.texts["rlnMicrographName"].strings() if "rlnMicrographName" in columns.texts else None,
        coordinates_px=_pair(columns, _COORDINATES),
        poses=_poses(columns, pixel_size),
        particle_diameter_angstrom=_diameter(run),
        notes=(*notes, *ctf_notes),
    )


def _particle_table(star: StarFile) -> Table:
    table = star.rows()
    if IMAGE not in table.labels:
        raise InputError(
            f"{star.path}: {table.name} has no column {IMAGE}, so there are no particle images to read; "
            "extract the particles first and give the extraction's particles.star"
        )
    if table.n_rows == 0:
        raise InputError(f"{star.path}: {table.name} has no rows; give a file with particles in it")
    return table


def _check_images(star: StarFile, table: Table, optics: Optics, images: ImageNames) -> list[str]:
    """Refuse what is no set of 2-D images; note names that do not say which image of the file is meant."""
    bare = images.slice_index < 0
    tomographic = any(label in table.labels for label in _TOMOGRAPHIC)
    volumes = (optics.columns.integers.get("rlnImageDimensionality", np.zeros(1)) == 3).any()
    if volumes or (bare.any() and tomographic):
        raise InputError(
            f"{star.path}: holds subtomograms or tilt stacks of tomography, not single-particle images; "
            "give a single-particle set (rows of this file can be filtered, its images not judged)"
        )
    if not bare.any():
        return []
    names = "1 image name" if bare.sum() == 1 else f"{bare.sum()} image names"
    return [f"{star.path}: {names} without number and @; the first image of such a file is used"]


def _stacks(
    star: StarFile, table: Table, names: ImageNames, box_sizes: NDArray[np.int64] | None, *, needed: bool
) -> StackImages:
    """Return the images; where they are not ``needed``, by the names in the file alone."""
    if needed:
        paths = _stack_paths(star, table, names)
    else:
        paths = [Path(os.fsdecode(name)) for name in names.files.values]
        box_sizes = np.zeros(table.n_rows, np.int64) if box_sizes is None else box_sizes
    return StackImages(paths, names.files.codes, np.maximum(names.slice_index, 0), box_sizes=box_sizes)


def _stack_paths(star: StarFile, table: Table, images: ImageNames) -> list[Path]:
    """Return the stacks' paths; ``InputError`` for the first that is not there."""
    paths: list[Path] = []
    for code, path in enumerate(resolve_all(images.files.values, star.path)):
        if path is None:
            row = int((images.files.codes == code).argmax())
            raise InputError(
                f"{star.path}: line {line_of_row(star, table, row)} names the stack "
                f"{text_of(images.files.values[code])!r}, which is not there; looked in {tried(star.path)}; "
                "run in the RELION project's folder, or put the stacks back"
            )
        paths.append(path)
    return paths


def _pair(columns: Columns, labels: tuple[str, str]) -> FloatArray | None:
    if not all(label in columns.floats for label in labels):
        return None
    return np.stack([columns.floats[label] for label in labels], axis=1)


def _poses(columns: Columns, pixel_size: FloatArray) -> Poses | None:
    if not all(label in columns.floats for label in _ANGLES):
        return None
    shifts = _pair(columns, _ORIGINS_ANGSTROM)
    if shifts is None:
        pixels = _pair(columns, _ORIGINS_PX)
        shifts = np.zeros((len(pixel_size), 2)) if pixels is None else pixels * pixel_size[:, None]
    return Poses(np.stack([columns.floats[label] for label in _ANGLES], axis=1), shifts)


def _optimiser(path: Path) -> dict[str, str]:
    """Return what the refinement that wrote ``run_itNNN_data.star`` says of its images in the optimiser beside it."""
    name, found = re.subn(r"_data\.star$", "_optimiser.star", path.name)
    beside = path.with_name(name)
    if not found or not beside.is_file():
        return {}
    try:
        star = open_star(beside)
    except InputError:  # a damaged neighbour is no fault of the file that was given
        return {}
    values = {label: star.value(label) for label in ("rlnParticleDiameter", *FLAGS)}
    return {label: value for label, value in values.items() if value is not None}


def _diameter(run: dict[str, str]) -> float | None:
    try:
        diameter = float(run["rlnParticleDiameter"])
    except (KeyError, ValueError):
        return None
    return diameter if np.isfinite(diameter) and diameter > 0 else None
