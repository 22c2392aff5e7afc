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


def test_what_has_no_row_is_refused_in_one_line(points, pick_files) -> None:
    target = pick_files.star.with_name("saved.star")
    with pytest.raises(InputError, match=r"saved.cs: the picks come from a .star file; give the same suffix"):
        save(points, target.with_suffix(".cs"))
    points.add([0, 10, 10])
    with pytest.raises(InputError, match="holds points added by hand, which have no row in"):
        save(points, target)
    points.selected_data = {80}
    points.remove_selected()
    points.data = np.add(points.data, [0, 0, 5])
    with pytest.raises(InputError, match=r"points were moved, so their rows in .* no longer hold"):
        save(points, target)
    with pytest.raises(InputError, match="layer “mine”: was not opened from a file of picks"):
        save(Points([[1, 2, 3]], name="mine"), target)
    assert not target.exists()


def test_napari_finds_the_writer() -> None:
    contributions = PluginManifest.from_distribution(PLUGIN).contributions
    (writer,) = contributions.writers
    assert writer.layer_types == ["points"]
    assert set(writer.filename_extensions) == {".star", ".cs", ".box"}
