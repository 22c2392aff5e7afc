"""The soft-modes job: a map and its particles' poses in, modes, amplitudes and uncertainties out; no image is read."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_pickbias.errors import InputError
from napari_pickbias.imaging.ctf import ctf
from napari_pickbias.imaging.fourier import fourier_resample_volume
from napari_pickbias.imaging.rotations import Views, matrices_from_euler, parse_views, random_rotations
from napari_pickbias.imaging.volumes import soft_ball
from napari_pickbias.jobs.progress import Progress
from napari_pickbias.jobs.softmodes_parameters import SoftmodesParameters
from napari_pickbias.records import Particles, Volume
from napari_pickbias.softmodes import SoftModes, soft_modes
from napari_pickbias.softmodes.binning import bin_views
from napari_pickbias.softmodes.modes import NOISE_RATIO, mean_energy

DEFAULT_BOX = 32
SAME_VIEW_DEG = 1.0
"""Views that all lie within this angle of each other are one view."""
LARGE_TURN_DEG = 5.0
UNSEEN = 0.005
"""Eigenvalue below which a direction counts as not seen: exact equatorial views stay above 0.02 in a tight mask."""
UNCONVERGED = 0.05
"""Residual above which an eigenvalue is said not to be final."""


@dataclass(frozen=True)
class SoftmodesResult:
    """Everything the report and the adapters need.

    Attributes
    ----------
    parameters : SoftmodesParameters
    found : SoftModes
        In the working box.
    volume : ndarray, shape (n, n, n)
        The map in the working box, within the support.
    box_px : int
        Working box ``n``.
    voxel_size_angstrom : float
        Of the working box.
    map_box_px : int
        Side of the map.
    rotations : ndarray, shape (J, 3, 3)
        Views computed with.
    weights : ndarray, shape (J,)
        Images that each stands for.
    row_view : ndarray of int, shape (particles,), or None
        View of each particle; None when the views are not the particles' own.
    particles : int
    warnings : list of str
    added : SoftModes or None
        With the views of ``add_views`` added.
    """

    parameters: SoftmodesParameters
    found: SoftModes
    volume: NDArray[np.float64]
    box_px: int
    voxel_size_angstrom: float
    map_box_px: int
    rotations: NDArray[np.float64]
    weights: NDArray[np.float64]
    row_view: NDArray[np.int64] | None
    particles: int
    warnings: list[str]
    added: SoftModes | None = None

    @property
    def mode_scale(self) -> float:
        """Factor of a resampled mode that gives it unit Riesz norm in the map's own box; amplitudes are over it."""
        return (self.box_px / self.map_box_px) ** 2

    def in_map_box(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return a volume of the working box in the map's box."""
        return np.asarray(fourier_resample_volume(values, self.map_box_px), np.float64)


def softmodes_job(
    volume: Volume, particles: Particles, parameters: SoftmodesParameters, mask: Volume | None = None
) -> Generator[Progress, None, SoftmodesResult]:
    """Find the soft modes of a map; yields :class:`Progress`, returns a :class:`SoftmodesResult`.

    Parameters
    ----------
    volume : Volume
        Refined map, a cube.
    particles : Particles
        With poses; their images are not opened.
    parameters : SoftmodesParameters
    mask : Volume or None
        Of the map's shape; 0.5 and above is the support.

    Raises
    ------
    InputError
        No poses, one particle, all views equal, a map that is no cube, a box larger than the map, a mask that is
        empty or of another shape.
    """
    warnings = list(particles.notes)
    size = _working_box(volume, parameters)
    voxel = volume.voxel_size_angstrom * volume.data.shape[0] / size
    yield Progress("prepare", 0, 1)
    rng = np.random.default_rng(parameters.seed)
    rotations = _rotations(particles, parameters, rng)
    bins = bin_views(rotations, None if particles.ctf is None else _defocus(particles), parameters.most_views, rng)
    if len(bins.rows) < len(rotations):
        warnings.append(
            f"{len(rotations)} particles are computed as {len(bins.rows)} weighted views; particles of a view share "
            "its numbers"
        )
    chosen = rotations[bins.rows]
    filters = _filters(particles, bins.rows, size, voxel, warnings)
    working, support = _volumes(volume, mask, size)
    weights = bins.weights
    if parameters.particles_count is not None:
        weights = weights * (parameters.particles_count / weights.sum())
        warnings.append(f"what if: {parameters.particles_count} particles instead of {len(particles)}")
    if parameters.views is not None:
        warnings.append(f"what if: the views are {parameters.views}, not those of the particles")
    if parameters.noise is None:
        warnings.append(
            f"no --noise given: the noise is taken as white, {NOISE_RATIO:g} times the mean energy of the map's "
            "projections per pixel; amplitudes scale with its square root"
        )
    # White noise has the same power in each Fourier coefficient: a smaller box holds fewer of them.
    ratio = NOISE_RATIO if parameters.noise is None else parameters.noise
    variance = ratio * mean_energy(working, support) / volume.data.shape[0] ** 2
    yield Progress("solve", 0, 1 if parameters.add_views is None else 2)
    found = soft_modes(
        working, chosen, filters, weights, mask=support, modes=parameters.modes, noise_variance=variance,
        rng=np.random.default_rng(parameters.seed), iterations=parameters.iterations,
        shifts=parameters.shifts, contrast=parameters.contrast,
    )  # fmt: skip
    added = None
    if parameters.add_views is not None:
        yield Progress("solve", 1, 2)
        more = random_rotations(len(chosen), rng, _parse(parameters.add_views, "--add-views"))
        added = soft_modes(
            working, np.concatenate([chosen, more]), None if filters is None else np.concatenate([filters] * 2),
            np.concatenate([weights, weights]), mask=support, modes=parameters.modes, noise_variance=variance,
            rng=np.random.default_rng(parameters.seed), iterations=parameters.iterations,
            shifts=parameters.shifts, contrast=parameters.contrast,
        )  # fmt: skip
    warnings += _judge(found)
    return SoftmodesResult(
        parameters, found, np.where(support, working, 0), size, voxel, volume.data.shape[0], chosen, weights,
        bins.row_view if parameters.views is None else None, len(particles), warnings, added,
    )  # fmt: skip


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


def _parse(text: str, option: str) -> Views:
    try:
        return parse_views(text)
    except InputError as error:
        raise InputError(str(error).replace("--views", option, 1)) from error


def _rotations(particles: Particles, parameters: SoftmodesParameters, rng: np.random.Generator) -> NDArray[np.float64]:
    count = len(particles)
    if count < 2:
        raise InputError(f"--particles: holds {count} particle; a map from it has no soft modes, give a whole data set")
    if parameters.views is not None:
        return random_rotations(count, rng, _parse(parameters.views, "--views"))
    if particles.poses is None:
        raise InputError(
            "--particles: has no poses (rlnAngleRot, rlnAngleTilt, rlnAnglePsi); give the particles of a refinement, "
            "such as run_data.star"
        )
    angles = particles.poses.euler_deg
    if not np.isfinite(angles).all():
        raise InputError("--particles: some angles are no numbers; give the particles of a finished refinement")
    rotations = matrices_from_euler(angles)
    # Opposite directions see the same plane of Fourier space.
    direction = rotations[:, 2]
    if np.abs(direction @ direction[0]).min() > np.cos(np.radians(SAME_VIEW_DEG)):
        raise InputError(
            "--particles: all views are the same, so one slice of the map is all that they tell; give the particles "
            "after a refinement of their angles"
        )
    return rotations


def _defocus(particles: Particles) -> NDArray[np.float64]:
    assert particles.ctf is not None
    return np.asarray((particles.ctf.defocus_u_angstrom + particles.ctf.defocus_v_angstrom) / 2)


def _filters(
    particles: Particles, rows: NDArray[np.int64], size: int, voxel: float, warnings: list[str]
) -> NDArray[np.float32] | None:
    if particles.ctf is None:
        warnings.append("the particles have no CTF: it is taken as 1")
        return None
    p = particles.ctf.take(rows)
    return ctf(
        (size, size), voxel,
        defocus_u_angstrom=p.defocus_u_angstrom, defocus_v_angstrom=p.defocus_v_angstrom,
        defocus_angle_deg=p.defocus_angle_deg, voltage_kv=p.voltage_kv,
        spherical_aberration_mm=p.spherical_aberration_mm, amplitude_contrast=p.amplitude_contrast,
        phase_shift_deg=p.phase_shift_deg,
    )  # fmt: skip


def _volumes(volume: Volume, mask: Volume | None, size: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    working = np.asarray(fourier_resample_volume(volume.data.astype(np.float64), size), np.float64)
    if mask is None:
        return working, soft_ball(size, size / 2 - 1) >= 0.5
    if mask.data.shape != volume.data.shape:
        raise InputError(
            f"--mask: has {' × '.join(map(str, mask.data.shape))} voxels, the map "
            f"{' × '.join(map(str, volume.data.shape))}; give a mask of the map's box"
        )
    support = fourier_resample_volume(mask.data.astype(np.float64), size) >= 0.5
    if not (mask.data >= 0.5).any() or support.sum() < 150:
        raise InputError(
            f"--mask: is empty, or nearly so: {int(support.sum())} of {size}³ working voxels reach 0.5; give a mask "
            "that holds the molecule, or a larger --box"
        )
    if not working[support].any():
        raise InputError("--mask: the map is zero within it; give the mask of this map")
    return working, support


def _judge(found: SoftModes) -> list[str]:
    notes = []
    if not found.valid.all():
        bad = ", ".join(str(i + 1) for i in np.flatnonzero(~found.valid))
        notes.append(
            f"mode {bad}: poses fitted anew at the full amplitude disagree with the quadratic picture, so its "
            "amplitude is an order of magnitude only"
        )
    loose = np.flatnonzero(found.residuals > UNCONVERGED)
    if len(loose):
        names = ", ".join(str(i + 1) for i in loose)
        notes.append(f"mode {names}: not converged, its eigenvalue is an upper bound; give more --iterations")
    turns = found.pose_change_deg
    if turns.max() > LARGE_TURN_DEG:
        notes.append(f"mode {int(turns.argmax()) + 1}: poses would turn by {turns.max():.1f}°, which is large")
    if found.eigenvalues[0] < UNSEEN or found.known_pose_eigenvalues[0] < 4 * UNSEEN:
        notes.append(
            "views are missing, or the CTF passes next to nothing: some directions are hardly seen even with known "
            "poses (polar views; the lowest frequencies at small defocus), so the map cannot be trusted along them"
        )
    elif found.eigenvalues[0] < 0.15 * found.known_pose_eigenvalues[0] and found.eigenvalues[0] < 0.1:
        notes.append(
            "poses can re-adjust to a wrong map: the softest deformation is well covered by views but hidden by the "
            "freedom of the poses (as for views about an equator); heterogeneity along it may be an artefact"
        )
    return notes
