"""The reader that napari asks, in napari's model of a viewer: picks, micrographs, maps. No Qt."""

from __future__ import annotations

from pathlib import Path

import mrcfile
import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image, Layer, Points

from napari_pickbias.errors import InputError
from napari_pickbias.gui.curation import Curation
from napari_pickbias.gui.curation_layers import CurationLayers
from napari_pickbias.gui.map_layers import limits, map_layers
from napari_pickbias.gui.particle_stack import ParticleStack
from napari_pickbias.gui.pick_layers import pick_layers
from napari_pickbias.gui.reader import read_particles
from napari_pickbias.gui.readers import get_reader, read_maps, read_picks
from napari_pickbias.gui.writers import write_picks as write_layer
from napari_pickbias.records import write_mrc
from napari_pickbias.records.pick_tables import open_picks
from pickbias_relion.coordinates import Picks, write_coordinate_list, write_picks


def layers_of(path: Path) -> list[Layer]:
    reader = get_reader(str(path))
    assert reader is not None
    viewer = ViewerModel()
    made = [Layer.create(*data) for data in reader(str(path))]
    for layer in made:
        viewer.add_layer(layer)
    return made


def test_picks_open_over_their_micrographs(pick_files) -> None:
    micrographs, points = layers_of(pick_files.star)
    assert isinstance(micrographs, Image)
    assert isinstance(points, Points)
    assert np.allclose(points.data[:, 1:], pick_files.xy[:, ::-1])
    assert points.features.columns.tolist()[:2] == ["row", "rlnMicrographName"]
    assert {"rlnAutopickFigureOfMerit", "hisNote"} <= set(points.features.columns)
    assert points.features["rlnAutopickFigureOfMerit"].tolist() == pick_files.score.tolist()
    assert np.allclose(micrographs.scale, points.scale)


def test_picks_of_one_micrograph_open_over_the_one_of_that_name(tmp_path: Path) -> None:
    write_mrc(tmp_path / "a_b.mrc", np.zeros((20, 30)), 1.5)
    write_picks(tmp_path / "a_b_autopick.star", Picks(np.array([[3.0, 4.0], [20.0, 10.0]]), np.array([1.0, 2.0])))
    micrograph, points = layers_of(tmp_path / "a_b_autopick.star")
    assert micrograph.data.shape == (1, 20, 30)
    assert points.data.tolist() == [[0, 4, 3], [0, 10, 20]]
    assert points.scale.tolist() == [1, 1.5, 1.5]


def test_a_list_of_pick_files_opens_as_one_layer(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, count in (("a", 3), ("b", 0), ("c", 2)):
        write_picks(tmp_path / f"{name}_p.star", Picks(np.arange(2.0 * count).reshape(count, 2)))
    write_coordinate_list("autopick.star", {f"{name}.mrc": f"{name}_p.star" for name in "abc"})
    (points,) = layers_of(tmp_path / "autopick.star")
    assert points.data[:, 0].tolist() == [0, 0, 0, 2, 2]
    assert [str(u) for u in points.units] == ["pixel"] * 3  # nobody knows the pixel size


def test_a_list_of_micrographs_opens_as_a_lazy_stack(pick_files) -> None:
    star = pick_files.star.with_name("micrographs.star")
    lines = ["data_", "", "loop_", "_rlnMicrographName #1", "_rlnCtfImage #2"]
    star.write_text("\n".join([*lines, *(f"mics/m{i}.mrc x.mrc" for i in range(4))]) + "\n")
    (stack,) = layers_of(star)
    assert stack.data.shape == (4, 160, 160)
    assert stack.scale.tolist() == [1, 2, 2]


def test_a_list_of_absent_micrographs_says_what_mends_it(tmp_path: Path) -> None:
    star = tmp_path / "micrographs.star"
    star.write_text("data_\n\nloop_\n_rlnMicrographName #1\nnowhere.mrc\n")
    with pytest.raises(InputError, match="has no picks, and its micrographs are not there; open it within its project"):
        pick_layers(star)


def test_particle_images_are_read_as_particles(particle_files) -> None:
    assert get_reader(str(particle_files.star)) is read_particles
    assert get_reader([str(particle_files.star), str(particle_files.stack)]) is read_particles


def test_a_map_opens_at_its_place_in_angstrom(tmp_path: Path, rng) -> None:
    data = rng.normal(size=(6, 8, 10)).astype(np.float32)
    path = write_mrc(tmp_path / "map.mrc", data, 3.0, origin_angstrom=(1.0, 2.0, 5.0))
    (layer,) = layers_of(path)
    assert get_reader(str(path)) is read_maps
    assert isinstance(layer.data, np.memmap)
    assert np.array_equal(layer.data, data)
    assert layer.scale.tolist() == [3, 3, 3]
    assert layer.translate.tolist() == [5, 2, 1]
    assert [str(u) for u in layer.units] == ["angstrom"] * 3


def test_a_map_stored_along_other_axes_is_turned(tmp_path: Path, rng) -> None:
    data = rng.normal(size=(6, 8, 10)).astype(np.float32)
    path = write_mrc(tmp_path / "map.map", data, 2.0)
    raw = bytearray(path.read_bytes())
    raw[64:76] = np.array([3, 1, 2], "<i4").tobytes()  # columns run along z, rows along x, sections along y
    path.write_bytes(raw)
    (layer,) = layers_of(path)
    assert np.array_equal(np.asarray(layer.data), data.transpose(2, 0, 1))


def test_a_micrograph_alone_is_flat_and_a_header_without_size_means_pixels(tmp_path: Path) -> None:
    (layer,) = layers_of(write_mrc(tmp_path / "m.mrc", np.arange(12.0).reshape(3, 4), None))
    assert layer.data.shape == (3, 4)
    assert [str(u) for u in layer.units] == ["pixel", "pixel"]


@pytest.mark.parametrize("kind", [">f4", "<f2", ">i2", "i1", "<u2"])
@pytest.mark.parametrize("suffix", [".mrc", ".mrcs", ".rec", ".map"])
def test_every_number_format_opens_lazily_with_its_scale(tmp_path: Path, kind: str, suffix: str, rng) -> None:
    data = rng.integers(0, 100, (4, 6, 6)).astype(kind)
    path = tmp_path / f"x{suffix}"
    with mrcfile.new(path) as file:
        file.set_data(data)
        file.voxel_size = 2.5
        (file.set_image_stack if suffix == ".mrcs" else file.set_volume)()
    (layer,) = layers_of(path)
    assert np.array_equal(np.asarray(layer.data), data.astype(np.float32))
    assert isinstance(layer.data, np.memmap | ParticleStack)
    assert layer.scale.tolist() == [1.0 if suffix == ".mrcs" else 2.5, 2.5, 2.5]
    assert [str(u) for u in layer.units] == ["pixel" if suffix == ".mrcs" else "angstrom", "angstrom", "angstrom"]


@pytest.mark.parametrize("suffix", [".mrc", ".mrcs", ".rec"])
def test_a_voxel_size_of_zero_opens_in_pixels(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x{suffix}"
    with mrcfile.new(path) as file:
        file.set_data(np.zeros((4, 6, 6), np.float32))
    (layer,) = layers_of(path)
    assert layer.scale.tolist() == [1.0] * 3
    assert {str(u) for u in layer.units} == {"pixel"}


def test_a_micrograph_without_voxel_size_takes_that_of_the_list(pick_files) -> None:
    for path in pick_files.micrographs:
        with mrcfile.open(path, "r+") as file:
            file.voxel_size = 0
    micrographs, points = layers_of(pick_files.star)
    assert micrographs.scale.tolist() == points.scale.tolist() == [1, 2, 2]
    assert {str(u) for u in micrographs.units[1:]} == {"angstrom"}


def test_a_damaged_map_says_so_and_a_foreign_archive_is_left_alone(tmp_path: Path) -> None:
    bad = tmp_path / "bad.mrc"
    bad.write_bytes(b"x" * 3000)
    reader = get_reader(str(bad))
    assert reader is read_maps
    with pytest.raises(InputError, match=r"bad.mrc"):
        reader(str(bad))
    (tmp_path / "paper.gz").write_bytes(b"x" * 3000)
    assert get_reader(str(tmp_path / "paper.gz")) is None


OTHERS = {
    "model.star": "data_model_classes\n\nloop_\n_rlnReferenceImage #1\n000001@run_classes.mrcs\n",
    "job.star": "data_job\n\n_rlnJobTypeLabel relion.external\n",
    "tomograms.star": "data_global\n\nloop_\n_rlnTomoName #1\n_rlnTomoTiltSeriesStarFile #2\nTS_1 TS_1.star\n",
    "empty.star": "",
    "notes.txt": "rlnCoordinateX",
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_none_of_ours_is_left_to_others(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text(OTHERS[name])
    assert get_reader(str(path)) is None
    assert get_reader([]) is None


def test_limits_leave_hot_pixels_out(rng) -> None:
    data = rng.normal(size=(40, 40, 40)).astype(np.float32)
    data[1, 2, 3] = 1e6
    low, high = limits(data)
    assert -3.5 < low < -2 < 2 < high < 3.5
    assert limits(np.zeros((4, 4))) == (0.0, 1.0)
    assert limits(np.full((4, 4), np.nan)) == (0.0, 1.0)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(4)


def tomogram_star(path: Path, rows: list[str]) -> Path:
    labels = ["rlnTomoName", "rlnCoordinateX", "rlnCoordinateY", "rlnCoordinateZ", "rlnAutopickFigureOfMerit", "mine"]
    body = [*(f"_{label} #{k}" for k, label in enumerate(labels, 1)), *rows]
    optics = "data_optics\n\nloop_\n_rlnOpticsGroup\n_rlnTomoTiltSeriesPixelSize\n1 2.5\n\n"
    path.write_text(optics + "\n".join(["data_particles", "", "loop_", *body]) + "\n")
    return path


def test_picks_of_one_tomogram_open_in_space_over_it(tmp_path: Path) -> None:
    write_mrc(tmp_path / "TS_1.mrc", np.zeros((12, 20, 30), np.float32), 2.5)
    star = tomogram_star(tmp_path / "p.star", ["TS_1.mrc 3 4 5 0.5 x", "TS_1.mrc 25 10 8 0.6 y"])
    tomogram, points = layers_of(star)
    assert tomogram.data.shape == (12, 20, 30)
    assert isinstance(tomogram.data, np.memmap)
    assert points.data.tolist() == [[5, 4, 3], [8, 10, 25]]
    assert points.scale.tolist() == [2.5] * 3
    assert [str(u) for u in points.units] == ["angstrom"] * 3
    assert points.axis_labels == ("z", "y", "x")
    assert points.features["mine"].astype(str).tolist() == ["x", "y"]
    assert points.projection_mode == "rescale_spherical"


def test_picks_of_many_tomograms_stay_each_in_its_own(tmp_path: Path) -> None:
    star = tomogram_star(tmp_path / "p.star", [f"TS_{k % 3} {k} 4 {2 * k} 0.{k} x" for k in range(6)])
    viewer = ViewerModel()
    (points,) = (viewer.add_layer(Layer.create(*data)) for data in get_reader(str(star))(str(star)))
    viewer.dims.set_current_step(0, 1)
    viewer.dims.set_point(1, 2.5 * 8)
    assert points._view_indices.tolist() == [4]
    kept = tmp_path / "kept.star"
    points.selected_data = {1, 2}
    points.remove_selected()
    write_layer(str(kept), *points.as_layer_data_tuple()[:2])
    lines = star.read_text().splitlines()
    assert kept.read_text().splitlines() == [*lines[:-6], lines[-6], *lines[-3:]]
    points.data = points.data + 1
    with pytest.raises(InputError, match="picks in tomograms: points were moved or added"):
        write_layer(str(kept), *points.as_layer_data_tuple()[:2])


def test_picks_in_tomograms_are_curated_by_their_scores(tmp_path: Path) -> None:
    star = tomogram_star(tmp_path / "p.star", [f"TS_{k % 3} {k} 4 {2 * k} 0.{k} x" for k in range(6)])
    source = open_picks(star)
    curation, viewer = Curation(source.read()), ViewerModel()
    layers = CurationLayers(viewer, curation, str(star), 20.0)
    assert layers.points.data.shape == (6, 4)
    assert set(layers.points.size) == {8.0}
    curation.set_range("rlnAutopickFigureOfMerit", (0.25, 9))
    layers.refresh()
    assert layers.points.features["keep"].tolist() == [False] * 3 + [True] * 3
    layers.go_to(5)
    assert viewer.dims.current_step[0] == 2
    assert viewer.dims.point[1] == pytest.approx(25)
    assert layers.points._view_indices.tolist() == [5]
    viewer.dims.set_point(1, 17.5)  # spheres of 10 Å radius, at 10 and 25 Å
    assert layers.points._view_indices.tolist() == [2, 5]
    layers.points.add([0, 1, 2, 3])
    assert len(layers.points.data) == 6
    assert curation.fixed == "picks in tomograms stay where they are"


def test_real_picks_in_tomograms_open(data_dir: Path) -> None:
    for name in ("tomo5/cylindra__run_it025_data.star", "tomo3/subtomo2Chimera__run_data_empiar10064.star"):
        (points,) = layers_of(data_dir / "star" / name)
        assert isinstance(points, Points)
        assert points.ndim in (3, 4)


def test_real_files_open(data_dir: Path) -> None:
    found = {
        "particles/betagal_10204/AutoPick/job008/autopick.star": (699, 3),
        "micrographs/contaminated/Ucsf_stack_1142_DW_autopick.star": (1, 927, 959),
        "star/cbox/napari-boxmanager__TcdA1-0018_frames_sum.cbox": (120, 3),
        "maps/emd_2479.map": (80, 80, 80),
        "mrc/het__volume_stack_ispg401.mrc": (1, 16, 16, 16),
    }
    for name, shape in found.items():
        assert layers_of(data_dir / name)[0].data.shape == shape, name


def test_one_axis_of_a_map_may_be_asked_for(tmp_path: Path) -> None:
    (data,) = map_layers(write_mrc(tmp_path / "map.mrc", np.ones((4, 4, 4)), 2.0))
    assert data[1]["axis_labels"] == ("z", "y", "x")
    assert read_picks([]) == []
