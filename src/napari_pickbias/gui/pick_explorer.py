"""Picks to look through: what was looked for, the threshold over the scores, and the micrographs with their counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from napari.layers import Points
from numpy.typing import NDArray
from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtGui import QIcon, QImage, QPixmap
from qtpy.QtWidgets import (
    QCheckBox,
    QDoubleSpinBox,
    QLabel,
    QListWidget,
    QListWidgetItem,
    QSlider,
    QVBoxLayout,
    QWidget,
)

from napari_pickbias.gui.docked import row_of
from napari_pickbias.gui.figure_view import theme_of
from napari_pickbias.gui.live_plot import LivePlot
from napari_pickbias.gui.micrograph_list import HEADER, MicrographList
from napari_pickbias.gui.pick_layers import KEPT_COLOR
from napari_pickbias.gui.thumbnails import grey
from napari_pickbias.report.panels import dress, legend

if TYPE_CHECKING:
    from napari.viewer import Viewer

    from napari_pickbias.gui.threshold import PickView

BINS, STEPS = 90, 1000
THUMBNAIL = 64


class TemplateStrip(QWidget):
    """The templates as thumbnails, side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.list = QListWidget()
        self.list.setViewMode(QListWidget.ViewMode.IconMode)
        self.list.setFlow(QListWidget.Flow.LeftToRight)
        self.list.setWrapping(False)
        self.list.setMovement(QListWidget.Movement.Static)
        self.list.setSelectionMode(QListWidget.SelectionMode.NoSelection)
        self.list.setIconSize(QSize(THUMBNAIL, THUMBNAIL))
        self.list.setFixedHeight(THUMBNAIL + 40)
        self.text = QLabel(wordWrap=True)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(QLabel("<b>Templates, as they are matched</b>"))
        column.addWidget(self.list)
        column.addWidget(self.text)

    def show_templates(self, images: NDArray[np.floating], labels: Sequence[str], text: str) -> None:
        """Show images ``(n, b, b)`` with a label below each; the old ones go."""
        self.list.clear()
        for image, label in zip(images, labels, strict=True):
            pixels = grey(np.asarray(image, np.float32))
            height, width = pixels.shape
            picture = QImage(pixels.data, width, height, width, QImage.Format.Format_Grayscale8).copy()
            icon = QPixmap.fromImage(picture).scaled(
                THUMBNAIL, THUMBNAIL, Qt.AspectRatioMode.KeepAspectRatio, Qt.TransformationMode.SmoothTransformation
            )
            self.list.addItem(QListWidgetItem(QIcon(icon), label))
        self.text.setText(text)


class ThresholdPanel(QWidget):
    """Histogram of the candidates' scores against those of noise, and a threshold over it."""

    moved = Signal(float)

    def __init__(self, theme_name: str) -> None:
        super().__init__()
        self.theme = theme_of(theme_name)
        self.view: PickView | None = None
        self.points: Points | None = None
        self.canvas = LivePlot(self.theme, 190)
        self.axes = self.canvas.axes
        self.slider = QSlider(orientation=Qt.Orientation.Horizontal, minimum=0, maximum=STEPS)
        self.box = QDoubleSpinBox(decimals=3, keyboardTracking=False)
        self.log = QCheckBox("log", checked=True)
        self.meaning = QLabel(wordWrap=True)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        for widget in (self.canvas, self.slider, row_of(QLabel("Threshold"), self.box, self.log), self.meaning):
            column.addWidget(widget)
        self.slider.valueChanged.connect(self._on_slider)
        self.box.valueChanged.connect(self.set_threshold)
        self.log.toggled.connect(self.draw)

    def show_view(self, view: PickView, points: Points) -> None:
        """Show a run's candidates."""
        self.view, self.points = view, points
        low, high = view.extent()
        self.box.blockSignals(True)
        self.box.setRange(low, high)
        self.box.setSingleStep((high - low) / 200)
        self.box.blockSignals(False)
        self.draw()
        self.set_threshold(view.threshold)

    def set_threshold(self, value: float) -> None:
        """Draw another threshold: circles, counts and error rates follow at once; nothing is searched again."""
        if self.view is None:
            return
        low, high = self.view.extent()
        self.box.blockSignals(True)
        self.slider.blockSignals(True)
        self.box.setValue(value)
        self.slider.setValue(round(STEPS * (value - low) / max(high - low, 1e-12)))
        self.box.blockSignals(False)
        self.slider.blockSignals(False)
        self.threshold = value
        if self.points is not None:
            self.points.shown = self.view.table["score"].to_numpy() >= value
        self.meaning.setText(self.view.meaning(value).text(len(self.view.micrographs)))
        self.canvas.move_lines([value])
        self.moved.emit(value)

    def draw(self, *_ignored: object) -> None:
        """Draw the histogram."""
        if self.view is None:
            return
        axes, scores = self.axes, self.view.table["score"].to_numpy()
        edges = np.linspace(*self.view.extent(), BINS + 1)
        axes.clear()
        axes.stairs(np.histogram(scores, edges)[0], edges, fill=True, color=KEPT_COLOR, alpha=0.8, label="micrographs")
        noise = np.histogram(self.view.null, edges)[0] / self.view.repeats
        axes.stairs(noise, edges, color=self.theme.text, linewidth=1.2, label="their noise alone")
        if self.log.isChecked():
            axes.set_yscale("log")
            axes.set_ylim(0.3, None)
        self.canvas.set_lines([getattr(self, "threshold", self.view.threshold)], "#E69F00")
        dress(axes, self.theme, x="score (standard deviations of the noise)", y="peaks")
        legend(axes, self.theme)
        self.canvas.draw_idle()

    def _on_slider(self, step: int) -> None:
        if self.view is not None:
            low, high = self.view.extent()
            self.set_threshold(low + (high - low) * step / STEPS)


class PickExplorer(QWidget):
    """Threshold, and the micrographs with their counts: a click goes to one.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    """

    def __init__(self, viewer: Viewer) -> None:
        super().__init__()
        self.viewer = viewer
        self.threshold = ThresholdPanel(str(viewer.theme))
        self.micrographs = MicrographList()
        self.micrographs.setMinimumHeight(130)
        self.micrographs.setColumnHidden(HEADER.index("flag"), True)  # flags are for curating
        self.micrographs.setToolTip("Picks from the threshold up, and all candidates; click to go there")
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(QLabel("<b>Scores against those of noise</b>"))
        column.addWidget(self.threshold)
        column.addWidget(QLabel("<b>Micrographs</b>"))
        column.addWidget(self.micrographs)
        self.threshold.moved.connect(self._on_threshold)
        self.micrographs.chosen.connect(self._on_chosen)
        self._names: list[str] = []
        self._step = viewer.dims.events.current_step
        self._step.connect(self._on_step)
        self.setVisible(False)

    def show_view(self, view: PickView, points: Points) -> None:
        """Show a run's candidates, whose circles are in ``points``."""
        self._micrograph = view.table["micrograph"].to_numpy(np.int64)
        self._score = view.table["score"].to_numpy(np.float64)
        self._names = [str(name) for name in view.micrographs.names]
        self._all = np.bincount(self._micrograph, minlength=len(self._names))
        self.threshold.show_view(view, points)
        self.setVisible(True)
        self._on_step()

    def close_down(self) -> None:
        """Let go of the viewer."""
        self._step.disconnect(self._on_step)

    def _on_threshold(self, value: float) -> None:
        kept = np.bincount(self._micrograph[self._score >= value], minlength=len(self._names))
        self.micrographs.show_counts(
            pd.DataFrame({"name": self._names, "picks": self._all, "kept": kept, "flag": False})
        )

    def _on_chosen(self, row: int) -> None:
        self.viewer.dims.set_current_step(0, row)

    def _on_step(self, _event: Any = None) -> None:
        if self._names and self.viewer.dims.ndim > 2:
            self.micrographs.mark(int(self.viewer.dims.current_step[0]))
