"""Saving a layer of picks, in napari's model of a viewer."""

from __future__ import annotations

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Layer, Points
from npe2 import PluginManifest

from napari_pickbias.errors import InputError
from napari_pickbias.gui.curation import Curation
from napari_pickbias.gui.curation_layers import CurationLayers
from napari_pickbias.gui.pick_layers import pick_layers
from napari_pickbias.gui.preferences import PLUGIN
from napari_pickbias.gui.writers import write_picks
from napari_pickbias.records.pick_tables import open_picks


def rows_of(path) -> list[str]:
    return [line for line in path.read_text().splitlines() if line.startswith("mics/")]


@pytest.fixture
def points(pick_files) -> Points:
    return Layer.create(*pick_layers(pick_files.star)[-1])


def save(layer: Points, path) -> list[str]:
    data, attributes, _ = layer.as_layer_data_tuple()
    return write_picks(str(path), data, attributes)


def test_deleted_picks_are_left_out_and_the_rest_stands_as_it_stood(points, pick_files) -> None:
    points.selected_data = {0, 7, 79}
    points.remove_selected()
    target = pick_files.star.with_name("saved.star")
    assert save(points, target) == [str(target)]
    lines = rows_of(pick_files.star)
    assert rows_of(target) == [line for k, line in enumerate(lines) if k not in (0, 7, 79)]


def test_a_curated_layer_saves_what_is_kept(pick_files) -> None:
    curation = Curation(open_picks(pick_files.star).read())
    layers = CurationLayers(ViewerModel(), curation, str(pick_files.star))
    curation.decide(np.arange(60), "rejected")
    layers.refresh()
    target = pick_files.star.with_name("saved.star")
    save(layers.points, target)
    assert rows_of(target) == rows_of(pick_files.star)[60:]


def test_added_and_moved_points_are_rows_of_the_file(points, pick_files) -> None:
    target = pick_files.star.with_name("saved.star")
    points.add([2, 10, 20.5])
    moved = np.array(points.data)
    moved[3, 1:] += (5, -7)
    points.data = moved
    points.selected_data = {0}
    points.remove_selected()
    save(points, target)
    lines = rows_of(pick_files.star)
    x, y = pick_files.xy[3] + (-7, 5)
    old = " ".join(lines[3].split()[1:3])
    assert rows_of(target) == [*lines[1:3], lines[3].replace(old, f"{x} {y}"), *lines[4:], NEW]
    assert NEW.startswith("mics/m2.mrc 20.5 10.0 ")


NEW = 'mics/m2.mrc 20.5 10.0 -999 "by 2" 1 '
"""The note and the optics group are those of all picks of that micrograph."""


def test_what_cannot_be_written_is_refused_in_one_line(points, pick_files, particle_files) -> None:
    target = pick_files.star.with_name("saved.star")
    with pytest.raises(InputError, match=r"saved.cs: the picks come from a .star file; give the same suffix"):
        save(points, target.with_suffix(".cs"))
    with pytest.raises(InputError, match="layer “mine”: was not opened from a file of picks"):
        save(Points([[1, 2, 3]], name="mine"), target)
    circles = CurationLayers(
        ViewerModel(), Curation(open_picks(particle_files.star).read()), str(particle_files.star)
    ).points
    with circles.events.data.blocker():
        circles.add([0, 10, 10])
    circles.features["keep"] = True
    with pytest.raises(InputError, match="its rows are extracted particles, whose images belong to the old places"):
        save(circles, target)
    assert not target.exists()


def test_napari_finds_the_writer() -> None:
    contributions = PluginManifest.from_distribution(PLUGIN).contributions
    (writer,) = contributions.writers
    assert writer.layer_types == ["points"]
    assert set(writer.filename_extensions) == {".star", ".cs", ".box"}
