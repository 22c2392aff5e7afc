"""The picking run: micrographs and templates in; picks, coordinate files, candidates, summary and report out."""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from napari_pickbias.errors import InputError
from napari_pickbias.jobs.pick import PickResult, basis_line, check, decide
from napari_pickbias.jobs.pick_candidates import PickCandidates, candidate_arrays, candidates_of_arrays
from napari_pickbias.jobs.pick_match import match_all
from napari_pickbias.jobs.pick_parameters import PickParameters
from napari_pickbias.jobs.pick_templates import TemplateInput
from napari_pickbias.jobs.progress import Progress
from napari_pickbias.records.atomic import atomic_path
from napari_pickbias.records.micrographs import MicrographSet
from napari_pickbias.records.mrc import write_mrc
from napari_pickbias.records.templates import read_templates
from napari_pickbias.records.volume import read_micrograph, read_volume
from napari_pickbias.report.pick import Shown, write_pick_report
from napari_pickbias.runs.directory import RunDirectory, claim, describe_inputs
from napari_pickbias.runs.log import run_log
from napari_pickbias.runs.summary import build_summary, read_summary, write_summary

TOOL = "pickbias pick"
CANDIDATES = "candidates.npz"
WRITERS = "napari_pickbias.pick_writers"
SHOWN_PX, SHOWN = 800, 2
"""Longest side, and number, of the micrographs in the report."""


@dataclass(frozen=True)
class PickRun:
    """A finished run: where its files are, and its results (None when it had been finished before)."""

    directory: Path
    files: dict[str, Path]
    summary: dict[str, Any]
    result: PickResult | None


def open_template_input(
    map_path: str | Path | None, templates: str | Path | None, pixel_size: float | None = None
) -> TemplateInput:
    """Read what is looked for.

    Raises
    ------
    InputError
        When neither or both are given, or the file cannot be used.
    """
    if (map_path is None) == (templates is None):
        given = "neither is given" if map_path is None else "both are given"
        raise InputError(f"--map, --templates: {given}; give a map or templates")
    if map_path is not None:
        if not Path(map_path).is_file():
            raise InputError(f"--map {map_path}: no such file; give a map (.mrc, .map)")
        try:
            volume = read_volume(map_path, pixel_size)
        except InputError as fault:
            raise InputError(str(fault).replace("--pixel-size", "--templates-pixel-size")) from None
        if len(set(volume.data.shape)) > 1:
            side = " × ".join(str(n) for n in volume.data.shape)
            raise InputError(f"--map {map_path}: is {side} voxels; the map must be a cube")
        return TemplateInput("map", volume.data, volume.voxel_size_angstrom, f"--map {map_path}")
    assert templates is not None
    found = read_templates(templates, pixel_size)
    return TemplateInput("images", found.images, found.pixel_size_angstrom, f"--templates {templates}")


def run_pick(
    micrographs: MicrographSet,
    templates: TemplateInput,
    parameters: PickParameters,
    out: str | Path,
    *,
    template_path: str | Path,
    threads: int = 1,
    overwrite: bool = False,
    resume: bool = False,
    as_job: bool = False,
    report_name: str = "report",
) -> Generator[Progress, None, PickRun]:
    """Pick particles into ``out``; yields :class:`Progress`, returns a :class:`PickRun`.

    Closing the generator leaves the finished micrographs for ``resume`` and no half-written file.

    Parameters
    ----------
    micrographs : MicrographSet
        From :func:`napari_pickbias.records.micrographs.open_micrographs`.
    templates : TemplateInput
        From :func:`open_template_input`.
    parameters : PickParameters
        Of the job.
    out : str or Path
        Output directory; see :func:`napari_pickbias.runs.directory.claim` for ``overwrite`` and ``resume``.
    template_path : str or Path
        The file of ``templates``.
    threads : int
        No result depends on it.
    as_job : bool
        The directory is that of a RELION job.
    report_name : str
        Stem of the PDF report: RELION wants ``logfile.pdf``.

    Raises
    ------
    InputError
        Everything the user can mend, among it "nothing was picked".
    """
    start = time.perf_counter()
    check(parameters)
    inputs = describe_inputs([Path(template_path), *micrographs.input_files()])
    chosen = parameters.model_dump()
    with claim(out, TOOL, chosen, inputs, overwrite=overwrite, resume=resume, shared=as_job) as directory:
        if directory.finished:
            yield Progress("finished", 1, 1, f"{directory.path}: this run is finished already; nothing to do")
            return _finished(directory.path, report_name)
        with run_log(directory.path / "pickbias.log", TOOL, chosen) as log:
            files: dict[str, Path] = {}
            stems = _stems(micrographs.micrographs.names)

            def write_map(number: int, scores: NDArray[np.float32], pixel_size: float) -> None:
                folder = directory.path / "score_maps"
                folder.mkdir(exist_ok=True)
                write_mrc(folder / f"{stems[number]}_scores.mrc", scores, pixel_size)

            job = match_all(
                micrographs,
                templates,
                parameters,
                threads=threads,
                checkpoints=directory,
                write_map=write_map if parameters.score_maps else None,
            )
            candidates = yield from _logged(job, log)
            seconds = {"match": time.perf_counter() - start}
            if line := basis_line(candidates, parameters):
                log.info(line)
            maps = [directory.path / "score_maps" / f"{stem}_scores.mrc" for stem in stems]
            files |= {f"scores of {path.name}": path for path in maps if parameters.score_maps and path.exists()}
            files["candidates"] = directory.path / CANDIDATES
            write_candidates(files["candidates"], candidates)
            directory.record_outputs(list(files.values()))
            try:
                result = decide(candidates, parameters)
            except InputError as fault:
                again = "" if as_job else f"; without searching again: pickbias pick --rethreshold {out}"
                raise InputError(f"{fault}{again}") from None
            run = yield from _conclude(
                result, directory, inputs, files, seconds, start, micrographs, as_job, report_name, log
            )
        _refuse_none(result, directory.path)
        directory.finish()
    yield Progress("write", 2, 2, f"{result.count} picks")
    return run


def run_rethreshold(
    source: str | Path,
    parameters: PickParameters,
    out: str | Path,
    *,
    overwrite: bool = False,
    resume: bool = False,
) -> Generator[Progress, None, PickRun]:
    """Draw another threshold over the candidates of an earlier run; nothing is searched again.

    Of ``parameters`` the threshold, the FDR and the seed count; everything else is that of the earlier run.

    Raises
    ------
    InputError
        When ``source`` holds no candidates, or nothing is picked.
    """
    start = time.perf_counter()
    path = Path(source) / CANDIDATES
    candidates = read_candidates(path)
    try:
        earlier = read_summary(Path(source) / "summary.json")["parameters"]
    except (OSError, ValueError, KeyError):
        earlier = {}
    changed = parameters.model_dump(include={"threshold", "fdr", "seed"})
    parameters = PickParameters(**{**earlier, **changed})
    check(parameters)
    inputs, chosen = describe_inputs([path]), {**parameters.model_dump(), "rethreshold": str(source)}
    with claim(
        out, TOOL, chosen, inputs, overwrite=overwrite, resume=resume, writes=[CANDIDATES, "picks.star"]
    ) as directory:
        if directory.finished:
            yield Progress("finished", 1, 1, f"{directory.path}: this run is finished already; nothing to do")
            return _finished(directory.path, "report")
        with run_log(directory.path / "pickbias.log", TOOL, chosen) as log:
            result = decide(candidates, parameters)
            files = {"candidates": directory.path / CANDIDATES}
            write_candidates(files["candidates"], candidates)
            directory.record_outputs(list(files.values()))
            run = yield from _conclude(result, directory, inputs, files, {}, start, None, False, "report", log)
        _refuse_none(result, directory.path)
        directory.finish()
    return run


def write_candidates(path: Path, candidates: PickCandidates) -> None:
    """Write all candidates to one file, whole or not at all."""
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, **candidate_arrays(candidates))  # type: ignore[arg-type]


def read_candidates(path: Path) -> PickCandidates:
    """Read what :func:`write_candidates` wrote.

    Raises
    ------
    InputError
        When it is not there, or damaged.
    """
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as saved:
            return candidates_of_arrays({key: saved[key] for key in saved.files})
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; give the folder of an earlier pickbias pick") from None
    except Exception as fault:  # whatever a damaged archive raises
        raise InputError(f"{path}: cannot be read ({type(fault).__name__}); pick again") from fault


def _conclude(
    result: PickResult,
    directory: RunDirectory,
    inputs: list[dict[str, Any]],
    files: dict[str, Path],
    seconds: dict[str, float],
    start: float,
    micrographs: MicrographSet | None,
    as_job: bool,
    report_name: str,
    log: Any,
) -> Generator[Progress, None, PickRun]:
    """Write picks, report and summary."""
    for text in result.warnings:
        log.warning(text)
    yield Progress("write", 0, 2, "writing picks")
    star = None if micrographs is None else micrographs.list_file
    writer = next(iter(entry_points(group=WRITERS, name="star"))).load()
    files |= writer(directory.path, result.picks, micrographs_star=star, as_job=as_job)
    directory.record_outputs(list(files.values()))
    yield Progress("write", 1, 2, "writing the report")
    parameters = result.parameters.model_dump()
    results = _results(result, seconds.get("match", 0.0))
    written = time.perf_counter()
    summary = build_summary(TOOL, parameters, inputs, results, seconds)
    files |= write_pick_report(result, _shown(result, micrographs), summary, directory.path, report_name)
    seconds["report"] = time.perf_counter() - written
    seconds["total"] = time.perf_counter() - start
    # The summary comes last: where it stands, everything else stands too.
    summary = build_summary(TOOL, parameters, inputs, results, seconds)
    files |= {"summary": directory.path / "summary.json", "log": directory.path / "pickbias.log"}
    write_summary(files["summary"], summary)
    directory.record_outputs(list(files.values()))
    return PickRun(directory.path, files, summary, result)


def _refuse_none(result: PickResult, path: Path) -> None:
    if result.count == 0:
        raise InputError(f"{result.warnings[-1]}; see {path / 'report.html'}")


def _finished(path: Path, report_name: str) -> PickRun:
    names = {
        "picks": "picks.star",
        "coordinates": "coordinates.star",
        "coords_suffix": "coords_suffix_picks.star",
        "html": "report.html",
        "pdf": f"{report_name}.pdf",
        "summary": "summary.json",
    }
    files = {key: path / name for key, name in names.items() if (path / name).exists()}
    return PickRun(path, files, read_summary(path / "summary.json"), None)


def _logged(job: Generator[Progress, None, PickCandidates], log: Any) -> Generator[Progress, None, PickCandidates]:
    """Pass progress on, and write its messages to the log."""
    while True:
        try:
            progress = next(job)
        except StopIteration as end:
            found: PickCandidates = end.value
            return found
        if progress.message:
            log.info(progress.message)
        try:
            yield progress
        except GeneratorExit:
            log.warning("stopped by the user")
            job.close()
            raise


def _stems(names: tuple[str, ...]) -> list[str]:
    """Return file names for what belongs to each micrograph: its own, numbered where two are the same."""
    stems = [Path(name).name.split(".mrc")[0] for name in names]
    if len(set(stems)) == len(stems):
        return stems
    return [f"{number + 1:06d}_{stem}" for number, stem in enumerate(stems)]


def _results(result: PickResult, seconds: float) -> dict[str, Any]:
    """Return the figures that scripts may rely on."""
    candidates, facts = result.candidates, result.candidates.facts
    used = len(candidates.used)
    value, low, high = result.expected_false
    bound, deviation = candidates.score_error
    q = [float(columns["q_value"].max()) for columns in result.picks.values() if len(columns["q_value"])]
    return {
        "micrographs": len(candidates.names),
        "left_out": len(candidates.faults),
        "picks": result.count,
        "threshold": result.threshold,
        "expected_null_picks": value * used,
        "expected_null_picks_per_micrograph": {"value": value, "low": low, "high": high},
        "fdr": None if result.fdr is None else result.fdr[0],
        "fdr_interval": None if result.fdr is None else list(result.fdr[1:]),
        "no_fdr_because": result.calibration.failed,
        "largest_q": max(q) if q else None,
        "seconds_per_micrograph": round(seconds / max(len(candidates.names), 1), 3),
        "contrast": facts["contrast"],
        "measured_contrast": facts["measured_contrast"],
        "diameter": candidates.diameter_angstrom,
        "min_distance": candidates.min_distance_angstrom,
        "pixel_size": candidates.pixel_size_angstrom,
        "working_pixel_size": facts["working_pixel_size"],
        "templates": facts["templates"],
        "ctf": facts["ctf"],
        "score_error": {"largest": bound, "standard_deviation_on_noise": deviation} if bound else None,
        "trusted_share": result.calibration.trusted_share,
        "picks_per_micrograph": {name: len(columns["score"]) for name, columns in result.picks.items()},
        "warnings": list(result.warnings),
    }


def _shown(result: PickResult, micrographs: MicrographSet | None) -> list[Shown]:
    """Return the micrographs with the most and with the median number of picks, small enough for a page."""
    if micrographs is None:
        return []
    paths = dict(zip(micrographs.micrographs.names, micrographs.micrographs.paths, strict=True))
    order = sorted(result.picks, key=lambda name: -len(result.picks[name]["score"]))
    chosen = list(dict.fromkeys([order[0], order[len(order) // 2]]))[:SHOWN] if order else []
    shown = []
    for name in chosen:
        image = read_micrograph(paths[name])
        step = max(1, -(-max(image.shape) // SHOWN_PX))
        height, width = (side // step * step for side in image.shape)
        small = image[:height, :width].reshape(height // step, step, width // step, step).mean(axis=(1, 3))
        # Smoothed a little, as an eye needs it that looks for particles.
        reach = result.candidates.diameter_angstrom / (12 * step * result.candidates.pixel_size_angstrom)
        small = gaussian_filter(small, reach, mode="nearest")
        columns = result.picks[name]
        centres = (np.column_stack([columns["x_px"], columns["y_px"]]) + 0.5) / step - 0.5
        pixel = result.candidates.pixel_size_angstrom * step
        shown.append(Shown(name, np.asarray(small, np.float32), pixel, centres, columns["q_value"], columns["score"]))
    return shown
