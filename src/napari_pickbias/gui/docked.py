"""What all docks have in common: knowing when they are closed, a scrolled column, and running a job with Cancel."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import Any

from napari.utils.notifications import notification_manager, show_error, show_info
from qtpy.QtCore import QEvent, Qt, Signal
from qtpy.QtGui import QKeySequence, QShortcut
from qtpy.QtWidgets import QHBoxLayout, QLabel, QProgressBar, QPushButton, QScrollArea, QVBoxLayout, QWidget

from napari_pickbias.errors import InputError
from napari_pickbias.gui.messages import in_widget_words, time_left
from napari_pickbias.gui.preferences import DISPLAY_NAME, PLUGIN
from napari_pickbias.gui.worker import Ended, Messages, start_job
from napari_pickbias.jobs.progress import Progress
from napari_pickbias.records.atomic import is_users_matter, write_fault


class Docked(QWidget):
    """A widget of a dock, told when the dock is closed."""

    def changeEvent(self, event: QEvent) -> None:  # noqa: N802 (Qt's name)
        """Notice that napari takes the widget out of its dock, which is all that it tells of closing it."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.ParentChange and self.parent() is None:
            self.close_down()

    def close_down(self) -> None:
        """Stop work and let go of the viewer; called once the dock is closed, perhaps more than once."""


def open_dock(viewer: Any, name: str) -> Any:
    """Return the dock of that name, opened where it is not; napari names those opened from the menu otherwise."""
    docks = viewer.window.dock_widgets
    for title in (f"{name} ({DISPLAY_NAME})", f"{name} ({PLUGIN})"):
        if title in docks:
            return docks[title]
    return viewer.window.add_plugin_dock_widget(PLUGIN, name)[1]


def scrolled(outer: QWidget, minimum_width: int = 360) -> QVBoxLayout:
    """Give ``outer`` a column that scrolls where it does not fit, and return the column."""
    inner = QWidget()
    column = QVBoxLayout(inner)
    column.setContentsMargins(6, 6, 6, 6)
    scroll = QScrollArea(widgetResizable=True)
    scroll.setFrameShape(QScrollArea.Shape.NoFrame)
    scroll.setWidget(inner)
    layout = QVBoxLayout(outer)
    layout.setContentsMargins(0, 0, 0, 0)
    layout.addWidget(scroll)
    outer.setMinimumWidth(minimum_width)
    return column


def row_of(*widgets: QWidget, stretch: int = -1) -> QWidget:
    """Return widgets side by side; the one at index ``stretch`` takes the room that is left."""
    holder = QWidget()
    row = QHBoxLayout(holder)
    row.setContentsMargins(0, 0, 0, 0)
    for index, widget in enumerate(widgets):
        row.addWidget(widget, 1 if index == stretch else 0)
    return holder


def button(text: str, tip: str, action: Callable[[], Any], enabled: bool = True) -> QPushButton:
    """Return a push button."""
    made = QPushButton(text, toolTip=tip, enabled=enabled)
    made.clicked.connect(lambda _checked=False: action())
    return made


def shortcut(widget: QWidget, keys: str, action: Callable[[], Any]) -> QShortcut:
    """Bind keys within a widget and its children."""
    made = QShortcut(QKeySequence(keys), widget)
    made.setContext(Qt.ShortcutContext.WidgetWithChildrenShortcut)
    made.activated.connect(action)
    return made


class JobBar(QWidget):
    """Runs one job at a time in a thread: progress, time left, Cancel, and faults as one line.

    Parameters
    ----------
    title : str
        What the user calls the job.
    stages : mapping
        The job's stages in words.
    """

    finished = Signal(object)
    """The job's value."""
    stopped = Signal(str)
    """It was cancelled ("") or ended with a fault (the line said)."""
    yielded = Signal(object)
    """Everything the job yields."""

    def __init__(self, title: str, stages: Mapping[str, str] | None = None) -> None:
        super().__init__()
        self.title, self._stages = title, dict(stages or {})
        self.bar = QProgressBar(visible=False)
        self.cancel_button = button("Cancel", "Stop after the step in hand", self.cancel, enabled=False)
        self.status = QLabel(wordWrap=True)
        self.status.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(row_of(self.bar, self.cancel_button, stretch=0))
        column.addWidget(self.status)
        self.cancel_button.setVisible(False)
        self._number, self._worker = 0, None
        self._stage, self._history = "", []
        self._messages = Messages(self)
        self._messages.progressed.connect(self._on_progress)
        self._messages.ended.connect(self._on_ended)

    @property
    def running(self) -> bool:
        """Whether a job is at work."""
        return self._worker is not None

    def start(self, steps: Generator[Progress, None, Any]) -> None:
        """Start a job; one that still runs is stopped first, and what it sends is dropped."""
        self.drop()
        self._number += 1
        self._stage, self._history = "", []
        self.bar.setRange(0, 0)
        self._show_running(True)
        self.status.setText("Starting…")
        self._worker = start_job(self.title, self._number, steps, self._messages)
        self.destroyed.connect(self._worker.quit)

    def cancel(self) -> None:
        """Ask the job to stop after the step in hand."""
        if self._worker is not None:
            self._worker.quit()
            self.cancel_button.setText("Cancelling…")
            self.cancel_button.setEnabled(False)
            self.status.setText("Cancelling: the step in hand is finished first.")

    def drop(self) -> None:
        """Stop the job and forget it."""
        if self._worker is not None:
            self._worker.quit()
            self._number += 1  # what it still sends is stale
            self._worker = None
            self._show_running(False)

    def say(self, text: str) -> None:
        """Show a line."""
        self.status.setText(text)

    def say_fault(self, fault: BaseException) -> str:
        """Show a fault as one line, also as napari's notification; return the line."""
        if isinstance(fault, InputError):
            line = in_widget_words(str(fault))
        elif isinstance(fault, OSError) and fault.filename is not None and is_users_matter(fault):
            line = in_widget_words(str(write_fault(Path(fault.filename), fault)))
        elif isinstance(fault, MemoryError):
            line = "out of memory; use fewer threads (Preferences) or a machine with more"
        else:
            # Ours, not the user's: napari's own notification offers the traceback, for a report.
            line = f"A fault in pickbias itself ({type(fault).__name__}: {fault}); please report it."
            self.status.setText(line)
            notification_manager.receive_error(type(fault), fault, fault.__traceback__)
            return line
        self.status.setText(line)
        show_error(line)
        return line

    def _show_running(self, running: bool) -> None:
        self.bar.setVisible(running)
        self.cancel_button.setVisible(running)
        self.cancel_button.setEnabled(running)
        self.cancel_button.setText("Cancel")

    def _on_progress(self, job: int, progress: Any) -> None:
        if job != self._number:
            return
        self.yielded.emit(progress)
        if not isinstance(progress, Progress):
            return
        if progress.stage != self._stage:
            self._stage, self._history = progress.stage, []
        self._history.append((time.monotonic(), progress.done))
        # A bar of one unit would jump from nothing to the end: it shows that work goes on instead.
        self.bar.setRange(0, progress.total if progress.total > 1 else 0)
        self.bar.setValue(progress.done)
        if self.cancel_button.isEnabled():
            left = time_left(self._history, progress.total) if progress.total > 3 else ""
            count = f" {progress.done:,} of {progress.total:,}" if progress.total > 3 else ""
            text = f"{self._stages.get(progress.stage, progress.stage.capitalize())}{count}"
            self.status.setText(f"{text}, {left}" if left else f"{text}…")

    def _on_ended(self, job: int, ended: Ended) -> None:
        if job != self._number:
            return
        self._worker = None
        self._show_running(False)
        if ended.fault is not None:
            self.stopped.emit(self.say_fault(ended.fault))
        elif ended.cancelled:
            self.status.setText("Cancelled.")
            show_info(f"{self.title}: cancelled")
            self.stopped.emit("")
        else:
            self.status.setText("")
            self.finished.emit(ended.value)
