"""What a threshold means, and the Pick dock, on a picking run that is really run."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.layers import Layer

from napari_pickbias.gui import run_work
from napari_pickbias.gui.preferences import PLUGIN
from napari_pickbias.gui.run_work import RunOrder, pick_steps
from napari_pickbias.gui.threshold import PickView
from napari_pickbias.imaging.phantoms import blob_volume, phantom
from napari_pickbias.jobs.pick import decide
from napari_pickbias.jobs.pick_parameters import PickParameters
from napari_pickbias.jobs.simulate_micrographs_parameters import SimulateMicrographsParameters
from napari_pickbias.records import write_mrc
from napari_pickbias.records.pick_tables import open_picks
from napari_pickbias.runs import pick as pick_runs
from napari_pickbias.runs.simulate_micrographs import run_simulate_micrographs

SIZE, PIXEL, RADIUS = 400, 10.0, 100.0
STEP = 0.5
PARAMETERS = PickParameters(threshold=5.5, diameter=200, angular_step=30, lowpass=40, contrast="black")


def finish(steps: Generator[Any, None, Any]) -> Any:
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Three micrographs of 14 particles each, and the map that they show."""
    folder = tmp_path_factory.mktemp("pick")
    parameters = SimulateMicrographsParameters(
        count=3, size=SIZE, pixel_size=PIXEL, per_micrograph=14, radius=RADIUS, elongation=1.6, snr=0.1, ctf=False
    )
    finish(run_simulate_micrographs(parameters, folder / "simulated", report=False))
    volume = blob_volume(phantom(RADIUS / PIXEL, elongation=1.6), 32)
    return folder / "simulated" / "micrographs.star", write_mrc(folder / "map.mrc", volume, PIXEL)


@pytest.fixture(scope="module")
def finished(data: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> run_work.Finished:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pick_runs, "write_pick_report", lambda *_args, **_named: {})
        out = tmp_path_factory.mktemp("out") / "pick"
        inputs = {"micrographs": str(data[0]), "templates": str(data[1])}
        return finish(pick_steps(RunOrder(inputs, PARAMETERS, out, "keep", 1)))


@pytest.fixture
def view(finished: run_work.Finished) -> PickView:
    return finished.extra


def test_the_meaning_of_a_threshold_is_the_jobs_own(view: PickView) -> None:
    assert view.meaning(view.threshold).picks == view.result.count
    for value in (view.threshold, view.threshold + 0.5):
        found = view.meaning(value)
        again = decide(view.result.candidates, PARAMETERS.model_copy(update={"threshold": value, "fdr": None}))
        assert found.picks == again.count
        assert again.fdr is not None
        assert found.fdr == pytest.approx(again.fdr)
        assert found.false == pytest.approx(again.expected_false)
    assert f"{found.picks:,} picks" in found.text(3)
    assert "expected false" in found.text(3)


def test_all_candidates_lie_on_their_micrographs_and_the_threshold_hides_some(
    view: PickView, data: tuple[Path, Path]
) -> None:
    stack, points = (Layer.create(*data) for data in view.layers())
    assert stack.data.shape == (3, SIZE, SIZE)
    assert points.scale.tolist() == [1, PIXEL, PIXEL]
    assert points.shown.sum() == view.result.count
    assert len(points.data) > points.shown.sum()
    assert set(points.size) == {20.0}
    truth = open_picks(data[0].with_name("truth.star")).read()
    near = [
        np.hypot(*(truth.coordinates_px[truth.micrograph == m] - (x, y)).T).min() < 0.8 * RADIUS / PIXEL
        for m, y, x in points.data[points.shown]
    ]
    assert np.mean(near) > 0.75  # with x and y exchanged hardly one would be near
    assert len(view.layers(with_micrographs=False)) == 1


@pytest.mark.gui
def test_the_pick_dock_moves_the_threshold_live(make_napari_viewer_proxy, finished, qtbot, monkeypatch) -> None:
    viewer = make_napari_viewer_proxy()
    widget = viewer.window.add_plugin_dock_widget(PLUGIN, "Pick")[1]
    widget._on_finished(finished)
    view, points = finished.extra, viewer.layers["picks by q-value"]
    assert widget.panel.box.value() == pytest.approx(view.threshold, abs=1e-3)
    assert widget.panel.meaning.text() == view.meaning(widget.panel.threshold).text(3)
    before = int(points.shown.sum())
    widget.panel.box.setValue(view.threshold + STEP)
    assert points.shown.sum() < before
    assert f"{int(points.shown.sum())} picks" in widget.panel.meaning.text()
    widget.panel.slider.setValue(0)
    assert points.shown.all()
    widget.panel.log.setChecked(False)
    assert widget.panel.axes.get_yscale() == "linear"

    monkeypatch.setattr(pick_runs, "write_pick_report", lambda *_args, **_named: {})
    widget.panel.set_threshold(view.threshold + STEP)
    wanted = int(points.shown.sum())
    widget.rethreshold()
    qtbot.waitUntil(lambda: not widget.job.running, timeout=120_000)
    folder = finished.order.out.with_name(f"pick_from_{view.threshold + STEP:.2f}")
    assert widget.job.status.text() == f"Picks from {view.threshold + STEP:.2f} up are in {folder}."
    assert len(open_picks(folder / "picks.star").read()) == wanted
    widget._on_finished(finished)  # a second run's layers replace the first's
    assert [layer.name for layer in viewer.layers] == ["micrographs", "picks by q-value"]
    widget.curate()
    curate = viewer.window.add_plugin_dock_widget(PLUGIN, "Curate")[1]
    qtbot.waitUntil(lambda: curate.opened is not None and not curate.job.running, timeout=120_000)
    assert len(curate.curation) == view.result.count
