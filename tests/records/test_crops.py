"""Boxes cut out of micrographs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_pickbias.errors import InputError
from napari_pickbias.records import write_mrc
from napari_pickbias.records.crops import MicrographCrops


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(1).normal(50, 4, (60, 80)).astype(np.float32)


@pytest.fixture
def path(tmp_path: Path, image: np.ndarray) -> Path:
    return write_mrc(tmp_path / "a.mrc", image, 1.0)


def test_a_box_is_centred_on_its_pick(path: Path, image: np.ndarray) -> None:
    crops = MicrographCrops([None, path], np.array([1, 1]), np.array([[40.2, 29.6], [20, 30.0]]), 12)
    boxes = crops.read(np.array([1, 0]))
    for box, (x, y) in zip(boxes, [(20, 30), (40, 30)], strict=True):
        cut = image[y - 6 : y + 6, x - 6 : x + 6]
        sd = image[::7, ::7].std()
        assert np.allclose(box, (cut - cut.mean()) / sd, atol=1e-4)
    assert crops.box_sizes.tolist() == [12, 12]


def test_every_second_pixel_for_thumbnails(path: Path, image: np.ndarray) -> None:
    crop = MicrographCrops([path], np.array([0]), np.array([[40.0, 30.0]]), 12, step=2).read(np.array([0]))[0]
    cut = image[24:36:2, 34:46:2]
    assert np.allclose(crop, (cut - cut.mean()) / image[::7, ::7].std(), atol=1e-4)


def test_over_the_edge_the_mean_stands(path: Path, image: np.ndarray) -> None:
    crops = MicrographCrops([path], np.zeros(3, int), np.array([[2.0, 3.0], [79, 59], [500, 500]]), 10)
    boxes = crops.read(np.arange(3))
    mean, sd = image[::7, ::7].mean(), image[::7, ::7].std()
    whole = np.full((10, 10), mean)
    whole[2:, 3:] = image[:8, :7]
    assert np.allclose(boxes[0], (whole - whole.mean()) / sd, atol=1e-4)
    assert np.ptp(boxes[1]) > 1
    assert np.allclose(boxes[2], 0, atol=1e-5)


def test_what_cannot_be_read_is_told(path: Path, tmp_path: Path) -> None:
    crops = MicrographCrops([None], np.array([0]), np.array([[1.0, 1.0]]), 4)
    with pytest.raises(
        InputError, match="row 1: its micrograph is not there; open the file within its project's folder"
    ):
        crops.read(np.array([0]))
    movie = write_mrc(tmp_path / "movie.mrc", np.zeros((3, 4, 4)), 1.0, stack=True)
    with pytest.raises(InputError, match="holds 3 images, not one micrograph"):
        MicrographCrops([movie], np.array([0]), np.array([[1.0, 1.0]]), 4).read(np.array([0]))
