"""The "Soft modes" dock: which changes of a map its images can hardly tell, as a moving surface."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
from napari.layers import Surface
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QCheckBox, QComboBox, QLabel, QSlider, QVBoxLayout, QWidget

from napari_pickbias.gui.docked import row_of
from napari_pickbias.gui.figure_view import FigureView
from napari_pickbias.gui.run_folders import softmodes_folder_steps
from napari_pickbias.gui.run_widget import MAPS, STAR, Input, RunWidget
from napari_pickbias.gui.run_work import Finished, RunOrder, softmodes_steps
from napari_pickbias.gui.softmodes_layers import FRAMES, SoftFrames, SoftShown
from napari_pickbias.jobs.progress import Progress
from napari_pickbias.jobs.softmodes_parameters import SoftmodesParameters

_FRAME_MS = 120
VIEW_COLORS = {"pose uncertainty": "rotation_sd_deg", "images": "images"}


class SoftmodesWidget(RunWidget):
    """Soft modes of a refined map; no image is read."""

    title = "Soft modes"
    model = SoftmodesParameters
    inputs = (
        Input("map", "Map", "the refined map (.mrc, .map)", MAPS, key="map"),
        Input("particles", "Particles", "its particles with poses: run_data.star or .cs", STAR, key="source"),
        Input("mask", "Mask", "mask of the map's box (optional)", MAPS, needed=False),
    )
    basic = ("modes", "symmetry", "noise", "views", "add_views", "what_if")
    stages = {"prepare": "Preparing", "solve": "Solving for the modes", "advice": "Trying what would help"}  # noqa: RUF012 (as the base class declares it)

    def add_below(self) -> None:
        """Add the animation's controls and the spectrum."""
        self.mode = QComboBox(toolTip="Which mode moves")
        self.play = QCheckBox("animate")
        self.phase = QSlider(orientation=_horizontal(), minimum=0, maximum=FRAMES - 1)
        self.phase.setToolTip("From V - a u on the left to V + a u on the right; in the middle the map itself")
        self.spectrum = FigureView(str(self.viewer.theme), texts=False)
        self.controls = QWidget()
        column = QVBoxLayout(self.controls)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(row_of(self.mode, self.play, stretch=0))
        column.addWidget(self.phase)
        column.addWidget(QLabel("Colour: how uncertain the map is there, from dark (sure) to yellow.", wordWrap=True))
        self.views = QComboBox(toolTip="What colours the views on the sphere, from dark (little) to yellow")
        for text, name in VIEW_COLORS.items():
            self.views.addItem(text, name)
        self.views.currentIndexChanged.connect(self._colour_views)
        column.addWidget(row_of(QLabel("Views on the sphere by"), self.views, stretch=1))
        column.addWidget(self.spectrum)
        self.column.addWidget(self.controls)
        self.controls.setVisible(False)
        self._frames: SoftFrames | None = None
        self._surface: Surface | None = None
        self._points: Any = None
        self._way = 1
        self._timer = QTimer(self, interval=_FRAME_MS)
        self._timer.timeout.connect(self._tick)
        self.play.toggled.connect(lambda on: self._timer.start() if on else self._timer.stop())
        self.mode.currentIndexChanged.connect(self.draw)
        self.phase.valueChanged.connect(self.draw)

    def steps(self, order: RunOrder) -> Generator[Progress, None, Finished]:
        """Return the job's steps."""
        return softmodes_steps(order)

    def folder_steps(self, folder: Path) -> Generator[Progress, None, Finished]:
        """Return the steps that open an output folder."""
        return softmodes_folder_steps(folder)

    def show_result(self, finished: Finished) -> None:
        """Show the softest mode, moving."""
        self.play.setChecked(False)
        shown: SoftShown | None = finished.extra
        self._frames, self._surface, self._points = None, None, None
        self.controls.setVisible(shown is not None)
        if shown is None:
            return
        self.fold.setChecked(False)
        self._frames = shown.frames
        self.mode.blockSignals(True)
        self.mode.clear()
        for k, (value, share) in enumerate(
            zip(self._frames.eigenvalues, self._frames.amplitude_fraction, strict=True), 1
        ):
            self.mode.addItem(f"mode {k}: information {value:.2g}, amplitude {share:.1%}")
        self.mode.blockSignals(False)
        self.show_in_space()
        data, options, kind = self._frames.layer(0, FRAMES // 2)
        layers = self.show_layers([*finished.layers, *shown.sphere, (data, options, kind)])
        self._surface = layers[-1]
        self._points = next((layer for layer in layers if "rotation_sd_deg" in getattr(layer, "features", ())), None)
        self._colour_views()
        self.phase.setValue(FRAMES // 2)
        self.spectrum.show_panels([panel for panel in finished.panels if panel.key in ("spectrum", "views")])

    def draw(self, *_ignored: object) -> None:
        """Show the frame that mode and slider say."""
        if self._frames is None or self._surface is None or self._surface not in self.viewer.layers:
            return
        mode = max(0, self.mode.currentIndex())
        self._surface.data = self._frames.frames[mode][self.phase.value()]
        self._surface.contrast_limits = self._frames.limits

    def _colour_views(self, *_ignored: object) -> None:
        if self._points is not None and self._points in self.viewer.layers:
            values = self._points.features[self.views.currentData()]
            if np.ptp(values) > 0:  # all alike they keep their colour
                self._points.face_color = self.views.currentData()

    def close_down(self) -> None:
        """Stop job and animation."""
        self._timer.stop()
        super().close_down()

    def _tick(self) -> None:
        value = self.phase.value() + self._way
        if not 0 <= value < FRAMES:
            self._way = -self._way
            value = self.phase.value() + self._way
        self.phase.setValue(value)


def _horizontal() -> Any:
    from qtpy.QtCore import Qt

    return Qt.Orientation.Horizontal
