"""The Curate dock in a window: open, choose, undo, save, reload; and closing it at any time."""

from __future__ import annotations

import threading
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import Qt

from napari_pickbias.gui import curate_widget
from napari_pickbias.gui.curate_widget import CurateWidget
from napari_pickbias.gui.preferences import PLUGIN
from napari_pickbias.jobs.progress import Progress
from napari_pickbias.records.crops import MicrographCrops
from napari_pickbias.records.pick_tables import open_picks

pytestmark = pytest.mark.gui

PATIENCE = 120_000


@pytest.fixture
def viewer(make_napari_viewer_proxy) -> Any:
    return make_napari_viewer_proxy()


@pytest.fixture
def widget(viewer, qtbot) -> Generator[CurateWidget, None, None]:
    made = viewer.window.add_plugin_dock_widget(PLUGIN, "Curate")[1]
    yield made
    made.job.drop()


def wait_for(qtbot, widget: CurateWidget) -> None:
    qtbot.waitUntil(lambda: not widget.job.running, timeout=PATIENCE)


def open_in(qtbot, widget: CurateWidget, path: Path) -> None:
    widget.open(path)
    wait_for(qtbot, widget)
    assert widget.opened is not None, widget.job.status.text()


def test_open_choose_save_reload(viewer, widget, pick_files, qtbot) -> None:
    """The whole way once, with the widgets that a user touches."""
    viewer.open(str(pick_files.star), plugin=PLUGIN)
    widget.take_layer()
    assert widget.path.text() == str(pick_files.star)
    open_in(qtbot, widget, pick_files.star)
    assert [layer.name for layer in viewer.layers] == ["picks: micrographs", "picks: curated picks"]
    assert "<b>80</b> of 80 kept" in widget.counts.text()
    assert viewer.dims.current_step[0] == 0

    assert widget.range.column.currentText() == "rlnAutopickFigureOfMerit"
    widget.range.low.setValue(6.0)
    good = pick_files.score >= 6
    assert widget.curation.keep.tolist() == good.tolist()
    assert widget.range.slider.value()[0] == pytest.approx(6.0)
    here = pick_files.micrograph == 0
    assert widget.counts.text() == (
        f"<b>{good.sum()}</b> of 80 kept ({good.mean():.1%}); here {good[here].sum()} of {here.sum()}"
    )
    assert widget.layers.points.features["keep"].tolist() == good.tolist()

    viewer.layers["picks: curated picks"].selected_data = {int(np.flatnonzero(good)[0])}
    assert "1 selected" in widget.counts.text()
    widget.decide("rejected")
    assert widget.curation.keep.sum() == good.sum() - 1
    widget.undo()
    assert widget.job.status.text() == "Undone: 1 rejected."
    widget.undo()
    assert widget.curation.keep.all()
    assert not widget.undo_button.isEnabled()
    assert widget.range.low.value() == pytest.approx(pick_files.score.min(), abs=1e-3)
    widget.redo()
    widget.redo()
    assert widget.curation.keep.sum() == good.sum() - 1

    qtbot.waitUntil(lambda: widget.micrographs.counts_model.counts["kept"].sum() == good.sum() - 1, timeout=PATIENCE)
    target = pick_files.star.with_name("mine.star")
    widget.save(target)
    wait_for(qtbot, widget)
    assert widget.job.status.text() == (
        f"Kept picks are in {target}, the others in mine_rejected.star; the decisions in mine_curation.json."
    )
    assert len(open_picks(target).read()) == good.sum() - 1
    keep = widget.curation.keep

    open_in(qtbot, widget, pick_files.star)  # afresh
    assert widget.curation.keep.all()
    widget.load(target.with_name("mine_curation.json"))
    assert widget.curation.keep.tolist() == keep.tolist()
    assert len(viewer.layers) == 2
    open_in(qtbot, widget, target)
    assert widget.counts.text().startswith(f"<b>{keep.sum()}</b> of {keep.sum()} kept")


def test_keys_step_and_decide_and_are_given_back(viewer, widget, pick_files, qtbot) -> None:
    open_in(qtbot, widget, pick_files.star)
    press = {str(key): action for key, action in viewer.keymap.items()}
    press["."](viewer)
    press["."](viewer)
    assert viewer.dims.current_step[0] == 2
    assert widget.micrographs.currentIndex().row() == 2
    press[","](viewer)
    assert viewer.dims.current_step[0] == 1
    widget.select("above", "rlnAutopickFigureOfMerit", 6.0)
    press["Shift+R"](viewer)
    assert widget.curation.keep.tolist() == (pick_files.score <= 6).tolist()
    press["Ctrl+Z"](viewer)
    assert widget.curation.keep.all()
    qtbot.keyClick(widget, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier | Qt.KeyboardModifier.ShiftModifier)
    widget.redo()
    assert widget.curation.keep.sum() == (pick_files.score <= 6).sum()
    viewer.window.remove_dock_widget(widget)
    assert not set(press) & {str(key) for key in viewer.keymap}
    viewer.dims.set_current_step(0, 3)  # nobody listens any more


def test_the_gallery_sorts_and_clicking_goes_to_the_pick(viewer, widget, pick_files, qtbot) -> None:
    open_in(qtbot, widget, pick_files.star)
    gallery = widget.gallery
    widget.tabs.setCurrentWidget(gallery)
    order = np.argsort(-pick_files.score, kind="stable")
    assert gallery.model.rows.tolist() == order.tolist()
    assert gallery.label(int(order[0])) == f"{pick_files.score.max():.4g}"
    gallery.direction.setCurrentText("smallest first")
    assert gallery.model.rows.tolist() == np.argsort(pick_files.score, kind="stable").tolist()
    gallery.blind.setChecked(True)
    assert gallery.label(0) == ""
    assert sorted(gallery.model.rows.tolist()) == list(range(80))
    gallery.blind.setChecked(False)
    index = gallery.model.index(79)
    row = int(gallery.model.rows[79])
    gallery.view.clicked.emit(index)
    assert viewer.dims.current_step[0] == pick_files.micrograph[row]
    gallery.view.setCurrentIndex(index)
    assert np.flatnonzero(widget.curation.selected).tolist() == [row]
    widget.decide("rejected")
    gallery.shown.setCurrentText("rejected")
    assert gallery.model.rows.tolist() == [row]
    assert gallery.view.grab().toImage().pixelColor(40, 40).alpha() == 255


def test_hidden_coloured_and_sized_circles(viewer, widget, pick_files, qtbot) -> None:
    open_in(qtbot, widget, pick_files.star)
    widget.range.low.setValue(6.0)
    widget.hide_box.setChecked(True)
    points = widget.layers.points
    assert points.shown.tolist() == widget.curation.keep.tolist()
    widget.color_box.setCurrentText("rlnAutopickFigureOfMerit")
    assert len(np.unique(points.border_color, axis=0)) > 20
    widget.diameter.setValue(50)
    assert set(points.size) == {25.0}
    widget.range.clear()
    assert points.shown.all()
    widget.select("below", "rlnAutopickFigureOfMerit", 6)
    assert "selected" in widget.counts.text()
    viewer.layers.remove(points)
    widget.decide("rejected")  # the layer is gone: the decision still counts
    assert widget.curation.keep.sum() == (pick_files.score >= 6).sum()


def test_averages_of_kept_and_rejected(widget, pick_files, qtbot) -> None:
    widget.diameter.setValue(32)
    open_in(qtbot, widget, pick_files.star)
    widget.range.low.setValue(6.0)
    widget.average()
    wait_for(qtbot, widget)
    assert len(widget.figures.canvases) == 2, widget.job.status.text()
    titles = [axes.get_title() for axes in widget.figures.canvases[0].figure.axes]
    assert titles[:3] == [
        f"kept: {(pick_files.score >= 6).sum()}",
        f"rejected: {(pick_files.score < 6).sum()}",
        "kept - rejected",
    ]
    kept, rejected = (axes.images[0].get_array() for axes in widget.figures.canvases[0].figure.axes[:2])
    assert kept[10:14, 10:14].mean() > rejected[10:14, 10:14].mean() + 1


def test_faults_are_one_line(widget, tmp_path: Path, qtbot) -> None:
    widget.open()
    assert widget.job.status.text() == "“Open”: no file is named; choose one, or a layer opened from one"
    widget.open(tmp_path / "gone.star")
    wait_for(qtbot, widget)
    assert "gone.star: no such file" in widget.job.status.text()
    assert "\n" not in widget.job.status.text()
    assert not widget.tabs.isEnabled()
    widget.take_layer()
    assert widget.job.status.text().startswith("“From layer”: the selected layer shows no picks")
    widget.average()
    widget.decide("kept")
    widget.save(tmp_path / "x.star")
    widget.undo()  # nothing is open: nothing happens


class Slow:
    """A job that goes on until it is closed."""

    def __init__(self) -> None:
        self.started, self.closed = threading.Event(), threading.Event()

    def __call__(self, *_ignored: object) -> Generator[Progress, None, Any]:
        try:
            for done in range(10_000):
                yield Progress("average", done, 10_000)
                self.started.set()
                self.closed.wait(0.01)
        finally:
            self.closed.set()


def test_cancel_in_the_middle_leaves_everything_usable(widget, pick_files, qtbot, monkeypatch) -> None:
    open_in(qtbot, widget, pick_files.star)
    slow = Slow()
    monkeypatch.setattr(curate_widget, "average_steps", slow)
    widget.average()
    qtbot.waitUntil(slow.started.is_set, timeout=PATIENCE)
    qtbot.waitUntil(lambda: widget.job.bar.maximum() == 10_000, timeout=PATIENCE)
    qtbot.mouseClick(widget.job.cancel_button, Qt.MouseButton.LeftButton)
    wait_for(qtbot, widget)
    assert slow.closed.is_set()
    assert widget.job.status.text() == "Cancelled."
    widget.range.low.setValue(6.0)
    assert widget.curation.keep.sum() == (pick_files.score >= 6).sum()


def test_closing_the_dock_stops_its_work(viewer, widget, pick_files, qtbot, monkeypatch) -> None:
    open_in(qtbot, widget, pick_files.star)
    slow = Slow()
    monkeypatch.setattr(curate_widget, "average_steps", slow)
    widget.average()
    qtbot.waitUntil(slow.started.is_set, timeout=PATIENCE)
    points = widget.layers.points
    viewer.window.remove_dock_widget(widget)
    qtbot.waitUntil(slow.closed.is_set, timeout=PATIENCE)
    points.selected_data = {1}  # the layers stay and trouble nobody
    qtbot.wait(200)


def test_picks_added_and_moved_in_the_canvas_are_saved(viewer, widget, pick_files, qtbot) -> None:
    open_in(qtbot, widget, pick_files.star)
    points = widget.layers.points
    points.add([1.0, 40.0, 50.0])
    assert widget.job.status.text().startswith("1 added (a square), kept.")
    assert "<b>81</b> of 81 kept" in widget.counts.text()
    moved = np.array(points.data)
    moved[0, 1:] = 33, 44
    points.data = moved
    assert widget.job.status.text().startswith("1 moved (a diamond).")
    assert len(widget.gallery.model.rows) == len(widget.gallery.thumbnails) == 81
    expected = MicrographCrops(pick_files.micrographs, np.array([1]), np.array([[50.0, 40.0]]), 20).read(np.array([0]))
    crop = widget.opened.images.read(np.array([80]))[0]
    middle = len(crop) // 2
    assert np.allclose(crop[middle - 10 : middle + 10, middle - 10 : middle + 10], expected[0], atol=1.5)
    widget.undo()
    widget.undo()
    assert len(points.data) == len(widget.gallery.model.rows) == 80
    widget.redo()
    widget.redo()
    target = pick_files.star.with_name("mine.star")
    widget.save(target)
    wait_for(qtbot, widget)
    assert "1 moved picks have their new coordinates; 1 added picks have rows" in widget.job.status.text()
    table = open_picks(target).read()
    assert table.coordinates_px[[0, -1]].tolist() == [[44, 33], [50, 40]]
    open_in(qtbot, widget, target)
    assert "<b>81</b> of 81 kept" in widget.counts.text()


def test_particles_are_curated_without_coordinates_of_use(widget, particle_files, qtbot) -> None:
    open_in(qtbot, widget, particle_files.star)
    assert len(widget.gallery.thumbnails) == 400
    assert widget.gallery.thumbnails[3].shape == (32, 32)
    target = particle_files.star.with_name("kept.star")
    widget.curation.decide(np.arange(100), "rejected")
    widget.save(target)
    wait_for(qtbot, widget)
    assert len(open_picks(target).read()) == 300


def test_handles_boxes_and_clicks_set_the_same_range(widget, pick_files, qtbot) -> None:
    open_in(qtbot, widget, pick_files.star)
    panel, score = widget.range, pick_files.score
    panel.slider.setValue((6.0, panel.slider.maximum()))
    assert widget.curation.keep.sum() == (score >= 6).sum()  # the largest is kept, however the handle rounds
    panel.high.setValue(9.0)
    assert widget.curation.ranges == {"rlnAutopickFigureOfMerit": (pytest.approx(6.0, abs=0.01), 9.0)}

    class Click:
        xdata, button = 5.0, 1

    panel._on_click(Click())
    Click.xdata, Click.button = 8.0, 3
    panel._on_click(Click())
    assert panel.limits() == (5.0, 8.0)
    assert (panel.low.value(), panel.high.value()) == (5.0, 8.0)
    panel.log.setChecked(True)
    assert panel.axes.get_yscale() == "log"
    panel.column.setCurrentText("rlnCoordinateX")
    assert "rlnAutopickFigureOfMerit: 5 to 8" in panel.active.text()
