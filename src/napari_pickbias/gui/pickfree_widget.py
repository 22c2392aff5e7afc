"""The "Pick-free" dock: a map straight from micrographs, and its convergence as it goes."""

from __future__ import annotations

import re
from collections.abc import Generator
from typing import Any

from matplotlib.backends.backend_qtagg import FigureCanvasQTAgg
from matplotlib.figure import Figure

from napari_pickbias.gui.figure_view import theme_of
from napari_pickbias.gui.run_widget import MAPS, STAR, Input, RunWidget
from napari_pickbias.gui.run_work import Finished, RunOrder, pickfree_steps
from napari_pickbias.jobs.pickfree_parameters import PickfreeParameters
from napari_pickbias.jobs.progress import Progress
from napari_pickbias.report.panels import dress, legend

_ITERATION = re.compile(r"iteration (\d+): log-likelihood ([-+.\de]+) per patch")
CHAINS = {"map": "#56B4E9", "null": "#A9B0B8", "half1": "#009E73", "half2": "#CC79A7"}
WORDS = {"map": "the data", "null": "noise alone", "half1": "half 1", "half2": "half 2"}


class PickfreeWidget(RunWidget):
    """Reconstruction without picking."""

    title = "Pick-free"
    model = PickfreeParameters
    inputs = (
        Input("micrographs", "Micrographs", "micrographs_ctf.star, a folder or a pattern", STAR, key="micrographs_of"),
        Input("map", "Initial map", "the map to start from (.mrc)", MAPS, key="map"),
    )
    basic = ("box", "iterations", "contrast", "ctf", "null")
    start = {"box": 11}  # noqa: RUF012 (as the base class declares it)
    stages = {  # noqa: RUF012
        "start": "Scaling the initial map",
        "noise": "Measuring the noise",
        "patches": "Cutting patches",
        "picking": "Picking noise with templates, for comparison",
        **{name: f"Reconstructing from {words}" for name, words in WORDS.items()},
    }

    def add_below(self) -> None:
        """Add the plot of convergence."""
        self.theme = theme_of(str(self.viewer.theme))
        figure = Figure(figsize=(3.6, 2.2), layout="constrained", facecolor=self.theme.background)
        self.axes = figure.subplots()
        self.canvas = FigureCanvasQTAgg(figure)
        self.canvas.setFixedHeight(210)
        self.canvas.setVisible(False)
        self.column.addWidget(self.canvas)
        self.records: dict[str, list[tuple[int, float]]] = {}
        self.job.yielded.connect(self._on_progress)

    def steps(self, order: RunOrder) -> Generator[Progress, None, Finished]:
        """Return the job's steps."""
        return pickfree_steps(order)

    def run(self) -> None:
        """Start the job with a copy of the fields."""
        if not self.job.running:
            self.records = {}
        super().run()

    def show_result(self, finished: Finished) -> None:
        """Turn to the map."""
        if finished.layers:
            self.show_in_space()

    def _on_progress(self, progress: Any) -> None:
        """Add an iteration to the plot: gain over "all patches are empty", of the data and of noise alone."""
        match = _ITERATION.match(progress.message) if isinstance(progress, Progress) else None
        if match is None:
            return
        self.records.setdefault(progress.stage, []).append((int(match[1]), float(match[2])))
        self.canvas.setVisible(True)
        self.axes.clear()
        for name, points in self.records.items():
            self.axes.plot(*zip(*points, strict=True), "o-", color=CHAINS.get(name), label=WORDS.get(name, name), ms=3)
        self.axes.axhline(0, color=self.theme.muted, linewidth=0.6)
        dress(self.axes, self.theme, x="iteration", y="log-likelihood per patch", grid="y")
        legend(self.axes, self.theme)
        self.canvas.draw_idle()
