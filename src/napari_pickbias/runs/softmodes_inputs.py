"""Files of the soft-modes run to records: maps, noise, poses that stand in for others."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from napari_pickbias.errors import InputError
from napari_pickbias.jobs.softmodes_inputs import SoftmodesInputs
from napari_pickbias.jobs.softmodes_parameters import SoftmodesParameters
from napari_pickbias.records import Particles, ParticleSource, Volume, open_particles, read_volume
from napari_pickbias.records.noise import NoiseSpectra
from napari_pickbias.runs.softmodes_models import are_models, model_path

_MAP_SUFFIXES = (".mrc", ".map", ".mrc.gz", ".map.gz", ".mrc.bz2", ".map.bz2")
_POSE_SUFFIXES = (".star", ".cs", ".csg")


def read_inputs(
    map_path: str | Path,
    source: ParticleSource,
    parameters: SoftmodesParameters,
    mask_path: str | Path | None = None,
    path_to: Sequence[str | Path] = (),
    other_particles: str | Path | None = None,
) -> tuple[SoftmodesInputs, list[Path]]:
    """Read all files of a run; return the records, and the files.

    Raises
    ------
    InputError
        When one cannot be read.
    """
    volume = read_volume(map_path, parameters.pixel_size)
    voxel = volume.voxel_size_angstrom
    files = [Path(map_path), source.path]

    def beside(path: str | Path) -> Volume:
        files.append(Path(path))
        return read_volume(path, voxel)

    mask = None if mask_path is None else beside(mask_path)
    noise, halves = _noise(parameters.noise, source, beside, files)
    others = {}
    for name in ("views", "add_views"):
        text = getattr(parameters, name)
        others[name] = None
        if text is not None and text.lower().endswith(_POSE_SUFFIXES):
            files.append(Path(text))
            others[name] = read_poses(open_particles(text), parameters.pixel_size)
    other = None
    if other_particles is not None:
        if not path_to:
            raise InputError("--other-particles: there is no other map; give it with --path-to")
        files.append(Path(other_particles))
        other = read_poses(open_particles(other_particles), parameters.pixel_size)
    if are_models(path_to):
        files.extend(Path(path) for path in path_to)
        steps = model_path(volume, path_to)
    else:
        steps = tuple(beside(path) for path in path_to)
    inputs = SoftmodesInputs(
        volume, _particles(source, parameters, files), mask, noise, halves, others["views"], others["add_views"],
        steps, other,
    )  # fmt: skip
    return inputs, files


def _particles(source: ParticleSource, parameters: SoftmodesParameters, files: list[Path]) -> Particles:
    if not parameters.images:
        return read_poses(source, parameters.pixel_size)
    files.extend(source.input_files()[1:])
    return source.read(parameters.pixel_size)


def read_poses(source: ParticleSource, pixel_size: float | None) -> Particles:
    """Read particles without a look at their images, where the pipeline's adapter can."""
    read: Any = getattr(source, "read_metadata", source.read)
    found: Particles = read(pixel_size)
    return found


def _noise(
    text: str | None, source: ParticleSource, beside: Any, files: list[Path]
) -> tuple[NoiseSpectra | None, tuple[Volume, Volume] | None]:
    if text is None:
        return None, None
    if text.lower().endswith(_MAP_SUFFIXES):
        first = Path(text)
        name, found = re.subn(r"half([12])", lambda m: f"half{3 - int(m[1])}", first.name, count=1)
        second = first.with_name(name)
        if not found or not second.exists():
            missing = f"its other half, {second.name}, is not beside it" if found else "its name has no half1 or half2"
            raise InputError(
                f"--noise {text}: {missing}; give one of two unfiltered half maps, such as run_half1_class001_unfil.mrc"
            )
        return None, (beside(first), beside(second))
    if text.lower().endswith(".star"):
        reader: Any = getattr(source, "read_noise", None)
        if reader is None:
            raise InputError(
                f"--noise {text}: is RELION's, but {source.path} is not; give a half map, or a number, instead"
            )
        files.append(Path(text))
        spectra: NoiseSpectra = reader(Path(text))
        return spectra, None
    return None, None
