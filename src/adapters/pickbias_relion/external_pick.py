"""``pickbias_relion_pick``: picking as RELION's External job."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_pickbias.errors import InputError
from pickbias_relion.external import Job, Outcome, Program, run_external
from pickbias_relion.external_arguments import Call

if TYPE_CHECKING:
    from napari_pickbias.jobs.progress import Progress

NODES = {"coords_suffix": "coordinates", "coordinates": "coordinates", "pdf": "log"}
"""Both forms of the coordinates are announced: 3.1 extracts by the first, 4 and 5 by the second."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; see :func:`pickbias_relion.external.run_external`."""
    return run_external(PROGRAM, arguments)


def load() -> Job:
    """Return the job; numerical libraries are loaded here and not before."""
    from pydantic import Field

    from napari_pickbias.jobs.pick_parameters import PickParameters

    class RelionPickParameters(PickParameters):
        """Those of picking, and the templates, for which RELION's Input tab has no place."""

        templates: str | None = Field(
            None, description="class averages: .mrcs, _model.star or class_averages.star; else the 3D reference is used"
        )

    return Job(RelionPickParameters, run)


def run(call: Call, parameters: Any) -> Generator[Progress, None, Outcome]:
    """Pick in the job's directory; yields progress, returns what to announce.

    Raises
    ------
    InputError
        Everything the user can mend, among it "nothing was picked".
    """
    from napari_pickbias.jobs.pick_parameters import PickParameters
    from napari_pickbias.records.micrographs import open_micrographs
    from napari_pickbias.runs.pick import open_template_input, run_pick
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
    chosen = PickParameters(**parameters.model_dump(exclude={"templates"}))
    found = open_micrographs(micrographs, chosen.pixel_size)
    wanted = open_template_input(reference, templates, chosen.templates_pixel_size)
    finished = yield from run_pick(
        found,
        wanted,
        chosen,
        call.directory,
        template_path=reference or templates,
        threads=call.threads,
        as_job=True,
        report_name="logfile",
    )
    nodes = [Node(finished.files[key], kind) for key, kind in NODES.items() if key in finished.files]
    return Outcome(nodes, closing_lines(finished.summary["results"], finished.files))


def closing_lines(results: dict[str, Any], files: dict[str, Path]) -> list[str]:
    """Return the last lines of ``run.out``: counts, what to know about them, and where the files are."""
    used = results["micrographs"] - results["left_out"]
    lines = [f"{results['picks']} picks on {used} micrographs from a score of {results['threshold']:.2f} up"]
    if results["fdr"] is not None:
        low, high = (value or 0.0 for value in results["fdr_interval"])
        lines.append(f"expected share of false picks: {results['fdr']:.1%} ({low:.1%} to {high:.1%})")
    lines += [f"WARNING: {text}" for text in results.get("warnings", [])]
    names = {
        "picks": "all picks",
        "coords_suffix": "coordinates for RELION 3.1",
        "coordinates": "coordinates for RELION 4 and 5",
        "html": "report",
        "pdf": "report as PDF",
    }
    return lines + [f"{name}: {files[key]}" for key, name in names.items() if key in files]


PROGRAM = Program(
    "pickbias_relion_pick",
    load,
    needs=("in_mics",),
    outputs=("coords_suffix_picks.star", "coordinates.star", "logfile.pdf"),
)
