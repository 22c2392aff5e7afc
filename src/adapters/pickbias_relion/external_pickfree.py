"""``pickbias_relion_pickfree``: reconstruction without picking as RELION's External job."""

from __future__ import annotations

import json
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_pickbias.errors import InputError
from pickbias_relion.external import Job, Outcome, Program, run_external
from pickbias_relion.external_arguments import Call

if TYPE_CHECKING:
    from napari_pickbias.jobs.pickfree_parameters import PickfreeParameters
    from napari_pickbias.jobs.progress import Progress

MAPS = ("map", "half1", "half2")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; see :func:`pickbias_relion.external.run_external`."""
    return run_external(PROGRAM, arguments)


def load() -> Job:
    """Return the job; numerical libraries are loaded here and not before."""
    from napari_pickbias.jobs.pickfree_parameters import PickfreeParameters

    return Job(PickfreeParameters, run)


def run(call: Call, parameters: PickfreeParameters) -> Generator[Progress, None, Outcome]:
    """Reconstruct in the job's directory; yields progress, returns what to announce.

    Raises
    ------
    InputError
        Everything the user can mend.
    """
    from napari_pickbias.runs.pickfree import outcome_of, run_pickfree
    from pickbias_relion.nodes import Node

    micrographs = Path(call.inputs["in_mics"])
    if micrographs.suffix.lower() != ".star":
        raise InputError(
            f'--in_mics {micrographs}: is no STAR file; choose one under "Input micrographs" on the Input tab'
        )
    _forget_incomplete_run(call.directory)
    finished = yield from run_pickfree(
        micrographs, call.inputs["in_3dref"], parameters, call.directory, threads=call.threads, shared=True,
        report_name="logfile",
    )  # fmt: skip
    nodes = [Node(call.directory / f"{name}.mrc", "map") for name in MAPS]
    nodes.append(Node(call.directory / "logfile.pdf", "log"))
    results = finished.summary["results"]
    lines = [outcome_of(finished.summary)]
    lines += [f"WARNING: {text}" for text in results.get("warnings", [])]
    lines += [f"map: {call.directory / 'map.mrc'}", f"report: {call.directory / 'report.html'}"]
    return Outcome(nodes, lines)


def _forget_incomplete_run(directory: Path) -> None:
    """Take back the mark of a finished run whose files are not all there any more, so that it is done again."""
    from napari_pickbias.runs.directory import STATE

    outputs = _read_json(directory / STATE / "outputs.json")
    if not outputs or not all((directory / name).exists() for name in outputs):
        (directory / STATE / "finished").unlink(missing_ok=True)


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


PROGRAM = Program(
    "pickbias_relion_pickfree",
    load,
    needs=("in_mics", "in_3dref"),
    outputs=("map.mrc", "half1.mrc", "half2.mrc", "logfile.pdf"),
)
