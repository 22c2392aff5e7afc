"""The outlier widget in a window that really draws."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.layers import Layer
from napari.utils.notifications import notification_manager
from npe2 import PluginManifest
from qtpy.QtCore import Qt
from qtpy.QtGui import QDesktopServices

from napari_pickbias.errors import InputError
from napari_pickbias.gui import outlier_widget
from napari_pickbias.gui.outlier_widget import OutlierWidget
from napari_pickbias.gui.outlier_work import outlier_steps
from napari_pickbias.gui.preferences import PLUGIN
from napari_pickbias.gui.worker import Ended
from napari_pickbias.jobs import outlier_stream
from napari_pickbias.jobs.outlier_parameters import OutlierParameters
from napari_pickbias.jobs.outliers import outlier_job
from napari_pickbias.jobs.progress import Progress
from napari_pickbias.records import open_particles
from napari_pickbias.runs.directory import RunDirectory

pytestmark = pytest.mark.gui

PATIENCE = 120_000  # ms; only a test that fails waits so long


@pytest.fixture
def viewer(make_napari_viewer_proxy) -> Any:
    return make_napari_viewer_proxy()


@pytest.fixture
def widget(viewer) -> OutlierWidget:
    return viewer.window.add_plugin_dock_widget(PLUGIN, "Remove outliers")[1]


@pytest.fixture
def notes() -> Generator[list[tuple[str, str]], None, None]:
    """Severity and text of what napari notified."""
    seen: list[tuple[str, str]] = []

    def keep(notification: Any) -> None:
        seen.append((str(notification.severity), notification.message))

    notification_manager.notification_ready.connect(keep)
    yield seen
    notification_manager.notification_ready.disconnect(keep)


def fill(widget: OutlierWidget, files: Any, method: str = "reference") -> None:
    """Enter a particle file and its radius; the published method is the quicker one."""
    widget.form.set_source(files.star)
    widget.form.radius.setValue(files.radius)
    widget.form.method.setCurrentText(method)


def run_to_end(qtbot: Any, widget: OutlierWidget) -> None:
    widget.run()
    qtbot.waitUntil(lambda: not widget.running, timeout=PATIENCE)


def names(viewer: Any) -> list[str]:
    return [layer.name for layer in viewer.layers]


class Steps:
    """A job that reports once and then waits until it is let go or closed."""

    def __init__(self) -> None:
        self.started, self.go, self.closed = threading.Event(), threading.Event(), threading.Event()
        self.closed_in: threading.Thread | None = None

    def __call__(self, order: object) -> Generator[Progress, None, Any]:
        try:
            for done in range(10_000):
                yield Progress("judge", done, 10_000)
                self.started.set()
                self.go.wait(0.01)
        finally:
            self.closed_in = threading.current_thread()
            self.closed.set()


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Steps:
    made = Steps()
    monkeypatch.setattr(outlier_widget, "outlier_steps", made)
    return made


def test_the_canvas_really_draws(make_napari_viewer_proxy, qtbot) -> None:
    viewer = make_napari_viewer_proxy(show=True)
    viewer.add_image(np.random.default_rng(0).random((64, 64)))
    shot = viewer.screenshot(canvas_only=True, flash=False)
    shades = len(np.unique(shot[..., 0]))
    assert shades > 100, f"only {shades} shades: this display draws nothing, so what tests see here means nothing"


def test_every_widget_opens_from_its_command(viewer) -> None:
    widgets = PluginManifest.from_distribution(PLUGIN).contributions.widgets
    assert {"Remove outliers", "Curate"} <= {contribution.display_name for contribution in widgets}
    for contribution in widgets:
        _, made = viewer.window.add_plugin_dock_widget(PLUGIN, contribution.display_name)
        assert isinstance(made, contribution.get_callable())
        assert f"{contribution.display_name} ({PLUGIN})" in viewer.window.dock_widgets


def test_a_run_from_file_to_layers(viewer, widget, particle_files, qtbot, notes, monkeypatch) -> None:
    """The whole way once: calibrated method, real report, real figures."""
    created_in = set()
    create = Layer.create
    monkeypatch.setattr(Layer, "create", lambda *data: (created_in.add(threading.current_thread()), create(*data))[1])
    fill(widget, particle_files, "calibrated")
    folder = particle_files.star.with_name("particles_outliers")
    assert widget.form.out.text() == str(folder)
    run_to_end(qtbot, widget)

    assert widget.status.text() == f"Kept 200 of 400 particles. Files are in {folder}.", widget.status.text()
    assert "50.0%" in widget.result.text()
    for name in ("kept.star", "rejected.star", "scores.csv", "summary.json", "report.html", "report.pdf"):
        assert (folder / name).stat().st_size > 0, name
    assert names(viewer) == [
        "particles",
        "particles: verdict",
        "particles: verdict in words",
        "averages and examples",
        "averages and examples: labels",
    ]
    assert viewer.layers["particles: verdict"].features["keep"].sum() == 200
    assert viewer.layers.selection.active.name == "particles"
    assert [note for note in notes if note[0] != "info"] == []
    assert created_in == {threading.main_thread()}

    opened = []
    monkeypatch.setattr(QDesktopServices, "openUrl", lambda url: opened.append(url.toLocalFile()) or True)
    qtbot.mouseClick(widget.report_button, Qt.MouseButton.LeftButton)
    assert opened == [str(folder / "report.html")]

    qtbot.mouseClick(widget.figures_button, Qt.MouseButton.LeftButton)
    tabs = widget._figures.tabs
    assert [tabs.tabText(i) for i in range(tabs.count())][:2] == ["Kept and rejected", "Averages"]
    assert len(shades(widget._figures)) > 50
    widget._figures.close()

    # On by hand from the verdicts: the gallery is sorted by score, and the threshold moves live.
    qtbot.mouseClick(widget.curate_button, Qt.MouseButton.LeftButton)
    curate = viewer.window.add_plugin_dock_widget(PLUGIN, "Curate")[1]
    qtbot.waitUntil(lambda: curate.opened is not None and not curate.job.running, timeout=PATIENCE)
    assert curate.curation.keep.sum() == 200
    assert curate.gallery.column.currentText() == "outlier score"
    assert {"outlier reason", "rlnMicrographName"} <= set(curate.curation.features)
    best = curate.gallery.model.rows[:100]
    assert curate.curation.keep[best].all()
    curate.save(folder / "by_hand.star")
    qtbot.waitUntil(lambda: not curate.job.running, timeout=PATIENCE)
    assert len(open_particles(folder / "by_hand.star").read()) == 200


def shades(window: Any) -> set[int]:
    image = window.grab().toImage()
    return {image.pixel(x, y) for x in range(0, image.width(), 3) for y in range(0, image.height(), 3)}


def test_the_result_is_drawn_in_the_canvas(make_napari_viewer_proxy, particle_files, qtbot, quick_report) -> None:
    viewer = make_napari_viewer_proxy(show=True)
    viewer.open(str(particle_files.star), plugin=PLUGIN)
    _, widget = viewer.window.add_plugin_dock_widget(PLUGIN, "Remove outliers")
    assert widget.form.source.text() == str(particle_files.star)  # the selected layer's file is offered
    fill(widget, particle_files)
    before = viewer.screenshot(canvas_only=True, flash=False)
    run_to_end(qtbot, widget)
    after = viewer.screenshot(canvas_only=True, flash=False)
    assert len(np.unique(after[..., 0])) > 100
    coloured = (np.ptp(after[..., :3].astype(int), axis=2) > 60).sum()
    assert (np.ptp(before[..., :3].astype(int), axis=2) > 60).sum() == 0
    assert coloured > 20, "no coloured verdict is to be seen"


def test_a_second_run_replaces_the_layers(viewer, widget, particle_files, qtbot, quick_report, notes) -> None:
    fill(widget, particle_files)
    viewer.add_points([[1, 2, 3]], name="my verdict", units=("pixel", "angstrom", "angstrom"))  # the user's own
    run_to_end(qtbot, widget)
    first = names(viewer)
    viewer.layers["particles"].metadata["mark"] = "the same layer"
    # The same again: the folder holds results, which are kept unless the user says otherwise.
    run_to_end(qtbot, widget)
    assert widget.status.text() == (
        f"“Output folder” {widget.form.out.text()}: exists already and is not empty; give another folder, “Earlier "
        "results: replace” to replace that run, or “Earlier results: go on” to go on with it"
    )
    assert notes[-1] == ("error", widget.status.text())
    widget.form.choose_earlier("replace")
    widget.form.false_keep.setValue(5)
    run_to_end(qtbot, widget)
    assert widget.status.text().startswith("Kept ")
    assert names(viewer) == first
    assert viewer.layers["particles"].metadata["mark"] == "the same layer"
    widget.form.choose_earlier("resume")
    run_to_end(qtbot, widget)
    assert widget.status.text().startswith("This run was finished earlier. Kept ")
    assert len(set(names(viewer))) == len(names(viewer))
    assert not widget.figures_button.isVisible()


def test_a_cancelled_run_goes_on_where_it_stopped(
    viewer, widget, particle_files, qtbot, quick_report, monkeypatch
) -> None:
    monkeypatch.setattr(outlier_stream, "CHUNK_IMAGES", 50)
    seen, go = threading.Event(), threading.Event()
    judged: list[int] = []

    def slow(order: object) -> Generator[Progress, None, Any]:
        job = outlier_steps(order)
        try:
            while True:
                progress = next(job)
                judged.append(progress.done if progress.stage == "judge" else 0)
                if progress.stage == "judge" and progress.done >= 150:
                    seen.set()
                    go.wait(PATIENCE / 1000)
                yield progress
        except StopIteration as end:
            return end.value
        finally:
            job.close()

    monkeypatch.setattr(outlier_widget, "outlier_steps", slow)
    fill(widget, particle_files)
    out = Path(widget.form.out.text())
    widget.run()
    qtbot.waitUntil(seen.is_set, timeout=PATIENCE)
    assert not widget.run_button.isEnabled()
    assert not widget.form.isEnabled()
    qtbot.mouseClick(widget.cancel_button, Qt.MouseButton.LeftButton)
    assert widget.cancel_button.text() == "Cancelling…"
    assert not widget.cancel_button.isEnabled()
    go.set()
    qtbot.waitUntil(lambda: not widget.running, timeout=PATIENCE)
    assert widget.status.text() == (
        f"Cancelled. Finished pieces are kept in {out}: press Run to go on from there "
        "(“Earlier results” is set to resume)."
    )
    assert widget.run_button.isEnabled()
    assert widget.cancel_button.text() == "Cancel"
    assert max(judged) == 150
    assert names(viewer) == []
    pieces = sorted((out / ".pickbias").glob("scores_*.npz"))
    assert 3 <= len(pieces) < 8
    assert not (out / "kept.star").exists()

    finished = {piece.name for piece in pieces}
    saved: list[str] = []
    save = RunDirectory.save
    monkeypatch.setattr(
        RunDirectory, "save", lambda self, name, arrays: (saved.append(f"{name}.npz"), save(self, name, arrays))[1]
    )
    monkeypatch.setattr(outlier_widget, "outlier_steps", outlier_steps)
    widget.run()
    qtbot.waitUntil(lambda: not widget.running, timeout=PATIENCE)
    assert widget.status.text().startswith("Kept "), widget.status.text()
    assert not set(saved) & finished, "finished pieces were computed again"
    assert len(set(saved) | finished) >= 8
    unbroken = outlier_job(
        open_particles(particle_files.star).read(), OutlierParameters(radius=particle_files.radius, method="reference")
    )
    while True:
        try:
            next(unbroken)
        except StopIteration as end:
            expected = end.value.table["keep"].tolist()
            break
    assert viewer.layers["particles: verdict"].features["keep"].tolist() == expected


BAD_FILES: dict[str, tuple[Callable[[Path], None], str]] = {
    "absent.star": (lambda path: None, "no such file"),
    "picks.star": (
        lambda path: path.write_text("data_\n\nloop_\n_rlnCoordinateX #1\n_rlnCoordinateY #2\n1 2\n"),
        "picks.star",
    ),
    "broken.mrcs": (lambda path: path.write_bytes(b"nonsense"), "broken.mrcs"),
    "table.txt": (lambda path: path.write_text("x"), "cannot tell what kind of particle file this is"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_is_told_in_one_line(widget, tmp_path: Path, qtbot, notes, name: str) -> None:
    make, words = BAD_FILES[name]
    make(tmp_path / name)
    widget.form.set_source(tmp_path / name)
    run_to_end(qtbot, widget)
    line = widget.status.text()
    assert words in line
    assert "\n" not in line
    assert "Traceback" not in line
    assert "fault in pickbias" not in line
    assert notes == [("error", line)]
    assert widget.run_button.isEnabled()
    assert not widget.progress.isVisible()


def test_empty_fields_are_told_in_one_line(widget, notes) -> None:
    widget.run()
    assert widget.status.text() == ("“Particles”: no file is named; choose a particle file, or a layer opened from one")
    widget.form.source.setText("x.star")
    widget.form.out.setText("")
    widget.run()
    assert widget.status.text() == "“Output folder”: no folder is named; choose where the results go"
    widget.take_layer()
    assert widget.status.text().startswith("“From layer”: the selected layer was not opened from a particle file")
    assert [severity for severity, _ in notes] == ["error"] * 3
    assert not widget.running


def test_a_missing_radius_is_asked_for_by_its_label(widget, particle_files, qtbot, notes) -> None:
    fill(widget, particle_files)
    widget.form.radius.setValue(0)
    run_to_end(qtbot, widget)
    assert widget.status.text().startswith("“Particle radius” is missing: give the particle's radius in Å")


def test_a_fault_of_ours_is_no_riddle(widget, particle_files, qtbot, notes, monkeypatch) -> None:
    def broken(order: object) -> Generator[Progress, None, None]:
        yield Progress("read", 0, 1)
        raise RuntimeError("wires crossed")

    monkeypatch.setattr(outlier_widget, "outlier_steps", broken)
    monkeypatch.setattr(notification_manager, "receive_error", lambda kind, fault, trace: notes.append(("fault", kind)))
    fill(widget, particle_files)
    run_to_end(qtbot, widget)
    assert widget.status.text() == "A fault in pickbias itself (RuntimeError: wires crossed); please report it."
    assert notes == [("fault", RuntimeError)]
    assert widget.run_button.isEnabled()


def test_progress_shows_stage_count_and_time_left(widget, steps, particle_files, qtbot) -> None:
    fill(widget, particle_files)
    widget.run()
    qtbot.waitUntil(lambda: " left" in widget.status.text(), timeout=PATIENCE)
    assert widget.status.text().startswith("Judging particles ")
    assert " of 10,000, " in widget.status.text()
    assert widget.progress.maximum() == 10_000
    widget.run()  # a second click while it runs does nothing
    widget.cancel()
    qtbot.waitUntil(lambda: not widget.running, timeout=PATIENCE)
    assert steps.closed_in is not threading.main_thread()


def test_results_of_an_older_job_are_dropped(widget, steps, particle_files, qtbot) -> None:
    fill(widget, particle_files)
    widget.run()
    qtbot.waitUntil(steps.started.is_set, timeout=PATIENCE)
    widget._messages.ended.emit(0, Ended(fault=InputError("of an older job")))
    widget._messages.progressed.emit(0, Progress("learn", 1, 3))
    assert widget.running
    assert "older" not in widget.status.text()
    assert "Learning" not in widget.status.text()
    widget.cancel()
    qtbot.waitUntil(lambda: not widget.running, timeout=PATIENCE)


def test_closing_the_dock_stops_the_job(viewer, widget, steps, particle_files, qtbot) -> None:
    fill(widget, particle_files)
    widget.run()
    qtbot.waitUntil(steps.started.is_set, timeout=PATIENCE)
    viewer.window.remove_dock_widget(widget)
    qtbot.waitUntil(steps.closed.is_set, timeout=PATIENCE)
    assert steps.closed_in is not threading.main_thread()
    qtbot.wait(100)  # what it sent last arrives, and must not disturb


def test_hiding_the_dock_leaves_the_job_at_work(widget, steps, particle_files, qtbot) -> None:
    fill(widget, particle_files)
    widget.run()
    qtbot.waitUntil(steps.started.is_set, timeout=PATIENCE)
    widget.parent().hide()
    qtbot.wait(200)
    assert not steps.closed.is_set()
    assert widget.running
    widget.cancel()
    qtbot.waitUntil(lambda: not widget.running, timeout=PATIENCE)


CLOSE_WHILE_WORKING = """
import sys, time
import napari
from qtpy.QtCore import QTimer
from napari_pickbias.gui import outlier_widget
from napari_pickbias.jobs.progress import Progress

def steps(order):
    try:
        for done in range(100000):
            yield Progress("judge", done, 100000)
            time.sleep(0.02)
    finally:
        print("closed", flush=True)

outlier_widget.outlier_steps = steps
viewer = napari.Viewer()
_, widget = viewer.window.add_plugin_dock_widget("napari-pickbias", "Remove outliers")
widget.form.source.setText("x.star")
widget.run()
if sys.argv[1] == "loop":
    QTimer.singleShot(1500, viewer.close)
    napari.run()
else:
    from qtpy.QtWidgets import QApplication
    end = time.monotonic() + 1.5
    while time.monotonic() < end:
        QApplication.processEvents()
print("end", flush=True)
"""


@pytest.mark.parametrize("how", ["loop", "leave"])
def test_python_ends_well_when_the_window_goes_while_a_job_runs(how: str) -> None:
    run = subprocess.run(
        [sys.executable, "-c", CLOSE_WHILE_WORKING, how], capture_output=True, text=True, check=False, timeout=120
    )
    assert run.returncode == 0, run.stderr
    assert "closed" in run.stdout
    assert "Traceback" not in run.stderr, run.stderr
    assert "Fatal" not in run.stderr, run.stderr


def test_a_picture_read_by_napari_alone_is_no_source(viewer, widget, notes) -> None:
    viewer.add_image(np.zeros((4, 4)))
    widget.take_layer()
    assert widget.form.source.text() == ""
