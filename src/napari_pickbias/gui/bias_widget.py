"""The dock "Picks and bias": how much of picks and averages is the template's, told in the order of the report."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import numpy as np

from napari_pickbias.errors import InputError
from napari_pickbias.gui.bias_storyboard import Storyboard
from napari_pickbias.gui.bias_work import BiasShown
from napari_pickbias.gui.docked import button, open_dock, row_of
from napari_pickbias.gui.pick_explorer import PickExplorer
from napari_pickbias.gui.pick_widget import MICROGRAPHS, TEMPLATES, Previewing
from napari_pickbias.gui.run_folders import bias_folder_steps
from napari_pickbias.gui.run_widget import MOST_NOTES, STAR, Input
from napari_pickbias.gui.run_work import Finished, RunOrder, bias_steps
from napari_pickbias.jobs.bias_parameters import BiasParameters
from napari_pickbias.jobs.progress import Progress

PICKS = "picks_scored.star"


class BiasWidget(Previewing):
    """How much of picks and class averages comes from the template."""

    title = "Picks and bias"
    model = BiasParameters
    inputs = (
        MICROGRAPHS,
        TEMPLATES,
        Input("picks", "Picks", "of any program (.star, .cs, .box); empty: the templates pick", STAR, needed=False),
    )
    basic = ("diameter", "threshold", "fdr", "lowpass", "angular_step", "symmetry", "contrast")
    stages = {  # noqa: RUF012
        "prepare": "Preparing templates",
        "match": "Matching micrographs and noise",
        "averages": "Averaging picks, and picks of noise",
        "conclude": "Concluding",
    }

    def add_below(self) -> None:
        """Add the story, and the picks to look through."""
        self.storyboard = Storyboard(str(self.viewer.theme), self.words)
        self.storyboard.setVisible(False)
        self.column.insertWidget(self.column.indexOf(self.result), self.storyboard)  # the verdict stands on top
        self.add_preview()
        self.explorer = PickExplorer(self.viewer)
        self.column.addWidget(self.explorer)
        self.curate_button = button("Curate the picks…", "Go on by hand in the Curate dock", self.curate)
        self.buttons = row_of(self.curate_button)
        self.buttons.setVisible(False)
        self.column.addWidget(self.buttons)

    def steps(self, order: RunOrder) -> Generator[Progress, None, Finished]:
        """Return the job's steps."""
        return bias_steps(order)

    def folder_steps(self, folder: Path) -> Generator[Progress, None, Finished]:
        """Return the steps that open an output folder."""
        return bias_folder_steps(folder)

    def show_result(self, finished: Finished) -> None:
        """Tell the story in the dock, and show the picks over their micrographs."""
        shown = finished.extra
        self.buttons.setVisible((finished.order.out / PICKS).exists())
        if not isinstance(shown, BiasShown):
            return
        self.fold.setChecked(False)
        notes = "<br>".join(f"Note: {self.words(text)}" for text in finished.warnings[:MOST_NOTES])
        self.result.setText(notes)  # the headline stands in the story
        self.result.setVisible(bool(notes))
        self.storyboard.show_story(shown.story)
        self.storyboard.setVisible(True)
        templates = shown.story.pictures.get("templates")
        if templates is not None:
            counts = shown.story.counts()
            order = np.argsort(-counts, kind="stable")
            labels = [f"{view + 1}: {counts[view]}" for view in order]
            some = f"{len(templates)} views, those with most picks first; below each its number and its picks."
            self.strip.show_templates(templates[order], labels, some)
            self.strip.setVisible(True)
        self.explorer.setVisible(shown.view is not None)
        if shown.view is not None:
            self.show_view(shown.view)

    def curate(self) -> None:
        """Open the scored picks in the Curate dock."""
        if self.finished is None:
            return
        path = self.finished.order.out / PICKS
        if path.exists():
            open_dock(self.viewer, "Curate").open(path)
        else:
            self.job.say_fault(InputError(f"{path}: is not there; run the diagnosis again"))
