"""Micrographs to patches: down-sampled, whitened, cut, and kept in a file, so that memory stays flat."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import BinaryIO

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from napari_pickbias.errors import InputError
from napari_pickbias.imaging.ctf import ctf, electron_wavelength_angstrom
from napari_pickbias.imaging.fourier import radial_frequency, shell_average
from napari_pickbias.imaging.noise import gaussian_noise, phase_surrogate, tabulated_power, welch_power
from napari_pickbias.jobs.pickfree_parameters import PickfreeParameters
from napari_pickbias.jobs.progress import Checkpoints, Progress
from napari_pickbias.records import CtfParameters, Micrographs
from napari_pickbias.records.atomic import write_fault

Array32 = NDArray[np.float32]
QUIET = (0.0, 0.5)
"""Quantiles of the variance of tiles whose spectrum counts as noise."""
CALIBRATION_SHAPE = (512, 512)
"""Of the noise by which the bias of the estimate is measured."""


@dataclass(frozen=True)
class Patches:
    """Patches of a set of micrographs.

    Attributes
    ----------
    real, null : ndarray (memory map), shape (M, L, L)
        Of the micrographs, and of their surrogates.
    micrograph : ndarray, shape (M,)
        Where each comes from.
    group : ndarray, shape (M,)
        Defocus group.
    ctfs, null_ctfs : tuple of (ndarray or None)
        CTF times whitening filter of each group, ``(L, L // 2 + 1)``.
    power : ndarray, shape (2, shells)
        Noise power that the micrographs and their surrogates were whitened by.
    notes : list of str
    """

    real: Array32
    null: Array32
    micrograph: NDArray[np.int64]
    group: NDArray[np.int64]
    ctfs: tuple[Array32 | None, ...]
    null_ctfs: tuple[Array32 | None, ...]
    power: NDArray[np.float64]
    notes: list[str]


def downsampled(image: Array32, pixel_size: float, target: float) -> Array32:
    """Fourier-crop an image of any shape to a coarser pixel size; it is cut by up to a pixel first.

    The pixel size is met to within half a pixel over the side of the image.
    """
    ratio = target / pixel_size
    new = tuple(int(side / ratio) for side in image.shape)
    old = tuple(min(side, round(n * ratio)) for n, side in zip(new, image.shape, strict=True))
    image = image[: old[0], : old[1]]
    if new == old:
        return np.ascontiguousarray(image, np.float32)
    spectrum = scipy.fft.rfft2(image.astype(np.float32), workers=1)
    half = new[0] // 2
    kept = np.concatenate([spectrum[: new[0] - half, : new[1] // 2 + 1], spectrum[-half:, : new[1] // 2 + 1]])
    scale = new[0] * new[1] / (old[0] * old[1])
    return np.asarray(scipy.fft.irfft2(kept * np.float32(scale), s=new, workers=1), np.float32)


def small_micrograph(micrographs: Micrographs, index: int, voxel: float, sign: float) -> Array32:
    """Return one micrograph at the map's voxel size: particles bright, background 0, pixels of unit deviation.

    Raises
    ------
    InputError
        When it holds no finite or no varying pixels.
    """
    image = micrographs.read(index)
    if not np.isfinite(image).all():
        raise InputError(f"{micrographs.paths[index]}: holds pixels that are no numbers; repair or leave it out")
    small = sign * downsampled(image, float(micrographs.pixel_size_angstrom[index]), voxel)
    small -= np.median(small)
    # the median of squares is that of the noise: particles cover the smaller part
    deviation = float(np.sqrt(np.median(small**2) / 0.4549364))
    if not deviation > 0:
        raise InputError(f"{micrographs.paths[index]}: all its pixels are alike; leave it out")
    return np.asarray(small / np.float32(deviation), np.float32)


def surrogate_of(image: Array32, seed: int, index: int) -> Array32:
    """Return the surrogate of one micrograph: its own amplitudes, random phases; always the same for a seed."""
    return phase_surrogate(image, np.random.default_rng([seed, 20_000, index]))


def check_sizes(micrographs: Micrographs, voxel: float, box: int) -> None:
    """Refuse what cannot work before anything is read.

    Raises
    ------
    InputError
        A micrograph smaller than the box, or coarser than the map.
    """
    from napari_pickbias.records import read_header

    for index in range(len(micrographs)):
        pixel = float(micrographs.pixel_size_angstrom[index])
        if pixel > voxel * 1.01:
            raise InputError(
                f"{micrographs.paths[index]}: its pixels are {pixel:.4g} Å, larger than the {voxel:.4g} Å of a voxel "
                f"at --box {box}; give a smaller --box, or correct --pixel-size"
            )
        shape = read_header(micrographs.paths[index]).shape[-2:]
        if min(shape) * pixel / voxel < box:
            raise InputError(
                f"{micrographs.paths[index]}: is {shape[1]} × {shape[0]} px of {pixel:.4g} Å, smaller than one box "
                f"of {box} px of {voxel:.4g} Å; give the initial map in a tighter box, or check --pixel-size"
            )


def prepare(
    micrographs: Micrographs,
    voxel: float,
    parameters: PickfreeParameters,
    folder: Path,
    checkpoints: Checkpoints,
) -> Generator[Progress, None, Patches]:
    """Write the patches of all micrographs, and of their surrogates, into two files; yields :class:`Progress`."""
    box, count = parameters.box, len(micrographs)
    groups = defocus_groups(micrographs.ctf if parameters.ctf else None, count, parameters.groups)
    filters, notes = _group_ctfs(micrographs, groups, voxel, parameters)
    sign = -1.0 if parameters.contrast == "black" else 1.0
    done = checkpoints.load("patches")
    files = [folder / "patches.npy", folder / "null_patches.npy"]
    if done is None or not all(file.exists() for file in files):
        power = yield from _noise_powers(micrographs, voxel, parameters, sign)
        of_patch: list[NDArray[np.int64]] = []
        with files[0].open("wb") as real, files[1].open("wb") as null:
            for index in range(count):
                yield Progress("patches", index, count)
                image = small_micrograph(micrographs, index, voxel, sign)
                made = surrogate_of(image, parameters.seed, index)
                for stream, picture, noise in ((real, image, power[0]), (null, made, power[1])):
                    cut = cut_patches(whitened(picture, noise), box)
                    _append(stream, cut, files[0])
                of_patch.append(np.full(len(cut), index, np.int64))
        done = {"micrograph": np.concatenate(of_patch), "power": power}
        checkpoints.save("patches", done)
    yield Progress("patches", count, count, f"{len(done['micrograph'])} patches of {box} px from {count} micrographs")
    total = len(done["micrograph"])
    maps = [np.memmap(file, np.float32, "r", shape=(total, box, box)) for file in files]
    gains = [whitening_filter((box, box), noise) if parameters.whiten else None for noise in done["power"]]
    ctfs, null_ctfs = (tuple(_times(transfer, gain) for transfer in filters) for gain in gains)
    return Patches(
        maps[0], maps[1], done["micrograph"], groups[done["micrograph"]], ctfs, null_ctfs, done["power"], notes
    )


def _append(stream: BinaryIO, patches: Array32, path: Path) -> None:
    try:
        stream.write(patches.tobytes())
    except OSError as error:
        raise write_fault(path, error) from error


def _times(first: Array32 | None, second: Array32 | None) -> Array32 | None:
    if first is None or second is None:
        return second if first is None else first
    return first * second


def cut_patches(image: Array32, box: int) -> Array32:
    """Return the non-overlapping ``(n, box, box)`` patches of an image; what is left at two edges is dropped."""
    rows, columns = image.shape[0] // box, image.shape[1] // box
    whole = image[: rows * box, : columns * box].reshape(rows, box, columns, box)
    return np.ascontiguousarray(whole.transpose(0, 2, 1, 3).reshape(-1, box, box), np.float32)


def _noise_powers(
    micrographs: Micrographs, voxel: float, parameters: PickfreeParameters, sign: float
) -> Generator[Progress, None, NDArray[np.float64]]:
    """Return the noise power by shell of a tile of two boxes, ``(2, shells)``: of the micrographs, of their surrogates.

    The mean over the shells is 1; without whitening all are 1. Surrogates go the very way of the micrographs, the
    estimate of their noise included.
    """
    tile = 2 * parameters.box
    if not parameters.whiten:
        return np.ones((2, tile // 2 + 1))
    chosen = np.unique(np.linspace(0, len(micrographs) - 1, min(24, len(micrographs))).astype(int))
    shells = []
    for number, index in enumerate(chosen):
        yield Progress("noise", number, len(chosen))
        image = small_micrograph(micrographs, int(index), voxel, sign)
        pair = (image, surrogate_of(image, parameters.seed, int(index)))
        rng = np.random.default_rng([parameters.seed, 40_000, int(index)])
        shells.append([_quiet_power(picture, tile, rng) for picture in pair])
    found = np.median(shells, axis=0)
    return np.asarray(found / found[:, 1:].mean(axis=1, keepdims=True))


def _quiet_power(image: Array32, tile: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return the radial noise power from the quieter tiles, mean 1, freed of what that choice and the window do to it.

    The estimate of noise drawn with the estimated power tells the bias; two rounds leave less than a per cent or two.
    """
    frequency = np.arange(tile // 2 + 1) / tile
    seen = _quiet_shells(image, tile)
    power = seen
    for _ in range(2):
        noise = gaussian_noise(1, CALIBRATION_SHAPE, rng, power=tabulated_power(frequency, power), grid_factor=1)[0]
        power = power * seen / _quiet_shells(noise, tile)
        power /= power[1:].mean()
    return power


def _quiet_shells(image: Array32, tile: int) -> NDArray[np.float64]:
    side = min(tile, *image.shape)
    power = shell_average(welch_power(image, side, median=True, variance_range=QUIET), (side, side))
    power[0] = power[1]
    found = np.interp(np.arange(tile // 2 + 1) / tile, np.arange(len(power)) / side, power)
    return np.asarray(found / found[1:].mean())


def whitening_filter(shape: tuple[int, int], power: NDArray[np.float64]) -> Array32:
    """Return one over the root of a radial power, on the half-spectrum of ``shape``."""
    frequency = np.arange(len(power)) / (2 * (len(power) - 1))
    return (1 / np.sqrt(np.interp(radial_frequency(shape), frequency, power))).astype(np.float32)


def whitened(image: Array32, power: NDArray[np.float64]) -> Array32:
    """Return an image divided by the root of a radial power, its background 0 and its noise of unit deviation again."""
    if not np.ptp(power):
        return image
    spectrum = scipy.fft.rfft2(image, workers=1) * whitening_filter((image.shape[0], image.shape[1]), power)
    result = np.asarray(scipy.fft.irfft2(spectrum, s=image.shape, workers=1), np.float32)
    return result - np.float32(np.median(result))


def defocus_groups(parameters: CtfParameters | None, count: int, most: int) -> NDArray[np.int64]:
    """Return the defocus group of each micrograph: quantiles of the mean defocus, at most ``most`` of them."""
    if parameters is None:
        return np.zeros(count, np.int64)
    mean = (parameters.defocus_u_angstrom + parameters.defocus_v_angstrom) / 2
    number = min(most, len(np.unique(np.round(mean, -2))))
    edges = np.quantile(mean, np.linspace(0, 1, number + 1)[1:-1])
    return np.unique(np.searchsorted(edges, mean), return_inverse=True)[1].astype(np.int64)


def _group_ctfs(
    micrographs: Micrographs, groups: NDArray[np.int64], voxel: float, parameters: PickfreeParameters
) -> tuple[list[Array32 | None], list[str]]:
    values = micrographs.ctf
    if values is None or not parameters.ctf:
        return [None], ["the micrographs have no CTF, or it is not used: it is taken as 1"]
    box, filters, notes = parameters.box, [], []
    reach = 0.0
    for number in range(int(groups.max()) + 1):
        rows = np.flatnonzero(groups == number)
        mean = {f.name: float(np.mean(getattr(values, f.name)[rows])) for f in fields(values)}
        defocus = (mean["defocus_u_angstrom"] + mean["defocus_v_angstrom"]) / 2
        # the mean of angles of astigmatism means nothing
        mean |= {"defocus_u_angstrom": defocus, "defocus_v_angstrom": defocus, "defocus_angle_deg": 0.0}
        filters.append(ctf((box, box), voxel, **mean)[0])
        reach = max(reach, float(electron_wavelength_angstrom(mean["voltage_kv"])) * defocus / (2 * voxel))
    if reach > box * voxel / 4:
        notes.append(
            f"defocus spreads the finest detail over {reach:.0f} Å, a good part of the box of {box * voxel:.0f} Å: "
            "give the initial map in a larger box"
        )
    return list(filters), notes
