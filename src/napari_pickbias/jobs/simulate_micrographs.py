"""The jobs that make micrographs with known truth, and noise micrographs that look like given ones."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import scipy.fft
from numpy.typing import NDArray

from napari_pickbias.errors import InputError
from napari_pickbias.imaging.ctf import ctf
from napari_pickbias.imaging.fourier import Floats
from napari_pickbias.imaging.noise import (
    COLOURS,
    gaussian_noise,
    gaussian_surrogate,
    phase_surrogate,
    tabulated_power,
    welch_power,
)
from napari_pickbias.imaging.phantoms import blob_volume, phantom
from napari_pickbias.imaging.projection import FourierVolume, fourier_volume, project, resample_volume
from napari_pickbias.imaging.rotations import Views, matrices_from_euler, parse_views, random_euler
from napari_pickbias.imaging.volumes import distance_grid, mass_centre_and_radius
from napari_pickbias.jobs.progress import Progress
from napari_pickbias.jobs.simulate_micrographs_parameters import SimulateMicrographsParameters, SimulateNoiseParameters
from napari_pickbias.jobs.simulate_micrographs_scene import Layout, carbon_side, lay_out

PHANTOM_RADIUS = 80.0
"""Å."""
BLOCK = 64
CARBON_LEVEL, CARBON_NOISE = -1.0, 0.6
"""Brightness and added noise of a carbon film, in standard deviations of the ice's noise."""

Spectrum = tuple[Floats, Floats]
WriteMicrograph = Callable[[int, NDArray[np.float32] | None, pd.DataFrame, dict[str, float]], None]


class Setting(NamedTuple):
    """All that a micrograph needs besides its number."""

    parameters: SimulateMicrographsParameters
    shape: tuple[int, int]
    views: Views
    volume: FourierVolume
    radius_px: float
    scale: float
    spectrum: Spectrum | None


def simulate_micrographs(
    parameters: SimulateMicrographsParameters,
    volume: NDArray[np.float32] | None = None,
    volume_voxel_size: float | None = None,
    *,
    write: WriteMicrograph,
    noise_spectrum: Spectrum | None = None,
    made: Callable[[int], bool] = lambda number: False,
) -> Generator[Progress, None, dict[str, Any]]:
    """Make micrographs with known truth; yields :class:`Progress`, returns a summary.

    Parameters
    ----------
    parameters : SimulateMicrographsParameters
        What to make.
    volume, volume_voxel_size : ndarray, shape (d, h, w), and float; or None
        The molecule, bright, and its voxel size in Å, unless ``parameters.map`` is ``phantom``.
    write : callable
        Called in order with the number of the micrograph (from 0), its pixels ``(h, w)`` float32 (None where ``made``
        says that it is there already), its truth and its CTF. The truth has a row for each particle:
        ``rlnCoordinateX``, ``rlnCoordinateY`` (pixels, fractional), ``rlnAngleRot``, ``rlnAngleTilt``, ``rlnAnglePsi``
        and ``amplitude``. Noise has variance 1.
    noise_spectrum : (frequencies, powers) or None
        Radial spectrum for ``noise="like"``: cycles per pixel against any power.
    made : callable
        Whether a micrograph is there already, from an interrupted run: its truth is made again, its pixels are not.

    Returns
    -------
    dict
        ``micrographs``, ``particles``, ``radius_angstrom``, ``definitions``.

    Raises
    ------
    InputError
        When a parameter contradicts another or the data, or the density asked for cannot be reached.
    """
    setting = prepare(parameters, volume, volume_voxel_size, noise_spectrum)
    total = 0
    yield Progress("simulate", 0, parameters.count)
    for number in range(parameters.count):
        layout = lay_out(
            parameters, setting.shape, setting.radius_px, np.random.default_rng([parameters.seed, 1, number])
        )
        optics = _defocus(parameters, number)
        truth = _truth(setting, layout, number)
        total += len(truth)
        image = None if made(number) else _micrograph(setting, layout, truth, optics, number)
        write(number, image, truth, optics)
        yield Progress("simulate", number + 1, parameters.count)
    return {
        "micrographs": parameters.count,
        "particles": total,
        "radius_angstrom": setting.radius_px * parameters.pixel_size,
        "definitions": {
            "snr": "mean variance of the pixels within the particle's radius over noise-free images of amplitude 1 "
            "(CTF applied), divided by the variance of the noise in a pixel",
            "separated": "centres at least 1.1 diameters apart",
            "touching": "half of the particles 0.9 to 1.05 diameters from another one, none nearer than 0.9",
        },
    }


def prepare(
    parameters: SimulateMicrographsParameters,
    volume: NDArray[np.float32] | None,
    voxel_size: float | None,
    noise_spectrum: Spectrum | None,
) -> Setting:
    """Check the parameters and make all that the micrographs share.

    Raises
    ------
    InputError
        See :func:`simulate_micrographs`.
    """
    views = parse_views(parameters.views)
    shape = (parameters.size, parameters.width or parameters.size)
    if parameters.defocus_min > parameters.defocus_max:
        raise InputError(
            f"--defocus-min {parameters.defocus_min:g}: larger than --defocus-max {parameters.defocus_max:g}; swap them"
        )
    if parameters.noise == "like" and noise_spectrum is None:
        raise InputError("--noise like: no noise spectrum was handed in; give like:FILE with a micrograph or stack")
    molecule, radius = _molecule(parameters, volume, voxel_size)
    radius_px = radius / parameters.pixel_size
    if 2 * radius_px > min(shape) - 2:
        raise InputError(
            f"--size {min(shape)}: the particle ({2 * radius:.4g} Å, {2 * radius_px:.0f} px) does not fit; "
            "give a larger --size or a larger --pixel-size"
        )
    setting = Setting(parameters, shape, views, fourier_volume(molecule), radius_px, 1.0, noise_spectrum)
    return setting._replace(scale=float(np.sqrt(parameters.snr / _signal_variance(setting))))


def _molecule(
    parameters: SimulateMicrographsParameters, volume: NDArray[np.float32] | None, voxel_size: float | None
) -> tuple[NDArray[np.float32], float]:
    """Return the molecule in a box that holds it, and its radius in Å."""
    pixel = parameters.pixel_size
    if parameters.map == "phantom":
        radius = parameters.radius or PHANTOM_RADIUS
        return blob_volume(phantom(radius / pixel, elongation=parameters.elongation), _box(radius / pixel)), radius
    if volume is None or voxel_size is None:
        raise InputError(f"--map {parameters.map}: no volume was handed in; give a readable map, or phantom")
    try:
        centre, radius_px = mass_centre_and_radius(volume)
    except ValueError:
        raise InputError(
            f"--map {parameters.map}: nothing in it is bright; give a map with density above zero"
        ) from None
    radius = parameters.radius or radius_px * voxel_size
    off_centre = float(np.linalg.norm(centre)) * voxel_size
    box = _box((radius + off_centre) / pixel)
    return resample_volume(np.asarray(volume, np.float32), voxel_size, box, pixel), radius


def _box(radius_px: float) -> int:
    return 2 * int(np.ceil(1.3 * radius_px)) + 4


def _defocus(parameters: SimulateMicrographsParameters, number: int) -> dict[str, float]:
    """Return the CTF columns of a micrograph, with as many digits as its STAR file keeps; empty without a CTF."""
    if not parameters.ctf:
        return {}
    rng = np.random.default_rng([parameters.seed, 0, number])
    mean = rng.uniform(parameters.defocus_min, parameters.defocus_max)
    half = rng.uniform(0, parameters.astigmatism) / 2
    values = (mean + half, mean - half, rng.uniform(-90, 90))
    return dict(
        zip(("rlnDefocusU", "rlnDefocusV", "rlnDefocusAngle"), (round(float(v), 4) for v in values), strict=True)
    )


def _transfer(
    parameters: SimulateMicrographsParameters, optics: dict[str, float], shape: tuple[int, int]
) -> NDArray[np.float32]:
    transfer: NDArray[np.float32] = ctf(
        shape,
        parameters.pixel_size,
        defocus_u_angstrom=optics["rlnDefocusU"],
        defocus_v_angstrom=optics["rlnDefocusV"],
        defocus_angle_deg=optics["rlnDefocusAngle"],
        voltage_kv=parameters.voltage,
        spherical_aberration_mm=parameters.spherical_aberration,
        amplitude_contrast=parameters.amplitude_contrast,
    )[0]
    return transfer


def _signal_variance(setting: Setting) -> float:
    """Return the mean variance within the radius of particles of amplitude 1, each with a micrograph's CTF."""
    parameters, size, variances = setting.parameters, setting.volume.size, []
    inside = distance_grid(size, 2) <= setting.radius_px
    rng = np.random.default_rng([parameters.seed, 3])
    for number in range(min(parameters.count, 8)):
        rotations = matrices_from_euler(random_euler(32, rng, setting.views))
        optics = _defocus(parameters, number)
        transfer = _transfer(parameters, optics, (size, size))[None] if optics else None
        images = project(setting.volume, rotations, ctf=transfer)
        variances.append(images[:, inside].astype(np.float64).var(axis=1).mean())
    return float(np.mean(variances))


def _truth(setting: Setting, layout: Layout, number: int) -> pd.DataFrame:
    parameters = setting.parameters
    rng = np.random.default_rng([parameters.seed, 2, number])
    count = len(layout.centres_px)
    euler = random_euler(count, rng, setting.views)
    spread = parameters.amplitude_spread
    columns = {
        "rlnCoordinateX": layout.centres_px[:, 0],
        "rlnCoordinateY": layout.centres_px[:, 1],
        "rlnAngleRot": euler[:, 0],
        "rlnAngleTilt": euler[:, 1],
        "rlnAnglePsi": euler[:, 2],
        "amplitude": rng.uniform(1 - spread, 1 + spread, count),
    }
    # As many digits as a STAR file keeps, so that pixels and table agree.
    return pd.DataFrame({name: np.round(values, 6) for name, values in columns.items()})


def _micrograph(
    setting: Setting, layout: Layout, truth: pd.DataFrame, optics: dict[str, float], number: int
) -> NDArray[np.float32]:
    parameters = setting.parameters
    image = _signal(setting, truth, optics)
    rng = np.random.default_rng([parameters.seed, 4, number])
    power = None
    if parameters.noise == "coloured":
        power = COLOURS["coloured"]
    elif setting.spectrum is not None and parameters.noise == "like":
        power = tabulated_power(*setting.spectrum)
    # Twice the grid for small micrographs; a large one's opposite borders are far apart either way.
    factor = 2 if max(setting.shape) <= 1024 else 1
    image += gaussian_noise(1, setting.shape, rng, power=power, grid_factor=factor)[0]
    _add_dirt(image, layout, rng)
    return image if parameters.contrast == "white" else -image


def _signal(setting: Setting, truth: pd.DataFrame, optics: dict[str, float]) -> NDArray[np.float32]:
    """Return the noise-free micrograph, particles bright; the CTF acts on the whole, so nothing is cut off."""
    size, (height, width) = setting.volume.size, setting.shape
    margin = size
    canvas = np.zeros((height + 2 * margin, width + 2 * margin), np.float32)
    place = truth[["rlnCoordinateX", "rlnCoordinateY"]].to_numpy(dtype=np.float64)
    euler = truth[["rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"]].to_numpy(dtype=np.float64)
    amplitude = truth["amplitude"].to_numpy(dtype=np.float32) * np.float32(setting.scale)
    whole = np.rint(place).astype(np.int64)
    for first in range(0, len(place), BLOCK):
        part = slice(first, first + BLOCK)
        images = project(setting.volume, matrices_from_euler(euler[part]), shifts_px=place[part] - whole[part])
        for clean, (x, y), factor in zip(images, whole[part] + margin - size // 2, amplitude[part], strict=True):
            canvas[y : y + size, x : x + size] += clean * factor
    if optics and len(place):
        spectrum = scipy.fft.rfft2(canvas, workers=1)
        spectrum *= _transfer(setting.parameters, optics, (canvas.shape[0], canvas.shape[1]))
        canvas = scipy.fft.irfft2(spectrum, s=canvas.shape, workers=1).astype(np.float32)
    return np.ascontiguousarray(canvas[margin : margin + height, margin : margin + width])


def _add_dirt(image: NDArray[np.float32], layout: Layout, rng: np.random.Generator) -> None:
    """Add ice and carbon; particles are bright here, and so is all that scatters."""
    height, width = image.shape
    y, x = np.arange(height, dtype=np.float64)[:, None], np.arange(width, dtype=np.float64)[None, :]
    for (cx, cy), radius, depth in zip(*layout.ice, strict=True):
        image += (depth * np.exp(-0.5 * (((x - cx) ** 2 + (y - cy) ** 2) / radius**2) ** 2)).astype(np.float32)
    if layout.carbon is not None:
        film = 1 / (1 + np.exp(-np.clip(carbon_side(layout.carbon, x, y) / 2, -30, 30)))
        rough = rng.standard_normal(image.shape, np.float32) * np.float32(CARBON_NOISE)
        image += (film * (rough - CARBON_LEVEL)).astype(np.float32)


def noise_like(
    micrograph: NDArray[np.float32], parameters: SimulateNoiseParameters, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Return noise with the spectrum and the mean of a micrograph, and nothing else of it.

    Raises
    ------
    InputError
        When the micrograph is constant, not finite, or smaller than a tile.
    """
    if not np.isfinite(micrograph).all():
        raise InputError("holds NaN or infinite pixels; mend or leave out that micrograph")
    if float(np.ptp(micrograph)) == 0:
        raise InputError("is constant; leave out that micrograph")
    if parameters.method == "phases":
        return phase_surrogate(micrograph, rng)
    tile = parameters.tile
    if min(micrograph.shape) < tile:
        raise InputError(f"is {micrograph.shape[0]} × {micrograph.shape[1]} px; give a smaller --tile than {tile}")
    power = welch_power(micrograph, tile, median=True, variance_range=(0.05, 0.95))
    shape = (micrograph.shape[0], micrograph.shape[1])
    drawn = gaussian_surrogate(shape, power, (tile, tile), rng)
    return np.asarray(drawn + np.float32(micrograph.mean(dtype=np.float64)), np.float32)
