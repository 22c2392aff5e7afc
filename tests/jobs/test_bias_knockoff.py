"""``select="knockoff"``: the diagnosis picks against templates of inverted contrast."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_pickbias.errors import InputError
from napari_pickbias.imaging.phantoms import blob_volume, phantom
from napari_pickbias.imaging.projection import project
from napari_pickbias.imaging.rotations import matrices_from_euler
from napari_pickbias.jobs.bias import bias_job
from napari_pickbias.jobs.bias_parameters import BiasParameters
from napari_pickbias.jobs.pick_templates import TemplateInput
from napari_pickbias.records import write_mrc
from napari_pickbias.records.micrographs import open_micrographs

PIXEL, SIZE = 7.0, 352


def finish(job: Generator[Any, None, Any]) -> Any:
    while True:
        try:
            next(job)
        except StopIteration as end:
            return end.value


def scene(folder: Path, strength: float) -> tuple[Any, TemplateInput, np.ndarray]:
    rng = np.random.default_rng(7)
    volume = blob_volume(phantom(11.0, elongation=1.5), 32)
    template = project(volume, matrices_from_euler(np.array([[0.0, 90.0, 0.0]])))
    grid = np.array([(y, x) for y in range(40, 320, 50) for x in range(40, 320, 50)])
    for number in range(2):
        image = rng.standard_normal((SIZE, SIZE))
        euler = np.column_stack([np.zeros(len(grid)), np.full(len(grid), 90.0), rng.uniform(0, 360, len(grid))])
        for (y, x), view in zip(grid, project(volume, matrices_from_euler(euler)), strict=True):
            image[y - 16 : y + 16, x - 16 : x + 16] += strength * view / np.linalg.norm(view)
        write_mrc(folder / f"mic{number}.mrc", image.astype(np.float32), PIXEL)
    return open_micrographs(folder), TemplateInput("images", np.asarray(template, np.float32), PIXEL, "phantom"), grid


PARAMETERS = BiasParameters(
    lowpass=60.0, diameter=170.0, angular_step=30.0, contrast="white", nulls=8, surrogates=1, select="knockoff",
    fdr=0.1,
)  # fmt: skip


def test_particles_win_against_their_knockoffs(tmp_path: Path) -> None:
    found, wanted, grid = scene(tmp_path, 9.0)
    result = finish(bias_job(found, wanted, PARAMETERS))
    facts = result.candidates.facts["knockoff"]
    assert result.threshold == facts["threshold"]
    assert result.count == pytest.approx(facts["taken"], abs=3)  # picks at the very border may go
    assert (1 + facts["knockoffs"]) / facts["taken"] <= 0.1
    far = []
    for table in result.picks.values():
        distance = np.hypot(table["y"][:, None] - grid[:, 0], table["x"][:, None] - grid[:, 1])
        far += list(distance.min(axis=1) > 10)
    assert len(far) > 55  # of 72 planted
    assert np.mean(far) < 0.1 + 3 * np.sqrt(0.1 * 0.9 / len(far))
    assert any("picks were chosen by knockoffs of inverted contrast" in line for line in result.warnings)


def test_nothing_is_taken_from_noise(tmp_path: Path) -> None:
    found, wanted, _ = scene(tmp_path, 0.0)
    with pytest.raises(InputError, match=r"at no threshold do templates win so much more often .* raise --fdr"):
        finish(bias_job(found, wanted, PARAMETERS))


def test_two_ways_to_choose_contradict_each_other(tmp_path: Path) -> None:
    found, wanted, _ = scene(tmp_path, 0.0)
    with pytest.raises(InputError, match="--select knockoff and --threshold: contradict each other"):
        finish(bias_job(found, wanted, PARAMETERS.model_copy(update={"threshold": 4.0})))
    with pytest.raises(InputError, match="--select knockoff and --picks: contradict each other"):
        finish(bias_job(found, wanted, PARAMETERS, picks={}))
