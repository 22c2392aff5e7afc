"""The list of micrographs with how many of their picks are kept."""

from __future__ import annotations

from pathlib import PurePath
from typing import Any

import pandas as pd
from qtpy.QtCore import QAbstractTableModel, QModelIndex, Qt, Signal
from qtpy.QtWidgets import QHeaderView, QTableView, QWidget

HEADER = ("micrograph", "kept", "picks", "flag")


class MicrographModel(QAbstractTableModel):
    """Name, kept, picks and flag of each micrograph."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.counts = pd.DataFrame({"name": [], "picks": [], "kept": [], "flag": []})
        self._names: list[str] = []

    def rowCount(self, parent: QModelIndex | None = None) -> int:  # noqa: N802 (Qt's name)
        """Return the number of micrographs."""
        return 0 if parent is not None and parent.isValid() else len(self._names)

    def columnCount(self, parent: QModelIndex | None = None) -> int:  # noqa: N802 (Qt's name)
        """Return the number of columns."""
        return 0 if parent is not None and parent.isValid() else len(HEADER)

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = 0) -> Any:  # noqa: N802 (Qt's name)
        """Return the columns' titles."""
        if role == Qt.ItemDataRole.DisplayRole and orientation == Qt.Orientation.Horizontal:
            return HEADER[section]
        return None

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Return what a cell shows."""
        row, column = index.row(), index.column()
        if role == Qt.ItemDataRole.DisplayRole:
            if column == 0:
                return self._names[row]
            if column == 3:
                return "⚑" if self.counts["flag"].iloc[row] else ""
            return f"{int(self.counts[HEADER[column]].iloc[row]):,}"
        if role == Qt.ItemDataRole.ToolTipRole and column == 0:
            return str(self.counts["name"].iloc[row])
        if role == Qt.ItemDataRole.TextAlignmentRole and column:
            return int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        return None

    def set_counts(self, counts: pd.DataFrame) -> None:
        """Show new counts; the names are taken anew where their number changed."""
        if len(counts) != len(self._names) or list(counts["name"]) != list(self.counts["name"]):
            self.beginResetModel()
            self.counts, self._names = counts, [PurePath(str(name)).name for name in counts["name"]]
            self.endResetModel()
            return
        self.counts = counts
        if len(counts):
            self.dataChanged.emit(self.index(0, 1), self.index(len(counts) - 1, 3))


class MicrographList(QTableView):
    """Micrographs to choose from."""

    chosen = Signal(int)
    flagged = Signal(int)
    """A micrograph's flag was clicked."""

    def __init__(self) -> None:
        super().__init__()
        self.counts_model = MicrographModel(self)
        self.setModel(self.counts_model)
        self.setSelectionBehavior(QTableView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QTableView.SelectionMode.SingleSelection)
        self.verticalHeader().setVisible(False)
        self.verticalHeader().setDefaultSectionSize(22)
        self.horizontalHeader().setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        for column in (1, 2, 3):
            self.horizontalHeader().setSectionResizeMode(column, QHeaderView.ResizeMode.Fixed)
            self.setColumnWidth(column, 64 if column < 3 else 40)
        self.setMinimumHeight(160)
        self._busy = False
        self.clicked.connect(lambda index: self.flagged.emit(index.row()) if index.column() == 3 else None)
        self.selectionModel().currentRowChanged.connect(self._on_row)

    def show_counts(self, counts: pd.DataFrame) -> None:
        """Show counts from :meth:`napari_pickbias.gui.curation.Curation.counts`."""
        self.counts_model.set_counts(counts)

    def mark(self, index: int) -> None:
        """Mark the micrograph that is shown."""
        if 0 <= index < self.counts_model.rowCount() and index != self.currentIndex().row():
            self._busy = True
            self.selectRow(index)
            self._busy = False

    def _on_row(self, current: QModelIndex, _previous: QModelIndex) -> None:
        if not self._busy and current.isValid():
            self.chosen.emit(current.row())
