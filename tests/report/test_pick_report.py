"""The report of picking: what it says, and figures that can be drawn in every case."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_pickbias.jobs.pick import PickResult, decide
from napari_pickbias.jobs.pick_candidates import PickCandidates
from napari_pickbias.jobs.pick_parameters import PickParameters
from napari_pickbias.matching.match import MicrographMatch
from napari_pickbias.matching.noise_model import NoiseModel
from napari_pickbias.matching.peaks import PEAK
from napari_pickbias.report.palette import LIGHT
from napari_pickbias.report.pick import Shown, pick_document, write_pick_report

SUMMARY: dict[str, Any] = {"tool": "pickbias pick", "version": "1", "inputs": [], "results": {"picks": 1}}


def table(heights: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    peaks = np.zeros(len(heights), PEAK)
    peaks["score"] = np.sort(heights)[::-1]
    peaks["y"], peaks["x"] = rng.uniform(0, 2000, (2, len(heights)))
    peaks["template"] = rng.integers(0, 4, len(heights))
    return peaks


def candidates(particles: int = 60, micrographs: int = 3) -> PickCandidates:
    """Peaks of noise, and particles that stand above them."""
    rng = np.random.default_rng(0)
    matches: list[MicrographMatch | None] = []
    for _ in range(micrographs):
        noise = [table(rng.gumbel(3, 0.35, 300), rng) for _ in range(2)]
        real = table(np.concatenate([rng.gumbel(3, 0.35, 300 - particles), rng.normal(8, 1, particles)]), rng)
        model = NoiseModel(np.ones((8, 5)), np.ones((8, 5)), "auto", (particles,), 5.0, True)
        matches.append(MicrographMatch(real, noise, model, 5.0, 0.02, (1.0, 0.9), (1.0, 1.0), 40.0))
    names = tuple(f"m{number}.mrc" for number in range(micrographs + 1))
    facts = {
        "kind": "images",
        "contrast": "black",
        "measured_contrast": "black",
        "working_pixel_size": 8.0,
        "templates": 4,
        "views": 4,
        "ctf": "none",
        "notes": ["a note"],
    }
    view = np.arange(4, dtype=np.int32)
    return PickCandidates(
        names, (*matches, None), {names[-1]: "is constant"}, 4.0, 160.0, 90.0, view, np.zeros((4, 3)), facts
    )


@pytest.fixture(scope="module")
def result() -> PickResult:
    return decide(candidates(), PickParameters(threshold=5.5))


def test_what_the_report_says(result: PickResult) -> None:
    document = pick_document(result, [], SUMMARY)
    assert document.subtitle == "4 micrographs, 4 templates of 4 class averages"
    assert document.headline.startswith(f"{result.count} picks on 3 micrographs, from a score of 5.50 up; ")
    assert any("not that it is your object" in text for text in document.reading)
    assert "left out m3.mrc: is constant" in document.warnings
    levels = document.sections[0].tables[0].rows
    assert [row[0] for row in levels] == ["1%", "2%", "5%", "10%", "20%", "50%"]
    thresholds = [float(row[1]) for row in levels]
    assert thresholds == sorted(thresholds, reverse=True)
    rows = document.sections[1].tables[0].rows
    assert rows[3] == ("m3.mrc", "left out", "", "", "", "is constant")
    assert sum(int(row[1]) for row in rows[:3]) == result.count


def test_without_an_fdr_nothing_pretends_to_know(result: PickResult) -> None:
    failed = replace(
        result, fdr=None, calibration=replace(result.calibration, fdr=None, failed="particles are in the noise")
    )
    document = pick_document(failed, [], SUMMARY)
    assert document.headline.endswith("; how many are false cannot be told.")
    assert not any("False" in fact.name for fact in document.facts)
    assert document.sections[0].tables[0].rows == (("not given", "particles are in the noise", "", ""),)
    texts = [text.get_text() for axes in document.sections[0].panels[0].figure(LIGHT).axes for text in axes.texts]
    assert texts == ["no FDR is given: particles are in the noise"]


@pytest.mark.parametrize("threshold", [5.5, 60.0])
def test_files_are_written_whatever_was_picked(threshold: float, tmp_path: Path) -> None:
    result = decide(candidates(micrographs=1), PickParameters(threshold=threshold))
    columns = result.picks["m0.mrc"]
    places = np.column_stack([columns["x_px"], columns["y_px"]]) / 20
    image = np.random.default_rng(0).normal(size=(80, 100)).astype(np.float32)
    shown = Shown("m0.mrc", image, 80.0, places, columns["q_value"], columns["score"])
    files = write_pick_report(result, [shown], SUMMARY, tmp_path)
    page = files["html"].read_text()
    assert page.count("data:image/png") == 4
    start = "Nothing was picked on 1 micrograph" if threshold == 60 else f"{result.count} picks on 1 micrograph,"
    assert start in page
    assert files["pdf"].read_bytes().startswith(b"%PDF")
