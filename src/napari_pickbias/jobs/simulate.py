"""The job that makes particle stacks with known truth."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from napari_pickbias.errors import InputError
from napari_pickbias.imaging.ctf import ctf
from napari_pickbias.imaging.fourier import Floats, apply_filter
from napari_pickbias.imaging.noise import COLOURS, PowerFunction, amplitude_filter, tabulated_power
from napari_pickbias.imaging.phantoms import blob_volume, phantom
from napari_pickbias.imaging.projection import FourierVolume, fourier_volume, resample_volume
from napari_pickbias.imaging.rotations import Views, parse_views
from napari_pickbias.imaging.scenes import Scenes, draw_kinds, draw_scenes, kind_names, render_scenes
from napari_pickbias.imaging.volumes import distance_grid, mass_centre_and_radius
from napari_pickbias.jobs.progress import Progress
from napari_pickbias.jobs.simulate_parameters import SimulateParticlesParameters

__all__ = ["SimulateParticlesParameters", "prepare_volume", "simulate_particles"]

BLOCK_PARTICLES = 64
"""Particles made at once from one random stream: fixed, so that no bit depends on chunks or threads."""
FIELD_PX = 4096
"""Side of the invented micrographs."""

WriteChunk = Callable[[NDArray[np.float32], pd.DataFrame], None]


class _Setting(NamedTuple):
    """All that a block of particles needs besides its number."""

    parameters: SimulateParticlesParameters
    views: Views
    kinds: NDArray[np.int8]
    volume: FourierVolume
    scale: float
    radius_px: float
    noise_filter: NDArray[np.float32] | None


class _Block(NamedTuple):
    images: NDArray[np.float32]
    table: pd.DataFrame


def simulate_particles(
    parameters: SimulateParticlesParameters,
    volume: NDArray[np.float32] | None = None,
    volume_voxel_size: float | None = None,
    *,
    write_chunk: WriteChunk,
    noise_spectrum: tuple[Floats, Floats] | None = None,
    chunk_particles: int = 512,
    threads: int = 1,
) -> Generator[Progress, None, dict[str, Any]]:
    """Make a particle stack; yields :class:`Progress`, returns a summary.

    Parameters
    ----------
    parameters : SimulateParticlesParameters
        What to make.
    volume : ndarray, shape (d, h, w), or None
        The molecule, bright, unless ``parameters.map`` is ``phantom``.
    volume_voxel_size : float or None
        Å per voxel of ``volume``.
    write_chunk : callable
        Called in order with images, ``(m, size, size)`` float32 with particles bright and noise of variance 1, and
        their rows: RELION's columns (angles, origins, CTF, optics group, invented micrograph and coordinates), and the
        truth (``kind``, ``amplitude``, and of the second particle ``second_amplitude``, ``second_x_angstrom``,
        ``second_y_angstrom``; its position is from the box centre).
    noise_spectrum : (frequencies, powers) or None
        Radial spectrum for ``noise="like"``: cycles per pixel of the simulated images against any power.
    chunk_particles : int
        Images handed over at once, rounded up to whole blocks.
    threads : int
        Blocks in work at a time. The result does not depend on it, nor on the chunks.

    Returns
    -------
    dict
        ``particles``, ``by_kind``, ``signal_variance`` (within the radius, of a particle of amplitude 1),
        ``noise_variance``, ``radius_angstrom``, ``optics`` (RELION's columns of the optics group), ``definitions``.

    Raises
    ------
    InputError
        When a parameter contradicts another or the data: each message names the option.
    """
    setting, summary = _prepare(parameters, volume, volume_voxel_size, noise_spectrum)
    blocks_per_chunk = -(-max(1, chunk_particles) // BLOCK_PARTICLES)
    held: list[_Block] = []
    done = 0
    yield Progress("simulate", 0, parameters.count)
    for block in _blocks_in_order(setting, -(-parameters.count // BLOCK_PARTICLES), max(1, threads)):
        held.append(block)
        done += len(block.table)
        if len(held) == blocks_per_chunk or done == parameters.count:
            write_chunk(
                np.concatenate([each.images for each in held]),
                pd.concat([each.table for each in held], ignore_index=True),
            )
            held.clear()
            yield Progress("simulate", done, parameters.count)
    return summary


def _blocks_in_order(setting: _Setting, blocks: int, threads: int) -> Generator[_Block, None, None]:
    """Yield all blocks in order, at most ``threads + 1`` of them in work or waiting."""
    waiting: deque[Future[_Block]] = deque()
    with threadpool_limits(limits=1, user_api="blas"), ThreadPoolExecutor(max_workers=threads) as pool:
        try:
            for number in range(blocks):
                waiting.append(pool.submit(_make_block, setting, number))
                if len(waiting) > threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def prepare_volume(
    parameters: SimulateParticlesParameters,
    volume: NDArray[np.float32] | None = None,
    volume_voxel_size: float | None = None,
) -> tuple[NDArray[np.float32], float]:
    """Return the molecule in the images' box and pixels, and its radius in Å.

    Raises
    ------
    InputError
        When the map is missing, holds nothing bright, or does not fit the box.
    """
    if parameters.map == "phantom":
        radius = parameters.radius or parameters.size * parameters.pixel_size / 3.6
        _check_fit(parameters, radius)
        blobs = phantom(radius / parameters.pixel_size, elongation=parameters.elongation)
        return blob_volume(blobs, parameters.size), radius
    if volume is None or volume_voxel_size is None:
        raise InputError(
            f"--map {parameters.map}: no volume or voxel size was handed in; give a readable map, or phantom"
        )
    try:
        centre, radius_px = mass_centre_and_radius(volume)
    except ValueError:
        raise InputError(
            f"--map {parameters.map}: nothing in it is bright; give a map with density above zero"
        ) from None
    radius = parameters.radius or radius_px * volume_voxel_size
    _check_fit(parameters, radius, float(np.linalg.norm(centre)) * volume_voxel_size)
    cast = np.asarray(volume, np.float32)
    return resample_volume(cast, volume_voxel_size, parameters.size, parameters.pixel_size), radius


def _check_fit(parameters: SimulateParticlesParameters, radius: float, off_centre: float = 0.0) -> None:
    box = parameters.size * parameters.pixel_size
    if 2 * (radius + off_centre) <= box:
        return
    where = f", {off_centre:.4g} Å off the map's centre" if 2 * radius <= box else ""
    needed = int(np.ceil(3 * (radius + off_centre) / parameters.pixel_size))
    raise InputError(
        f"--size {parameters.size}: the box ({box:g} Å) is too small for the particle "
        f"({2 * radius:.4g} Å across{where}); give at least {needed} px or a larger --pixel-size"
        + (", or centre the map" if where else "")
    )


def _prepare(
    parameters: SimulateParticlesParameters,
    volume: NDArray[np.float32] | None,
    voxel_size: float | None,
    noise_spectrum: tuple[Floats, Floats] | None,
) -> tuple[_Setting, dict[str, Any]]:
    views = parse_views(parameters.views)
    shares = (parameters.multiple_fraction, parameters.noise_fraction, parameters.partial_fraction)
    if sum(shares) > 1 + 1e-9:
        raise InputError(
            f"--multiple-fraction, --noise-fraction and --partial-fraction add up to {sum(shares):g}; "
            "give shares that add up to at most 1"
        )
    if parameters.defocus_min > parameters.defocus_max:
        raise InputError(
            f"--defocus-min {parameters.defocus_min:g}: larger than --defocus-max {parameters.defocus_max:g}; swap them"
        )
    molecule, radius = prepare_volume(parameters, volume, voxel_size)
    radius_px = radius / parameters.pixel_size
    kinds = draw_kinds(parameters.count, shares, np.random.default_rng([parameters.seed, 0]))
    noise_filter = _noise_filter(parameters, noise_spectrum)
    setting = _Setting(parameters, views, kinds, fourier_volume(molecule), 1.0, radius_px, noise_filter)
    setting = setting._replace(scale=float(np.sqrt(parameters.snr / _signal_variance(setting))))
    names = kind_names(kinds)
    summary = {
        "particles": parameters.count,
        "by_kind": {name: names.count(name) for name in ("inlier", "multiple", "noise", "partial")},
        "signal_variance": parameters.snr,
        "noise_variance": 1.0,
        "radius_angstrom": radius,
        "optics": _optics(parameters),
        "definitions": {
            "snr": "mean variance of the pixels within the particle's radius over centred noise-free images of "
            "amplitude 1 (CTF applied), divided by the variance of the noise in a pixel",
            "multiple": "two particles 1.5 to 2.2 radii apart, the box centre between them",
            "partial": "one particle whose centre is within half a radius of a side of the box",
        },
    }
    return setting, summary


def _noise_filter(
    parameters: SimulateParticlesParameters, spectrum: tuple[Floats, Floats] | None
) -> NDArray[np.float32] | None:
    """Return the filter that colours unit white noise on a grid twice the box, or None for white noise."""
    power: PowerFunction
    if parameters.noise == "white":
        return None
    if parameters.noise == "coloured":
        power = COLOURS["coloured"]
    elif spectrum is None:
        raise InputError("--noise like: no noise spectrum was handed in; give like:FILE with a micrograph or stack")
    else:
        power = tabulated_power(*spectrum)
    return amplitude_filter((2 * parameters.size, 2 * parameters.size), power)


def _optics(parameters: SimulateParticlesParameters) -> dict[str, Any]:
    optics: dict[str, Any] = {
        "rlnOpticsGroup": 1,
        "rlnOpticsGroupName": "opticsGroup1",
        "rlnImagePixelSize": parameters.pixel_size,
        "rlnImageSize": parameters.size,
        "rlnImageDimensionality": 2,
        "rlnMicrographOriginalPixelSize": parameters.pixel_size,
    }
    if parameters.ctf:
        optics["rlnVoltage"] = parameters.voltage
        optics["rlnSphericalAberration"] = parameters.spherical_aberration
        optics["rlnAmplitudeContrast"] = parameters.amplitude_contrast
    return optics


def _defocus(parameters: SimulateParticlesParameters, micrographs: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return ``(m, 3)``: defocus U, V in Å and the angle in degrees of each particle's micrograph."""
    known = {}
    for number in np.unique(micrographs):
        rng = np.random.default_rng([parameters.seed, 1, int(number)])
        mean = rng.uniform(parameters.defocus_min, parameters.defocus_max)
        half = rng.uniform(0, parameters.astigmatism) / 2
        known[int(number)] = (mean + half, mean - half, rng.uniform(-90, 90))
    # as many digits as a STAR file keeps, so that images and table agree
    return np.round([known[int(number)] for number in micrographs], 6).reshape(-1, 3)


def _ctf(parameters: SimulateParticlesParameters, defocus: NDArray[np.float64]) -> NDArray[np.float32] | None:
    if not parameters.ctf:
        return None
    return ctf(
        (parameters.size, parameters.size),
        parameters.pixel_size,
        defocus_u_angstrom=defocus[:, 0],
        defocus_v_angstrom=defocus[:, 1],
        defocus_angle_deg=defocus[:, 2],
        voltage_kv=parameters.voltage,
        spherical_aberration_mm=parameters.spherical_aberration,
        amplitude_contrast=parameters.amplitude_contrast,
    )


def _signal_variance(setting: _Setting) -> float:
    """Return the mean variance within the radius of centred particles of amplitude 1, from all over the stack."""
    parameters, blocks = setting.parameters, 4
    inside = distance_grid(parameters.size, 2) <= setting.radius_px
    variances = []
    for block in range(blocks):
        scenes = draw_scenes(
            np.zeros(BLOCK_PARTICLES, np.int8),
            np.random.default_rng([parameters.seed, 3, block]),
            box_px=parameters.size,
            radius_px=setting.radius_px,
            offset_px=0,
            amplitude_range=(1, 1),
            views=setting.views,
        )
        places = np.arange(block * BLOCK_PARTICLES, (block + 1) * BLOCK_PARTICLES) / (blocks * BLOCK_PARTICLES)
        micrographs = (places * parameters.count).astype(np.int64) // parameters.per_micrograph
        images = render_scenes(setting.volume, scenes, _ctf(parameters, _defocus(parameters, micrographs)))
        variances.append(images[:, inside].astype(np.float64).var(axis=1).mean())
    return float(np.mean(variances))


def _make_block(setting: _Setting, block: int) -> _Block:
    parameters = setting.parameters
    first = block * BLOCK_PARTICLES
    kinds = setting.kinds[first : first + BLOCK_PARTICLES]
    rng = np.random.default_rng([parameters.seed, 2, block])
    spread = parameters.amplitude_spread
    scenes = draw_scenes(
        kinds,
        rng,
        box_px=parameters.size,
        radius_px=setting.radius_px,
        offset_px=parameters.offset / parameters.pixel_size,
        amplitude_range=(1 - spread, 1 + spread),
        views=setting.views,
    )
    margin = parameters.size // 2
    coordinates = rng.integers(margin, max(FIELD_PX - margin, margin + 1), (len(kinds), 2))
    micrographs = np.arange(first, first + len(kinds)) // parameters.per_micrograph
    defocus = _defocus(parameters, micrographs)
    images = render_scenes(setting.volume, scenes, _ctf(parameters, defocus))
    images *= np.float32(setting.scale)
    images += _noise(setting, len(kinds), rng)
    return _Block(images, _table(parameters, scenes, defocus, micrographs, coordinates))


def _noise(setting: _Setting, count: int, rng: np.random.Generator) -> NDArray[np.float32]:
    size = setting.parameters.size
    if setting.noise_filter is None:
        return rng.standard_normal((count, size, size), np.float32)
    white = rng.standard_normal((count, 2 * size, 2 * size), np.float32)
    # cut from a grid twice as large: opposite borders of a box do not match
    return np.asarray(apply_filter(white, setting.noise_filter)[:, :size, :size], np.float32)


def _table(
    parameters: SimulateParticlesParameters,
    scenes: Scenes,
    defocus: NDArray[np.float64],
    micrographs: NDArray[np.int64],
    coordinates: NDArray[np.int64],
) -> pd.DataFrame:
    shifts = scenes.shifts_px * parameters.pixel_size
    columns: dict[str, Any] = {
        "rlnMicrographName": [f"micrographs/simulated_{number + 1:06d}.mrc" for number in micrographs],
        "rlnCoordinateX": coordinates[:, 0].astype(np.float64),
        "rlnCoordinateY": coordinates[:, 1].astype(np.float64),
        "rlnAngleRot": scenes.euler_deg[:, 0, 0],
        "rlnAngleTilt": scenes.euler_deg[:, 0, 1],
        "rlnAnglePsi": scenes.euler_deg[:, 0, 2],
        "rlnOriginXAngst": -shifts[:, 0, 0] + 0.0,
        "rlnOriginYAngst": -shifts[:, 0, 1] + 0.0,
    }
    if parameters.ctf:
        columns["rlnDefocusU"], columns["rlnDefocusV"], columns["rlnDefocusAngle"] = defocus.T
        columns["rlnPhaseShift"] = np.zeros(len(defocus))
    columns["rlnOpticsGroup"] = np.ones(len(defocus), np.int64)
    columns["kind"] = kind_names(scenes.kinds)
    columns["amplitude"] = scenes.amplitudes[:, 0]
    columns["second_amplitude"] = scenes.amplitudes[:, 1]
    columns["second_x_angstrom"] = shifts[:, 1, 0]
    columns["second_y_angstrom"] = shifts[:, 1, 1]
    return pd.DataFrame(columns)
