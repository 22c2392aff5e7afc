"""Pixels read and files written."""

from __future__ import annotations

import bz2
import gzip
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from warnings import catch_warnings, filterwarnings, simplefilter

import mrcfile
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_pickbias.errors import InputError
from napari_pickbias.records.mrc import StackWriter, open_data, read_header, write_mrc

TYPES = ["i1", "u1", "<i2", ">i2", "<u2", ">u2", "<f2", ">f2", "<f4", ">f4"]


@contextmanager
def warnings_of_the_file() -> Iterator[None]:
    """Make an error of what mrcfile finds odd in a file; of what NumPy 2.5 says to mrcfile itself, nothing."""
    with catch_warnings():
        simplefilter("error")
        filterwarnings("ignore", "Setting the dtype", DeprecationWarning)
        yield


def values(dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    """Numbers that use the type's whole range of signs."""
    rng = np.random.default_rng(3)
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return rng.normal(0, 50, shape).astype(kind)
    info = np.iinfo(kind)
    return rng.integers(info.min, info.max, shape, kind.newbyteorder("="), endpoint=True).astype(kind)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(("mode", "code"), [(0, "i1"), (1, "i2"), (2, "f4"), (6, "u2"), (12, "f2")])
@pytest.mark.parametrize("pack", [None, gzip.compress, bz2.compress])
def test_pixels_of_every_mode(tmp_path, pack_mrc, mode, code, order, pack):
    pixels = values(order + code, (3, 5, 7))
    data = pack_mrc(pixels, mode, order, extended=b"extended header " * 3)
    path = tmp_path / "a.map"  # packed files are told by their bytes, not by their name
    path.write_bytes(pack(data) if pack else data)
    read = open_data(path)
    np.testing.assert_array_equal(read, pixels)
    assert read.dtype == np.dtype(order + code)
    assert isinstance(read, np.memmap) == (pack is None)
    assert not read.flags.writeable


def test_shapes(tmp_path, pack_mrc):
    path = tmp_path / "a.mrc"
    path.write_bytes(pack_mrc(np.zeros((1, 5, 7)), 2))
    assert open_data(path).shape == (5, 7)
    path.write_bytes(pack_mrc(np.zeros((6, 5, 7)), 2, space_group=401, samples=(7, 5, 2)))
    assert open_data(path).shape == (3, 2, 5, 7)


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress])
def test_a_packed_file_that_ends_early(tmp_path, pack_mrc, pack):
    rng = np.random.default_rng(0)
    whole = pack(pack_mrc(rng.normal(size=(20, 32, 32)), 2))
    path = tmp_path / "a.map.gz"
    path.write_bytes(whole[: len(whole) * 2 // 3])
    with pytest.raises(InputError) as caught:
        open_data(path)
    assert str(caught.value) == f"{path}: its packed data end early; copy it again"


def test_a_packed_file_that_was_cut_before_packing(tmp_path, pack_mrc):
    path = tmp_path / "a.map.gz"
    path.write_bytes(gzip.compress(pack_mrc(np.zeros((4, 8, 8)), 2)[:-24]))
    with pytest.raises(InputError) as caught:
        open_data(path)
    assert str(caught.value) == (
        f"{path}: header promises a map of 4×8×8 float32 (1 024 bytes) but the file has only 1 000 bytes of data; "
        "copy it again"
    )


def test_a_packed_file_that_is_damaged(tmp_path, pack_mrc):
    whole = bytearray(gzip.compress(pack_mrc(np.random.default_rng(0).normal(size=(20, 32, 32)), 2)))
    whole[len(whole) // 2 : len(whole) // 2 + 40] = b"\xff" * 40
    path = tmp_path / "a.map.gz"
    path.write_bytes(bytes(whole))
    with pytest.raises(InputError, match=r"a\.map\.gz: cannot be unpacked or read \(.*\); copy it again"):
        open_data(path)


def test_a_damaged_packed_header_that_promises_terabytes_is_refused_at_once(tmp_path, pack_mrc):
    path = tmp_path / "a.map.gz"
    raw = bytearray(pack_mrc(np.zeros((2, 2, 2)), 2))
    raw[0:12] = np.array([1 << 20] * 3, "<i4").tobytes()
    path.write_bytes(gzip.compress(bytes(raw)))
    with pytest.raises(InputError, match="header promises a map of 1048576×1048576×1048576"):
        open_data(path)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("stack", [True, False])
def test_written_files_read_back_here_and_in_mrcfile(tmp_path, capsys, dtype, stack):
    pixels = values(dtype, (4, 6, 5))
    path = write_mrc(tmp_path / "a.mrc", pixels, 1.75, stack=stack, dtype=dtype, origin_angstrom=(1, 2, 3))
    header, read = read_header(path), open_data(path)
    np.testing.assert_array_equal(read, pixels)
    assert read.dtype == np.dtype(dtype)
    assert header.voxel_size_angstrom == (1.75, 1.75, 1.75)
    assert header.origin_angstrom == (1, 2, 3)
    assert header.kind == ("stack" if stack else "volume")
    assert header.notes == ()
    with warnings_of_the_file(), mrcfile.open(path) as theirs:  # knows no unsigned bytes
        np.testing.assert_array_equal(theirs.data, pixels.view("i1") if dtype == "u1" else pixels)
        assert theirs.is_image_stack() == stack
        assert theirs.voxel_size.x == pytest.approx(1.75)
        assert theirs.header.dmin == pixels.min()
        assert theirs.header.dmax == pixels.max()
        assert theirs.header.dmean == pytest.approx(pixels.mean(dtype=float), rel=1e-5)
        assert theirs.header.rms == pytest.approx(pixels.std(dtype=float), rel=1e-5)
    if dtype not in {"u1", "<f2", ">f2"}:  # its validator sums float16 in float16, which overflows
        assert mrcfile.validate(path), capsys.readouterr().out


def test_one_image_and_no_pixel_size(tmp_path):
    path = write_mrc(tmp_path / "a.mrc", np.ones((3, 4)), None)
    assert read_header(path).voxel_size_angstrom == (None, None, None)
    assert open_data(path).shape == (3, 4)
    assert open_data(path).dtype == np.float32


def test_statistics_do_not_depend_on_the_chunks(tmp_path):
    pixels = np.random.default_rng(1).normal(1000, 1e-2, (12, 8, 8)).astype(np.float32)
    whole = write_mrc(tmp_path / "whole.mrcs", pixels, 1.0, stack=True)
    with StackWriter(tmp_path / "pieces.mrcs", pixels.shape, 1.0) as out:
        for piece in (pixels[:1], pixels[1], pixels[2:9], pixels[9:]):
            out.append(piece)
    with mrcfile.mmap(whole) as a, mrcfile.mmap(tmp_path / "pieces.mrcs") as b:
        np.testing.assert_array_equal(a.data, b.data)
        assert a.header.rms == pytest.approx(pixels.std(dtype=float), rel=1e-6)
        assert b.header.rms == pytest.approx(pixels.std(dtype=float), rel=1e-6)


@settings(deadline=None, derandomize=True, max_examples=60)
@given(
    st.sampled_from(TYPES).flatmap(
        lambda t: hnp.arrays(
            np.dtype(t),
            hnp.array_shapes(min_dims=3, max_dims=3, max_side=6),
            elements=hnp.from_dtype(np.dtype(t), allow_nan=False, allow_infinity=False),
        )
    ),
    st.one_of(st.none(), st.floats(0.0625, 50, width=32)),
)
def test_round_trip(tmp_path_factory, pixels, voxel_size):
    path = tmp_path_factory.getbasetemp() / "round.mrcs"
    write_mrc(path, pixels, voxel_size, stack=True, dtype=pixels.dtype)
    read = open_data(path)
    assert read.tobytes() == pixels.tobytes()
    assert read_header(path).shape == pixels.shape
    size = read_header(path).pixel_size_angstrom
    assert size is None if voxel_size is None else size == pytest.approx(voxel_size, rel=1e-6)


# -- whole or not at all ----------------------------------------------------------------------------------------------


def test_a_fault_leaves_the_old_file_and_nothing_else(tmp_path):
    path = write_mrc(tmp_path / "a.mrcs", np.ones((2, 4, 4)), 1.0, stack=True)
    before = path.read_bytes()

    def break_off() -> None:
        with StackWriter(path, (9, 4, 4), 1.0) as out:
            out.append(np.zeros((3, 4, 4)))
            raise RuntimeError("mid-way")

    with pytest.raises(RuntimeError, match="mid-way"):
        break_off()
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_too_few_images(tmp_path):
    with (
        pytest.raises(ValueError, match="3 of 9 images were written"),
        StackWriter(tmp_path / "a.mrcs", (9, 4, 4), 1.0) as out,
    ):
        out.append(np.zeros((3, 4, 4)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("chunk", [(3, 4, 5), (10, 4, 4), (4, 5)])
def test_chunks_that_do_not_fit(tmp_path, chunk):
    with pytest.raises(ValueError, match="does not fit"), StackWriter(tmp_path / "a.mrcs", (9, 4, 4), 1.0) as out:
        out.append(np.zeros(chunk))
    assert list(tmp_path.iterdir()) == []


def test_types_and_shapes_that_mrc_cannot_hold(tmp_path):
    with pytest.raises(ValueError, match="no mode for float64"):
        write_mrc(tmp_path / "a.mrc", np.zeros((2, 2)), 1.0, dtype=float)
    with pytest.raises(ValueError, match="cannot hold an array of shape"):
        write_mrc(tmp_path / "a.mrc", np.zeros((0, 2, 2)), 1.0)
    with pytest.raises(ValueError, match="2 or 3 axes, not 1"):
        write_mrc(tmp_path / "a.mrc", np.zeros(2), 1.0)


def test_a_full_disk(tmp_path):
    """The file size limit of the process stands in for the disk: the system refuses the write in the same way."""
    resource = pytest.importorskip("resource", reason="this system has no file size limits")
    path = tmp_path / "a.mrcs"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(InputError) as caught:
            write_mrc(path, np.zeros((9, 64, 64)), 1.0, stack=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert str(caught.value) == (
        f"{path}: cannot be written: the file grew beyond the size limit of this session; raise the limit and run "
        "again with --resume"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_and_a_folder_as_target(tmp_path):
    with pytest.raises(InputError) as caught:
        write_mrc(tmp_path / "no" / "a.mrc", np.zeros((2, 2)), 1.0)
    assert str(caught.value) == (
        f"{tmp_path / 'no' / 'a.mrc'}: cannot be written: its folder does not exist; create it first"
    )
    (tmp_path / "is").mkdir()
    with pytest.raises(InputError, match=r"is: cannot be written: Is a directory"):
        write_mrc(tmp_path / "is", np.zeros((2, 2)), 1.0)


def test_new_files_get_the_usual_permissions(tmp_path):
    path = write_mrc(tmp_path / "a.mrc", np.zeros((2, 2)), 1.0)
    usual = Path(tmp_path / "b")
    usual.touch()
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(usual.stat().st_mode)
