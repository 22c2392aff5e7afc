"""Tomograms at the voxel size of the search: coarsened slab by slab into a file, scored, and their peaks found."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_pickbias.errors import InputError
from napari_pickbias.imaging.fourier import resampling_matrix
from napari_pickbias.matching.peaks import VOLUME_PEAK, find_peaks
from napari_pickbias.matching.volume_bank import VolumeBank
from napari_pickbias.matching.volume_scores import score_volume

SLAB_VOXELS = 2**24
"""Voxels that are in memory at a time where a whole volume is gone through."""
SCORE_FILES = ("scores.npy", "best.npy")
"""Where :func:`volume_peaks` leaves its maps: scores, and the winning orientations."""


def scratch_array(folder: Path, name: str, dtype: type[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Return an array that lies in a file of a folder, made anew; ``OSError`` where the disk has no room for it."""
    made = np.lib.format.open_memmap(folder / f"{name}.npy", mode="w+", dtype=dtype, shape=shape)
    if hasattr(os, "posix_fallocate"):
        # A mapped file's space is taken as it is written, where a full disk would kill the process: take it now.
        with (folder / f"{name}.npy").open("r+b") as stream:
            os.posix_fallocate(stream.fileno(), 0, (folder / f"{name}.npy").stat().st_size)
    return made


def coarse_shape(shape: tuple[int, ...], ratio: float) -> tuple[int, int, int]:
    """Return the even sides that hold ``shape`` at ``ratio`` (at most 1) times as many voxels along each axis."""
    z, y, x = (side if ratio >= 1 else min(side, 2 * int(np.ceil(side * ratio / 2))) for side in shape)
    return z, y, x


def coarsen(tomogram: NDArray[Any], out: NDArray[np.float32], folder: Path) -> None:
    """Resample a tomogram, band-limited along each axis, into an array of another shape; mean 0.

    Parameters
    ----------
    tomogram : ndarray, shape (d, h, w)
        Memory-mapped; a slab at a time is read.
    out : ndarray, shape (d', h', w'), float32
        No side longer than the tomogram's.
    folder : Path
        For an intermediate file.

    Raises
    ------
    InputError
        When it is not finite, or constant.
    """
    depth, height, width = tomogram.shape
    low, high, total = np.inf, -np.inf, 0.0
    for part in _slabs(tomogram.shape):
        values = np.asarray(tomogram[part], np.float64)
        total += float(values.sum())
        low, high = min(low, float(values.min())), max(high, float(values.max()))
        if not np.isfinite(total):
            raise InputError("holds NaN or infinite voxels; mend or leave out that tomogram")
    if low == high:
        raise InputError("is constant; leave out that tomogram")
    mean = np.float32(total / tomogram.size)
    if out.shape == tomogram.shape:
        for part in _slabs(tomogram.shape):
            out[part] = np.asarray(tomogram[part], np.float32) - mean
        return
    rows, columns, sections = (
        resampling_matrix(old, new).astype(np.float32)
        for old, new in ((height, out.shape[1]), (width, out.shape[2]), (depth, out.shape[0]))
    )
    middle = scratch_array(folder, "sections", np.float32, (depth, *out.shape[1:]))
    for part in _slabs(tomogram.shape):
        flat = np.asarray(tomogram[part], np.float32) - mean
        middle[part] = np.matmul(rows, np.matmul(flat, columns.T))
    for part in _slabs((out.shape[1], depth, out.shape[2])):
        out[:, part] = np.tensordot(sections, middle[:, part], axes=(1, 0))


def negate(volume: NDArray[np.float32]) -> None:
    """Change the sign of a volume in its place."""
    for part in _slabs(volume.shape):
        np.negative(volume[part], out=volume[part])


def volume_peaks(
    volume: NDArray[np.float32],
    bank: VolumeBank,
    sd: NDArray[np.floating],
    distance_px: float,
    threads: int,
    folder: Path,
    progress: Callable[[int, int], None] | None = None,
) -> NDArray[np.void]:
    """Return all local maxima of a volume's scores, the maps in files.

    Parameters
    ----------
    volume : ndarray, shape (d, h, w)
    bank : VolumeBank
    sd : ndarray, shape (L,)
        From :func:`napari_pickbias.matching.volume_noise.volume_template_sd`.
    distance_px : float
        Least distance of two peaks.
    threads : int
    folder : Path
        For the maps.
    progress : callable, optional
        Of :func:`score_volume`.
    """
    kind = np.int16 if len(bank) <= np.iinfo(np.int16).max else np.int32
    scores = scratch_array(folder, "scores", np.float32, volume.shape)
    best = scratch_array(folder, "best", kind, volume.shape)
    score_volume(volume, bank, threads, noise_sd=sd, out=(scores, best), progress=progress)
    return _peaks(scores, best, distance_px)


def _peaks(scores: NDArray[np.float32], best: NDArray[Any], distance: float) -> NDArray[np.void]:
    """Find local maxima in slabs, each with as much around it as a peak looks at."""
    halo = int(np.ceil(distance)) + 1
    lowest = float(np.finfo(np.float32).min)
    found = []
    for part in _slabs(scores.shape, at_least=4 * halo):
        first = max(0, part.start - halo)
        wide = slice(first, min(len(scores), part.stop + halo))
        table = find_peaks(np.asarray(scores[wide]), np.asarray(best[wide]), lowest, distance)
        table["z"] += first
        # a peak belongs to the slab of its voxel; refined places are within half a voxel of it
        voxel = np.rint(table["z"])
        found.append(table[(voxel >= part.start) & (voxel < part.stop)])
    joined = np.concatenate(found) if found else np.zeros(0, VOLUME_PEAK)
    return joined[np.argsort(-joined["score"], kind="stable")]


def watched(work: Callable[[Callable[[int, int], None]], NDArray[np.void]]) -> Generator[int, None, NDArray[np.void]]:
    """Run work that calls back with what it has done in a thread, and yield that; closing it stops the work.

    Parameters
    ----------
    work : callable
        Takes the callback, returns the peaks.
    """
    done: queue.SimpleQueue[int] = queue.SimpleQueue()
    stop = threading.Event()

    def told(count: int, _total: int) -> None:
        if stop.is_set():
            raise _StoppedError
        done.put(count)

    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(work, told)
        try:
            while not (future.done() and done.empty()):
                try:
                    count = done.get(timeout=0.2)
                except queue.Empty:
                    continue
                yield count
        finally:
            stop.set()
        return future.result()


class _StoppedError(Exception):
    """Ends the work of a run that was closed."""


def _slabs(shape: tuple[int, ...], at_least: int = 1) -> list[slice]:
    """Cut the first axis into slabs of bounded size."""
    step = max(at_least, SLAB_VOXELS // max(1, int(np.prod(shape[1:]))), 1)
    return [slice(begin, min(begin + step, shape[0])) for begin in range(0, shape[0], step)]
