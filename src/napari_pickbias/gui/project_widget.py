"""The "Open project" dock: a RELION or CryoSPARC project's jobs, and their files one click away."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFileDialog, QHeaderView, QLineEdit, QTreeWidget, QTreeWidgetItem, QVBoxLayout

from napari_pickbias.errors import InputError
from napari_pickbias.gui.docked import Docked, JobBar, button, open_dock, row_of
from napari_pickbias.gui.preferences import PLUGIN
from napari_pickbias.jobs.progress import Progress
from napari_pickbias.records.projects import Project, ProjectJob, open_project

if TYPE_CHECKING:
    from napari.viewer import Viewer

PATH, KIND = Qt.ItemDataRole.UserRole, Qt.ItemDataRole.UserRole + 1


def project_steps(folder: Path) -> Generator[Progress, None, tuple[Project, list[ProjectJob]]]:
    """Read a project's jobs; yields :class:`Progress`.

    Raises
    ------
    InputError
        When the folder is no project.
    """
    yield Progress("look", 0, 1, str(folder))
    project = open_project(folder)
    jobs = []
    for number, job in enumerate(project.jobs(), 1):
        jobs.append(job)
        yield Progress("look", number, len(project.job_folders))
    return project, jobs


class ProjectWidget(Docked):
    """Jobs of a project; their files are shown, curated, or handed to a job.

    Parameters
    ----------
    napari_viewer : napari.viewer.Viewer
    """

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__()
        self.viewer = napari_viewer
        self.folder = QLineEdit(placeholderText="folder of a RELION or CryoSPARC project, or of one job")
        self.folder.returnPressed.connect(self.open)
        self.job = JobBar("Open project", {"look": "Looking through the jobs"})
        self.job.finished.connect(self._on_finished)
        self.tree = QTreeWidget()
        self.tree.setHeaderLabels(["job, file", "what"])
        self.tree.header().setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        self.tree.header().setSectionResizeMode(1, QHeaderView.ResizeMode.ResizeToContents)
        self.tree.header().setStretchLastSection(False)
        self.tree.currentItemChanged.connect(self._on_current)
        self.tree.itemDoubleClicked.connect(lambda *_: self.show_file())
        self.show_button = button("Show", "Open the file as layers", self.show_file)
        self.curate_button = button("Curate", "Open the picks or particles in the Curate dock", self.curate)
        self.outlier_button = button("Outliers", "Take the particles into Remove outliers", self.outliers)
        column = QVBoxLayout(self)
        column.setContentsMargins(6, 6, 6, 6)
        column.addWidget(self.folder)
        column.addWidget(row_of(button("Browse…", "Choose a folder", self._browse), button("Open", "Look", self.open)))
        column.addWidget(self.job)
        column.addWidget(self.tree, stretch=1)
        column.addWidget(row_of(self.show_button, self.curate_button, self.outlier_button))
        self.setMinimumWidth(360)
        self._on_current()

    def open(self, folder: str | Path | None = None) -> None:
        """Look through a project."""
        if folder is not None:
            self.folder.setText(str(folder))
        text = self.folder.text().strip()
        if not text:
            self.job.say_fault(InputError("“Open”: no folder is named; choose the folder of a project or of a job"))
            return
        self.job.start(project_steps(Path(text).expanduser().absolute()))

    def _on_finished(self, value: Any) -> None:
        project, jobs = value
        self.tree.clear()
        shown = [job for job in jobs if job.files]
        for job in reversed(shown):  # the latest are what one works on
            item = QTreeWidgetItem([job.name, job.title if job.title != job.name.split("/")[0] else ""])
            for file in job.files:
                child = QTreeWidgetItem([file.path.name, file.kind])
                child.setData(0, PATH, str(file.path))
                child.setData(0, KIND, file.kind)
                item.addChild(child)
            self.tree.addTopLevelItem(item)
        if shown:
            self.tree.topLevelItem(0).setExpanded(True)
        others = len(jobs) - len(shown)
        without = f"; {others} have nothing to show" if others else ""
        self.job.say(f"{project.pipeline} project {project.root}: {len(jobs)} jobs{without}.")

    @property
    def chosen(self) -> tuple[str, str] | None:
        """Path and kind of the file that is chosen."""
        item = self.tree.currentItem()
        path = item.data(0, PATH) if item is not None else None
        return (path, item.data(0, KIND)) if path else None

    def show_file(self) -> None:
        """Open the chosen file as layers."""
        if self.chosen is not None:
            try:
                self.viewer.open(self.chosen[0], plugin=PLUGIN)
            except InputError as fault:
                self.job.say_fault(fault)

    def curate(self) -> None:
        """Open the chosen picks or particles in the Curate dock."""
        if self.chosen is not None:
            open_dock(self.viewer, "Curate").open(self.chosen[0])

    def outliers(self) -> None:
        """Take the chosen particles into the dock that removes outliers."""
        if self.chosen is not None:
            open_dock(self.viewer, "Remove outliers").form.set_source(self.chosen[0])

    def close_down(self) -> None:
        """Stop looking."""
        self.job.drop()

    def _on_current(self, *_ignored: object) -> None:
        kind = self.chosen[1] if self.chosen is not None else ""
        self.show_button.setEnabled(bool(kind))
        self.curate_button.setEnabled(kind in ("picks", "particles"))
        self.outlier_button.setEnabled(kind == "particles")

    def _browse(self) -> None:
        path = QFileDialog.getExistingDirectory(self, "Project", self.folder.text())
        if path:
            self.open(path)
