"""What trips other STAR software, one test for each trap: read right, and filtered without changing a byte.

Each case is a small file with a particle table of rows ``a``, ``b``, ...; whatever stands in it, keeping all rows gives
the same bytes, and dropping a row takes out that line alone.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_pickbias.errors import InputError
from pickbias_relion.star import open_star
from pickbias_relion.star_columns import Columns, read_columns
from pickbias_relion.star_subset import write_subset

HEAD = "data_particles\n\nloop_ \n_rlnImageName #1 \n_rlnValue #2 \n_rlnLast #3 \n"
MANY = "".join(f"{k:06d}@s.mrcs {k} 1\n" for k in range(60_000))  # several pieces of the file

TRAPS: dict[str, bytes] = {
    "strings that look like numbers": (HEAD + "1@s.mrcs 001 1\n2@s.mrcs 0012 1\n").encode(),
    "names like 1e5": (HEAD + "1@s.mrcs 1e5 1\n2@s.mrcs 2E10 1\n").encode(),
    "numbers first, text much later": (HEAD + MANY + "1@s.mrcs 007x 1\n").encode(),
    "tiny numbers": (HEAD + "1@s.mrcs 1.234567e-08 1\n2@s.mrcs 0.000001 1\n").encode(),
    "many digits": (HEAD + "1@s.mrcs 1234.123456789 1\n2@s.mrcs 1.2345678e12 1\n").encode(),
    "nan": (HEAD + "1@s.mrcs nan 1\n2@s.mrcs 2 1\n").encode(),
    "inf": (HEAD + "1@s.mrcs inf 1\n2@s.mrcs -inf 1\n").encode(),
    "apostrophes in names": (HEAD + "1@O'Brien/s.mrcs O'Brien/m.mrc 1\n2@s.mrcs it's' 1\n").encode(),
    "hash in names": (HEAD + "1@a#b.mrcs a#b 1\n2@s.mrcs x## 1\n").encode(),
    "rows that start with data_": (HEAD + "data_1/1@s.mrcs v 1\ndata_ w 1\n").encode(),
    "rows that start with _": (HEAD + "_dir/1@s.mrcs v 1\n_x w 1\n").encode(),
    "rows that start with loop_": (HEAD + "loop_ v 1\nloop_x w 1\n").encode(),
    "blank line inside the rows": (HEAD + "1@s.mrcs v 1\n\n2@s.mrcs w 1\n \n").encode(),
    "comment line inside the rows": (HEAD + "1@s.mrcs v 1\n# mine\n2@s.mrcs w 1\n").encode(),
    "comment after a row": (HEAD + "1@s.mrcs v 1 # one\n2@s.mrcs w 1 #two 'three\n").encode(),
    "empty loop last": (HEAD + "1@s.mrcs v 1\n2@s.mrcs w 1\n\ndata_x\n\nloop_\n_rlnX #1\n").encode(),
    "empty loop before a version tag": (
        "data_x\nloop_\n_rlnX #1\n_rlnY #2\n\n\n# version 30001\n\n" + HEAD + "1@s.mrcs v 1\n2@s.mrcs w 1\n"
    ).encode(),
    "empty loop of one column": ("data_x\nloop_\n_rlnX #1\n\n" + HEAD + "1@s.mrcs v 1\n2@s.mrcs w 1\n").encode(),
    "quoted blanks and empty values": (HEAD + "'1@a b.mrcs' \"two words\" ''\n2@s.mrcs \" \" \"\"\n").encode(),
    "list with comment and apostrophe": (
        "data_general\n_rlnOwner O'Brien # the owner's\n\n" + HEAD + "1@s.mrcs v 1\n2@s.mrcs w 1\n"
    ).encode(),
    "two blocks of one name": (HEAD + "1@s.mrcs v 1\n2@s.mrcs w 1\n\n" + HEAD + "3@s.mrcs x 1\n").encode(),
    "Latin-1": (HEAD + "1@Müller.mrcs é 1\n2@s.mrcs w 1\n").encode("latin-1"),
    "UTF-8": (HEAD + "1@Müller.mrcs β 1\n2@s.mrcs w 1\n").encode(),
    "byte order mark": b"\xef\xbb\xbf" + (HEAD + "1@s.mrcs v 1\n2@s.mrcs w 1\n").encode(),
    "CR+LF": (HEAD + "1@s.mrcs v 1\n2@s.mrcs w 1\n").replace("\n", "\r\n").encode(),
    "vectors": (HEAD + "1@s.mrcs [1,1,0,1] 1\n2@s.mrcs [] 1\n").encode(),
    "version tags": ("# version 50001\n\n" + HEAD + "1@s.mrcs v 1\n2@s.mrcs w 1\n\n# version 9\n").encode(),
    "truth values": (HEAD + "1@s.mrcs True 1\n2@s.mrcs False 1\n").encode(),
    "order of blocks": (HEAD + "1@s.mrcs v 1\n2@s.mrcs w 1\n\ndata_optics\nloop_\n_rlnOpticsGroup\n1\n").encode(),
    "labels without numbers": (HEAD.translate({35: None, 49: None, 50: None, 51: None}) + "a v 1\nb w 1\n").encode(),
    "labels after a tab": (HEAD.replace(" #", "\t#") + "1@s.mrcs v 1\n2@s.mrcs w 1\n").encode(),
    "labels glued to their numbers": (HEAD.replace(" #", "#") + "1@s.mrcs v 1\n2@s.mrcs w 1\n").encode(),
    "labels with an explanation": (HEAD.replace("#2", "#2 [of something]") + "1@s.mrcs v 1\n2@s.mrcs w 1\n").encode(),
    "tabs and indentation": (HEAD + "\t1@s.mrcs\tv\t1\n   2@s.mrcs    w 1   \n").encode(),
    "no line end at the end": (HEAD + "1@s.mrcs v 1\n2@s.mrcs w 1").encode(),
    "two loops in one block": (HEAD + "1@s.mrcs v 1\n2@s.mrcs w 1\nloop_\n_rlnZ\n5\n").encode(),
    "a list before the loop": ("data_p\n_rlnKey 3\n" + HEAD[15:] + "1@s.mrcs v 1\n2@s.mrcs w 1\n").encode(),
}  # fmt: skip


def written(folder: Path, trap: str) -> Path:
    path = folder / "in.star"
    path.write_bytes(TRAPS[trap])
    return path


def values(path: Path, **kinds: list[str]) -> Columns:
    star = open_star(path)
    return read_columns(star, star.rows(), **kinds)


@pytest.mark.parametrize("trap", TRAPS)
def test_keeping_all_rows_changes_no_byte(tmp_path: Path, trap: str) -> None:
    path = written(tmp_path, trap)
    n = open_star(path).rows().n_rows
    write_subset(path, np.ones(n, bool), tmp_path / "out.star")
    assert (tmp_path / "out.star").read_bytes() == TRAPS[trap]


@pytest.mark.parametrize("trap", TRAPS)
def test_a_dropped_row_is_the_only_line_that_goes(tmp_path: Path, trap: str) -> None:
    path = written(tmp_path, trap)
    table = open_star(path).rows()
    keep = np.ones(table.n_rows, bool)
    keep[0] = False
    write_subset(path, keep, tmp_path / "out.star")
    lines = TRAPS[trap].split(b"\n")
    del lines[table.rows_line - 1]
    assert (tmp_path / "out.star").read_bytes() == b"\n".join(lines)
    left = values(tmp_path / "out.star", texts=list(table.labels))
    before = values(path, texts=list(table.labels))
    for label in table.labels:
        assert left.texts[label].strings().tolist() == before.texts[label].strings().tolist()[1:]


@pytest.mark.parametrize(
    ("trap", "expected"),
    [
        ("strings that look like numbers", ["001", "0012"]),
        ("names like 1e5", ["1e5", "2E10"]),
        ("tiny numbers", ["1.234567e-08", "0.000001"]),
        ("apostrophes in names", ["O'Brien/m.mrc", "it's'"]),
        ("hash in names", ["a#b", "x##"]),
        ("rows that start with data_", ["v", "w"]),
        ("rows that start with _", ["v", "w"]),
        ("rows that start with loop_", ["v", "w"]),
        ("blank line inside the rows", ["v", "w"]),
        ("comment line inside the rows", ["v", "w"]),
        ("comment after a row", ["v", "w"]),
        ("empty loop before a version tag", ["v", "w"]),
        ("empty loop of one column", ["v", "w"]),
        ("quoted blanks and empty values", ["two words", " "]),
        ("two blocks of one name", ["v", "w"]),
        ("Latin-1", ["é", "w"]),
        ("UTF-8", ["β", "w"]),
        ("byte order mark", ["v", "w"]),
        ("CR+LF", ["v", "w"]),
        ("vectors", ["[1,1,0,1]", "[]"]),
        ("truth values", ["True", "False"]),
        ("labels without numbers", ["v", "w"]),
        ("labels after a tab", ["v", "w"]),
        ("labels glued to their numbers", ["v", "w"]),
        ("labels with an explanation", ["v", "w"]),
        ("tabs and indentation", ["v", "w"]),
        ("no line end at the end", ["v", "w"]),
        ("a list before the loop", ["v", "w"]),
    ],
)
def test_the_values_are_read_as_they_stand(tmp_path: Path, trap: str, expected: list[str]) -> None:
    path = written(tmp_path, trap)
    assert values(path, texts=["rlnValue"]).texts["rlnValue"].strings().tolist() == expected


def test_text_after_many_numbers_stays_text(tmp_path: Path) -> None:
    column = values(written(tmp_path, "numbers first, text much later"), texts=["rlnValue"]).texts["rlnValue"]
    assert len(column) == 60_001
    assert column.strings()[[0, 59_999, 60_000]].tolist() == ["0", "59999", "007x"]


def test_numbers_keep_all_their_digits(tmp_path: Path) -> None:
    assert values(written(tmp_path, "tiny numbers"), floats=["rlnValue"]).floats["rlnValue"].tolist() == [
        1.234567e-08,
        1e-06,
    ]
    assert values(written(tmp_path, "many digits"), floats=["rlnValue"]).floats["rlnValue"].tolist() == [
        1234.123456789,
        1.2345678e12,
    ]


@pytest.mark.parametrize("trap", ["nan", "inf"])
def test_what_is_not_finite_is_an_error_only_where_it_is_needed(tmp_path: Path, trap: str) -> None:
    path = written(tmp_path, trap)
    assert values(path, floats=["rlnLast"]).floats["rlnLast"].tolist() == [1, 1]
    with pytest.raises(InputError, match=f"line 7, column rlnValue: '{trap}' is not a number"):
        values(path, floats=["rlnValue"])


def test_blocks_around_an_empty_loop_are_all_found(tmp_path: Path) -> None:
    star = open_star(written(tmp_path, "empty loop before a version tag"))
    assert [(t.block, t.n_rows, t.version) for t in star.tables] == [("x", 0, ""), ("particles", 2, "30001")]
    star = open_star(written(tmp_path, "empty loop of one column"))
    assert [(t.block, t.n_rows) for t in star.tables] == [("x", 0), ("particles", 2)]
    star = open_star(written(tmp_path, "empty loop last"))
    assert [(t.block, t.n_rows) for t in star.tables] == [("particles", 2), ("x", 0)]


def test_a_list_with_comment_and_apostrophe_is_read(tmp_path: Path) -> None:
    assert open_star(written(tmp_path, "list with comment and apostrophe")).value("rlnOwner") == "O'Brien"


def test_one_column_of_names_that_start_with_data(tmp_path: Path) -> None:
    """In a table of one column only a blank line (or comment) tells a block from a row."""
    path = tmp_path / "in.star"
    text = "data_\nloop_\n_rlnMicrographName\ndata_1.mrc\nm.mrc\ndata_2.mrc\n\ndata_next\nloop_\n_x\n1\n"
    path.write_text(text)
    star = open_star(path)
    assert [(t.block, t.n_rows) for t in star.tables] == [("", 3), ("next", 1)]
    column = read_columns(star, star.tables[0], texts=["rlnMicrographName"]).texts["rlnMicrographName"]
    assert column.strings().tolist() == ["data_1.mrc", "m.mrc", "data_2.mrc"]


def test_no_version_tag_is_added_to_a_30_file(tmp_path: Path) -> None:
    """RELION would then refuse to convert it."""
    path = written(tmp_path, "truth values")
    write_subset(path, np.array([True, False]), tmp_path / "out.star", {"score": np.array([1.0, 2.0])})
    assert b"version" not in (tmp_path / "out.star").read_bytes()


@pytest.mark.parametrize("content", [b"", b"# RELION; version 3.0\n", b"\n \n"])
def test_files_without_any_block(tmp_path: Path, content: bytes) -> None:
    """relion_autopick writes zero bytes for a micrograph without picks."""
    path = tmp_path / "in.star"
    path.write_bytes(content)
    assert open_star(path).tables == ()
    with pytest.raises(InputError, match="is empty: no table is in it"):
        write_subset(path, np.zeros(0, bool), tmp_path / "out.star")
    assert not (tmp_path / "out.star").exists()
