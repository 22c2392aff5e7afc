"""Another set of picks beside the one that is curated: which are in both."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QDoubleSpinBox, QFileDialog, QLabel, QLineEdit, QVBoxLayout, QWidget

from napari_pickbias.errors import InputError
from napari_pickbias.gui.curation import Curation
from napari_pickbias.gui.docked import JobBar, button, row_of
from napari_pickbias.jobs.compare_picks import Compared, PickPlaces, compare_picks
from napari_pickbias.jobs.progress import Progress
from napari_pickbias.records.pick_tables import open_picks


def compare_steps(ours: PickPlaces, path: Path, distance_px: float) -> Generator[Progress, None, Compared]:
    """Read the other picks and match them; yields :class:`Progress`.

    Raises
    ------
    InputError
        When the file has no coordinates, or is of other micrographs.
    """
    yield Progress("read", 0, 2, str(path))
    table = open_picks(path).read()
    if table.coordinates_px is None or table.micrograph is None or table.z_px is not None:
        raise InputError(f"{path}: has no coordinates of picks in micrographs; give a file that has")
    yield Progress("match", 1, 2)
    return compare_picks(ours, PickPlaces(table.micrograph, table.coordinates_px, table.micrograph_names), distance_px)


class ComparePanel(QWidget):
    """Compares a curation with the picks of a file, and selects those that are in both or only here."""

    chosen = Signal(object)
    """Truth of every pick."""

    def __init__(self) -> None:
        super().__init__()
        self.curation: Curation | None = None
        self.pixel_size: float | None = None
        self.compared: Compared | None = None
        self._of: tuple[int, int] = (0, 0)
        self.path = QLineEdit(placeholderText="other picks of the same micrographs: .star, .cs, .box")
        self.distance = QDoubleSpinBox(minimum=0.1, maximum=5000, decimals=1, value=50, suffix=" Å")
        self.distance.setToolTip("Picks nearer than this are one particle; half the particle's diameter is usual")
        self.job = JobBar("Compare", {"read": "Reading the other picks", "match": "Matching"})
        self.result = QLabel(wordWrap=True)
        self.both = button("Select those in both", "Picks with a partner in the other set", lambda: self._select(True))
        self.only = button("Select those only here", "Picks without a partner", lambda: self._select(False))
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(row_of(self.path, button("…", "Choose a file", self.browse), stretch=0))
        column.addWidget(row_of(QLabel("Within"), self.distance, button("Compare", "Match both sets", self.compare)))
        for widget in (self.job, self.result, row_of(self.both, self.only)):
            column.addWidget(widget)
        self.job.finished.connect(self._on_compared)
        self._show()

    def show_curation(self, curation: Curation, pixel_size: float | None) -> None:
        """Compare another curation from now on."""
        self.job.drop()
        self.curation, self.pixel_size, self.compared = curation, pixel_size, None
        self._show()

    def compare(self) -> None:
        """Match the picks with those of the file."""
        curation = self.curation
        if curation is None:
            return
        text = self.path.text().strip()
        if not text:
            self.job.say_fault(InputError("“Compare”: no file is named; choose the other picks"))
            return
        if curation.micrograph is None or curation.coordinates_px is None or curation.table.z_px is not None:
            self.job.say_fault(InputError("“Compare”: the open file has no coordinates of picks in micrographs"))
            return
        ours = PickPlaces(curation.micrograph, curation.coordinates_px, curation.table.micrograph_names)
        self._of = (len(curation), curation.places_version)
        reach = self.distance.value() / (self.pixel_size or 1.0)
        self.job.start(compare_steps(ours, Path(text).expanduser().absolute(), reach))

    def browse(self) -> None:
        """Choose the other file."""
        path, _ = QFileDialog.getOpenFileName(self, "Other picks", self.path.text())
        if path:
            self.path.setText(path)

    def close_down(self) -> None:
        """Stop comparing."""
        self.job.drop()

    def _on_compared(self, compared: Any) -> None:
        self.compared = compared
        self._show()

    def _show(self) -> None:
        found = self.compared
        for widget in (self.both, self.only):
            widget.setEnabled(found is not None)
        if found is None:
            self.result.setText("")
            return
        both, here = int(found.matched.sum()), int((~found.matched).sum())
        self.result.setText(
            f"<b>{both:,}</b> in both, {here:,} only here, {found.only_b:,} only in the other set; "
            f"{found.shared_micrographs:,} micrographs in common."
        )

    def _select(self, in_both: bool) -> None:
        if self.compared is None or self.curation is None:
            return
        if self._of != (len(self.curation), self.curation.places_version):
            self.job.say("Picks were moved or added since: compare again.")
            return
        self.chosen.emit(np.array(self.compared.matched == in_both))
