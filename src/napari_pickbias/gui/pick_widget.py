"""The dock "Pick": what is looked for, and what a threshold costs, live."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

from napari_pickbias.errors import InputError
from napari_pickbias.gui.docked import button, open_dock, row_of
from napari_pickbias.gui.pick_explorer import PickExplorer, TemplateStrip
from napari_pickbias.gui.preferences import field_defaults
from napari_pickbias.gui.run_folders import pick_folder_steps
from napari_pickbias.gui.run_widget import SHOWS, STAR, Input, RunWidget
from napari_pickbias.gui.run_work import Finished, RunOrder, pick_steps, preview_steps
from napari_pickbias.gui.threshold import PickView
from napari_pickbias.jobs.pick_parameters import PickParameters
from napari_pickbias.jobs.pick_preview import TemplatePreview
from napari_pickbias.jobs.progress import Progress

MICROGRAPHS = Input(
    "micrographs", "Micrographs", "micrographs_ctf.star, .cs, a folder or a pattern", STAR, key="micrographs_of"
)
TEMPLATES = Input(
    "templates",
    "Templates",
    "a map (.mrc), or class averages (.mrcs, model.star)",
    "Maps, averages (*.mrc *.mrcs *.map *.star)",
    key="map",
)


class Previewing(RunWidget):
    """A dock whose templates can be looked at before the run."""

    def add_preview(self) -> None:
        """Add the thumbnails, and a button that makes them."""
        self.preview_button = button("Preview templates", "Make the templates and show them", self.preview)
        self.starters.layout().addWidget(self.preview_button)
        self.strip = TemplateStrip()
        self.strip.setVisible(False)
        self.column.addWidget(self.strip)

    def preview(self) -> None:
        """Make the templates and show them; nothing is matched."""
        if self.job.running:
            return
        try:
            order = self.order(writes=False)
        except InputError as fault:
            self.job.say_fault(fault)
            return
        self._set_running(True)
        self.job.start(preview_steps(order))

    def show_preview(self, found: TemplatePreview) -> None:
        """Show templates."""
        labels = [f"{number + 1}" for number in found.view]
        self.strip.show_templates(found.images, labels, found.text())
        self.strip.setVisible(True)

    def _on_finished(self, finished: Any) -> None:
        if isinstance(finished, TemplatePreview):
            self._set_running(False)
            self.job.say("")
            self.show_preview(finished)
        else:
            super()._on_finished(finished)

    def show_view(self, view: PickView) -> None:
        """Show all picks over their micrographs, which are added where they are not there."""
        paths = tuple(view.micrographs.paths)
        shown = any(
            layer.metadata.get("paths") == paths and SHOWS not in layer.metadata for layer in self.viewer.layers
        )
        layers = self.show_layers(view.layers(with_micrographs=not shown))
        self.explorer.show_view(view, layers[-1])
        self.viewer.dims.ndisplay = 2
        self.viewer.dims.set_current_step(0, 0)

    def close_down(self) -> None:
        """Stop the job and let go of the viewer."""
        super().close_down()
        self.explorer.close_down()


class PickWidget(Previewing):
    """Picking by template matching, every pick with its q-value."""

    title = "Pick"
    model = PickParameters
    inputs = (MICROGRAPHS, TEMPLATES)
    basic = ("diameter", "fdr", "threshold", "lowpass", "angular_step", "symmetry", "contrast")
    stages = {"match": "Matching micrographs", "calibrate": "Counting false picks", "prepare": "Preparing templates"}  # noqa: RUF012

    def add_below(self) -> None:
        """Add templates, threshold and micrographs."""
        self.add_preview()
        self.explorer = PickExplorer(self.viewer)
        self.panel = self.explorer.threshold
        self.column.addWidget(self.explorer)
        self.use_button = button("Write picks at this threshold", "A run of its own beside this one", self.rethreshold)
        self.curate_button = button("Curate…", "Go on by hand in the Curate dock", self.curate)
        self.buttons = row_of(self.use_button, self.curate_button)
        self.column.addWidget(self.buttons)
        self.buttons.setVisible(False)

    def order(self, *, writes: bool = True) -> RunOrder:
        """Return a copy of all fields; a threshold that is given counts, not the share of false picks on offer."""
        entered = self.form.values()
        if "threshold" in entered and entered.get("fdr") == f"{field_defaults().get('fdr', 0):g}":
            self.form.set("fdr", None)
        return super().order(writes=writes)

    def steps(self, order: RunOrder) -> Generator[Progress, None, Finished]:
        """Return the job's steps."""
        return pick_steps(order)

    def folder_steps(self, folder: Path) -> Generator[Progress, None, Finished]:
        """Return the steps that open an output folder."""
        return pick_folder_steps(folder)

    def show_result(self, finished: Finished) -> None:
        """Show all candidates over their micrographs; the threshold hides those below it."""
        view = finished.extra
        self.explorer.setVisible(view is not None)
        self.buttons.setVisible(view is not None)
        if view is not None:
            self.fold.setChecked(False)
            self.show_view(view)

    def rethreshold(self) -> None:
        """Write picks at the threshold shown, from the same candidates."""
        if self.finished is None:
            return
        order = self.finished.order
        source, value = order.out, self.panel.threshold
        out = source.with_name(f"{source.name}_from_{value:.2f}")
        self._set_running(True)
        self.job.start(_rethreshold_steps(source, order, value, out))

    def curate(self) -> None:
        """Open the picks that were written in the Curate dock."""
        if self.finished is not None:
            picks = self.finished.files.get("picks", self.finished.order.out / "picks.star")
            open_dock(self.viewer, "Curate").open(picks)

    def _on_finished(self, finished: Any) -> None:
        if isinstance(finished, Path):
            self._set_running(False)
            self.job.say(f"Picks from {self.panel.threshold:.2f} up are in {finished}.")
            return
        super()._on_finished(finished)


def _rethreshold_steps(source: Path, order: RunOrder, value: float, out: Path) -> Generator[Progress, None, Path]:
    from napari_pickbias.runs.pick import run_rethreshold

    parameters = order.parameters.model_copy(update={"threshold": value, "fdr": None})
    run = yield from run_rethreshold(source, parameters, out, overwrite=out.exists())
    return run.directory
