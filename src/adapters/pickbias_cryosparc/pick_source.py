"""CryoSPARC particle groups as tables with all their fields, and chosen rows written back as they stood."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from napari_pickbias.errors import InputError
from napari_pickbias.records.pick_edits import PickEdits
from napari_pickbias.records.pick_tables import PickTable
from pickbias_cryosparc.group import Group
from pickbias_cryosparc.pick_edits import edited_group
from pickbias_cryosparc.source import CryosparcSource, coordinates, micrograph_names

_MOST_PARTS = 4
"""Fields with more numbers a row (poses' covariances, image signatures) are no features."""


class CryosparcPicks:
    """The rows of a CryoSPARC particle group, from a ``.cs`` or ``.csg``.

    Parameters
    ----------
    path : str or Path

    Raises
    ------
    InputError
        As :func:`pickbias_cryosparc.open_particles`.
    """

    suffix = ".cs"

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._source = CryosparcSource(path)

    def read(self) -> PickTable:
        """Read all fields; see :class:`napari_pickbias.records.pick_tables.PickTable`."""
        group = self._source.group
        names = micrograph_names(group)
        values, codes = (np.array([], str), None) if names is None else np.unique(names, return_inverse=True)
        return PickTable(
            features=_features(group),
            coordinates_px=coordinates(group),
            micrograph=None if codes is None else codes.astype(np.int64),
            micrograph_names=tuple(values.tolist()),
            micrograph_paths=tuple(_find(group, name) for name in values.tolist()),
            pixel_size_angstrom=_pixel_size(group),
            has_images=group.has("blob/path"),
            notes=group.notes,
        )

    def write_subset(
        self,
        keep: NDArray[np.bool_],
        target: Path,
        columns: Mapping[str, NDArray[np.generic]] | None = None,
        edits: PickEdits | None = None,
    ) -> list[Path]:
        """Write the kept rows; see :meth:`pickbias_cryosparc.source.CryosparcSource.write_subset`.

        For ``edits`` see :func:`pickbias_cryosparc.pick_edits.edited_group`.
        """
        if edits:
            micrograph = self.read().micrograph
            assert micrograph is not None  # or nothing could have been edited
            edited = copy.copy(self._source)
            edited.group = edited_group(self._source.group, micrograph, edits)
            every = np.concatenate([np.asarray(keep, bool), np.ones(len(edits.added_px), bool)])
            if every.any():
                return edited.write_subset(every, target, columns)
        if not np.asarray(keep).any():
            raise InputError(f"{self.path}: 0 of {len(keep)} particles kept, so none is written; loosen the criterion")
        return self._source.write_subset(keep, target, columns)


def open_picks(path: str | Path) -> CryosparcPicks:
    """Open a CryoSPARC particle group; see :class:`CryosparcPicks`."""
    return CryosparcPicks(path)


def _features(group: Group) -> pd.DataFrame:
    features: dict[str, object] = {}
    for name in group.fields:
        values = group.column(name)
        flat = values.reshape(len(values), -1)
        if values.dtype.kind == "S":
            texts, codes = np.unique(values, return_inverse=True)
            words = pd.Index([bytes(t).decode(errors="replace") for t in texts], dtype=object)
            features[name] = pd.Categorical.from_codes(codes.tolist(), categories=words)
        elif values.dtype.kind in "iufb" and flat.shape[1] <= _MOST_PARTS:
            parts = {name: flat[:, 0]} if values.ndim == 1 else {f"{name}_{i}": c for i, c in enumerate(flat.T)}
            features |= {key: np.array(part, part.dtype.newbyteorder("=")) for key, part in parts.items()}
    return pd.DataFrame(features, index=range(len(group)))


def _find(group: Group, name: str) -> Path | None:
    """Return the micrograph of a path as CryoSPARC keeps it: from the project's folder, which holds the job's."""
    for folder in (group.folder, *group.folder.parents[:4]):
        path = folder / name
        if name and path.is_file():
            return path
    return None


def _pixel_size(group: Group) -> float | None:
    """Return the micrographs' pixel size where a field says it; the particles' own may be that of binned images."""
    for name in ("location/micrograph_psize_A", "micrograph_blob/psize_A"):
        if group.has(name):
            size = float(np.median(group.column(name)))
            return size if size > 0 else None
    return None
