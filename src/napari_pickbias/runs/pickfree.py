"""The run without picking: micrographs and an initial map in; maps, convergence, FSC and report out."""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from napari_pickbias.errors import InputError
from napari_pickbias.jobs.pickfree import PickfreeResult, pickfree_job
from napari_pickbias.jobs.pickfree_parameters import PickfreeParameters
from napari_pickbias.jobs.progress import Progress
from napari_pickbias.records import read_volume, write_mrc
from napari_pickbias.records.atomic import atomic_path, write_fault
from napari_pickbias.records.micrographs import open_micrographs, read_headers
from napari_pickbias.report.pickfree import write_pickfree_report
from napari_pickbias.runs.directory import STATE, claim, describe_inputs
from napari_pickbias.runs.log import run_log
from napari_pickbias.runs.summary import build_summary, read_summary, write_summary

TOOL = "pickbias pickfree"
SCRATCH = ("patches.npy", "null_patches.npy")


@dataclass(frozen=True)
class PickfreeRun:
    """A finished run: where its files are, and its results (None when it had been finished before)."""

    directory: Path
    files: dict[str, Path]
    summary: dict[str, Any]
    result: PickfreeResult | None


def run_pickfree(
    micrographs: str | Path,
    initial_map: str | Path,
    parameters: PickfreeParameters,
    out: str | Path,
    *,
    threads: int = 1,
    overwrite: bool = False,
    resume: bool = False,
    shared: bool = False,
    report_name: str = "report",
) -> Generator[Progress, None, PickfreeRun]:
    """Reconstruct into ``out``; yields :class:`Progress`, returns a :class:`PickfreeRun`.

    Writes ``map.mrc``, ``half1.mrc``, ``half2.mrc``, ``null.mrc``, ``start.mrc``, ``iterations/``,
    ``convergence.csv``, ``fsc.csv`` and the common files.

    Parameters
    ----------
    micrographs : str or Path
        See :func:`napari_pickbias.records.micrographs.open_micrographs`.
    initial_map : str or Path
    parameters : PickfreeParameters
    out : str or Path
        Output directory; see :func:`napari_pickbias.runs.directory.claim` for ``overwrite``, ``resume``, ``shared``.
    threads : int
        The result is the same for any number.
    report_name : str
        Stem of the PDF report.

    Raises
    ------
    InputError
        Everything the user can mend.
    """
    start = time.perf_counter()
    found = open_micrographs(micrographs, parameters.pixel_size)
    if parameters.ctf and found.list_file is not None and found.micrographs.ctf is None:
        raise InputError(
            f"{found.list_file}: has no CTF columns (rlnDefocusU ...); give the micrographs of a CTF estimation "
            "(micrographs_ctf.star), or --no-ctf to take the CTF as 1"
        )
    read_headers(found.micrographs)
    volume = read_volume(initial_map, parameters.map_pixel_size)
    inputs = describe_inputs([Path(initial_map), *found.input_files()])
    chosen = parameters.model_dump()
    names = ("map.mrc", "half1.mrc", "half2.mrc", "null.mrc", "start.mrc", "fsc.csv", "convergence.csv")
    with claim(out, TOOL, chosen, inputs, overwrite=overwrite, resume=resume, shared=shared, writes=names) as directory:
        path = directory.path
        if directory.finished:
            yield Progress("finished", 1, 1, f"{path}: this run is finished already; nothing to do")
            files = {"map": path / "map.mrc", "html": path / "report.html", "pdf": path / f"{report_name}.pdf"}
            return PickfreeRun(path, files, read_summary(path / "summary.json"), None)
        with run_log(path / "pickbias.log", TOOL, chosen) as log:
            job = pickfree_job(
                found.micrographs, volume, parameters, path / STATE, threads=threads, checkpoints=directory
            )
            result = yield from _logged(job, log)
            seconds = {"reconstruct": time.perf_counter() - start}
            result.warnings.extend(found.notes)
            for text in result.warnings:
                log.warning(text)
            yield Progress("write", 0, 1, "writing maps and the report")
            files = _write_maps(result, path) | _write_tables(result, path)
            directory.record_outputs(list(files.values()))
            summary = build_summary(TOOL, chosen, inputs, results_of(result), seconds)
            files |= write_pickfree_report(result, summary, path, report_name)
            seconds["total"] = time.perf_counter() - start
            summary = build_summary(TOOL, chosen, inputs, summary["results"], seconds)
            files |= {"summary": path / "summary.json", "log": path / "pickbias.log"}
            write_summary(files["summary"], summary)
            directory.record_outputs(list(files.values()))
        directory.finish()
        for name in SCRATCH:
            (path / STATE / name).unlink(missing_ok=True)
    yield Progress("write", 1, 1)
    return PickfreeRun(path, files, summary, result)


def _logged(job: Generator[Progress, None, PickfreeResult], log: Any) -> Generator[Progress, None, PickfreeResult]:
    """Pass a job's progress on, its messages into the log too; closes the job on every way out."""
    try:
        while True:
            try:
                progress = next(job)
            except StopIteration as end:
                result: PickfreeResult = end.value
                return result
            if progress.message:
                log.info("%s: %s", progress.stage, progress.message)
            yield progress
    finally:
        job.close()


def _write_maps(result: PickfreeResult, path: Path) -> dict[str, Path]:
    """Write the maps in the initial map's units and frame: nothing is rescaled."""
    files: dict[str, Path] = {}
    folder = path / "iterations"
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise write_fault(folder, error) from error

    def write(name: str, values: Any) -> None:
        files[name] = write_mrc(
            path / f"{name}.mrc", values, result.voxel_size_angstrom, origin_angstrom=result.origin_angstrom
        )

    for name, chain in result.chains.items():
        write(name, chain.volume)
    write("start", result.start)
    for number, volume in enumerate(result.chains["map"].volumes):
        write(f"iterations/iteration_{number + 1:03d}", volume)
    return files


def _write_tables(result: PickfreeResult, path: Path) -> dict[str, Path]:
    rows = [
        {
            # "null" would be read back as a missing value by pandas and R
            "chain": "surrogates" if name == "null" else name,
            "iteration": record.iteration,
            "log_likelihood_per_patch": record.log_likelihood,
            "standard_error": record.standard_error,
            "empty_fraction": record.empty,
            "junk_fraction": record.junk,
            "noise_variance": record.noise_variance,
            "norm_ratio": record.norm / result.start_norm,
            "patches": record.patches,
            "cells_refined_per_patch": record.refined,
            "best_hundredth": record.concentration,
        }
        for name, chain in result.chains.items()
        for record in chain.records
    ]
    shells = np.arange(len(result.fsc_halves))
    box = result.parameters.box * result.voxel_size_angstrom
    fsc = pd.DataFrame({"shell": shells, "frequency_per_angstrom": shells / box, "half_maps": result.fsc_halves})
    fsc["initial_map"] = result.fsc_initial
    if len(result.fsc_null):
        fsc["null_with_initial_map"] = result.fsc_null
    files = {"convergence": path / "convergence.csv", "fsc": path / "fsc.csv"}
    for name, table in (("convergence", pd.DataFrame(rows)), ("fsc", fsc)):
        with atomic_path(files[name]) as temporary:
            table.to_csv(temporary, index=False, float_format="%.6g")
    return files


def results_of(result: PickfreeResult) -> dict[str, Any]:
    """Return the figures that scripts may rely on."""
    last = result.chains["map"].records[-1]
    null = None
    if "null" in result.chains:
        null = {
            "log_likelihood_per_patch": result.chains["null"].records[-1].log_likelihood,
            "norm_ratio": result.norm_ratio("null"),
            "template_picking_norm_ratio": result.picking[-1] if result.picking else None,
            "starts_log_likelihood_per_patch": result.null_starts,
        }
    pixels = result.resolution_px
    return {
        "iterations": last.iteration,
        "log_likelihood_per_patch": last.log_likelihood,
        "log_likelihood_standard_error": last.standard_error,
        "starts_log_likelihood_per_patch": result.starts,
        "empty_fraction": last.empty,
        "junk_fraction": last.junk,
        "noise_variance": last.noise_variance,
        "norm_ratio": result.norm_ratio(),
        "null": null,
        "evidence": result.evidence,
        "evidence_standard_errors": result.standard_errors,
        "resolution_px": pixels,
        "resolution_angstrom": None if pixels is None else pixels * result.voxel_size_angstrom,
        "start_scale": result.factor,
        "start_snr": result.snr,
        "patches": result.patches,
        "micrographs": result.micrographs,
        "voxel_size_angstrom": result.voxel_size_angstrom,
        "warnings": result.warnings,
    }


def outcome_of(summary: dict[str, Any]) -> str:
    """Return the outcome in one sentence, from a summary."""
    results = summary["results"]
    gain = results["log_likelihood_per_patch"]
    if not results["evidence"]:
        return f"no evidence of the particle: log-likelihood {gain:+.4f} per patch, no better than noise"
    if results["resolution_angstrom"] is None:
        return f"evidence of the particle ({gain:+.4f} per patch), but the half maps do not agree"
    return (
        f"evidence of the particle ({gain:+.4f} per patch); half maps agree to {results['resolution_angstrom']:.3g} Å"
    )
