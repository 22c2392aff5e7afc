"""The docks of the jobs: forms made from models, runs from start to layers, Cancel, faults."""

from __future__ import annotations

import threading
from collections.abc import Generator
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import Qt

from napari_pickbias.errors import InputError
from napari_pickbias.gui import pickfree_widget, softmodes_widget
from napari_pickbias.gui.map_layers import map_layers
from napari_pickbias.gui.model_form import ModelForm
from napari_pickbias.gui.preferences import PLUGIN
from napari_pickbias.gui.run_work import Finished, RunOrder
from napari_pickbias.imaging.phantoms import blob_volume, phantom
from napari_pickbias.jobs.pickfree_parameters import PickfreeParameters
from napari_pickbias.jobs.progress import Progress
from napari_pickbias.jobs.simulate import SimulateParticlesParameters
from napari_pickbias.pickfree.chain import Record
from napari_pickbias.records import write_mrc
from napari_pickbias.runs import softmodes as softmodes_runs
from napari_pickbias.runs.simulate import run_simulate_particles

pytestmark = pytest.mark.gui
PATIENCE = 120_000
SOFT_LAYERS = [
    "particles", "molecule", "uncertainty", "sphere of views", "views of the particles", "added: polar:20", "soft mode"
]  # fmt: skip


@pytest.fixture
def viewer(make_napari_viewer_proxy) -> Any:
    return make_napari_viewer_proxy()


def dock(viewer: Any, name: str) -> Any:
    return viewer.window.add_plugin_dock_widget(PLUGIN, name)[1]


def run_to_end(qtbot, widget: Any) -> None:
    widget.run()
    qtbot.waitUntil(lambda: not widget.job.running, timeout=PATIENCE)


def finish(steps: Generator[Any, None, Any]) -> Any:
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


# -- forms ---------------------------------------------------------------------------------------------------------


def test_a_form_gives_the_models_defaults_and_names_the_field_at_fault(qtbot) -> None:
    form = ModelForm(PickfreeParameters, ("box", "contrast"), start={"box": 11})
    qtbot.addWidget(form)
    assert form.parameters() == PickfreeParameters(box=11)
    form.set("contrast", "black")
    form.set("null", False)
    form.set("snr", 0.25)
    form.set("iterations", 4)
    assert form.parameters() == PickfreeParameters(box=11, contrast="black", null=False, snr=0.25, iterations=4)
    form.set("empty", "2")
    with pytest.raises(InputError, match="“Empty” 2: input should be less than 1"):
        form.parameters()
    form.set("empty", None)
    form.set("box", "")
    with pytest.raises(InputError, match="“Box”: is missing; Pixels a side of the reconstruction"):
        form.parameters()
    assert set(form.fields) == set(PickfreeParameters.model_fields)


# -- soft modes, really run ------------------------------------------------------------------------------------------


@pytest.fixture
def refined(tmp_path: Path) -> tuple[Path, Path]:
    molecule = write_mrc(tmp_path / "molecule.mrc", blob_volume(phantom(4.5), 16), 6.0)
    parameters = SimulateParticlesParameters(count=40, size=16, pixel_size=6.0, radius=27, ctf=False)
    files = finish(run_simulate_particles(parameters, tmp_path / "particles", report=False)).files
    return molecule, files["particles"]


def test_soft_modes_from_files_to_a_moving_surface(viewer, refined, qtbot, monkeypatch) -> None:
    monkeypatch.setattr(softmodes_runs, "write_softmodes_report", lambda *_args, **_named: {})
    molecule, particles = refined
    viewer.open(str(particles), plugin=PLUGIN)
    widget = dock(viewer, "Soft modes")
    assert widget.paths["particles"].text() == str(particles)  # what is open is offered
    widget.paths["map"].setText(str(molecule))
    assert widget.out.text() == str(molecule.with_name("molecule_soft_modes"))
    for name, value in {"modes": 2, "box": 12, "most_views": 32, "iterations": 15, "add_views": "polar:20"}.items():
        widget.form.set(name, value)
    run_to_end(qtbot, widget)
    assert widget.result.text().startswith("<b>"), widget.job.status.text()
    assert [layer.name for layer in viewer.layers] == SOFT_LAYERS
    assert viewer.dims.ndisplay == 3
    assert not viewer.layers["particles"].visible  # it would be read whole
    surface = viewer.layers["soft mode"]
    middle = np.asarray(surface.data[0])
    assert 0 < middle.min() < middle.max() < 16 * 6.0  # Å
    widget.phase.setValue(0)
    minus = np.asarray(surface.data[0])
    widget.phase.setValue(widget.phase.maximum())
    assert not np.array_equal(minus, np.asarray(surface.data[0]))
    assert surface.data[2].min() >= 0  # uncertainty
    widget.mode.setCurrentIndex(1)
    widget.play.setChecked(True)
    before = widget.phase.value()
    qtbot.waitUntil(lambda: widget.phase.value() != before, timeout=PATIENCE)
    assert len(widget.spectrum.canvases) == 2
    # Views lie on a sphere beside the map, coloured by how surely their poses are known; those of the what-if beside.
    points = viewer.layers["views of the particles"]
    views = points.data.copy()
    centre = np.array([0.5, 0.5, 1.65]) * 16 * 6.0
    np.testing.assert_allclose(np.linalg.norm(views - centre, axis=1), 0.45 * 16 * 6.0, rtol=1e-4)
    assert points.features["rotation_sd_deg"].min() > 0
    assert len(np.unique(points.face_color, axis=0)) > 3
    added = viewer.layers["added: polar:20"].data - centre
    tilt = np.degrees(np.arccos(np.abs(added[:, 0]) / np.linalg.norm(added, axis=1)))
    assert 10 < tilt.max() <= 20.01
    widget.views.setCurrentIndex(1)
    widget.open_figures()
    assert widget._window.isVisible()

    # The same again goes on from where it is finished, and replaces the layers.
    widget.earlier.setCurrentText("go on (resume)")
    run_to_end(qtbot, widget)
    assert "This run was finished earlier." in widget.result.text()
    assert [layer.name for layer in viewer.layers] == SOFT_LAYERS
    again = viewer.layers["soft mode"]
    widget.mode.setCurrentIndex(1)
    widget.phase.setValue(0)
    assert len(again.data[0]) > 100
    reread = viewer.layers["views of the particles"]  # of all particles: the run's own are binned
    assert len(reread.data) == 40 >= len(views)
    np.testing.assert_allclose(np.linalg.norm(reread.data - centre, axis=1), 0.45 * 16 * 6.0, rtol=1e-4)
    assert reread.features["rotation_sd_deg"].min() > 0
    viewer.window.remove_dock_widget(widget)
    assert not widget._timer.isActive()

    # The folder alone shows the same.
    other = dock(viewer, "Soft modes")
    other.open_results(widget.finished.order.out)
    qtbot.waitUntil(lambda: not other.job.running, timeout=PATIENCE)
    assert [layer.name for layer in viewer.layers] == SOFT_LAYERS, other.job.status.text()
    assert other.paths["map"].text() == str(molecule)
    assert other.paths["particles"].text() == str(particles)
    assert other.form.parameters().most_views == 32
    assert other.mode.count() == 2
    assert len(other.spectrum.canvases) == 1


# -- the others, with steps that stand in for the job ----------------------------------------------------------------


class Steps:
    """Reports what it is told to, then waits or ends."""

    def __init__(self, progress: list[Progress], value: Any = None, *, wait: bool = False) -> None:
        self.progress, self.value, self.wait = progress, value, wait
        self.orders: list[RunOrder] = []
        self.started, self.closed = threading.Event(), threading.Event()

    def __call__(self, order: RunOrder, *_others: Any) -> Generator[Progress, None, Any]:
        self.orders.append(order)
        try:
            yield from self.progress
            self.started.set()
            while self.wait:
                yield self.progress[-1]
                self.closed.wait(0.01)
            return self.value(order) if callable(self.value) else self.value
        finally:
            self.closed.set()


def fill(widget: Any, tmp_path: Path) -> None:
    for name, path in widget.paths.items():
        path.setText(str(tmp_path / f"{name}.star"))


def nothing(order: RunOrder) -> Finished:
    return Finished(order, {}, "Done --box.", ["mind --contrast"], [], [])


def keep_chain(out: Path, name: str, iterations: int, level: float) -> None:
    """What a job keeps of a chain: records, and the map of each iteration."""
    records = np.zeros((iterations, len(fields(Record))))
    names = [each.name for each in fields(Record)]
    records[:, names.index("iteration")] = np.arange(1, iterations + 1)
    records[:, names.index("log_likelihood")] = level * np.arange(1, iterations + 1)
    records[:, names.index("empty")] = 0.5
    volumes = np.random.default_rng(1).random((iterations, 6, 6, 6)).astype(np.float32)
    (out / ".pickbias").mkdir(parents=True, exist_ok=True)
    np.savez(out / ".pickbias" / f"chain_{name}.npz", records=records, volumes=volumes)


def test_pick_free_shows_map_and_convergence_as_it_goes(viewer, tmp_path, qtbot, monkeypatch) -> None:
    start = write_mrc(tmp_path / "map.mrc", np.ones((12, 12, 12), np.float32), 2.0)
    seen: list[tuple[list[str], int]] = []
    handled = threading.Semaphore(0)

    def steps(order: RunOrder) -> Generator[Progress, None, Finished]:
        yield Progress("map", 0, 3)
        assert handled.acquire(timeout=60)
        for name, level in (("half1", 0.1), ("half2", 0.1), ("map", 0.2), ("null", -0.01)):
            for k in (1, 2, 3):
                keep_chain(order.out, name, k, level)
                yield Progress(name, k, 3, "iteration")
                assert handled.acquire(timeout=60)  # iterations take longer than showing them
        (order.out / ".pickbias" / "chain_map.npz").write_bytes(b"half written")
        yield Progress("null", 3, 3)
        layers = [layer for _ in range(2) for layer in map_layers(start)]
        return Finished(order, {}, "Evidence.", [], [], layers)

    monkeypatch.setattr(pickfree_widget, "pickfree_steps", steps)
    widget = dock(viewer, "Pick-free")
    fill(widget, tmp_path)
    widget.paths["map"].setText(str(start))
    widget.out.setText(str(tmp_path / "out"))
    widget.form.set("iterations", 3)
    widget.job.yielded.connect(lambda _progress: handled.release())
    show = widget._show_map

    def watched(order: RunOrder, volume: np.ndarray, iteration: int) -> None:
        show(order, volume, iteration)
        seen.append(([layer.name for layer in viewer.layers], iteration))
        assert viewer.layers["map so far"].scale.tolist() == [4.0] * 3  # the start's 24 Å in 6 voxels

    monkeypatch.setattr(widget, "_show_map", watched)
    run_to_end(qtbot, widget)
    assert widget.result.text() == "<b>Evidence.</b>", widget.job.status.text()
    assert seen[0] == (["map so far"], 1)
    assert {tuple(names) for names, _ in seen} == {("map so far",)}  # updated, never a second one
    assert seen[-1][1] == 3
    assert [layer.name for layer in viewer.layers] == ["map", "map [1]"]  # the result takes its place
    assert viewer.dims.ndisplay == 3
    likelihood, empty, agreement = widget.figure.axes
    lines = {line.get_label(): list(line.get_ydata()) for line in likelihood.lines}
    assert lines["half 1"] == pytest.approx([0.1, 0.2, 0.3])
    assert lines["noise alone"] == pytest.approx([-0.01, -0.02, -0.03])
    assert "the data" not in lines  # its piece was being replaced just then: shown when it can be read
    assert empty.lines[0].get_ydata() == pytest.approx([0.5] * 3)
    assert agreement.lines[0].get_ydata() == pytest.approx([1.0] * 3)  # these halves are the same
    run_to_end(qtbot, widget)
    assert len(viewer.layers) == 2


def test_fields_that_miss_something_are_told_by_their_label(viewer, tmp_path, qtbot) -> None:
    widget = dock(viewer, "Pick")
    widget.run()
    assert widget.job.status.text() == (
        "“Micrographs”: no file is named; give micrographs_ctf.star, .cs, a folder or a pattern"
    )
    fill(widget, tmp_path)
    widget.form.set("fdr", "much")
    widget.run()
    assert widget.job.status.text().startswith("“FDR” much: input should be a valid number")
    widget.form.set("fdr", "")
    widget.out.setText("")
    widget.run()
    assert widget.job.status.text() == "“Output folder”: no folder is named; choose where the results go"
    widget.out.setText(str(tmp_path / "out"))
    run_to_end(qtbot, widget)
    assert "micrographs.star: no such file" in widget.job.status.text()
    assert widget.run_button.isEnabled()
    assert not (tmp_path / "out").exists()


def test_cancel_offers_to_go_on(viewer, tmp_path, qtbot, monkeypatch) -> None:
    steps = Steps([Progress("solve", 3, 10)], nothing, wait=True)
    monkeypatch.setattr(softmodes_widget, "softmodes_steps", steps)
    widget = dock(viewer, "Soft modes")
    fill(widget, tmp_path)
    widget.run()
    qtbot.waitUntil(steps.started.is_set, timeout=PATIENCE)
    qtbot.waitUntil(lambda: "Solving for the modes 3 of 10" in widget.job.status.text(), timeout=PATIENCE)
    assert not widget.fields.isEnabled()
    qtbot.mouseClick(widget.job.cancel_button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: not widget.job.running, timeout=PATIENCE)
    assert steps.closed.is_set()
    assert widget.earlier.currentText() == "go on (resume)"
    assert widget.job.status.text().startswith("Cancelled. Finished pieces are kept in ")
    assert widget.fields.isEnabled()
    steps.wait = False
    run_to_end(qtbot, widget)
    assert steps.orders[1].again == {"overwrite": False, "resume": True}
    assert widget.result.text() == "<b>Done “Box”.</b><br>Note: mind “Contrast”"


def test_closing_the_dock_stops_its_job(viewer, tmp_path, qtbot, monkeypatch) -> None:
    steps = Steps([Progress("solve", 3, 10)], nothing, wait=True)
    monkeypatch.setattr(softmodes_widget, "softmodes_steps", steps)
    widget = dock(viewer, "Soft modes")
    fill(widget, tmp_path)
    widget.run()
    qtbot.waitUntil(steps.started.is_set, timeout=PATIENCE)
    viewer.window.remove_dock_widget(widget)
    qtbot.waitUntil(steps.closed.is_set, timeout=PATIENCE)
    qtbot.wait(100)


def test_a_report_that_cannot_be_opened_is_told(viewer, tmp_path, qtbot, monkeypatch) -> None:
    monkeypatch.setattr(softmodes_widget, "softmodes_steps", Steps([Progress("solve", 0, 1)], nothing))
    widget = dock(viewer, "Soft modes")
    fill(widget, tmp_path)
    run_to_end(qtbot, widget)
    widget.open_report()
    assert widget.job.status.text().endswith("no web browser opens here; open the file by hand")
    widget.open_figures()  # there are none
    assert not widget.figures_button.isVisible()
