"""Reading an output folder of ``pickbias bias`` again, for whoever shows it."""

from __future__ import annotations

from pathlib import Path, PurePath
from typing import Any

import numpy as np
import pandas as pd
import starfile  # type: ignore[import-untyped]
from numpy.typing import NDArray

from napari_pickbias.errors import InputError
from napari_pickbias.jobs.bias_parameters import BiasParameters
from napari_pickbias.jobs.pick import PickResult, decide
from napari_pickbias.jobs.pick_parameters import PickParameters
from napari_pickbias.records import open_data
from napari_pickbias.report.bias import assumed
from napari_pickbias.report.bias_story import PICTURES, BiasStory, Example
from napari_pickbias.runs.pick import CANDIDATES, read_candidates
from napari_pickbias.runs.summary import read_summary

TOOL = "pickbias bias"


def read_results(folder: str | Path, tool: str) -> dict[str, Any]:
    """Return the ``summary.json`` of a finished run.

    Raises
    ------
    InputError
        When the folder holds none, or that of another job.
    """
    path = Path(folder) / "summary.json"
    try:
        summary = read_summary(path)
        found = str(summary["tool"])
    except FileNotFoundError:
        raise InputError(
            f"{folder}: holds no finished run (no summary.json); give an output folder of {tool}"
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as fault:
        raise InputError(f"{path}: cannot be read ({type(fault).__name__}); run {tool} again") from fault
    if found != tool:
        raise InputError(f"{folder}: holds results of {found}; give an output folder of {tool}")
    return summary


def read_bias_story(folder: str | Path) -> BiasStory:
    """Read what a diagnosis says from its output folder; pictures that an older version did not write are left out.

    Raises
    ------
    InputError
        When the folder holds no finished diagnosis, or one of its files is damaged.
    """
    folder = Path(folder)
    summary = read_results(folder, TOOL)
    results = summary["results"]
    pictures = {
        name: np.array(open_data(path), np.float32)
        for name, _ in PICTURES
        if (path := folder / f"{name}.mrcs").exists()
    }
    tables = {}
    for name in ("fdr", "frc"):
        try:
            tables[name] = pd.read_csv(folder / f"{name}.csv", dtype=np.float64)
        except (OSError, ValueError) as fault:
            raise InputError(
                f"{folder / name}.csv: cannot be read ({type(fault).__name__}); run {TOOL} again"
            ) from fault
    twin = read_star(folder / "twin" / "particles.star")
    counts = None
    if twin is not None and pictures:
        views = len(results["class_averages"])
        counts = np.bincount(twin["rlnClassNumber"].to_numpy(np.int64) - 1, minlength=views)
    example = None
    texts: tuple[str, ...] = ()
    if (folder / CANDIDATES).exists():
        parameters = read_parameters(summary)
        found = peaks_of(folder, results["threshold"], parameters.seed)
        texts = assumed(found.candidates, parameters, results["lowpass"])
        if (folder / "example.mrcs").exists():
            example = _example(folder, found, twin, results)
    return BiasStory(
        results, pictures, tables["fdr"], tables["frc"], float(results["working_pixel_size"]), counts, example, texts,
        foreign=bool(summary["parameters"].get("picks")),
    )  # fmt: skip


def read_parameters(summary: dict[str, Any]) -> BiasParameters:
    """Return the parameters of a summary."""
    known = {name: value for name, value in summary["parameters"].items() if name in BiasParameters.model_fields}
    return BiasParameters(**known)


def peaks_of(folder: Path, threshold: float, seed: int) -> PickResult:
    """Return all peaks of a diagnosis with their q-values, its threshold drawn over them.

    Raises
    ------
    InputError
        When ``candidates.npz`` is not there, or damaged.
    """
    return decide(read_candidates(folder / CANDIDATES), PickParameters(threshold=max(threshold, 1e-3), seed=seed))


def q_of_scores(found: PickResult, scores: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the q-value of any score: that of the peaks about as high."""
    known = np.concatenate([np.zeros(0), *(match.peaks["score"] for match in found.candidates.used)])
    q = np.concatenate([np.zeros(0), *found.calibration.q])
    order = np.argsort(known)
    if not len(known):
        return np.full(len(scores), np.nan)
    return np.asarray(np.interp(scores, known[order], q[order]), np.float64)


def _example(folder: Path, found: PickResult, twin: pd.DataFrame | None, results: dict[str, Any]) -> Example | None:
    candidates = found.candidates
    images = np.array(open_data(folder / "example.mrcs"), np.float32)
    number = next((k for k, match in enumerate(candidates.matches) if match is not None), None)
    picks = read_star(folder / "picks_scored.star")
    if number is None or picks is None:
        return None
    name, match = candidates.names[number], candidates.matches[number]
    assert match is not None
    own = picks[picks["rlnMicrographName"] == name]
    border = candidates.facts.get("border_px", 0)
    ratio = np.array([match.ratio[1], match.ratio[0]])
    places = (own[["rlnCoordinateX", "rlnCoordinateY"]].to_numpy(np.float64) - border) / ratio
    noise = np.zeros((0, 2))
    if twin is not None:
        theirs = twin[twin["rlnMicrographName"] == f"noise_of_{PurePath(name).name}"]
        theirs = theirs[theirs["rlnAutopickFigureOfMerit"] >= results["threshold"]]
        noise = theirs[["rlnCoordinateX", "rlnCoordinateY"]].to_numpy(np.float64)
    scores = own["rlnAutopickFigureOfMerit"].to_numpy(np.float64)
    diameter = candidates.diameter_angstrom / float(results["working_pixel_size"])
    return Example(name, images[0], images[1], places, noise, q_of_scores(found, scores), diameter)


def read_star(path: Path) -> pd.DataFrame | None:
    """Return the particles of a STAR file that this program wrote; None where it is not there."""
    if not path.exists():
        return None
    found: dict[str, pd.DataFrame] = starfile.read(path, always_dict=True)
    return next(iter(found.values())) if len(found) == 1 else found["particles"]
