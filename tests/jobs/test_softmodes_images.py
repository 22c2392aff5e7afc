"""The soft-modes job with images: read in their units, at their shifts, in the working box; and its refusals."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from napari_pickbias.errors import InputError
from napari_pickbias.imaging.phantoms import blob_volume, phantom
from napari_pickbias.imaging.projection import project
from napari_pickbias.imaging.rotations import matrices_from_euler, random_euler
from napari_pickbias.jobs.softmodes import SoftmodesResult, softmodes_job
from napari_pickbias.jobs.softmodes_inputs import ctf_filters
from napari_pickbias.jobs.softmodes_parameters import SoftmodesParameters
from napari_pickbias.records import CtfParameters, MemoryImages, Particles, Poses, Volume

SIZE, BOX, COUNT, PIXEL, NOISE = 14, 12, 48, 4.0, 0.01
MAP = Volume(blob_volume(phantom(3.6), SIZE), PIXEL)


def particles(*, noise: float = NOISE, ctf: bool = False, sign: float = 1.0) -> Particles:
    rng = np.random.default_rng(0)
    angles = random_euler(COUNT, rng)
    origins = rng.uniform(-1, 1, (COUNT, 2)) * PIXEL
    values = [15000.0, 14000.0, 30.0, 300.0, 2.7, 0.1, 0.0]
    optics = CtfParameters(*[np.full(COUNT, value) for value in values])
    images = project(
        MAP.data.astype(np.float64),
        matrices_from_euler(angles),
        shifts_px=-origins / PIXEL,
        ctf=ctf_filters(optics, SIZE, PIXEL) if ctf else None,
    )
    images = sign * images + noise * rng.standard_normal(images.shape)
    return Particles(
        images=MemoryImages(images.astype(np.float32)),
        pixel_size_angstrom=np.full(COUNT, PIXEL),
        optics_group=np.zeros(COUNT, np.int64),
        ctf=optics if ctf else None,
        poses=Poses(angles, origins),
    )


def run(job: Generator[Any, None, SoftmodesResult]) -> SoftmodesResult:
    while True:
        try:
            next(job)
        except StopIteration as end:
            result: SoftmodesResult = end.value
            return result


def solve(data: Particles, volume: Volume = MAP, **more: Any) -> SoftmodesResult:
    return run(softmodes_job(volume, data, SoftmodesParameters(**{"modes": 2, "box": BOX, **more})))


@pytest.mark.parametrize("ctf", [False, True])
def test_the_residuals_are_the_noise_of_the_images(ctf: bool) -> None:
    """Wrong shifts, units, CTF or cropping would all leave more than the noise."""
    result = solve(particles(ctf=ctf), images=True)
    # 5 of about 100 coefficients of each image go into its pose.
    assert result.found.noise_variance == pytest.approx(NOISE**2 * (BOX / SIZE) ** 4, rel=0.1)
    assert not any("times as strong" in text or "13 times" in text for text in result.warnings)
    assert any("one image stands for each of 48 views" in text for text in result.warnings)


def test_little_noise_gives_the_expected_modes_and_more_noise_others() -> None:
    """In the map's own box: cropping leaves a residual of its own."""
    quiet, noisy = particles(noise=1e-6), particles(noise=5e-4)
    expected = solve(quiet, box=SIZE, noise="0.01").found
    np.testing.assert_allclose(
        solve(quiet, box=SIZE, noise="0.01", images=True).found.eigenvalues, expected.eigenvalues, rtol=1e-3
    )
    found = solve(noisy, box=SIZE, images=True).found
    assert found.valid.all()
    assert found.unsettled == 0
    assert np.abs(found.eigenvalues / expected.eigenvalues - 1).max() > 0.005


def test_images_of_another_scale_are_told_and_divided() -> None:
    loud = particles(sign=3.0, noise=3 * NOISE)
    result = solve(loud, images=True)
    assert any("the images are 3" in text for text in result.warnings)
    assert result.found.noise_variance == pytest.approx(NOISE**2 * (BOX / SIZE) ** 4, rel=0.1)


@pytest.mark.parametrize(
    ("data", "volume", "more", "message"),
    [
        (particles(sign=-1.0), MAP, {}, "--images: the images do not look like projections of the map at their poses"),
        (particles(), MAP, {"views": "uniform"}, "--images: there are no images of the views that --views asks for"),
        (particles(), MAP, {"what_if": True}, "--images: there are no images of the views that --what-if asks for"),
        (
            replace(particles(), images=MemoryImages(np.zeros((COUNT, 10, 10), np.float32))),
            MAP,
            {},
            "--images: the particles have 10 px, the map 14 voxels; give the map of their own box",
        ),
    ],
)
def test_images_that_do_not_fit_are_refused_in_one_line(
    data: Particles, volume: Volume, more: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError) as error:
        solve(data, volume, images=True, **more)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
