"""The diagnosis end to end on small micrographs: particles, noise, and picks of another program."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import numpy as np
import pytest
from bias.scene import power_on

from napari_pickbias.imaging.noise import noise_of_spectrum
from napari_pickbias.imaging.phantoms import blob_volume, phantom
from napari_pickbias.imaging.projection import fourier_volume, project
from napari_pickbias.imaging.rotations import matrices_from_euler
from napari_pickbias.jobs.bias import BiasResult, bias_job
from napari_pickbias.jobs.bias_match import analysis_pixel
from napari_pickbias.jobs.bias_parameters import BiasParameters
from napari_pickbias.jobs.pick_templates import TemplateInput
from napari_pickbias.records import write_mrc
from napari_pickbias.records.micrographs import MicrographSet, open_micrographs

PIXEL, SIZE = 7.0, 448
VIEWS = np.array([[0.0, 20.0], [60.0, 70.0], [140.0, 90.0], [250.0, 120.0]])


class Memory:
    """Checkpoints that a test can look at and cut short."""

    def __init__(self) -> None:
        self.pieces: dict[str, dict[str, Any]] = {}

    def load(self, name: str) -> dict[str, Any] | None:
        found = self.pieces.get(name)
        return None if found is None else dict(found)

    def save(self, name: str, arrays: Any) -> None:
        self.pieces[name] = {key: np.array(value) for key, value in dict(arrays).items()}


def run(job: Generator[Any, None, BiasResult], stop_after: str | None = None) -> BiasResult | None:
    while True:
        try:
            progress = next(job)
        except StopIteration as end:
            return end.value
        if stop_after is not None and (progress.stage, progress.done) == (stop_after, 1):
            job.close()
            return None


@pytest.fixture(scope="module")
def volume() -> np.ndarray:
    return blob_volume(phantom(11.0, elongation=1.5), 32)


@pytest.fixture(scope="module")
def wanted(volume: np.ndarray) -> TemplateInput:
    """Four views of the phantom, as class averages."""
    images = project(fourier_volume(volume), matrices_from_euler(np.column_stack([VIEWS, np.zeros(4)])))
    return TemplateInput("images", np.asarray(images, np.float32), PIXEL, "--templates phantom")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, volume: np.ndarray) -> tuple[MicrographSet, dict[str, np.ndarray]]:
    """Three micrographs with 100 particles each, dark, and where they are."""
    folder = tmp_path_factory.mktemp("particles")
    rng = np.random.default_rng(1)
    places: dict[str, np.ndarray] = {}
    for number in range(3):
        image = noise_of_spectrum(1, power_on(SIZE), (SIZE, SIZE), rng)[0].astype(np.float64)
        grid = np.array([(y, x) for y in range(36, SIZE - 36, 40) for x in range(36, SIZE - 36, 40)])
        grid += rng.integers(-4, 5, grid.shape)
        euler = np.column_stack([VIEWS[rng.integers(0, 4, len(grid))], rng.uniform(0, 360, len(grid))])
        views = project(fourier_volume(volume), matrices_from_euler(euler))
        for (y, x), view in zip(grid, views, strict=True):
            image[y - 16 : y + 16, x - 16 : x + 16] -= 9 * view / np.linalg.norm(views[0])
        path = write_mrc(folder / f"mic{number}.mrc", image.astype(np.float32), PIXEL)
        places[str(path)] = grid[:, ::-1].astype(np.float64)
    return open_micrographs(folder), places


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> MicrographSet:
    folder = tmp_path_factory.mktemp("noise")
    rng = np.random.default_rng(2)
    for number in range(3):
        image = noise_of_spectrum(1, power_on(SIZE), (SIZE, SIZE), rng)[0]
        write_mrc(folder / f"mic{number}.mrc", image, PIXEL)
    return open_micrographs(folder)


def parameters(**changes: Any) -> BiasParameters:
    values: dict[str, Any] = {
        "threshold": 4.0, "lowpass": 60.0, "diameter": 170.0, "angular_step": 30.0, "contrast": "black", "nulls": 16,
    }  # fmt: skip
    return BiasParameters(**{**values, **changes})


def test_particles_are_data(data: tuple[MicrographSet, dict[str, np.ndarray]], wanted: TemplateInput) -> None:
    kept = Memory()
    result = run(bias_job(data[0], wanted, parameters(), checkpoints=kept))
    assert result is not None
    assert result.verdict.name == "data"
    assert result.rate.high < 0.2
    assert result.count > 170
    first = result.diagnosis.levels[0]
    assert first.plain[0] > 0.9
    assert first.beyond.value > 0.25
    assert abs(result.diagnosis.twin_beyond) < 0.15
    assert len(result.twin_patches) == sum(len(table) for table in result.twin_rows.values()) > 150
    assert result.levels[-1][0] == pytest.approx(6.0)

    # a run that stopped after the first micrograph goes on to the same result
    broken = Memory()
    broken.pieces = {k: v for k, v in kept.pieces.items() if k.startswith(("micrograph_", "contrast"))}
    assert run(bias_job(data[0], wanted, parameters(), checkpoints=broken), stop_after="averages") is None
    assert int(broken.pieces["sums"]["finished"]) == 1
    again = run(bias_job(data[0], wanted, parameters(), checkpoints=broken))
    assert again is not None
    assert again.verdict == result.verdict
    np.testing.assert_array_equal(again.diagnosis.removed, result.diagnosis.removed)
    np.testing.assert_array_equal(again.twin_patches, result.twin_patches)

    # the same particles, picked by another program a little off their middle
    rng = np.random.default_rng(3)
    foreign = {name: xy + rng.normal(0, 1.5, xy.shape) for name, xy in data[1].items()}
    other = Memory()
    other.pieces = {k: v for k, v in kept.pieces.items() if k.startswith(("micrograph_", "contrast"))}
    told = run(bias_job(data[0], wanted, parameters(), picks=foreign, checkpoints=other))
    assert told is not None
    assert told.foreign
    assert told.verdict.name in ("data", "mixed")
    assert 150 < told.count <= sum(len(xy) for xy in foreign.values())  # those near the border are left out


def test_noise_is_never_data(noise: MicrographSet, volume: np.ndarray) -> None:
    wanted = TemplateInput("map", volume, PIXEL, "--map phantom")
    result = run(bias_job(noise, wanted, parameters(threshold=2.5, angular_step=45.0)))
    assert result is not None
    assert result.verdict.name in ("template", "undecided")
    assert all(verdict.name in ("template", "undecided") for _, _, verdict in result.levels)
    assert result.diagnosis.levels[0].plain[0] > 0.8  # yet the plain halves agree


def test_pixels_of_the_diagnosis() -> None:
    assert analysis_pixel(1.0, 60.0, 180.0) == pytest.approx(60 / 8.5)
    assert analysis_pixel(1.0, 20.0, 180.0) == pytest.approx(5.0)
    assert analysis_pixel(1.0, 120.0, 180.0) == pytest.approx(9.0)
    assert analysis_pixel(7.08, 20.0, 180.0) == pytest.approx(7.08)
