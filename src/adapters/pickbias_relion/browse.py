"""A RELION project's jobs and their files, found by their names: no file is opened."""

from __future__ import annotations

import re
from pathlib import Path

from napari_pickbias.records.projects import Kind, Project, ProjectFile, ProjectJob

_JOB = re.compile(r"job(\d{3,})$")
_ITERATION = re.compile(r"(.*_it)(\d{3})(_.*)$")
_NAMES: tuple[tuple[Kind, str], ...] = (
    ("particles", r"(particles(_\w+)?|run_data|shiny|kept|rejected|run(_ct\d+)?_it\d{3}_data|selected\w*)\.star"),
    ("picks", r"(autopick|manualpick|picks\w*|coordinates|coords_suffix_\w+)\.star"),
    ("micrographs", r"(corrected_micrographs|micrographs\w*|filtered_micrographs)\.star"),
    ("map", r"(run_class\d+|run_half\d_class\d+_unfil|run(_ct\d+)?_it\d{3}_class\d+|postprocess(_masked)?|mask"
            r"|initial_model|mode_\d+(_plus|_minus)?|uncertainty|map)\.mrc"),
    ("images", r"(run_it\d{3}_classes|class_averages|predicted_bias)\.mrcs"),
)  # fmt: skip
_PATTERNS = tuple((kind, re.compile(pattern)) for kind, pattern in _NAMES)


def open_project(folder: Path) -> Project | None:
    """Return the RELION project in a folder (or the one job, where the folder is a job's), or None."""
    folder = folder.absolute()
    if _JOB.search(folder.name):
        return Project(folder.parent.parent, "RELION", (folder,), read_job)
    found = [
        (int(match[1]), job)
        for kind in sorted(folder.iterdir())
        if kind.is_dir() and not kind.name.startswith(".")
        for job in _job_folders(kind)
        if (match := _JOB.search(job.name))
    ]
    if not found:
        return None
    return Project(folder, "RELION", tuple(job for _, job in sorted(found)), read_job)


def _job_folders(kind: Path) -> list[Path]:
    try:
        return [p for p in kind.iterdir() if _JOB.fullmatch(p.name) and p.is_dir() and not p.is_symlink()]
    except OSError:  # not ours to read
        return []


def read_job(folder: Path) -> ProjectJob:
    """Return a job and its files; of files that a job writes every iteration, the last."""
    kinds = {path: kind for path in sorted(folder.iterdir()) if (kind := _kind(path.name)) is not None}
    last: dict[tuple[str, str], str] = {}
    for path in kinds:
        match = _ITERATION.match(path.name)
        if match:
            last[match[1], match[3]] = max(match[2], last.get((match[1], match[3]), ""))
    order = [kind for kind, _ in _NAMES]
    files = [
        ProjectFile(path, kind)
        for path, kind in kinds.items()
        if (match := _ITERATION.match(path.name)) is None or last[match[1], match[3]] == match[2]
    ]
    name = f"{folder.parent.name}/{folder.name}"
    return ProjectJob(
        name, _alias(folder) or folder.parent.name, tuple(sorted(files, key=lambda f: order.index(f.kind)))
    )


def _kind(name: str) -> Kind | None:
    return next((kind for kind, pattern in _PATTERNS if pattern.fullmatch(name)), None)


def _alias(folder: Path) -> str:
    """Return the user's name for a job, which RELION keeps as a link beside it."""
    for other in sorted(folder.parent.iterdir()):
        if other.is_symlink() and other.resolve() == folder.resolve():
            return other.name
    return ""
