"""The Curate dock's file dialogs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtWidgets import QFileDialog

if TYPE_CHECKING:
    from napari_pickbias.gui.curate_widget import CurateWidget

FILTER = "Picks and particles (*.star *.cs *.csg *.box *.cbox);;All files (*)"


def browse(dock: CurateWidget) -> None:
    """Choose what is curated."""
    path, _ = QFileDialog.getOpenFileName(dock, "Picks or particles", dock.path.text(), FILTER)
    if path:
        dock.open(path)


def browse_template(dock: CurateWidget) -> None:
    """Choose a template to show beside the averages."""
    path, _ = QFileDialog.getOpenFileName(dock, "Template", dock.template.text(), "Images (*.mrc *.mrcs *.map)")
    if path:
        dock.template.setText(path)


def browse_save(dock: CurateWidget) -> None:
    """Choose where the kept picks go."""
    if dock.opened is None:
        return
    source = dock.opened.source
    offered = source.path.with_name(f"{source.path.stem}_kept{source.suffix}")
    path, _ = QFileDialog.getSaveFileName(dock, "Kept picks", str(offered), f"*{source.suffix}")
    if path:
        dock.save(path)


def browse_load(dock: CurateWidget) -> None:
    """Choose an earlier curation."""
    path, _ = QFileDialog.getOpenFileName(dock, "Saved curation", dock.path.text(), "Decisions (*_curation.json)")
    if path:
        dock.load(path)
