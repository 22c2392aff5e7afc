"""The "Pick-free" dock: a map straight from micrographs, and its convergence as it goes."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_qtagg import FigureCanvasQTAgg
from matplotlib.figure import Figure
from napari.layers import Image

from napari_pickbias.errors import InputError
from napari_pickbias.gui.figure_view import theme_of
from napari_pickbias.gui.run_folders import pickfree_folder_steps
from napari_pickbias.gui.run_widget import MAPS, SHOWS, STAR, Input, RunWidget
from napari_pickbias.gui.run_work import Finished, RunOrder, pickfree_steps
from napari_pickbias.jobs.pickfree_parameters import PickfreeParameters
from napari_pickbias.jobs.progress import Progress
from napari_pickbias.records import read_header
from napari_pickbias.report.pickfree_live import WORDS, Convergence, convergence_panel
from napari_pickbias.runs.pickfree_live import read_convergence

LIVE = "map so far"
PLOT_DPI = 100


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
        self.figure = Figure(figsize=(4.2, 4.4), dpi=PLOT_DPI, layout="constrained", facecolor=self.theme.background)
        self.canvas = FigureCanvasQTAgg(self.figure)
        self.canvas.setVisible(False)
        self.column.addWidget(self.canvas)
        self.convergence: Convergence | None = None
        self._order: RunOrder | None = None
        self.job.yielded.connect(self._on_progress)

    def steps(self, order: RunOrder) -> Generator[Progress, None, Finished]:
        """Return the job's steps."""
        self._order = order
        return pickfree_steps(order)

    def folder_steps(self, folder: Path) -> Generator[Progress, None, Finished]:
        """Return the steps that open an output folder."""
        self._order = None
        return pickfree_folder_steps(folder)

    def show_result(self, finished: Finished) -> None:
        """Turn to the map, which takes the place of the one so far."""
        if isinstance(finished.extra, Convergence):
            self.draw(finished.extra)
        if finished.layers:
            self.fold.setChecked(False)
            self.show_in_space()
            self.look_at_own()

    def draw(self, found: Convergence) -> None:
        """Draw the convergence."""
        self.convergence = found
        panel = convergence_panel(found)
        self.figure.clear()
        panel.draw(self.figure, self.theme)
        self.canvas.setFixedHeight(round(panel.height * PLOT_DPI))
        self.canvas.setToolTip(panel.text)
        self.canvas.setVisible(True)
        self.canvas.draw_idle()

    def _on_progress(self, progress: Any) -> None:
        """Follow the iterations: the job keeps each one's map in its folder before it tells of it."""
        if (
            self._order is None
            or not isinstance(progress, Progress)
            or progress.stage not in WORDS
            or not progress.done
        ):
            return
        found = read_convergence(self._order.out)
        if not found.chains:
            return
        self.draw(found)
        if found.volume is not None:
            self._show_map(self._order, np.asarray(found.volume), found.iteration)

    def _show_map(self, order: RunOrder, volume: np.ndarray, iteration: int) -> None:
        """Show the map so far in the layer of that name: updated, never a second one."""
        limits = (float(volume.min()), float(max(volume.max(), volume.min() + 1e-6)))
        layer = next((each for each in self.viewer.layers if each.metadata.get("pickfree_live")), None)
        if layer is None:
            layer = Image(
                volume, name=LIVE, scale=(self._voxel(order, len(volume)),) * 3, units="angstrom",
                rendering="attenuated_mip", contrast_limits=limits,
                metadata={SHOWS: self.title, "pickfree_live": True},
            )  # fmt: skip
            self.viewer.layers.append(layer)
            self.show_in_space()
            self.look_at_own()
        layer.data = volume
        layer.contrast_limits = limits
        layer.metadata["iteration"] = iteration

    @staticmethod
    def _voxel(order: RunOrder, box: int) -> float:
        """Return the voxel of the reconstruction, Å: it has the initial map's extent."""
        try:
            header = read_header(Path(order.inputs["map"]))
        except InputError:
            return 1.0
        return float((order.parameters.map_pixel_size or header.pixel_size_angstrom or 1.0) * header.shape[-1] / box)
