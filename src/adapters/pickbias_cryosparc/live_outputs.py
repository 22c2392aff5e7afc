"""What a live job sends back: figures, and groups with exactly the fields that CryoSPARC wants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_pickbias.errors import InputError
from napari_pickbias.records import read_header
from pickbias_cryosparc.from_star import hashed_uid
from pickbias_cryosparc.live_external import ExternalJob

if TYPE_CHECKING:
    from napari_pickbias.report.document import Document
    from napari_pickbias.report.panels import Panel

VOLUME_FIELDS = ("path", "shape", "psize_A")
"""What is known of a map (``volume.blob``)."""


def refuse_unknown_fields(external: ExternalJob, output: str, made: Sequence[str], kept: Any = None) -> None:
    """Refuse an output of which CryoSPARC wants a field that is neither made here nor kept from an input.

    Asked before anything is computed: the refusal would come after hours otherwise.
    """
    there = set(made) | set(() if kept is None else kept.fields())
    for name, dtype in external.required_fields(output):
        if name not in there:
            raise InputError(
                f"{output}: CryoSPARC wants the field '{name}' ({dtype}), which this version does not make; take the "
                "release of napari-pickbias that fits this CryoSPARC, and report it"
            )


def fill(external: ExternalJob, output: str, uids: NDArray[np.uint64], columns: Mapping[str, ArrayLike]) -> Any:
    """Return the dataset of an output: the fields that CryoSPARC wants, in its types.

    Parameters
    ----------
    uids : ndarray of uint64, shape (n,)
    columns : mapping
        Field to its ``n`` values; those that are not wanted are left out.

    Raises
    ------
    InputError
        As :func:`refuse_unknown_fields`.
    """
    from cryosparc.dataset import Dataset

    refuse_unknown_fields(external, output, list(columns))
    fields: dict[str, Any] = {"uid": np.asarray(uids, np.uint64)}
    for name, dtype in external.required_fields(output):
        base, shape = (found := np.dtype(dtype)).subdtype or (found, ())
        values = np.asarray(columns[name])
        fields[name] = values.astype(object if base.kind == "O" else base).reshape((len(uids), *shape))
    return Dataset(fields)


def save_volume(external: ExternalJob, output: str, files: Mapping[str, Path]) -> None:
    """Send maps that a run wrote as one row of a volume output.

    Parameters
    ----------
    files : mapping
        Slot (``map``) to its file in the project.
    """
    columns: dict[str, ArrayLike] = {}
    for slot, path in files.items():
        header = read_header(path)
        columns[f"{slot}/path"] = [external.in_project(path)]
        columns[f"{slot}/shape"] = [header.shape]
        columns[f"{slot}/psize_A"] = [header.voxel_size_angstrom[0] or 0.0]
    name = " ".join(external.in_project(path) for path in files.values())
    external.save(output, fill(external, output, np.array([hashed_uid(name)], np.uint64), columns))


def show(external: ExternalJob, panels: Sequence[Panel], *outputs: str) -> None:
    """Show a report's figures in the event log; the first one on the job's card and on ``outputs`` too."""
    for index, panel in enumerate(panels):
        png = panel.png(dpi=120)
        external.plot(panel.title, png)
        if index == 0:
            external.tile(png, *outputs)


def panels_of(document: Document) -> list[Panel]:
    """Return the figures of a report in its order."""
    return [panel for section in document.sections for panel in section.panels]
