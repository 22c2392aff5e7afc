"""The report's figures in a window of their own, in napari's colours."""

from __future__ import annotations

from matplotlib.backends.backend_qtagg import FigureCanvasQTAgg
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QLabel, QScrollArea, QTabWidget, QVBoxLayout, QWidget

from napari_pickbias.gui.figure_view import theme_of
from napari_pickbias.jobs.outliers import OutlierResult
from napari_pickbias.report.outliers import outlier_panels
from napari_pickbias.report.palette import Theme
from napari_pickbias.report.panels import PANEL_WIDTH, Panel

_PIXELS_AN_INCH = 120


class FigureWindow(QWidget):
    """One tab for each figure of a result.

    Parameters
    ----------
    result : OutlierResult
        What is drawn.
    theme : str
        Name of napari's theme.
    parent : QWidget
        The window closes with it.
    """

    def __init__(self, result: OutlierResult, theme: str, parent: QWidget) -> None:
        super().__init__(parent, Qt.WindowType.Window)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setWindowTitle("Remove outliers: figures")
        self.tabs = QTabWidget()
        outer = QVBoxLayout(self)
        outer.addWidget(self.tabs)
        colours = theme_of(theme)
        for panel in outlier_panels(result):
            self.tabs.addTab(_page(panel, colours), panel.title)
        self.resize(round(PANEL_WIDTH * _PIXELS_AN_INCH) + 60, 760)


def _page(panel: Panel, colours: Theme) -> QWidget:
    page = QWidget()
    column = QVBoxLayout(page)
    figure = panel.figure(colours)
    figure.set_dpi(_PIXELS_AN_INCH)
    canvas = FigureCanvasQTAgg(figure)
    # The panel's own proportions, within reason: drawn for them, it would fall apart in a high window.
    height = round(panel.height * _PIXELS_AN_INCH)
    canvas.setMinimumHeight(height)
    canvas.setMaximumHeight(round(1.15 * height))
    scroll = QScrollArea(widgetResizable=True)
    scroll.setFrameShape(QScrollArea.Shape.NoFrame)
    scroll.setWidget(canvas)
    column.addWidget(QLabel(panel.text, wordWrap=True))
    column.addWidget(scroll, stretch=1)
    return page
