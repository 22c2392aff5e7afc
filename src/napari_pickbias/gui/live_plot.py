"""A small plot with vertical lines that move without the rest being drawn again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.backends.backend_qtagg import FigureCanvasQTAgg
from matplotlib.figure import Figure

from napari_pickbias.report.palette import Theme

NOTHING = "nothing is open yet"
"""Stands where the plot will be, until something is drawn."""


class LivePlot(FigureCanvasQTAgg):
    """One pair of axes with fixed margins: laying them out anew costs more than drawing.

    Parameters
    ----------
    theme : Theme
    height : int
        Pixels.
    """

    def __init__(self, theme: Theme, height: int) -> None:
        figure = Figure(figsize=(3.6, height / 100), facecolor=theme.background)
        self.axes = figure.add_axes((0.14, 0.24, 0.83, 0.72))
        super().__init__(figure)
        self.setFixedHeight(height)
        self.axes.set_axis_off()
        self.axes.text(0.5, 0.5, NOTHING, color=theme.muted, ha="center", transform=self.axes.transAxes)
        self.lines: list[Any] = []
        self._background: Any = None
        self.mpl_connect("draw_event", self._on_draw)

    def set_lines(self, places: Sequence[float], color: str) -> None:
        """Put vertical lines over what is drawn; the next draw shows them."""
        self.lines = [self.axes.axvline(x, color=color, linewidth=1.3, animated=True) for x in places]

    def move_lines(self, places: Sequence[float]) -> None:
        """Move the lines, at once."""
        for line, x in zip(self.lines, places, strict=False):
            line.set_xdata([x, x])
        if self._background is None:
            self.draw_idle()
            return
        self.restore_region(self._background)
        self._draw_lines()
        self.blit(self.figure.bbox)

    def resizeEvent(self, event: Any) -> None:  # noqa: N802 (Qt's name)
        """Forget the picture, which is of another size now."""
        self._background = None
        super().resizeEvent(event)

    def _on_draw(self, _event: Any) -> None:
        self._background = self.copy_from_bbox(self.figure.bbox)
        self._draw_lines()

    def _draw_lines(self) -> None:
        for line in self.lines:
            self.axes.draw_artist(line)
