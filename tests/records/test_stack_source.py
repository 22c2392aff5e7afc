"""A bare stack as a particle source."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from napari_pickbias.errors import InputError
from napari_pickbias.records import open_particles
from napari_pickbias.records import stack_source as stack_source_module
from napari_pickbias.records.mrc import open_data, read_header, write_mrc
from napari_pickbias.records.stack_source import StackSource


@pytest.fixture
def stack(tmp_path) -> Path:
    pixels = np.random.default_rng(0).normal(size=(20, 6, 6)).astype(np.float32)
    return write_mrc(tmp_path / "particles.mrcs", pixels, 3.54, stack=True, dtype=np.float16)


def test_reading(stack):
    source = open_particles(stack)
    assert isinstance(source, StackSource)
    assert source.suffix == ".mrcs"
    assert source.input_files() == [stack]
    particles = source.read()
    assert len(particles) == 20
    np.testing.assert_array_equal(particles.pixel_size_angstrom, np.full(20, 3.54))
    np.testing.assert_array_equal(particles.images.box_sizes, np.full(20, 6))
    np.testing.assert_array_equal(particles.images.read(np.array([19, 3])), open_data(stack)[[19, 3]])
    assert particles.ctf is particles.poses is particles.micrograph is particles.coordinates_px is None
    assert particles.notes == ()
    assert source.read(2.0).pixel_size_angstrom[0] == 2.0


def test_a_pixel_size_is_needed(tmp_path):
    path = write_mrc(tmp_path / "a.mrcs", np.zeros((3, 4, 4)), None, stack=True)
    source = StackSource(path)
    with pytest.raises(InputError) as caught:
        source.read()
    assert str(caught.value) == f"{path}: its header holds no pixel size; give it in Å with --pixel-size"
    assert source.read(1.2).pixel_size_angstrom.tolist() == [1.2] * 3


def test_a_pixel_size_of_one_is_doubted(tmp_path):
    path = write_mrc(tmp_path / "a.mrcs", np.zeros((3, 4, 4)), 1.0, stack=True)
    assert StackSource(path).read().notes == (
        f"{path}: the pixel size in the header is exactly 1 Å, which often means that nobody set it",
    )
    assert StackSource(path).read(1.0).notes == ()


@pytest.mark.parametrize("block", [1, 200, 1 << 20])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(("mode", "code"), [(0, "i1"), (1, "i2"), (2, "f4"), (6, "u2"), (12, "f2")])
def test_a_subset_keeps_bytes_type_and_pixel_size(tmp_path, pack_mrc, monkeypatch, block, order, mode, code):
    monkeypatch.setattr(stack_source_module, "_BYTES_A_BLOCK", block)
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 120, (20, 6, 6)).astype(order + code)
    path = tmp_path / "all.mrcs"
    path.write_bytes(pack_mrc(pixels, mode, order, extended=b"e" * 20, cell=(13.5, 13.5, 1), samples=(6, 6, 1)))
    keep = rng.random(20) < 0.4
    target = tmp_path / "kept.mrcs"
    assert StackSource(path).write_subset(keep, target) == [target]
    assert open_data(target).tobytes() == pixels[keep].tobytes()
    assert open_data(target).dtype == pixels.dtype
    assert read_header(target).pixel_size_angstrom == 2.25
    assert read_header(target).kind == "stack"


def test_columns_go_into_a_table_beside(stack):
    keep = np.zeros(20, bool)
    keep[[3, 17]] = True
    columns = {
        "score": np.linspace(0, 1, 20).astype(np.float32),
        "reason": np.arange(20, dtype=np.int8),
        "name": np.array([f'a, "{i}"' for i in range(20)]),
    }
    target = stack.with_name("kept.mrcs")
    assert StackSource(stack).write_subset(keep, target, columns) == [target, stack.with_name("kept.csv")]
    assert stack.with_name("kept.csv").read_text().splitlines()[1] == '3,0.15789473,3,"a, ""3"""'
    table = pd.read_csv(stack.with_name("kept.csv"))
    assert list(table.columns) == ["index", "score", "reason", "name"]
    assert table["index"].tolist() == [3, 17]
    np.testing.assert_array_equal(table["score"].to_numpy(np.float32), columns["score"][keep])
    assert table["name"].tolist() == ['a, "3"', 'a, "17"']


def test_nothing_kept_writes_no_stack(stack):
    target = stack.with_name("none.mrcs")
    assert StackSource(stack).write_subset(np.zeros(20, bool), target) == []
    written = StackSource(stack).write_subset(np.zeros(20, bool), target, {"score": np.zeros(20)})
    assert written == [stack.with_name("none.csv")]
    assert written[0].read_text() == "index,score\n"
    assert not target.exists()


def test_the_input_is_never_written_to(stack):
    link = stack.with_name("link.mrcs")
    link.symlink_to(stack)
    before = stack.read_bytes()
    for target in (stack, link):
        with pytest.raises(InputError) as caught:
            StackSource(stack).write_subset(np.ones(20, bool), target)
        assert str(caught.value) == f"{target}: is the input itself, which is never written to; give another name"
    assert stack.read_bytes() == before


def test_a_stack_that_shrinks_leaves_no_target(stack):
    source = StackSource(stack)
    os.truncate(stack, 1024 + 100)
    with pytest.raises(InputError, match=r"particles\.mrcs: became shorter while it was read; copy it again"):
        source.write_subset(np.ones(20, bool), stack.with_name("kept.mrcs"))
    assert list(stack.parent.iterdir()) == [stack]


def test_what_is_no_stack_of_particles(tmp_path):
    cube = write_mrc(tmp_path / "map.mrc", np.zeros((4, 4, 4)), 1.0)
    with pytest.raises(InputError) as caught:
        StackSource(cube)
    assert str(caught.value) == (
        f"{cube}: is a map of 4×4×4 float32, not a stack of particles; if it is one all the same, name it .mrcs"
    )
    oblong = write_mrc(tmp_path / "oblong.mrcs", np.zeros((2, 4, 6)), 1.0, stack=True)
    with pytest.raises(InputError) as caught:
        StackSource(oblong)
    assert str(caught.value) == f"{oblong}: its images are 4×6, not square; particles need square boxes"


def test_keep_must_have_one_value_an_image(stack):
    with pytest.raises(ValueError, match="for 20 images"):
        StackSource(stack).write_subset(np.ones(19, bool), stack.with_name("kept.mrcs"))


def test_a_stack_flagged_as_a_volume_is_read(data_dir):
    particles = open_particles(data_dir / "cryosparc" / "empiar_10076_7.mrc").read(1.31)
    assert particles.images.read(np.arange(7)).shape == (7, 320, 320)
