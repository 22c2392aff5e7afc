"""Choosing among picks, without Qt or napari."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_pickbias.errors import InputError
from napari_pickbias.gui import curation as curating
from napari_pickbias.gui import curation_files
from napari_pickbias.gui.curation import Curation
from napari_pickbias.records.pick_tables import PickTable, open_picks

SCORES = np.array([3.0, 9.0, -999.0, 5.0, 7.0, 1.0])


@pytest.fixture
def curation() -> Curation:
    features = pd.DataFrame({"size": [1, 2, 3, 4, 5, 6], "score": SCORES, "same": 1.0, "name": list("abcdef")})
    table = PickTable(features, micrograph=np.array([0, 0, 0, 2, 2, 2]), micrograph_names=("a", "b", "c"))
    return Curation(table)


def test_a_range_keeps_what_lies_within_and_what_has_no_value_is_outside(curation: Curation) -> None:
    assert curation.keep.all()
    assert curation.set_range("score", (3.0, 7.0))
    assert curation.keep.tolist() == [True, False, False, True, True, False]
    assert not curation.set_range("score", (3.0, 7.0))
    curation.set_range("size", (1, 4))
    assert curation.keep.tolist() == [True, False, False, True, False, False]
    # The whole extent is no range: then even what has no value is kept.
    curation.set_range("score", (0.0, 100.0))
    assert curation.keep.tolist() == [True, True, True, True, False, False]


def test_a_decision_by_hand_counts_more_than_a_range(curation: Curation) -> None:
    curation.set_range("score", (5.0, 9.0))
    curation.decide(np.array([5]), "kept")
    curation.decide(np.array([1]), "rejected")
    assert curation.keep.tolist() == [False, False, False, True, True, True]
    curation.decide(np.array([1, 5]), "undecided")
    assert curation.keep.tolist() == [False, True, False, True, True, False]
    assert not curation.decide(np.array([1, 5]), "undecided")


def test_verdicts_of_a_job_are_where_it_starts() -> None:
    table = PickTable(pd.DataFrame({"score": SCORES}))
    columns = pd.DataFrame({"reason": pd.Categorical(list("xyxyxy")), "score": SCORES + 1})
    curation = Curation(table, columns, SCORES < 4)
    assert curation.keep.tolist() == [False, True, False, True, True, False]
    assert curation.features["score"].tolist() == (SCORES + 1).tolist()
    assert not curation.can_undo


def test_columns_offered_are_numbers_that_differ_and_scores_come_first(curation: Curation) -> None:
    assert curation.numeric_columns() == ["score", "size"]
    assert curation.extent("score") == (1.0, 9.0)


@pytest.mark.parametrize(
    ("how", "chosen"),
    [
        ("all", [0, 1, 2, 3, 4, 5]),
        ("none", []),
        ("above", [1, 4]),
        ("below", [0, 5]),
        ("kept", [0, 1, 2, 3, 4]),
        ("rejected", [5]),
    ],
)
def test_ways_to_select(curation: Curation, how: str, chosen: list[int]) -> None:
    curation.decide(np.array([5]), "rejected")
    curation.select(how, "score", 5.0)
    assert np.flatnonzero(curation.selected).tolist() == chosen
    curation.select("invert")
    assert np.flatnonzero(~curation.selected).tolist() == chosen


def test_counts_name_every_micrograph(curation: Curation) -> None:
    curation.decide(np.array([0, 3, 4, 5]), "rejected")
    curation.flag(1)
    assert curation.counts().to_dict("list") == {
        "name": ["a", "b", "c"],
        "picks": [3, 0, 3],
        "kept": [2, 0, 0],
        "flag": [False, True, False],
    }


def test_orders(curation: Curation) -> None:
    assert curation.order("score").tolist() == [5, 0, 3, 4, 1, 2]
    assert curation.order("score", descending=True).tolist() == [1, 4, 3, 0, 5, 2]
    assert sorted(curation.order("", seed=3).tolist()) == list(range(6))
    assert curation.order("name").tolist() == list(range(6))


def test_a_handle_that_is_dragged_is_one_step(curation: Curation) -> None:
    for low in (2.0, 3.0, 4.0, 5.0):
        curation.set_range("score", (low, 9.0))
    assert curation.undo() == "range of score"
    assert curation.ranges == {}
    assert not curation.can_undo
    assert curation.redo() == "range of score"
    assert curation.ranges == {"score": (5.0, 9.0)}


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("decide"), st.sets(st.integers(0, 5)), st.sampled_from(["kept", "rejected", "undecided"])),
        st.tuples(st.just("range"), st.sampled_from(["score", "size"]), st.integers(0, 9), st.integers(0, 9)),
        st.tuples(st.just("undo")),
        st.tuples(st.just("redo")),
    ),
    max_size=25,
)


@given(STEPS)
@settings(deadline=None, derandomize=True, max_examples=60)
def test_undo_takes_everything_back_and_redo_does_it_again(steps: list[tuple]) -> None:
    curation = Curation(PickTable(pd.DataFrame({"size": [1, 2, 3, 4, 5, 6], "score": SCORES})))
    for step in steps:
        if step[0] == "decide":
            curation.decide(np.array(sorted(step[1]), np.int64), step[2])
        elif step[0] == "range":
            curation.set_range(step[1], (min(step[2:]), max(step[2:])))
        else:
            getattr(curation, step[0])()
    after = curation.keep.copy(), dict(curation.ranges), curation.by_hand.copy()
    number = 0
    while curation.undo():
        number += 1
    assert curation.keep.all()
    assert curation.ranges == {}
    while number:
        assert curation.redo()
        number -= 1
    assert curation.keep.tolist() == after[0].tolist()
    assert curation.ranges == after[1]
    assert curation.by_hand.tolist() == after[2].tolist()


def test_the_history_is_bounded(curation: Curation) -> None:
    for k in range(curating.MOST_STEPS + 50):
        curation.toggle(k % 6)
    number = 0
    while curation.undo():
        number += 1
    assert number == curating.MOST_STEPS


def test_a_snapshot_stays_as_it_was(curation: Curation) -> None:
    curation.set_range("score", (4.0, 9.0))
    frozen = curation.snapshot()
    before = frozen.keep.tolist()
    curation.decide(np.array([1]), "rejected")
    curation.set_range("score", None)
    assert frozen.keep.tolist() == before
    assert frozen.ranges == {"score": (4.0, 9.0)}


# -- saving --------------------------------------------------------------------------------------------------------


def rows_of(path: Path) -> list[str]:
    return [line for line in path.read_text().splitlines() if line.startswith("mics/")]


def test_saved_rows_stand_as_they_stood_and_the_choice_can_be_made_again(pick_files) -> None:
    source = open_picks(pick_files.star)
    curation = Curation(source.read())
    curation.set_range("rlnAutopickFigureOfMerit", (6.0, 20.0))
    curation.decide(np.array([0]), "kept")
    curation.decide(np.array([1]), "rejected")
    target = pick_files.star.with_name("good.star")
    saved = curation_files.save(curation, source, target)
    expected = pick_files.score >= 6
    expected[:2] = [True, False]
    lines = rows_of(pick_files.star)
    assert rows_of(target) == [line for line, kept in zip(lines, expected, strict=True) if kept]
    assert rows_of(saved.rejected) == [line for line, kept in zip(lines, expected, strict=True) if not kept]
    head = pick_files.star.read_text().split("mics/")[0]
    assert target.read_text().startswith(head)

    described = json.loads(saved.decisions.read_text())
    assert described["source"] == {
        "path": str(pick_files.star),
        "bytes": pick_files.star.stat().st_size,
        "rows": len(lines),
    }
    assert described["kept"] == expected.sum()
    again = Curation(source.read())
    again.decide(np.array([7]), "kept")
    again.set_range("rlnCoordinateX", (50, 60))
    assert curation_files.load(again, saved.decisions) == []
    assert again.keep.tolist() == expected.tolist()
    with pytest.raises(InputError, match=r"good.star: is there already; choose another name, or tick “replace”"):
        curation_files.save(again, source, target)
    assert curation_files.save(again, source, target, overwrite=True).kept == target


def test_what_cannot_be_saved_is_told(pick_files) -> None:
    source = open_picks(pick_files.star)
    curation = Curation(source.read())
    with pytest.raises(InputError, match=r"picks.star: is the file that is curated, which is never overwritten"):
        curation_files.save(curation, source, pick_files.star, overwrite=True)
    curation.decide(np.ones(len(curation), bool), "rejected")
    with pytest.raises(InputError, match="nothing is kept, so nothing is written; loosen the ranges"):
        curation_files.save(curation, source, pick_files.star.with_name("none.star"))
    assert sorted(p.name for p in pick_files.star.parent.iterdir()) == ["mics", "picks.star"]


def test_all_kept_leaves_no_file_of_rejected_ones(pick_files) -> None:
    source = open_picks(pick_files.star)
    curation = Curation(source.read())
    target = pick_files.star.with_name("all.star")
    curation.decide(np.array([3]), "rejected")
    others = curation_files.save(curation, source, target).rejected
    curation.undo()
    assert curation_files.save(curation, source, target, overwrite=True).rejected is None
    assert not others.exists()
    assert rows_of(target) == rows_of(pick_files.star)


def test_decisions_of_other_rows_are_refused(curation: Curation, tmp_path: Path) -> None:
    path = tmp_path / "x_curation.json"
    with pytest.raises(InputError, match=r"cannot be read .No such file or directory.; check the path"):
        curation_files.load(curation, path)
    path.write_text("[]")
    with pytest.raises(InputError, match="is no saved curation; give a file that “Save” wrote"):
        curation_files.load(curation, path)
    path.write_text(json.dumps({"source": {"rows": 7, "path": "a.star"}, "ranges": {}, "rows_by_hand": {}}))
    with pytest.raises(InputError, match=r"is of 7 rows, but 6 are open; open the file it was made of: a.star"):
        curation_files.load(curation, path)
    path.write_text(json.dumps({"source": {"rows": 6}, "ranges": {"gone": [1, 2]}, "rows_by_hand": {"kept": [1]}}))
    assert curation_files.load(curation, path) == ["column gone is not here; its range is left out"]


def test_moved_and_added_picks_are_saved_and_taken_up_again(pick_files) -> None:
    """Save, reload the decisions, and reopen what was saved: the same picks at the same places every time."""
    source = open_picks(pick_files.star)
    curation = Curation(source.read())
    curation.set_range("rlnAutopickFigureOfMerit", (6.0, 99.0))
    curation.add(np.array([3, 0]), np.array([[11.5, 12.0], [13.0, 14.0]]))
    curation.move(np.array([1, 2]), np.array([[21.0, 22.5], [23.0, 24.0]]))
    curation.decide(np.array([80]), "rejected")
    assert curation.keep[1]
    assert not curation.keep[2]
    assert curation.snapshot().keep.tolist() == curation.keep.tolist()
    saved = curation_files.save(curation, source, pick_files.star.with_name("mine.star"))
    assert saved.edited == (
        "2 moved picks have their new coordinates; 2 added picks have rows of their own, with what the picks of their "
        "micrograph share and “not measured” in the other columns."
    )
    for path, wanted in ((saved.kept, curation.keep), (saved.rejected, ~curation.keep)):
        table = open_picks(path).read()
        names = [table.micrograph_names[k] for k in table.micrograph]
        assert np.allclose(table.coordinates_px, curation.coordinates_px[wanted])
        assert names == [f"mics/m{k}.mrc" for k in curation.micrograph[wanted]]
        assert set(table.features.columns) == set(source.read().features.columns)
    again = Curation(source.read())
    again.add(np.array([1]), np.array([[1.0, 1.0]]))  # what was done before is replaced
    again.move(np.array([7]), np.array([[1.0, 1.0]]))
    assert curation_files.load(again, saved.decisions) == []
    assert again.keep.tolist() == curation.keep.tolist()
    assert np.array_equal(again.coordinates_px, curation.coordinates_px)
    assert np.array_equal(again.micrograph, curation.micrograph)


def test_decisions_about_places_that_do_not_fit_are_refused(pick_files, particle_files, tmp_path) -> None:
    source = open_picks(pick_files.star)
    curation = Curation(source.read())
    found = curation_files.description(curation, source)
    path = tmp_path / "x_curation.json"
    path.write_text(json.dumps(found | {"added": [["gone.mrc", 1, 2]]}))
    with pytest.raises(InputError, match=r"has a pick on gone.mrc, which is no micrograph of the open file"):
        curation_files.load(curation, path)
    path.write_text(json.dumps(found | {"moved": [[80, 1, 2]]}))
    with pytest.raises(InputError, match="is no saved curation"):
        curation_files.load(curation, path)
    particles = Curation(open_picks(particle_files.star).read())
    path.write_text(json.dumps(found | {"source": {"rows": 400}, "moved": [[8, 1, 2]]}))
    with pytest.raises(InputError, match="has picks moved or added by hand, but the file lists extracted particles"):
        curation_files.load(particles, path)


@settings(deadline=None, derandomize=True, max_examples=25)
@given(st.lists(st.sampled_from(["add", "move", "reject", "range", "undo", "redo"]), max_size=14), st.integers(0, 9))
def test_undoing_everything_gives_the_file_back(steps: list[str], seed: int) -> None:
    rng = np.random.default_rng(seed)
    features = pd.DataFrame({"score": rng.normal(size=9), "n": np.arange(9), "x": np.arange(9.0), "y": np.arange(9.0)})
    xy = np.stack([np.arange(9.0)] * 2, axis=1)
    table = PickTable(features, xy, np.arange(9) // 3, ("a", "b", "c"), (None,) * 3, coordinate_columns=("x", "y"))
    curation = Curation(table)
    states = []
    for step in steps:
        if step == "add":
            curation.add(rng.integers(0, 3, 2), rng.uniform(0, 9, (2, 2)))
        elif step == "move":
            curation.move(rng.integers(0, len(curation), 1), rng.uniform(0, 9, (1, 2)))
        elif step == "reject":
            curation.decide(rng.integers(0, len(curation), 1), "rejected")
        elif step == "range":
            curation.set_range("score", (float(rng.uniform(-1, 0)), 9.0))
        else:
            (curation.undo if step == "undo" else curation.redo)()
        lengths = {len(curation), len(curation.features), len(curation.coordinates_px), len(curation.micrograph)}
        assert lengths == {len(curation.keep)}
        assert curation.features["x"].tolist() == curation.coordinates_px[:, 0].tolist()
    states = [curation.keep.tolist(), curation.coordinates_px.tolist()]
    count = 0
    while curation.undo():
        count += 1
    assert curation.coordinates_px.tolist() == xy.tolist()
    assert curation.keep.all()
    pd.testing.assert_frame_equal(curation.features, features)
    for _ in range(count):
        curation.redo()
    assert states[1] == curation.coordinates_px.tolist()


def test_flags_choose_micrographs_and_are_saved(pick_files) -> None:
    source = open_picks(pick_files.star)
    curation = Curation(source.read())
    curation.flag(1)
    curation.flag(3)
    curation.flag(1)
    curation.select("flagged")
    assert curation.selected.tolist() == (pick_files.micrograph == 3).tolist()
    saved = curation_files.save(curation, source, pick_files.star.with_name("mine.star"))
    again = Curation(source.read())
    again.flag(0)
    curation_files.load(again, saved.decisions)
    assert again.flagged.tolist() == [False, False, False, True]
