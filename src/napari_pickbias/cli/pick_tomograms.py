"""``pickbias pick --tomograms``."""

from __future__ import annotations

import zipfile
from collections.abc import Collection, Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_pickbias.cli.drive import drive, tell
from napari_pickbias.cli.options import build
from napari_pickbias.errors import InputError
from napari_pickbias.jobs.pick_tomograms_parameters import PickTomogramsParameters
from napari_pickbias.runs.cores import allowed_cores

if TYPE_CHECKING:
    from napari_pickbias.jobs.progress import Progress
    from napari_pickbias.runs.pick_tomograms import PickTomogramsRun

RUN_OPTIONS = {"tomograms", "map_path", "out", "threads", "overwrite", "resume", "quiet"}
AGAIN = {"rethreshold", "threshold", "fdr", "seed", "out", "overwrite", "resume", "quiet", "threads"}
"""Options that mean something where nothing is searched."""


def of_tomograms(rethreshold: str | None) -> bool:
    """Return whether an earlier run, whose folder is given, picked in tomograms."""
    if rethreshold is None:
        return False
    try:
        with zipfile.ZipFile(Path(rethreshold) / "candidates.npz") as saved:
            return "tomograms.npy" in saved.namelist()
    except (OSError, zipfile.BadZipFile):
        return False


def pick_tomograms(values: dict[str, Any], given: Collection[str]) -> None:
    """Run picking in tomograms with the options of ``pickbias pick``; those not given take this job's own defaults.

    Raises
    ------
    InputError
        For an option that is of micrographs only, and everything the run refuses.
    """
    job = _again(values, given) if values["rethreshold"] is not None else _search(values, given)
    run = drive(job, quiet=values["quiet"])
    if not values["quiet"]:
        tell(run, closing_lines, "particles")


def closing_lines(results: dict[str, Any]) -> list[str]:
    """Return what was found, in two lines."""
    used = results["tomograms"] - results["left_out"]
    lines = [f"{results['picks']} picks in {used} tomograms from a score of {results['threshold']:.2f} up"]
    if results["fdr"] is not None:
        low, high = (value or 0.0 for value in results["fdr_interval"])
        lines.append(f"expected share of false picks: {results['fdr']:.1%} ({low:.1%} to {high:.1%})")
    return lines


def _again(values: dict[str, Any], given: Collection[str]) -> Generator[Progress, None, PickTomogramsRun]:
    """Return the job that draws another threshold."""
    for name in sorted(set(given) - AGAIN):
        option = "--map" if name == "map_path" else "--" + name.replace("_", "-")
        raise InputError(f"{option}: is that of the earlier run; leave it out with --rethreshold")
    chosen = build(PickTomogramsParameters, {name: values[name] for name in set(given) & {"threshold", "fdr", "seed"}})
    from napari_pickbias.runs.pick_tomograms import run_rethreshold_tomograms

    return run_rethreshold_tomograms(
        values["rethreshold"],
        chosen.threshold,
        chosen.fdr,
        values["out"],
        seed=chosen.seed if "seed" in given else None,
        overwrite=values["overwrite"],
        resume=values["resume"],
    )


def _search(values: dict[str, Any], given: Collection[str]) -> Generator[Progress, None, PickTomogramsRun]:
    """Return the job that searches tomograms."""
    known = set(PickTomogramsParameters.model_fields)
    for name in sorted(set(given) - known - RUN_OPTIONS):
        option = "--" + name.replace("_", "-")
        raise InputError(f"{option}: is of micrographs; leave it out with --tomograms")
    if values["map_path"] is None:
        raise InputError("--map: is missing; tomograms are searched with a map")
    parameters = build(PickTomogramsParameters, {name: values[name] for name in set(given) & known})
    from napari_pickbias.records.tomograms import open_tomograms
    from napari_pickbias.runs.pick import open_template_input
    from napari_pickbias.runs.pick_tomograms import run_pick_tomograms

    found = open_tomograms(values["tomograms"], parameters.pixel_size)
    template = open_template_input(values["map_path"], None, parameters.templates_pixel_size)
    return run_pick_tomograms(
        found,
        template,
        parameters,
        values["out"],
        template_path=Path(values["map_path"]),
        threads=values["threads"] or allowed_cores(),
        overwrite=values["overwrite"],
        resume=values["resume"],
    )
