"""The whole window is closed while a job works: nothing crashes, no worker is left, and the run can be gone on with."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.gui
SCRIPT = """
import sys, threading, time
from pathlib import Path
import napari
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication
from superqt.utils import WorkerBase
from napari_pickbias.gui import {module}
from napari_pickbias.gui.run_work import Finished
from napari_pickbias.jobs.progress import Progress
from napari_pickbias.runs.directory import claim

out = Path({out!r})
closed = threading.Event()

def steps(order):
    # As every job: a piece is kept after each step, in a folder that is claimed.
    first = not out.exists()
    try:
        with claim(order.out, "a job", {{}}, [], **order.again) as folder:
            start = 0 if (piece := folder.load("piece")) is None else int(piece["done"])
            for k in range(start, 5 if not first else 10**6):
                folder.save("piece", {{"done": __import__("numpy").array(min(k + 1, 3))}})
                yield Progress("work", k, 10)
                time.sleep(0.02)
            folder.finish()
        return Finished(order, {{}}, "Done.", [], [], [])
    finally:
        closed.set()

{module}.{steps} = steps
viewer = napari.Viewer(show=True)
widget = viewer.window.add_plugin_dock_widget("napari-pickbias", {dock!r})[1]
for path in widget.paths.values():
    path.setText(str(out.with_name("in.star")))
widget.out.setText(str(out))
widget.earlier.setCurrentIndex({earlier})
widget.run()

def act():
    if not (out / ".pickbias" / "piece.npz").exists():
        return
    timer.stop()
    if {earlier}:
        return
    viewer.close()
    QApplication.processEvents()

timer = QTimer(interval=20)
timer.timeout.connect(act)
timer.start()
end = time.time() + 60
while time.time() < end and not closed.is_set():
    QApplication.processEvents()
    time.sleep(0.01)
assert closed.is_set(), "the job still works"
for _ in range(50):
    QApplication.processEvents()
    time.sleep(0.01)
assert not [w for w in WorkerBase._worker_set if w.is_running], "a worker is left"
if {earlier}:
    print("RESULT", widget.result.text())
    viewer.close()
print("CLEAN")
"""


def run(out: Path, module: str, steps: str, dock: str, earlier: int) -> str:
    script = SCRIPT.format(module=module, steps=steps, dock=dock, out=str(out), earlier=earlier)
    environment = {**os.environ, "NAPARI_CONFIG": str(out.with_name("settings.yaml"))}
    found = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=240, env=environment, check=False
    )
    assert found.returncode == 0, found.stderr[-3000:]
    assert "CLEAN" in found.stdout
    assert "Traceback" not in found.stderr, found.stderr[-3000:]
    return found.stdout


@pytest.mark.parametrize(
    ("module", "steps", "dock"),
    [
        ("pick_widget", "pick_steps", "Pick"),
        ("bias_widget", "bias_steps", "Picks and bias"),
        ("softmodes_widget", "softmodes_steps", "Soft modes"),
        ("pickfree_widget", "pickfree_steps", "Pick-free"),
    ],
)
def test_closing_the_window_during_work_is_clean(tmp_path: Path, module: str, steps: str, dock: str) -> None:
    out = tmp_path / "out"
    run(out, module, steps, dock, 0)
    assert not (out / ".pickbias" / "finished").exists()
    assert (out / ".pickbias" / "piece.npz").exists()  # what is finished is kept
    assert not list(out.rglob("*.tmp*"))
    if dock == "Pick":  # going on is the same for all: one is enough
        assert "Done." in run(out, module, steps, dock, 1)
        assert (out / ".pickbias" / "finished").exists()
