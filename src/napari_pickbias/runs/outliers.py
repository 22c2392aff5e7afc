"""The outlier run: a particle source in, ``kept``, ``rejected``, scores, summary and report out."""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from napari_pickbias.errors import InputError
from napari_pickbias.jobs.outlier_parameters import OutlierParameters
from napari_pickbias.jobs.outliers import OutlierResult, outlier_job
from napari_pickbias.jobs.progress import Progress
from napari_pickbias.records import Particles, ParticleSource
from napari_pickbias.records.atomic import atomic_path
from napari_pickbias.report.outliers import write_outlier_report
from napari_pickbias.runs.directory import RunDirectory, claim, describe_inputs
from napari_pickbias.runs.log import run_log
from napari_pickbias.runs.summary import build_summary, write_summary

TOOL = "pickbias outliers"


@dataclass(frozen=True)
class OutlierRun:
    """A finished run: where its files are, and its results (None when it had been finished before)."""

    directory: Path
    files: dict[str, Path]
    summary: dict[str, Any] | None
    result: OutlierResult | None


def run_outliers(
    source: ParticleSource,
    parameters: OutlierParameters,
    out: str | Path,
    *,
    threads: int = 1,
    overwrite: bool = False,
    resume: bool = False,
    shared: bool = False,
    report_name: str = "report",
) -> Generator[Progress, None, OutlierRun]:
    """Run outlier removal into ``out``; yields :class:`Progress`, returns an :class:`OutlierRun`.

    Closing the generator (Cancel, abort, Ctrl-C) leaves the finished pieces for ``resume`` and no half-written file.

    Parameters
    ----------
    source : ParticleSource
        From :func:`napari_pickbias.records.open_particles`.
    parameters : OutlierParameters
        Of the job.
    out : str or Path
        Output directory; see :func:`napari_pickbias.runs.directory.claim` for ``overwrite``, ``resume``, ``shared``.
    threads : int
        Chunks judged at once; no result depends on it.
    report_name : str
        Stem of the PDF report: RELION wants ``logfile.pdf``.

    Raises
    ------
    InputError
        Everything the user can mend, among it "nothing was kept".
    """
    start = time.perf_counter()
    particles = source.read(parameters.pixel_size)
    inputs = describe_inputs(source.input_files())
    chosen = parameters.model_dump()
    writes = _names(source, report_name).values()
    with claim(
        out, TOOL, chosen, inputs, overwrite=overwrite, resume=resume, shared=shared, writes=writes
    ) as directory:
        if directory.finished:
            yield Progress("finished", 1, 1, f"{directory.path}: this run is finished already; nothing to do")
            return OutlierRun(directory.path, _files(directory.path, source, report_name), None, None)
        with run_log(directory.path / "pickbias.log", TOOL, chosen) as log:
            read_seconds = time.perf_counter() - start
            result = yield from _logged(outlier_job(particles, parameters, threads=threads, checkpoints=directory), log)
            judged_seconds = time.perf_counter() - start - read_seconds
            for text in result.warnings:
                log.warning(text)
            yield Progress("write", 0, 2, "writing particle files")
            files = _write_particles(source, particles, result, directory)
            seconds = {"read": read_seconds, "judge": judged_seconds}
            yield Progress("write", 1, 2, "writing the report")
            summary = build_summary(TOOL, chosen, inputs, _results(result, judged_seconds), seconds)
            files |= write_outlier_report(result, summary, directory.path, report_name)
            seconds["report"] = time.perf_counter() - start - read_seconds - judged_seconds
            seconds["total"] = time.perf_counter() - start
            # The summary comes last: where it stands, everything else stands too.
            summary = build_summary(TOOL, chosen, inputs, summary["results"], seconds)
            files["summary"] = directory.path / "summary.json"
            write_summary(files["summary"], summary)
            files["log"] = directory.path / "pickbias.log"
            directory.record_outputs(list(files.values()))
        kept = result.counts["kept"]
        if kept == 0:
            raise InputError(
                f"{source.path}: none of the {len(particles)} particles was kept, so no kept file was written; see "
                f"{directory.path / 'report.html'} and check --radius, --contrast and the pixel size"
            )
        directory.finish()
    yield Progress("write", 2, 2, f"{kept} of {len(particles)} particles kept")
    return OutlierRun(directory.path, files, summary, result)


def _logged(job: Generator[Progress, None, OutlierResult], log: Any) -> Generator[Progress, None, OutlierResult]:
    """Pass progress on, and write its messages to the log."""
    while True:
        try:
            progress = next(job)
        except StopIteration as end:
            result: OutlierResult = end.value
            return result
        if progress.message:
            log.info(progress.message)
        try:
            yield progress
        except GeneratorExit:
            log.warning("stopped by the user")
            job.close()
            raise


def _names(source: ParticleSource, report_name: str) -> dict[str, str]:
    return {
        "kept": f"kept{source.suffix}",
        "rejected": f"rejected{source.suffix}",
        "scores": "scores.csv",
        "html": "report.html",
        "pdf": f"{report_name}.pdf",
        "summary": "summary.json",
        "log": "pickbias.log",
    }


def _files(path: Path, source: ParticleSource, report_name: str) -> dict[str, Path]:
    names = _names(source, report_name)
    return {key: path / name for key, name in names.items() if (path / name).exists()}


def _write_particles(
    source: ParticleSource, particles: Particles, result: OutlierResult, directory: RunDirectory
) -> dict[str, Path]:
    table = result.table
    keep = table["keep"].to_numpy(dtype=bool)
    own = {
        "pickbiasScore": table["score"].to_numpy(),
        "pickbiasPValue": table["p_value"].to_numpy(),
        "pickbiasReason": table["reason"].astype(str).to_numpy(dtype=str),
    }
    # The published method has no score: a column without a single value would only mislead.
    own = {name: values for name, values in own.items() if values.dtype.kind == "U" or np.isfinite(values).any()}
    files: dict[str, Path] = {}
    for name, rows in (("kept", keep), ("rejected", ~keep)):
        if rows.any():
            target = directory.path / f"{name}{source.suffix}"
            for number, path in enumerate(source.write_subset(rows, target, own)):
                files[name if number == 0 else f"{name}_{number}"] = path
    scores = directory.path / "scores.csv"
    with atomic_path(scores) as temporary:
        table.to_csv(temporary, index_label="row", float_format="%.6g")
    files["scores"] = scores
    directory.record_outputs(list(files.values()))
    return files


def _results(result: OutlierResult, seconds: float) -> dict[str, Any]:
    """Return the figures that scripts may rely on."""
    counts = result.counts
    total = len(result.table)
    e0 = [group.e0 for group in result.groups if group.e0 is not None]
    calibrated = result.parameters.method == "calibrated"
    return {
        "particles": total,
        "kept": counts["kept"],
        "rejected": total - counts["kept"],
        "rejected_by_reason": {reason: counts[reason] for reason in ("noise", "partial", "multiple")},
        "false_keep_rate": result.parameters.false_keep_rate if calibrated else None,
        "expected_fdr": result.expected_fdr,
        "e0": min(e0) if e0 else None,
        "warnings": result.warnings,
        "images_per_second": round(total / max(seconds, 1e-9), 1),
        "groups": [
            {
                "name": g.group.name,
                "particles": len(g.group.rows),
                "working_box_px": g.group.working_box_px,
                "working_pixel_size": g.group.working_pixel_size_angstrom,
                "radius_px": g.group.radius_px,
                "contrast": "white" if g.sign > 0 else "black",
                "phases_flipped_here": g.group.flip,
                "e0": g.e0,
            }
            for g in result.groups
        ],
    }
