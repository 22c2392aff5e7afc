"""Results as layers, without Qt."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from napari.components import ViewerModel
from napari.layers import Layer, Points
from napari.utils.colormaps.standardize_color import transform_color

from napari_pickbias.gui import outlier_layers
from napari_pickbias.gui.outlier_layers import OURS, result_layers
from napari_pickbias.gui.outlier_work import Order, outlier_steps
from napari_pickbias.gui.reader import particle_layers
from napari_pickbias.jobs.outlier_parameters import OutlierParameters
from napari_pickbias.jobs.outliers import outlier_job
from napari_pickbias.outliers.verdicts import REASONS
from napari_pickbias.records import open_particles
from napari_pickbias.report.palette import REASON_COLORS


def finish(steps: Generator[Any, None, Any]) -> Any:
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def words_of(data: tuple) -> list[str]:
    """The texts that a layer shows."""
    layer = Layer.create(*data)
    return list(layer.text.string(layer.features))


@pytest.fixture
def table() -> pd.DataFrame:
    """Verdicts on 400 particles, cycling through the reasons; particle 4 sits 8 Å below and 12 Å left of the middle."""
    reason = np.array(REASONS)[np.arange(400) % 4]
    centre = np.zeros((400, 2))
    centre[4] = 8, -12
    centre[5] = np.nan
    return pd.DataFrame(
        {
            "keep": reason == "kept",
            "reason": pd.Categorical(reason, categories=list(REASONS)),
            "score": np.linspace(-5, 5, 400),
            "p_value": np.nan,
            "center_y_angstrom": centre[:, 0],
            "center_x_angstrom": centre[:, 1],
        }
    )


def test_every_particle_gets_a_circle_in_its_verdicts_colour_where_it_was_found(particle_files, table) -> None:
    circles, words = result_layers(particle_layers(particle_files.star), table, 40.0, None)
    layer = Layer.create(*circles)
    assert isinstance(layer, Points)
    assert layer.name == "particles: verdict"
    assert layer.data[3].tolist() == [3, 16, 16]
    assert layer.data[4].tolist() == [4, 18, 13]
    assert layer.data[5].tolist() == [5, 16, 16]
    assert layer.size[0] == 20  # 80 Å across, 4 Å/px
    for row in range(8):
        expected = transform_color(REASON_COLORS[REASONS[row % 4]])[0]
        np.testing.assert_allclose(layer.border_color[row], expected, atol=1e-6)
    assert layer.features["keep"].tolist() == table["keep"].tolist()
    assert list(layer.features.columns) == ["row", "keep", "reason", "score"]  # no p-values here, no column
    texts = words_of(words)
    assert texts[2] == "partial  -4.9"
    assert texts[399] == "multiple  5.0"


def test_the_published_method_has_no_score_and_the_words_say_none(particle_files, table) -> None:
    table["score"] = np.nan
    _, words = result_layers(particle_layers(particle_files.star), table, 40.0, None)
    assert words_of(words)[2] == "partial"


def test_very_many_particles_are_not_labelled(particle_files, table, monkeypatch) -> None:
    monkeypatch.setattr(outlier_layers, "LABELLED", 399)
    assert len(result_layers(particle_layers(particle_files.star), table, 40.0, None)) == 1


def test_verdicts_of_mixed_boxes_go_to_the_layer_that_holds_the_particle(
    tmp_path: Path, write_stack, write_star, table
) -> None:
    for name, count, box in (("a", 5, 8), ("b", 3, 12)):
        write_stack(tmp_path / f"{name}.mrcs", np.zeros((count, box, box), np.float32), 2.0)
    groups = [(str(tmp_path / "a.mrcs"), 5, 8, 2.0), (str(tmp_path / "b.mrcs"), 3, 12, 2.0)]
    star = write_star(tmp_path / "m.star", groups)
    stacks = particle_layers(star)
    layers = [Layer.create(*data) for data in result_layers(stacks, table.iloc[:8], 10.0, None)]
    circles = [layer for layer in layers if layer.name.endswith("verdict")]
    assert [layer.features["row"].tolist() for layer in circles] == [[0, 1, 2, 3, 4], [5, 6, 7]]
    assert circles[1].features["reason"].tolist() == ["noise", "partial", "multiple"]
    # The second stack stands below the first, and its circles with it.
    np.testing.assert_allclose(circles[1].translate, [0, 1.4 * 16, 0])


def test_averages_and_examples_stand_beside_the_particles_in_angstrom(particle_files) -> None:
    parameters = OutlierParameters(radius=particle_files.radius)
    particles = open_particles(particle_files.stack).read()
    result = finish(outlier_job(particles, parameters))
    stacks = particle_layers(particle_files.stack)
    layers = [Layer.create(*data) for data in result_layers(stacks, result.table, particle_files.radius, result)]
    viewer = ViewerModel()
    viewer.layers.append(Layer.create(*stacks[0]))
    for layer in layers:
        viewer.layers.append(layer)
    names = [layer.name for layer in viewer.layers]
    assert names == [
        "particles",
        "particles: verdict",
        "particles: verdict in words",
        "averages and examples",
        "averages and examples: labels",
    ]
    gallery, labels = viewer.layers[3], viewer.layers[4]
    group = result.groups[0].group
    assert gallery.scale.tolist() == pytest.approx([group.working_pixel_size_angstrom] * 2)
    assert [str(unit) for unit in gallery.units] == ["angstrom", "angstrom"]
    reasons = gallery.metadata["reasons"]
    assert reasons[0] == "kept"
    assert [text.split(":")[0] for text in labels.features["label"]] == reasons
    # The first picture is the average of what was kept: bright in the middle, on the level of the particle's image.
    side = group.working_box_px
    strip = side // 4
    picture = np.asarray(gallery.data)[strip : strip + side, :side]
    assert picture[side // 2, side // 2] > 0.9
    assert picture[0, 0] < 0.2
    assert gallery.translate[0] + strip * group.working_pixel_size_angstrom == pytest.approx(0)
    assert gallery.translate[1] >= 32 * 4
    assert all(OURS in layer.metadata for layer in layers)


def test_a_run_finished_before_shows_its_verdicts_from_its_files(particle_files, tmp_path: Path, quick_report) -> None:
    parameters = OutlierParameters(radius=particle_files.radius, method="reference")
    order = Order(particle_files.star, tmp_path / "out", parameters, "keep", 1, True)
    first = finish(outlier_steps(order))
    again = finish(outlier_steps(Order(order.source, order.out, parameters, "resume", 1, True)))
    assert first.result is not None
    assert again.result is None
    assert again.counts == first.counts
    assert sum(again.counts.values()) == 400
    assert (again.warnings, again.expected_fdr) == (first.warnings, first.expected_fdr)
    before, after = first.layers[0][1]["features"], again.layers[0][1]["features"]
    pd.testing.assert_frame_equal(before, after, rtol=1e-5)
    assert len(again.layers) == 2  # no averages: they are in the report
