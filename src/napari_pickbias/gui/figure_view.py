"""A report's panels in a widget, in napari's colours."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.backends.backend_qtagg import FigureCanvasQTAgg
from napari.utils.theme import get_theme
from qtpy.QtWidgets import QLabel, QSizePolicy, QVBoxLayout, QWidget

from napari_pickbias.report.palette import Theme
from napari_pickbias.report.panels import PANEL_WIDTH, Panel

DPI = 75
"""Docks are narrower than a page: the panels of a report, smaller."""


def theme_of(name: str) -> Theme:
    """Return a figure's colours for a theme of napari."""
    theme = get_theme(name)
    return Theme(
        background=theme.background.as_hex(),
        text=theme.text.as_hex(),
        muted=theme.icon.as_hex(),
        grid=theme.primary.as_hex(),
    )


class FigureView(QWidget):
    """Panels below each other; showing new ones replaces the old.

    Parameters
    ----------
    theme : str
        Name of napari's theme.
    texts : bool, default True
        Write the panels' explanations below them; otherwise they are tool tips.
    dpi : int
        Dots an inch: less than the default suits a page's panels, more those that are composed for a dock.
    """

    def __init__(self, theme: str = "dark", texts: bool = True, dpi: int = DPI) -> None:
        super().__init__()
        self.texts, self.dpi = texts, dpi
        # What wraps its text has no height of its own: a column would squeeze the figures for it.
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Minimum)
        self.theme = theme_of(theme)
        self.column = QVBoxLayout(self)
        self.column.setContentsMargins(0, 0, 0, 0)
        self.canvases: list[FigureCanvasQTAgg] = []

    def show_panels(self, panels: Sequence[Panel]) -> None:
        """Draw panels."""
        self.clear()
        for panel in panels:
            figure = panel.figure(self.theme)
            figure.set_dpi(self.dpi)
            canvas = FigureCanvasQTAgg(figure)
            canvas.setFixedHeight(round(panel.height * self.dpi))
            canvas.setToolTip(panel.text)
            canvas.setMinimumWidth(round(PANEL_WIDTH * DPI * 0.62))
            title = QLabel(f"<b>{panel.title}</b>")
            title.setToolTip(panel.text)
            text = QLabel(panel.text if self.texts else "", wordWrap=True)
            for widget in (title, canvas, text) if self.texts else (title, canvas):
                self.column.addWidget(widget)
            self.canvases.append(canvas)

    def clear(self) -> None:
        """Take everything away."""
        self.canvases = []
        while (item := self.column.takeAt(0)) is not None:
            widget = item.widget()
            if widget is not None:
                widget.deleteLater()
