"""What a RELION project tells about itself: which release wrote it, and how it names files."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path
from typing import Literal

Release = Literal["3.1", "4.0", "5.0"]
"""Releases that differ in what they call things; later ones speak as the last of these."""

OUTPUT_NODES = "RELION_OUTPUT_NODES.star"
"""The file in its directory by which a job announces what it made."""

_NUMBERED = {"_rlnJobType", "_rlnPipeLineProcessType", "_rlnPipeLineNodeType"}
_LABELLED = {"_rlnJobTypeLabel", "_rlnPipeLineProcessTypeLabel", "_rlnPipeLineNodeTypeLabel"}


def relion_release(job_directory: Path) -> Release | None:
    """Return the release of RELION that runs a job, or None where nothing tells it.

    Parameters
    ----------
    job_directory : Path
        ``External/jobNNN``. RELION writes ``job.star`` into it before it starts the job; where there is none, the
        project's ``default_pipeline.star`` is asked.

    Notes
    -----
    3.1 numbers its job and node types; 4.0 and 5.0 label them and differ in the version tag, 30001 and 50001
    (RELION 3.1.3, 4.0.1, 5.0.1: src/pipeline_jobs.cpp, src/pipeliner.cpp).
    """
    for file in (job_directory / "job.star", job_directory / ".." / ".." / "default_pipeline.star"):
        with contextlib.suppress(OSError):
            release = _release_of(file.read_text(encoding="utf-8", errors="replace"))
            if release is not None:
                return release
    return None


def _release_of(text: str) -> Release | None:
    labels = {line.split()[0] for line in text.splitlines() if line.startswith("_rln")}
    if labels & _LABELLED:
        tags = [int(tag) for tag in re.findall(r"^# version (\d+)", text, flags=re.MULTILINE)]
        # Without a tag a file may be of either; the later one is the likelier.
        return "5.0" if not tags or max(tags) >= 50001 else "4.0"
    return "3.1" if labels & _NUMBERED else None


def project_path(path: str | Path) -> str:
    """Return ``path`` as RELION names it: relative to the project (the current directory), no ``./``, no ``//``.

    A path outside the project comes back absolute.
    """
    text = os.path.normpath(path)
    if os.path.isabs(text):  # noqa: PTH117 (text, so that no symbolic link is followed unasked)
        here = Path.cwd()
        for candidate in (Path(text), Path(text).resolve()):
            if candidate.is_relative_to(here):
                return candidate.relative_to(here).as_posix()
    return Path(text).as_posix()
