"""What the Curate dock does off the main thread: reading, saving, averaging. No Qt."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from napari_pickbias.gui import curation_files
from napari_pickbias.gui.curation import Curation
from napari_pickbias.gui.curation_files import Saved
from napari_pickbias.gui.pick_layers import circle_px, micrograph_pixel_size
from napari_pickbias.gui.thumbnails import images_of
from napari_pickbias.jobs.averages import SetAverage, average_job
from napari_pickbias.jobs.progress import Progress
from napari_pickbias.records import Images, open_data
from napari_pickbias.records.crops import MicrographCrops
from napari_pickbias.records.pick_tables import PickSource, open_picks

BOX_DIAMETERS = 1.5
"""Side of a crop in diameters of the circle."""


@dataclass(frozen=True)
class Verdicts:
    """What a job found out about the rows of a file, to go on from by hand."""

    columns: pd.DataFrame
    rejected: NDArray[np.bool_]
    radius_angstrom: float | None = None


@dataclass(frozen=True)
class Opened:
    """A file that is ready to be curated."""

    source: PickSource
    curation: Curation
    images: Images | None
    image_pixel_size: float | None
    radius_angstrom: float | None = None


def open_steps(
    path: Path, verdicts: Verdicts | None = None, diameter_angstrom: float = 0.0
) -> Generator[Progress, None, Opened]:
    """Open a file of picks or particles; yields :class:`Progress`.

    Raises
    ------
    InputError
        When it cannot be read.
    """
    yield Progress("read", 0, 2, str(path))
    source = open_picks(path)
    table = source.read()
    yield Progress("read", 1, 2)
    curation = Curation(table, *([] if verdicts is None else [verdicts.columns, verdicts.rejected]))
    pixel_size = micrograph_pixel_size(table)
    box = round(BOX_DIAMETERS * circle_px(table, pixel_size, diameter_angstrom))
    images, own = images_of(path, table, box)
    if images is not None and not isinstance(images, MicrographCrops):
        pixel_size = own
    radius = verdicts.radius_angstrom if verdicts is not None and verdicts.radius_angstrom else diameter_angstrom / 2
    return Opened(source, curation, images, pixel_size, radius or None)


def at_places(images: Images | None, curation: Curation) -> Images | None:
    """Return the crops around the picks as they lie now; particle images stay what they are."""
    if not isinstance(images, MicrographCrops) or curation.micrograph is None or curation.coordinates_px is None:
        return images
    return MicrographCrops(images.paths, curation.micrograph, curation.coordinates_px, images.box_px, images.step)


def save_steps(
    curation: Curation, source: PickSource, target: Path, overwrite: bool
) -> Generator[Progress, None, Saved]:
    """Write both sets and the decisions; see :func:`napari_pickbias.gui.curation_files.save`."""
    yield Progress("save", 0, 1, str(target))
    return curation_files.save(curation, source, target, overwrite=overwrite)


def average_steps(
    images: Images, keep: NDArray[np.bool_], selected: NDArray[np.bool_], template: Path | None
) -> Generator[Progress, None, tuple[list[SetAverage], NDArray[Any] | None]]:
    """Average the kept, the rejected and, where some but not all are selected, the selected ones."""
    sets = {"kept": np.flatnonzero(keep), "rejected": np.flatnonzero(~keep)}
    if selected.any() and not selected.all():
        sets["selected"] = np.flatnonzero(selected)
    shown = None if template is None else _template(template)
    found = yield from average_job(images, sets)
    return found, shown


def _template(path: Path) -> NDArray[Any]:
    """Return the first image of a stack, or the sum of a map along z: enough to compare by eye."""
    data = open_data(path)
    while data.ndim > 3:
        data = data[0]
    if data.ndim == 2:
        return np.asarray(data, np.float64)
    is_map = data.shape[0] == data.shape[1] == data.shape[2]
    return np.asarray(data.sum(axis=0) if is_map else data[0], np.float64)
