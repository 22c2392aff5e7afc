"""A diagnosis read again from its folder: the same numbers, texts and figures as were written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from napari_pickbias.errors import InputError
from napari_pickbias.records import write_mrc
from napari_pickbias.report.bias_story import q_colors, story_facts, story_panels
from napari_pickbias.report.palette import DARK
from napari_pickbias.runs.bias_story import read_bias_story

VIEWS, BOX = 3, 12
RESULTS: dict[str, Any] = {
    "verdict": "mixed",
    "why": "a third of the picks are noise",
    "agreement": "this structure agrees well with your unfiltered template",
    "relative_agreement": 0.41,
    "threshold": 3.5,
    "observed_picks": 1234,
    "expected_null_picks": 410.0,
    "null_fraction": 0.33,
    "null_fraction_interval": [0.3, 0.37],
    "recommended_threshold": 4.25,
    "data_threshold": 4.0,
    "evidence_beyond_band": {"value": 0.45, "null_mean": 0.01, "null_sd": 0.02, "z": 22.0},
    "template_agreement": {"value": 0.3, "null_mean": None, "null_sd": None, "z": None},
    "class_averages": [{"picks": n} for n in (0, 900, 334)],
    "band_shells": {"inside": [1, 2], "beyond": [3, 4]},
    "working_pixel_size": 8.0,
    "lowpass": 40.0,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "summary.json").write_text(
        json.dumps({"tool": "pickbias bias", "parameters": {}, "inputs": [], "results": RESULTS})
    )
    rng = np.random.default_rng(1)
    for name in ("class_averages", "noise_averages", "bias_removed"):
        write_mrc(tmp_path / f"{name}.mrcs", rng.normal(size=(VIEWS, BOX, BOX)).astype(np.float32), 8.0, stack=True)
    thresholds = np.arange(2, 6, 0.5)
    pd.DataFrame(
        {
            "threshold": thresholds, "picks": np.arange(800, 0, -100), "expected_null_picks": np.arange(8, 0, -1) ** 3,
            "fdr": np.linspace(0.6, 0, 8), "low": np.linspace(0.5, 0, 8), "high": np.linspace(0.7, 0.1, 8),
        }
    ).to_csv(tmp_path / "fdr.csv", index=False)  # fmt: skip
    names = ("plain", "bias_removed", "null_low", "null_high", "noise_plain", "noise_bias_removed")
    frc = pd.DataFrame({"resolution_angstrom": [np.inf, *(96 / np.arange(1, 7))]})
    for k, name in enumerate(names):
        frc[name] = [np.nan, *np.linspace(1, 0.1 * k, 6)]
    frc.to_csv(tmp_path / "frc.csv", index=False)
    return tmp_path


def drawn(panel: Any) -> Figure:
    figure = Figure(figsize=(4.8, panel.height))
    panel.draw(figure, DARK)
    return figure


def test_the_story_says_what_the_summary_says(folder: Path) -> None:
    story = read_bias_story(folder)
    assert story.headline == "The picks are a mixture of particles and noise: a third of the picks are noise."
    assert "raise the threshold to 4.00" in story.next_step
    assert story.views() == [1, 2]  # most picks first; a view without picks is not shown
    share, beyond, object_ = story_facts(story)
    assert share.value == "33%"
    assert share.meaning == ("of 1,234 picks, 95 % interval 30% to 37%; noise alone gives 410 picks on the same area")
    assert (beyond.value, beyond.meaning) == ("0.45", "noise gives 0.01 ± 0.02, 22.0 deviations away")
    assert object_.value == "0.41"
    assert object_.meaning.endswith("as measured: too few picks to say what noise gives")


def test_figures_come_in_the_storys_order_and_show_the_files(folder: Path) -> None:
    story = read_bias_story(folder)
    panels = {panel.key: panel for panel in story_panels(story)}
    assert list(panels) == ["pictures", "fdr", "frc"]  # an older folder holds no example
    above, below = drawn(panels["fdr"]).axes[:2]
    share, yours, recommended = above.lines
    np.testing.assert_allclose(share.get_ydata(), story.fdr["fdr"])
    assert (yours.get_xdata()[0], recommended.get_xdata()[0]) == (3.5, 4.25)
    np.testing.assert_allclose(below.lines[0].get_ydata(), story.fdr["picks"])
    curves = [axes.lines for axes in drawn(panels["frc"]).axes if axes.lines]
    np.testing.assert_allclose(curves[0][1].get_ydata(), story.frc["plain"][1:])
    np.testing.assert_allclose(curves[1][1].get_ydata(), story.frc["bias_removed"][1:])
    np.testing.assert_allclose(curves[1][1].get_xdata(), np.arange(1, 7) / 96)
    rows = [axes.get_ylabel() for axes in drawn(panels["pictures"]).axes if axes.get_ylabel()]
    assert rows == ["noise,\naverage", "your picks,\naverage", "your picks,\nbias removed"]


def test_without_an_fdr_none_is_shown(folder: Path) -> None:
    results = {**RESULTS, "verdict": "undecided", "null_fraction": None, "null_fraction_interval": None}
    (folder / "summary.json").write_text(json.dumps({"tool": "pickbias bias", "parameters": {}, "results": results}))
    columns = ["threshold", "picks", "expected_null_picks", "fdr", "low", "high"]
    pd.DataFrame(columns=columns).to_csv(folder / "fdr.csv", index=False)
    story = read_bias_story(folder)
    assert story_facts(story)[0].value == "not given"
    assert "nearer to the particles" in story.next_step
    above = drawn(next(p for p in story_panels(story) if p.key == "fdr")).axes[0]
    assert "no share is given" in above.texts[0].get_text()


def test_too_few_picks_of_each_view_are_told_what_mends_that(folder: Path) -> None:
    nothing = {"value": None, "null_mean": None, "null_sd": None, "z": None}
    results = {**RESULTS, "verdict": "undecided", "evidence_beyond_band": nothing}
    (folder / "summary.json").write_text(json.dumps({"tool": "pickbias bias", "parameters": {}, "results": results}))
    story = read_bias_story(folder)
    beyond = story_facts(story)[1]
    assert (beyond.value, beyond.meaning) == ("not given", "too few picks to say what noise gives")
    assert "fewer templates (a larger --angular-step), so that some of them have 16 picks and more" in story.next_step


def test_sure_picks_are_yellow_and_doubtful_ones_purple() -> None:
    sure, doubtful, unknown = q_colors(np.array([1e-6, 1.0, np.nan]))
    assert sure[0] > 0.9
    assert sure[1] > 0.9
    assert doubtful[1] < 0.1
    assert np.array_equal(doubtful, unknown)


def test_folders_that_hold_no_diagnosis_are_told(folder: Path, tmp_path: Path) -> None:
    (folder / "frc.csv").unlink()
    with pytest.raises(InputError, match=r"frc\.csv: cannot be read \(FileNotFoundError\); run pickbias bias again"):
        read_bias_story(folder)
    (folder / "summary.json").write_text('{"tool": "pickbias pick"}')
    with pytest.raises(InputError, match="holds results of pickbias pick; give an output folder of pickbias bias"):
        read_bias_story(folder)
    (folder / "summary.json").write_text("{")
    with pytest.raises(InputError, match=r"summary\.json: cannot be read"):
        read_bias_story(folder)
    with pytest.raises(InputError, match=r"holds no finished run \(no summary\.json\)"):
        read_bias_story(tmp_path / "nothing")
