"""A CryoSPARC project's jobs and their files, found by their names; of job.json, the title alone is read."""

from __future__ import annotations

import json
import re
from pathlib import Path

from napari_pickbias.records.projects import Kind, Project, ProjectFile, ProjectJob

_JOB = re.compile(r"J(\d+)$")
_ITERATION = re.compile(r"^(.*?)_(\d{3,5})_(.*)$")
_NAMES: tuple[tuple[Kind, str], ...] = (
    (
        "particles",
        r".*particles\w*\.cs|.*particles\w*\.csg|picked\w*\.cs|extracted\w*\.cs|kept\w*\.csg?|rejected\w*\.csg?",
    ),
    ("map", r".*volume_(map|map_sharp|mask\w*)\.mrc|.*_map(_sharp)?\.mrc|mode_\d+(_plus|_minus)?\.mrc"),
    ("images", r".*class_averages\.mrc|.*templates?\w*\.mrc"),
)
_PATTERNS = tuple((kind, re.compile(pattern)) for kind, pattern in _NAMES)


def open_project(folder: Path) -> Project | None:
    """Return the CryoSPARC project in a folder (or the one job or export, where the folder is that), or None."""
    folder = folder.absolute()
    jobs = [(int(m[1]), p) for p in folder.iterdir() if (m := _JOB.fullmatch(p.name)) and p.is_dir()]
    if jobs:
        return Project(folder, "CryoSPARC", tuple(p for _, p in sorted(jobs)), read_job)
    names = {p.suffix for p in folder.iterdir()}
    if names & {".cs", ".csg"} or (_JOB.fullmatch(folder.name) and (folder / "job.json").is_file()):
        return Project(folder.parent, "CryoSPARC", (folder,), read_job)
    return None


def read_job(folder: Path) -> ProjectJob:
    """Return a job and its files; of files that a job writes every iteration, the last."""
    kinds = {p: kind for p in sorted(folder.iterdir()) if (kind := _kind(p.name)) is not None}
    last: dict[tuple[str, str], str] = {}
    for path in kinds:
        match = _ITERATION.match(path.name)
        if match:
            key = (match[1], match[3])
            last[key] = max(match[2], last.get(key, ""))
    order = [kind for kind, _ in _NAMES]
    files = [
        ProjectFile(path, kind)
        for path, kind in kinds.items()
        if (match := _ITERATION.match(path.name)) is None or last[match[1], match[3]] == match[2]
    ]
    return ProjectJob(folder.name, _title(folder), tuple(sorted(files, key=lambda f: order.index(f.kind))))


def _kind(name: str) -> Kind | None:
    if "passthrough" in name:  # found beside the main file, which needs it
        return None
    return next((kind for kind, pattern in _PATTERNS if pattern.fullmatch(name)), None)


def _title(folder: Path) -> str:
    try:
        job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
        spec = job.get("spec") or {}
        return str(job.get("title") or job.get("job_type") or job.get("type") or spec.get("type") or "")
    except (OSError, ValueError, AttributeError):
        return ""
