"""The dock "Picks and bias" on a diagnosis that is really run: preview, run, story, picks, the folder opened again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import Qt

from napari_pickbias.gui import samples
from napari_pickbias.gui.preferences import PLUGIN
from napari_pickbias.records.pick_tables import open_picks
from napari_pickbias.report.bias_figures import VERDICT_COLORS
from napari_pickbias.runs import bias as bias_runs

pytestmark = pytest.mark.gui
PATIENCE = 240_000
SMALL = {"count": 2, "size": 256, "per_micrograph": 14}


def wait_for(qtbot, widget: Any) -> None:
    qtbot.waitUntil(lambda: not widget.job.running, timeout=PATIENCE)


@pytest.fixture
def viewer(make_napari_viewer_proxy) -> Any:
    return make_napari_viewer_proxy()


def dock(viewer: Any, name: str = "Picks and bias") -> Any:
    return viewer.window.add_plugin_dock_widget(PLUGIN, name)[1]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the first test leaves its results, for the others."""
    return tmp_path_factory.mktemp("bias") / "out"


def test_sample_preview_run_and_story(viewer, finished: Path, qtbot, monkeypatch) -> None:
    monkeypatch.setattr(samples, "PICKED", samples.PICKED | SMALL)
    monkeypatch.setattr(bias_runs, "write_bias_report", lambda *_args, **_named: {})
    samples._picked_folder.cache_clear()
    viewer.open_sample(PLUGIN, "picking")
    widget = dock(viewer)
    assert widget.paths["templates"].text().endswith("templates.mrcs")
    assert widget.form.values()["lowpass"] == "60"  # what suits the sample is offered
    qtbot.mouseClick(widget.preview_button, Qt.MouseButton.LeftButton)
    wait_for(qtbot, widget)
    assert widget.strip.list.count() == len(samples.TEMPLATE_VIEWS)
    assert widget.strip.text.text().startswith("4 views, 96 templates with in-plane rotations; low-passed at 60 Å")
    assert not finished.exists()  # nothing is written

    widget.out.setText(str(finished))
    for name, value in {"angular_step": 45, "nulls": 8, "threshold": 4}.items():
        widget.form.set(name, value)
    widget.run()
    wait_for(qtbot, widget)
    samples._picked_folder.cache_clear()
    results = json.loads((finished / "summary.json").read_text())["results"]
    assert results["why"] in widget.storyboard.verdict.text(), widget.job.status.text()
    assert VERDICT_COLORS[results["verdict"]] in widget.storyboard.verdict.styleSheet()
    assert f"{results['null_fraction']:.0%}" in widget.storyboard.facts[0].text()
    assert len(widget.storyboard.figures.canvases) == 4
    assert "“Lowpass”" in widget.storyboard.assumed.text()
    assert not widget.fold.isChecked()  # the result, not the fields
    example = widget.storyboard.story.example
    picks = open_picks(finished / "picks_scored.star").read()
    of_first = picks.micrograph == list(picks.micrograph_names).index(example.name)
    np.testing.assert_allclose(
        np.sort(example.picks_px[:, 0]), np.sort(picks.coordinates_px[of_first, 0]), atol=1e-3
    )  # matched at the micrographs' own pixels


def test_picks_are_looked_through_by_threshold_and_micrograph(viewer, finished: Path, qtbot) -> None:
    widget = dock(viewer)
    widget.open_results(finished)
    wait_for(qtbot, widget)
    points = viewer.layers["picks by q-value"]
    results = json.loads((finished / "summary.json").read_text())["results"]
    assert points.shown.sum() == results["observed_picks"]
    listed = widget.explorer.micrographs.counts_model
    cells = [[listed.data(listed.index(row, k)) for k in range(3)] for row in range(listed.rowCount())]
    assert cells[0][0] == "simulated_0001.mrc"
    assert sum(int(row[1].replace(",", "")) for row in cells) == results["observed_picks"]
    counts = listed.counts
    assert counts["kept"].sum() == results["observed_picks"]
    assert counts["picks"].sum() == len(points.data)
    widget.explorer.threshold.box.setValue(results["threshold"] + 0.5)
    assert widget.explorer.micrographs.counts_model.counts["kept"].sum() == points.shown.sum()
    assert points.shown.sum() < results["observed_picks"]
    widget.explorer.micrographs.selectRow(1)
    assert viewer.dims.current_step[0] == 1
    viewer.dims.set_current_step(0, 0)
    assert widget.explorer.micrographs.currentIndex().row() == 0
    # what was run is entered, and opening again replaces
    assert widget.form.parameters().angular_step == 45
    assert widget.paths["micrographs"].text().endswith("micrographs.star")
    assert widget.out.text() == str(finished)
    names = [layer.name for layer in viewer.layers]
    widget.open_results(finished)
    wait_for(qtbot, widget)
    assert [layer.name for layer in viewer.layers] == names == ["micrographs", "picks by q-value"]
    qtbot.mouseClick(widget.curate_button, Qt.MouseButton.LeftButton)
    curate = dock(viewer, "Curate")
    qtbot.waitUntil(lambda: curate.opened is not None and not curate.job.running, timeout=PATIENCE)
    assert len(curate.curation) == results["observed_picks"]
    viewer.window.remove_dock_widget(widget)
    viewer.dims.set_current_step(0, 1)  # nobody listens any more


def test_picks_of_another_program_show_as_they_are(viewer, finished: Path, tmp_path: Path, qtbot) -> None:
    folder = tmp_path / "foreign"
    shutil.copytree(finished, folder)
    summary = json.loads((folder / "summary.json").read_text())
    summary["parameters"]["picks"] = "theirs.star"
    (folder / "summary.json").write_text(json.dumps(summary))
    widget = dock(viewer)
    widget.open_results(folder)
    wait_for(qtbot, widget)
    points = viewer.layers["picks by q-value"]
    assert len(points.data) == points.shown.sum() == summary["results"]["observed_picks"]
    assert "how many are false is not known here" in widget.explorer.threshold.meaning.text()
    assert widget.paths["picks"].text() == "theirs.star"


def test_results_without_micrographs_or_candidates_still_tell_the_story(
    viewer, finished: Path, tmp_path: Path, qtbot
) -> None:
    folder = tmp_path / "moved"
    shutil.copytree(finished, folder)
    summary = json.loads((folder / "summary.json").read_text())
    for entry in summary["inputs"]:
        entry["path"] = f"/gone{entry['path']}"
    (folder / "summary.json").write_text(json.dumps(summary))
    widget = dock(viewer)
    widget.open_results(folder)
    wait_for(qtbot, widget)
    assert [layer.name for layer in viewer.layers] == ["picks by q-value"]
    (folder / "candidates.npz").unlink()
    widget.open_results(folder)
    wait_for(qtbot, widget)
    assert summary["results"]["why"] in widget.storyboard.verdict.text()
    assert not widget.explorer.isVisibleTo(widget)
    widget.open_results(tmp_path)
    wait_for(qtbot, widget)
    assert "holds no finished run (no summary.json)" in widget.job.status.text()
    assert widget.run_button.isEnabled()
