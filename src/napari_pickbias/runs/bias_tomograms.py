"""The run of the bias diagnosis in tomograms: noise twin, averages, tables, summary and report."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import starfile
from numpy.typing import NDArray

from napari_pickbias.jobs.bias_tomograms import BiasTomogramsResult, bias_tomograms_job
from napari_pickbias.jobs.bias_tomograms_parameters import BiasTomogramsParameters
from napari_pickbias.jobs.pick_templates import TemplateInput
from napari_pickbias.jobs.progress import Progress
from napari_pickbias.records.atomic import atomic_path, write_fault
from napari_pickbias.records.mrc import write_mrc
from napari_pickbias.records.tomograms import TomogramSet
from napari_pickbias.report.bias_tomograms import write_bias_tomograms_report
from napari_pickbias.runs.directory import STATE, RunDirectory, claim, describe_inputs
from napari_pickbias.runs.log import run_log
from napari_pickbias.runs.pick_tomograms_files import CANDIDATES, write_candidates
from napari_pickbias.runs.summary import build_summary, read_summary, write_summary

TOOL = "pickbias bias-tomograms"


@dataclass(frozen=True)
class BiasTomogramsRun:
    """A finished run: where its files are, and its results (None when it had been finished before)."""

    directory: Path
    files: dict[str, Path]
    summary: dict[str, Any]
    result: BiasTomogramsResult | None


def run_bias_tomograms(
    tomograms: TomogramSet,
    template: TemplateInput,
    parameters: BiasTomogramsParameters,
    out: str | Path,
    *,
    template_path: str | Path,
    threads: int = 1,
    overwrite: bool = False,
    resume: bool = False,
) -> Generator[Progress, None, BiasTomogramsRun]:
    """Diagnose the bias of picks in tomograms into ``out``; yields :class:`Progress`.

    Writes ``twin/particles.star`` and ``twin/*.mrc`` (sub-tomograms of noise), ``average.mrc``, ``noise_average.mrc``,
    ``predicted_bias.mrc``, ``bias_removed.mrc`` with its halves, ``noise_bias_removed.mrc``, ``map_bias_removed.mrc``,
    ``fdr.csv``, ``fsc.csv``, ``candidates.npz``, and the common files.

    Parameters
    ----------
    tomograms : TomogramSet
        From :func:`napari_pickbias.records.tomograms.open_tomograms`.
    template : TemplateInput
        A map, from :func:`napari_pickbias.runs.pick.open_template_input`.
    parameters : BiasTomogramsParameters
    out : str or Path
        Output directory; see :func:`napari_pickbias.runs.directory.claim` for ``overwrite`` and ``resume``.
    template_path : str or Path
        The file of ``template``.
    threads : int
        No result depends on it.

    Raises
    ------
    InputError
        Everything the user can mend.
    """
    start = time.perf_counter()
    inputs = describe_inputs([Path(template_path), *tomograms.input_files()])
    chosen = parameters.model_dump(mode="json")
    with claim(out, TOOL, chosen, inputs, overwrite=overwrite, resume=resume) as directory:
        path = directory.path
        if directory.finished:
            yield Progress("finished", 1, 1, f"{path}: this run is finished already; nothing to do")
            files = {"html": path / "report.html", "pdf": path / "report.pdf"}
            return BiasTomogramsRun(path, files, read_summary(path / "summary.json"), None)
        with run_log(path / "pickbias.log", TOOL, chosen) as log:
            result = yield from _diagnosed(tomograms, template, parameters, directory, threads, log)
            seconds = {"diagnose": time.perf_counter() - start}
            for text in result.warnings:
                log.warning(text)
            log.info(f"{result.verdict.name}: {result.verdict.why}")
            yield Progress("write", 0, 2, "writing the noise twin, averages and tables")
            files = _write_maps(result, path) | _write_tables(result, path) | _write_twin(result, path)
            files["candidates"] = path / CANDIDATES
            picking = parameters.picking(result.lowpass)
            write_candidates(files["candidates"], result.candidates, tomograms, picking)
            directory.record_outputs(list(files.values()))
            yield Progress("write", 1, 2, "writing the report")
            summary = build_summary(TOOL, chosen, inputs, results_of(result), seconds)
            files |= write_bias_tomograms_report(result, summary, path)
            seconds["total"] = time.perf_counter() - start
            summary = build_summary(TOOL, chosen, inputs, summary["results"], seconds)
            files |= {"summary": path / "summary.json", "log": path / "pickbias.log"}
            write_summary(files["summary"], summary)
            directory.record_outputs(list(files.values()))
        directory.finish()
    yield Progress("write", 2, 2)
    return BiasTomogramsRun(path, files, summary, result)


def results_of(result: BiasTomogramsResult) -> dict[str, Any]:
    """Return the figures that scripts may rely on; where the diagnosis of micrographs has them, names are the same."""
    d, verdict = result.diagnosis, result.verdict
    rate = None if verdict.fdr_failed or not np.isfinite(result.rate.value) else result.rate
    return {
        "verdict": verdict.name,
        "why": verdict.why,
        "agreement": verdict.agreement,
        "relative_agreement": verdict.relative_agreement,
        "threshold": result.threshold,
        "observed_picks": result.count,
        "expected_null_picks": result.expected_null_picks,
        "null_fraction": None if rate is None else rate.value,
        "null_fraction_interval": None if rate is None else [rate.low, rate.high],
        "recommended_threshold": result.recommended,
        "evidence_beyond_band": {**d.beyond._asdict(), "z": d.beyond.z},
        "evidence_in_band": {**d.inside._asdict(), "z": d.inside.z},
        "template_agreement": {**d.agreement._asdict(), "z": d.agreement.z},
        "plain_agreement": {"in_band": d.plain[0], "beyond": d.plain[1]},
        "noise_twin": {
            "picks": d.twin_picks, "in_band": d.twin_inside, "beyond": d.twin_beyond,
            "template_agreement": d.twin_agreement, "plain_in_band": d.twin_plain[0], "plain_beyond": d.twin_plain[1],
        },
        "correlation_with_predicted_bias": {
            "average": d.correlation, "noise_average": d.twin_correlation, "expected_of_noise": d.predicted_correlation,
        },
        "lowpass": result.lowpass,
        "band_shells": {"inside": list(result.frame.bands.inside), "beyond": list(result.frame.bands.beyond)},
        "span_dimensions": len(result.frame.basis),
        "box_px": result.frame.box,
        "working_pixel_size": result.frame.voxel_size,
        "orientations": len(result.frame.bank),
        "tomograms": len(result.candidates.names),
        "left_out": len(result.candidates.faults),
        "picks_per_tomogram": {name: len(table) for name, table in result.picks.items()},
        "trusted_share": result.calibration.trusted_share,
        "contrast": result.candidates.facts["contrast"],
        "warnings": list(result.warnings),
    }  # fmt: skip


def _diagnosed(
    tomograms: TomogramSet,
    template: TemplateInput,
    parameters: BiasTomogramsParameters,
    directory: RunDirectory,
    threads: int,
    log: Any,
) -> Generator[Progress, None, BiasTomogramsResult]:
    """Run the job, with a folder for volumes that goes whatever happens; messages go to the log."""
    state = directory.path / STATE
    for left in state.glob("scratch*"):  # of a run that was killed
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix="scratch", dir=state, ignore_cleanup_errors=True) as folder:
        job = bias_tomograms_job(tomograms, template, parameters, Path(folder), threads=threads, checkpoints=directory)
        try:
            while True:
                progress = next(job)
                if progress.message:
                    log.info(progress.message)
                yield progress
        except StopIteration as end:
            found: BiasTomogramsResult = end.value
            return found
        except OSError as fault:
            raise write_fault(state, fault) from fault
        except GeneratorExit:
            log.warning("stopped by the user")
            job.close()
            raise


def _write_maps(result: BiasTomogramsResult, path: Path) -> dict[str, Path]:
    d = result.diagnosis
    maps: dict[str, NDArray[Any]] = {
        "average": d.average,
        "noise_average": d.twin_average,
        "predicted_bias": d.predicted,
        "bias_removed": d.removed,
        "bias_removed_half1": d.halves[0],
        "bias_removed_half2": d.halves[1],
        "noise_bias_removed": d.twin_removed,
        "map_bias_removed": d.sharp,
    }
    voxel = result.frame.voxel_size
    return {name: write_mrc(path / f"{name}.mrc", cube.astype(np.float32), voxel) for name, cube in maps.items()}


def _write_tables(result: BiasTomogramsResult, path: Path) -> dict[str, Path]:
    d, curve = result.diagnosis, result.calibration.fdr
    fdr = pd.DataFrame(columns=["threshold", "picks", "expected_null_picks", "fdr", "low", "high"])
    if curve is not None and not result.verdict.fdr_failed:
        fdr = pd.DataFrame(
            {
                "threshold": curve.thresholds, "picks": curve.picks, "expected_null_picks": curve.false_picks,
                "fdr": curve.fdr, "low": curve.low, "high": curve.high,
            }
        )  # fmt: skip
    with np.errstate(divide="ignore"):
        resolution = 1 / d.frequency
    fsc = pd.DataFrame(
        {
            "resolution_angstrom": resolution, "plain": d.fsc_plain, "bias_removed": d.fsc_removed,
            "null_low": d.null_low, "null_high": d.null_high, "noise_plain": d.twin_fsc_plain,
            "noise_bias_removed": d.twin_fsc_removed,
        }
    )  # fmt: skip
    files = {"fdr": path / "fdr.csv", "fsc": path / "fsc.csv"}
    for table, target in ((fdr, files["fdr"]), (fsc, files["fsc"])):
        with atomic_path(target) as temporary:
            table.to_csv(temporary, index=False, float_format="%.6g")
    return files


def _write_twin(result: BiasTomogramsResult, path: Path) -> dict[str, Path]:
    """Write the picks of noise as sub-tomograms: one map each, as RELION 3.1's and 4's 3-D particles are."""
    if not len(result.twin_cubes):
        return {}
    folder = path / "twin"
    folder.mkdir(exist_ok=True)
    files = {"twin": folder / "particles.star"}
    rows, names = [], []
    for name, table in result.twins.items():
        rows.append(table)
        names += [f"noise_of_{name}"] * len(table)
    table = np.concatenate(rows)
    here = Path.cwd()
    for number, cube in enumerate(result.twin_cubes, 1):
        files[f"twin_{number:06d}"] = write_mrc(folder / f"{number:06d}.mrc", cube, result.frame.voxel_size)
    shown = folder.relative_to(here) if folder.is_absolute() and folder.is_relative_to(here) else folder
    euler = result.candidates.euler_deg[table["template"]]
    particles = pd.DataFrame(
        {
            "rlnImageName": [f"{shown.as_posix()}/{number:06d}.mrc" for number in range(1, len(table) + 1)],
            "rlnMicrographName": names,
            **{f"rlnCoordinate{axis.upper()}": table[axis].astype(float) for axis in "xyz"},
            **{f"rlnAngle{angle}": euler[:, column] for column, angle in enumerate(("Rot", "Tilt", "Psi"))},
            "rlnAutopickFigureOfMerit": table["score"].astype(float),
            "rlnOpticsGroup": 1,
        }
    )
    optics = pd.DataFrame(
        {
            "rlnOpticsGroupName": ["noiseTwin"], "rlnOpticsGroup": [1], "rlnVoltage": [300.0],
            "rlnSphericalAberration": [2.7], "rlnAmplitudeContrast": [0.1],
            "rlnImagePixelSize": [result.frame.voxel_size], "rlnImageSize": [result.frame.box],
            "rlnImageDimensionality": [3],
        }
    )  # fmt: skip
    with atomic_path(files["twin"]) as temporary:
        starfile.write({"optics": optics, "particles": particles}, temporary, float_format="%.6f")
    return files
