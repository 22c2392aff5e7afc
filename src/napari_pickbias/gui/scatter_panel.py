"""Two columns against each other; a lasso selects the picks inside."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.path import Path as Outline
from matplotlib.widgets import LassoSelector
from numpy.typing import NDArray
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QLabel, QVBoxLayout, QWidget

from napari_pickbias.gui.curation import Curation
from napari_pickbias.gui.docked import row_of
from napari_pickbias.gui.live_plot import LivePlot
from napari_pickbias.gui.pick_layers import KEPT_COLOR, REJECTED_COLOR, SELECTED_COLOR
from napari_pickbias.report.palette import DARK, Theme
from napari_pickbias.report.panels import dress

_ORDER = ((KEPT_COLOR, 0.5), (REJECTED_COLOR, 0.7), (SELECTED_COLOR, 1.0))


class ScatterPanel(QWidget):
    """Scatter of two columns of a curation."""

    chosen = Signal(object)
    """Truth of every pick: inside the lasso."""

    def __init__(self, theme: Theme = DARK) -> None:
        super().__init__()
        self.theme = theme
        self.curation: Curation | None = None
        self._busy = False
        self.x, self.y = QComboBox(), QComboBox()
        self.canvas = LivePlot(theme, 300)
        self.canvas.setToolTip("Draw around points with the mouse to select them")
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 4, 0, 0)
        column.addWidget(row_of(QLabel("x"), self.x, stretch=1))
        column.addWidget(row_of(QLabel("y"), self.y, stretch=1))
        column.addWidget(self.canvas)
        words = "Draw around points to select them: blue kept, orange rejected, white selected."
        column.addWidget(QLabel(words, wordWrap=True))
        column.addStretch()
        for box in (self.x, self.y):
            box.currentIndexChanged.connect(self.draw)
        self._lasso: LassoSelector | None = None

    def show_curation(self, curation: Curation) -> None:
        """Offer the columns of a curation."""
        self.curation, self._busy = curation, True
        columns = curation.numeric_columns()
        for box, at in ((self.x, 0), (self.y, 1)):
            box.clear()
            box.addItems(columns)
            box.setCurrentIndex(min(at, len(columns) - 1))
        self._busy = False
        self.draw()

    def follow(self) -> None:
        """Draw verdicts and selection as they are now, where anybody sees them."""
        if self.isVisible():
            self.draw()

    def showEvent(self, event: Any) -> None:  # noqa: N802 (Qt's name)
        """Catch up."""
        super().showEvent(event)
        self.draw()

    def draw(self, *_ignored: object) -> None:
        """Draw all points, one pixel each: a hundred thousand take a few hundredths of a second."""
        if self.curation is None or self._busy or not self.x.currentText() or not self.isVisible():
            return
        axes, (x, y) = self.canvas.axes, self._values()
        groups = np.where(self.curation.selected, 2, ~self.curation.keep)
        axes.clear()
        marker = "," if len(x) > 5000 else "."
        for number, (color, alpha) in enumerate(_ORDER):
            here = groups == number
            axes.plot(x[here], y[here], marker, color=color, alpha=alpha, markersize=3, linestyle="none")
        dress(axes, self.theme, x=self.x.currentText(), y=self.y.currentText())
        # A selector belongs to what the axes were before they were cleared.
        self._lasso = LassoSelector(axes, self.select_inside, props={"color": self.theme.text, "linewidth": 1})
        self.canvas.draw_idle()

    def select_inside(self, outline: list[tuple[float, float]]) -> None:
        """Select the points inside an outline of (x, y)."""
        if self.curation is None or len(outline) < 3:
            return
        x, y = self._values()
        inside = np.zeros(len(x), np.bool_)
        known = np.isfinite(x) & np.isfinite(y)
        inside[known] = Outline(outline).contains_points(np.column_stack([x[known], y[known]]))
        self.chosen.emit(inside)

    def _values(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        assert self.curation is not None
        return self.curation.values(self.x.currentText()), self.curation.values(self.y.currentText())
