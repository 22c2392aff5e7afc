"""From sample data to a saved and reopened choice; and the window closed while several docks are at work."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from napari_pickbias.gui.preferences import PLUGIN
from napari_pickbias.records import open_particles

pytestmark = pytest.mark.gui
PATIENCE = 120_000


def test_sample_run_curate_save_reopen(make_napari_viewer_proxy, qtbot, quick_report, tmp_path: Path) -> None:
    viewer = make_napari_viewer_proxy()
    (layer,) = viewer.open_sample(PLUGIN, "particles")
    outliers = viewer.window.add_plugin_dock_widget(PLUGIN, "Remove outliers")[1]
    viewer.layers.selection.active = layer
    outliers.take_layer()
    assert outliers.form.source.text() == layer.metadata["source"]
    outliers.form.out.setText(str(tmp_path / "out"))
    outliers.form.radius.setValue(outliers.form.radius.value() or 60)
    outliers.form.method.setCurrentText("reference")
    outliers.run()
    qtbot.waitUntil(lambda: not outliers.running, timeout=PATIENCE)
    assert outliers.status.text().startswith("Kept "), outliers.status.text()

    outliers.curate()
    curate = viewer.window.add_plugin_dock_widget(PLUGIN, "Curate")[1]
    qtbot.waitUntil(lambda: curate.opened is not None and not curate.job.running, timeout=PATIENCE)
    keep = curate.curation.keep.copy()
    assert keep.tolist() == outliers._outcome.result.table["keep"].tolist()
    curate.select("rejected")
    curate.decide("kept")
    curate.undo()
    row = int(np.flatnonzero(keep)[0])
    curate.select_mask(np.arange(len(keep)) == row)
    curate.decide("rejected")
    keep[row] = False
    target = Path(layer.metadata["source"]).with_name("mine.star")  # paths of stacks stay as they are
    curate.save(target)
    qtbot.waitUntil(lambda: not curate.job.running, timeout=PATIENCE)

    (again,) = viewer.open(str(target), plugin=PLUGIN)
    assert len(again.data) == keep.sum() == len(open_particles(target).read())
    first = np.flatnonzero(keep)[:3]
    assert np.array_equal(np.asarray(again.data[:3]), np.asarray(layer.data[first]))
    assert again.scale.tolist() == layer.scale.tolist()
    curate.open(layer.metadata["source"])
    qtbot.waitUntil(lambda: not curate.job.running, timeout=PATIENCE)
    curate.load(target.with_name("mine_curation.json"))
    assert curate.curation.keep.tolist() == keep.tolist()


SCRIPT = """
import sys, time
import napari
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication
from napari_pickbias.gui import curate_widget, project_widget, selection_panel
from napari_pickbias.jobs.progress import Progress

def slow(name):
    def steps(*_ignored):
        print("begun", name, flush=True)
        try:
            for done in range(100000):
                yield Progress("x", done, 100000)
                time.sleep(0.02)
        finally:
            print("closed", name, flush=True)
    return steps

curate_widget.average_steps, selection_panel.selection_steps = slow("average"), slow("selection")
project_widget.project_steps = slow("project")
viewer = napari.Viewer()
curate = viewer.window.add_plugin_dock_widget("napari-pickbias", "Curate")[1]
curate.open(sys.argv[1])
while curate.job.running:
    QApplication.processEvents()
curate.tabs.setCurrentWidget(curate.selection)
curate.average()
curate.selection.look()
project = viewer.window.add_plugin_dock_widget("napari-pickbias", "Open project")[1]
project.open("somewhere")
QTimer.singleShot(1000, viewer.close)
napari.run()
print("end", flush=True)
"""


def test_the_window_closes_while_several_docks_work(pick_files) -> None:
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(pick_files.star)], capture_output=True, text=True, check=False, timeout=180
    )
    assert run.returncode == 0, run.stderr
    for name in ("average", "selection", "project"):
        assert f"begun {name}" in run.stdout
        assert f"closed {name}" in run.stdout
    assert "end" in run.stdout
    assert "Traceback" not in run.stderr, run.stderr
    assert "Fatal" not in run.stderr, run.stderr
