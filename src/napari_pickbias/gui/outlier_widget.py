"""The "Remove outliers" dock: the same job as ``pickbias outliers``, with its result beside the particles."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.layers import Layer
from napari.utils.notifications import notification_manager, show_error, show_info
from qtpy.QtCore import QEvent, QUrl
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import QHBoxLayout, QLabel, QProgressBar, QPushButton, QScrollArea, QVBoxLayout, QWidget

from napari_pickbias.errors import InputError
from napari_pickbias.gui.docked import open_dock
from napari_pickbias.gui.messages import counts_html, in_widget_words, notes_html, time_left
from napari_pickbias.gui.outlier_form import OutlierForm
from napari_pickbias.gui.outlier_layers import GALLERY, OURS
from napari_pickbias.gui.outlier_work import Order, Outcome, outlier_steps
from napari_pickbias.gui.worker import Ended, Messages, start_job
from napari_pickbias.jobs.progress import Progress
from napari_pickbias.records.atomic import is_users_matter, write_fault

if TYPE_CHECKING:
    from napari.viewer import Viewer

CURATED = (".star", ".cs", ".csg")
"""Files of rows that can be chosen from; a bare stack has none."""
STAGES = {
    "read": "Reading the particle file",
    "learn": "Learning noise and template",
    "mean": "Averaging the images",
    "judge": "Judging particles",
    "examples": "Picking examples",
    "write": "Writing results",
    "finished": "Finished earlier",
    "show": "Preparing the layers",
}


class OutlierWidget(QWidget):
    """Remove noise, partial and multiple particles from a particle set.

    Parameters
    ----------
    napari_viewer : napari.viewer.Viewer
        Where results are shown.
    """

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__()
        self.viewer = napari_viewer
        self.form = OutlierForm()
        self.run_button = QPushButton("Run")
        self.cancel_button = QPushButton("Cancel", enabled=False)
        self.progress = QProgressBar(visible=False)
        self.status = QLabel(wordWrap=True)
        self.result = QLabel(wordWrap=True, visible=False)
        self.report_button = QPushButton("Open report", visible=False)
        self.figures_button = QPushButton("Figures", visible=False)
        self.curate_button = QPushButton(
            "Curate…",
            visible=False,
            toolTip="Gallery by score, live threshold, decisions by hand, averages and spectra of kept and rejected",
        )
        self._lay_out()

        self._job = 0
        self._worker: Any = None
        self._order: Order | None = None
        self._outcome: Outcome | None = None
        self._figures: QWidget | None = None
        self._stage = ""
        self._history: list[tuple[float, int]] = []
        # Messages of all jobs pass through one object of the main thread; the widget takes those of its current job.
        self._messages = Messages(self)
        self._messages.progressed.connect(self._on_progress)
        self._messages.ended.connect(self._on_ended)
        self.form.from_layer.clicked.connect(self.take_layer)
        self.run_button.clicked.connect(self.run)
        self.cancel_button.clicked.connect(self.cancel)
        self.report_button.clicked.connect(self.open_report)
        self.figures_button.clicked.connect(self.open_figures)
        self.curate_button.clicked.connect(self.curate)
        if self._active_source():
            self.take_layer()

    def _lay_out(self) -> None:
        inner = QWidget()
        column = QVBoxLayout(inner)
        column.addWidget(self.form)
        after = (self.report_button, self.figures_button, self.curate_button)
        for buttons in ((self.run_button, self.cancel_button), after):
            row = QHBoxLayout()
            for button in buttons:
                row.addWidget(button)
            column.addLayout(row)
            if self.run_button in buttons:
                for widget in (self.progress, self.status, self.result):
                    column.addWidget(widget)
        column.addStretch()
        scroll = QScrollArea(widgetResizable=True)
        scroll.setFrameShape(QScrollArea.Shape.NoFrame)
        scroll.setWidget(inner)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(scroll)
        self.setMinimumWidth(340)

    # What the user does -----------------------------------------------------------------------------------------------

    def take_layer(self) -> None:
        """Enter the file of the selected layer, and its pixel size where the file itself has none."""
        source = self._active_source()
        if source:
            self.form.set_source(source)
        else:
            self._say_fault("“From layer”: the selected layer was not opened from a particle file; select another one")

    def run(self) -> None:
        """Start the job with a copy of the fields."""
        if self.running:
            return
        try:
            order = self.form.order()
        except InputError as fault:
            self._say_fault(str(fault))
            return
        self._job += 1
        self._order, self._stage, self._history = order, "", []
        for widget in (self.result, self.report_button, self.figures_button, self.curate_button):
            widget.setVisible(False)
        self.progress.setRange(0, 0)
        self._set_running(True)
        self.status.setText("Starting…")
        self._worker = start_job("Remove outliers", self._job, outlier_steps(order), self._messages)
        self.destroyed.connect(self._worker.quit)

    def cancel(self) -> None:
        """Ask the job to stop after the step in hand."""
        if self.running:
            self._worker.quit()
            self.cancel_button.setText("Cancelling…")
            self.cancel_button.setEnabled(False)
            self.status.setText("Cancelling: the step in hand is finished first.")

    def open_report(self) -> None:
        """Show ``report.html`` in the web browser."""
        if self._outcome is not None:
            path = self._outcome.files["html"]
            if not QDesktopServices.openUrl(QUrl.fromLocalFile(str(path.resolve()))):
                self._say_fault(f"{path}: no web browser opens here; open the file by hand")

    def open_figures(self) -> None:
        """Show the report's figures in a window."""
        from napari_pickbias.gui.figures import FigureWindow

        if self._outcome is not None and self._outcome.result is not None:
            self._figures = FigureWindow(self._outcome.result, self.viewer.theme, self)
            self._figures.show()

    def curate(self) -> None:
        """Go on from the verdicts by hand, in the Curate dock."""
        if self._outcome is not None:
            widget = open_dock(self.viewer, "Curate")
            widget.open(self._outcome.order.source, self._outcome.verdicts)

    @property
    def running(self) -> bool:
        """Whether a job of this widget is at work."""
        return self._worker is not None

    def changeEvent(self, event: QEvent) -> None:  # noqa: N802 (Qt's name)
        """Stop the job when napari takes the widget out of its dock, which is all that it tells of closing it."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.ParentChange and self.parent() is None and self.running:
            self._worker.quit()
            self._job += 1  # what it still sends is stale
            self._worker = None

    # What the job sends -----------------------------------------------------------------------------------------------

    def _on_progress(self, job: int, progress: Progress) -> None:
        if job != self._job:
            return
        if progress.stage != self._stage:
            self._stage, self._history = progress.stage, []
        self._history.append((time.monotonic(), progress.done))
        # A bar of one unit would jump from nothing to the end: it shows that work goes on instead.
        self.progress.setRange(0, progress.total if progress.total > 1 else 0)
        self.progress.setValue(progress.done)
        if self.cancel_button.isEnabled():
            left = time_left(self._history, progress.total) if progress.stage in ("judge", "mean") else ""
            count = f" {progress.done:,} of {progress.total:,}" if progress.total > 10 else ""
            text = f"{STAGES.get(progress.stage, progress.stage)}{count}"
            self.status.setText(f"{text}, {left}" if left else f"{text}…")

    def _on_ended(self, job: int, ended: Ended) -> None:
        if job != self._job:
            return
        self._worker = None
        self._set_running(False)
        if ended.fault is not None:
            self._on_fault(ended.fault)
        elif ended.cancelled:
            self._on_cancelled()
        else:
            self._on_finished(ended.value)

    def _on_cancelled(self) -> None:
        assert self._order is not None
        self.form.choose_earlier("resume")
        self.status.setText(
            f"Cancelled. Finished pieces are kept in {self._order.out}: press Run to go on from there "
            "(“Earlier results” is set to resume)."
        )
        show_info("Remove outliers: cancelled")

    def _on_finished(self, outcome: Outcome) -> None:
        self._outcome = outcome
        self.form.choose_earlier("keep")
        kept, total = outcome.counts["kept"], sum(outcome.counts.values())
        text = f"Kept {kept:,} of {total:,} particles. Files are in {outcome.order.out}."
        self.status.setText(text if outcome.result else f"This run was finished earlier. {text}")
        notes = notes_html(outcome.expected_fdr, outcome.warnings)
        self.result.setText(counts_html(outcome.counts) + (f"<p>{notes}</p>" if notes else ""))
        self.result.setVisible(True)
        self.report_button.setVisible("html" in outcome.files)
        self.figures_button.setVisible(outcome.result is not None)
        self.curate_button.setVisible(outcome.order.source.suffix.lower() in CURATED)
        self._show_layers(outcome)

    def _on_fault(self, fault: BaseException) -> None:
        if isinstance(fault, InputError):
            self._say_fault(str(fault))
        elif isinstance(fault, OSError) and fault.filename is not None and is_users_matter(fault):
            self._say_fault(str(write_fault(Path(fault.filename), fault)))
        elif isinstance(fault, MemoryError):
            self._say_fault("out of memory; use fewer threads (Preferences) or a machine with more")
        else:
            # Ours, not the user's: napari's own notification offers the traceback, for a report.
            self.status.setText(f"A fault in pickbias itself ({type(fault).__name__}: {fault}); please report it.")
            notification_manager.receive_error(type(fault), fault, fault.__traceback__)

    # Showing ----------------------------------------------------------------------------------------------------------

    def _set_running(self, running: bool) -> None:
        self.form.setEnabled(not running)
        self.run_button.setEnabled(not running)
        self.cancel_button.setEnabled(running)
        self.cancel_button.setText("Cancel")
        self.progress.setVisible(running)

    def _say_fault(self, text: str) -> None:
        line = in_widget_words(text)
        self.status.setText(line)
        show_error(line)

    def _active_source(self) -> str | None:
        layer = self.viewer.layers.selection.active
        source = layer.metadata.get("source") if layer is not None else None
        return str(source) if source else None

    def _show_layers(self, outcome: Outcome) -> None:
        """Show the particles where they are not shown yet, and put the result's layers in place of the last ones."""
        layers = self.viewer.layers
        source = str(outcome.order.source)
        if not any(layer.metadata.get("source") == source for layer in layers):
            for data in outcome.particles:
                layers.append(Layer.create(*data))
        for old in [layer for layer in layers if layer.metadata.get(OURS) in (source, GALLERY)]:
            layers.remove(old)
        for data in outcome.layers:
            layers.append(Layer.create(*data))
        # The image keeps the selection: a click on selected points would move a verdict's circle.
        shown = [layer for layer in layers if layer.metadata.get("source") == source]
        layers.selection.active = shown[0]
        self.viewer.reset_view()
