"""Every MRC file of the test data opens as expected, or is refused for the reason it should be."""

from __future__ import annotations

import hashlib

import mrcfile
import numpy as np
import pytest

from napari_pickbias.errors import InputError
from napari_pickbias.records.images import StackImages
from napari_pickbias.records.mrc import open_data, read_header
from napari_pickbias.records.volume import read_volume

N = None
NOT_SET = ("negative pixel size in the header, taken as not set",)
LONGER = ("the file is 18 000 bytes longer than its header says",)
DAMAGED = ("no MAP id in the header", "machine stamp zero; byte order told by the sizes")
RELION5 = "particles/betagal_10204/"
K = "betagal_10204/Extract/job009/Movies/20170629_000"

# file: kind, shape, type, voxel size (x, y, z), notes
OPENS = {
    "mrc/EMD-3197.map": ("volume", (20, 20, 20), "<f4", (11.4, 11.4, 11.4), ()),
    "mrc/EMD-3197.map.bz2": ("volume", (20, 20, 20), "<f4", (11.4, 11.4, 11.4), ()),
    "mrc/emd_3197.map.gz": ("volume", (20, 20, 20), "<f4", (11.4, 11.4, 11.4), ()),
    "mrc/cryocat__tilt_stack_as_volume.mrc": ("volume", (4, 240, 232), "<f4", (N, N, N), ()),
    "mrc/fei1_extended_header_crop256.mrc": ("image", (256, 256), "<u2", (0.8537755, 0.8537755, N), ()),
    "mrc/het__volume_stack_ispg401.mrc": ("volume stack", (1, 16, 16, 16), "<f4", (N, N, N), ()),
    "mrc/maptools__file_mode0_anisotropic.mrc": ("volume", (10, 20, 30), "i1", (0.3333333, 1, 3), LONGER),
    "mrc/pytme__2d_as_volume.mrc": ("image", (52, 40), "<f4", (1, 1, 1), ()),
    "mrc/rsciio__20241021_00405_movie.mrc": ("volume", (32, 4, 8), "<u2", (N, N, N), NOT_SET),
    "mrc/sfftk__tiny1_mode0.map": ("volume", (3, 3, 3), "i1", (1, 1, 1), ()),
    "maps/betagal_ngl_crop64.mrc": ("volume", (64, 64, 64), "<f4", (3.54, 3.54, 3.54), ()),
    "maps/emd_1024.map": ("volume", (50, 50, 50), "<f4", (3.8, 3.8, 3.8), ()),
    "maps/emd_1066.map": ("volume", (64, 64, 64), "<f4", (8.66, 8.66, 8.66), ()),
    "maps/emd_1148.map.gz": ("volume", (64, 64, 64), "<f4", (4.1, 4.1, 4.1), ()),
    "maps/emd_1832.map.gz": ("volume", (64, 64, 64), "<f4", (5.7, 5.7, 5.7), ()),
    "maps/emd_2479.map": ("volume", (80, 80, 80), ">f4", (4.36, 4.36, 4.36), ()),
    "maps/emd_3400_86.mrc.gz": ("volume", (84, 68, 90), "<f4", (2.866667, 2.866667, 2.866667), ()),
    "maps/emd_5295.map": ("volume", (60, 60, 60), "<f4", (4.26, 4.26, 4.26), ()),
    f"particles/{K}21_frameImage.mrcs": ("stack", (242, 64, 64), "<f2", (3.54, 3.54, 1), ()),
    f"particles/{K}22_frameImage.mrcs": ("stack", (228, 64, 64), "<f2", (3.54, 3.54, 1), ()),
    f"particles/{K}23_frameImage.mrcs": ("stack", (229, 64, 64), "<f2", (3.54, 3.54, 1), ()),
    f"{RELION5}Class2D/job010/run_it025_classes.mrcs": ("stack", (50, 64, 64), "<f4", (3.54, 3.54, 1), ()),
    "particles/relion31_5/relion31.mrcs": ("stack", (5, 256, 256), "<f4", (1, 1, 1), DAMAGED),
    "particles/relion_projections/relion_proj_batch.mrcs": ("stack", (24, 64, 64), "<f4", (3.54, 3.54, N), ()),
}
REFUSED = {
    "mrc/pytom__header_only.mrc": (
        "header promises a map of 32×32×32 float32 (131 072 bytes) but the file has no data after its header; "
        "copy it again"
    ),
    "mrc/sfftk__corrupt_header.map": (
        "header promises a map of 71×401×301 float32 (34 279 084 bytes) but the file has only 84 bytes of data; "
        "copy it again"
    ),
}
NO_MAP = {
    "mrc/cryocat__tilt_stack_as_volume.mrc": "its header holds no voxel size; give it in Å with --pixel-size",
    "mrc/fei1_extended_header_crop256.mrc": "holds one image, not a map; give a three-dimensional map",
    "mrc/het__volume_stack_ispg401.mrc": "its header holds no voxel size; give it in Å with --pixel-size",
    "mrc/maptools__file_mode0_anisotropic.mrc": (
        "its voxels are 0.3333 × 1 × 3 Å, not cubes; resample the map, or give the size with --pixel-size"
    ),
    "mrc/pytme__2d_as_volume.mrc": "holds one image, not a map; give a three-dimensional map",
    "mrc/rsciio__20241021_00405_movie.mrc": "its header holds no voxel size; give it in Å with --pixel-size",
}


def test_no_file_is_left_out(data_dir):
    there = {
        str(p.relative_to(data_dir))
        for folder in ("mrc", "maps", "particles")
        for p in (data_dir / folder).rglob("*")
        if {".mrc", ".mrcs", ".map"} & set(p.suffixes)
    }
    assert there == OPENS.keys() | REFUSED.keys()


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # mrcfile says what it puts up with
@pytest.mark.parametrize("name", OPENS)
def test_opens(data_dir, name):
    kind, shape, dtype, voxel, notes = OPENS[name]
    header, pixels = read_header(data_dir / name), open_data(data_dir / name)
    assert (header.kind, pixels.shape, header.notes) == (kind, shape, notes)
    assert header.voxel_size_angstrom == voxel
    assert pixels.dtype == np.dtype(dtype)
    with mrcfile.open(data_dir / name, permissive=True) as theirs:
        np.testing.assert_array_equal(pixels, np.asarray(theirs.data).reshape(shape))


@pytest.mark.parametrize("name", REFUSED)
def test_refused(data_dir, name):
    with pytest.raises(InputError) as caught:
        open_data(data_dir / name)
    assert str(caught.value) == f"{data_dir / name}: {REFUSED[name]}"


@pytest.mark.parametrize("name", [n for n in OPENS if n.startswith(("mrc/", "maps/"))])
def test_as_a_map(data_dir, name):
    path = data_dir / name
    if name in NO_MAP:
        with pytest.raises(InputError) as caught:
            read_volume(path)
        assert str(caught.value) == f"{path}: {NO_MAP[name]}"
        return
    volume = read_volume(path)
    assert volume.data.shape == OPENS[name][1]
    assert volume.voxel_size_angstrom == OPENS[name][3][0]


def test_origins_of_maps(data_dir):
    assert read_volume(data_dir / "maps/emd_2479.map").origin_angstrom == pytest.approx((-174.4,) * 3)
    assert read_volume(data_dir / "maps/emd_3400_86.mrc.gz").origin_angstrom == pytest.approx((76.953, 70.3, 33.746))
    assert read_volume(data_dir / "mrc/EMD-3197.map").origin_angstrom == pytest.approx((-22.8, 0, 0))


def test_every_micrograph_opens(data_dir):
    paths = sorted((data_dir / "micrographs").rglob("*.mrc"))
    assert len(paths) > 20
    for path in paths:
        assert read_header(path).kind == "image", path
        assert open_data(path).ndim == 2, path


def test_float16_particles_through_lazy_images(data_dir):
    paths = sorted((data_dir / "particles/betagal_10204/Extract/job009/Movies").glob("*.mrcs"))
    every = np.concatenate([np.asarray(open_data(p), np.float32) for p in paths])
    assert hashlib.sha256(every.tobytes()).hexdigest() == (
        "51f673cbab38c9809fe1070f14e769c3238b2e073033adac2426401a696034dd"
    )
    counts = [242, 228, 229]
    images = StackImages(paths, np.repeat([0, 1, 2], counts), np.concatenate([np.arange(n) for n in counts]))
    rows = np.random.default_rng(0).permutation(699)
    np.testing.assert_array_equal(images.read(rows), every[rows])
    assert np.isfinite(images.read(rows).std())
