"""Outlier removal as an external job of CryoSPARC: particles in, ``particles_kept`` and ``particles_rejected`` out."""

from __future__ import annotations

import json
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_pickbias.errors import InputError
from napari_pickbias.jobs.outlier_parameters import OutlierParameters
from pickbias_cryosparc.live_external import ExternalJob
from pickbias_cryosparc.live_inputs import connect_inputs, load_input, run_folder, write_dataset
from pickbias_cryosparc.live_job import Call, Input, Job
from pickbias_cryosparc.live_outputs import show

if TYPE_CHECKING:
    from napari_pickbias.jobs.outliers import OutlierResult
    from napari_pickbias.jobs.progress import Progress
    from napari_pickbias.runs.outliers import OutlierRun

PARTICLES = Input(
    "particles",
    "particle",
    "particles",
    ("blob", "?ctf", "?location", "?alignments3D"),
    (("blob/path", "O"), ("blob/idx", "u4"), ("blob/shape", "2u4"), ("blob/psize_A", "f4")),
    "an extraction or import job",
    ("particles",),
)
KEPT, REJECTED = "particles_kept", "particles_rejected"
SLOTS = ["blob"]
"""The slot that the outputs hold themselves; nothing in it changes, but an output without any is refused."""
LOCAL_INPUT = "input_particles.cs"


def run(external: ExternalJob, call: Call, parameters: OutlierParameters) -> Generator[Progress, None, list[str]]:
    """Run outlier removal in the external job's folder; yields progress, returns the closing lines.

    Raises
    ------
    InputError
        Everything the user can mend, among it wrong or missing outputs and fields, before anything is computed.
    """
    from napari_pickbias.records import open_particles
    from napari_pickbias.runs.outliers import run_outliers

    where = connect_inputs(external, call, [PARTICLES])["particles"]
    external.add_output("particle", KEPT, SLOTS, "Particles kept", "particles")
    external.add_output("particle", REJECTED, SLOTS, "Particles rejected", "particles")
    external.start()
    given = () if parameters.pixel_size is None else ("blob/psize_A",)
    dataset = load_input(external, PARTICLES, where, kept=(KEPT, REJECTED), given=given)
    folder = run_folder(external, call, LOCAL_INPUT)
    external.log(f"{len(dataset)} particles of {where}; files go into {folder}")
    source = open_particles(write_dataset(dataset, folder / LOCAL_INPUT))
    finished = yield from run_outliers(
        source, parameters, folder, threads=call.threads, resume=call.resume is not None, shared=True
    )
    if finished.result is not None:
        _show(external, finished.result)
    _send(external, dataset, finished)
    return closing_lines(finished)


def _show(external: ExternalJob, result: OutlierResult) -> None:
    from napari_pickbias.report.outliers import outlier_panels

    show(external, outlier_panels(result), KEPT, REJECTED)


def _send(external: ExternalJob, dataset: Any, finished: OutlierRun) -> None:
    """Send the kept and the rejected rows: uids and the one slot; CryoSPARC passes the rest through."""
    from pickbias_cryosparc.tables import read_table

    if "kept" not in finished.files:
        raise InputError(f"{finished.directory / 'kept.cs'}: is missing; run again without --resume")
    keep = np.isin(dataset["uid"], read_table(finished.files["kept"]).rows["uid"])
    for name, rows in ((KEPT, keep), (REJECTED, ~keep)):
        external.save(name, dataset.mask(rows).filter_prefixes(SLOTS))


def closing_lines(finished: OutlierRun) -> list[str]:
    """Return counts, warnings and where the report is."""
    summary = finished.summary or json.loads((finished.directory / "summary.json").read_text(encoding="utf-8"))
    results = summary["results"]
    kept, total = results["kept"], results["particles"]
    reasons = ", ".join(f"{count} {reason}" for reason, count in results["rejected_by_reason"].items())
    lines = [f"kept {kept} of {total} particles ({kept / total:.1%}); rejected: {reasons}"]
    if results.get("expected_fdr") is not None:
        lines.append(f"expected share of bad particles among the kept: {results['expected_fdr']:.1%}")
    lines += [f"WARNING: {text}" for text in results.get("warnings", [])]
    return [*lines, f"report: {finished.directory / 'report.html'}"]


JOB = Job("Outlier removal", "Remove noise, partial and multiple particles.", (PARTICLES,), OutlierParameters, run)
