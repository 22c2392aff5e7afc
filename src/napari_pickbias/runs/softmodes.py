"""The soft-modes run: a map and refined particles in; modes, uncertainties, particle columns and report out."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from napari_pickbias.jobs.progress import Progress
from napari_pickbias.jobs.softmodes import SoftmodesResult, softmodes_job
from napari_pickbias.jobs.softmodes_parameters import SoftmodesParameters
from napari_pickbias.jobs.softmodes_whatif import Scenario
from napari_pickbias.records import ParticleSource, Volume, write_mrc
from napari_pickbias.records.atomic import atomic_path
from napari_pickbias.report.softmodes import write_softmodes_report
from napari_pickbias.runs.directory import claim, describe_inputs
from napari_pickbias.runs.log import run_log
from napari_pickbias.runs.softmodes_inputs import read_inputs
from napari_pickbias.runs.summary import build_summary, read_summary, write_summary

TOOL = "pickbias softmodes"


@dataclass(frozen=True)
class SoftmodesRun:
    """A finished run: where its files are, and its results (None when it had been finished before)."""

    directory: Path
    files: dict[str, Path]
    summary: dict[str, Any]
    result: SoftmodesResult | None


def run_softmodes(
    map_path: str | Path,
    source: ParticleSource,
    parameters: SoftmodesParameters,
    out: str | Path,
    *,
    mask_path: str | Path | None = None,
    path_to: Sequence[str | Path] = (),
    other_particles: str | Path | None = None,
    threads: int = 1,
    overwrite: bool = False,
    resume: bool = False,
    shared: bool = False,
    report_name: str = "report",
) -> Generator[Progress, None, SoftmodesRun]:
    """Find soft modes into ``out``; yields :class:`Progress`, returns a :class:`SoftmodesRun`.

    Writes ``mode_01.mrc``, ``mode_01_plus.mrc``, ``mode_01_minus.mrc`` ..., ``uncertainty.mrc``, ``spectrum.csv``,
    ``particles_softmodes.*`` (not for what-if views), ``what_if.csv``, ``path.csv`` (where asked for) and the common
    files. Images are read with ``parameters.images`` alone. A stopped run goes on from its last finished piece.

    Parameters
    ----------
    map_path : str or Path
        Refined map.
    source : ParticleSource
        Its particles, with poses.
    parameters : SoftmodesParameters
    out : str or Path
        Output directory; see :func:`napari_pickbias.runs.directory.claim` for ``overwrite``, ``resume``, ``shared``.
    mask_path : str or Path, optional
        Mask of the map's box.
    path_to : sequence of str or Path
        Maps that a path from the map goes through.
    other_particles : str or Path, optional
        Particles that the last map of the path was made from.
    threads : int
        Vectors or views worked at at a time.
    report_name : str
        Stem of the PDF report.

    Raises
    ------
    InputError
        Everything the user can mend.
    """
    start = time.perf_counter()
    data, files_read = read_inputs(map_path, source, parameters, mask_path, path_to, other_particles)
    inputs = describe_inputs(files_read)
    chosen = parameters.model_dump()
    with claim(out, TOOL, chosen, inputs, overwrite=overwrite, resume=resume, shared=shared) as directory:
        path = directory.path
        if directory.finished:
            yield Progress("finished", 1, 1, f"{path}: this run is finished already; nothing to do")
            files = {"html": path / "report.html", "pdf": path / f"{report_name}.pdf"}
            return SoftmodesRun(path, files, read_summary(path / "summary.json"), None)
        with run_log(path / "pickbias.log", TOOL, chosen) as log:
            result = yield from softmodes_job(data, None, parameters, checkpoints=directory, threads=threads)
            seconds = {"solve": time.perf_counter() - start}
            for text in result.warnings:
                log.warning(text)
            yield Progress("write", 0, 2, "writing maps and particles")
            files = _write_maps(data.volume, result, path) | _write_tables(source, result, path)
            directory.record_outputs(list(files.values()))
            yield Progress("write", 1, 2, "writing the report")
            summary = build_summary(TOOL, chosen, inputs, _results(result), seconds)
            files |= write_softmodes_report(result, summary, path, report_name)
            seconds["total"] = time.perf_counter() - start
            summary = build_summary(TOOL, chosen, inputs, summary["results"], seconds)
            files |= {"summary": path / "summary.json", "log": path / "pickbias.log"}
            write_summary(files["summary"], summary)
            directory.record_outputs(list(files.values()))
        directory.finish()
    yield Progress("write", 2, 2)
    return SoftmodesRun(path, files, summary, result)


def _write_maps(volume: Volume, result: SoftmodesResult, path: Path) -> dict[str, Path]:
    """Write modes in the map's own box, voxel size and origin: modes of unit Riesz norm there."""
    found = result.found
    files: dict[str, Path] = {}

    def write(name: str, values: NDArray[np.float64]) -> None:
        files[name] = write_mrc(
            path / f"{name}.mrc", values, volume.voxel_size_angstrom, origin_angstrom=volume.origin_angstrom
        )

    for index, mode in enumerate(found.modes):
        shape = result.in_map_box(mode)
        name = f"mode_{index + 1:02d}"
        write(name, shape * result.mode_scale)
        write(f"{name}_plus", volume.data + found.amplitudes[index] * shape)
        write(f"{name}_minus", volume.data - found.amplitudes[index] * shape)
    # resampling may ring below zero at the edge of the mask
    write("uncertainty", np.maximum(result.in_map_box(found.uncertainty), 0))
    return files


def _write_tables(source: ParticleSource, result: SoftmodesResult, path: Path) -> dict[str, Path]:
    found = result.found
    table = pd.DataFrame(
        {
            "mode": np.arange(1, len(found.eigenvalues) + 1),
            "eigenvalue": found.eigenvalues,
            "known_pose_eigenvalue": found.known_pose_eigenvalues,
            "information_left": found.eigenvalues / np.maximum(found.known_pose_eigenvalues, 1e-300),
            "residual": found.residuals,
            "amplitude_fraction": found.amplitude_fraction,
            "pose_change_deg": found.pose_change_deg,
            "misfit_ratio_plus": found.misfit_ratio[:, 0],
            "misfit_ratio_minus": found.misfit_ratio[:, 1],
            "valid": found.valid,
        }
    )
    if result.binning_error is not None:
        table["binning_error"] = result.binning_error
    tables = {"spectrum": table}
    if result.scenarios or result.advice:
        tables["what_if"] = pd.DataFrame([_row(row) for row in (*result.scenarios, *result.advice)])
    if result.path:
        tables["path"] = pd.DataFrame([point._asdict() for point in result.path])
    files = {}
    for name, content in tables.items():
        files[name] = path / f"{name}.csv"
        with atomic_path(files[name]) as temporary:
            content.to_csv(temporary, index=False, float_format="%.6g")
    if result.row_view is None:
        return files
    columns = particle_columns(result)
    target = path / f"particles_softmodes{source.suffix}"
    for number, written in enumerate(source.write_subset(np.ones(result.particles, bool), target, columns)):
        files["particles" if number == 0 else f"particles_{number}"] = written
    return files


def _row(row: Scenario) -> dict[str, Any]:
    return {
        "what": row.name,
        "particles": row.particles,
        "eigenvalue": row.eigenvalues[0],
        "known_pose_eigenvalue": row.known_pose_eigenvalues[0],
        "amplitude_fraction": row.amplitude_fraction[0],
        "gain": row.gain,
        "small_box": row.small_box,
    }


def particle_columns(result: SoftmodesResult) -> dict[str, NDArray[np.float32]]:
    """Return own columns, one value a particle: precision of its pose, and its turn and shift under each mode.

    Degrees and Å; standard deviations are the root mean square over the axes.
    """
    assert result.row_view is not None
    found, voxel = result.found, result.voxel_size_angstrom
    values: dict[str, NDArray[np.float64]] = {
        "pickbiasRotationSd": np.degrees(np.sqrt(np.mean(found.pose_sd[:, :3] ** 2, axis=1)))
    }
    if result.parameters.shifts:
        values["pickbiasShiftSdAngst"] = voxel * np.sqrt(np.mean(found.pose_sd[:, 3:5] ** 2, axis=1))
    for index, change in enumerate(found.pose_change):
        values[f"pickbiasMode{index + 1:02d}Turn"] = np.degrees(np.linalg.norm(change[:, :3], axis=1))
        if result.parameters.shifts:
            values[f"pickbiasMode{index + 1:02d}ShiftAngst"] = voxel * np.linalg.norm(change[:, 3:5], axis=1)
    return {name: column[result.row_view].astype(np.float32) for name, column in values.items()}


def _results(result: SoftmodesResult) -> dict[str, Any]:
    """Return the figures that scripts may rely on."""
    found = result.found
    return {
        "eigenvalues": found.eigenvalues,
        "known_pose_eigenvalues": found.known_pose_eigenvalues,
        "residuals": found.residuals,
        "amplitude_fraction": found.amplitude_fraction,
        "pose_change_deg": found.pose_change_deg,
        "valid": bool(found.valid.all()),
        "valid_modes": found.valid,
        "misfit_ratio": found.misfit_ratio,
        "warnings": result.warnings,
        "particles": result.particles,
        "views": len(result.rotations),
        "box_px": result.box_px,
        "voxel_size_angstrom": result.voxel_size_angstrom,
        "noise_variance": found.noise_variance,
        "verdict": result.verdict.code,
        "verdict_text": result.verdict.text,
        "coverage": {**result.coverage._asdict(), "axis": list(result.coverage.axis)},
        "binning_error": result.binning_error,
        "what_if": [_row(row) for row in (*result.scenarios, *result.advice)],
        "path": [point._asdict() for point in result.path],
        "difference": None if result.difference is None else result.difference._asdict(),
    }
