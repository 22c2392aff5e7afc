"""``.cs`` files of both forms, and what is said of files that are none."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_pickbias.errors import InputError
from pickbias_cryosparc.tables import Table, read_table, write_rows, write_table

SAMPLES = [
    "4k_dataset.cs",
    "cryosparc_J2_particles_exported.cs",
    "cryosparc_P12_J24_001_particles.cs",
    "empiar_10076_7.cs",
    "t20s_movies.cs",
    "t20s_particles.cs",
    "t20s_passthrough_particles.cs",
]


def refusal(path) -> str:
    with pytest.raises(InputError) as caught:
        read_table(path)
    return str(caught.value).removeprefix(f"{path}: ")


@pytest.mark.parametrize("name", SAMPLES)
def test_samples_equal_numpy_and_the_client(data_dir, name):
    path = data_dir / "cryosparc" / name
    read = read_table(path)
    assert read.form == "numpy"
    assert read.rows.tobytes() == np.load(path).tobytes()
    dataset = pytest.importorskip("cryosparc.dataset", reason="cryosparc-tools is not installed").Dataset
    theirs = dataset.load(str(path))
    assert list(read.fields) == [name for name, *_ in theirs.descr()]
    for field in read.fields:
        mine = read.rows[field]
        if mine.dtype.kind == "S":
            assert [bytes(v).decode() for v in mine] == list(theirs[field])
        else:
            np.testing.assert_array_equal(mine, theirs[field])


def test_the_csdat_form_holds_the_same_rows(data_dir):
    numpy_form = read_table(data_dir / "cryosparc/t20s_particles.cs")
    csdat = read_table(data_dir / "cryosparc/t20s_particles_csdat.cs")
    assert csdat.form == "csdat"
    assert csdat.fields == numpy_form.fields
    for field in csdat.fields:  # text columns are as wide as their longest text; the client adds one byte
        np.testing.assert_array_equal(csdat.rows[field], numpy_form.rows[field])


@pytest.mark.parametrize("name", [s for s in SAMPLES if "4k" not in s])
def test_kept_rows_keep_their_bytes(data_dir, tmp_path, name):
    source = read_table(data_dir / "cryosparc" / name)
    keep = np.random.default_rng(0).random(len(source)) < 0.5
    write_table(tmp_path / "kept.cs", source, keep)
    kept = np.load(tmp_path / "kept.cs", allow_pickle=False)
    assert kept.dtype == source.rows.dtype
    assert kept.tobytes() == source.rows[keep].tobytes()
    dataset = pytest.importorskip("cryosparc.dataset", reason="cryosparc-tools is not installed").Dataset
    assert dataset.load(str(tmp_path / "kept.cs")) == dataset.load(str(source.path)).mask(keep)


def test_kept_rows_of_csdat_stay_csdat(data_dir, tmp_path):
    source = read_table(data_dir / "cryosparc/t20s_particles_csdat.cs")
    keep = np.arange(10) % 3 == 0
    write_table(tmp_path / "kept.cs", source, keep)
    assert (tmp_path / "kept.cs").read_bytes().startswith(b"\x95CSDAT")
    kept = read_table(tmp_path / "kept.cs").rows
    for field in source.fields:
        np.testing.assert_array_equal(kept[field], source.rows[field][keep])
    dataset = pytest.importorskip("cryosparc.dataset", reason="cryosparc-tools is not installed").Dataset
    assert dataset.load(str(tmp_path / "kept.cs")) == dataset.load(str(source.path)).mask(keep)


@pytest.mark.parametrize("fields", [300, 3000])
def test_headers_beyond_numpys_limits(tmp_path, fields):
    """10 000 bytes stop np.load, 65 535 the first version of the format."""
    rows = np.zeros(4, [("uid", "u8"), *((f"alignments_class_{i}/class_posterior", "f4") for i in range(fields))])
    rows["uid"] = np.arange(4)
    write_rows(tmp_path / "wide.cs", rows)
    with pytest.raises(ValueError, match="Header"):
        np.load(tmp_path / "wide.cs")
    read = read_table(tmp_path / "wide.cs")
    assert read.rows.tobytes() == rows.tobytes()
    write_table(tmp_path / "kept.cs", read, rows["uid"] > 1)
    assert read_table(tmp_path / "kept.cs").rows["uid"].tolist() == [2, 3]


def test_no_rows_at_all(data_dir, tmp_path):
    source = read_table(data_dir / "cryosparc/4k_dataset.cs")
    assert len(source) == 0
    assert len(source.slots) == 8
    full = read_table(data_dir / "cryosparc/t20s_particles.cs")
    write_table(tmp_path / "none.cs", full, np.zeros(10, bool))
    assert read_table(tmp_path / "none.cs").rows.dtype == full.rows.dtype
    assert len(read_table(tmp_path / "none.cs")) == 0


def test_rows_are_written_in_bounded_blocks(tmp_path, monkeypatch):
    from pickbias_cryosparc import tables

    monkeypatch.setattr(tables, "_BYTES_A_BLOCK", 100)
    rows = np.zeros(50, [("uid", "u8"), ("a/b", "f4", (3,))])
    rows["uid"] = np.arange(50)
    keep = np.arange(50) % 7 == 0
    write_table(tmp_path / "a.cs", Table(tmp_path, rows), keep)
    assert np.load(tmp_path / "a.cs").tobytes() == rows[keep].tobytes()


# -- files that are no tables -----------------------------------------------------------------------------------------


def test_a_truncated_file(data_dir, tmp_path):
    whole = (data_dir / "cryosparc/t20s_particles.cs").read_bytes()
    path = tmp_path / "short.cs"
    path.write_bytes(whole[:-100])
    size = np.load(data_dir / "cryosparc/t20s_particles.cs").dtype.itemsize
    assert refusal(path) == (
        f"header promises 10 rows of {size} bytes but the file has {10 * size - 100} bytes of rows; copy it again"
    )


def test_a_file_that_ends_in_its_header(data_dir, tmp_path):
    path = tmp_path / "short.cs"
    path.write_bytes((data_dir / "cryosparc/t20s_particles.cs").read_bytes()[:50])
    assert refusal(path) == (
        "is damaged (EOF: reading array header, expected 758 bytes got 40); copy it again, or export the job again"
    )


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "is empty; copy it again"),
        (b"data_particles\n", "is not a .cs table; give a particle file of a CryoSPARC job (.cs or .csg)"),
        (
            b"version https://git-lfs.github.com/spec/v1\n",
            "is a Git LFS pointer, not the data it stands for; fetch it with git lfs pull",
        ),
        (b"\x94CSDAT\x00\x00", "is of a CSDAT form that no present client reads; export the job again"),
        (b"PK\x03\x04zip", "is not a .cs table (it is an archive); unpack it first"),
        (b"\x1f\x8bgz", "is not a .cs table (it is an archive); unpack it first"),
    ],
)
def test_other_files(tmp_path, content, what):
    path = tmp_path / "a.cs"
    path.write_bytes(content)
    assert refusal(path) == what


def test_missing_files_and_other_arrays(tmp_path, save_cs):
    assert refusal(tmp_path / "no.cs") == (
        "cannot be opened (No such file or directory); check the path and its permissions"
    )
    plain = "is a NumPy array without named fields, not a .cs table; give the job's .cs file"
    assert refusal(save_cs(tmp_path / "a.cs", np.zeros(3))) == plain
    no_uid = "has no field 'uid', so it is not a .cs table; give the job's .cs file"
    assert refusal(save_cs(tmp_path / "b.cs", np.zeros(3, [("blob/idx", "u4")]))) == no_uid
    assert refusal(save_cs(tmp_path / "c.cs", np.zeros(3, [("uid", "f8")]))) == no_uid


def test_a_pickle_is_never_loaded(tmp_path):
    with (tmp_path / "a.cs").open("wb") as stream:
        np.save(stream, np.array([{}], object), allow_pickle=True)
    assert refusal(tmp_path / "a.cs").startswith("is damaged (")


@settings(deadline=None, derandomize=True, max_examples=60)
@given(st.data())
def test_damage_anywhere_is_refused_or_harmless(tmp_path_factory, data):
    """Whatever bytes are changed or cut off, a table comes back or one line is said."""
    rows = np.zeros(3, [("uid", "u8"), ("blob/path", "S5"), ("blob/shape", "u4", (2,))])
    path = tmp_path_factory.getbasetemp() / "damaged.cs"
    write_rows(path, rows)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(content[: data.draw(st.integers(0, len(content)))]))
    try:
        read = read_table(path)
    except InputError:
        return
    assert read.rows.ndim == 1
    assert "uid" in read.fields
