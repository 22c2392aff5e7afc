"""A path of atomic models as a path of maps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_pickbias.errors import InputError
from napari_pickbias.imaging.phantoms import splat_atoms
from napari_pickbias.records import Volume
from napari_pickbias.records.models import MODEL_SUFFIXES, read_atoms

LEAST_LIKENESS = 0.3
"""Correlation of the first model's density with the map, around the model, below which it does not lie in the map."""


def are_models(paths: Sequence[str | Path]) -> bool:
    """Tell whether the files are models; raises ``InputError`` where only some are, or there is one alone."""
    models = [Path(path).suffix.lower() in MODEL_SUFFIXES for path in paths]
    if not any(models):
        return False
    if not all(models) or len(models) < 2:
        raise InputError(
            f"--path-to {paths[models.index(True)]}: a path of models needs two of them or more, and no maps: the "
            "first is the one that was fitted into the map"
        )
    return True


def model_path(volume: Volume, paths: Sequence[str | Path]) -> tuple[Volume, ...]:
    """Return the maps that a path of models leads through, the map itself not among them.

    The density of the first model, scaled to the map, is replaced by that of each further model: what the map shows
    beside the model stays. Atoms are Gaussians of one voxel's standard deviation.

    Parameters
    ----------
    volume : Volume
        A cube; its origin says where the models' frame is.
    paths : sequence of str or Path
        PDB files, the first fitted into the map, all in one frame.

    Raises
    ------
    InputError
        When a model cannot be read, or the first does not lie in the map.
    """
    first, *others = (_density(volume, read_atoms(path)) for path in paths)
    near = first > 0.05 * first.max() if first.any() else np.zeros(first.shape, bool)
    likeness = float(np.corrcoef(first[near], volume.data[near])[0, 1]) if near.sum() > 10 else 0.0
    if not likeness >= LEAST_LIKENESS:
        raise InputError(
            f"--path-to {paths[0]}: does not lie in the map (correlation {likeness:.2f}); fit it into the map first, "
            "and give the models in the map's frame"
        )
    scale = float(np.vdot(first[near], volume.data[near]) / np.vdot(first[near], first[near]))
    return tuple(
        Volume(
            np.asarray(volume.data + scale * (other - first), np.float32),
            volume.voxel_size_angstrom,
            volume.origin_angstrom,
        )
        for other in others
    )


def _density(volume: Volume, places: NDArray[np.float64]) -> NDArray[np.float32]:
    size, voxel = volume.data.shape[0], volume.voxel_size_angstrom
    centred = places - np.asarray(volume.origin_angstrom) - size // 2 * voxel
    return splat_atoms(centred, size, voxel, sigma_angstrom=voxel)
