"""A range on one column: histogram of what is kept and what is not, two handles, select above and below."""

from __future__ import annotations

import numpy as np
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QCheckBox, QComboBox, QDoubleSpinBox, QLabel, QVBoxLayout, QWidget
from superqt import QLabeledDoubleRangeSlider

from napari_pickbias.gui.curation import Curation
from napari_pickbias.gui.docked import button, row_of
from napari_pickbias.gui.live_plot import LivePlot
from napari_pickbias.gui.pick_layers import KEPT_COLOR, REJECTED_COLOR
from napari_pickbias.report.palette import DARK, Theme
from napari_pickbias.report.panels import dress

BINS = 80
_STEPS = 1000


class RangePanel(QWidget):
    """Sets the range of a column of a curation, live."""

    changed = Signal(str, float, float)
    """Column, low, high: while the handles move."""
    select = Signal(str, str, float)
    """Which side ("above" or "below"), column, value."""

    def __init__(self, theme: Theme = DARK) -> None:
        super().__init__()
        self.theme = theme
        self.curation: Curation | None = None
        self.marks: dict[str, float] = {}
        """Values of columns that a dotted line stands at."""
        self._busy = False
        self._edges = np.linspace(0, 1, BINS + 1)
        self.column = QComboBox(toolTip="Any column of numbers; scores come first")
        self.log = QCheckBox("log", toolTip="Logarithmic counts")
        self.clear_button = button("Whole range", "Take this column's range away", self.clear)
        self.slider = QLabeledDoubleRangeSlider(Qt.Orientation.Horizontal)
        self.slider.setEdgeLabelMode(QLabeledDoubleRangeSlider.EdgeLabelMode.NoLabel)
        self.slider.setHandleLabelPosition(QLabeledDoubleRangeSlider.LabelPosition.NoLabel)
        self.low, self.high = (QDoubleSpinBox(decimals=4, keyboardTracking=False) for _ in "lh")
        self.canvas = LivePlot(theme, 150)
        self.axes = self.canvas.axes
        self.canvas.setToolTip("Left click sets the lower end, right click the upper one")
        self.active = QLabel(wordWrap=True)
        above = button("Select above", "Select all picks above the upper handle", lambda: self._select("above"))
        below = button("Select below", "Select all picks below the lower handle", lambda: self._select("below"))
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        for widget in (
            row_of(self.column, self.log, stretch=0),
            self.canvas,
            self.slider,
            row_of(self.low, self.high, self.clear_button),
            row_of(below, above),
            self.active,
        ):
            column.addWidget(widget)
        self.column.currentTextChanged.connect(self.show_column)
        self.log.toggled.connect(self.draw)
        self.slider.valueChanged.connect(self._on_slider)
        self.slider.sliderReleased.connect(self.draw)
        self.low.valueChanged.connect(lambda value: self._on_spin(low=value))
        self.high.valueChanged.connect(lambda value: self._on_spin(high=value))
        self.canvas.mpl_connect("button_press_event", self._on_click)

    def show_curation(self, curation: Curation) -> None:
        """Offer the columns of a curation."""
        self.curation = curation
        self._busy = True
        self.column.clear()
        self.column.addItems(curation.numeric_columns())
        self._busy = False
        self.show_column()

    def show_column(self, *_ignored: object) -> None:
        """Show the histogram and range of the column that is chosen."""
        if self.curation is None or self._busy or not self.column.currentText():
            return
        self._busy = True
        column = self.column.currentText()
        low, high = self.curation.extent(column)
        self._edges = np.linspace(low, high, BINS + 1)
        step = (high - low) / _STEPS
        decimals = int(np.clip(3 - np.floor(np.log10(max(high - low, 1e-12))), 0, 10))
        self.slider.setRange(low, high)
        self.slider.setSingleStep(step)
        for spin in (self.low, self.high):
            spin.setDecimals(decimals)
            spin.setRange(low - step, high + step)
            spin.setSingleStep(step)
        self._busy = False
        self.show_range()
        self.draw()

    def show_range(self) -> None:
        """Put handles and boxes where the curation's range is (after undo, say)."""
        if self.curation is None or not self.column.currentText():
            return
        limits = self.limits()
        self._busy = True
        self.slider.setValue(limits)
        self.low.setValue(limits[0])
        self.high.setValue(limits[1])
        self._busy = False
        self.canvas.move_lines(limits)
        ranges = [f"{name}: {a:.4g} to {b:.4g}" for name, (a, b) in self.curation.ranges.items()]
        self.active.setText("Ranges in force: " + "; ".join(ranges) if ranges else "No range is in force.")

    def clear(self) -> None:
        """Take the column's range away."""
        if self.curation is not None and self.column.currentText():
            self.changed.emit(self.column.currentText(), *self.curation.extent(self.column.currentText()))
            self.show_range()
            self.draw()

    def draw(self, *_ignored: object) -> None:
        """Draw the histogram; the handles alone move without it."""
        if self.curation is None or not self.column.currentText():
            return
        axes, curation = self.axes, self.curation
        values, keep = curation.values(self.column.currentText()), curation.keep
        kept, rejected = (np.histogram(values[m & np.isfinite(values)], self._edges)[0] for m in (keep, ~keep))
        axes.clear()
        axes.stairs(kept + rejected, self._edges, baseline=kept, fill=True, color=REJECTED_COLOR, alpha=0.8)
        axes.stairs(kept, self._edges, fill=True, color=KEPT_COLOR, alpha=0.8)
        if self.log.isChecked():
            axes.set_yscale("log")
            axes.set_ylim(0.7, None)
        axes.set_xlim(self._edges[0], self._edges[-1])
        if self.column.currentText() in self.marks:
            axes.axvline(self.marks[self.column.currentText()], color=self.theme.text, linestyle=":", linewidth=1.3)
        self.canvas.set_lines(self.limits(), self.theme.text)
        dress(axes, self.theme, y="picks")
        self.canvas.draw_idle()

    def limits(self) -> tuple[float, float]:
        """Return the range in force, exactly: handles and boxes round theirs, and would lose the outermost picks."""
        assert self.curation is not None
        column = self.column.currentText()
        return self.curation.ranges.get(column) or self.curation.extent(column)

    def _on_slider(self, moved: tuple[float, float]) -> None:
        if self._busy or self.curation is None:
            return
        ends = self.curation.extent(self.column.currentText())
        near = (ends[1] - ends[0]) / (2 * _STEPS)
        low, high = (end if abs(x - end) < near else float(x) for x, end in zip(moved, ends, strict=True))
        self._emit(low, high)

    def _on_spin(self, low: float | None = None, high: float | None = None) -> None:
        if self._busy or self.curation is None:
            return
        before = self.limits()
        chosen = sorted((before[0] if low is None else low, before[1] if high is None else high))
        self._emit(chosen[0], chosen[1])
        self.draw()

    def _on_click(self, event: object) -> None:
        x = getattr(event, "xdata", None)
        if x is None or self.curation is None:
            return
        low, high = self.limits()
        if getattr(event, "button", None) == 1:
            self._emit(min(float(x), high), high)
        elif getattr(event, "button", None) == 3:
            self._emit(low, max(float(x), low))
        self.draw()

    def _emit(self, low: float, high: float) -> None:
        self.changed.emit(self.column.currentText(), low, high)
        self.show_range()

    def _select(self, how: str) -> None:
        if self.curation is not None and self.column.currentText():
            low, high = self.limits()
            self.select.emit(how, self.column.currentText(), high if how == "above" else low)
