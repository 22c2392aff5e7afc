"""The reader without Qt: lazy stacks with the right scale, and hands off other people's files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Layer

from napari_pickbias.errors import InputError
from napari_pickbias.gui import reader, samples
from napari_pickbias.gui.particle_stack import ParticleStack
from napari_pickbias.gui.reader import contrast_limits, get_particle_reader, particle_layers
from napari_pickbias.records import MemoryImages, open_particles
from napari_pickbias.runs import simulate as simulate_runs

NOT_PARTICLES = {
    "autopick.star": "data_\n\nloop_\n_rlnCoordinateX #1\n_rlnCoordinateY #2\n1 2\n",
    "micrographs.star": "data_micrographs\n\nloop_\n_rlnMicrographName #1\nmic.mrc\n",
    "model.star": "data_model_classes\n\nloop_\n_rlnReferenceImage #1\n000001@run_classes.mrcs\n",
    "talks_of_it.star": "data_\n\nloop_\n_rlnComment #1\n'see _rlnImageName'\n",
    "similar.star": "data_\n\nloop_\n_rlnImageNameOriginal #1\n000001@a.mrcs\n",
    "subtomograms.star": "data_\n\nloop_\n_rlnImageName #1\n_rlnCoordinateZ #2\na.mrc 3\n",
    "tilts.star": "data_particles\n\nloop_\n_rlnTomoName #1\n_rlnImageName #2\nTS_01 a.mrcs\n",
    "empty.star": "",
    "no_stack.mrcs": "this is no MRC file",
    "not_numpy.cs": "this is no array",
}


class CountingImages(MemoryImages):
    """Counts the images that are read."""

    def __init__(self, array: np.ndarray) -> None:
        super().__init__(array)
        self.read_rows: list[int] = []

    def read(self, rows: np.ndarray) -> np.ndarray:
        self.read_rows += list(rows)
        return super().read(rows)


@pytest.fixture
def array(rng: np.random.Generator) -> np.ndarray:
    return rng.normal(size=(9, 6, 6)).astype(np.float32)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(3)


KEYS = [
    2,
    -1,
    np.int64(4),
    slice(2, 5),
    slice(None, None, 3),
    slice(5, 5),
    np.array([4, 1]),
    Ellipsis,
    (),
    (3, slice(1, 4), slice(None)),
    (slice(None), 2, slice(1, None, 2)),
    (slice(1, 3), slice(None), 0),
    (1, 2, 3),
    (Ellipsis, 2),
    (0, Ellipsis),
    (1, Ellipsis, slice(2)),
]


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_a_particle_stack_slices_as_numpy_does(array: np.ndarray, key: object) -> None:
    rows = np.array([8, 0, 3, 4, 2, 7])
    stack = ParticleStack(MemoryImages(array), rows, 6)
    expected = array[rows][key]
    found = stack[key]
    assert np.shape(found) == np.shape(expected)
    np.testing.assert_array_equal(found, expected)


def test_a_particle_stack_describes_itself_as_an_array_does(array: np.ndarray) -> None:
    stack = ParticleStack(MemoryImages(array), np.arange(5), 6)
    assert (stack.shape, stack.ndim, stack.size, len(stack), stack.dtype) == ((5, 6, 6), 3, 180, 5, np.float32)
    np.testing.assert_array_equal(np.asarray(stack), array[:5])
    assert np.asarray(stack, np.float64).dtype == np.float64
    with pytest.raises(IndexError):
        stack[None]
    with pytest.raises(IndexError):
        stack[5]


def test_the_3d_view_of_a_big_stack_is_refused_in_one_line() -> None:
    stack = ParticleStack(MemoryImages(np.zeros((1, 4, 4))), np.zeros(2**20, np.int64), 400)
    with pytest.raises(InputError, match=r"^3-D view: needs the whole stack \(625 GB\) in memory; go back to the 2-D"):
        stack[:, :, :]


def test_showing_a_stack_reads_the_shown_image_only(array: np.ndarray) -> None:
    images = CountingImages(array)
    layer = Layer.create(ParticleStack(images, np.arange(9), 6), {"contrast_limits": (0, 1)}, "image")
    viewer = ViewerModel()
    viewer.layers.append(layer)
    viewer.dims.set_point(0, 7)
    assert len(images.read_rows) <= 6, images.read_rows
    assert images.read_rows[-1] == 7
    np.testing.assert_array_equal(layer._slice.image.raw, array[7])


def test_contrast_limits_come_from_a_sample_of_the_stack() -> None:
    images = np.random.default_rng(0).normal(5, 2, (1000, 8, 8)).astype(np.float32)
    images[0, 0, 0] = 1e6
    images[3] = np.nan
    counting = CountingImages(images)
    low, high = contrast_limits(ParticleStack(counting, np.arange(1000), 8))
    # 0.5 and 99.5 % of this normal distribution are -0.15 and 10.15; the sample holds 4096 values.
    assert low == pytest.approx(-0.15, abs=0.6)
    assert high == pytest.approx(10.15, abs=0.6)
    assert len(counting.read_rows) == 64


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_contrast_limits_of_a_constant_stack_are_a_range(value: float) -> None:
    low, high = contrast_limits(ParticleStack(MemoryImages(np.full((3, 4, 4), value)), np.arange(3), 4))
    assert high > low


def test_a_star_file_opens_as_a_stack_in_angstrom(particle_files) -> None:
    read = get_particle_reader(str(particle_files.star))
    assert read is not None
    ((stack, options, kind),) = read(str(particle_files.star))
    assert kind == "image"
    assert stack.shape == (400, 32, 32)
    np.testing.assert_array_equal(stack[17], particle_files.images[17])
    metadata = options["metadata"]
    assert metadata["source"] == str(particle_files.star)
    assert metadata["pixel_size"] == 4.0
    table = metadata["features"]
    assert list(table.columns)[:5] == ["row", "optics_group", "micrograph", "x_px", "y_px"]
    assert table.loc[5].tolist()[:5] == [5, "group1", "mic2.mrc", 50, 100]

    viewer = ViewerModel()
    viewer.layers.append(Layer.create(stack, options, kind))
    layer = viewer.layers["particles"]
    assert layer.scale.tolist() == [1, 4, 4]
    assert [str(u) for u in layer.units] == ["pixel", "angstrom", "angstrom"]
    assert not layer.rgb
    assert not layer.multiscale


def test_every_column_of_the_file_is_a_feature(particle_files) -> None:
    star = particle_files.star
    star.write_text(
        star.read_text().replace("_rlnOpticsGroup #5", "_rlnOpticsGroup #5\n_hisOwn #6").replace(" 1\n", " 1 abc\n")
    )
    (layer,) = particle_layers(star)
    features = layer[1]["metadata"]["features"]
    assert {"rlnImageName", "rlnCoordinateX", "hisOwn"} <= set(features)
    assert set(features["hisOwn"].astype(str)) == {"abc"}
    assert features["rlnCoordinateX"].tolist() == [10 * k for k in range(400)]


def test_a_cs_file_opens_as_a_stack_in_angstrom(particle_files, tmp_path: Path) -> None:
    count = len(particle_files.images)
    fields = [("uid", "<u8"), ("blob/path", "S40"), ("blob/idx", "<u4"), ("blob/shape", "<u4", 2)]
    rows = np.zeros(count, [*fields, ("blob/psize_A", "<f4"), ("blob/sign", "<f4"), ("mine/own", "<f4")])
    rows["uid"] = np.arange(1, count + 1)
    rows["blob/path"], rows["blob/shape"] = b"particles.mrcs", 32
    rows["blob/idx"], rows["blob/psize_A"], rows["blob/sign"] = np.arange(count), 4.0, 1
    rows["mine/own"] = np.arange(count)
    with (tmp_path / "p.cs").open("wb") as stream:
        np.save(stream, rows)
    stack, options, _ = particle_layers(tmp_path / "p.cs")[0]
    assert isinstance(stack, ParticleStack)
    assert options["scale"] == (1.0, 4.0, 4.0)
    assert options["units"] == ("pixel", "angstrom", "angstrom")
    assert options["metadata"]["features"]["mine/own"].tolist() == list(range(count))
    assert np.array_equal(stack[7], particle_files.images[7])


def test_a_bare_stack_opens_with_the_pixel_size_of_its_header(particle_files) -> None:
    ((stack, options, _),) = get_particle_reader(str(particle_files.stack))(str(particle_files.stack))
    np.testing.assert_array_equal(stack[399], particle_files.images[399])
    assert options["scale"] == (1, 4, 4)


def test_a_stack_without_pixel_size_opens_in_pixels(tmp_path: Path, array: np.ndarray, write_stack) -> None:
    ((stack, options, _),) = particle_layers(write_stack(tmp_path / "bare.mrcs", array, None))
    assert stack.shape == (9, 6, 6)
    assert options["scale"] == (1, 1, 1)
    assert options["units"] == ("pixel", "pixel", "pixel")
    assert options["metadata"]["pixel_size"] is None


def test_mixed_boxes_open_as_one_layer_each(tmp_path: Path, rng, write_stack, write_star) -> None:
    small, large = (rng.normal(size=(n, box, box)).astype(np.float32) for n, box in ((5, 8), (3, 12)))
    write_stack(tmp_path / "a.mrcs", small, 2.0)
    write_stack(tmp_path / "b.mrcs", large, 1.5)
    star = write_star(
        tmp_path / "mixed.star",
        [(str(tmp_path / "a.mrcs"), 5, 8, 2.0), (str(tmp_path / "b.mrcs"), 3, 12, 1.5)],
    )
    (first, second) = particle_layers(star)
    assert [first[1]["name"], second[1]["name"]] == ["mixed (8 px, 2 Å/px)", "mixed (12 px, 1.5 Å/px)"]
    np.testing.assert_array_equal(first[0][:], small)
    np.testing.assert_array_equal(second[0][:], large)
    assert second[1]["metadata"]["rows"].tolist() == [5, 6, 7]
    assert second[1]["metadata"]["features"]["optics_group"].unique().tolist() == ["group2"]


def test_the_lazy_preference_unticked_loads_the_stack(tmp_path: Path, array, write_stack, monkeypatch) -> None:
    path = write_stack(tmp_path / "s.mrcs", array, 2.0)
    monkeypatch.setattr(reader, "preference", lambda section, name: {("particles", "lazy"): False}[section, name])
    ((stack, _, _),) = reader.read_particles(str(path))
    path.unlink()
    np.testing.assert_array_equal(stack[4], array[4])


def test_several_files_open_together(tmp_path: Path, array: np.ndarray, write_stack) -> None:
    paths = [str(write_stack(tmp_path / name, array, 2.0)) for name in ("a.mrcs", "b.mrcs")]
    read = get_particle_reader(paths)
    assert [options["name"] for _, options, _ in read(paths)] == ["a", "b"]


@pytest.mark.parametrize("name", NOT_PARTICLES)
def test_files_without_particle_images_are_left_to_other_readers(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text(NOT_PARTICLES[name])
    assert get_particle_reader(str(path)) is None


def test_a_cs_file_without_images_is_left_to_other_readers(tmp_path: Path) -> None:
    picks = np.zeros(3, [("uid", "<u8"), ("location/micrograph_path", "S20")])
    with (tmp_path / "picks.cs").open("wb") as stream:
        np.save(stream, picks)
    assert get_particle_reader(str(tmp_path / "picks.cs")) is None
    assert get_particle_reader(str(tmp_path / "absent.star")) is None
    assert get_particle_reader([]) is None


def test_a_missing_stack_is_told_in_one_line(tmp_path: Path, write_star) -> None:
    star = write_star(tmp_path / "lost.star", [(str(tmp_path / "lost.mrcs"), 4, 8, 2.0)])
    read = get_particle_reader(str(star))
    with pytest.raises(InputError, match=r"lost\.mrcs") as fault:
        read(str(star))
    assert "\n" not in str(fault.value)


def test_real_relion_files_open(data_dir: Path) -> None:
    path = data_dir / "particles" / "relion_projections" / "relion_proj_batch.star"
    layers = get_particle_reader(str(path))(str(path))
    assert layers[0][0].shape[0] == len(layers[0][1]["metadata"]["features"])
    assert np.isfinite(layers[0][0][0]).all()


def test_the_sample_is_a_file_that_jobs_can_run_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "COUNT", 40)
    monkeypatch.setattr(samples.tempfile, "mkdtemp", lambda prefix: str(tmp_path))
    monkeypatch.setattr(simulate_runs, "write_simulation_report", lambda *args: {})
    samples._simulated_file.cache_clear()
    viewer = ViewerModel()
    viewer.open_sample("napari-pickbias", "particles")
    samples._simulated_file.cache_clear()
    layer = viewer.layers["particles"]
    assert layer.data.shape == (40, 64, 64)
    assert layer.scale.tolist() == [1, 4, 4]
    source = Path(layer.metadata["source"])
    assert source.is_relative_to(tmp_path)
    assert len(open_particles(source).read()) == 40
    assert layer.metadata["features"]["defocus_angstrom"].between(10_000, 25_000).all()


def test_no_real_file_crashes_the_reader(data_dir: Path) -> None:
    """Files of many programs: opened, refused in one line (most of their stacks are elsewhere), or left to others."""
    files = [*(data_dir / "star").rglob("*.star"), *(data_dir / "cryosparc").rglob("*.cs")]
    taken = [(path, read) for path in sorted(files) if (read := get_particle_reader(str(path))) is not None]
    refused = {}
    for path, read in taken:
        try:
            read(str(path))
        except InputError as fault:
            refused[path.name] = str(fault)
    assert len(taken) > len(refused) > 5
    assert [name for name, line in refused.items() if "\n" in line or "tomogra" in line] == []


def test_the_reader_needs_no_qt() -> None:
    code = (
        "import sys\n"
        "import napari_pickbias.gui.reader, napari_pickbias.gui.messages, napari_pickbias.gui.launch\n"
        "print(sorted({'qtpy', 'PyQt6', 'PySide6', 'napari.qt', 'napari._qt'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout.strip()) == (0, "[]"), run.stderr
