"""The output directory: claimed once, resumable, never half-written, never destroying what is not ours."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from napari_pickbias.errors import InputError
from napari_pickbias.records.atomic import atomic_path, write_text
from napari_pickbias.runs.directory import STATE, claim, describe_inputs, fingerprint

PARAMETERS = {"radius": 80.0, "seed": 0}


def test_existing_directory_is_refused_without_a_flag(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(InputError) as fault, claim(tmp_path, "t", PARAMETERS, []):
        pass
    assert str(fault.value) == (
        f"--out {tmp_path}: exists already and is not empty; give another folder, --overwrite to replace that run, or "
        "--resume to go on with it"
    )


def test_a_file_is_no_directory(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_text("x")
    with pytest.raises(InputError, match=r"--out .*file: is a file; give a folder"), claim(target, "t", {}, []):
        pass


def test_an_empty_directory_is_taken(tmp_path: Path) -> None:
    with claim(tmp_path, "t", PARAMETERS, []) as run:
        assert run.path == tmp_path
        assert not run.resumed


def test_overwrite_removes_our_files_and_no_others(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with claim(out, "t", PARAMETERS, []) as run:
        (out / "kept.star").write_text("old")
        run.record_outputs([out / "kept.star"])
    (out / "mine.txt").write_text("keep me")
    with claim(out, "t", PARAMETERS, [], overwrite=True):
        assert not (out / "kept.star").exists()
    assert (out / "mine.txt").read_text() == "keep me"


def test_overwrite_never_leaves_the_directory(tmp_path: Path) -> None:
    out = tmp_path / "out"
    victim = tmp_path / "victim.txt"
    victim.write_text("keep me")
    with claim(out, "t", PARAMETERS, []):
        pass
    (out / STATE / "outputs.json").write_text('["../victim.txt"]')
    with claim(out, "t", PARAMETERS, [], overwrite=True):
        pass
    assert victim.exists()


def test_resume_gives_back_finished_pieces(tmp_path: Path) -> None:
    piece = {"a": np.arange(5), "b": np.array([np.nan, 1.5])}
    with pytest.raises(KeyboardInterrupt), claim(tmp_path / "out", "t", PARAMETERS, []) as run:
        run.save("scores_000", piece)
        raise KeyboardInterrupt
    with claim(tmp_path / "out", "t", PARAMETERS, [], resume=True) as run:
        assert run.resumed
        found = run.load("scores_000")
        assert found is not None
        np.testing.assert_array_equal(found["a"], piece["a"])
        np.testing.assert_array_equal(found["b"], piece["b"])
        assert run.load("scores_001") is None


def test_a_damaged_piece_counts_as_not_finished(tmp_path: Path) -> None:
    with claim(tmp_path / "out", "t", PARAMETERS, []) as run:
        run.save("scores_000", {"a": np.arange(5)})
        path = tmp_path / "out" / STATE / "scores_000.npz"
        path.write_bytes(path.read_bytes()[:40])
        assert run.load("scores_000") is None


def test_resume_with_other_parameters_is_refused_and_names_them(tmp_path: Path) -> None:
    with claim(tmp_path / "out", "t", PARAMETERS, []):
        pass
    with (
        pytest.raises(InputError) as fault,
        claim(tmp_path / "out", "t", {"radius": 90.0, "seed": 0}, [], resume=True),
    ):
        pass
    assert str(fault.value) == (
        f"--resume: {tmp_path / 'out'} was begun with radius = 80.0 (now 90.0); run with the same or give --overwrite"
    )


def test_resume_with_changed_inputs_is_refused(tmp_path: Path) -> None:
    with claim(tmp_path / "out", "t", PARAMETERS, [{"path": "a", "size": 1}]):
        pass
    with (
        pytest.raises(InputError, match="with other input files, or they changed since"),
        claim(tmp_path / "out", "t", PARAMETERS, [{"path": "a", "size": 2}], resume=True),
    ):
        pass


def test_two_runs_cannot_share_a_directory(tmp_path: Path) -> None:
    with (
        claim(tmp_path / "out", "t", PARAMETERS, []),
        pytest.raises(InputError, match="another run is working there"),
        claim(tmp_path / "out", "t", PARAMETERS, [], resume=True),
    ):
        pass


def test_an_early_fault_leaves_no_directory_behind(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the radius"), claim(tmp_path / "out", "t", PARAMETERS, []):
        raise InputError("the radius is wrong")
    assert not (tmp_path / "out").exists()


def test_an_early_fault_leaves_the_users_files(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(InputError, match="x"), claim(out, "t", PARAMETERS, []):
        (out / "notes.txt").write_text("mine")
        raise InputError("x")
    assert (out / "notes.txt").exists()


def test_a_shared_directory_keeps_files_of_others_and_starts_afresh_with_new_parameters(tmp_path: Path) -> None:
    (tmp_path / "job.star").write_text("relion's")
    with claim(tmp_path, "t", PARAMETERS, [], shared=True) as run:
        run.save("piece", {"a": np.arange(2)})
    with claim(tmp_path, "t", PARAMETERS, [], shared=True) as run:
        assert run.resumed
        assert run.load("piece") is not None
    with claim(tmp_path, "t", {"radius": 1}, [], shared=True) as run:
        assert not run.resumed
        assert run.load("piece") is None
    assert (tmp_path / "job.star").read_text() == "relion's"


def test_finished_is_known_and_pieces_are_dropped(tmp_path: Path) -> None:
    with claim(tmp_path / "out", "t", PARAMETERS, []) as run:
        run.save("piece", {"a": np.arange(2)})
        assert not run.finished
        run.finish()
    with claim(tmp_path / "out", "t", PARAMETERS, [], resume=True) as run:
        assert run.finished
        assert run.load("piece") is None


def test_fingerprint_sees_tool_parameters_and_inputs() -> None:
    same = fingerprint("t", {"a": 1, "b": 2}, [])
    assert same == fingerprint("t", {"b": 2, "a": 1}, [])
    assert len({same, fingerprint("u", {"a": 1, "b": 2}, []), fingerprint("t", {"a": 2}, [])}) == 3


def test_inputs_are_described_with_hash_or_time(tmp_path: Path) -> None:
    file = tmp_path / "a.star"
    file.write_bytes(b"abc")
    entry = describe_inputs([file])[0]
    assert entry["size"] == 3
    assert entry["sha256"] == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    with pytest.raises(InputError, match=r"no\.star: cannot be read: No such file or directory"):
        describe_inputs([tmp_path / "no.star"])


def test_atomic_path_leaves_the_old_file_when_the_block_fails(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    write_text(target, "old")
    with pytest.raises(RuntimeError), atomic_path(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (errno.ENOSPC, "the disk is full; free some space and run again with --resume"),
        (errno.EDQUOT, "the disk quota is used up; free some space and run again with --resume"),
        (errno.EACCES, "writing there is not permitted; choose another folder or change its permissions"),
        (errno.EROFS, "that file system is read-only; choose another folder"),
    ],
)
def test_write_faults_say_what_mends_them(tmp_path: Path, code: int, words: str) -> None:
    target = tmp_path / "a.txt"
    with pytest.raises(InputError) as fault, atomic_path(target):
        raise OSError(code, os.strerror(code))
    assert str(fault.value) == f"{target}: cannot be written: {words}"
    assert list(tmp_path.iterdir()) == []


def test_a_finished_run_whose_file_was_removed_is_not_finished(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with claim(out, "t", PARAMETERS, []) as run:
        (out / "kept.star").write_text("x")
        run.record_outputs([out / "kept.star"])
        run.finish()
    with claim(out, "t", PARAMETERS, [], resume=True) as run:
        assert run.finished
    (out / "kept.star").unlink()
    with claim(out, "t", PARAMETERS, [], resume=True) as run:
        assert not run.finished


def test_overwrite_starts_afresh_in_a_shared_directory_too(tmp_path: Path) -> None:
    with claim(tmp_path, "t", PARAMETERS, [], shared=True) as run:
        run.save("piece", {"a": np.arange(2)})
    with claim(tmp_path, "t", PARAMETERS, [], shared=True, overwrite=True) as run:
        assert run.load("piece") is None


def test_overwrite_and_resume_contradict_each_other(tmp_path: Path) -> None:
    with (
        pytest.raises(InputError, match="--overwrite and --resume: contradict each other; give one of them"),
        claim(tmp_path / "out", "t", PARAMETERS, [], overwrite=True, resume=True),
    ):
        pass
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("flag", ["overwrite", "resume", "shared"])
def test_an_input_is_never_cleared_or_replaced(tmp_path: Path, flag: str) -> None:
    out = tmp_path / "out"
    with claim(out, "simulate", {}, []) as run:
        (out / "particles.mrcs").write_text("made earlier")
        run.record_outputs([out / "particles.mrcs"])
    (out / "kept.star").write_text("a first round")
    link = tmp_path / "link.mrcs"
    link.symlink_to(out / "particles.mrcs")
    for read in (link, out / "kept.star"):
        with (
            pytest.raises(InputError) as fault,
            claim(out, "simulate", {}, [{"path": str(read)}], writes=["kept.star"], **{flag: True}),
        ):
            pass
        if flag != "resume":  # which is refused already, for the inputs are others
            assert str(fault.value) == (
                f"--out {out}: {read} is read by this run and would be removed or replaced there; give another folder"
            )
    assert (out / "particles.mrcs").read_text() == "made earlier"
    assert (out / "kept.star").read_text() == "a first round"
