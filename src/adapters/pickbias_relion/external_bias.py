"""``pickbias_relion_bias``: the bias diagnosis as RELION's External job, after AutoPick."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_pickbias.errors import InputError
from pickbias_relion.external import Job, Outcome, Program, run_external
from pickbias_relion.external_arguments import Call

if TYPE_CHECKING:
    from napari_pickbias.jobs.progress import Progress


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; see :func:`pickbias_relion.external.run_external`."""
    return run_external(PROGRAM, arguments)


def load() -> Job:
    """Return the job; numerical libraries are loaded here and not before."""
    from pydantic import Field

    from napari_pickbias.jobs.bias_parameters import BiasParameters

    class RelionBiasParameters(BiasParameters):
        """Those of the diagnosis, and the files and program for which RELION's Input tab has no place."""

        templates: str | None = Field(
            None, description="class averages: .mrcs, _model.star or class_averages.star; else the 3D reference is used"
        )
        picks_pixel_size: float | None = Field(None, gt=0, description="Å, of the pixels that coordinates count in")
        poses: str | None = Field(None, description="refined particles (STAR): tells which views the picks miss")
        averages: str | None = Field(None, description="class averages of these picks: are they bias?")
        picker: str | None = Field(
            None, description="a program that picks, run on noise like the micrographs, and on them without coordinates"
        )
        picker_timeout: float | None = Field(None, gt=0, description="seconds that one run of the picker may take")

    return Job(RelionBiasParameters, run)


def run(call: Call, parameters: Any) -> Generator[Progress, None, Outcome]:
    """Diagnose in the job's directory; yields progress, returns what to announce.

    Without input coordinates the templates pick.

    Raises
    ------
    InputError
        Everything the user can mend.
    """
    from napari_pickbias.jobs.bias_parameters import BiasParameters
    from napari_pickbias.records.micrographs import open_micrographs
    from napari_pickbias.runs.bias import run_bias
    from napari_pickbias.runs.bias_classes import open_averages
    from napari_pickbias.runs.pick import open_template_input
    from pickbias_relion.nodes import Node

    micrographs, reference = Path(call.inputs["in_mics"]), call.inputs.get("in_3dref")
    if micrographs.suffix.lower() != ".star":
        raise InputError(
            f'--in_mics {micrographs}: is no STAR file; choose one under "Input micrographs" on the Input tab'
        )
    templates = parameters.templates
    if (reference is None) == (templates is None):
        given = "neither is given" if reference is None else "both are given"
        raise InputError(
            f'--in_3dref, --templates: {given}; choose a map under "Input 3D reference" on the Input tab, or name '
            "class averages with the label templates on the Params tab"
        )
    chosen = BiasParameters(**parameters.model_dump(include=set(BiasParameters.model_fields)))
    made = None if parameters.averages is None else open_averages(parameters.averages)
    found = open_micrographs(micrographs, chosen.pixel_size)
    wanted = open_template_input(reference, templates, chosen.templates_pixel_size)
    finished = yield from run_bias(
        found,
        wanted,
        chosen,
        call.directory,
        template_path=Path(str(reference or templates)),
        picks=call.inputs.get("in_coords"),
        picks_pixel_size=parameters.picks_pixel_size,
        poses=parameters.poses,
        averages=made,
        picker=parameters.picker,
        picker_timeout=parameters.picker_timeout,
        threads=call.threads,
        shared=True,
        report_name="logfile",
    )
    twin = call.directory / "twin" / "particles.star"
    nodes = [Node(twin, "particles"), Node(call.directory / "logfile.pdf", "log")]
    files = {"html": call.directory / "report.html", "twin": twin}
    return Outcome(nodes, closing_lines(finished.summary["results"], files))


def closing_lines(results: dict[str, Any], files: dict[str, Path]) -> list[str]:
    """Return the last lines of ``run.out``: the verdict and its reason, what to know, and where the files are."""
    lines = [f"VERDICT: {results['verdict']}: {results['why']}"]
    if results.get("agreement"):
        lines.append(str(results["agreement"]))
    if results.get("recommended_threshold") is not None:
        lines.append(f"recommended threshold: {results['recommended_threshold']:.2f}")
    lines += [f"WARNING: {text}" for text in results.get("warnings", [])]
    names = {"html": "report", "twin": "picks of pure noise, as particles"}
    return lines + [f"{name}: {files[key]}" for key, name in names.items()]


PROGRAM = Program("pickbias_relion_bias", load, needs=("in_mics",), outputs=("twin/particles.star", "logfile.pdf"))
