"""Noise spectra from a refinement's ``run_model.star``."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_pickbias.errors import InputError
from napari_pickbias.records.noise import NoiseSpectra
from pickbias_relion.star import StarFile, open_star
from pickbias_relion.star_columns import read_columns

_BLOCK = re.compile(r"model_(optics_)?group_([0-9]+)")


def read_noise(path: str | Path, particles: str | Path) -> NoiseSpectra:
    """Read ``rlnSigma2Noise`` of a refinement, and which particle belongs to which spectrum.

    RELION 3.1 and later keep one spectrum per optics group (``data_model_optics_group_N``), earlier versions one per
    group of micrographs (``data_model_group_N`` with ``rlnGroupNumber``).

    Parameters
    ----------
    path : str or Path
        ``run_model.star`` or ``run_itNNN_model.star``.
    particles : str or Path
        Particle STAR file of the same refinement.

    Returns
    -------
    NoiseSpectra
        ``2 N^2 rlnSigma2Noise``: RELION divides transforms by ``N^2`` pixels and counts the variance of the real and
        of the imaginary part (RELION 3.1.3, src/ml_optimiser.cpp, ``maximizationOtherParameters``), so white noise of
        variance 1 per pixel has ``1 / (2 N^2)``. Shells that RELION left at 0 take the value of the shell before.

    Raises
    ------
    InputError
        When the file is no model file, or a particle's group is not in it.
    """
    star = open_star(path)
    spectra = _spectra(star)
    size, pixel = _number(star, "rlnOriginalImageSize"), _number(star, "rlnPixelSize")
    if not spectra or size is None or pixel is None:
        raise InputError(
            f"--noise {path}: holds no noise spectra (rlnSigma2Noise); give the refinement's run_model.star, a half "
            "map, or a number"
        )
    shells = max(len(values) for values in spectra.values())
    table = np.stack([np.pad(values, (0, shells - len(values)), "edge") for values in spectra.values()])
    group, notes = _groups(star, Path(particles), list(spectra))
    return NoiseSpectra(2 * size**2 * table, group, int(size), float(pixel), tuple(notes))


def _spectra(star: StarFile) -> dict[int, NDArray[np.float64]]:
    found: dict[int, NDArray[np.float64]] = {}
    for table in star.tables:
        match = _BLOCK.fullmatch(table.block)
        if match and table.is_loop and "rlnSigma2Noise" in table.labels:
            values = read_columns(star, table, floats=["rlnSigma2Noise"]).floats["rlnSigma2Noise"]
            if (values > 0).any():  # a group without particles is all zero
                place = np.maximum.accumulate(np.where(values > 0, np.arange(len(values)), int((values > 0).argmax())))
                found[int(match[2])] = values[place]
    return found


def _number(star: StarFile, label: str) -> float | None:
    text = star.value(label, ["model_general"])
    try:
        value = None if text is None else float(text)
    except ValueError:
        return None
    return value if value is not None and value > 0 else None


def _groups(model: StarFile, particles: Path, numbers: list[int]) -> tuple[NDArray[np.int64], list[str]]:
    star = open_star(particles)
    table = star.rows()
    by_optics = any(block.block.startswith("model_optics_group_") for block in model.tables)
    label = "rlnOpticsGroup" if by_optics else "rlnGroupNumber"
    if label not in table.labels:
        if len(numbers) == 1:
            return np.zeros(table.n_rows, np.int64), []
        raise InputError(
            f"{particles}: has no column {label}, but {model.path} holds {len(numbers)} noise spectra; give the "
            "particles of the same refinement (run_data.star)"
        )
    wanted = read_columns(star, table, integers=[label]).integers[label]
    place = np.searchsorted(numbers, wanted)
    order = np.array(numbers)
    missing = order[np.minimum(place, len(order) - 1)] != wanted
    if missing.all():
        raise InputError(
            f"--noise {model.path}: has no noise spectrum of any group of {particles}; give the model of the same "
            "refinement"
        )
    notes = []
    if missing.any():
        names = ", ".join(map(str, np.unique(wanted[missing])[:5]))
        notes.append(
            f"{model.path}: has no noise spectrum of group {names}; those {int(missing.sum())} particles take that of "
            "the first group"
        )
    return np.where(missing, 0, place).astype(np.int64), notes
