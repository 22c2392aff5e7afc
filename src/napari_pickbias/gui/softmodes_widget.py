"""The "Soft modes" dock: which changes of a map its images can hardly tell, as a moving surface."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from napari.layers import Surface
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QCheckBox, QComboBox, QLabel, QSlider, QVBoxLayout, QWidget

from napari_pickbias.gui.docked import row_of
from napari_pickbias.gui.figure_view import FigureView
from napari_pickbias.gui.run_widget import MAPS, STAR, Input, RunWidget
from napari_pickbias.gui.run_work import Finished, RunOrder, softmodes_steps
from napari_pickbias.gui.softmodes_layers import FRAMES, SoftFrames
from napari_pickbias.jobs.progress import Progress
from napari_pickbias.jobs.softmodes_parameters import SoftmodesParameters

_FRAME_MS = 120


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
        column.addWidget(self.spectrum)
        self.column.addWidget(self.controls)
        self.controls.setVisible(False)
        self._frames: SoftFrames | None = None
        self._surface: Surface | None = None
        self._way = 1
        self._timer = QTimer(self, interval=_FRAME_MS)
        self._timer.timeout.connect(self._tick)
        self.play.toggled.connect(lambda on: self._timer.start() if on else self._timer.stop())
        self.mode.currentIndexChanged.connect(self.draw)
        self.phase.valueChanged.connect(self.draw)

    def steps(self, order: RunOrder) -> Generator[Progress, None, Finished]:
        """Return the job's steps."""
        return softmodes_steps(order)

    def show_result(self, finished: Finished) -> None:
        """Show the softest mode, moving."""
        self.play.setChecked(False)
        self._frames, self._surface = finished.extra, None
        self.controls.setVisible(self._frames is not None)
        if self._frames is None:
            return
        self.mode.blockSignals(True)
        self.mode.clear()
        for k, (value, share) in enumerate(
            zip(self._frames.eigenvalues, self._frames.amplitude_fraction, strict=True), 1
        ):
            self.mode.addItem(f"mode {k}: information {value:.2g}, amplitude {share:.1%}")
        self.mode.blockSignals(False)
        self.show_in_space()
        data, options, kind = self._frames.layer(0, FRAMES // 2)
        layers = self.show_layers([*finished.layers, (data, options, kind)])
        self._surface = layers[-1]
        self.phase.setValue(FRAMES // 2)
        self.spectrum.show_panels([panel for panel in finished.panels if panel.key in ("spectrum", "views")])

    def draw(self, *_ignored: object) -> None:
        """Show the frame that mode and slider say."""
        if self._frames is None or self._surface is None or self._surface not in self.viewer.layers:
            return
        mode = max(0, self.mode.currentIndex())
        self._surface.data = self._frames.frames[mode][self.phase.value()]
        self._surface.contrast_limits = self._frames.limits

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
