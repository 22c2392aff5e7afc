"""Lazy stacks give what the files hold, in the order asked for, in flat memory."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_pickbias.errors import InputError
from napari_pickbias.records import images as images_module
from napari_pickbias.records.images import MemoryImages, StackImages
from napari_pickbias.records.mrc import write_mrc

BOX = 8


@pytest.fixture(scope="module")
def stacks(tmp_path_factory, pack_mrc) -> tuple[list[Path], list[np.ndarray]]:
    """Five files of different length, mode and byte order, one with an extended header."""
    folder = tmp_path_factory.mktemp("stacks")
    rng = np.random.default_rng(0)
    paths, pixels = [], []
    for i, (mode, order, n) in enumerate([(2, "<", 5), (2, ">", 3), (12, "<", 9), (0, "<", 1), (6, ">", 4)]):
        array = rng.integers(0, 100, (n, BOX, BOX)).astype(np.float32) + (0.5 if mode in {2, 12} else 0)
        path = folder / f"{i}.mrcs"
        path.write_bytes(pack_mrc(array, mode, order, extended=b"x" * 80 * i, space_group=0))
        paths.append(path)
        pixels.append(array)
    return paths, pixels


@settings(deadline=None, derandomize=True, max_examples=60)
@given(data=st.data())
def test_rows_in_any_order_and_number(stacks, data):
    paths, pixels = stacks
    every = [(f, s) for f, p in enumerate(pixels) for s in range(len(p))]
    table = data.draw(st.lists(st.sampled_from(every), min_size=1, max_size=30))
    rows = data.draw(st.lists(st.integers(0, len(table) - 1), max_size=40))
    images = StackImages(paths, *np.array(table).T, open_files=2)
    read = images.read(np.array(rows, np.int64))
    assert read.dtype == np.float32
    assert read.shape == (len(rows), BOX, BOX)
    for got, row in zip(read, rows, strict=True):
        file, number = table[row]
        np.testing.assert_array_equal(got, pixels[file][number])
    assert len(images) == len(table)


def test_long_runs_are_cut_into_bounded_reads(stacks, monkeypatch):
    paths, pixels = stacks
    asked: list[int] = []
    fill = images_module._OpenFiles.fill

    def spy(self, file, offset, array, row):
        asked.append(array.nbytes)
        fill(self, file, offset, array, row)

    monkeypatch.setattr(images_module._OpenFiles, "fill", spy)
    monkeypatch.setattr(images_module, "_BYTES_A_READ", 3 * BOX * BOX * 2)
    images = StackImages(paths, np.full(9, 2), np.arange(9))
    np.testing.assert_array_equal(images.read(np.arange(9)), pixels[2])
    assert asked == [3 * BOX * BOX * 2] * 3
    asked.clear()
    images.read(np.array([8, 0, 1]))
    assert asked == [2 * BOX * BOX * 2, BOX * BOX * 2]


def test_the_factor_multiplies(stacks):
    paths, pixels = stacks
    images = StackImages(paths, [0, 0, 1], [1, 2, 0], factor=[-1, 2, 1])
    read = images.read(np.array([1, 0, 2]))
    np.testing.assert_array_equal(read, np.stack([2 * pixels[0][2], -pixels[0][1], pixels[1][0]]))


def test_nothing_is_opened_before_it_is_asked_for(tmp_path):
    images = StackImages([tmp_path / "missing.mrcs"], [0, 0], [0, 1], box_sizes=[BOX, BOX])
    assert len(images) == 2
    np.testing.assert_array_equal(images.box_sizes, [BOX, BOX])


def test_box_sizes_come_from_the_headers_once(tmp_path, monkeypatch):
    for side in (4, 6):
        write_mrc(tmp_path / f"{side}.mrcs", np.zeros((3, side, side)), 1.0, stack=True)
    reads: list[Path] = []
    header = images_module.read_header
    monkeypatch.setattr(images_module, "read_header", lambda p: (reads.append(p), header(p))[1])
    images = StackImages([tmp_path / "4.mrcs", tmp_path / "6.mrcs", tmp_path / "unused.mrcs"], [1, 0, 1], [0, 2, 1])
    np.testing.assert_array_equal(images.box_sizes, [6, 4, 6])
    assert images.read(np.array([0, 2])).shape == (2, 6, 6)
    assert images.read(np.array([1])).shape == (1, 4, 4)
    np.testing.assert_array_equal(images.box_sizes, [6, 4, 6])
    assert len(reads) == 2


def test_few_files_stay_open(tmp_path, monkeypatch):
    paths = []
    for i in range(40):
        paths.append(write_mrc(tmp_path / f"{i}.mrcs", np.full((1, 2, 2), i), 1.0, stack=True))
    images = StackImages(paths, np.arange(40), np.zeros(40), open_files=3)
    closed: list[int] = []
    close = os.close
    monkeypatch.setattr(os, "close", lambda number: (closed.append(number), close(number))[1])
    np.testing.assert_array_equal(images.read(np.arange(40))[:, 0, 0], np.arange(40))
    assert len(closed) == 37
    del images
    assert len(closed) == 40


@pytest.mark.parametrize("positioned", [True, False])
def test_threads_see_the_same_pixels(stacks, monkeypatch, positioned):
    if not positioned:
        monkeypatch.delattr(os, "preadv", raising=False)  # as on Windows
    paths, pixels = stacks
    files = np.concatenate([np.full(len(p), f) for f, p in enumerate(pixels)])
    slices = np.concatenate([np.arange(len(p)) for p in pixels])
    every = np.concatenate(pixels)
    images = StackImages(paths, files, slices, open_files=1)
    start = threading.Barrier(4)

    def work(seed: int) -> bool:
        rng = np.random.default_rng(seed)
        start.wait()
        return all(
            np.array_equal(images.read(rows), every[rows])
            for rows in (rng.integers(0, len(every), 12) for _ in range(100))
        )

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(4)))


def test_memory_images():
    array = np.arange(3 * 4 * 4, dtype=np.float16).reshape(3, 4, 4)
    images = MemoryImages(array)
    assert len(images) == 3
    np.testing.assert_array_equal(images.box_sizes, [4, 4, 4])
    read = images.read(np.array([2, 0, 2]))
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, array[[2, 0, 2]])
    with pytest.raises(InputError, match="no stack of square images"):
        MemoryImages(np.zeros((3, 4, 5)))


# -- faults -----------------------------------------------------------------------------------------------------------


def refusal(images: StackImages, rows: list[int]) -> str:
    with pytest.raises(InputError) as caught:
        images.read(np.array(rows))
    return str(caught.value)


def test_a_missing_stack(tmp_path):
    path = tmp_path / "gone.mrcs"
    assert refusal(StackImages([path], [0] * 8, range(8)), [6, 5]) == (
        f"{path}: no such file; check the path, which is taken from the current (or the project's) folder "
        "(needed by particle row 6)"
    )


def test_a_row_outside_the_stack(stacks):
    path = stacks[0][1]
    for number in (3, 300):
        assert refusal(StackImages([path], [0, 0], [0, number]), [0, 1]) == (
            f"{path}: has 3 images, but row 2 asks for number {number + 1}; the stack is not the one the particle "
            "file was made with"
        )
    assert "row 1 asks for number 0" in refusal(StackImages([path], [0], [-1]), [0])


def test_a_truncated_stack(tmp_path, pack_mrc):
    path = tmp_path / "short.mrcs"
    path.write_bytes(pack_mrc(np.zeros((4, 4, 4)), 2)[:-1])
    assert refusal(StackImages([path], [0], [0]), [0]) == (
        f"{path}: header promises 4 images of 4×4 float32 (256 bytes) but the file has only 255 bytes of data; "
        "copy it again (needed by particle row 1)"
    )


def test_a_stack_that_shrinks_while_it_is_read(tmp_path):
    path = write_mrc(tmp_path / "a.mrcs", np.zeros((4, 4, 4)), 1.0, stack=True)
    images = StackImages([path], [0] * 4, range(4))
    images.read(np.array([0]))
    os.truncate(path, 1024 + 130)
    assert refusal(images, [3]) == (
        f"{path}: ends before the image of particle row 4; it became shorter while it was read"
    )


def test_a_disk_fault_is_named(stacks, monkeypatch):
    def broken(*_: object) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(images_module._File, "fill", broken)
    path = stacks[0][0]
    assert refusal(StackImages([path], [0], [0]), [0]) == (
        f"{path}: cannot be read (Input/output error), needed by particle row 1; check its disk"
    )


def test_boxes_that_are_not_square_not_as_promised_or_mixed(tmp_path):
    path = write_mrc(tmp_path / "a.mrcs", np.zeros((2, 4, 6)), 1.0, stack=True)
    assert refusal(StackImages([path], [0], [0]), [0]) == (
        f"{path}: its images are 4×6, not square; particles need square boxes (needed by particle row 1)"
    )
    four = write_mrc(tmp_path / "4.mrcs", np.zeros((2, 4, 4)), 1.0, stack=True)
    six = write_mrc(tmp_path / "6.mrcs", np.zeros((2, 6, 6)), 1.0, stack=True)
    assert refusal(StackImages([four], [0], [0], box_sizes=[5]), [0]) == (
        f"{four}: its images are 4 px wide, but row 1 says 5 px; the stack is not the one the particle file was made "
        "with"
    )
    assert refusal(StackImages([four, six], [0, 1], [0, 0]), [0, 1]) == (
        f"{six}: its images are 6 px wide, others read together with it 4 px (row 2); treat each box size by itself"
    )


def test_a_packed_stack(tmp_path, pack_mrc):
    import gzip

    path = tmp_path / "a.mrcs"
    path.write_bytes(gzip.compress(pack_mrc(np.zeros((2, 4, 4)), 2)))
    assert refusal(StackImages([path], [0], [0]), [0]) == (
        f"{path}: is packed with gzip; unpack it first (needed by particle row 1)"
    )


def test_tables_that_do_not_fit_together():
    with pytest.raises(ValueError, match="one value a row"):
        StackImages([Path("a")], [0, 0], [0])
    with pytest.raises(ValueError, match="outside paths"):
        StackImages([Path("a")], [1], [0])
