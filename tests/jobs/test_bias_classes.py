"""Classes without labels: on picked noise they are what bias gives, on random places nothing, on particles more."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_pickbias.imaging.phantoms import blob_volume, phantom
from napari_pickbias.imaging.projection import fourier_volume, project
from napari_pickbias.imaging.rotations import matrices_from_euler
from napari_pickbias.jobs.bias import BiasResult, bias_job
from napari_pickbias.jobs.bias_classes import Classes, class_job
from napari_pickbias.jobs.bias_parameters import BiasParameters
from napari_pickbias.jobs.pick_templates import TemplateInput
from napari_pickbias.records import write_mrc
from napari_pickbias.records.micrographs import MicrographSet, open_micrographs

PIXEL, SIZE = 7.0, 448
Diagnosed = tuple[MicrographSet, TemplateInput, BiasResult]


def finish(job: Generator[Any, None, Any]) -> Any:
    while True:
        try:
            next(job)
        except StopIteration as end:
            return end.value


@pytest.fixture(scope="module")
def diagnosed(tmp_path_factory: pytest.TempPathFactory) -> Diagnosed:
    """Picks of two micrographs of pure white noise."""
    folder: Path = tmp_path_factory.mktemp("noise")
    rng = np.random.default_rng(3)
    for number in range(2):
        write_mrc(folder / f"mic{number}.mrc", rng.standard_normal((SIZE, SIZE)).astype(np.float32), PIXEL)
    volume = fourier_volume(blob_volume(phantom(11.0, elongation=2.0), 32))
    views = project(volume, matrices_from_euler(np.array([[0.0, 90.0, 0.0], [0.0, 0.0, 0.0]])))
    wanted = TemplateInput("images", np.asarray(views, np.float32), PIXEL, "--templates phantom")
    parameters = BiasParameters(
        lowpass=60.0, diameter=170.0, angular_step=30.0, contrast="white", nulls=8, surrogates=1, threshold=2.8
    )
    found = open_micrographs(folder)
    return found, wanted, finish(bias_job(found, wanted, parameters))


@pytest.fixture(scope="module")
def classes(diagnosed: Diagnosed) -> Classes:
    found, wanted, result = diagnosed
    given = TemplateInput("images", -np.asarray(result.diagnosis.averages, np.float32), result.frame.pixel_size, "mine")
    return finish(class_job(found, wanted, result, 2, align=True, given=given))


def test_classes_of_picked_noise_are_what_bias_gives(diagnosed: Diagnosed, classes: Classes) -> None:
    result = diagnosed[2]
    picked, noise, random = (classes.sets[name] for name in ("picks", "noise", "random"))
    assert picked.picks.sum() == result.count
    # two classes of about 135 picks each: fewer than a classification needs to find all that labels would
    assert classes.needed > result.count
    for one in (picked, noise):
        assert len(set(one.template)) == 2
        assert (one.correlation > 0.5).all()  # seen .65 to .73
        assert ((one.expected > 0.75) & (one.expected < 0.92)).all()
        assert one.mean_correlation < one.mean_expected
    assert (np.abs(random.correlation) < 0.3).all()  # seen -.01 and .12
    # the class average looks like the predicted one, on the pixels and in the orientation it is given in
    disc = picked.averages[0] != 0
    seen = np.corrcoef(picked.averages[0][disc], classes.predicted[picked.template[0]][disc])[0, 1]
    assert seen == pytest.approx(picked.correlation[0], abs=0.05)


def test_averages_of_another_program_are_compared(classes: Classes) -> None:
    given = classes.given
    assert given is not None
    # labelled averages of the same picks, with inverted contrast
    assert (given.correlation > 0.6).all()
    assert given.noise.max() < 0.3
    assert given.averages[0][10:20, 10:20].mean() > 0
