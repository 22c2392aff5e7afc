"""The "Curate" dock: look at picks or particles, keep or reject them, undo, save both sets."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.utils.notifications import show_info
from numpy.typing import NDArray
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QLabel,
    QLineEdit,
)

from napari_pickbias.errors import InputError
from napari_pickbias.gui import curation_files
from napari_pickbias.gui.compare_panel import ComparePanel
from napari_pickbias.gui.curate_layout import lay_out
from napari_pickbias.gui.curate_work import Opened, Verdicts, at_places, average_steps, open_steps, save_steps
from napari_pickbias.gui.curation import Curation
from napari_pickbias.gui.curation_files import Saved
from napari_pickbias.gui.curation_layers import CurationLayers
from napari_pickbias.gui.display_panel import DisplayPanel
from napari_pickbias.gui.docked import Docked, JobBar, button, shortcut
from napari_pickbias.gui.figure_view import FigureView, theme_of
from napari_pickbias.gui.gallery import Gallery
from napari_pickbias.gui.micrograph_list import MicrographList
from napari_pickbias.gui.preferences import preference
from napari_pickbias.gui.range_panel import RangePanel
from napari_pickbias.gui.scatter_panel import ScatterPanel
from napari_pickbias.gui.score_row import SCORE, ScoreRow
from napari_pickbias.gui.selection_panel import SelectionPanel
from napari_pickbias.gui.thumbnails import Thumbnails
from napari_pickbias.report.averages import average_panels

if TYPE_CHECKING:
    from napari.viewer import Viewer

SOURCES = ("pickbias_curates", "picks_of", "source", "micrographs_of")
"""Keys of layers' metadata under which the file stands that they show."""
VERDICT = "verdict"
KEYS = {"Shift-K": "keep", "Shift-R": "reject", "Shift-U": "undecide", "Shift-F": "flag", ",": "previous", ".": "next"}
"""Keys that work with the mouse over the canvas."""
_REDRAW_MS = 150


class CurateWidget(Docked):
    """Keep or reject picks by range, by selection or one by one; nothing is lost, everything can be undone.

    Parameters
    ----------
    napari_viewer : napari.viewer.Viewer
    """

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__()
        self.viewer = napari_viewer
        self.opened: Opened | None = None
        self.layers: CurationLayers | None = None
        self._shown_version = 0
        self.path = QLineEdit(placeholderText="picks or particles: .star, .cs, .box")
        self.job = JobBar("Curate", {"read": "Reading", "save": "Writing", "average": "Averaging"})
        self.counts = QLabel(wordWrap=True)
        self.undo_button = button("Undo", "Ctrl+Z", self.undo, enabled=False)
        self.redo_button = button("Redo", "Ctrl+Shift+Z", self.redo, enabled=False)
        theme = str(napari_viewer.theme)
        self.range = RangePanel(theme_of(theme))
        self.score_row = ScoreRow()
        self.micrographs = MicrographList()
        self.gallery = Gallery()
        self.gallery.text_color = theme_of(theme).text
        self.selection = SelectionPanel(theme)
        self.scatter = ScatterPanel(theme_of(theme))
        self.compare = ComparePanel()
        self.display = DisplayPanel()
        self.figures = FigureView(theme)
        self.hide_box = QCheckBox("hide rejected")
        self.color_box = QComboBox(toolTip="Colour circles by the verdict or by a column; rejected ones are dimmed")
        self.diameter = QDoubleSpinBox(maximum=5000, suffix=" Å", decimals=0, specialValueText="guessed")
        self.diameter.setValue(2 * float(preference("particles", "radius")))
        self.template = QLineEdit(placeholderText="template to show beside them (optional)")
        self.replace_box = QCheckBox("replace", toolTip="Replace files of that name")
        # Histogram, gallery and counts follow a moment after the last change: dragging stays smooth.
        self._later = QTimer(self, singleShot=True, interval=_REDRAW_MS)
        self._later.timeout.connect(self._refresh_slow)
        lay_out(self)
        self.enable(False)
        self._connect()
        source = self._active_source()
        if source:
            self.path.setText(source)

    def _connect(self) -> None:
        self.job.finished.connect(self._on_finished)
        self.range.changed.connect(self._on_range)
        self.range.select.connect(self.select)
        self.score_row.decided.connect(self._on_decided)
        self.micrographs.chosen.connect(self._on_micrograph)
        self.gallery.picked.connect(self._on_picked)
        self.gallery.selection_changed.connect(self._on_gallery_selection)
        self.micrographs.flagged.connect(self.flag)
        for panel in (self.scatter, self.compare):
            panel.chosen.connect(self.select_mask)
        self.hide_box.toggled.connect(self._on_look)
        self.color_box.currentTextChanged.connect(self._on_look)
        self.diameter.valueChanged.connect(self._on_diameter)
        self.viewer.dims.events.current_step.connect(self._on_step)
        actions = self._actions()
        shortcut(self, "Ctrl+Z", self.undo)
        shortcut(self, "Ctrl+Shift+Z", self.redo)
        for keys, name in KEYS.items():
            shortcut(self, keys.replace("-", "+"), actions[name])
            self.viewer.bind_key(keys, lambda _viewer, act=actions[name]: act(), overwrite=True)
        self.viewer.bind_key("Control-Z", lambda _viewer: self.undo(), overwrite=True)
        self.viewer.bind_key("Control-Shift-Z", lambda _viewer: self.redo(), overwrite=True)

    def _actions(self) -> dict[str, Any]:
        return {
            "keep": lambda: self.decide("kept"),
            "reject": lambda: self.decide("rejected"),
            "undecide": lambda: self.decide("undecided"),
            "flag": self.flag,
            "previous": lambda: self.step(-1),
            "next": lambda: self.step(1),
        }

    def enable(self, there: bool) -> None:
        """Let what needs an open file be used, or not."""
        for widget in (self.tabs, self.set_buttons, self.select_buttons, self.save_button, self.load_button):
            widget.setEnabled(there)

    # -- opening -----------------------------------------------------------------------------------------------------

    def take_layer(self) -> None:
        """Enter the file of the selected layer."""
        source = self._active_source()
        if source:
            self.path.setText(source)
        else:
            self.job.say_fault(
                InputError("“From layer”: the selected layer shows no picks or particles; select another")
            )

    def open(self, path: str | Path | None = None, verdicts: Verdicts | None = None) -> None:
        """Read a file and show its picks; ``verdicts`` of a job are taken over."""
        if path is not None:
            self.path.setText(str(path))
        text = self.path.text().strip()
        if not text:
            self.job.say_fault(InputError("“Open”: no file is named; choose one, or a layer opened from one"))
            return
        self.enable(False)
        self.job.start(open_steps(Path(text).expanduser().absolute(), verdicts, self.diameter.value()))

    @property
    def curation(self) -> Curation | None:
        """What is curated."""
        return None if self.opened is None else self.opened.curation

    def _on_finished(self, value: Any) -> None:
        if isinstance(value, Opened):
            self._show(value)
        elif isinstance(value, Saved):
            self._on_saved(value)
        else:
            sets, template = value
            pixel = self.opened.image_pixel_size if self.opened is not None else None
            self.figures.show_panels(average_panels(sets, pixel, template))

    def _show(self, opened: Opened) -> None:
        if self.layers is not None:
            self.layers.close()
        self.opened = opened
        curation = opened.curation
        self._shown_version = curation.places_version
        self.layers = CurationLayers(
            self.viewer,
            curation,
            str(opened.source.path.absolute()),
            self.diameter.value(),
            on_selected=self._on_canvas_selection,
            on_edited=self._on_edited,
        )
        self.color_box.blockSignals(True)
        self.color_box.clear()
        self.color_box.addItems([VERDICT, *curation.numeric_columns()])
        self.color_box.blockSignals(False)
        self._on_look()
        thumbnails = None if opened.images is None else Thumbnails(opened.images)
        self.gallery.show_curation(curation, thumbnails)
        threshold = self.score_row.show_curation(curation)
        self.range.marks = {} if threshold is None else {SCORE: threshold}
        self.range.show_curation(curation)
        self.scatter.show_curation(curation)
        self.selection.show_curation(curation, opened.images, opened.image_pixel_size, opened.radius_angstrom)
        self.compare.show_curation(curation, self.layers.pixel_size)
        self.display.take(self.layers.micrographs)
        self.figures.clear()
        self.enable(True)
        self._refresh()
        self._refresh_slow()
        if self.layers.points is not None:
            self.viewer.layers.selection.active = self.layers.points
            self.layers.go_to_micrograph(0)
            self.viewer.reset_view()
        notes = " ".join(opened.curation.table.notes)
        self.job.say(notes)

    # -- choosing ----------------------------------------------------------------------------------------------------

    def decide(self, decision: str) -> None:
        """Mark the selected picks "kept", "rejected" or "undecided"."""
        if self.curation is None:
            return
        if not self.curation.selected.any():
            self.job.say("Nothing is selected: select picks in the canvas or the gallery, or with the buttons.")
            return
        if self.curation.decide(self.curation.selected, decision):
            self._refresh()

    def select(self, how: str, column: str = "", value: float = 0.0) -> None:
        """Change the selection; see :meth:`napari_pickbias.gui.curation.Curation.select`."""
        if self.curation is not None:
            self.curation.select(how, column, value)
            self.gallery.show_selection()
            self._refresh()

    def select_mask(self, chosen: NDArray[np.bool_]) -> None:
        """Select exactly these picks."""
        if self.curation is not None:
            self.curation.selected = np.array(chosen)
            self.gallery.show_selection()
            self._refresh()

    def flag(self, index: int | None = None) -> None:
        """Flag a micrograph (the one shown), or take its flag away."""
        if self.curation is not None and self.layers is not None:
            self.curation.flag(self.layers.micrograph if index is None else index)
            self._refresh_slow()

    def undo(self) -> None:
        """Take the last step back."""
        self._after_history("Undone", self.curation.undo() if self.curation is not None else "")

    def redo(self) -> None:
        """Take the last undone step again."""
        self._after_history("Done again", self.curation.redo() if self.curation is not None else "")

    def _after_history(self, what: str, step: str) -> None:
        if step:
            self.job.say(f"{what}: {step}.")
            self.range.show_range()
            self._refresh()

    def step(self, by: int) -> None:
        """Go to another micrograph."""
        if self.layers is not None:
            self.layers.go_to_micrograph(self.layers.micrograph + by)

    # -- saving ------------------------------------------------------------------------------------------------------

    def save(self, target: str | Path) -> None:
        """Write kept and rejected picks and the decisions."""
        if self.opened is not None:
            frozen = self.opened.curation.snapshot()
            self.job.start(save_steps(frozen, self.opened.source, Path(target), self.replace_box.isChecked()))

    def load(self, path: str | Path) -> None:
        """Take up the decisions of an earlier curation."""
        if self.curation is None:
            return
        try:
            notes = curation_files.load(self.curation, path)
        except InputError as fault:
            self.job.say_fault(fault)
            return
        self.range.show_range()
        self._refresh()
        self.job.say(" ".join([f"Decisions of {path} are taken up.", *notes]))

    def _on_saved(self, saved: Saved) -> None:
        others = f", the others in {saved.rejected.name}" if saved.rejected is not None else ""
        edited = f" {saved.edited}" if saved.edited else ""
        self.job.say(f"Kept picks are in {saved.kept}{others}; the decisions in {saved.decisions.name}.{edited}")
        show_info(f"Curate: saved {saved.kept}")

    def average(self) -> None:
        """Average the kept, the rejected and the selected images."""
        if self.opened is None:
            return
        if self.opened.images is None:
            self.job.say_fault(
                InputError(f"{self.opened.source.path}: neither its particle images nor its micrographs are there")
            )
            return
        template = self.template.text().strip()
        keep, selected = self.opened.curation.keep, self.opened.curation.selected.copy()
        self.job.start(average_steps(self.opened.images, keep, selected, Path(template) if template else None))

    # -- keeping everything in step ----------------------------------------------------------------------------------

    def _refresh(self) -> None:
        """Show the verdicts at once where it is quick; the rest follows when the changes pause."""
        if self.curation is None or self.layers is None:
            return
        self._follow_places()
        self.layers.refresh()
        self.gallery.refresh()
        self._say_counts()
        self.undo_button.setEnabled(self.curation.can_undo)
        self.redo_button.setEnabled(self.curation.can_redo)
        self._later.start()

    def _refresh_slow(self) -> None:
        if self.curation is None:
            return
        self.micrographs.show_counts(self.curation.counts())
        self.range.draw()
        self.scatter.follow()
        if self.layers is not None:
            self.micrographs.mark(self.layers.micrograph)

    def _say_counts(self) -> None:
        curation, layers = self.curation, self.layers
        assert curation is not None
        assert layers is not None
        keep = curation.keep
        text = f"<b>{keep.sum():,}</b> of {len(keep):,} kept ({keep.mean() if len(keep) else 0:.1%})"
        if curation.micrograph is not None and len(curation.table.micrograph_names) > 1:
            here = curation.micrograph == layers.micrograph
            text += f"; here {keep[here].sum():,} of {here.sum():,}"
        chosen = int(curation.selected.sum())
        self.selection.follow()
        self.counts.setText(text + (f"; {chosen:,} selected" if chosen else ""))

    def _on_range(self, column: str, low: float, high: float) -> None:
        if self.curation is not None and self.curation.set_range(column, (low, high)):
            self._refresh()

    def _on_decided(self) -> None:
        self.range.column.setCurrentText(SCORE)
        self.range.show_range()
        self._refresh()

    def _on_look(self, *_ignored: object) -> None:
        if self.layers is not None:
            self.layers.hide_rejected = self.hide_box.isChecked()
            column = self.color_box.currentText()
            self.layers.color_by = "" if column == VERDICT else column
            self.layers.refresh()

    def _on_diameter(self, value: float) -> None:
        if self.layers is not None:
            self.layers.set_diameter(value)

    def _on_micrograph(self, index: int) -> None:
        if self.layers is not None:
            self.layers.go_to_micrograph(index)

    def _on_step(self, _event: object = None) -> None:
        if self.layers is not None and self.curation is not None:
            self.micrographs.mark(self.layers.micrograph)
            self._say_counts()

    def _on_picked(self, row: int) -> None:
        if self.layers is not None:
            self.layers.go_to(row)

    def _on_gallery_selection(self) -> None:
        if self.layers is not None:
            self.layers.refresh()
            self._say_counts()

    def _on_edited(self, line: str) -> None:
        self.job.say(line)
        self._refresh()

    def _follow_places(self) -> None:
        """Cut the gallery's pictures at the places that picks have now, and show as many as there are."""
        assert self.opened is not None
        curation = self.opened.curation
        if self._shown_version == curation.places_version:
            return
        self._shown_version = curation.places_version
        images = at_places(self.opened.images, curation)
        if images is not self.opened.images:
            self.opened = replace(self.opened, images=images)
            self.gallery.thumbnails = None if images is None else Thumbnails(images)
            self.selection.take_images(images)
        self.gallery.sort()

    def _on_canvas_selection(self) -> None:
        self.gallery.show_selection()
        self._say_counts()

    def close_down(self) -> None:
        """Stop work, give the keys back, let go of viewer and layers."""
        self.job.drop()
        self.selection.close_down()
        self.compare.close_down()
        self._later.stop()
        if self.layers is not None:
            self.layers.close()
            self.layers = None
        self.viewer.dims.events.current_step.disconnect(self._on_step)
        for keys in (*KEYS, "Control-Z", "Control-Shift-Z"):
            self.viewer.bind_key(keys, None, overwrite=True)

    def _active_source(self) -> str | None:
        layer = self.viewer.layers.selection.active
        metadata = {} if layer is None else layer.metadata
        return next((str(metadata[key]) for key in SOURCES if metadata.get(key)), None)
