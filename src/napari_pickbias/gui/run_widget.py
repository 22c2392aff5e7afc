"""The frame of a job's dock: inputs, parameters, run, cancel, result, figures, report."""

from __future__ import annotations

import html
import re
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from napari.layers import Layer
from pydantic import BaseModel
from qtpy.QtCore import Qt, QUrl
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import (
    QComboBox,
    QFileDialog,
    QFormLayout,
    QLabel,
    QLineEdit,
    QScrollArea,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_pickbias.errors import InputError
from napari_pickbias.gui.docked import Docked, JobBar, button, row_of, scrolled
from napari_pickbias.gui.figure_view import FigureView
from napari_pickbias.gui.messages import in_widget_words
from napari_pickbias.gui.model_form import ModelForm, label
from napari_pickbias.gui.outlier_form import EARLIER
from napari_pickbias.gui.preferences import OFFERS, field_defaults, output_folder, threads
from napari_pickbias.gui.run_work import Finished, RunOrder
from napari_pickbias.jobs.progress import Progress

if TYPE_CHECKING:
    from napari.viewer import Viewer

STAR = "STAR, cs (*.star *.cs *.csg);;All files (*)"
MAPS = "Maps (*.mrc *.map *.mrc.gz *.map.gz);;All files (*)"
SHOWS = "pickbias_run"
"""Key in a layer's metadata; its value is the title of the job that made it."""
MOST_NOTES = 6
SHARE_OF_WINDOW = 0.45
STAGES = {
    "read": "Reading",
    "write": "Writing results",
    "show": "Preparing what shows them",
    "finished": "Finished earlier",
}


@dataclass(frozen=True)
class Input:
    """One input file of a job."""

    name: str
    label: str
    hint: str
    filter: str = "All files (*)"
    needed: bool = True
    key: str = ""
    """Key of layers' metadata under which such a file stands: what is open already is offered."""


class RunWidget(Docked):
    """Dock of one job; the docks of single jobs fill in the class variables.

    Parameters
    ----------
    napari_viewer : napari.viewer.Viewer
    """

    title: ClassVar[str]
    model: ClassVar[type[BaseModel]]
    inputs: ClassVar[Sequence[Input]]
    basic: ClassVar[Sequence[str]]
    skip: ClassVar[Sequence[str]] = ()
    start: ClassVar[Mapping[str, Any]] = {}
    stages: ClassVar[Mapping[str, str]] = {}

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__()
        self.viewer = napari_viewer
        self.finished: Finished | None = None
        self.paths = {each.name: QLineEdit(placeholderText=each.hint) for each in self.inputs}
        self.form = ModelForm(self.model, self.basic, self.skip, {**self.start, **field_defaults()})
        self.out = QLineEdit(placeholderText="folder for the results")
        self.earlier = QComboBox(toolTip="What to do when the folder holds results already")
        self.earlier.addItems(list(EARLIER))
        self.job = JobBar(self.title, {**STAGES, **self.stages})
        self.run_button = button("Run", "Start with a copy of these fields", self.run)
        self.open_button = button("Open results…", "Show the output folder of an earlier run", self.open_results)
        self.fold = QToolButton(text="Input and options", checkable=True, checked=True)
        self.fold.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.fold.setArrowType(Qt.ArrowType.DownArrow)
        self.fold.setAutoRaise(True)
        self.fold.toggled.connect(self._on_fold)
        self.report_button = button("Open report", "Show report.html in the browser", self.open_report)
        self.figures_button = button("Figures", "The report's figures", self.open_figures)
        self.result = QLabel(wordWrap=True)
        self.result.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self._offered = ""
        self._window: QWidget | None = None
        self.column = scrolled(self, minimum_width=420)
        self._lay_out()
        self.job.finished.connect(self._on_finished)
        self.job.stopped.connect(self._on_stopped)
        next(iter(self.paths.values())).textChanged.connect(self._offer_folder)
        self.take_layers()

    def steps(self, order: RunOrder) -> Generator[Progress, None, Finished]:
        """Return the job's steps; they run in a thread and know nothing of the dock."""
        raise NotImplementedError

    def folder_steps(self, folder: Path) -> Generator[Progress, None, Finished]:
        """Return the steps that open an output folder; they run in a thread and know nothing of the dock."""
        raise NotImplementedError

    def _lay_out(self) -> None:
        self.fields = QWidget()
        column = QVBoxLayout(self.fields)
        column.setContentsMargins(0, 0, 0, 0)
        top, bottom = QWidget(), QWidget()
        for holder in (top, bottom):
            form = QFormLayout(holder)
            form.setContentsMargins(0, 0, 0, 0)
            form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        for each in self.inputs:
            choose = button("…", "Choose", lambda each=each: self._browse(each))
            top.layout().addRow(each.label, row_of(self.paths[each.name], choose, stretch=0))
        bottom.layout().addRow("Output folder", row_of(self.out, button("…", "Choose", self._browse_out), stretch=0))
        bottom.layout().addRow("Earlier results", self.earlier)
        for widget in (top, self.form, bottom):
            column.addWidget(widget)
        self.after = row_of(self.report_button, self.figures_button)
        self.starters = row_of(self.run_button, self.open_button, stretch=0)
        for widget in (self.fold, self.fields, self.starters, self.job, self.result, self.after):
            self.column.addWidget(widget)
        self._show_result(False)
        self.add_below()
        self.column.addStretch()

    def add_below(self) -> None:
        """Add what a single job shows below its result."""

    # -- what the user does --------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Start the job with a copy of the fields."""
        if self.job.running:
            return
        try:
            order = self.order()
        except InputError as fault:
            self.job.say_fault(fault)
            return
        self._show_result(False)
        self._set_running(True)
        self.job.start(self.steps(order))

    def open_results(self, folder: str | Path | None = None) -> None:
        """Show the output folder of an earlier run; asks for it where none is given."""
        if self.job.running:
            return
        chosen = folder or QFileDialog.getExistingDirectory(self, "Results of an earlier run", self.out.text())
        if chosen:
            self._show_result(False)
            self._set_running(True)
            self.job.start(self.folder_steps(Path(chosen).expanduser().absolute()))

    def take_layers(self) -> None:
        """Enter the files of layers that are open, the selected one's first, where nothing is entered yet."""
        active = self.viewer.layers.selection.active
        layers = [*([] if active is None else [active]), *reversed(list(self.viewer.layers))]
        for each in self.inputs:
            found = [layer.metadata[each.key] for layer in layers if each.key and layer.metadata.get(each.key)]
            if found and not self.paths[each.name].text():
                self.paths[each.name].setText(str(found[0]))
        for layer in layers:
            for name, value in layer.metadata.get(OFFERS, {}).items():
                if name in self.form.fields:
                    self.form.set(name, value)

    def order(self, *, writes: bool = True) -> RunOrder:
        """Return a copy of all fields; what ``writes`` nothing needs no output folder.

        Raises
        ------
        InputError
            When a file or folder is not named, or a value is out of bounds.
        """
        paths = {}
        for each in self.inputs:
            text = self.paths[each.name].text().strip()
            if each.needed and not text:
                raise InputError(f"“{each.label}”: no file is named; give {each.hint}")
            paths[each.name] = str(Path(text).expanduser().absolute()) if text else ""
        out = self.out.text().strip()
        if writes and not out:
            raise InputError("“Output folder”: no folder is named; choose where the results go")
        return RunOrder(
            inputs=paths,
            parameters=self.form.parameters(),
            out=Path(out).expanduser().absolute(),
            earlier=EARLIER[self.earlier.currentText()],
            threads=threads(),
        )

    def open_report(self) -> None:
        """Show ``report.html`` in the web browser."""
        if self.finished is not None:
            path = self.finished.files.get("html")
            if path is None or not QDesktopServices.openUrl(QUrl.fromLocalFile(str(path.resolve()))):
                self.job.say_fault(InputError(f"{path}: no web browser opens here; open the file by hand"))

    def open_figures(self) -> None:
        """Show the report's figures in a window."""
        if self.finished is None or not self.finished.panels:
            return
        window = QScrollArea(self, widgetResizable=True)
        window.setWindowFlag(Qt.WindowType.Window)
        window.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        window.setWindowTitle(f"{self.title}: figures")
        view = FigureView(str(self.viewer.theme))
        view.show_panels(self.finished.panels)
        window.setWidget(view)
        window.resize(760, 820)
        window.show()
        self._window = window

    def close_down(self) -> None:
        """Stop the job."""
        self.job.drop()

    # -- what the job sends --------------------------------------------------------------------------------------------

    def _on_finished(self, finished: Finished) -> None:
        self._set_running(False)
        self.finished = finished
        self.earlier.setCurrentIndex(0)
        self._enter(finished.order)
        self.job.say(f"Files are in {finished.order.out}.")
        first = finished.headline or "This run was finished earlier."
        notes = "".join(f"<br>Note: {self.words(text)}" for text in finished.warnings[:MOST_NOTES])
        self.result.setText(f"<b>{self.words(first)}</b>{notes}")
        self._show_result(True)
        self.figures_button.setVisible(bool(finished.panels))
        self.show_layers(finished.layers)
        self.show_result(finished)

    def _enter(self, order: RunOrder) -> None:
        """Enter what was run where it was opened from its folder, so that Run would do the same again."""
        if self.out.text().strip() and Path(self.out.text()).expanduser().absolute() == order.out:
            return
        for name, path in order.inputs.items():
            if name in self.paths:
                self.paths[name].setText(path)
        for name, value in order.parameters.model_dump().items():
            if name in self.form.fields:
                self.form.set(name, value)
        self.out.setText(str(order.out))

    def words(self, text: str) -> str:
        """Return a line that names fields of this dock where it named options of the command line."""
        names = {"--" + name.replace("_", "-"): label(name) for name in self.model.model_fields}
        line = re.sub(r"--[a-z][a-z-]*[a-z]", lambda m: f"“{names[m[0]]}”" if m[0] in names else m[0], text)
        return html.escape(in_widget_words(line), quote=False)

    def show_result(self, finished: Finished) -> None:
        """Show what a single job shows besides its layers."""

    def show_layers(self, layers: Sequence[tuple[Any, dict[str, Any], str]]) -> list[Layer]:
        """Put layers in place of those of this dock's earlier run; return them."""
        for old in [layer for layer in self.viewer.layers if layer.metadata.get(SHOWS) == self.title]:
            self.viewer.layers.remove(old)
        made = []
        for data, options, kind in layers:
            options = {**options, "metadata": {**options.get("metadata", {}), SHOWS: self.title}}
            layer = Layer.create(data, options, kind)
            self.viewer.layers.append(layer)
            made.append(layer)
        if made:
            self.viewer.reset_view()
        return made

    def show_in_space(self) -> None:
        """Turn to three dimensions; stacks of particles and micrographs are hidden, for they would be read whole."""
        for layer in self.viewer.layers:
            if layer.metadata.get(SHOWS) != self.title and layer.axis_labels[0] in ("particle", "micrograph"):
                layer.visible = False
        self.viewer.dims.ndisplay = 3

    def look_at_own(self) -> None:
        """Centre the view in space on this dock's layers: micrographs beside them would make them a speck."""
        own = [layer for layer in self.viewer.layers if layer.metadata.get(SHOWS) == self.title]
        if not own:
            return
        corners = np.stack([layer.extent.world[:, -3:] for layer in own])
        low, high = corners[:, 0].min(axis=0), corners[:, 1].max(axis=0)
        camera = self.viewer.scene.camera
        camera.center = tuple(float(value) for value in (low + high) / 2)
        camera.zoom = SHARE_OF_WINDOW * self.window().height() / max(float((high - low).max()), 1e-6)

    def _on_stopped(self, fault: str) -> None:
        self._set_running(False)
        if not fault:
            self.earlier.setCurrentText(next(text for text, value in EARLIER.items() if value == "resume"))
            self.job.say(
                f"Cancelled. Finished pieces are kept in {self.out.text()}: press Run to go on from there "
                "(“Earlier results” is set to resume)."
            )

    def _set_running(self, running: bool) -> None:
        for widget in (self.fields, self.run_button, self.open_button):
            widget.setEnabled(not running)

    def _on_fold(self, shown: bool) -> None:
        self.fold.setArrowType(Qt.ArrowType.DownArrow if shown else Qt.ArrowType.RightArrow)
        self.fields.setVisible(shown)

    def _show_result(self, there: bool) -> None:
        for widget in (self.result, self.after):
            widget.setVisible(there)

    def _offer_folder(self, text: str) -> None:
        """Name a folder beside the first input, unless the user chose one."""
        if self.out.text() == self._offered:
            path = Path(text.strip())
            suffix = self.title.lower().replace(" ", "_").replace("-", "")
            self._offered = str(output_folder(path, f"{path.name.split('.')[0]}_{suffix}")) if path.name else ""
            self.out.setText(self._offered)

    def _browse(self, each: Input) -> None:
        before = self.paths[each.name].text()
        path, _ = QFileDialog.getOpenFileName(self, each.label, before, each.filter)
        if path:
            self.paths[each.name].setText(path)

    def _browse_out(self) -> None:
        path = QFileDialog.getExistingDirectory(self, "Output folder", self.out.text())
        if path:
            self.out.setText(path)
