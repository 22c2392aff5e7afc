"""What the soft-modes job computes with, made from records; every fault of the inputs is found here."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from napari_pickbias.errors import InputError
from napari_pickbias.imaging.ctf import ctf
from napari_pickbias.imaging.fourier import fourier_resample_volume
from napari_pickbias.imaging.rotations import Views, matrices_from_euler, parse_views, random_rotations
from napari_pickbias.imaging.volumes import soft_ball
from napari_pickbias.jobs.softmodes_parameters import SoftmodesParameters
from napari_pickbias.records import CtfParameters, Particles, Volume
from napari_pickbias.records.noise import NoiseSpectra
from napari_pickbias.softmodes.binning import Bins, bin_views
from napari_pickbias.softmodes.modes import NOISE_RATIO, mean_energy
from napari_pickbias.softmodes.noise import NoiseWeights, half_map_spectrum, noise_weights
from napari_pickbias.softmodes.views import make_views

DEFAULT_BOX = 32
SAME_VIEW_DEG = 1.0
"""Views that all lie within this angle of each other are one view."""
SCALE_TOLERANCE = 0.02
"""Relative difference of voxel sizes, or of boxes in Å, from which a map is not that of the particles."""


@dataclass(frozen=True)
class SoftmodesInputs:
    """The records of the job.

    Attributes
    ----------
    volume : Volume
        Refined map, a cube.
    particles : Particles
        With poses; their images are not opened.
    mask : Volume or None
        Of the map's shape; 0.5 and above is the support.
    noise : NoiseSpectra or None
        Of the refinement.
    half_maps : tuple of two Volume, or None
        Unfiltered half maps, of the map's shape.
    views, add_views : Particles or None
        Whose poses stand in for ``--views FILE`` and ``--add-views FILE``.
    path : tuple of Volume
        Maps that a path from the map goes through.
    other : Particles or None
        Those that the last map of the path was made from.
    """

    volume: Volume
    particles: Particles
    mask: Volume | None = None
    noise: NoiseSpectra | None = None
    half_maps: tuple[Volume, Volume] | None = None
    views: Particles | None = None
    add_views: Particles | None = None
    path: tuple[Volume, ...] = field(default=())
    other: Particles | None = None


@dataclass(frozen=True)
class Problem:
    """What the science is given: ``m`` weighted views in the working box ``n``."""

    working: NDArray[np.float64]
    support: NDArray[np.bool_]
    voxel_size_angstrom: float
    bins: Bins
    rotations: NDArray[np.float64]
    """``(m, 3, 3)``"""
    ctf: CtfParameters | None
    """Of the ``m`` views."""
    noise_group: NDArray[np.int64]
    """``(m,)``"""
    noise: NoiseWeights | None
    variance: float
    weights: NDArray[np.float64]
    symmetry: NDArray[np.float64]
    all_rotations: NDArray[np.float64]
    """``(particles, 3, 3)``"""
    threads: int = 1
    observed: NDArray[np.complex128] | None = None
    """``(m, p)`` filtered images of the views' representatives, with ``--images``."""

    @property
    def size(self) -> int:
        """Side of the working box."""
        return len(self.working)

    def coarsest_px(self, parameters: SoftmodesParameters) -> float | None:
        """Return ``--coarsest`` in voxels of the working box."""
        return None if parameters.coarsest is None else parameters.coarsest / self.voxel_size_angstrom

    def filters(
        self, rows: NDArray[np.int64] | None = None, values: CtfParameters | None = None
    ) -> NDArray[np.float64] | None:
        """Return CTF over noise of the views (of ``rows``), by their own CTF or by ``values``; None is 1."""
        parameters, group = values or self.ctf, self.noise_group
        if rows is not None:
            parameters, group = (None if parameters is None else parameters.take(rows)), group[rows]
        transfer = None if parameters is None else ctf_filters(parameters, self.size, self.voxel_size_angstrom)
        if self.noise is None:
            return transfer
        factors = self.noise.factors[group]
        return factors if transfer is None else np.asarray(transfer * factors)


def prepare(inputs: SoftmodesInputs, parameters: SoftmodesParameters, notes: list[str], threads: int = 1) -> Problem:
    """Check the inputs and bring them into the working box; ``notes`` gathers warnings.

    Raises
    ------
    InputError
        No poses, one particle, all views equal, a map that is no cube or of another scale than the particles, a box
        larger than the map, a mask that is empty or of another shape, noise of another refinement.
    """
    volume, particles = inputs.volume, inputs.particles
    size = _working_box(volume, parameters)
    _check_scale(volume, particles, notes)
    voxel = volume.voxel_size_angstrom * volume.data.shape[0] / size
    rng = np.random.default_rng(parameters.seed)
    rotations = _rotations(inputs, parameters, rng)
    own = parameters.views is None
    transfer = particles.ctf
    row = np.arange(len(rotations)) % len(particles)  # particle whose CTF a view takes
    defocus = None if transfer is None else mean_defocus(transfer)[row]
    bins = bin_views(rotations, defocus, parameters.most_views, rng)
    if len(bins.rows) < len(rotations):
        notes.append(
            f"{len(rotations)} particles are computed as {len(bins.rows)} weighted views; particles of a view share "
            "its numbers"
        )
    if transfer is None:
        notes.append("the particles have no CTF: it is taken as 1")
    working, support = _volumes(volume, inputs.mask, size)
    weights = bins.weights
    if parameters.particles_count is not None:
        weights = weights * (parameters.particles_count / weights.sum())
        notes.append(f"what if: {parameters.particles_count} particles instead of {len(rotations)}")
    if not own:
        notes.append(f"what if: the views are {parameters.views}, not those of the particles")
    group = np.zeros(len(bins.rows), np.int64) if inputs.noise is None else inputs.noise.group[row[bins.rows]]
    problem = Problem(
        working, support, voxel, bins, rotations[bins.rows],
        None if transfer is None else transfer.take(row[bins.rows]), group, None, 1.0, weights,
        _symmetry(parameters.symmetry), rotations, threads,
    )  # fmt: skip
    noise, variance = _noise(inputs, parameters, problem, notes)
    return Problem(**{**problem.__dict__, "noise": noise, "variance": variance})


def _working_box(volume: Volume, parameters: SoftmodesParameters) -> int:
    shape = volume.data.shape
    if len(set(shape)) != 1:
        raise InputError(f"--map: its box is {' × '.join(map(str, shape))} voxels, not a cube; give a cubic map")
    if not np.isfinite(volume.data).all() or not volume.data.any():
        raise InputError("--map: holds NaN, or nothing but zeros; give the refined map")
    if shape[0] < 8:
        raise InputError(f"--map: its box has {shape[0]} voxels a side; soft modes need at least 8")
    if parameters.box is not None and parameters.box > shape[0]:
        raise InputError(f"--box {parameters.box}: is larger than the map, {shape[0]} voxels; give at most that")
    return parameters.box or min(DEFAULT_BOX, shape[0])


def _check_scale(volume: Volume, particles: Particles, notes: list[str]) -> None:
    """Refuse a map that is neither of the particles' pixel size nor of their box; a wrong hand cannot be seen."""
    voxel, side = volume.voxel_size_angstrom, volume.data.shape[0]
    pixel = float(np.median(particles.pixel_size_angstrom))
    boxes = particles.images.box_sizes
    box = int(np.median(boxes)) if len(boxes) else 0
    wrong_pixel = abs(voxel / pixel - 1) > SCALE_TOLERANCE
    if not wrong_pixel:
        if box > 0 and box != side:
            notes.append(f"the map has {side} voxels a side and the particles {box} px: taken as cropped or padded")
        return
    stated = f"{voxel:.4g} Å × {side} voxels, the particles {pixel:.4g} Å" + (f" × {box} px" if box else "")
    if box == 0 or abs(voxel * side / (pixel * box) - 1) > SCALE_TOLERANCE:
        raise InputError(
            f"--map: is of another scale than the particles: it has {stated}; give the map of this refinement, or "
            "--pixel-size if a header is wrong"
        )
    notes.append(f"the map has another sampling than the particles, in the same box: it has {stated}")


def parse_direction(text: str, option: str) -> Views:
    """Read a distribution of views as :func:`parse_views` does, naming ``option`` in its message."""
    try:
        return parse_views(text)
    except InputError as error:
        raise InputError(str(error).replace("--views", option, 1) + "; or a particle file") from error


def poses_of(particles: Particles, option: str) -> NDArray[np.float64]:
    """Return the rotations of particles.

    Raises
    ------
    InputError
        Where they have none, or some are no numbers.
    """
    if particles.poses is None:
        raise InputError(
            f"{option}: has no poses (rlnAngleRot, rlnAngleTilt, rlnAnglePsi); give the particles of a refinement, "
            "such as run_data.star"
        )
    if not np.isfinite(particles.poses.euler_deg).all():
        raise InputError(f"{option}: some angles are no numbers; give the particles of a finished refinement")
    return matrices_from_euler(particles.poses.euler_deg)


def _rotations(
    inputs: SoftmodesInputs, parameters: SoftmodesParameters, rng: np.random.Generator
) -> NDArray[np.float64]:
    count = len(inputs.particles)
    if count < 2:
        raise InputError(f"--particles: holds {count} particle; a map from it has no soft modes, give a whole data set")
    if parameters.views is None:
        return _not_all_equal(poses_of(inputs.particles, "--particles"), "--particles")
    if inputs.views is not None:
        return _not_all_equal(poses_of(inputs.views, f"--views {parameters.views}"), "--views")
    return random_rotations(count, rng, parse_direction(parameters.views, "--views"))


def _not_all_equal(rotations: NDArray[np.float64], option: str) -> NDArray[np.float64]:
    # Opposite directions see the same plane of Fourier space.
    direction = rotations[:, 2]
    if np.abs(direction @ direction[0]).min() > np.cos(np.radians(SAME_VIEW_DEG)):
        raise InputError(
            f"{option}: all views are the same, so one slice of the map is all that they tell; give the particles "
            "after a refinement of their angles"
        )
    return rotations


def _symmetry(name: str) -> NDArray[np.float64]:
    if name.upper() == "C1":
        return np.eye(3)[None]
    from napari_pickbias.matching.views import symmetry_rotations

    return symmetry_rotations(name)


def mean_defocus(values: CtfParameters) -> NDArray[np.float64]:
    """Return the mean defocus of each particle, Å."""
    return np.asarray((values.defocus_u_angstrom + values.defocus_v_angstrom) / 2)


def ctf_filters(values: CtfParameters, size: int, voxel: float) -> NDArray[np.float64]:
    """Return the CTFs in the working box, ``(m, n, n // 2 + 1)``."""
    return np.asarray(
        ctf(
            (size, size), voxel,
            defocus_u_angstrom=values.defocus_u_angstrom, defocus_v_angstrom=values.defocus_v_angstrom,
            defocus_angle_deg=values.defocus_angle_deg, voltage_kv=values.voltage_kv,
            spherical_aberration_mm=values.spherical_aberration_mm, amplitude_contrast=values.amplitude_contrast,
            phase_shift_deg=values.phase_shift_deg,
        )
    )  # fmt: skip


def _volumes(volume: Volume, mask: Volume | None, size: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    working = np.asarray(fourier_resample_volume(volume.data.astype(np.float64), size), np.float64)
    if mask is None:
        return working, soft_ball(size, size / 2 - 1) >= 0.5
    check_shape(mask, volume, "--mask", "a mask")
    support = fourier_resample_volume(mask.data.astype(np.float64), size) >= 0.5
    if not (mask.data >= 0.5).any() or support.sum() < 150:
        raise InputError(
            f"--mask: is empty, or nearly so: {int(support.sum())} of {size}³ working voxels reach 0.5; give a mask "
            "that holds the molecule, or a larger --box"
        )
    if not working[support].any():
        raise InputError("--mask: the map is zero within it; give the mask of this map")
    return working, support


def check_shape(other: Volume, volume: Volume, option: str, what: str) -> None:
    """Refuse a volume that has not the map's shape."""
    if other.data.shape != volume.data.shape:
        raise InputError(
            f"{option}: has {' × '.join(map(str, other.data.shape))} voxels, the map "
            f"{' × '.join(map(str, volume.data.shape))}; give {what} of the map's box"
        )


def _noise(
    inputs: SoftmodesInputs, parameters: SoftmodesParameters, problem: Problem, notes: list[str]
) -> tuple[NoiseWeights | None, float]:
    """Return weights by frequency (None for white noise) and the variance per pixel of the working box."""
    volume, size = inputs.volume, problem.size
    # Density is kept when a box is resampled: sums along z shrink, and so does the noise of the same coefficients.
    shrink = (size / volume.data.shape[0]) ** 4
    if inputs.noise is not None:
        spectra = inputs.noise
        if abs(spectra.pixel_size_angstrom / volume.voxel_size_angstrom - 1) > SCALE_TOLERANCE:
            raise InputError(
                f"--noise {parameters.noise}: is of a refinement with {spectra.pixel_size_angstrom:.4g} Å pixels, the "
                f"map has {volume.voxel_size_angstrom:.4g} Å; give the model of the map's own refinement"
            )
        notes.extend(spectra.notes)
        # Shells of the working box, where the refinement's box may be another.
        shells = np.arange(size // 2 + 1) * spectra.box_px / volume.data.shape[0]
        known = np.arange(spectra.variance.shape[1])
        table = np.stack([np.interp(shells, known, row) for row in spectra.variance])
        counts = np.bincount(problem.noise_group, problem.weights, len(table)).astype(np.float64)
        weights = noise_weights(shrink * table, size, counts)
        return weights, weights.variance
    if inputs.half_maps is not None:
        return _half_map_noise(inputs, parameters, problem)
    ratio = NOISE_RATIO
    if parameters.noise is None and parameters.images:
        pass  # measured on the residuals
    elif parameters.noise is None:
        notes.append(
            f"no --noise given: the noise is taken as white, {NOISE_RATIO:g} times the mean energy of the map's "
            "projections per pixel; amplitudes scale with its square root"
        )
    else:
        assert parameters.noise is not None
        ratio = noise_number(parameters.noise)
    # White noise has the same power in each Fourier coefficient: a smaller box holds fewer of them.
    return None, ratio * mean_energy(problem.working, problem.support) / volume.data.shape[0] ** 2


def noise_number(text: str) -> float:
    """Return the number that ``--noise`` gives; ``InputError`` where it is none above 0."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < np.inf:
        raise InputError(f"--noise {text}: is neither a number above 0 nor a file; give model.star, a half map, or 13")
    return value


def _half_map_noise(
    inputs: SoftmodesInputs, parameters: SoftmodesParameters, problem: Problem
) -> tuple[NoiseWeights, float]:
    assert inputs.half_maps is not None
    halves = []
    for half in inputs.half_maps:
        check_shape(half, inputs.volume, f"--noise {parameters.noise}", "half maps")
        halves.append(fourier_resample_volume(half.data.astype(np.float64), problem.size))
    copies = len(problem.symmetry)
    # A symmetric map has each image at all its equal views.
    rotations = np.concatenate([problem.rotations @ turn for turn in problem.symmetry])
    filters = problem.filters()
    views = make_views(
        rotations, problem.size, ctf=None if filters is None else np.concatenate([filters] * copies),
        weights=np.tile(problem.bins.weights, copies),
    )  # fmt: skip
    spectrum = half_map_spectrum(halves[0], halves[1], views)
    if not (spectrum > 0).all():
        raise InputError(
            f"--noise {parameters.noise}: the half maps are the same, so they show no noise; give the two unfiltered "
            "half maps of one refinement"
        )
    weights = noise_weights(spectrum[None], problem.size)
    return weights, weights.variance
