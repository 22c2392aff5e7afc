"""A curation in napari's model of a viewer: no Qt, no window."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Points
from napari.utils.colormaps.standardize_color import transform_color

from napari_pickbias.gui.curation import Curation
from napari_pickbias.gui.curation_layers import CurationLayers, camera_of
from napari_pickbias.gui.pick_layers import KEPT_COLOR, REJECTED_COLOR, SELECTED_COLOR
from napari_pickbias.gui.readers import read_picks
from napari_pickbias.records.pick_tables import open_picks

KEPT, REJECTED, SELECTED = (transform_color(c)[0] for c in (KEPT_COLOR, REJECTED_COLOR, SELECTED_COLOR))


@pytest.fixture
def viewer() -> ViewerModel:
    return ViewerModel()


@pytest.fixture
def curation(pick_files) -> Curation:
    return Curation(open_picks(pick_files.star).read())


@pytest.fixture
def layers(viewer, curation, pick_files) -> CurationLayers:
    return CurationLayers(viewer, curation, str(pick_files.star), 32.0)


def test_circles_lie_on_their_picks_in_angstrom(viewer, layers, pick_files) -> None:
    micrographs, points = viewer.layers
    assert micrographs.data.shape == (4, 160, 160)
    for layer in (micrographs, points):
        assert layer.scale.tolist() == [1, 2, 2]
        assert [str(u) for u in layer.units] == ["pixel", "angstrom", "angstrom"]
    assert np.allclose(points.data[:, 1:], pick_files.xy[:, ::-1])
    assert points.data[:, 0].astype(int).tolist() == pick_files.micrograph.tolist()
    assert set(points.size) == {16.0}  # 32 Å
    assert "hisNote" in points.features
    assert points.features["hisNote"].astype(str).iloc[0] == "by 0"


def test_discs_are_bright_below_their_circles(viewer, layers, pick_files) -> None:
    """The right way round: x and y are not exchanged, and row 0 is the file's first."""
    micrographs = viewer.layers[0]
    good, bad = [], []
    for m, (x, y), score in zip(pick_files.micrograph, pick_files.xy.astype(int), pick_files.score, strict=True):
        patch = np.asarray(micrographs.data[int(m)])[y - 3 : y + 4, x - 3 : x + 4].mean()
        (good if score > 6 else bad).append(patch)
    assert np.median(good) > np.median(bad) + 1.5


def test_colours_tell_kept_rejected_and_selected(layers, curation, pick_files) -> None:
    curation.set_range("rlnAutopickFigureOfMerit", (6, 20))
    curation.selected[0] = True
    layers.refresh()
    colors = layers.points.border_color
    good = pick_files.score > 6
    good[0] = False
    assert np.allclose(colors[0], SELECTED)
    assert np.allclose(colors[good], KEPT)
    assert np.allclose(colors[1:][~good[1:]], REJECTED)
    assert layers.points.features["keep"].tolist() == curation.keep.tolist()
    assert layers.points.shown.all()
    layers.hide_rejected = True
    layers.refresh()
    assert layers.points.shown.tolist() == curation.keep.tolist()
    layers.color_by = "rlnAutopickFigureOfMerit"
    layers.refresh()
    assert len(np.unique(layers.points.border_color, axis=0)) > 20
    assert set(layers.points.border_color[:, 3].round(2)) == {0.3, 1.0} | ({1.0} if curation.selected.any() else set())


def test_selecting_circles_selects_picks(viewer, curation, pick_files) -> None:
    told = []
    layers = CurationLayers(viewer, curation, str(pick_files.star), on_selected=lambda: told.append(1))
    layers.points.selected_data = {3, 5}
    assert np.flatnonzero(curation.selected).tolist() == [3, 5]
    assert told


def test_deleted_circles_are_rejected_and_others_stay_where_they_are(viewer, curation, pick_files) -> None:
    told = []
    layers = CurationLayers(viewer, curation, str(pick_files.star), 32.0, on_edited=told.append)
    place = layers.points.data.copy()
    layers.points.selected_data = {3, 5}
    layers.points.remove_selected()
    assert np.flatnonzero(~curation.keep).tolist() == [3, 5]
    assert told == ["2 rejected: deleting a circle rejects its pick, which is not lost."]
    assert np.array_equal(layers.points.data, place)
    assert layers.points.features["row"].tolist() == list(range(len(place)))
    assert layers.points.features["keep"].tolist() == curation.keep.tolist()
    assert curation.undo() == "2 rejected"


def test_an_added_circle_is_a_pick_that_undo_takes_back(layers, curation, pick_files) -> None:
    count = len(pick_files.xy)
    layers.points.add([[1.0, 30.0, 40.25], [2.0, 50.0, 60.0]])
    assert curation.coordinates_px[-2:].tolist() == [[40.25, 30.0], [60.0, 50.0]]
    assert curation.micrograph[-2:].tolist() == [1, 2]
    assert curation.keep[-2:].all()
    assert curation.features["hisNote"].astype(str).tolist()[-2:] == ["by 1", "by 2"]
    assert curation.features["rlnCoordinateX"].tolist()[-2:] == [40.25, 60.0]
    assert np.isnan(curation.features["rlnAutopickFigureOfMerit"].tolist()[-1])
    points = layers.points
    assert [str(s.value) for s in points.symbol[-3:]] == ["disc", "square", "square"]
    assert points.features["row"].tolist() == list(range(count + 2))
    assert set(points.size) == {16.0}
    points.selected_data = {count + 1}
    points.remove_selected()  # rejected, not lost
    assert len(points.data) == count + 2
    assert curation.keep.tolist() == [True] * (count + 1) + [False]
    for what in ("1 rejected", "2 added"):
        assert curation.undo() == what
        layers.refresh()
    assert len(points.data) == len(curation) == count
    curation.redo()
    layers.refresh()
    assert points.data[-1].tolist() == [2, 50, 60]


def test_a_dragged_circle_is_a_moved_pick(layers, curation, pick_files) -> None:
    points = layers.points
    points.selected_data = {3, 5}
    points._move(points.selected_data, points.data[[3, 5]].mean(axis=0))  # the drag's start
    start = points.data[[3, 5], 1:].mean(axis=0)
    points._move(points.selected_data, [0, start[0] + 4, start[1] - 6])
    assert np.allclose(curation.coordinates_px[[3, 5]], pick_files.xy[[3, 5]] + (-6, 4), atol=2e-3)
    assert np.flatnonzero(curation.moved).tolist() == [3, 5]
    assert [str(points.symbol[k].value) for k in (2, 3, 5)] == ["disc", "diamond", "diamond"]
    assert curation.features["rlnCoordinateX"].iloc[3] == pytest.approx(pick_files.xy[3, 0] - 6, abs=2e-3)
    assert points.selected_data == {3, 5}
    assert curation.undo() == "2 moved"
    layers.refresh()
    assert np.array_equal(points.data[:, :0:-1], pick_files.xy.astype(np.float32))
    assert not curation.edits()


def test_extracted_particles_are_neither_moved_nor_added(viewer, particle_files) -> None:
    told = []
    curation = Curation(open_picks(particle_files.star).read())
    layers = CurationLayers(viewer, curation, str(particle_files.star), on_edited=told.append)
    place = np.array(layers.points.data)
    layers.points.add([0, 1.0, 2.0])
    layers.points.data = place + 1
    layers.points.data = place[:4]
    assert np.array_equal(layers.points.data, place)
    why = "the file lists extracted particles, whose images belong to their places."
    assert told[:2] == [f"No pick was added: {why}", f"No pick was moved: {why}"]
    assert told[2] == "The layer got other points, which were put back: add, move and delete single picks."
    assert not curation.can_undo


def test_going_to_a_pick_shows_its_micrograph_with_the_pick_in_the_middle(viewer, layers, pick_files) -> None:
    layers.go_to(len(pick_files.xy) - 1)
    assert layers.micrograph == 3
    assert np.allclose(camera_of(viewer).center[1:], 2 * pick_files.xy[-1, ::-1])
    layers.go_to_micrograph(99)
    assert layers.micrograph == 3
    layers.go_to_micrograph(-1)
    assert layers.micrograph == 0


def test_opening_again_replaces_the_layers(viewer, layers, curation, pick_files) -> None:
    CurationLayers(viewer, curation, str(pick_files.star))
    assert [layer.name for layer in viewer.layers] == ["picks: micrographs", "picks: curated picks"]


def test_layers_read_before_are_taken_over(viewer, curation, pick_files) -> None:
    for layer in read_picks(str(pick_files.star)):
        viewer._add_layer_from_data(*layer)
    mine = viewer.layers[0]
    CurationLayers(viewer, curation, str(pick_files.star))
    assert [layer.name for layer in viewer.layers] == ["picks: micrographs", "picks: curated picks"]
    assert viewer.layers[0] is mine


def test_without_micrographs_the_circles_are_shown_alone(viewer, pick_files) -> None:
    for path in pick_files.micrographs:
        path.unlink()
    layers = CurationLayers(viewer, Curation(open_picks(pick_files.star).read()), str(pick_files.star))
    (points,) = viewer.layers
    assert isinstance(points, Points)
    layers.go_to(5)


def test_a_removed_layer_is_let_alone(viewer, layers, curation, pick_files: Path) -> None:
    viewer.layers.clear()
    curation.decide(np.array([1]), "rejected")
    layers.refresh()
    layers.set_diameter(50)
    assert not layers.alive
    layers.close()
