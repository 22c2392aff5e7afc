"""Output folders of finished runs, opened again: what shows them, as after the run itself. No Qt."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from pathlib import Path, PurePath
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd

from napari_pickbias.gui.bias_work import places, show_bias
from napari_pickbias.gui.map_layers import map_layers
from napari_pickbias.gui.preferences import threads
from napari_pickbias.gui.run_work import Finished, RunOrder, start_and_map
from napari_pickbias.gui.softmodes_layers import read_soft
from napari_pickbias.gui.threshold import pick_view
from napari_pickbias.jobs.pick import decide
from napari_pickbias.jobs.pick_parameters import PickParameters
from napari_pickbias.jobs.pickfree_parameters import PickfreeParameters
from napari_pickbias.jobs.progress import Progress
from napari_pickbias.jobs.softmodes_parameters import SoftmodesParameters
from napari_pickbias.report.panels import Panel
from napari_pickbias.report.softmodes_figures import spectrum_panel
from napari_pickbias.runs.bias_story import read_parameters, read_results
from napari_pickbias.runs.pick import CANDIDATES, read_candidates
from napari_pickbias.runs.pickfree import outcome_of
from napari_pickbias.runs.pickfree_live import read_convergence

LISTS = (".star", ".cs", ".csg")
IMAGES = (".mrc", ".mrcs", ".tif", ".tiff")


def bias_folder_steps(folder: Path) -> Generator[Progress, None, Finished]:
    """Open an output folder of ``pickbias bias``.

    Raises
    ------
    InputError
        When it holds no finished diagnosis.
    """
    yield Progress("read", 0, 1)
    summary = read_results(folder, "pickbias bias")
    parameters = read_parameters(summary)
    files = [str(entry["path"]) for entry in summary["inputs"]]
    picks = summary["parameters"].get("picks")
    where, images = _micrographs([name for name in files[1:] if name != picks])
    inputs = {"templates": files[0], "micrographs": where, "picks": picks or ""}
    order = RunOrder(inputs, parameters, folder, "keep", threads())
    found = None
    if (folder / CANDIDATES).exists():
        found = places(read_candidates(folder / CANDIDATES), images)
    yield Progress("show", 0, 1)
    shown = show_bias(folder, parameters.seed, bool(picks), found)
    warnings = list(summary["results"].get("warnings") or [])
    return Finished(order, _files(folder), shown.story.headline, warnings, [], [], shown)


def pick_folder_steps(folder: Path) -> Generator[Progress, None, Finished]:
    """Open an output folder of ``pickbias pick``.

    Raises
    ------
    InputError
        When it holds no finished run.
    """
    yield Progress("read", 0, 1)
    summary = read_results(folder, "pickbias pick")
    known = {k: v for k, v in summary["parameters"].items() if k in PickParameters.model_fields}
    parameters = PickParameters(**known)
    files = [str(entry["path"]) for entry in summary["inputs"]]
    where, images = _micrographs(files[1:])
    candidates = read_candidates(folder / CANDIDATES)
    result = decide(candidates, parameters)
    order = RunOrder({"templates": files[0], "micrographs": where}, parameters, folder, "keep", threads())
    view = pick_view(result, places(candidates, images))
    count, level = summary["results"]["picks"], summary["results"]["threshold"]
    headline = f"{count:,} picks from a score of {level:.2f} up."
    return Finished(order, _files(folder), headline, list(result.warnings), [], [], view)


def softmodes_folder_steps(folder: Path) -> Generator[Progress, None, Finished]:
    """Open an output folder of ``pickbias softmodes``.

    Raises
    ------
    InputError
        When it holds no finished run.
    """
    yield Progress("read", 0, 1)
    shown, summary = read_soft(folder)
    known = {k: v for k, v in summary["parameters"].items() if k in SoftmodesParameters.model_fields}
    files = [str(entry["path"]) for entry in summary["inputs"]]
    inputs = {"map": files[0] if files else "", "particles": files[1] if len(files) > 1 else ""}
    order = RunOrder(inputs, SoftmodesParameters(**known), folder, "keep", threads())
    layers = [*_hidden(Path(inputs["map"])), *_hidden(folder / "uncertainty.mrc")]
    results = summary["results"]
    headline = str(results.get("verdict_text") or "")
    return Finished(
        order, _files(folder), headline[:1].upper() + headline[1:], list(results.get("warnings") or []),
        [_spectrum(folder, results)], layers, shown,
    )  # fmt: skip


def _spectrum(folder: Path, results: Mapping[str, Any]) -> Panel:
    """Return the report's spectrum, of the figures that the folder holds."""
    table = pd.read_csv(folder / "spectrum.csv")
    found = SimpleNamespace(
        eigenvalues=table["eigenvalue"].to_numpy(), residuals=table["residual"].to_numpy(),
        known_pose_eigenvalues=table["known_pose_eigenvalue"].to_numpy(),
    )  # fmt: skip
    error = results.get("binning_error")
    like: Any = SimpleNamespace(found=found, binning_error=None if error is None else np.array(error), scenarios=[])
    return spectrum_panel(like)


def pickfree_folder_steps(folder: Path) -> Generator[Progress, None, Finished]:
    """Open an output folder of ``pickbias pickfree``.

    Raises
    ------
    InputError
        When it holds no finished run.
    """
    yield Progress("read", 0, 1)
    summary = read_results(folder, "pickbias pickfree")
    known = {k: v for k, v in summary["parameters"].items() if k in PickfreeParameters.model_fields}
    files = [str(entry["path"]) for entry in summary["inputs"]]
    where, _ = _micrographs(files[1:])
    inputs = {"map": files[0] if files else "", "micrographs": where}
    order = RunOrder(inputs, PickfreeParameters(**known), folder, "keep", threads())
    headline = outcome_of(summary)
    warnings = list(summary["results"].get("warnings") or [])
    return Finished(
        order, _files(folder), f"{headline[:1].upper()}{headline[1:]}.", warnings, [], start_and_map(folder),
        read_convergence(folder),
    )  # fmt: skip


def _hidden(path: Path) -> list[tuple[Any, dict[str, Any], str]]:
    layers = map_layers(path) if path.is_file() else []
    for _, options, _ in layers:
        options["visible"] = False
    return layers


def _files(folder: Path) -> dict[str, Path]:
    names = {"html": "report.html", "picks": "picks.star", "summary": "summary.json"}
    return {key: folder / name for key, name in names.items() if (folder / name).exists()}


def _micrographs(files: Sequence[str]) -> tuple[str, list[str]]:
    """Return where a run's micrographs were taken from, and their files, out of its inputs."""
    images = [name for name in files if PurePath(name).suffix.lower() in IMAGES]
    lists = [name for name in files if PurePath(name).suffix.lower() in LISTS]
    return (lists[-1] if lists else str(Path(images[0]).parent) if images else ""), images
