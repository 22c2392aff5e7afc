"""Matching two sets of picks."""

from __future__ import annotations

import numpy as np
import pytest

from napari_pickbias.errors import InputError
from napari_pickbias.jobs.compare_picks import PickPlaces, compare_picks


def places(names: tuple[str, ...], *picks: tuple[int, float, float]) -> PickPlaces:
    table = np.array(picks, float).reshape(-1, 3)
    return PickPlaces(table[:, 0].astype(int), table[:, 1:], names)


def test_picks_meet_within_the_distance_on_micrographs_of_one_name() -> None:
    a = places(("job1/a.mrc", "job1/b.mrc"), (0, 10, 10), (0, 50, 50), (1, 10, 10))
    b = places(("x/b_c.mrc", "x/a.tif"), (0, 10, 10), (1, 13, 14), (1, 90, 90))
    found = compare_picks(a, b, 5.5)
    assert found.matched.tolist() == [True, False, False]
    assert found.only_b == 2
    assert found.shared_micrographs == 1
    assert not compare_picks(a, b, 4.9).matched.any()


def test_each_pick_serves_once_and_as_many_pairs_as_possible_are_made() -> None:
    a = places(("m",), (0, 0, 0), (0, 4, 0))
    b = places(("m",), (0, 3, 0), (0, 7, 0))  # the nearest of both is the first, but both can have a partner
    assert compare_picks(a, b, 3.5).matched.tolist() == [True, True]
    assert compare_picks(a, places(("m",), (0, 2, 0)), 3.0).matched.sum() == 1
    assert compare_picks(a, places(("m",)), 3.0)[1:] == (0, 1)


def test_sets_of_other_micrographs_are_refused() -> None:
    with pytest.raises(InputError, match="compare: the two sets have no micrograph in common"):
        compare_picks(places(("a",), (0, 1, 1)), places(("b",), (0, 1, 1)), 9)
