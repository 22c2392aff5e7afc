"""Where everything stands in the Curate dock."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtWidgets import QLabel, QScrollArea, QTabWidget, QVBoxLayout, QWidget

from napari_pickbias.gui.curate_dialogs import browse, browse_load, browse_save, browse_template
from napari_pickbias.gui.docked import button, row_of
from napari_pickbias.gui.pick_layers import KEPT_COLOR, REJECTED_COLOR

if TYPE_CHECKING:
    from napari_pickbias.gui.curate_widget import CurateWidget

LEGEND = (
    f"<span style='color:{KEPT_COLOR}'>○</span> kept &nbsp;<span style='color:{REJECTED_COLOR}'>○</span> rejected "
    "&nbsp;<b>○</b> selected (white) &nbsp;◇ moved &nbsp;□ added"
)
SELECT = (("All", "all"), ("None", "none"), ("Invert", "invert"), ("Kept", "kept"), ("Rejected", "rejected"))


def lay_out(dock: CurateWidget) -> None:
    """Give the dock its buttons and tabs, and put its parts in their places."""
    dock.set_buttons = row_of(
        button("Keep", "Keep the selected picks (Shift+K)", lambda: dock.decide("kept")),
        button("Reject", "Reject the selected picks (Shift+R)", lambda: dock.decide("rejected")),
        button("Undecide", "Leave the selected picks to the ranges (Shift+U)", lambda: dock.decide("undecided")),
        dock.undo_button,
        dock.redo_button,
    )
    dock.select_buttons = row_of(
        QLabel("Select"),
        *(button(text, f"Select: {how}", lambda how=how: dock.select(how)) for text, how in SELECT),
    )
    dock.tabs = QTabWidget()
    for page, title in (
        (column_of(dock.range, dock.score_row, None), "Range"),
        (_micrographs(dock), "Micrographs"),
        (dock.gallery, "Gallery"),
        (dock.selection, "Selection"),
        (dock.scatter, "Scatter"),
        (column_of(dock.compare, None), "Compare"),
        (_averages(dock), "Averages"),
    ):
        dock.tabs.addTab(page, title)
    dock.tabs.setUsesScrollButtons(True)
    dock.save_button = button("Save…", "Write kept, rejected and the decisions", lambda: browse_save(dock))
    dock.load_button = button("Reload…", "Take up the decisions of an earlier curation", lambda: browse_load(dock))
    column = QVBoxLayout(dock)
    column.setContentsMargins(6, 6, 6, 6)
    browse_button = button("Browse…", "Choose a file", lambda: browse(dock))
    from_layer = button("From layer", "Take the file of the selected layer", dock.take_layer)
    open_button = button("Open", "Read the picks and show them", dock.open)
    opening = row_of(browse_button, from_layer, open_button)
    for widget in (dock.path, opening, dock.job, dock.counts, dock.select_buttons, dock.set_buttons):
        column.addWidget(widget)
    column.addWidget(dock.tabs, stretch=1)
    column.addWidget(row_of(dock.save_button, dock.replace_box, dock.load_button))
    dock.setMinimumWidth(380)


def _micrographs(dock: CurateWidget) -> QWidget:
    steps = row_of(
        button("◀", "Previous micrograph (comma)", lambda: dock.step(-1)),
        button("▶", "Next micrograph (full stop)", lambda: dock.step(1)),
        button("Flag", "Flag this micrograph, or take its flag away (Shift+F)", dock.flag),
        button("Select flagged", "Select the picks of the flagged micrographs", lambda: dock.select("flagged")),
        dock.hide_box,
    )
    page = column_of(
        steps,
        row_of(QLabel("Colour"), dock.color_box, QLabel("Diameter"), dock.diameter, stretch=1),
        QLabel(LEGEND, wordWrap=True),
        dock.display,
    )
    page.layout().addWidget(dock.micrographs, 1)
    return page


def _averages(dock: CurateWidget) -> QWidget:
    page = column_of(
        row_of(dock.template, button("…", "Choose a template", lambda: browse_template(dock)), stretch=0),
        button("Average kept and rejected", "Averages, deviations, profiles and power spectra", dock.average),
        dock.figures,
        None,
    )
    scroll = QScrollArea(widgetResizable=True)
    scroll.setFrameShape(QScrollArea.Shape.NoFrame)
    scroll.setWidget(page)
    return scroll


def column_of(*widgets: QWidget | None) -> QWidget:
    """Return widgets below each other; None stands for room that stays empty."""
    page = QWidget()
    column = QVBoxLayout(page)
    column.setContentsMargins(0, 4, 0, 0)
    for widget in widgets:
        if widget is None:
            column.addStretch()
        else:
            column.addWidget(widget)
    return page
