"""The docks "Pick" and "Picks and bias": what a threshold costs, live; and what of the averages is the template's."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
from napari.layers import Points
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QCheckBox, QDoubleSpinBox, QLabel, QSlider, QVBoxLayout, QWidget

from napari_pickbias.errors import InputError
from napari_pickbias.gui.docked import button, open_dock, row_of
from napari_pickbias.gui.figure_view import FigureView, theme_of
from napari_pickbias.gui.live_plot import LivePlot
from napari_pickbias.gui.pick_layers import KEPT_COLOR
from napari_pickbias.gui.run_widget import SHOWS, STAR, Input, RunWidget
from napari_pickbias.gui.run_work import Finished, RunOrder, bias_steps, pick_steps
from napari_pickbias.gui.threshold import PickView
from napari_pickbias.jobs.bias_parameters import BiasParameters
from napari_pickbias.jobs.pick_parameters import PickParameters
from napari_pickbias.jobs.progress import Progress
from napari_pickbias.report.panels import dress, legend

MICROGRAPHS = Input(
    "micrographs", "Micrographs", "micrographs_ctf.star, .cs, a folder or a pattern", STAR, key="micrographs_of"
)
TEMPLATES = Input(
    "templates",
    "Templates",
    "a map (.mrc), or class averages (.mrcs, model.star)",
    "Maps, averages (*.mrc *.mrcs *.map *.star)",
    key="map",
)
BINS, _STEPS = 90, 1000


class ThresholdPanel(QWidget):
    """Histogram of the candidates' scores against those of noise, and a threshold over it."""

    def __init__(self, theme_name: str) -> None:
        super().__init__()
        self.theme = theme_of(theme_name)
        self.view: PickView | None = None
        self.points: Points | None = None
        self.canvas = LivePlot(self.theme, 190)
        self.axes = self.canvas.axes
        self.slider = QSlider(orientation=Qt.Orientation.Horizontal, minimum=0, maximum=_STEPS)
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
        self.slider.setValue(round(_STEPS * (value - low) / max(high - low, 1e-12)))
        self.box.blockSignals(False)
        self.slider.blockSignals(False)
        self.threshold = value
        if self.points is not None:
            self.points.shown = self.view.table["score"].to_numpy() >= value
        self.meaning.setText(self.view.meaning(value).text(len(self.view.micrographs)))
        self.canvas.move_lines([value])

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
            self.set_threshold(low + (high - low) * step / _STEPS)


class PickWidget(RunWidget):
    """Picking by template matching, every pick with its q-value."""

    title = "Pick"
    model = PickParameters
    inputs = (MICROGRAPHS, TEMPLATES)
    basic = ("diameter", "fdr", "threshold", "lowpass", "angular_step", "symmetry", "contrast")
    stages = {"match": "Matching micrographs", "calibrate": "Counting false picks", "prepare": "Preparing templates"}  # noqa: RUF012

    def add_below(self) -> None:
        """Add the threshold panel."""
        self.panel = ThresholdPanel(str(self.viewer.theme))
        self.column.addWidget(self.panel)
        self.use_button = button("Write picks at this threshold", "A run of its own beside this one", self.rethreshold)
        self.curate_button = button("Curate…", "Go on by hand in the Curate dock", self.curate)
        self.buttons = row_of(self.use_button, self.curate_button)
        self.column.addWidget(self.buttons)
        self.panel.setVisible(False)
        self.buttons.setVisible(False)

    def steps(self, order: RunOrder) -> Generator[Progress, None, Finished]:
        """Return the job's steps."""
        return pick_steps(order)

    def show_result(self, finished: Finished) -> None:
        """Show all candidates over their micrographs; the threshold hides those below it."""
        view = finished.extra
        self.panel.setVisible(view is not None)
        self.buttons.setVisible(view is not None)
        if view is not None:
            paths = tuple(view.micrographs.paths)
            shown = any(
                layer.metadata.get("paths") == paths and SHOWS not in layer.metadata for layer in self.viewer.layers
            )
            layers = self.show_layers(view.layers(with_micrographs=not shown))
            self.panel.show_view(view, layers[-1])
            self.viewer.dims.set_current_step(0, 0)

    def rethreshold(self) -> None:
        """Write picks at the threshold shown, from the same candidates."""
        if self.finished is None:
            return
        order = self.finished.order
        source, value = order.out, self.panel.threshold
        out = source.with_name(f"{source.name}_from_{value:.2f}")
        self._set_running(True)
        self.job.start(_rethreshold_steps(source, order, value, out))

    def curate(self) -> None:
        """Open the picks that were written in the Curate dock."""
        if self.finished is not None:
            picks = self.finished.files.get("picks", self.finished.order.out / "picks.star")
            open_dock(self.viewer, "Curate").open(picks)

    def _on_finished(self, finished: Any) -> None:
        if isinstance(finished, Path):
            self._set_running(False)
            self.job.say(f"Picks from {self.panel.threshold:.2f} up are in {finished}.")
            return
        super()._on_finished(finished)


def _rethreshold_steps(source: Path, order: RunOrder, value: float, out: Path) -> Generator[Progress, None, Path]:
    from napari_pickbias.runs.pick import run_rethreshold

    parameters = order.parameters.model_copy(update={"threshold": value, "fdr": None})
    run = yield from run_rethreshold(source, parameters, out, overwrite=out.exists())
    return run.directory


class BiasWidget(RunWidget):
    """How much of picks and class averages comes from the template."""

    title = "Picks and bias"
    model = BiasParameters
    inputs = (
        MICROGRAPHS,
        TEMPLATES,
        Input("picks", "Picks", "of any program (.star, .cs, .box); empty: the templates pick", STAR, needed=False),
    )
    basic = ("diameter", "threshold", "lowpass", "angular_step", "symmetry", "contrast")
    stages = {  # noqa: RUF012
        "prepare": "Preparing templates",
        "match": "Matching micrographs and noise",
        "averages": "Averaging picks, and picks of noise",
        "conclude": "Concluding",
    }

    def add_below(self) -> None:
        """Add the figures: class averages, predicted bias, twin, FRC."""
        self.figures = FigureView(str(self.viewer.theme), texts=False)
        self.curate_button = button("Curate the picks…", "Go on by hand in the Curate dock", self.curate)
        self.curate_button.setVisible(False)
        self.column.addWidget(self.curate_button)
        self.column.addWidget(self.figures)

    def steps(self, order: RunOrder) -> Generator[Progress, None, Finished]:
        """Return the job's steps."""
        return bias_steps(order)

    def show_result(self, finished: Finished) -> None:
        """Show the report's figures in the dock itself."""
        self.figures.show_panels(finished.panels)
        self.curate_button.setVisible((finished.order.out / "picks_scored.star").exists())
        self.viewer.dims.ndisplay = 2

    def curate(self) -> None:
        """Open the scored picks in the Curate dock."""
        if self.finished is None:
            return
        path = self.finished.order.out / "picks_scored.star"
        if path.exists():
            open_dock(self.viewer, "Curate").open(path)
        else:
            self.job.say_fault(InputError(f"{path}: is not there; run the diagnosis again"))
