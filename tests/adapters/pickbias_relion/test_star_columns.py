"""Columns on demand: exact text, exact numbers, and faults that name line, column and text."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from napari_pickbias.errors import InputError
from pickbias_relion.star import StarFile, open_star
from pickbias_relion.star_columns import line_of_row, read_columns
from pickbias_relion.star_index import Table
from pickbias_relion.star_subset import quote_value, write_subset


def opened(folder: Path, text: str | bytes) -> tuple[StarFile, Table]:
    path = folder / "f.star"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    star = open_star(path)
    return star, star.tables[0]


def column(folder: Path, values: list[str], **kinds: list[str]) -> object:
    star, table = opened(folder, "data_p\nloop_\n_a #1\n_b #2\n" + "".join(f"{v} x\n" for v in values))
    return read_columns(star, table, **kinds)


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=20))
@settings(deadline=None, derandomize=True, max_examples=60)
def test_floats_are_the_nearest_doubles(tmp_path_factory: pytest.TempPathFactory, values: list[float]) -> None:
    texts = [repr(v) for v in values] + [f"{v:.6f}" for v in values if abs(v) < 1e40] + ["+1.5", "-.5", "3.", "1E3"]
    columns = column(tmp_path_factory.mktemp("f"), texts, floats=["a"])
    np.testing.assert_array_equal(columns.floats["a"], [float(t) for t in texts])


@pytest.mark.parametrize("bad", ["nan", "inf", "-Infinity", "abc", "<NA>", "1_000", "0x10", "1,5", '""', "9" * 80])
def test_what_is_no_number_is_named(tmp_path: Path, bad: str) -> None:
    with pytest.raises(InputError) as caught:
        column(tmp_path, ["1", "2", bad, "oops"], floats=["a"])
    shown = bad.strip('"')
    shown = shown if len(shown) <= 60 else shown[:60] + "..."
    assert str(caught.value) == (
        f"{tmp_path / 'f.star'}: line 7, column a: {shown!r} is not a number; correct that value"
    )


def test_integers_may_be_written_as_floats_but_must_be_whole(tmp_path: Path) -> None:
    columns = column(tmp_path, ["1", "2.000000", "-3", "1e3"], integers=["a"])
    assert columns.integers["a"].tolist() == [1, 2, -3, 1000]
    assert columns.integers["a"].dtype == np.int64
    with pytest.raises(InputError, match=r"line 6, column a: '2\.5' is not a whole number; correct that value"):
        column(tmp_path, ["1", "2.5"], integers=["a"])


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"f\.star: data_p has no column rlnX; give a file that has it"):
        column(tmp_path, ["1"], floats=["rlnX"])


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("1", "line 7 has 1 value for the 2 labels of data_p; correct that row, or quote values that hold blanks"),
        ("1 2 3", "line 7 has 3 values for the 2 labels of data_p; correct that row, or quote values that hold blanks"),
        ("1 'x", "line 7 has a ' that is never closed; correct that row"),
    ],
)
def test_faulty_rows_name_their_line(tmp_path: Path, row: str, reason: str) -> None:
    star, table = opened(tmp_path, f"data_p\nloop_\n_a #1\n_b #2\n1 2\n# note\n{row}\n1 2\n")
    with pytest.raises(InputError) as caught:
        read_columns(star, table, floats=["a"])
    assert str(caught.value) == f"{star.path}: {reason}"


def test_a_file_cut_off_inside_its_last_row_says_so(tmp_path: Path) -> None:
    star, table = opened(tmp_path, "data_p\nloop_\n_a #1\n_b #2\n_c #3\n1 2 3\n4 5")
    with pytest.raises(InputError, match=r"line 7 has 2 values .* the file ends in the middle of that row"):
        read_columns(star, table, floats=["a"])


def test_a_last_row_without_line_end_is_read(tmp_path: Path) -> None:
    star, table = opened(tmp_path, "data_p\nloop_\n_a #1\n_b #2\n1 2\n3 44")
    assert read_columns(star, table, floats=["b"]).floats["b"].tolist() == [2, 44]


def test_text_keeps_every_byte(tmp_path: Path) -> None:
    latin, utf = "Müller/µ.mrc".encode("latin-1"), "Łódź/β-gal.mrc".encode()
    rows = [b"001", b"1e5", latin, utf, b"O'Brien/m.mrc", b"a#b", b'"two words"', b'""', b"'", b"[1,1,0,1]"]
    rows.remove(b"'")
    star, table = opened(tmp_path, b"data_p\nloop_\n_a #1\n_b #2\n" + b"".join(r + b" x\n" for r in rows))
    found = read_columns(star, table, texts=["a"]).texts["a"]
    assert [found.values[c] for c in found.codes] == [*rows[:6], b"two words", b"", b"[1,1,0,1]"]
    assert found.strings()[2:4].tolist() == ["Müller/µ.mrc", "Łódź/β-gal.mrc"]


def test_repeated_text_is_stored_once(tmp_path: Path) -> None:
    columns = column(tmp_path, ["m1"] * 5 + ["m2"] * 3 + ["m1"] * 2, texts=["a", "b"])
    assert columns.texts["a"].values == (b"m1", b"m2")
    assert columns.texts["a"].codes.tolist() == [0] * 5 + [1] * 3 + [0] * 2
    assert columns.texts["b"].strings().tolist() == ["x"] * 10


def test_one_enormous_value_does_not_cost_memory_for_all(tmp_path: Path) -> None:
    values = ["m"] * 200 + ["v" * 200_000] + ["m"] * 200
    columns = column(tmp_path, values, texts=["a"])
    assert [len(v) for v in columns.texts["a"].values] == [1, 200_000]
    assert columns.texts["a"].codes.tolist() == [0] * 200 + [1] + [0] * 200


def test_image_names(tmp_path: Path) -> None:
    names = [
        "000001@a/b.mrcs",
        "12@a/b.mrcs",
        "0000001000000@c.mrcs",
        "bare.mrc",
        "x1@d.mrcs",
        "@e.mrcs",
        "'3@f g.mrcs'",
    ]
    images = column(tmp_path, [*names, "7@Extract/job001/it@home.mrcs"], images=["a"]).images["a"]
    assert images.slice_index.tolist() == [0, 11, 999_999, -1, -1, -1, 2, 6]
    assert images.files.strings().tolist() == [
        "a/b.mrcs", "a/b.mrcs", "c.mrcs", "bare.mrc", "x1@d.mrcs", "@e.mrcs", "f g.mrcs", "Extract/job001/it@home.mrcs",
    ]  # fmt: skip


def test_image_zero_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"line 6, column a: '000000@s\.mrcs' asks for image 0, but images count from 1"
    ):
        column(tmp_path, ["1@s.mrcs", "000000@s.mrcs"], images=["a"])


def test_a_file_that_changes_while_it_is_read_is_an_error(tmp_path: Path) -> None:
    star, table = opened(tmp_path, "data_p\nloop_\n_a #1\n1\n")
    star.path.write_text("data_p\nloop_\n_a #1\n1\n2\n")
    with pytest.raises(InputError, match="changed while it was being read; run again"):
        read_columns(star, table, floats=["a"])
    star.path.unlink()
    with pytest.raises(InputError, match="cannot be read: No such file"):
        read_columns(star, table, floats=["a"])


def test_line_of_row_counts_comments_and_blank_lines(tmp_path: Path) -> None:
    star, table = opened(tmp_path, "data_p\nloop_\n_a #1\n_b #2\n1 2\n# c\n\n3 4\n5 6\n")
    assert [line_of_row(star, table, k) for k in range(3)] == [5, 8, 9]
    with pytest.raises(IndexError):
        line_of_row(star, table, 3)


BLANKS = st.text(alphabet=" \t", min_size=1, max_size=3)
VALUE = st.text(alphabet=st.characters(blacklist_categories=("Cs", "Cc")), max_size=12)


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[list[str]], bytes]:
    """Draw a table and one of the many ways to write it."""
    n_columns = draw(st.integers(1, 4))
    rows = draw(st.lists(st.lists(VALUE, min_size=n_columns, max_size=n_columns), min_size=1, max_size=8))
    end = draw(st.sampled_from(["\n", "\r\n", " \n"]))
    numbered = draw(st.booleans())
    lines = [f"data_{draw(st.sampled_from(['', 'particles']))}", "", "loop_ "]
    labels = ["rlnImageName", "rlnC1", "rlnC2", "rlnC3"][:n_columns]
    lines += [f"_{label}" + (f" #{k + 1} " if numbered else "") for k, label in enumerate(labels)]
    for row in rows:
        text = draw(st.sampled_from(["", "  "]))
        for value in row:
            try:
                text += quote_value(value).decode() + draw(BLANKS)
            except ValueError:  # both kinds of quotes: STAR cannot hold it
                value_safe = value.replace('"', "").replace("'", "")
                row[row.index(value)] = value_safe
                text += quote_value(value_safe).decode() + draw(BLANKS)
        lines.append(text + draw(st.sampled_from(["", "# a 'comment", "#"])))
        lines += draw(st.sampled_from([[], [], ["# between rows"], [""]]))
    return rows, end.join(lines).encode() + draw(st.sampled_from([b"", b"\n"]))


@given(tables())
@settings(deadline=None, derandomize=True, max_examples=120)
@example(([["O'Brien"]], b"data_\nloop_\n_rlnImageName\nO'Brien #\n"))
def test_any_table_written_any_way_is_read_back_and_copied(
    tmp_path_factory: pytest.TempPathFactory, drawn: tuple[list[list[str]], bytes]
) -> None:
    rows, text = drawn
    star, table = opened(tmp_path_factory.mktemp("t"), text)
    assert table.n_rows == len(rows)
    columns = read_columns(star, table, texts=list(table.labels))
    found = [columns.texts[label].strings().tolist() for label in table.labels]
    assert [list(row) for row in zip(*found, strict=True)] == rows
    target = star.path.with_name("copy.star")
    write_subset(star.path, np.ones(len(rows), bool), target)
    assert target.read_bytes() == text
