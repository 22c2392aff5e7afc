"""The run of picking in tomograms: tomograms and a map in; particles, coordinate files, summary and report out."""

from __future__ import annotations

import shutil
import tempfile
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
from napari_pickbias.jobs.pick_templates import TemplateInput
from napari_pickbias.jobs.pick_tomograms import TomogramCandidates, match_tomograms
from napari_pickbias.jobs.pick_tomograms_decide import TomogramResult, check, decide
from napari_pickbias.jobs.pick_tomograms_parameters import PickTomogramsParameters
from napari_pickbias.jobs.progress import Progress
from napari_pickbias.records.atomic import write_fault
from napari_pickbias.records.mrc import open_data
from napari_pickbias.records.tomograms import TomogramSet
from napari_pickbias.report.pick_tomograms import TomogramSlice, write_tomogram_report
from napari_pickbias.runs.directory import STATE, RunDirectory, claim, describe_inputs
from napari_pickbias.runs.log import run_log
from napari_pickbias.runs.pick_tomograms_files import (
    CANDIDATES,
    read_candidates,
    score_map_files,
    write_candidates,
    write_score_maps,
)
from napari_pickbias.runs.summary import build_summary, read_summary, write_summary

TOOL = "pickbias pick --tomograms"
WRITERS = "napari_pickbias.tomogram_pick_writers"
SHOWN, SHOWN_PX = 2, 800


@dataclass(frozen=True)
class PickTomogramsRun:
    """A finished run: where its files are, and its results (None when it had been finished before)."""

    directory: Path
    files: dict[str, Path]
    summary: dict[str, Any]
    result: TomogramResult | None


def run_pick_tomograms(
    tomograms: TomogramSet,
    template: TemplateInput,
    parameters: PickTomogramsParameters,
    out: str | Path,
    *,
    template_path: str | Path,
    threads: int = 1,
    overwrite: bool = False,
    resume: bool = False,
    shared: bool = False,
    report_name: str = "report",
) -> Generator[Progress, None, PickTomogramsRun]:
    """Pick particles in tomograms into ``out``; yields :class:`Progress`, returns a :class:`PickTomogramsRun`.

    Closing the generator leaves the finished tomograms for ``resume``, and neither scratch nor half-written files.

    Parameters
    ----------
    tomograms : TomogramSet
        From :func:`napari_pickbias.records.tomograms.open_tomograms`.
    template : TemplateInput
        A map, from :func:`napari_pickbias.runs.pick.open_template_input`.
    parameters : PickTomogramsParameters
    out : str or Path
        Output directory; see :func:`napari_pickbias.runs.directory.claim` for ``overwrite`` and ``resume``. Volumes of
        the search lie below it while it lasts.
    template_path : str or Path
        The file of ``template``.
    threads : int
        No result depends on it.
    shared : bool
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
    inputs = describe_inputs([Path(template_path), *tomograms.input_files()])
    chosen = parameters.model_dump(mode="json")
    with claim(out, TOOL, chosen, inputs, overwrite=overwrite, resume=resume, shared=shared) as directory:
        if directory.finished:
            yield Progress("finished", 1, 1, f"{directory.path}: this run is finished already; nothing to do")
            return _finished(directory.path, report_name)
        with run_log(directory.path / "pickbias.log", TOOL, chosen) as log:
            candidates = yield from _searched(tomograms, template, parameters, directory, threads, log)
            seconds = {"match": time.perf_counter() - start}
            files = {"candidates": directory.path / CANDIDATES}
            write_candidates(files["candidates"], candidates, tomograms, parameters)
            maps = [path for name in tomograms.names for path in score_map_files(directory.path, name)]
            files |= {path.name: path for path in maps if parameters.score_maps and path.exists()}
            directory.record_outputs(list(files.values()))
            try:
                result = decide(candidates, parameters)
            except InputError as fault:
                again = "" if shared else f"; without searching again: pickbias pick --rethreshold {out}"
                raise InputError(f"{fault}{again}") from None
            run = yield from _conclude(result, tomograms, directory, inputs, files, seconds, start, report_name, log)
        _refuse_none(result, directory.path)
        directory.finish()
    yield Progress("write", 2, 2, f"{result.count} picks")
    return run


def run_rethreshold_tomograms(
    source: str | Path,
    threshold: float | None,
    fdr: float | None,
    out: str | Path,
    *,
    seed: int | None = None,
    overwrite: bool = False,
    resume: bool = False,
) -> Generator[Progress, None, PickTomogramsRun]:
    """Draw another threshold over the peaks of an earlier run; nothing is searched again.

    Parameters
    ----------
    source : str or Path
        Output directory of the earlier run.
    threshold, fdr : float or None
        At most one of them; 0.05 is the FDR where neither is given.
    out : str or Path
        Another directory.
    seed : int, optional
        Default: that of the earlier run.

    Raises
    ------
    InputError
        When ``source`` holds no peaks of tomograms, or nothing is picked.
    """
    start = time.perf_counter()
    path = Path(source) / CANDIDATES
    earlier = read_candidates(path)
    changed: dict[str, Any] = {"threshold": threshold, "fdr": fdr} | ({} if seed is None else {"seed": seed})
    parameters = PickTomogramsParameters(**{**earlier.parameters.model_dump(), **changed})
    check(parameters)
    inputs = describe_inputs([path])
    chosen = {**parameters.model_dump(mode="json"), "rethreshold": str(source)}
    writes = [CANDIDATES, "particles.star"]
    with claim(out, TOOL, chosen, inputs, overwrite=overwrite, resume=resume, writes=writes) as directory:
        if directory.finished:
            yield Progress("finished", 1, 1, f"{directory.path}: this run is finished already; nothing to do")
            return _finished(directory.path, "report")
        with run_log(directory.path / "pickbias.log", TOOL, chosen) as log:
            result = decide(earlier.candidates, parameters)
            files = {"candidates": directory.path / CANDIDATES}
            write_candidates(files["candidates"], earlier.candidates, earlier.tomograms, parameters)
            directory.record_outputs(list(files.values()))
            run = yield from _conclude(
                result, earlier.tomograms, directory, inputs, files, {"match": 0.0}, start, "report", log
            )
        _refuse_none(result, directory.path)
        directory.finish()
    return run


def _conclude(
    result: TomogramResult,
    tomograms: TomogramSet,
    directory: RunDirectory,
    inputs: list[dict[str, Any]],
    files: dict[str, Path],
    seconds: dict[str, float],
    start: float,
    report_name: str,
    log: Any,
) -> Generator[Progress, None, PickTomogramsRun]:
    """Write picks, report and summary."""
    for text in result.warnings:
        log.warning(text)
    yield Progress("write", 0, 2, "writing picks")
    writer = next(iter(entry_points(group=WRITERS, name="star"))).load()
    shapes = dict(zip(tomograms.names, tomograms.shapes, strict=True))
    centres = {name: tuple(side / 2 for side in reversed(shape)) for name, shape in shapes.items()}
    star = tomograms.list_file
    files |= writer(directory.path, result.picks, centres, tomograms.voxel_size_angstrom, tomograms_star=star)
    directory.record_outputs(list(files.values()))
    yield Progress("write", 1, 2, "writing the report")
    written = time.perf_counter()
    parameters = result.parameters.model_dump(mode="json")
    summary = build_summary(TOOL, parameters, inputs, _results(result, seconds["match"]), seconds)
    files |= write_tomogram_report(result, _slices(result, tomograms), summary, directory.path, report_name)
    seconds |= {"report": time.perf_counter() - written, "total": time.perf_counter() - start}
    summary = build_summary(TOOL, parameters, inputs, _results(result, seconds["match"]), seconds)
    files |= {"summary": directory.path / "summary.json", "log": directory.path / "pickbias.log"}
    # The summary comes last: where it stands, everything else stands too.
    write_summary(files["summary"], summary)
    directory.record_outputs(list(files.values()))
    return PickTomogramsRun(directory.path, files, summary, result)


def _refuse_none(result: TomogramResult, path: Path) -> None:
    if result.count == 0:
        raise InputError(f"{result.warnings[-1]}; see {path / 'report.html'}")


def _searched(
    tomograms: TomogramSet,
    template: TemplateInput,
    parameters: PickTomogramsParameters,
    directory: RunDirectory,
    threads: int,
    log: Any,
) -> Generator[Progress, None, TomogramCandidates]:
    """Search, with a folder for volumes that goes whatever happens; messages go to the log."""
    state = directory.path / STATE
    for left in state.glob("scratch*"):  # of a run that was killed
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix="scratch", dir=state, ignore_cleanup_errors=True) as folder:

        def write_maps(number: int, scores: NDArray[np.float32], best: NDArray[np.integer], voxel_size: float) -> None:
            write_score_maps(directory.path, tomograms.names[number], scores, best, voxel_size)

        job = match_tomograms(
            tomograms, template, parameters, Path(folder), threads=threads, checkpoints=directory,
            write_maps=write_maps if parameters.score_maps else None,
        )  # fmt: skip
        try:
            while True:
                progress = next(job)
                if progress.message:
                    log.info(progress.message)
                yield progress
        except StopIteration as end:
            found: TomogramCandidates = end.value
            return found
        except OSError as fault:
            raise write_fault(state, fault) from fault
        except GeneratorExit:
            log.warning("stopped by the user")
            job.close()
            raise


def _finished(path: Path, report_name: str) -> PickTomogramsRun:
    names = {
        "particles": "particles.star",
        "optimisation_set": "optimisation_set.star",
        "html": "report.html",
        "pdf": f"{report_name}.pdf",
        "summary": "summary.json",
    }
    files = {key: path / name for key, name in names.items() if (path / name).exists()}
    return PickTomogramsRun(path, files, read_summary(path / "summary.json"), None)


def _results(result: TomogramResult, seconds: float) -> dict[str, Any]:
    """Return the figures that scripts may rely on; where picking in micrographs has them too, names are the same."""
    candidates, facts = result.candidates, result.candidates.facts
    q = [float(columns["q_value"].max()) for columns in result.picks.values() if len(columns["q_value"])]
    return {
        "tomograms": len(candidates.names),
        "left_out": len(candidates.faults),
        "picks": result.count,
        "threshold": result.threshold,
        "expected_null_picks": result.expected_false,
        "fdr": None if result.fdr is None else result.fdr[0],
        "fdr_interval": None if result.fdr is None else list(result.fdr[1:]),
        "largest_q": max(q) if q else None,
        "seconds_per_tomogram": round(seconds / max(len(candidates.names), 1), 3),
        "contrast": facts["contrast"],
        "measured_contrast": facts["measured_contrast"],
        "diameter": candidates.diameter_angstrom,
        "min_distance": candidates.min_distance_angstrom,
        "pixel_size": candidates.voxel_size_angstrom,
        "working_pixel_size": facts["working_pixel_size"],
        "orientations": facts["orientations"],
        "picks_per_tomogram": {name: len(columns["score"]) for name, columns in result.picks.items()},
        "warnings": list(result.warnings),
    }


def _slices(result: TomogramResult, tomograms: TomogramSet) -> list[TomogramSlice]:
    """Return the busiest slab, half a particle thick, of the tomograms with the most and the median number of picks."""
    # after --rethreshold tomograms may have moved: then the report has no slices
    places = {name: path for name, path in zip(tomograms.names, tomograms.paths, strict=True) if path.exists()}
    order = sorted(places.keys() & result.picks.keys(), key=lambda name: (-len(result.picks[name]["score"]), name))
    chosen = list(dict.fromkeys([order[0], order[len(order) // 2]]))[:SHOWN] if order else []
    voxel, shown = tomograms.voxel_size_angstrom, []
    reach = max(1, round(result.candidates.diameter_angstrom / voxel / 4))
    for name in chosen:
        data, columns = open_data(places[name]), result.picks[name]
        z = columns["z_px"]
        middle = len(data) // 2
        if len(z):
            middle = int(np.rint(z[np.argmax((np.abs(z[:, None] - z) <= reach).sum(axis=1))]))
        low, high = max(0, middle - reach), min(len(data), middle + reach + 1)
        image = np.asarray(data[low:high], np.float32).mean(axis=0)
        step = max(1, -(-max(image.shape) // SHOWN_PX))
        height, width = (side // step * step for side in image.shape)
        small = image[:height, :width].reshape(height // step, step, width // step, step).mean(axis=(1, 3))
        small = gaussian_filter(small, result.candidates.diameter_angstrom / (16 * step * voxel), mode="nearest")
        near = np.abs(z - middle) <= 2 * reach
        centres = (np.column_stack([columns["x_px"], columns["y_px"]])[near] + 0.5) / step - 0.5
        shown.append(
            TomogramSlice(name, np.asarray(small, np.float32), voxel * step, middle, centres, columns["q_value"][near])
        )
    return shown
