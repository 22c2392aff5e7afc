"""``pickbias_relion_outliers``: outlier removal as RELION's External job."""

from __future__ import annotations

import json
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_pickbias.errors import InputError
from pickbias_relion.external import Job, Outcome, Program, run_external
from pickbias_relion.external_arguments import Call

if TYPE_CHECKING:
    from napari_pickbias.jobs.outlier_parameters import OutlierParameters
    from napari_pickbias.jobs.progress import Progress


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; see :func:`pickbias_relion.external.run_external`."""
    return run_external(PROGRAM, arguments)


def load() -> Job:
    """Return the job; numerical libraries are loaded here and not before."""
    from napari_pickbias.jobs.outlier_parameters import OutlierParameters

    return Job(OutlierParameters, run)


def run(call: Call, parameters: OutlierParameters) -> Generator[Progress, None, Outcome]:
    """Run outlier removal in the job's directory; yields progress, returns what to announce.

    Raises
    ------
    InputError
        Everything the user can mend, among it "nothing was kept".
    """
    from napari_pickbias.records import open_particles
    from napari_pickbias.runs.outliers import run_outliers
    from pickbias_relion.nodes import Node

    particles = Path(call.inputs["in_parts"])
    if particles.suffix.lower() != ".star":
        raise InputError(
            f'--in_parts {particles}: is no STAR file; choose one under "Input particles" on the Input tab'
        )
    source = open_particles(particles)
    _forget_incomplete_run(call.directory)
    finished = yield from run_outliers(
        source, parameters, call.directory, threads=call.threads, shared=True, report_name="logfile"
    )
    if "kept" not in finished.files:
        raise InputError(f"{call.directory / 'kept.star'}: is missing; run the job again")
    kinds = {"kept": "particles", "rejected": "particles", "pdf": "log"}
    nodes = [Node(finished.files[key], kind) for key, kind in kinds.items() if key in finished.files]
    summary = finished.summary or _read_json(call.directory / "summary.json")
    return Outcome(nodes, closing_lines(summary["results"], finished.files))


def closing_lines(results: dict[str, Any], files: dict[str, Path]) -> list[str]:
    """Return the last lines of ``run.out``: counts, what to know about them, and where the files are."""
    kept, total = results["kept"], results["particles"]
    reasons = ", ".join(f"{count} {reason}" for reason, count in results["rejected_by_reason"].items())
    lines = [f"kept {kept} of {total} particles ({kept / total:.1%}); rejected: {reasons}"]
    if results.get("expected_fdr") is not None:
        lines.append(f"expected share of bad particles among the kept: {results['expected_fdr']:.1%}")
    lines += [f"WARNING: {text}" for text in results.get("warnings", [])]
    names = {"kept": "kept particles", "rejected": "rejected particles", "html": "report", "pdf": "report as PDF"}
    return lines + [f"{name}: {files[key]}" for key, name in names.items() if key in files]


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
    "pickbias_relion_outliers", load, needs=("in_parts",), outputs=("kept.star", "rejected.star", "logfile.pdf")
)
