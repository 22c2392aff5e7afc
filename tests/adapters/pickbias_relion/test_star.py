"""The index of a STAR file: its blocks, labels and rows; what is refused, what is noted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import starfile
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_pickbias.errors import InputError
from pickbias_relion import star_scan
from pickbias_relion.star import open_star, version_number
from pickbias_relion.star_columns import read_columns
from pickbias_relion.star_subset import write_subset

OPTICS = (
    "\n# version 30001\n\ndata_optics\n\nloop_ \n_rlnOpticsGroup #1 \n_rlnVoltage #2 \n           1   300.000000 \n \n"
)
PARTICLES = (
    "\n# version 30001\n\ndata_particles\n\nloop_ \n_rlnImageName #1 \n_rlnCoordinateX #2 \n_rlnOpticsGroup #3 \n"
    "000001@a.mrcs    10.500000            1 \n000002@a.mrcs    20.500000            1 \n \n"
)


def star_file(folder: Path, text: str | bytes, name: str = "f.star") -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        open_star(path).rows()
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    return message.removeprefix(f"{path}: ")


def test_a_relion_31_file(tmp_path: Path) -> None:
    star = open_star(star_file(tmp_path, OPTICS + PARTICLES))
    optics, particles = star.tables
    assert (optics.name, optics.labels, optics.n_rows) == ("data_optics", ("rlnOpticsGroup", "rlnVoltage"), 1)
    assert (particles.block, particles.n_rows, particles.version) == ("particles", 2, "30001")
    assert version_number(particles) == 30001
    assert particles.line == 14
    assert particles.rows_line == 20
    assert star.rows() is particles
    assert star.find("particles") is particles
    assert star.find("micrographs") is None
    assert star.notes == ()


def test_lists_of_keys_and_values(tmp_path: Path) -> None:
    text = (
        '# version 50001\n\ndata_\n\n_rlnTomoParticlesFile   Extract/run 1.star\n_rlnTomoTrajectoriesFile  ""\n'
        "_rlnComment 'two words' # said so\n_rlnOwner O'Brien\n_rlnNothing\n_rlnOdd \"never closed\n"
    )
    star = open_star(star_file(tmp_path, text))
    assert len(star.tables) == 1
    assert not star.tables[0].is_loop
    assert star.value("rlnTomoParticlesFile") == "Extract/run"  # one value, as RELION reads it
    assert star.value("rlnTomoTrajectoriesFile") == ""
    assert star.value("rlnComment") == "two words"
    assert star.value("rlnOwner") == "O'Brien"
    assert star.value("rlnNothing") == ""
    assert star.value("rlnOdd") == '"never'
    assert star.value("rlnAbsent") is None
    assert star.value("rlnOwner", ["general"]) is None


def test_a_list_and_a_loop_in_one_block(tmp_path: Path) -> None:
    star = open_star(star_file(tmp_path, "data_fsc\n_rlnRes 3.2\nloop_\n_rlnX #1\n_rlnY #2\n1 2\n"))
    assert [(t.block, t.is_loop, t.n_rows) for t in star.tables] == [("fsc", False, 0), ("fsc", True, 1)]
    assert star.find("fsc", loop=True) is star.tables[1]
    assert star.notes == ()


def test_rows_are_found_by_their_labels_whatever_the_block_is_called(tmp_path: Path) -> None:
    def chosen(*blocks: tuple[str, str]) -> str:
        text = "".join(f"data_{block}\nloop_\n_{label} #1\n_rlnY #2\nv 1\n\n" for block, label in blocks)
        return open_star(star_file(tmp_path, text)).rows().block

    assert chosen(("optics", "rlnOpticsGroup"), ("images", "rlnImageName")) == "images"
    assert chosen(("micrographs", "rlnMicrographName"), ("x", "rlnImageName")) == "x"
    assert chosen(("optics", "rlnOpticsGroup"), ("", "rlnCoordinateX")) == ""
    assert chosen(("a", "rlnMicrographName"), ("b", "rlnTomoParticleName")) == "b"
    assert chosen(("movies", "rlnMicrographMovieName")) == "movies"
    assert chosen(("p", "rlnImageName"), ("p", "rlnImageName"), ("q", "rlnImageName")) == "p"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "is a Git LFS pointer, not the STAR"),
        (b"\xff\xfed\x00a\x00", "is UTF-16 text, which RELION cannot read; save it as plain (UTF-8) text"),
        (b"data_\n\x00\x00", "is a binary file, not a STAR file; give the .star file that goes with it"),
        (b"data_\rloop_\r_x\r1\r", "has line ends of old Macintosh files (CR), which RELION cannot read; convert it"),
        (b"data_\n\n", "is empty: no table is in it; give a STAR file with particles"),
        (b"12\t13\n", "line 1 is neither a comment nor a data_ block, so this is no STAR file; give a .star file"),
        (b"# c\n\nloop_\n_rlnX\n", "line 3 is neither a comment nor a data_ block"),
        (b"data_p\nloop_\n1 2 3\n", "line 3 is a row of a loop that has no column labels; the file is damaged"),
        (b"", "is empty: no table is in it; give a STAR file with particles"),
        (b"# nothing\n", "is empty: no table is in it; give a STAR file with particles"),
        (
            b"data_a\nloop_\n_x #1\n1\n",
            "none of its blocks (data_a) lists particles, picks or micrographs; give a STAR",
        ),
    ],
)
def test_what_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    assert refusal(star_file(tmp_path, content)).startswith(reason)


def test_unreadable_files(tmp_path: Path) -> None:
    assert refusal(tmp_path / "absent.star") == (
        "cannot be read: No such file or directory; check the path and its permissions"
    )
    assert refusal(tmp_path).startswith("cannot be read: Is a directory")


@pytest.mark.parametrize(
    ("text", "note"),
    [
        (
            "data_p\nloop_\n_x #1\n_y #2\n1 2\n\n3 4\n",
            "data_p has a blank line inside its rows (line 6); RELION stops there and sees only 1 of 2 rows",
        ),
        (
            "data_p\nloop_\n_x #1\n_y #2\n1 2\n# c\n3 4\n",
            "data_p has a comment between its rows (line 6), which RELION refuses",
        ),
        (
            "data_p\nloop_\n_rlnDefocusU#1\n_y #2\n1 2\n",
            "line 3 has no blank before '#'; RELION reads that label as rlnDefocus",
        ),
        (
            "data_p\r\nloop_\r\n_x #1\r\n1\r\n",
            "has CR+LF line ends, which RELION refuses; convert it with dos2unix",
        ),
        (
            "data_p\nloop_\n_x #1\n1\n\ndata_p\nloop_\n_x #1\n2\n",
            "data_p stands twice (again in line 6); the first is used, as in RELION",
        ),
        ("data_p\nloop_\n_x #1\n_x #2\n1 2\n", "data_p has the column x twice; the first is used"),
        (
            "data_p\nloop_\n_x #1\n_y #2\n1 2\nloop_\n_z #1\n3\n",
            "data_p has a second loop (line 6); RELION reads the first only",
        ),
        ("data_p\nstray words\nloop_\n_x #1\n1\n", "line 2 stands outside any loop and is ignored, as in RELION"),
    ],
)
def test_what_relion_would_stumble_on_is_noted(tmp_path: Path, text: str, note: str) -> None:
    path = star_file(tmp_path, text)
    (said,) = open_star(path).notes
    assert note in said
    assert said.startswith(str(path))


def test_a_blank_line_after_the_rows_and_comments_before_them_are_not_noted(tmp_path: Path) -> None:
    text = (
        "data_p\n# c\nloop_\n# d\n_x #1\n\n# e\n_y #2\n\n1 2\n3 4\n\n\n# version 30001\n\ndata_q\n\nloop_\n_z #1\n5\n"
    )
    star = open_star(star_file(tmp_path, text))
    assert star.notes == ()
    assert [(t.block, t.n_rows, t.version) for t in star.tables] == [("p", 2, ""), ("q", 1, "30001")]


def test_rows_that_span_many_pieces_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces smaller than a row, and rows enough for several pieces, give the same index."""
    rows = "".join(f"{k:06d}@stack.mrcs {k}.5 # {k}\n" for k in range(3000))
    text = f"data_particles\nloop_\n_rlnImageName\n_rlnX\n{rows}\n# version 30001\n\ndata_optics\nloop_\n_a\n_b\n1 2\n"
    path = star_file(tmp_path, text)
    expected = open_star(path)
    assert [(t.n_rows, t.version) for t in expected.tables] == [(3000, ""), (1, "30001")]
    original = star_scan.line_chunks
    for size in (1 << 10, 17):
        monkeypatch.setattr(
            "pickbias_relion.star_index.line_chunks", lambda s, a, b, size=size: original(s, a, b, size)
        )
        assert open_star(path) == expected


def test_the_gap_is_found_across_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = star_file(tmp_path, "data_p\nloop_\n_x\n_y\n1 2\n3 4\n\n# c\n5 6\n")
    expected = open_star(path).notes
    assert "sees only 2 of 3 rows" in expected[0]
    assert "(line 8)" in expected[1]
    original = star_scan.line_chunks
    monkeypatch.setattr("pickbias_relion.star_index.line_chunks", lambda s, a, b: original(s, a, b, 3))
    assert open_star(path).notes == expected


PIECES = [b"data_", b"data_a", b"loop_", b"_x", b"_rlnImageName", b" #1", b" ", b"\n", b"\r\n", b"\t", b"'", b'"', b"#"]
MORE = [b"1@s", b"\xe9", b"# version 3", b"1.5", b";", b"\n\n"]


@given(
    st.sampled_from([b"", b"data_\nloop_\n_rlnImageName\n", b"data_\nloop_\n_rlnImageName #1\n_x #2\n"]),
    st.lists(st.sampled_from(PIECES + MORE), max_size=40).map(b"".join),
)
@settings(deadline=None, derandomize=True, max_examples=300)
def test_whatever_the_text_the_answer_is_a_table_or_one_fault(
    tmp_path_factory: pytest.TempPathFactory, head: bytes, text: bytes
) -> None:
    """Nonsense never ends in another exception, and what is accepted is copied byte for byte."""
    path = star_file(tmp_path_factory.mktemp("n"), head + text)
    try:
        table = open_star(path).rows()
        columns = read_columns(open_star(path), table, texts=list(dict.fromkeys(table.labels)))
        write_subset(path, np.ones(table.n_rows, bool), path.with_name("copy.star"))
    except InputError:
        return
    assert all(len(column) == table.n_rows for column in columns.texts.values())
    assert path.with_name("copy.star").read_bytes() == head + text


def test_many_small_blocks_cost_time_in_proportion(tmp_path: Path) -> None:
    """RELION's motion.star has one block per particle: each must not cost a look at the rest of the file."""
    block = "data_{}\n\nloop_\n_rlnOriginXAngst #1\n_rlnOriginYAngst #2\n1 2\n3 4\n\n"
    path = star_file(tmp_path, "".join(block.format(k) for k in range(3000)))
    looked_at = 0
    original = star_scan.line_heads

    def counting(text: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        nonlocal looked_at
        looked_at += len(text)
        return original(text)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pickbias_relion.star_index.line_heads", counting)
        star = open_star(path)
    assert [t.n_rows for t in star.tables] == [2] * 3000
    assert looked_at < 3000 * 40_000


# -- real files of many programs -------------------------------------------------------------------------------------

ODD = {
    "star/edge/cryosparc-tools__job096_run_data.star": "is a Git LFS pointer, not the STAR file itself; "
    "fetch it with `git lfs pull`",
    "star/edge/ASPIRE-Python__sample.star": "none of its blocks (data_general, data_planetary, data_planetary) lists",
    "star/edge/starfile__basic_single_quote.star": "none of its blocks (data_) lists",
    "star/edge/starfile__loop_double_quote.star": "none of its blocks (data_) lists",
    "star/fsc_mtf/relion__mtf_falcon4EC_300kV.star": "none of its blocks (data_) lists",
    "star/fsc_mtf/starfile__postprocess.star": "none of its blocks (data_general, data_fsc, data_guinier) lists",
    "star/jobs/himena-relion__no_input.star": "none of its blocks (data_pipeline_general, ",
    "star/jobs/relion__job.star": "none of its blocks (data_job, data_joboptions_values) lists",
    "star/jobs/starfile__default_pipeline.star": "none of its blocks (data_pipeline_general, ",
    "star/jobs/starfile__run_it025_optimiser_2D.star": "none of its blocks (data_optimiser_general) lists",
    "star/jobs/starfile__run_it025_sampling_2D.star": "none of its blocks (data_sampling_general) lists",
    "star/other/cryoet-data-portal-backend__stopgap_star.star": "none of its blocks (data_stopgap_motivelist) lists",
    "star/tomo5/cylindra__run_it025_optimisation_set.star": "none of its blocks (data_) lists",
    "star/tomo5/pytom-match-pick__tomograms.star": "none of its blocks (data_global) lists",
    "aspire-python/sample_data_model.star": "none of its blocks (data_model_general, ",
    "micrographs/betagal_10017/refine_model_relion1.star": "none of its blocks (data_model_general, ",
    "particles/betagal_10204/Class2D/job010/run_it025_model.star": "none of its blocks (data_model_general, ",
    "particles/betagal_10204/Class2D/job010/run_it025_optimiser.star": "none of its blocks (data_optimiser_general)",
}
"""Real files without particles, picks or micrographs, and the reason that a user reads."""


@pytest.mark.parametrize("name", ODD)
def test_odd_real_files_are_refused_in_one_line(data_dir: Path, name: str) -> None:
    assert refusal(data_dir / name).startswith(ODD[name])


def test_all_other_real_files_open_and_every_row_has_its_values(data_dir: Path) -> None:
    paths = [p for p in sorted(data_dir.rglob("*.star")) if str(p.relative_to(data_dir)) not in ODD]
    assert len(paths) > 100
    for path in paths:
        star = open_star(path)
        table = star.rows()
        column = read_columns(star, table, texts=[table.labels[-1]]).texts[table.labels[-1]]
        assert len(column) == table.n_rows, path
        crlf = b"\r\n" in path.read_bytes()
        assert [note for note in star.notes if "CR+LF" not in note] == [], path
        assert bool(star.notes) == crlf, path


RAGGED = {
    "star/edge/ASPIRE-Python__sample.star": ("planetary", "line 20 has 5 values for the 4 labels of data_planetary"),
    "star/jobs/himena-relion__no_input.star": (
        "pipeline_nodes",
        "line 28 has 2 values for the 3 labels of data_pipeline_nodes",
    ),
}


@pytest.mark.parametrize("name", RAGGED)
def test_ragged_real_files_name_the_line(data_dir: Path, name: str) -> None:
    block, reason = RAGGED[name]
    star = open_star(data_dir / name)
    table = star.find(block)
    assert table is not None
    with pytest.raises(InputError) as caught:
        read_columns(star, table, texts=[table.labels[0]])
    assert reason in str(caught.value)


def test_starfile_reads_the_same_tables(data_dir: Path) -> None:
    """An independent reader, on the real files that it can read (it fails on the others)."""
    compared = 0
    for path in sorted([*data_dir.glob("star/**/*.star"), *data_dir.glob("particles/**/*.star")]):
        try:
            frames = starfile.read(path, always_dict=True)
        except Exception:  # it has no error class of its own
            continue
        if not frames:
            continue
        star = open_star(path)
        assert list(frames) == [t.block for t in star.tables], path
        for (block, frame), table in zip(frames.items(), star.tables, strict=True):
            if not table.is_loop:
                assert list(frame) == list(table.labels), (path, block)
                continue
            assert list(frame.columns) == list(table.labels), (path, block)
            assert len(frame) == table.n_rows, (path, block)
            numbers = [x for x in table.labels if table.n_rows and frame[x].dtype.kind == "f"]
            numeric = [x for x in numbers if np.isfinite(frame[x]).all()]
            texts = [label for label in table.labels if table.n_rows and frame[label].dtype.kind not in "fib"]
            columns = read_columns(star, table, floats=numeric, texts=texts)
            for label in numeric:
                np.testing.assert_array_equal(columns.floats[label], frame[label].to_numpy())
            for label in texts:
                mine = columns.texts[label].strings()
                theirs = frame[label].to_numpy(dtype=object)
                same = [a == b for a, b in zip(mine.tolist(), theirs.tolist(), strict=True) if isinstance(b, str)]
                assert all(same), (path, label)
            compared += 1
    assert compared > 100
