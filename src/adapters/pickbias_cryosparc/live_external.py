"""An external job of CryoSPARC through cryosparc-tools, 5.x and 4.x, with the client's traps stepped round.

What the client does by itself and why it is not left to it (5.0.3, 4.7.1): ``with job.run()`` marks a job completed on
Ctrl-C; a long error text travels in a URL and can be lost with the job left running; an upload that is tried again is
sent empty; the text of a plot becomes a file name.
"""

from __future__ import annotations

import contextlib
import io
import re
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from napari_pickbias.errors import InputError
from pickbias_cryosparc.live_job import Datatype, Input, slot_spec
from pickbias_cryosparc.live_session import ServerGoneError, Session, first_line

LONGEST_ERROR = 600
"""Characters of the line that a job fails with: it becomes part of a URL, which proxies cut at a few thousand."""
LONGEST_LOG = 20_000
UPLOAD_TRIES, UPLOAD_PAUSE_SECONDS = 3, 1.0


@dataclass(frozen=True)
class SourceOutput:
    """An output of a job that an input is taken from."""

    name: str
    type: str
    slots: frozenset[str]
    count: int


def source_outputs(session: Session, project: Any, job_uid: str) -> dict[str, SourceOutput]:
    """Return the outputs of a job by name."""
    job = session.call(f"find job {job_uid} in {project.uid}", project.find_job, job_uid)
    found: dict[str, SourceOutput] = {}
    if session.major >= 5:
        for name, output in job.model.spec.outputs.root.items():
            results = [r for r in output.results if r.metafiles]
            count = max([r.num_items[-1] for r in results if r.num_items], default=output.num_items)
            found[name] = SourceOutput(name, output.type, frozenset(r.name for r in results), count)
        return found
    for group in job.doc["output_result_groups"]:
        results = [r for r in job.doc["output_results"] if r["group_name"] == group["name"] and r["metafiles"]]
        count = max((r["num_items"][-1] for r in results if r["num_items"]), default=0)
        found[group["name"]] = SourceOutput(group["name"], group["type"], frozenset(r["name"] for r in results), count)
    return found


@dataclass
class ExternalJob:
    """An external job of ours; made with :func:`create_external_job`.

    Attributes
    ----------
    session, project, job
        The session, and the client's own objects.
    tell : callable
        Says a line at the terminal.
    ended : bool
        It was marked completed or failed.
    """

    session: Session
    project: Any
    job: Any
    tell: Callable[[str], None]
    ended: bool = False
    _mute: bool = field(default=False, repr=False)

    @property
    def uid(self) -> str:
        """Such as ``J43``."""
        return str(self.job.uid)

    def folder(self, job: Any = None) -> Path:
        """Return the folder of this job, or of another one of the project, as seen from here.

        Raises ``InputError`` when it is not on this machine, or outside the project's own folder.
        """
        job = job or self.job
        of_job, of_project = (
            Path(str(self.session.call(f"find the folder of {who.uid}", self._directory, who)))
            for who in (job, self.project)
        )
        if not of_job.is_dir():
            raise InputError(
                f"{of_job}: the folder of {job.uid} is not on this machine; run where CryoSPARC's project folder "
                "is mounted under the same path"
            )
        if not of_job.resolve().is_relative_to(of_project.resolve()):
            raise InputError(f"{of_job}: lies outside the project's folder {of_project}, so nothing is written there")
        return of_job

    def _directory(self, who: Any) -> Any:
        return who.dir() if self.session.major < 5 else who.dir

    def project_folder(self) -> Path:
        """Return the project's folder, which paths in datasets start from."""
        return Path(str(self.session.call(f"find the folder of {self.project.uid}", self._directory, self.project)))

    def in_project(self, path: Path) -> str:
        """Return a path as datasets have it: from the project's folder."""
        return path.resolve().relative_to(self.project_folder().resolve()).as_posix()

    def add_input(self, wanted: Input, source_job: str, source_output: str) -> None:
        """Add an input and connect it."""
        what = f"connect {source_job}.{source_output}"
        slots = [slot_spec(slot, self.session.major) for slot in wanted.slots]
        title = wanted.name.capitalize()
        self.session.call(what, self.job.add_input, wanted.type, wanted.name, min=1, max=1, slots=slots, title=title)
        self.session.call(what, self.job.connect, wanted.name, source_job, source_output)

    def add_output(self, kind: Datatype, name: str, slots: Sequence[str], title: str, passthrough: str = "") -> None:
        """Add an output that makes ``slots`` and inherits the rest from the input ``passthrough``."""
        specs = [slot_spec(slot, self.session.major) for slot in slots]
        inherit = {"passthrough": passthrough} if passthrough else {}
        what = f"add the output {name}"
        self.session.call(what, self.job.add_output, kind, name, slots=specs, title=title, **inherit)

    def start(self) -> None:
        """Mark the job as running."""
        self.session.do(f"start {self.uid}", self.job.start, "running")

    def load(self, name: str) -> Any:
        """Return the dataset of an input with all its slots."""
        return self.session.call(f"load {name}", self.job.load_input, name)

    def required_fields(self, output: str) -> list[tuple[str, str]]:
        """Return name and type of each field that CryoSPARC wants in an output."""
        if self.session.major >= 5:
            ask = self.session.client.api.jobs.get_output_fields
            fields = self.session.call(f"list the fields of {output}", ask, self.project.uid, self.uid, output, {})
            return [(str(name), str(dtype)) for name, dtype in fields]
        results = [r for r in self.job.doc["output_results"] if r["group_name"] == output and not r.get("passthrough")]
        prefixed = [
            (n if "/" in n else f"{r['name']}/{n}", str(t)) for r in results for n, t in r.get("min_fields", [])
        ]
        return [(name, dtype) for name, dtype in prefixed if name.rpartition("/")[2] != "uid"]

    def save(self, output: str, dataset: Any) -> None:
        """Send an output; what failed on the way is sent whole again, which the client itself does not do.

        Raises ``InputError`` when it does not arrive, or CryoSPARC does not take it.
        """
        for attempt in range(1, UPLOAD_TRIES + 1):
            try:
                with _caught_warnings() as texts:
                    self.session.do(f"save {output}", self.job.save_output, output, dataset)
                return
            except InputError as fault:
                # A refusal after a broken transfer is that of the empty body the client sent next.
                broken = isinstance(fault, ServerGoneError) or any("failed due to" in text for text in texts)
                if not broken or attempt == UPLOAD_TRIES:
                    raise
                self.tell(f"sending {output} failed ({self.session.safe(str(fault))}); it is sent again")
                time.sleep(UPLOAD_PAUSE_SECONDS * attempt)

    def log(self, text: str, level: str = "text") -> None:
        """Say a line here and in the event log; a server that does not answer costs no work."""
        text = self.session.safe(text)
        if level != "error":
            self.tell(f"warning: {text}" if level == "warning" else text)
        shown = text if level != "warning" or self.session.major >= 5 else f"WARNING: {text}"
        # 4.x knows but text and errors, and what is marked as an error looks like a failed job.
        known = level if self.session.major >= 5 or level == "error" else "text"
        self._try("write to the event log", self.job.log, shown[:LONGEST_LOG], level=known)

    def progress(self, text: str) -> None:
        """Show how far the job is: one line of the event log that changes."""
        options = {"name": "progress"} if self.session.major >= 5 else {}
        self._try("show the progress", self.job.log, text, **options)

    def plot(self, title: str, png: bytes) -> None:
        """Show a picture in the event log."""
        # The title becomes a part of a URL and a file name.
        name = re.sub(r"[^\w .,()%-]+", " ", title)[:80].strip() or "plot"
        self._try("send a plot", self.job.log_plot, io.BytesIO(png), name, formats=["png"])

    def tile(self, png: bytes, *outputs: str) -> None:
        """Set the picture of the job's card and of outputs; CryoSPARC 4 has none."""
        if self.session.major < 5:
            return
        self._try("set the tile image", self.job.set_tile_image, io.BytesIO(png))
        for output in outputs:
            self._try(f"set the image of {output}", self.job.set_output_image, output, io.BytesIO(png))

    def complete(self) -> None:
        """Mark the job as completed."""
        self.session.do(f"complete {self.uid}", self.job.stop)
        self.ended = True

    def fail(self, line: str) -> bool:
        """Mark the job as failed with one line; return whether that was possible. Never raises an ``Exception``."""
        if self.ended:
            return True
        line = self.session.safe(" ".join(line.split()))
        short = line if len(line) <= LONGEST_ERROR else line[: LONGEST_ERROR - 1] + "…"
        try:
            with _caught_warnings():
                if self.session.major >= 5:
                    self.session.do(f"stop {self.uid}", self.job.stop, error=short)
                else:
                    self.session.do("log", self.job.log, short, level="error")
                    self.session.do(f"stop {self.uid}", self.job.stop, error=True)
        except Exception:
            return False
        self.ended = True
        return True

    def _try(self, what: str, function: Callable[..., Any], *arguments: Any, **options: Any) -> None:
        try:
            with _caught_warnings():
                self.session.do(what, function, *arguments, **options)
            self._mute = False
        except Exception as fault:
            if not self._mute:
                self.tell(f"warning: {self.session.safe(first_line(fault))}")
            self._mute = True


@contextlib.contextmanager
def _caught_warnings() -> Iterator[list[str]]:
    """Keep the client's warnings (each failed attempt is one) from the terminal; gives their texts."""
    texts: list[str] = []

    def keep(message: Warning | str, *place: Any, **more: Any) -> None:
        texts.append(str(message))

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = keep
        yield texts


def create_external_job(
    session: Session, project_uid: str, workspace_uid: str, title: str, tell: Callable[[str], None]
) -> ExternalJob:
    """Make an external job in a workspace.

    Raises ``InputError`` when project or workspace are not there or the server does not answer.
    """
    project = session.call(f"find project {project_uid}", session.client.find_project, project_uid)
    what = f"create an external job in {project_uid} {workspace_uid}"
    job = session.call(what, project.create_external_job, workspace_uid, title=title)
    return ExternalJob(session, project, job, tell)


def missing_field(dataset: Any, required: list[tuple[str, str]]) -> str:
    """Return the first required field that a dataset lacks or has in another type, said in words; else ''."""
    there = {entry[0]: entry for entry in dataset.descr()}
    for name, dtype in required:
        if name not in there:
            return f"has no field '{name}'"
        wanted = np.dtype(dtype)
        base, shape = wanted.subdtype or (wanted, ())
        have = there[name]
        found = np.dtype(have[1]), tuple(have[2]) if len(have) > 2 else ()
        if base.kind != "O" and (found[0] != base or found[1] != shape):
            return f"has '{name}' as {found[0]}{list(found[1]) or ''}, not as {dtype}"
    return ""
