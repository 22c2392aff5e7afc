"""What a header says, for each mode, byte order and oddity."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_pickbias.errors import InputError
from napari_pickbias.records.mrc import read_header


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_header(path)
    return str(caught.value).removeprefix(f"{path}: ")


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(("mode", "code"), [(0, "i1"), (1, "i2"), (2, "f4"), (6, "u2"), (12, "f2")])
def test_every_mode_and_byte_order(tmp_path, pack_mrc, mode, code, order):
    data = pack_mrc(np.zeros((3, 5, 7)), mode, order, extended=b"x" * 160, cell=(7.7, 5.5, 3.3))
    header = read_header(write(tmp_path / "a.mrc", data))
    assert header.shape == (3, 5, 7)
    assert header.dtype == np.dtype(order + code)
    assert header.mode == mode
    assert header.voxel_size_angstrom == (1.1, 1.1, 1.1)
    assert header.data_offset == 1024 + 160
    assert header.notes == ()


@pytest.mark.parametrize("stamp", [b"\0\0\0\0", b"\x11\x11\0\0", b"DD\0\0", b"DA\0\0", b"zz\0\0"])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("side", [1, 7, 128, 256, 4096])
def test_the_byte_order_is_found_whatever_the_stamp_says(tmp_path, pack_mrc, stamp, order, side):
    # 256 and 4096 are plausible sides in either byte order, as mode 0 is a mode in either.
    data = pack_mrc(np.zeros((1, 3, side)), 0, order, stamp=stamp)
    header = read_header(write(tmp_path / "a.mrc", data))
    assert header.shape == (1, 3, side)
    right = {b"\x11\x11\0\0": ">", b"DD\0\0": "<", b"DA\0\0": "<"}.get(stamp)
    if right is None:
        kind = "zero" if stamp == bytes(4) else "unknown"
        assert header.notes == (f"machine stamp {kind}; byte order told by the sizes",)
    elif right == order:
        assert header.notes == ()
    else:
        assert header.notes == ("machine stamp contradicts the byte order of the header",)


def test_a_stamp_decides_where_nothing_else_does(tmp_path, pack_mrc):
    data = pack_mrc(np.zeros((1, 1, 1)), 0, ">", axes=(0, 0, 0))
    header = read_header(write(tmp_path / "a.mrc", data))
    assert header.shape == (1, 1, 1)


def test_missing_map_id_is_a_note(tmp_path, pack_mrc):
    header = read_header(write(tmp_path / "a.mrcs", pack_mrc(np.zeros((2, 4, 4)), 2, map_id=b"")))
    assert header.notes == ("no MAP id in the header",)


@pytest.mark.parametrize(
    ("flags", "statistics", "code"),
    [
        (None, (0, -1, -2), "i1"),  # MRC2014: signed
        (0, (0, -1, -2), "u1"),  # stamped by IMOD, flag 1 absent
        (1, (0, -1, -2), "i1"),
        (1, (0, 255, 90), "i1"),  # the flag is the stronger witness
        (None, (0, 255, 90), "u1"),  # a signed byte cannot be 255
        (None, (-128, 127, 0), "i1"),
        (None, (0, 127, 9), "i1"),
    ],
)
@pytest.mark.parametrize("order", "<>")
def test_signed_and_unsigned_bytes(tmp_path, pack_mrc, flags, statistics, code, order):
    imod = None if flags is None else (1146047817, flags)
    data = pack_mrc(np.zeros((1, 4, 4)), 0, order, statistics=statistics, imod=imod)
    header = read_header(write(tmp_path / "a.mrc", data))
    assert header.dtype == np.dtype(code)
    told = code == "u1" and flags is None
    assert header.notes == (
        ("its 8-bit values are taken as unsigned, because its header gives a maximum above 127",) if told else ()
    )


@pytest.mark.parametrize(
    ("cell", "samples", "expected", "note"),
    [
        ((0, 0, 0), None, (None, None, None), ()),
        ((8, 8, 0), None, (2, 2, None), ()),
        ((-8, 8, 8), None, (None, 2, 2), ("negative pixel size in the header, taken as not set",)),
        (
            (np.nan, np.inf, 8),
            None,
            (None, None, 2),
            ("the pixel size in the header is no number, taken as not set",),
        ),
        ((8, 8, 8), (0, 0, 0), (None, None, None), ()),
        ((14.16, 14.16, 1), (4, 4, 1), (3.54, 3.54, 1), ()),  # as RELION writes stacks
    ],
)
def test_voxel_sizes(tmp_path, pack_mrc, cell, samples, expected, note):
    header = read_header(write(tmp_path / "a.mrc", pack_mrc(np.zeros((4, 4, 4)), 2, cell=cell, samples=samples)))
    assert header.voxel_size_angstrom == expected
    assert header.notes == note


def test_pixels_that_are_not_square_are_refused_when_one_size_is_asked_for(tmp_path, pack_mrc):
    path = write(tmp_path / "a.mrcs", pack_mrc(np.zeros((2, 4, 4)), 2, cell=(4, 8, 0)))
    with pytest.raises(InputError) as caught:
        _ = read_header(path).pixel_size_angstrom
    assert str(caught.value) == (
        f"{path}: its pixels are 1 × 2 Å, not square; resample it, or give the size with --pixel-size"
    )


@pytest.mark.parametrize(
    ("name", "shape", "space_group", "samples", "cell", "kind", "volumes"),
    [
        ("a.mrc", (1, 4, 4), 0, None, (0, 0, 0), "image", 1),
        ("a.mrc", (1, 4, 4), 1, None, (0, 0, 0), "image", 1),
        ("a.mrcs", (3, 4, 4), 1, None, (0, 0, 0), "stack", 1),
        ("a.st", (3, 4, 4), 1, None, (0, 0, 0), "stack", 1),
        ("a.mrcs.gz", (3, 4, 4), 1, None, (0, 0, 0), "stack", 1),
        ("a.map", (3, 4, 4), 0, None, (0, 0, 0), "volume", 1),
        ("a.rec", (3, 4, 4), 0, None, (0, 0, 0), "volume", 1),
        ("a.map.bz2", (3, 4, 4), 0, None, (0, 0, 0), "volume", 1),
        ("a.mrc", (3, 4, 4), 1, None, (0, 0, 0), "volume", 1),
        ("a.mrc", (3, 4, 4), 0, (4, 4, 1), (4, 4, 1), "stack", 1),
        ("a.mrc", (4, 4, 4), 0, (4, 4, 1), (0, 0, 0), "stack", 1),
        ("a.mrc", (3, 4, 4), 0, None, (8, 8, 6), "volume", 1),  # Chimera: space group 0 on a map
        ("a.mrc", (4, 4, 4), 0, None, (0, 0, 0), "volume", 1),
        ("a.mrc", (6, 4, 4), 401, (4, 4, 2), (0, 0, 0), "volume stack", 3),
        ("a.mrc", (6, 4, 4), 401, (4, 4, 0), (0, 0, 0), "volume stack", 1),
    ],
)
def test_kind(tmp_path, pack_mrc, name, shape, space_group, samples, cell, kind, volumes):
    data = pack_mrc(np.zeros(shape), 2, space_group=space_group, samples=samples, cell=cell)
    if name.endswith("z2"):
        import bz2

        data = bz2.compress(data)
    elif name.endswith("gz"):
        import gzip

        data = gzip.compress(data)
    header = read_header(write(tmp_path / name, data))
    assert (header.kind, header.volumes) == (kind, volumes)
    assert header.is_stack == (kind in {"image", "stack"})


def test_origin_start_and_axes(tmp_path, pack_mrc):
    data = pack_mrc(np.zeros((2, 3, 4)), 2, ">", origin=(1.5, np.nan, -3), start=(-1, -2, -3), axes=(3, 1, 2))
    header = read_header(write(tmp_path / "a.map", data))
    assert header.origin_angstrom == (1.5, 0.0, -3.0)
    assert header.start == (-1, -2, -3)
    assert header.axes == (3, 1, 2)


def test_axes_that_make_no_sense_are_a_note(tmp_path, pack_mrc):
    header = read_header(write(tmp_path / "a.map", pack_mrc(np.zeros((2, 3, 4)), 2, axes=(1, 1, 3))))
    assert header.axes == (1, 2, 3)
    assert header.notes == ("axis numbers 1, 1, 3 make no sense, taken as 1, 2, 3",)


@pytest.mark.parametrize("nsymbt", [-5, 1 << 30])
def test_an_impossible_extended_header_is_ignored(tmp_path, pack_mrc, nsymbt):
    header = read_header(write(tmp_path / "a.map", pack_mrc(np.zeros((2, 3, 4)), 2, nsymbt=nsymbt)))
    assert header.data_offset == 1024
    assert header.notes == (f"impossible size of the extended header ({nsymbt}), taken as 0",)


def test_a_longer_file_is_a_note(tmp_path, pack_mrc):
    header = read_header(write(tmp_path / "a.map", pack_mrc(np.zeros((2, 3, 4)), 2) + bytes(1234)))
    assert header.notes == ("the file is 1 234 bytes longer than its header says",)


# -- refusals: one line that names file, fault and mend ---------------------------------------------------------------


def test_truncated_stack(tmp_path, pack_mrc):
    path = write(tmp_path / "a.mrcs", pack_mrc(np.zeros((240, 64, 64)), 12)[:-1000])
    assert refusal(path) == (
        "header promises 240 images of 64×64 float16 (1 966 080 bytes) but the file has only 1 965 080 bytes of data; "
        "copy it again"
    )


def test_header_without_data(tmp_path, pack_mrc):
    path = write(tmp_path / "a.mrc", pack_mrc(np.zeros((1, 8, 8)), 2)[:1024])
    assert refusal(path) == (
        "header promises 1 image of 8×8 float32 (256 bytes) but the file has no data after its header; copy it again"
    )


@pytest.mark.parametrize(
    ("mode", "what"),
    [
        (3, "complex numbers (mode 3, a Fourier transform), not an image; give the real-space file"),
        (4, "complex numbers (mode 4, a Fourier transform), not an image; give the real-space file"),
        (16, "colour pictures (mode 16), not densities; save it with one value a pixel, such as mode 2"),
        (
            101,
            "packed 4-bit frames (mode 101), as unaligned movies do; give the motion-corrected micrograph, or convert "
            "it to mode 6 or 2",
        ),
    ],
)
@pytest.mark.parametrize("order", "<>")
def test_modes_that_hold_no_densities(tmp_path, pack_mrc, mode, what, order):
    path = write(tmp_path / "a.mrc", pack_mrc(np.zeros((1, 8, 8), np.complex64), mode, order))
    assert refusal(path) == f"holds {what}"


def test_imod_4_bit_bytes(tmp_path, pack_mrc):
    path = write(tmp_path / "a.mrc", pack_mrc(np.zeros((1, 8, 8)), 0, imod=(1146047817, 16)))
    assert refusal(path).startswith("holds packed 4-bit frames (mode 101)")


@pytest.mark.parametrize("mode", [5, -1, 7, 1 << 20])
def test_unknown_modes_and_other_files(tmp_path, pack_mrc, mode):
    path = write(tmp_path / "a.mrc", pack_mrc(np.zeros((1, 8, 8)), mode))
    assert refusal(path) == (
        "is not an MRC file (its mode and sizes make no sense in either byte order); check that it is the file you "
        "meant"
    )


def test_a_text_file(tmp_path):
    path = write(tmp_path / "particles.mrcs", b"data_particles\n\nloop_\n_rlnImageName #1\n" * 100)
    assert refusal(path).startswith("is not an MRC file")


def test_lfs_pointer_empty_and_short_files(tmp_path):
    path = write(tmp_path / "a.mrc", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    assert refusal(path) == "is a Git LFS pointer, not the data it stands for; fetch it with git lfs pull"
    assert refusal(write(path, b"")) == "is empty; copy it again"
    assert refusal(write(path, bytes(100))) == "has 100 bytes, fewer than the 1 024 of an MRC header; copy it again"


def test_missing_file_and_folder(tmp_path):
    assert refusal(tmp_path / "no.mrc") == (
        "no such file; check the path, which is taken from the current (or the project's) folder"
    )
    assert refusal(tmp_path) == "is a folder; give an MRC file in it"


@settings(deadline=None, derandomize=True, max_examples=300)
@given(st.binary(min_size=0, max_size=1400), st.booleans())
def test_no_bytes_make_it_fail_otherwise(tmp_path_factory, noise, plausible):
    """Any file is read or refused; nothing else is raised."""
    if plausible and len(noise) > 16:
        noise = struct.pack("<4i", 3, 2, 1, 2) + noise[16:]
    path = tmp_path_factory.getbasetemp() / "noise.mrc"
    path.write_bytes(noise)
    try:
        header = read_header(path)
    except InputError:
        return
    assert header.data_offset + header.data_bytes <= len(noise)
