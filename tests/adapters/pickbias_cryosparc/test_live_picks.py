"""Picks between runs and CryoSPARC's slots, without client and server."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_pickbias.errors import InputError
from pickbias_cryosparc.live_bias import match_picks
from pickbias_cryosparc.live_exposures import Pick, micrograph_rows, pick_rows, read_picks
from pickbias_cryosparc.live_job import slot_spec


class Dataset(dict[str, np.ndarray]):
    """What the client's datasets have and this needs."""

    def fields(self) -> list[str]:
        return list(self)

    def __len__(self) -> int:
        return len(self["uid"])


HEIGHT, WIDTH = 300, 400
EXPOSURES = Dataset(
    {
        "uid": np.array([11, 12], np.uint64),
        "micrograph_blob/path": np.array(["J1/a.mrc", ">J1/b.mrc"], object),
        "micrograph_blob/shape": np.array([[HEIGHT, WIDTH]] * 2, np.uint32),
        "micrograph_blob/psize_A": np.array([1.5, 1.5], np.float32),
        "ctf/exp_group_id": np.array([23, 25], np.uint32),
    }
)


def picks(names: list[str], x: list[float], y: list[float]) -> Pick:
    n = len(names)
    return Pick(
        np.array(names), np.array(x), np.array(y), np.arange(n) + 5.0, np.full(n, 90.0), np.arange(n, dtype=np.int64)
    )


def test_x_counts_columns_and_y_rows() -> None:
    uids, columns = pick_rows(EXPOSURES, picks(["J1/b.mrc", "J1/a.mrc"], [100, 40], [75, 30]), 120.0)
    np.testing.assert_allclose(columns["location/center_x_frac"], [100 / WIDTH, 40 / WIDTH])
    np.testing.assert_allclose(columns["location/center_y_frac"], [75 / HEIGHT, 30 / HEIGHT])
    assert np.asarray(columns["location/micrograph_shape"]).tolist() == [[HEIGHT, WIDTH]] * 2
    assert np.asarray(columns["location/micrograph_uid"]).tolist() == [12, 11]
    assert np.asarray(columns["location/exp_group_id"]).tolist() == [25, 23]
    np.testing.assert_allclose(columns["pick_stats/angle_rad"], np.pi / 2)
    assert set(np.asarray(columns["location/min_dist_A"])) == {120.0}
    again, _ = pick_rows(EXPOSURES, picks(["J1/b.mrc", "J1/a.mrc"], [100, 40], [75, 30]), 120.0)
    np.testing.assert_array_equal(uids, again)
    assert uids.dtype == np.uint64
    assert len(set(uids.tolist())) == 2


def test_micrographs_by_the_name_that_runs_have() -> None:
    assert micrograph_rows(EXPOSURES) == {"J1/a.mrc": 0, "J1/b.mrc": 1}


def test_scored_picks_are_those_that_came_in() -> None:
    """The nearest on the same micrograph, whatever folder and uid prefix its name has."""
    given = Dataset(
        {
            "uid": np.arange(4, dtype=np.uint64),
            "location/micrograph_path": np.array([">S1/a.mrc", "S1/a.mrc", "S1/b_dw.mrc", "S1/a.mrc"], object),
            "location/micrograph_shape": np.array([[HEIGHT, WIDTH]] * 4, np.uint32),
            "location/center_x_frac": np.array([100, 200, 100, 300], np.float32) / WIDTH,
            "location/center_y_frac": np.array([50, 60, 50, 280], np.float32) / HEIGHT,
        }
    )
    scored = picks(["J1/a.mrc", "J1/b.mrc", "J1/a.mrc"], [203, 101, 98], [58, 52, 51])
    assert match_picks(given, scored).tolist() == [1, 2, 0]


def test_slots_as_either_release_takes_them() -> None:
    assert slot_spec("?ctf", 5) == slot_spec("?ctf", 4) == "?ctf"
    assert slot_spec("map:blob", 5) == {"name": "map", "dtype": "blob", "required": True}
    assert slot_spec("?map_half_A:blob", 4) == {"prefix": "map_half_A", "dtype": "blob", "required": False}


def test_picks_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"picks\.star: is missing; run again without --resume"):
        read_picks(tmp_path / "picks.star")
