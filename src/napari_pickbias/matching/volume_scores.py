"""The score map of a tomogram: the best orientation at every voxel, in standard deviations of the noise."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from napari_pickbias.errors import InputError
from napari_pickbias.matching.correlate import OUTSIDE, Real, Sheet, correlate, moments, normalise_locally
from napari_pickbias.matching.engine import EngineName, choose_inverse
from napari_pickbias.matching.prepared import allowed_cores, prepare_bank
from napari_pickbias.matching.volume_bank import VolumeBank


def score_volume(
    tomogram: Real,
    bank: VolumeBank,
    threads: int | None = None,
    *,
    noise_sd: NDArray[np.floating] | None = None,
    normalise: Literal["local", "global", "none"] = "local",
    out: tuple[NDArray[np.float32], NDArray[np.integer]] | None = None,
    engine: EngineName = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.integer]]:
    """Return the largest score over all orientations at every voxel, and the orientation that gave it.

    The score is that of :func:`napari_pickbias.matching.score_map` in three dimensions. Besides the tomogram, which may
    be memory-mapped and of any real type, and the two maps (6 bytes a voxel), it takes 0.5 GB for templates' spectra
    and some tiles for each thread (0.1 GB for boxes up to 64), whatever the size of tomogram and bank.

    Parameters
    ----------
    tomogram : ndarray, shape (d, h, w)
        Axes z, y, x; particles bright.
    bank : VolumeBank
        From :func:`napari_pickbias.matching.volume_bank.volume_bank`, at the tomogram's voxel size.
    threads : int, optional
        Default: all cores this process may use. The result does not depend on it.
    noise_sd : ndarray, shape (L,), optional
        Standard deviation of each template's correlation with noise of unit variance; default 1, white noise.
    normalise : {"local", "global", "none"}
        Divide by the deviation under the mask around each voxel, by the tomogram's, or not at all.
    out : (ndarray, ndarray), optional
        Where to write the results, for example memory-mapped arrays: float32, and int16 or int32, of the tomogram's
        shape.
    engine : {"auto", "scipy", "ducc0"}
        Who transforms: see :mod:`napari_pickbias.matching.engine`.
    progress : callable, optional
        Called with the number of orientations done and of all orientations.

    Returns
    -------
    scores : ndarray, shape (d, h, w), float32
        A template of side ``b`` at voxel ``v`` covers ``v - b // 2`` to ``v - b // 2 + b - 1`` on each axis; ``-inf``
        where it leaves the tomogram.
    best : ndarray, shape (d, h, w), int16, or int32 for more than 32767 orientations
        Number of the winning orientation; -1 where the score is ``-inf``.

    Raises
    ------
    InputError
        When the tomogram is smaller than the map, not finite, or constant, or the engine is not there.
    """
    inverse = choose_inverse(engine)
    workers = threads or allowed_cores()
    box = bank.box_px
    if tomogram.ndim != 3:
        raise InputError(f"tomogram: has {tomogram.ndim} axes; give one 3-D volume")
    shape = (tomogram.shape[0], tomogram.shape[1], tomogram.shape[2])
    if min(shape) < box:
        raise InputError(
            f"tomogram: is {' x '.join(map(str, shape))} px, smaller than the map ({box} px); check the voxel sizes"
        )
    prepared = prepare_bank(bank, shape, threads=workers, memory_mb=0)
    if out is None:
        number_type = np.int16 if len(bank) <= np.iinfo(np.int16).max else np.int32
        out = np.empty(shape, np.float32), np.empty(shape, number_type)
    scores, best = np.asarray(out[0]), np.asarray(out[1])
    if scores.shape != shape or best.shape != shape or np.iinfo(best.dtype).max < len(bank) - 1:
        raise ValueError("`out` must have the tomogram's shape, and integers that hold the number of orientations")
    scores[:], best[:] = OUTSIDE, -1
    with ThreadPoolExecutor(workers) as pool:
        mean, sd = moments(tomogram, "tomogram", pool)
        scale = (sd if normalise == "none" else 1.0) / (1.0 if noise_sd is None else np.asarray(noise_sd, np.float64))
        sheet = Sheet(
            tomogram,
            tomogram,
            np.float32(mean),
            np.float32(1 / sd),
            np.broadcast_to(scale, len(bank)).astype(np.float32),
            (box // 2,) * 3,
            shape,
        )
        correlate(sheet, prepared, (scores, best), inverse, pool, workers, progress)
        if normalise == "local":
            normalise_locally(sheet, prepared, scores, inverse, pool)
    return scores, best
