"""``pickbias_relion_pick_tomograms``: picking in tomograms as RELION 5's External job."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_pickbias.errors import InputError
from pickbias_relion.external import Job, Outcome, Program, run_external
from pickbias_relion.external_arguments import Call

if TYPE_CHECKING:
    from napari_pickbias.jobs.progress import Progress

NODES = {"particles": "particles", "optimisation_set": "optimisation_set", "pdf": "log"}
OWN = {"tomograms", "tilt_low", "tilt_high", "tilt_range"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; see :func:`pickbias_relion.external.run_external`."""
    return run_external(PROGRAM, arguments)


def load() -> Job:
    """Return the job; numerical libraries are loaded here and not before."""
    from pydantic import Field

    from napari_pickbias.jobs.pick_tomograms_parameters import PickTomogramsParameters

    class RelionPickTomogramsParameters(PickTomogramsParameters):
        """Those of picking in tomograms, the tilts one by one: a value of RELION's Params tab is one word."""

        tomograms: str | None = Field(
            None, description="tomograms.star, a folder or an .mrc, where Input micrographs is left empty"
        )
        tilt_low: float | None = Field(None, description="lowest tilt of the series about y, in degrees")
        tilt_high: float | None = Field(None, description="highest tilt of the series about y, in degrees")

    return Job(RelionPickTomogramsParameters, run)


def run(call: Call, parameters: Any) -> Generator[Progress, None, Outcome]:
    """Pick in the job's directory; yields progress, returns what to announce.

    Raises
    ------
    InputError
        Everything the user can mend, among it "nothing was picked".
    """
    from napari_pickbias.jobs.pick_tomograms_parameters import PickTomogramsParameters
    from napari_pickbias.records.tomograms import open_tomograms
    from napari_pickbias.runs.pick import open_template_input
    from napari_pickbias.runs.pick_tomograms import run_pick_tomograms
    from pickbias_relion.nodes import Node

    listed, named = call.inputs.get("in_mics"), parameters.tomograms
    if (listed is None) == (named is None):
        given = "neither is given" if listed is None else "both are given"
        raise InputError(
            f'--in_mics, --tomograms: {given}; write the path of tomograms.star under "Input micrographs" on the '
            "Input tab, or name tomograms with the label tomograms on the Params tab"
        )
    chosen = PickTomogramsParameters(**parameters.model_dump(exclude=OWN), tilt_range=tilt_range(parameters))
    reference = call.inputs["in_3dref"]
    found = open_tomograms(str(listed or named), chosen.pixel_size)
    finished = yield from run_pick_tomograms(
        found,
        open_template_input(reference, None, chosen.templates_pixel_size),
        chosen,
        call.directory,
        template_path=reference,
        threads=call.threads,
        shared=True,
        report_name="logfile",
    )
    nodes = [Node(finished.files[key], kind) for key, kind in NODES.items() if key in finished.files]
    return Outcome(nodes, closing_lines(finished.summary["results"], finished.files))


def tilt_range(parameters: Any) -> tuple[float, float] | None:
    """Return the tilts stated by the labels ``tilt_low`` and ``tilt_high``.

    Raises
    ------
    InputError
        When one of them is missing.
    """
    low, high = parameters.tilt_low, parameters.tilt_high
    if (low is None) != (high is None):
        missing = "tilt_low" if low is None else "tilt_high"
        raise InputError(f"--{missing}: is missing; give both tilt_low and tilt_high on the Params tab, or neither")
    return None if low is None else (low, high)


def closing_lines(results: dict[str, Any], files: dict[str, Path]) -> list[str]:
    """Return the last lines of ``run.out``: counts, what to know about them, and where the files are."""
    used = results["tomograms"] - results["left_out"]
    lines = [f"{results['picks']} picks in {used} tomograms from a score of {results['threshold']:.2f} up"]
    if results["fdr"] is not None:
        low, high = (value or 0.0 for value in results["fdr_interval"])
        lines.append(f"expected share of false picks: {results['fdr']:.1%} ({low:.1%} to {high:.1%})")
    lines += [f"WARNING: {text}" for text in results.get("warnings", [])]
    names = {
        "particles": "particles",
        "optimisation_set": "optimisation set, for Extract subtomos",
        "html": "report",
        "pdf": "report as PDF",
    }
    return lines + [f"{name}: {files[key]}" for key, name in names.items() if key in files]


PROGRAM = Program(
    "pickbias_relion_pick_tomograms",
    load,
    needs=("in_3dref",),
    outputs=("particles.star", "optimisation_set.star", "logfile.pdf"),
)
