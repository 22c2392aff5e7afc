"""The bias run: micrographs, templates and picks in; noise twin, averages, tables, summary and report out."""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import starfile  # type: ignore[import-untyped]
from numpy.typing import NDArray

from napari_pickbias.errors import InputError
from napari_pickbias.imaging.fourier import radius_grid
from napari_pickbias.jobs.bias import BiasResult, bias_job
from napari_pickbias.jobs.bias_classes import Classes, class_job
from napari_pickbias.jobs.bias_parameters import BiasParameters
from napari_pickbias.jobs.bias_picker import PickerNull, with_picker
from napari_pickbias.jobs.bias_views import ViewRecall, view_recall
from napari_pickbias.jobs.pick_templates import TemplateInput
from napari_pickbias.jobs.progress import Progress
from napari_pickbias.records import write_mrc
from napari_pickbias.records.atomic import atomic_path
from napari_pickbias.records.micrographs import MicrographSet, one_pixel_size, read_headers
from napari_pickbias.report.bias import write_bias_report
from napari_pickbias.runs.bias_classes import classes_of, write_classes
from napari_pickbias.runs.bias_picker import (
    WORK,
    PickerCommand,
    pick_data,
    pick_noise,
    picker_of,
    split_command,
    write_picker,
)
from napari_pickbias.runs.bias_picks import ForeignPicks, check_inside, read_poses, read_scored_picks
from napari_pickbias.runs.bias_volume import check_further, further_passes
from napari_pickbias.runs.directory import claim, describe_inputs
from napari_pickbias.runs.log import run_log
from napari_pickbias.runs.pick import CANDIDATES, write_candidates
from napari_pickbias.runs.summary import build_summary, read_summary, write_summary

TOOL = "pickbias bias"


@dataclass(frozen=True)
class BiasRun:
    """A finished run: where its files are, and its results (None when it had been finished before)."""

    directory: Path
    files: dict[str, Path]
    summary: dict[str, Any]
    result: BiasResult | None


def run_bias(
    micrographs: MicrographSet,
    templates: TemplateInput,
    parameters: BiasParameters,
    out: str | Path,
    *,
    template_path: str | Path,
    picks: str | Path | None = None,
    picks_pixel_size: float | None = None,
    poses: str | Path | None = None,
    picker: str | None = None,
    picker_timeout: float | None = None,
    averages: TemplateInput | None = None,
    threads: int = 1,
    overwrite: bool = False,
    resume: bool = False,
    shared: bool = False,
    report_name: str = "report",
) -> Generator[Progress, None, BiasRun]:
    """Diagnose the bias of picks into ``out``; yields :class:`Progress`, returns a :class:`BiasRun`.

    Writes ``twin/particles.star`` and ``.mrcs`` (the noise twin), ``class_averages.mrcs``, ``predicted_bias.mrcs``,
    ``noise_averages.mrcs``, ``bias_removed.mrcs``, ``fdr.csv``, ``frc.csv``, ``picks_scored.star``, common files; and
    for whoever shows them again ``templates.mrcs``, ``templates_unfiltered.mrcs``, ``noise_bias_removed.mrcs``,
    ``example.mrcs`` (a micrograph as matched, its noise) and ``candidates.npz`` (all peaks, as ``pickbias pick``).

    Parameters
    ----------
    micrographs : MicrographSet
    templates : TemplateInput
        From :func:`napari_pickbias.runs.pick.open_template_input`.
    parameters : BiasParameters
    out : str or Path
        Output directory; see :func:`napari_pickbias.runs.directory.claim` for ``overwrite``, ``resume``, ``shared``.
    template_path : str or Path
        The file of ``templates``.
    picks : str or Path, optional
        Picks of another program; without, the templates pick.
    picks_pixel_size : float, optional
        Å, of the pixels that ``picks`` count in.
    poses : str or Path, optional
        Refined particles of these micrographs: tells which views the picks miss.
    picker : str, optional
        Command of a program that picks, see :func:`napari_pickbias.runs.bias_picker.split_command`: it is run on the
        micrographs (unless ``picks`` are given) and on noise like them, and that is what its picks are judged by.
    picker_timeout : float, optional
        Seconds that one run of it may take.
    averages : TemplateInput, optional
        Class averages that another program made of these picks; compared with what bias alone gives.
    threads : int
        No result depends on it.
    report_name : str
        Stem of the PDF report.

    Raises
    ------
    InputError
        Everything the user can mend.
    """
    start = time.perf_counter()
    check_further(templates, parameters)
    record = micrographs.micrographs
    own: ForeignPicks | None = None
    program = None if picker is None else PickerCommand(picker, split_command(picker), picks_pixel_size, picker_timeout)
    pick_files: list[Path] = []
    notes: list[str] = []
    if picks is not None:
        own = read_scored_picks(picks, record.names, one_pixel_size(record), picks_pixel_size)
        pick_files, notes = own.files, own.notes
        headers = read_headers(record)
        check_inside(own.places, {n: (h.shape[1], h.shape[2]) for n, h in zip(record.names, headers, strict=True)})
    refined = None if poses is None else read_poses(poses, record.names, one_pixel_size(record))
    if poses is not None:
        pick_files = [*pick_files, Path(poses)]
    inputs = describe_inputs([Path(template_path), *pick_files, *micrographs.input_files()])
    chosen = {
        **parameters.model_dump(),
        "picks": None if picks is None else str(picks),
        "picks_pixel_size": picks_pixel_size,
        "poses": None if poses is None else str(poses),
        "picker": picker,
        "picker_timeout": picker_timeout,
        "averages": None if averages is None else averages.name,
    }
    with claim(out, TOOL, chosen, inputs, overwrite=overwrite, resume=resume, shared=shared) as directory:
        path = directory.path
        if directory.finished:
            yield Progress("finished", 1, 1, f"{path}: this run is finished already; nothing to do")
            files = {"html": path / "report.html", "pdf": path / f"{report_name}.pdf"}
            return BiasRun(path, files, read_summary(path / "summary.json"), None)
        with run_log(path / "pickbias.log", TOOL, chosen) as log:
            if program is not None and own is None:
                own = yield from pick_data(program, record, path / WORK, directory)
                notes = own.notes
            result = yield from bias_job(
                micrographs, templates, parameters, picks=None if own is None else own.places, threads=threads,
                checkpoints=directory,
            )  # fmt: skip
            taken: PickerNull | None = None
            if program is not None and own is not None and result.count:
                taken = yield from pick_noise(program, record, result, own, path / WORK, directory)
                result = with_picker(result, taken)
            seconds = {"diagnose": time.perf_counter() - start}
            warnings = [*notes, *result.warnings]
            for text in warnings:
                log.warning(text)
            log.info(f"{result.verdict.name}: {result.verdict.why}")
            if result.count == 0:
                raise InputError(
                    f"no pick reaches a score of {result.threshold:.2f}; lower --threshold, or check --pixel-size and "
                    "--contrast"
                )
            pixel = result.candidates.pixel_size_angstrom
            recall = (
                None if refined is None
                else view_recall(refined, result.picks, result.candidates.diameter_angstrom / pixel)
            )  # fmt: skip
            classes: Classes | None = None
            if parameters.class_averages is not None or averages is not None:
                classes = yield from class_job(
                    micrographs, templates, result, parameters.class_averages or 0, align=parameters.align_classes,
                    given=averages,
                )  # fmt: skip
            further = yield from further_passes(micrographs, templates, result, path, threads, directory)
            yield Progress("write", 0, 2, "writing the noise twin, averages and tables")
            files = _write_pictures(result, path) | _write_tables(result, path) | _write_twin(result, path)
            if taken is not None:
                files |= write_picker(taken, path)
            if classes is not None:
                files |= write_classes(classes, path, result.frame.pixel_size)
            files |= further.files
            directory.record_outputs(list(files.values()))
            yield Progress("write", 1, 2, "writing the report")
            results = results_of(result, warnings) | ({} if recall is None else {"view_recall": recall_of(recall)})
            results |= {} if taken is None else {"picker": picker_of(taken)}
            results |= {} if classes is None else {"classes": classes_of(classes)}
            results |= further.results
            summary = build_summary(TOOL, chosen, inputs, results, seconds)
            files |= write_bias_report(result, summary, path, report_name, recall, taken, classes, further.sections)
            seconds["total"] = time.perf_counter() - start
            summary = build_summary(TOOL, chosen, inputs, summary["results"], seconds)
            files |= {"summary": path / "summary.json", "log": path / "pickbias.log"}
            write_summary(files["summary"], summary)
            directory.record_outputs(list(files.values()))
        directory.finish()
    yield Progress("write", 2, 2)
    return BiasRun(path, files, summary, result)


def results_of(result: BiasResult, warnings: list[str]) -> dict[str, Any]:
    """Return the figures that scripts may rely on."""
    first, verdict, diagnosis = result.diagnosis.levels[0], result.verdict, result.diagnosis
    rate = None if verdict.fdr_failed or not np.isfinite(result.rate.value) else result.rate
    return {
        "verdict": verdict.name,
        "why": verdict.why,
        "agreement": verdict.agreement,
        "relative_agreement": verdict.relative_agreement,
        "threshold": result.threshold,
        "observed_picks": result.count,
        "expected_null_picks": result.expected_null_picks,
        "expected_null_picks_interval": list(result.null_interval),
        "null_fraction": None if rate is None else rate.value,
        "null_fraction_interval": None if rate is None else [rate.low, rate.high],
        "recommended_threshold": result.recommended,
        "data_threshold": result.data_threshold,
        "evidence_beyond_band": {**first.beyond._asdict(), "z": first.beyond.z},
        "evidence_in_band": {**first.inside._asdict(), "z": first.inside.z},
        "template_agreement": {**first.agreement._asdict(), "z": first.agreement.z},
        "plain_agreement": {"in_band": first.plain[0], "beyond": first.plain[1]},
        "noise_twin": {
            "in_band": diagnosis.twin_inside, "beyond": diagnosis.twin_beyond,
            "template_agreement": diagnosis.twin_agreement,
        },
        "levels": [
            {
                "threshold": threshold, "picks": level.picks, "null_fraction": part.value,
                "null_fraction_interval": [part.low, part.high], "evidence_beyond_band": level.beyond.value,
                "verdict": word.name,
            }
            for level, (threshold, part, word) in zip(diagnosis.levels, result.levels, strict=True)
        ],
        "class_averages": [
            {
                "index": index + 1, "template": one.view + 1, "picks": one.picks, "correlation": one.correlation,
                "predicted_null_correlation": one.predicted_null_correlation, "frc_plain": one.frc_plain,
                "frc_bias_removed": one.frc_bias_removed, "null_band": list(one.null_band),
            }
            for index, one in enumerate(diagnosis.classes)
        ],
        "lowpass": result.lowpass,
        "band_shells": {"inside": list(result.frame.bands.inside), "beyond": list(result.frame.bands.beyond)},
        "working_pixel_size": result.frame.pixel_size,
        "micrographs": len(result.candidates.names),
        "left_out": len(result.candidates.faults),
        "trusted_share": result.calibration.trusted_share,
        "contrast": result.candidates.facts["contrast"],
        "knockoff": result.candidates.facts.get("knockoff"),
        "warnings": warnings,
    }  # fmt: skip


def recall_of(recall: ViewRecall) -> dict[str, Any]:
    """Return the recall by view for scripts."""
    return {
        "tilt_edges_deg": recall.edges, "particles": recall.particles, "found": recall.found, "recall": recall.recall,
        "interval_low": recall.low, "interval_high": recall.high, "p": recall.p, "misses_views": recall.misses,
        "worst_tilt_deg": list(recall.edges[recall.worst : recall.worst + 2]), "worst_p": recall.worst_p,
    }  # fmt: skip


def _write_pictures(result: BiasResult, path: Path) -> dict[str, Path]:
    diagnosis, pixel = result.diagnosis, result.frame.pixel_size
    _, first = np.unique(result.frame.turns.view, return_index=True)
    stacks: dict[str, NDArray[Any]] = {
        "class_averages": diagnosis.averages,
        "predicted_bias": diagnosis.predicted,
        "noise_averages": diagnosis.twin_averages,
        "bias_removed": diagnosis.removed,
        "noise_bias_removed": diagnosis.twin_removed_averages,
        "templates": result.frame.bank.images[first],
        "templates_unfiltered": diagnosis.sharp,
        "example": np.stack(result.example[1:]),
    }
    return {
        name: write_mrc(path / f"{name}.mrcs", images.astype(np.float32), pixel, stack=True)
        for name, images in stacks.items()
    }


def _write_tables(result: BiasResult, path: Path) -> dict[str, Path]:
    diagnosis = result.diagnosis
    files = {"fdr": path / "fdr.csv", "frc": path / "frc.csv", "picks": path / "picks_scored.star"}
    files["candidates"] = path / CANDIDATES
    write_candidates(files["candidates"], result.candidates)
    curve = result.calibration.fdr
    fdr = pd.DataFrame(columns=["threshold", "picks", "expected_null_picks", "fdr", "low", "high"])
    if curve is not None and not result.verdict.fdr_failed:
        fdr = pd.DataFrame(
            {
                "threshold": curve.thresholds, "picks": curve.picks, "expected_null_picks": curve.false_picks,
                "fdr": curve.fdr, "low": curve.low, "high": curve.high,
            }
        )  # fmt: skip
    frequency = diagnosis.frequency
    with np.errstate(divide="ignore"):
        resolution = 1 / frequency
    frc = pd.DataFrame(
        {
            "resolution_angstrom": resolution, "plain": diagnosis.frc_plain, "bias_removed": diagnosis.frc_removed,
            "null_low": diagnosis.null_low, "null_high": diagnosis.null_high, "noise_plain": diagnosis.twin_plain,
            "noise_bias_removed": diagnosis.twin_removed,
        }
    )  # fmt: skip
    for table, target in ((fdr, files["fdr"]), (frc, files["frc"])):
        with atomic_path(target) as temporary:
            table.to_csv(temporary, index=False, float_format="%.6g")
    with atomic_path(files["picks"]) as temporary:
        starfile.write({"": _scored(result)}, temporary, float_format="%.6f")
    return files


def _scored(result: BiasResult) -> pd.DataFrame:
    """Return the picks with score, template and chance of being noise, one row a pick."""
    rows = []
    p = p_of(result)
    for name, table in result.picks.items():
        if not len(table):
            continue
        template = table["template"]
        rows.append(
            pd.DataFrame(
                {
                    "rlnMicrographName": name,
                    "rlnCoordinateX": table["x"].astype(float),
                    "rlnCoordinateY": table["y"].astype(float),
                    "rlnAnglePsi": result.candidates.euler_deg[template, 2],
                    "rlnClassNumber": result.candidates.view[template] + 1,
                    "rlnAutopickFigureOfMerit": table["score"].astype(float),
                    "pickbiasPValue": p[name],
                }
            )
        )
    return pd.concat(rows, ignore_index=True)


def p_of(result: BiasResult) -> dict[str, NDArray[np.float64]]:
    """Return for each pick the share of noise peaks as high."""
    null = np.sort(np.concatenate([table["score"] for match in result.candidates.used for table in match.null_peaks]))
    return {
        name: (1 + len(null) - np.searchsorted(null, table["score"])) / (1 + len(null))
        for name, table in result.picks.items()
    }


def _write_twin(result: BiasResult, path: Path) -> dict[str, Path]:
    """Write the picks of noise as an ordinary particle stack, normalised as RELION extracts."""
    folder = path / "twin"
    folder.mkdir(exist_ok=True)
    files = {"twin": folder / "particles.star", "twin_stack": folder / "particles.mrcs"}
    images = result.twin_patches.astype(np.float64)
    ring = radius_grid(images.shape[-1]) > images.shape[-1] * 0.43
    images -= images[:, ring].mean(axis=1)[:, None, None]
    images /= images[:, ring].std(axis=1)[:, None, None]
    write_mrc(files["twin_stack"], images.astype(np.float32), result.frame.pixel_size, stack=True)
    count = len(images)
    names = np.concatenate([np.full(len(t), f"noise_of_{Path(n).name}") for n, t in result.twin_rows.items()])
    table = np.concatenate(list(result.twin_rows.values()))
    stack = files["twin_stack"]
    shown = stack.relative_to(Path.cwd()) if stack.is_absolute() and stack.is_relative_to(Path.cwd()) else stack
    particles = pd.DataFrame(
        {
            "rlnImageName": [f"{number + 1:06d}@{shown.as_posix()}" for number in range(count)],
            "rlnMicrographName": names,
            "rlnCoordinateX": table["x"].astype(float),
            "rlnCoordinateY": table["y"].astype(float),
            "rlnAutopickFigureOfMerit": table["score"].astype(float),
            "rlnClassNumber": result.candidates.view[table["template"]] + 1,
            "rlnOpticsGroup": 1,
        }
    )
    optics = pd.DataFrame(
        {
            "rlnOpticsGroupName": ["noiseTwin"], "rlnOpticsGroup": [1], "rlnVoltage": [300.0],
            "rlnSphericalAberration": [2.7], "rlnAmplitudeContrast": [0.1],
            "rlnImagePixelSize": [result.frame.pixel_size], "rlnImageSize": [images.shape[-1]],
            "rlnImageDimensionality": [2],
        }
    )  # fmt: skip
    with atomic_path(files["twin"]) as temporary:
        starfile.write({"optics": optics, "particles": particles}, temporary, float_format="%.6f")
    return files
