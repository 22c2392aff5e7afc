"""The selected images themselves, their peaks, and their radial profiles among those of all; follows the selection."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QScrollArea, QVBoxLayout, QWidget

from napari_pickbias.gui.curation import Curation
from napari_pickbias.gui.docked import JobBar
from napari_pickbias.gui.figure_view import FigureView
from napari_pickbias.jobs.profiles import Profiles, profile_job
from napari_pickbias.jobs.progress import Progress
from napari_pickbias.records import Images
from napari_pickbias.report.selection import MOST_IMAGES, Peaks, peaks_panel, profile_panel

MOST_CHOSEN = 300
"""So many selected images are read at most."""
_PAUSE_MS = 250
_FOUND = "outlier "
"""Begins the names of the columns that the outlier job gives (:mod:`napari_pickbias.gui.outlier_work`)."""


class Looked(NamedTuple):
    """What was read for one selection."""

    population: Profiles
    chosen: Profiles
    rows: NDArray[np.int64]
    images: list[NDArray[np.float32]]


def selection_steps(
    images: Images, rows: NDArray[np.int64], population: Profiles | None
) -> Generator[Progress, None, Looked]:
    """Read what the panel shows; ``population`` is taken over where it is known."""
    if population is None:
        population = yield from profile_job(images, np.arange(len(images)), stage="band")
    chosen = yield from profile_job(images, rows, most=MOST_CHOSEN)
    few = rows[:MOST_IMAGES]
    return Looked(population, chosen, few, list(images.read(few)) if len(few) else [])


def peaks_of(features: pd.DataFrame, row: int, pixel_size: float | None) -> Peaks | None:
    """Return what the outlier job found in an image; None where it did not look."""
    names = [f"{_FOUND}{which} {axis} angstrom" for which in ("center", "second") for axis in "yx"]
    if not pixel_size or row >= len(features) or any(name not in features for name in names):
        return None
    found = [float(features[name].iloc[row]) / pixel_size for name in names]

    def value(name: str) -> float:
        return float(features[_FOUND + name].iloc[row]) if _FOUND + name in features else np.nan

    reason = str(features[f"{_FOUND}reason"].iloc[row]) if f"{_FOUND}reason" in features else ""
    second, odds = value("second amplitude"), value("log odds multiple")
    if not np.isfinite(odds):  # the published method has no odds, but says how many clusters it saw
        odds = -1.0 if reason == "multiple" else 1.0
    return Peaks((found[0], found[1]), (found[2], found[3]), second, odds, reason)


class SelectionPanel(QWidget):
    """Figures about the selection of a curation, drawn anew when it pauses.

    Parameters
    ----------
    theme : str
        Name of napari's theme.
    """

    def __init__(self, theme: str) -> None:
        super().__init__()
        self.job = JobBar(
            "Selection", {"band": "Reading images for the band", "profile": "Reading the selected images"}
        )
        self.figures = FigureView(theme)
        self.curation: Curation | None = None
        self.images: Images | None = None
        self.pixel_size: float | None = None
        self.radius_angstrom: float | None = None
        self.population: Profiles | None = None
        self._timer = QTimer(self, singleShot=True, interval=_PAUSE_MS)
        self._timer.timeout.connect(self.look)
        self.job.finished.connect(self._on_looked)
        inner = QWidget()
        inside = QVBoxLayout(inner)
        inside.setContentsMargins(0, 0, 0, 0)
        inside.addWidget(self.figures)
        inside.addStretch()
        scroll = QScrollArea(widgetResizable=True)
        scroll.setFrameShape(QScrollArea.Shape.NoFrame)
        scroll.setWidget(inner)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 4, 0, 0)
        column.addWidget(self.job)
        column.addWidget(scroll, stretch=1)

    def show_curation(
        self, curation: Curation, images: Images | None, pixel_size: float | None, radius_angstrom: float | None
    ) -> None:
        """Follow another curation."""
        self.job.drop()
        self.curation, self.images = curation, images
        self.pixel_size, self.radius_angstrom = pixel_size, radius_angstrom
        self.population = None
        self.figures.clear()
        self.follow()

    def take_images(self, images: Images | None) -> None:
        """Read other images from now on: picks were moved or added."""
        self.images = images
        self.follow()

    def follow(self) -> None:
        """Look at the selection as soon as it pauses; only while the panel is to be seen."""
        if self.isVisible() and self.curation is not None:
            self._timer.start()

    def showEvent(self, event: Any) -> None:  # noqa: N802 (Qt's name)
        """Catch up with the selection."""
        super().showEvent(event)
        self.follow()

    def look(self) -> None:
        """Read what is selected now, and draw it."""
        if self.curation is None:
            return
        if self.images is None:
            self.job.say("Neither particle images nor micrographs are there.")
            return
        rows = np.flatnonzero(self.curation.selected)
        self.job.start(selection_steps(self.images, rows[rows < len(self.images)], self.population))

    def _on_looked(self, looked: Looked) -> None:
        assert self.curation is not None
        self.population = looked.population
        peaks = [peaks_of(self.curation.features, int(row), self.pixel_size) for row in looked.rows]
        radius = self.radius_angstrom / self.pixel_size if self.radius_angstrom and self.pixel_size else None
        chosen = looked.chosen if len(looked.chosen) else None
        profiles = profile_panel(looked.population, chosen, self.pixel_size)
        self.figures.show_panels([peaks_panel(looked.images, peaks, radius), profiles] if looked.images else [profiles])
        if chosen is None:
            self.job.say("Select pictures in the gallery or circles in the canvas.")

    def close_down(self) -> None:
        """Stop reading."""
        self._timer.stop()
        self.job.drop()
