"""Micrographs as one lazy array, and the pictures of a gallery. No Qt."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_pickbias.errors import InputError
from napari_pickbias.gui import micrograph_stack
from napari_pickbias.gui.micrograph_stack import MicrographStack, binned, standardised
from napari_pickbias.gui.thumbnails import Thumbnails, grey, images_of
from napari_pickbias.records import MemoryImages, write_mrc
from napari_pickbias.records.crops import MicrographCrops
from napari_pickbias.records.pick_tables import open_picks


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_binning_takes_means(rng) -> None:
    image = rng.normal(size=(14, 17)).astype(np.float32)
    expected = image[:12, :15].reshape(4, 3, 5, 3).mean(axis=(1, 3))
    assert np.allclose(binned(image, 3), expected, atol=1e-6)
    assert np.array_equal(binned(image, 1), image)


def test_display_copies_have_one_contrast(rng) -> None:
    image = rng.normal(40, 7, (200, 200)).astype(np.float32)
    image[3, 3] = 1e9
    shown = standardised(image)
    assert abs(np.median(shown)) < 0.02
    assert abs(np.std(shown[shown < 100]) - 1) < 0.05
    assert np.isfinite(standardised(np.full((4, 4), 2.0, np.float32))).all()


def test_slices_are_those_of_the_files(tmp_path: Path, rng) -> None:
    images = rng.normal(size=(5, 40, 60)).astype(np.float32)
    paths = [write_mrc(tmp_path / f"{i}.mrc", image, 1.0) for i, image in enumerate(images)]
    stack = MicrographStack([*paths[:2], None, *paths[3:]])
    assert stack.shape == (5, 40, 60)
    assert stack.binning == 1
    assert np.allclose(stack[1], standardised(images[1]))
    assert np.allclose(stack[-1, 3:5, ::2], standardised(images[4])[3:5, ::2])
    assert (stack[2] == micrograph_stack._EMPTY).all()
    assert stack[:2].shape == (2, 40, 60)
    assert stack[..., 3].shape == (5, 40)
    assert np.asarray(stack).shape == stack.shape
    with pytest.raises(ValueError, match="always a copy"):
        np.array(stack, copy=False)
    stack.close()
    assert stack[0].shape == (40, 60)


def test_few_are_kept_in_memory_and_the_next_is_read_ahead(tmp_path: Path, rng, monkeypatch) -> None:
    paths = [write_mrc(tmp_path / f"{i}.mrc", rng.normal(size=(8, 8)), 1.0) for i in range(9)]
    stack = MicrographStack(paths)
    stack.kept = 4  # larger copies would leave room for no more
    loaded: list[int] = []
    load = stack._load
    monkeypatch.setattr(stack, "_load", lambda row: (loaded.append(row), load(row))[1])
    stack[0]
    stack._coming[1].result()
    assert loaded == [0, 1]
    stack[1]
    stack._coming[2].result()
    assert loaded == [0, 1, 2]
    for row in range(2, 9):
        stack[row]
    assert len(stack._cache) <= 4
    assert loaded == sorted(loaded)
    assert len(loaded) == 9


def test_large_micrographs_are_binned_and_turned_ones_padded(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(micrograph_stack, "MOST_SHOWN_PX", 20)
    a = write_mrc(tmp_path / "a.mrc", np.ones((30, 50)), 1.0)
    b = write_mrc(tmp_path / "b.mrc", np.ones((50, 30)), 1.0)
    stack = MicrographStack([a, b])
    assert stack.binning == 3
    assert stack.shape == (2, 17, 17)
    assert (stack[0][:10, :16] == 0).all()
    assert (stack[0][10:] == micrograph_stack._EMPTY).all()


def test_without_any_micrograph_it_says_so() -> None:
    with pytest.raises(InputError, match="not one of the images is there; open the file within its project's folder"):
        MicrographStack([None, None])


def test_three_dimensions_of_many_micrographs_are_refused(tmp_path: Path) -> None:
    path = write_mrc(tmp_path / "a.mrc", np.ones((4, 4)), 1.0)
    with pytest.raises(InputError, match="3-D view: needs all micrographs in memory"):
        MicrographStack([path] * 100)[:]


def test_thumbnails_are_small_and_grey(rng) -> None:
    images = rng.normal(size=(3, 200, 200)).astype(np.float32)
    thumbnails = Thumbnails(MemoryImages(images), 64)
    assert len(thumbnails) == 3
    assert thumbnails[1].shape == (50, 50)
    assert thumbnails[1].dtype == np.uint8
    assert thumbnails[1] is thumbnails[1]
    assert np.array_equal(thumbnails[2], grey(binned(images[2], 4)))
    assert np.ptp(thumbnails[0]) > 200


def test_a_picture_that_cannot_be_read_is_plain(pick_files) -> None:
    table = open_picks(pick_files.star).read()
    images, _ = images_of(pick_files.star, table, 24)
    assert isinstance(images, MicrographCrops)
    pick_files.micrographs[0].unlink()
    thumbnails = Thumbnails(images)
    assert np.ptp(thumbnails[0]) == 0
    assert np.ptp(thumbnails[len(table) - 1]) > 200


def test_particle_images_come_before_crops(particle_files) -> None:
    table = open_picks(particle_files.star).read()
    images, pixel = images_of(particle_files.star, table, 24)
    assert pixel == 4.0
    assert np.array_equal(images.read(np.array([5]))[0], particle_files.images[5])


def test_without_images_and_micrographs_there_is_nothing_to_show(pick_files) -> None:
    for path in pick_files.micrographs:
        path.unlink()
    assert images_of(pick_files.star, open_picks(pick_files.star).read(), 24) == (None, None)
