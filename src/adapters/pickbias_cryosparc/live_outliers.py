"""Outlier removal as an external job of CryoSPARC: particles in, ``particles_kept`` and ``particles_rejected`` out."""

from __future__ import annotations

import io
import json
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_pickbias.errors import InputError
from napari_pickbias.jobs.outlier_parameters import OutlierParameters
from napari_pickbias.records.atomic import atomic_path
from pickbias_cryosparc.live import Call, Job
from pickbias_cryosparc.live_external import ExternalJob, SourceOutput, missing_field, source_outputs

if TYPE_CHECKING:
    from napari_pickbias.jobs.outliers import OutlierResult
    from napari_pickbias.jobs.progress import Progress
    from napari_pickbias.runs.outliers import OutlierRun

INPUT = "particles"
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

    output = choose_output(source_outputs(external.session, external.project, call.source), call)
    external.add_particles_input(INPUT, call.source, output.name, ["blob", "?ctf", "?location", "?alignments3D"])
    external.add_particles_output(KEPT, SLOTS, INPUT, "Particles kept")
    external.add_particles_output(REJECTED, SLOTS, INPUT, "Particles rejected")
    external.start()
    dataset = external.load(INPUT)
    where = f"{call.source}.{output.name}"
    _refuse_unfit(external, dataset, where, parameters)
    folder = _folder(external, call)
    external.log(f"{len(dataset)} particles of {where}; files go into {folder}")
    source = open_particles(_local_input(dataset, folder))
    finished = yield from run_outliers(
        source, parameters, folder, threads=call.threads, resume=call.resume is not None, shared=True
    )
    if finished.result is not None:
        _show(external, finished.result)
    _send(external, dataset, finished)
    return closing_lines(finished)


def choose_output(outputs: dict[str, SourceOutput], call: Call) -> SourceOutput:
    """Return the particle output of the source job that is meant.

    Raises ``InputError`` when there is none, or several and none is named, or it has no images or no rows.
    """
    particles = [o for o in outputs.values() if o.type == "particle"]
    if call.output is not None:
        if call.output not in outputs:
            raise InputError(
                f"--output {call.output}: {call.source} has no such output; it has {_names(outputs) or 'none'}"
            )
        chosen = outputs[call.output]
        if chosen.type != "particle":
            raise InputError(
                f"--output {call.output}: is of type {chosen.type}, not of particles; {call.source} has "
                f"{_names(outputs)}"
            )
    elif not particles:
        raise InputError(
            f"{call.source}: has no particle output ({_names(outputs) or 'it has no outputs'}); give a job that has "
            "extracted particles"
        )
    else:
        named = [o for o in particles if o.name == "particles"]
        if len(particles) > 1 and not named:
            raise InputError(
                f"{call.source}: has {len(particles)} particle outputs; choose one with --output: "
                f"{', '.join(o.name for o in particles)}"
            )
        chosen = (named or particles)[0]
    where = f"{call.source}.{chosen.name}"
    if not chosen.slots:
        raise InputError(f"{where}: has no results yet; wait until {call.source} has completed")
    if "blob" not in chosen.slots:
        raise InputError(
            f"{where}: lacks the slot 'blob' (the images); it has {', '.join(sorted(chosen.slots))}: give the output "
            "of an extraction job"
        )
    if chosen.count == 0:
        raise InputError(f"{where}: holds no particles (0 rows); choose another output or job")
    return chosen


def _names(outputs: dict[str, SourceOutput]) -> str:
    return ", ".join(f"{o.name} ({o.type})" for o in outputs.values())


def _refuse_unfit(external: ExternalJob, dataset: Any, where: str, parameters: OutlierParameters) -> None:
    """Refuse particles that lack what the job reads or what CryoSPARC wants back, before anything is computed."""
    if not len(dataset):
        raise InputError(f"{where}: holds no particles (0 rows); choose another output or job")
    read = [("blob/path", "O"), ("blob/idx", "u4"), ("blob/shape", "2u4")]
    if parameters.pixel_size is None:
        read.append(("blob/psize_A", "f4"))
    wanted = read + [field for name in (KEPT, REJECTED) for field in external.required_fields(name)]
    fault = missing_field(dataset, wanted)
    if fault:
        raise InputError(f"{where}: {fault}, which is needed; give the output of an extraction or import job")


def _folder(external: ExternalJob, call: Call) -> Path:
    if call.resume is None:
        return external.folder()
    earlier = external.session.call(f"find job {call.resume}", external.project.find_job, call.resume)
    folder = external.folder(earlier)
    if not (folder / LOCAL_INPUT).exists():
        raise InputError(f"--resume {call.resume}: there is no unfinished run of this program in {folder}")
    return folder


def _local_input(dataset: Any, folder: Path) -> Path:
    """Write the particles as a ``.cs`` file; one that is the same already stays, so that a run can go on."""
    path, stream = folder / LOCAL_INPUT, io.BytesIO()
    dataset.save(stream)
    if not (path.exists() and path.read_bytes() == stream.getvalue()):
        with atomic_path(path) as temporary:
            temporary.write_bytes(stream.getvalue())
    return path


def _show(external: ExternalJob, result: OutlierResult) -> None:
    from napari_pickbias.report.outliers import outlier_panels

    for index, panel in enumerate(outlier_panels(result)):
        png = panel.png(dpi=120)
        external.plot(panel.title, png)
        if index == 0:
            external.tile(png, KEPT, REJECTED)


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


JOB = Job("Outlier removal", "Remove noise, partial and multiple particles.", OutlierParameters, run)
