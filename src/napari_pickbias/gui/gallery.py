"""A gallery of any number of particles: pictures are made when they come into view."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QAbstractListModel, QItemSelectionModel, QModelIndex, QRect, QSize, Qt, Signal
from qtpy.QtGui import QColor, QImage, QPainter, QPen
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QListView,
    QStyle,
    QStyledItemDelegate,
    QStyleOptionViewItem,
    QVBoxLayout,
    QWidget,
)

from napari_pickbias.gui.curation import Curation
from napari_pickbias.gui.docked import row_of
from napari_pickbias.gui.pick_layers import KEPT_COLOR, REJECTED_COLOR
from napari_pickbias.gui.thumbnails import SIDE, Thumbnails

RISING, FALLING, RANDOM = "smallest first", "largest first", "at random"
SHOWN = {"all": None, "kept": True, "rejected": False}
_LABEL_PX, _GAP_PX = 16, 4
ROW = Qt.ItemDataRole.UserRole


class GalleryModel(QAbstractListModel):
    """Rows of a curation in some order; holds no pictures."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.rows: NDArray[np.int64] = np.empty(0, np.int64)

    def rowCount(self, parent: QModelIndex | None = None) -> int:  # noqa: N802 (Qt's name)
        """Return how many there are."""
        return 0 if parent is not None and parent.isValid() else len(self.rows)

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Return the row of the file."""
        return int(self.rows[index.row()]) if index.isValid() and role == ROW else None

    def set_rows(self, rows: NDArray[np.int64]) -> None:
        """Show these rows in this order."""
        self.beginResetModel()
        self.rows = rows
        self.endResetModel()


class GalleryDelegate(QStyledItemDelegate):
    """Paints a picture with the colour of its verdict and the value it is sorted by."""

    def __init__(self, gallery: Gallery) -> None:
        super().__init__(gallery)
        self.gallery = gallery

    def sizeHint(self, option: QStyleOptionViewItem, index: QModelIndex) -> QSize:  # noqa: N802 (Qt's name)
        """Return the size of every item."""
        side = self.gallery.side
        return QSize(side + 2 * _GAP_PX, side + 2 * _GAP_PX + _LABEL_PX)

    def paint(self, painter: QPainter, option: QStyleOptionViewItem, index: QModelIndex) -> None:
        """Paint one item."""
        gallery = self.gallery
        row, side = index.data(ROW), gallery.side
        if gallery.thumbnails is None or gallery.curation is None or row is None:
            return
        box = QRect(option.rect.x() + _GAP_PX, option.rect.y() + _GAP_PX, side, side)
        grey = gallery.thumbnails[row]
        image = QImage(grey.data, grey.shape[1], grey.shape[0], grey.shape[1], QImage.Format.Format_Grayscale8)
        painter.save()
        if option.state & QStyle.StateFlag.State_Selected:
            painter.fillRect(option.rect, QColor("#FFFFFF"))
        painter.drawImage(box, image)
        painter.setPen(QPen(QColor(KEPT_COLOR if gallery.keep[row] else REJECTED_COLOR), 2))
        painter.drawRect(box)
        selected = bool(option.state & QStyle.StateFlag.State_Selected)
        painter.setPen(QColor("#1B1F24" if selected else gallery.text_color))
        label = QRect(box.x(), box.bottom() + 1, side, _LABEL_PX)
        painter.drawText(label, Qt.AlignmentFlag.AlignCenter, gallery.label(row))
        painter.restore()


class Gallery(QWidget):
    """Pictures of a curation's rows, sorted by a column; selecting them selects the picks."""

    picked = Signal(int)
    """The row of the file that was clicked."""
    selection_changed = Signal()

    def __init__(self, side: int = SIDE) -> None:
        super().__init__()
        self.side = side
        self.curation: Curation | None = None
        self.thumbnails: Thumbnails | None = None
        self.keep: NDArray[np.bool_] = np.empty(0, bool)
        self.text_color = "#F0F1F2"
        self._busy = False
        self.column = QComboBox(toolTip="What the gallery is sorted by, and what stands below each picture")
        self.direction = QComboBox()
        self.direction.addItems([FALLING, RISING, RANDOM])
        self.shown = QComboBox(toolTip="Which ones are shown")
        self.shown.addItems(list(SHOWN))
        self.blind = QCheckBox("blind", toolTip="Hide values and order: judge pictures without knowing their score")
        self.view = QListView()
        self.view.setViewMode(QListView.ViewMode.IconMode)
        self.view.setUniformItemSizes(True)
        self.view.setLayoutMode(QListView.LayoutMode.Batched)
        self.view.setBatchSize(2000)
        self.view.setMovement(QListView.Movement.Static)
        self.view.setResizeMode(QListView.ResizeMode.Adjust)
        self.view.setSelectionMode(QListView.SelectionMode.ExtendedSelection)
        self.model = GalleryModel(self)
        self.view.setModel(self.model)
        self.view.setItemDelegate(GalleryDelegate(self))
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.column)
        column.addWidget(row_of(self.direction, self.shown, self.blind, stretch=0))
        column.addWidget(self.view, stretch=1)
        self.view.setMinimumHeight(260)
        for box in (self.column, self.direction, self.shown):
            box.currentIndexChanged.connect(self.sort)
        self.blind.toggled.connect(self.sort)
        self.view.clicked.connect(lambda index: self.picked.emit(index.data(ROW)))
        self.view.selectionModel().selectionChanged.connect(self._on_selection)

    def show_curation(self, curation: Curation, thumbnails: Thumbnails | None) -> None:
        """Show the rows of a curation."""
        self.curation, self.thumbnails = curation, thumbnails
        self._busy = True
        self.column.clear()
        self.column.addItems([*curation.numeric_columns(), "row"])
        self._busy = False
        self.sort()

    def sort(self, *_ignored: object) -> None:
        """Bring the rows into the order that is chosen."""
        if self.curation is None or self._busy:
            return
        self.keep = self.curation.keep
        if self.thumbnails is None:
            self.model.set_rows(np.empty(0, np.int64))
            return
        column = self.column.currentText()
        if self.blind.isChecked() or self.direction.currentText() == RANDOM:
            rows = self.curation.order("", seed=0)
        elif column in self.curation.features:
            rows = self.curation.order(column, descending=self.direction.currentText() == FALLING)
        else:
            rows = np.arange(len(self.curation))
            rows = rows[::-1] if self.direction.currentText() == FALLING else rows
        wanted = SHOWN[self.shown.currentText()]
        if wanted is not None:
            rows = rows[self.keep[rows] == wanted]
        self.model.set_rows(np.ascontiguousarray(rows))

    def refresh(self) -> None:
        """Paint the verdicts as they are now; the order stays, so that nothing jumps away under the mouse."""
        if self.curation is not None:
            self.keep = self.curation.keep
            self.view.viewport().update()

    def label(self, row: int) -> str:
        """Return what stands below a picture."""
        assert self.curation is not None
        column = self.column.currentText()
        if self.blind.isChecked():
            return ""
        if column not in self.curation.features:
            return f"{row + 1:,}"
        value = self.curation.features[column].iloc[row]
        return f"{value:.4g}" if isinstance(value, float | np.floating) else str(value)

    def show_selection(self) -> None:
        """Mark the curation's selection, unless it is so large that marking would take longer than looking."""
        if self.curation is None or self._busy:
            return
        self._busy = True
        model = self.view.selectionModel()
        model.clearSelection()
        chosen = np.flatnonzero(self.curation.selected[self.model.rows])
        if 0 < len(chosen) <= 500:
            for place in chosen.tolist():
                model.select(self.model.index(place), QItemSelectionModel.SelectionFlag.Select)
            self.view.scrollTo(self.model.index(int(chosen[0])))
        self._busy = False

    def _on_selection(self, *_ignored: object) -> None:
        if self.curation is None or self._busy:
            return
        places = [index.row() for index in self.view.selectionModel().selectedIndexes()]
        self.curation.selected[:] = False
        self.curation.selected[self.model.rows[places]] = True
        self.selection_changed.emit()
