"""Subsets: the lines read, byte for byte; own columns; never half a file."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_pickbias.errors import InputError
from pickbias_relion import write_subset
from pickbias_relion.star import open_star
from pickbias_relion.star_columns import read_columns
from pickbias_relion.star_subset import format_values, own_label, quote_value

FILE = (
    "\n# version 50001\n\ndata_general\n\n_rlnTomoSubTomosAre2DStacks  0\n\n\n"
    "# version 50001\n\ndata_optics\n\nloop_ \n_rlnOpticsGroup #1 \n_rlnImagePixelSize #2 \n  1  1.400000 \n \n\n"
    "# version 50001\n\ndata_particles\n\nloop_ \n_rlnImageName #1 \n_rlnDefocusU #2 \n"
    "000001@a.mrcs 21186.804688 \n000002@a.mrcs 21363.109375 # doubtful\n# a note\n000003@a.mrcs     1.000000 \n \n"
)


def star_file(folder: Path, text: str | bytes = FILE) -> Path:
    path = folder / "in.star"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_only_dropped_lines_go(tmp_path: Path) -> None:
    target = tmp_path / "out.star"
    assert write_subset(star_file(tmp_path), np.array([True, False, True]), target) == [target]
    assert target.read_text() == FILE.replace("000002@a.mrcs 21363.109375 # doubtful\n", "")


def test_own_columns_stand_after_the_last_value(tmp_path: Path) -> None:
    target = tmp_path / "out.star"
    own = {"score": np.array([0.1, 0.2, np.nan], np.float32), "pickbiasReason": np.array(["kept", "x y", "kept"])}
    write_subset(star_file(tmp_path), np.array([True, True, True]), target, own)
    expected = (
        FILE.replace("_rlnDefocusU #2 \n", "_rlnDefocusU #2 \n_pickbiasScore #3 \n_pickbiasReason #4 \n")
        .replace("21186.804688 \n", "21186.804688 0.1 kept \n")
        .replace("21363.109375 # doubtful\n", '21363.109375 0.2 "x y" # doubtful\n')
        .replace("    1.000000 \n", "    1.000000 -999 kept \n")
    )
    assert target.read_text() == expected
    star = open_star(target)
    columns = read_columns(star, star.rows(), floats=["pickbiasScore"], texts=["pickbiasReason"])
    assert columns.floats["pickbiasScore"].tolist() == [0.1, 0.2, -999]
    assert columns.texts["pickbiasReason"].strings().tolist() == ["kept", "x y", "kept"]


def test_columns_have_one_value_per_source_row(tmp_path: Path) -> None:
    target = tmp_path / "out.star"
    write_subset(star_file(tmp_path), np.array([False, True, True]), target, {"number": np.array([10, 20, 30])})
    star = open_star(target)
    assert read_columns(star, star.rows(), integers=["pickbiasNumber"]).integers["pickbiasNumber"].tolist() == [20, 30]


def test_an_own_column_that_is_there_already_is_replaced_in_place(tmp_path: Path) -> None:
    text = (
        "data_p\nloop_\n_pickbiasScore #1\n_rlnImageName #2\n_pickbiasReason #3\n"
        "0.123456   1@a.mrcs   'old words' # c\n7   2@a.mrcs   old\n"
    )
    target = tmp_path / "out.star"
    own = {
        "pickbiasReason": np.array(["new", "newer"]),
        "pickbiasScore": np.array([-1.5, 2.5]),
        "pickbiasKeep": np.array([True, False]),
    }
    write_subset(star_file(tmp_path, text), np.array([True, True]), target, own)
    assert target.read_text() == (
        "data_p\nloop_\n_pickbiasScore #1\n_rlnImageName #2\n_pickbiasReason #3\n_pickbiasKeep #4\n"
        "-1.5   1@a.mrcs   new 1 # c\n2.5   2@a.mrcs   newer 0\n"
    )


def test_new_labels_are_written_like_the_others(tmp_path: Path) -> None:
    text = "data_p\r\nloop_\r\n_rlnImageName\r\n_rlnX\r\n1@a.mrcs 5\r\n"
    target = tmp_path / "out.star"
    write_subset(star_file(tmp_path, text), np.array([True]), target, {"score": np.array([1.0])})
    assert target.read_bytes() == b"data_p\r\nloop_\r\n_rlnImageName\r\n_rlnX\r\n_pickbiasScore\r\n1@a.mrcs 5 1.0\r\n"


def test_a_value_is_added_where_the_file_has_no_last_line_end(tmp_path: Path) -> None:
    target = tmp_path / "out.star"
    path = star_file(tmp_path, "data_p\nloop_\n_rlnImageName #1\n1@a.mrcs\n2@a.mrcs")
    write_subset(path, np.array([False, True]), target, {"score": np.array([1, 2])})
    assert target.read_text() == "data_p\nloop_\n_rlnImageName #1\n_pickbiasScore #2\n2@a.mrcs 2"


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("score", "pickbiasScore"),
        ("log_odds_noise", "pickbiasLogOddsNoise"),
        ("pickbiasScore", "pickbiasScore"),
        ("_pickbiasScore", "pickbiasScore"),
        ("rlnClassNumber", "rlnClassNumber"),
        ("second_x_px", "pickbiasSecondXPx"),
    ],
)
def test_names_of_own_columns(name: str, label: str) -> None:
    assert own_label(name) == label


def test_a_name_that_is_no_label() -> None:
    with pytest.raises(ValueError, match=r"`my score` cannot be a STAR label: use letters, digits and _ only"):
        own_label("my score")


def test_own_values_read_back_to_the_same_numbers() -> None:
    rng = np.random.default_rng(1)
    for dtype in (np.float32, np.float64):
        values = (rng.normal(size=300) * 10.0 ** rng.integers(-30, 30, 300)).astype(dtype)
        np.testing.assert_array_equal(np.array([float(t) for t in format_values(values)]).astype(dtype), values)
        assert format_values(np.array([0.1, 1e-8, -0.0], dtype)) == [b"0.1", b"1e-08", b"-0.0"]
    assert format_values(np.array([np.nan, np.inf, -np.inf, 1])) == [b"-999", b"1e+30", b"-1e+30", b"1.0"]
    assert format_values(np.array([True, False])) == [b"1", b"0"]
    assert format_values(np.array([3, -4], np.int8)) == [b"3", b"-4"]
    assert format_values(np.zeros(0)) == []


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("plain", b"plain"),
        ("a b", b'"a b"'),
        ("", b'""'),
        ("#x", b'"#x"'),
        ("x#", b"x#"),
        ("'x", b'"\'x"'),
        ('say "hi" now', b"'say \"hi\" now'"),
        ("it's", b"it's"),
        ("it's fine", b'"it\'s fine"'),
        ("_x", b'"_x"'),
        ("data_x", b'"data_x"'),
        ("µ", "µ".encode()),
    ],
)
def test_text_is_quoted_where_it_must_be(text: str, value: bytes) -> None:
    assert quote_value(text) == value


def test_text_that_star_cannot_hold() -> None:
    with pytest.raises(ValueError, match="line break"):
        quote_value("a\nb")
    with pytest.raises(ValueError, match="both kinds of quotes"):
        quote_value("a' b\" c")


# -- faults ------------------------------------------------------------------------------------------------------------


def test_nothing_kept(tmp_path: Path) -> None:
    path, target = star_file(tmp_path), tmp_path / "out.star"
    with pytest.raises(InputError) as caught:
        write_subset(path, np.zeros(3, bool), target)
    assert str(caught.value) == (
        f"{path}: 0 of 3 particles kept; RELION cannot read an empty particle set, so none is written: "
        "loosen the criterion"
    )
    assert not target.exists()


def test_another_number_of_rows(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="data_particles has 3 rows but 4 verdicts were made; the file changed mean"):
        write_subset(star_file(tmp_path), np.ones(4, bool), tmp_path / "out.star")


def test_the_source_is_never_overwritten(tmp_path: Path) -> None:
    path = star_file(tmp_path)
    (tmp_path / "link.star").symlink_to(path)
    for target in (path, tmp_path / "link.star"):
        with pytest.raises(InputError, match="is the file that is read, which is never overwritten; choose another"):
            write_subset(path, np.ones(3, bool), target)
    assert path.read_text() == FILE


@pytest.mark.parametrize("keep", [np.array([1, 0, 1]), np.ones((3, 1), bool)])
def test_keep_must_be_truth_values(tmp_path: Path, keep: np.ndarray) -> None:
    with pytest.raises(ValueError, match="`keep` must be one truth value a row"):
        write_subset(star_file(tmp_path), keep, tmp_path / "out.star")


def test_columns_that_do_not_fit(tmp_path: Path) -> None:
    path, keep, target = star_file(tmp_path), np.ones(3, bool), tmp_path / "out.star"
    with pytest.raises(ValueError, match=r"column `score` has shape \(2,\), the source has 3 rows"):
        write_subset(path, keep, target, {"score": np.zeros(2)})
    with pytest.raises(ValueError, match="the source has a column rlnDefocusU already, and only own columns are"):
        write_subset(path, keep, target, {"rlnDefocusU": np.zeros(3)})
    with pytest.raises(ValueError, match="two columns become the label pickbiasScore"):
        write_subset(path, keep, target, {"score": np.zeros(3), "pickbiasScore": np.zeros(3)})
    assert not target.exists()


@pytest.mark.parametrize(
    ("ending", "reason"),
    [
        (" x y z\n", "line 29 has 4 values for the 2 labels of data_particles; correct that row, or quote values that"),
        ("", "line 29 has 1 value for the 2 labels of data_particles; the file ends in the middle of that row"),
        (" 'x y\n", "line 29 has a ' that is never closed; correct that row"),
    ],
)
def test_a_faulty_row_leaves_no_target(tmp_path: Path, ending: str, reason: str) -> None:
    path, target = star_file(tmp_path, FILE.removesuffix("     1.000000 \n \n") + ending), tmp_path / "out.star"
    target.write_text("what was there before")
    with pytest.raises(InputError, match=reason):
        write_subset(path, np.ones(3, bool), target)
    assert target.read_text() == "what was there before"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.star", "out.star"]


def test_a_full_disk_leaves_no_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, target = star_file(tmp_path), tmp_path / "out.star"

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match=r"out\.star: cannot be written: the disk is full"):
        write_subset(path, np.ones(3, bool), target)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.star"]


def test_a_really_full_disk(tmp_path: Path) -> None:
    """The same with a device that is always full, in place of the temporary file."""
    full = Path("/dev/full")
    if not (full.exists() and stat.S_ISCHR(full.stat().st_mode)):
        pytest.skip("this system has no /dev/full")
    path, target = star_file(tmp_path), tmp_path / "out.star"
    (tmp_path / f".out.star.{os.getpid()}.part").symlink_to(full)
    with pytest.raises(InputError, match=r"out\.star: cannot be written: the disk is full"):
        write_subset(path, np.ones(3, bool), target)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.star"]


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot be written: its folder does not exist; create it first"):
        write_subset(star_file(tmp_path), np.ones(3, bool), tmp_path / "absent" / "out.star")


# -- properties --------------------------------------------------------------------------------------------------------

LINES = st.lists(
    st.sampled_from(
        [b"1@a.mrcs 1.5 \n", b"  000002@b.mrcs\t2\n", b"# note\n", b"\n", b"'3@c d' \"\" # c\n", b"x y\r\n"]
    ),
    min_size=1,
    max_size=30,
)


@given(LINES, st.data(), st.sampled_from([b"", b"\n# version 30001\n\ndata_optics\n\nloop_\n_a\n_b\n1 2\n"]))
@settings(deadline=None, derandomize=True, max_examples=60)
def test_subsets_of_subsets(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], data: st.DataObject, tail: bytes
) -> None:
    folder = tmp_path_factory.mktemp("s")
    head = b"data_particles\nloop_\n_rlnImageName #1\n_rlnX #2\n"
    path = star_file(folder, head + b"".join(lines) + tail)
    is_row = [line.strip() != b"" and not line.startswith(b"#") for line in lines]
    n = sum(is_row)
    if not n:
        return
    first = np.array(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    second = np.array(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    if not (first & second).any():
        return
    one, two, both = folder / "one.star", folder / "two.star", folder / "both.star"
    write_subset(path, first, one)
    write_subset(one, second[first], two)
    write_subset(path, first & second, both)
    kept = iter(first & second)
    expected = [line for line, row in zip(lines, is_row, strict=True) if not row or next(kept)]
    assert both.read_bytes() == head + b"".join(expected) + tail
    assert two.read_bytes() == both.read_bytes()


@given(st.integers(1, 60), st.integers(1, 40), st.booleans())
@settings(deadline=None, derandomize=True, max_examples=40)
def test_the_size_of_the_pieces_does_not_matter(
    tmp_path_factory: pytest.TempPathFactory, n: int, size: int, with_columns: bool
) -> None:
    from pickbias_relion import star_columns, star_scan

    folder = tmp_path_factory.mktemp("s")
    rows = "".join(f"{k}@a.mrcs {k * 1.5}{' # c' if k % 3 == 0 else ''}\n" for k in range(1, n + 1))
    path = star_file(folder, f"data_particles\nloop_\n_rlnImageName #1\n_rlnX #2\n{rows}\n# end")
    keep = np.arange(n) % 2 == 0
    own = {"k": np.arange(n)} if with_columns else None
    write_subset(path, keep, folder / "one.star", own)
    original = star_scan.line_chunks
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(star_columns, "line_chunks", lambda s, a, b: original(s, a, b, size))
        write_subset(path, keep, folder / "two.star", own)
    assert (folder / "one.star").read_bytes() == (folder / "two.star").read_bytes()


def test_real_files_keep_every_byte(data_dir: Path, tmp_path: Path) -> None:
    """Keeping all rows of every real file, and every second one, against the lines themselves."""
    done = 0
    for path in sorted(data_dir.rglob("*.star")):
        try:
            table = open_star(path).rows()
        except InputError:
            continue
        if not table.n_rows:
            continue
        target = tmp_path / "out.star"
        write_subset(path, np.ones(table.n_rows, bool), target)
        assert target.read_bytes() == path.read_bytes(), path
        if table.n_rows > 1:
            keep = np.arange(table.n_rows) % 2 == 0
            write_subset(path, keep, target)
            lines = path.read_bytes().splitlines(keepends=True)
            dropped = {table.rows_line - 1 + k for k in range(1, table.n_rows, 2)}
            assert target.read_bytes() == b"".join(x for k, x in enumerate(lines) if k not in dropped), path
        done += 1
    assert done > 100
