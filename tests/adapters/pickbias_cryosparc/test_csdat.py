"""The column-stream form: equal to the client's, and safe on damaged files, where the client is not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_pickbias.errors import InputError
from pickbias_cryosparc import csdat
from pickbias_cryosparc.tables import read_table


def slow_lz4(block: bytes) -> bytes:
    """The format's description, word for word."""
    out, at = bytearray(), 0
    while True:
        token = block[at]
        at += 1
        length = token >> 4
        if length == 15:
            while True:
                length += block[at]
                at += 1
                if block[at - 1] != 255:
                    break
        out += block[at : at + length]
        at += length
        if at == len(block):
            return bytes(out)
        back = int.from_bytes(block[at : at + 2], "little")
        at += 2
        length = (token & 15) + 4
        if length == 19:
            while True:
                length += block[at]
                at += 1
                if block[at - 1] != 255:
                    break
        for _ in range(length):
            out.append(out[-back])


# literals, matches that overlap themselves, and lengths beyond one and two bytes of 255
BLOCKS = [
    (b"\x00", b""),
    (b"\x50hello", b"hello"),
    (b"\x14a\x01\x00\x50bcdef", b"a" * 9 + b"bcdef"),
    (b"\x1fx\x01\x00\xff\xff\x03\x50vwxyz", b"x" * (1 + 19 + 513) + b"vwxyz"),
    (b"\xf0\xff\x01" + bytes(271), bytes(271)),
    (b"\x32abc\x03\x00\x50uvwxy", b"abcabcabcuvwxy"),
]


@pytest.mark.parametrize(("block", "plain"), BLOCKS)
def test_lz4_blocks(block, plain):
    assert slow_lz4(block) == plain
    assert csdat.lz4_block(np.frombuffer(block, np.uint8), len(plain)).tobytes() == plain


@pytest.mark.parametrize(
    ("block", "size"),
    [
        (b"", 1),  # nothing
        (b"\x50hell", 5),  # literals beyond the end
        (b"\x50hello", 4),  # more than there is room for
        (b"\x50hello", 6),  # less than is due
        (b"\xf0", 20),  # a length that never ends
        (b"\x14a\x02\x00\x50bcdef", 14),  # a match before the beginning
        (b"\x14a\x00\x00\x50bcdef", 14),  # a match of distance 0
        (b"\x14a\x01", 9),  # half a distance
        (b"\x1fa\x01\x00", 30),  # a match length that never ends
        (b"\x14a\x01\x00", 9),  # no last literals
    ],
)
def test_unsound_lz4_blocks(block, size):
    with pytest.raises(ValueError, match="a packed column is damaged"):
        csdat.lz4_block(np.frombuffer(block, np.uint8), size)


def client():
    return pytest.importorskip("cryosparc.dataset", reason="cryosparc-tools is not installed")


def table(n: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    rows = np.zeros(
        n,
        [
            ("uid", "<u8"),
            ("blob/path", "S40"),
            ("blob/shape", "<u4", (2,)),
            ("ctf/tetra_A", "<f4", (4,)),
            ("a/complex", "<c8"),
            ("a/double", "<f8"),
            ("a/small", "<i1"),
            ("a/empty", "S1"),
        ],
    )
    rows["uid"] = rng.integers(0, 1 << 63, n)
    rows["blob/path"] = [f"J{i % 3}/é{i % 7}.mrc".encode() for i in range(n)]
    rows["blob/shape"] = 256
    rows["ctf/tetra_A"] = rng.normal(size=(n, 4))
    rows["a/complex"] = rng.normal(size=n) + 1j
    rows["a/double"] = rng.integers(0, 3, n)
    rows["a/small"] = rng.integers(-100, 100, n)
    return rows


@pytest.mark.parametrize("n", [0, 1, 5000])
def test_what_is_written_here_is_read_here_and_by_the_client(tmp_path, n):
    rows = table(n, 1)
    (tmp_path / "a.cs").write_bytes(csdat.encode(rows))
    read = read_table(tmp_path / "a.cs").rows
    for name in rows.dtype.names:
        np.testing.assert_array_equal(read[name], rows[name])
    theirs = client().Dataset.load(str(tmp_path / "a.cs"))
    for name in rows.dtype.names:
        mine = [bytes(v).decode() for v in rows[name]] if rows[name].dtype.kind == "S" else rows[name]
        np.testing.assert_array_equal(np.asarray(theirs[name]).tolist(), np.asarray(mine).tolist())


@pytest.mark.parametrize("n", [0, 1, 5000])
def test_what_the_client_writes_is_read_here(tmp_path, n):
    module, rows = client(), table(n, 2)
    columns = [
        (m, [bytes(v).decode() for v in rows[m]] if rows[m].dtype.kind == "S" else rows[m]) for m in rows.dtype.names
    ]
    dataset = module.Dataset([(m, np.array(v, "O") if isinstance(v, list) else v) for m, v in columns])
    dataset.save(str(tmp_path / "packed.cs"), format=module.CSDAT_FORMAT)
    (tmp_path / "plain.cs").write_bytes(b"".join(dataset.stream()))
    for name in ("packed.cs", "plain.cs"):
        read = read_table(tmp_path / name).rows
        assert len(read) == n
        for field in rows.dtype.names:
            np.testing.assert_array_equal(read[field], rows[field])


def test_where_a_file_may_end(data_dir, tmp_path):
    """The client's reader is not used for this: it brings the process down."""
    whole = (data_dir / "cryosparc/t20s_particles_csdat.cs").read_bytes()
    path = tmp_path / "short.cs"
    said = set()
    for end in [8, 100, *range(1060, len(whole), 37), len(whole) - 1]:
        path.write_bytes(whole[:end])
        with pytest.raises(InputError) as caught:
            read_table(path)
        text = str(caught.value).removeprefix(f"{path}: is damaged: ")
        assert text.endswith("; copy it again, or export the job again")
        said.add(text.removesuffix("; copy it again, or export the job again"))
    assert {
        "it ends inside its header",
        "it ends inside the column uid",
        "it ends inside the column ctf/bfactor",
        "a text of column blob/path lies beyond the end",
    } <= said


@settings(deadline=None, derandomize=True, max_examples=300)
@given(st.data())
def test_damage_anywhere_is_refused_or_harmless(tmp_path_factory, data_dir, data):
    content = bytearray((data_dir / "cryosparc/t20s_particles_csdat.cs").read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(6, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged_csdat.cs"
    path.write_bytes(bytes(content))
    try:
        read = read_table(path)
    except InputError:
        return
    assert read.rows.ndim == 1
