"""Maps and micrographs as records."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from napari_pickbias.errors import InputError
from napari_pickbias.records.mrc import write_mrc
from napari_pickbias.records.volume import (
    Micrographs,
    Templates,
    micrographs_from_files,
    read_micrograph,
    read_volume,
)


def refusal(path, **options):
    with pytest.raises(InputError) as caught:
        read_volume(path, **options)
    return str(caught.value).removeprefix(f"{path}: ")


@pytest.mark.parametrize("axes", list(itertools.permutations((1, 2, 3))))
def test_axes_in_any_stored_order(tmp_path, pack_mrc, axes):
    z, y, x = np.meshgrid(np.arange(2), np.arange(3), np.arange(4), indexing="ij")
    truth = 100 * z + 10 * y + x
    along = {1: 2, 2: 1, 3: 0}  # x, y, z to the axis of the truth
    columns, rows, sections = axes
    stored = truth.transpose(along[sections], along[rows], along[columns])
    start = {1: 7, 2: 8, 3: 9}
    data = pack_mrc(
        stored, 1, axes=axes, cell=(8, 6, 4), samples=(4, 3, 2), start=tuple(start[a] for a in axes)
    )  # the cell is given along x, y, z; the start along columns, rows, sections
    (tmp_path / "a.map").write_bytes(data)
    volume = read_volume(tmp_path / "a.map")
    np.testing.assert_array_equal(volume.data, truth)
    assert volume.data.dtype == np.float32
    assert volume.data.flags.c_contiguous
    assert volume.voxel_size_angstrom == 2.0
    assert volume.origin_angstrom == (14.0, 16.0, 18.0)


def test_the_origin_of_the_header_comes_first(tmp_path, pack_mrc):
    (tmp_path / "a.map").write_bytes(
        pack_mrc(np.zeros((2, 2, 2)), 2, cell=(4, 4, 4), origin=(1, 2, 3), start=(9, 9, 9))
    )
    assert read_volume(tmp_path / "a.map").origin_angstrom == (1, 2, 3)


def test_the_voxel_size(tmp_path):
    path = write_mrc(tmp_path / "a.mrc", np.zeros((3, 3, 3)), None)
    assert refusal(path) == "its header holds no voxel size; give it in Å with --pixel-size"
    assert read_volume(path, 1.5).voxel_size_angstrom == 1.5


def test_voxels_that_are_no_cubes(tmp_path, pack_mrc):
    path = tmp_path / "a.map"
    path.write_bytes(pack_mrc(np.zeros((4, 4, 4)), 2, cell=(4, 8, 12)))
    assert refusal(path) == (
        "its voxels are 1 × 2 × 3 Å, not cubes; resample the map, or give the size with --pixel-size"
    )
    assert read_volume(path, 1.5).voxel_size_angstrom == 1.5
    path.write_bytes(pack_mrc(np.zeros((4, 4, 4)), 2, cell=(4, 4, 0)))
    assert read_volume(path).voxel_size_angstrom == 1.0


def test_what_is_no_map(tmp_path, pack_mrc):
    path = tmp_path / "a.mrc"
    path.write_bytes(pack_mrc(np.zeros((1, 4, 4)), 2))
    assert refusal(path) == "holds one image, not a map; give a three-dimensional map"
    path.write_bytes(pack_mrc(np.zeros((6, 4, 4)), 2, space_group=401, samples=(4, 4, 2)))
    assert refusal(path) == "holds 3 maps; save the one you mean in a file of its own"
    path.write_bytes(pack_mrc(np.zeros((6, 4, 4)), 2, space_group=0, samples=(4, 4, 1)))
    assert refusal(path) == "is 6 images of 4×4 float32, not a map; if it is a map all the same, name it .map"


def test_micrographs(tmp_path):
    paths = tuple(write_mrc(tmp_path / f"{i}.mrc", np.full((2, 3), i), size) for i, size in enumerate([1.5, 1.5, None]))
    micrographs = micrographs_from_files(paths[:2])
    assert len(micrographs) == 2
    assert micrographs.names == (str(paths[0]), str(paths[1]))
    np.testing.assert_array_equal(micrographs.pixel_size_angstrom, [1.5, 1.5])
    read = micrographs.read(1)
    np.testing.assert_array_equal(read, np.ones((2, 3)))
    assert read.dtype == np.float32
    assert read.flags.writeable
    with pytest.raises(InputError) as caught:
        micrographs_from_files(paths)
    assert str(caught.value) == f"{paths[2]}: its header holds no pixel size; give it in Å with --pixel-size"
    np.testing.assert_array_equal(micrographs_from_files(paths, 2).pixel_size_angstrom, [2, 2, 2])
    assert Micrographs(paths, np.ones(3), names=("a", "b", "c")).names == ("a", "b", "c")


def test_a_movie_is_no_micrograph(tmp_path):
    path = write_mrc(tmp_path / "movie.mrcs", np.zeros((5, 2, 3)), 1.0, stack=True)
    with pytest.raises(InputError) as caught:
        read_micrograph(path)
    assert str(caught.value) == f"{path}: holds 5 images, not one micrograph; align and average the movie first"


def test_templates_know_their_number():
    assert len(Templates(np.zeros((4, 2, 2), np.float32), 1.0)) == 4
