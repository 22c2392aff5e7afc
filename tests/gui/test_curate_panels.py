"""The Curate dock's panels: selection, scatter, comparison, display, flags."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from napari_pickbias.gui.curate_widget import CurateWidget
from napari_pickbias.gui.curate_work import Verdicts
from napari_pickbias.gui.micrograph_stack import MicrographStack, standardised
from napari_pickbias.gui.preferences import PLUGIN
from napari_pickbias.records import open_data, open_particles, write_mrc
from napari_pickbias.records.pick_tables import open_picks

pytestmark = pytest.mark.gui

PATIENCE = 120_000
SCORE = "rlnAutopickFigureOfMerit"


@pytest.fixture
def viewer(make_napari_viewer_proxy) -> Any:
    return make_napari_viewer_proxy(show=True)


@pytest.fixture
def widget(viewer, qtbot) -> Generator[CurateWidget, None, None]:
    made = viewer.window.add_plugin_dock_widget(PLUGIN, "Curate")[1]
    yield made
    made.close_down() if made.layers is not None else None


def open_in(qtbot, widget: CurateWidget, path: Path, verdicts: Verdicts | None = None) -> None:
    widget.open(path, verdicts)
    qtbot.waitUntil(lambda: not widget.job.running, timeout=PATIENCE)
    assert widget.opened is not None, widget.job.status.text()


def test_the_selection_is_shown_with_its_peaks_and_follows(widget, particle_files, qtbot) -> None:
    count = len(particle_files.images)
    columns = pd.DataFrame(
        {
            "outlier center y angstrom": np.full(count, 8.0),
            "outlier center x angstrom": np.full(count, -4.0),
            "outlier second y angstrom": np.full(count, 20.0),
            "outlier second x angstrom": np.full(count, 24.0),
            "outlier second amplitude": np.full(count, 0.5),
            "outlier log odds multiple": np.full(count, -2.0),
            "outlier reason": pd.Categorical(["multiple"] * count),
        }
    )
    open_in(qtbot, widget, particle_files.star, Verdicts(columns, np.zeros(count, bool), 40.0))
    panel = widget.selection
    widget.tabs.setCurrentWidget(panel)
    qtbot.waitUntil(lambda: len(panel.figures.canvases) == 1, timeout=PATIENCE)  # the band alone
    assert panel.job.status.text() == "Select pictures in the gallery or circles in the canvas."
    widget.select_mask(np.isin(np.arange(count), [3, 250]))

    def profiles() -> Any:
        return panel.figures.canvases[-1].figure.axes[0]

    def says(text: str) -> bool:
        return not panel.job.running and text in [line.get_label() for line in profiles().lines]

    qtbot.waitUntil(lambda: says("mean of 2 selected"), timeout=PATIENCE)
    mean = next(line for line in profiles().lines if line.get_label() == "mean of 2 selected").get_ydata()
    assert mean[0] == pytest.approx(particle_files.images[[3, 250], 16, 16].mean(), abs=1e-5)
    images = panel.figures.canvases[0].figure.axes
    assert np.array_equal(images[0].images[0].get_array(), particle_files.images[3])
    assert [patch.center for patch in images[0].patches] == [(15.0, 18.0), (22.0, 21.0)]  # 4 Å a pixel
    assert {patch.radius for patch in images[0].patches} == {10.0}
    widget.select("none")
    qtbot.waitUntil(lambda: len(profiles().lines) == 1, timeout=PATIENCE)


def test_the_score_decides_in_place_of_the_job_and_back(widget, particle_files, tmp_path: Path, qtbot) -> None:
    count = len(particle_files.images)
    score = np.linspace(-5, 5, count)
    rejected = score < 1
    rejected[-10:] = True  # the job has three tests: not all that score well pass
    open_in(qtbot, widget, particle_files.star, Verdicts(pd.DataFrame({"outlier score": score}), rejected, 40.0))
    kept = int((~rejected).sum())
    row, panel = widget.score_row, widget.range
    assert not row.isHidden()
    assert row.threshold == pytest.approx(score[-kept])
    assert f"keeps {kept:,} by three tests" in row.words.text()
    dotted = [line for line in panel.axes.lines if line.get_linestyle() == ":"]
    assert dotted[0].get_xdata()[0] == pytest.approx(row.threshold)

    row.by_score.click()
    assert np.array_equal(widget.curation.keep, score >= score[-kept])
    assert panel.column.currentText() == "outlier score"
    assert panel.low.value() == pytest.approx(row.threshold, abs=0.01)
    panel.low.setValue(-2.0)  # loosened, with nothing else to do
    assert np.array_equal(widget.curation.keep, score >= -2)
    assert f"<b>{(score >= -2).sum():,}</b> of {count:,} kept" in widget.counts.text()
    widget.save(tmp_path / "loose.star")
    qtbot.waitUntil(lambda: not widget.job.running, timeout=PATIENCE)
    assert len(open_particles(tmp_path / "loose.star").read()) == (score >= -2).sum()

    row.by_job.click()
    assert np.array_equal(widget.curation.keep, ~rejected)
    assert widget.curation.ranges == {}


def test_no_score_row_where_no_job_decided(widget, pick_files, qtbot) -> None:
    open_in(qtbot, widget, pick_files.star)
    assert widget.score_row.isHidden()


def test_the_selection_panel_stops_with_the_dock(viewer, widget, particle_files, qtbot) -> None:
    open_in(qtbot, widget, particle_files.star)
    widget.tabs.setCurrentWidget(widget.selection)
    widget.selection.look()
    viewer.window.remove_dock_widget(widget)
    assert not widget.selection.job.running


def test_a_lasso_selects_what_lies_inside(widget, pick_files, qtbot) -> None:
    open_in(qtbot, widget, pick_files.star)
    panel = widget.scatter
    widget.tabs.setCurrentWidget(panel)
    panel.x.setCurrentText(SCORE)
    panel.y.setCurrentText("rlnCoordinateX")
    assert sum(len(line.get_xdata()) for line in panel.canvas.axes.lines) >= 80
    panel.select_inside([(8, -1), (99, -1), (99, 80), (8, 80)])
    inside = (pick_files.score > 8) & (pick_files.xy[:, 0] < 80)
    assert widget.curation.selected.tolist() == inside.tolist()
    assert f"{inside.sum()} selected" in widget.counts.text()
    qtbot.waitUntil(lambda: len(panel.canvas.axes.lines[2].get_xdata()) == inside.sum(), timeout=PATIENCE)
    panel.select_inside([(0, 0), (1, 1)])  # a click is no lasso
    assert widget.curation.selected.sum() == inside.sum()


def test_another_set_of_picks_is_compared(widget, pick_files, qtbot) -> None:
    other = pick_files.star.with_name("other.star")
    open_picks(pick_files.star).write_subset(pick_files.score >= 6, other)
    open_in(qtbot, widget, pick_files.star)
    panel = widget.compare
    panel.compare()
    assert panel.job.status.text() == "“Compare”: no file is named; choose the other picks"
    panel.path.setText(str(other))
    panel.distance.setValue(0.5)
    panel.compare()
    qtbot.waitUntil(lambda: panel.compared is not None, timeout=PATIENCE)
    good = int((pick_files.score >= 6).sum())
    assert panel.result.text() == (
        f"<b>{good}</b> in both, {80 - good} only here, 0 only in the other set; 4 micrographs in common."
    )
    panel.only.click()
    assert widget.curation.selected.tolist() == (pick_files.score < 6).tolist()
    panel.both.click()
    assert widget.curation.selected.sum() == good
    widget.curation.add(np.array([0]), np.array([[5.0, 5.0]]))
    panel.both.click()
    assert panel.job.status.text() == "Picks were moved or added since: compare again."


def test_the_display_is_filtered_and_the_files_are_not(viewer, widget, pick_files, qtbot) -> None:
    open_in(qtbot, widget, pick_files.star)
    layer = widget.layers.micrographs
    before = np.array(layer.data[0])
    assert np.allclose(before, standardised(np.asarray(open_data(pick_files.micrographs[0]))))
    widget.display.lowpass.setValue(20)  # 10 pixels of 2 Å
    after = np.array(layer.data[0])
    spectrum = np.abs(np.fft.rfft2(after)) ** 2
    fine = np.hypot(*np.meshgrid(np.fft.fftfreq(160), np.fft.rfftfreq(160), indexing="ij")) > 0.14
    assert spectrum[fine].sum() < 1e-3 * spectrum[~fine].sum()
    assert abs(np.median(after)) < 0.01
    widget.display.sigma.setValue(2)
    widget.display.invert.setChecked(True)
    assert list(layer.contrast_limits) == [-2, 2]
    assert layer.colormap.name == "gray_r"
    widget.display.lowpass.setValue(0)
    assert np.array_equal(layer.data[0], before)


def test_flags_are_set_by_click_and_key_and_select_their_picks(viewer, widget, pick_files, qtbot) -> None:
    open_in(qtbot, widget, pick_files.star)
    table = widget.micrographs
    widget.tabs.setCurrentIndex(1)
    table.clicked.emit(table.counts_model.index(2, 3))
    assert table.counts_model.data(table.counts_model.index(2, 3)) == "⚑"
    table.clicked.emit(table.counts_model.index(1, 0))  # the name chooses, and flags nothing
    widget.layers.go_to_micrograph(3)
    {str(key): action for key, action in viewer.keymap.items()}["Shift+F"](viewer)
    widget.select("flagged")
    assert widget.curation.selected.tolist() == np.isin(pick_files.micrograph, [2, 3]).tolist()


def test_low_passed_micrographs_are_not_mixed_with_plain_ones(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    paths = [write_mrc(tmp_path / f"{k}.mrc", rng.normal(size=(32, 32)), 1.0) for k in range(3)]
    stack = MicrographStack(paths)
    plain = [np.array(stack[k]) for k in range(3)]
    assert stack.set_lowpass(8.0)
    assert not stack.set_lowpass(8.0)
    smooth = [np.array(stack[k]) for k in range(3)]
    assert all(np.abs(np.diff(s)).mean() < 0.5 * np.abs(np.diff(p)).mean() for s, p in zip(smooth, plain, strict=True))
    stack.set_lowpass(0.0)
    assert all(np.array_equal(stack[k], plain[k]) for k in range(3))
