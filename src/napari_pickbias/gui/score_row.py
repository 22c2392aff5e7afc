"""A job's verdicts and a threshold on its score: from one to the other and back."""

from __future__ import annotations

import numpy as np
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QLabel, QVBoxLayout, QWidget

from napari_pickbias.gui.curation import BY_HAND, Curation
from napari_pickbias.gui.docked import button, row_of

SCORE = "outlier score"
"""The column that the outlier job's scores come in (:mod:`napari_pickbias.gui.outlier_work`)."""


class ScoreRow(QWidget):
    """Lets a threshold on the score decide in place of the job, or the job again; hidden where no job decided."""

    decided = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.curation: Curation | None = None
        self.by_score = button(
            "Decide by the score",
            "Keep what scores from the lower handle up; it begins where it keeps as many as the job. Then drag it.",
            self.decide_by_score,
        )
        self.by_job = button("The job's verdicts", "Keep what the job keeps, and nothing else", self.decide_by_job)
        self.words = QLabel(wordWrap=True)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(row_of(self.by_score, self.by_job))
        column.addWidget(self.words)
        self.setVisible(False)

    def show_curation(self, curation: Curation) -> float | None:
        """Take up a curation as it was opened; return the threshold that keeps as many as the job."""
        self.curation, self._rejected = curation, curation.by_hand == BY_HAND["rejected"]
        there = bool(self._rejected.any()) and SCORE in curation.numeric_columns()
        self.setVisible(there)
        if not there:
            return None
        scores = np.sort(curation.values(SCORE)[np.isfinite(curation.values(SCORE))])
        kept = int((~self._rejected).sum())
        self.threshold = float(scores[-min(max(kept, 1), len(scores))])
        self.words.setText(
            f"The job keeps {kept:,} by three tests; a score of {self.threshold:.3g} and more (dotted) keeps as many."
        )
        return self.threshold

    def decide_by_score(self) -> None:
        """Leave every pick to the ranges, with one on the score; undo takes it back."""
        if self.curation is not None:
            self.curation.decide(np.arange(len(self.curation)), "undecided")
            self.curation.set_range(SCORE, (self.threshold, self.curation.extent(SCORE)[1]))
            self.decided.emit()

    def decide_by_job(self) -> None:
        """Decide as the job did, without a range on the score; picks added since stay kept."""
        if self.curation is not None:
            rejected = np.flatnonzero(self._rejected)
            self.curation.set_range(SCORE, None)
            self.curation.decide(np.flatnonzero(~self._rejected), "undecided")
            self.curation.decide(rejected, "rejected")
            self.decided.emit()
