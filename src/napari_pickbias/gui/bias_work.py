"""A finished diagnosis of bias as its dock shows it: the story, and all picks to look through. No Qt."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from napari_pickbias.gui.threshold import PickView, pick_view
from napari_pickbias.jobs.pick_candidates import PickCandidates
from napari_pickbias.records import Micrographs
from napari_pickbias.report.bias_story import BiasStory
from napari_pickbias.runs.bias_story import peaks_of, q_of_scores, read_bias_story, read_star
from napari_pickbias.runs.pick import CANDIDATES


class BiasShown(NamedTuple):
    """What the dock of the diagnosis shows: the story, and the picks to look through (None where there are none)."""

    story: BiasStory
    view: PickView | None


def show_bias(out: Path, seed: int, foreign: bool, micrographs: Micrographs | None) -> BiasShown:
    """Return what shows the diagnosis in a folder; without ``micrographs`` the picks have no pictures."""
    story = read_bias_story(out)
    if not (out / CANDIDATES).exists():
        return BiasShown(story, None)
    result = peaks_of(out, float(story.results["threshold"]), seed)
    view = pick_view(result, micrographs or places(result.candidates, ()))
    picks = read_star(out / "picks_scored.star")
    if foreign and picks is not None:
        number = {name: k for k, name in enumerate(view.micrographs.names)}
        picks = picks[picks["rlnMicrographName"].isin(list(number))]
        scores = picks["rlnAutopickFigureOfMerit"].to_numpy(np.float64)
        table = pd.DataFrame(
            {
                "micrograph": [number[name] for name in picks["rlnMicrographName"]],
                "x_px": picks["rlnCoordinateX"].to_numpy(np.float64),
                "y_px": picks["rlnCoordinateY"].to_numpy(np.float64),
                "score": scores,
                "q_value": q_of_scores(result, scores),
                "p_value": picks["pickbiasPValue"].to_numpy(np.float64),
                "template": picks["rlnClassNumber"].to_numpy(np.int64),
            }
        )
        view = PickView(
            view.micrographs, table, view.null, view.repeats, float(scores.min()) if len(scores) else 0.0,
            view.diameter_angstrom, result, foreign=True,
        )  # fmt: skip
    return BiasShown(story, view)


def places(candidates: PickCandidates, files: Sequence[str]) -> Micrographs:
    """Return the micrographs of candidates where ``files`` has them; others get a path that is not there."""
    by_name: dict[str, Path] = {}
    for name in files:
        by_name.setdefault(PurePath(name).name, Path(name))
    paths = tuple(by_name.get(PurePath(name).name, Path(name)) for name in candidates.names)
    sizes: Any = np.full(len(paths), candidates.pixel_size_angstrom)
    return Micrographs(paths=paths, names=candidates.names, pixel_size_angstrom=sizes)
