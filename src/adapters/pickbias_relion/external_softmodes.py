"""``pickbias_relion_softmodes``: soft modes as RELION's External job, after a 3-D refinement."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_pickbias.errors import InputError
from pickbias_relion.external import Job, Outcome, Program, run_external
from pickbias_relion.external_arguments import Call

if TYPE_CHECKING:
    from napari_pickbias.jobs.progress import Progress
    from napari_pickbias.jobs.softmodes_parameters import SoftmodesParameters


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; see :func:`pickbias_relion.external.run_external`."""
    return run_external(PROGRAM, arguments)


def load() -> Job:
    """Return the job; numerical libraries are loaded here and not before."""
    from napari_pickbias.jobs.softmodes_parameters import SoftmodesParameters

    return Job(SoftmodesParameters, run)


def run(call: Call, parameters: SoftmodesParameters) -> Generator[Progress, None, Outcome]:
    """Find soft modes in the job's directory; yields progress, returns what to announce.

    Without ``--noise`` the refinement's own ``run_model.star`` is used where it lies beside the particles.

    Raises
    ------
    InputError
        Everything the user can mend.
    """
    from threadpoolctl import threadpool_limits

    from napari_pickbias.records import open_particles
    from napari_pickbias.runs.softmodes import run_softmodes
    from pickbias_relion.nodes import Node

    particles = Path(call.inputs["in_parts"])
    if particles.suffix.lower() != ".star":
        raise InputError(
            f'--in_parts {particles}: is no STAR file; choose one under "Input particles" on the Input tab'
        )
    model = model_beside(particles)
    if parameters.noise is None and model is not None:
        parameters = parameters.model_copy(update={"noise": str(model)})
    source = open_particles(particles)
    _forget_incomplete_run(call.directory)
    with threadpool_limits(limits=call.threads):
        finished = yield from run_softmodes(
            call.inputs["in_3dref"], source, parameters, call.directory, mask_path=call.inputs.get("in_mask"),
            threads=call.threads, shared=True, report_name="logfile",
        )  # fmt: skip
    files = {name: call.directory / name for name in OUTPUTS}
    kinds = {"uncertainty.mrc": "map", "particles_softmodes.star": "particles", "logfile.pdf": "log"}
    nodes = [
        Node(path, kinds.get(name, "map"))
        for name, path in files.items()
        if path.exists() and _of_run(name, parameters)
    ]
    summary = finished.summary or _read_json(call.directory / "summary.json")
    return Outcome(nodes, closing_lines(summary["results"], call.directory))


def model_beside(particles: Path) -> Path | None:
    """Return ``run_model.star`` of the refinement that wrote ``run_data.star``, or None."""
    name = particles.name.replace("_data.star", "_model.star")
    path = particles.with_name(name)
    return path if name != particles.name and path.is_file() else None


def closing_lines(results: dict[str, Any], directory: Path) -> list[str]:
    """Return the last lines of ``run.out``: the verdict, the softest modes, warnings, and where the report is."""
    lines = [f"verdict: {results['verdict'].replace('_', ' ')}: {results['verdict_text']}"]
    rows = zip(results["eigenvalues"], results["known_pose_eigenvalues"], results["amplitude_fraction"], strict=True)
    for number, (value, known, amplitude) in enumerate(rows, 1):
        lines.append(f"mode {number}: eigenvalue {value:.3g}, known poses {known:.3g}, amplitude {amplitude:.2%}")
    lines += [f"WARNING: {text}" for text in results.get("warnings", [])]
    return [*lines, f"report: {directory / 'report.html'}", f"report as PDF: {directory / 'logfile.pdf'}"]


def _of_run(name: str, parameters: SoftmodesParameters) -> bool:
    """Modes beyond those asked for were left by an earlier run; so were particles where the views are not theirs."""
    if name.startswith("mode_"):
        return int(name[5:7]) <= parameters.modes
    return name != "particles_softmodes.star" or parameters.views is None


def _forget_incomplete_run(directory: Path) -> None:
    """Take back the mark of a finished run whose files are not all there any more, so that it is done again."""
    from napari_pickbias.runs.directory import STATE

    outputs = _read_json(directory / STATE / "outputs.json")
    if not outputs or not all((directory / name).exists() for name in outputs):
        (directory / STATE / "finished").unlink(missing_ok=True)


def _read_json(path: Path) -> Any:
    import json

    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


_ENDS = tuple(f"mode_{number:02d}{end}.mrc" for number in range(1, 41) for end in ("", "_plus", "_minus"))
OUTPUTS = ("uncertainty.mrc", *_ENDS, "particles_softmodes.star", "logfile.pdf")
PROGRAM = Program("pickbias_relion_softmodes", load, needs=("in_parts", "in_3dref"), outputs=OUTPUTS)
