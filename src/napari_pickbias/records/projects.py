"""Projects of the pipelines: their jobs, and the files of each that can be looked at.

The adapters announce themselves through the entry point group ``napari_pickbias.projects``, one entry per pipeline.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Literal

from napari_pickbias.errors import InputError

PROJECTS = "napari_pickbias.projects"

Kind = Literal["micrographs", "picks", "particles", "map", "images"]
"""What a file holds; "images" are class averages and templates."""


@dataclass(frozen=True)
class ProjectFile:
    """A file of a job that can be opened."""

    path: Path
    kind: Kind


@dataclass(frozen=True)
class ProjectJob:
    """A job and what it made.

    Attributes
    ----------
    name : str
        As the pipeline calls it: ``Class2D/job010``, ``J30``.
    title : str
        The user's own name for it, or its type.
    files : tuple of ProjectFile
        What it made, what matters most first.
    """

    name: str
    title: str
    files: tuple[ProjectFile, ...]


@dataclass(frozen=True)
class Project:
    """A project folder, or a single job of one.

    Attributes
    ----------
    root : Path
    pipeline : str
        "RELION" or "CryoSPARC".
    job_folders : tuple of Path
        In the order in which the pipeline numbers them.
    read_job : callable
        Gives the job of a folder; it may take a while on a network disk.
    """

    root: Path
    pipeline: str
    job_folders: tuple[Path, ...]
    read_job: Callable[[Path], ProjectJob]

    def jobs(self) -> Iterator[ProjectJob]:
        """Yield the jobs, one after another."""
        return map(self.read_job, self.job_folders)


def open_project(folder: str | Path) -> Project:
    """Open a project, or a job folder of one, of any pipeline known here.

    Raises
    ------
    InputError
        When the folder is not there, or no pipeline knows it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; choose the folder of a project, or of one of its jobs")
    for entry in sorted(entry_points(group=PROJECTS), key=lambda e: e.name):
        project: Project | None = entry.load()(folder)
        if project is not None:
            return project
    raise InputError(
        f"{folder}: is neither a RELION project (no folders such as Extract/job009) nor a CryoSPARC project or job "
        "(no folders such as J30, no .cs files); choose the folder that holds the jobs"
    )
