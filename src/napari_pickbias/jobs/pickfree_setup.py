"""What a reconstruction without picking starts from: map, stages and options; and what is refused at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_pickbias.errors import InputError
from napari_pickbias.imaging.fourier import fourier_resample_volume
from napari_pickbias.imaging.volumes import soft_ball
from napari_pickbias.jobs.pickfree_parameters import PickfreeParameters, parse_stages
from napari_pickbias.pickfree.chain import Options, Stage
from napari_pickbias.pickfree.dense import array_library
from napari_pickbias.pickfree.reconstruct import (
    DEFAULT_ROTATIONS,
    PAPER_ROTATIONS,
    default_stages,
    paper_options,
    paper_stages,
)
from napari_pickbias.pickfree.start import default_lowpass
from napari_pickbias.records import Volume

Array32 = NDArray[np.float32]


def initial_map(initial: Volume, box: int) -> tuple[Array32, float, list[str]]:
    """Return the initial map in the working box, the voxel size there, and warnings.

    Raises
    ------
    InputError
        A map that is no cube, empty, or smaller than the box.
    """
    shape = initial.data.shape
    if len(set(shape)) != 1:
        raise InputError(
            f"--initial-map: its box is {' × '.join(map(str, shape))} voxels, not a cube; give a cubic map"
        )
    if not np.isfinite(initial.data).all() or not np.ptp(initial.data):
        raise InputError("--initial-map: holds NaN, or the same value everywhere; give a map of the molecule")
    if box > shape[0]:
        raise InputError(f"--box {box}: is larger than the initial map, {shape[0]} voxels; give at most that")
    volume = np.asarray(fourier_resample_volume(initial.data.astype(np.float64), box), np.float32)
    warnings = []
    inside = float(np.sum(volume**2 * soft_ball(box, box // 2)))
    if inside < 0.9 * float(np.sum(volume**2)):
        warnings.append(
            "more than a tenth of the initial map's power lies outside the ball that fits its box, and is cut off"
        )
    return volume, initial.voxel_size_angstrom * shape[0] / box, warnings


def origin_of(initial: Volume, box: int, voxel: float) -> tuple[float, float, float]:
    """Return where the first voxel of the new box lies: voxel ``n // 2`` stays in place."""
    moved = (initial.data.shape[0] // 2) * initial.voxel_size_angstrom - (box // 2) * voxel
    x, y, z = initial.origin_angstrom
    return x + moved, y + moved, z + moved


def check_device(device: str) -> None:
    """Refuse a device that is not there."""
    try:
        array_library(device)
    except ImportError as error:
        raise InputError(
            f"--device {device}: cannot be used ({error}); install CuPy for this machine's CUDA, or give --device cpu"
        ) from error


def start_shell(parameters: PickfreeParameters, voxel: float) -> int:
    """Return the last Fourier shell of the start."""
    if parameters.lowpass is None:
        return default_lowpass(parameters.box)
    shell = int(parameters.box * voxel / parameters.lowpass)
    if shell < 1:
        raise InputError(
            f"--lowpass {parameters.lowpass:g}: is coarser than the box of {parameters.box * voxel:.4g} Å, so nothing "
            "of the initial map would be left; give at most that"
        )
    return shell


def cells_of(rotations: int) -> int | None:
    """Return the number of cells: one for each rotation of a grid as coarse as the published one."""
    return rotations if rotations <= PAPER_ROTATIONS else None


def course_of(parameters: PickfreeParameters, threads: int) -> tuple[tuple[Stage, ...], Options, int]:
    """Return stages, options and the number of rotations."""
    options = Options(
        learn_noise=parameters.noise is None,
        learn_views=parameters.views,
        junk=parameters.junk,
        threads=threads,
        device=parameters.device,
    )
    stages, rotations = default_stages(parameters.iterations), parameters.rotations or DEFAULT_ROTATIONS
    if parameters.preset == "paper":
        stages, options = paper_stages(parameters.box), paper_options(options)
        rotations = parameters.rotations or PAPER_ROTATIONS
    if parameters.stages is not None:
        parts = parse_stages(parameters.stages)
        stages = tuple(
            Stage(n, share, band, fine=i == len(parts) - 1 and share == 1) for i, (n, share, band) in enumerate(parts)
        )
    return stages, options, rotations
