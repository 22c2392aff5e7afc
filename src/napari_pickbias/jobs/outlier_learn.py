"""Learning a detector from a group of particles: the sample, the contrast, the fit, and its checkpoint."""

from __future__ import annotations

import threading
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_pickbias.errors import InputError
from napari_pickbias.jobs.outlier_groups import WorkingGroup
from napari_pickbias.jobs.outlier_parameters import OutlierParameters
from napari_pickbias.jobs.outlier_stream import CHUNK_IMAGES, prepare_in_batches
from napari_pickbias.jobs.progress import Checkpoints, Progress
from napari_pickbias.outliers.calibrated import CalibratedDetector, detect_contrast, fit_detector
from napari_pickbias.outliers.reference import ReferenceDetector
from napari_pickbias.outliers.verdicts import Detector
from napari_pickbias.records import Particles

LOOK_EVERY_SECONDS = 0.25
CLEAR_CONTRAST = 4.0
"""Strength (in its own standard deviations) below which the contrast is called undecided."""


@dataclass(frozen=True)
class Learned:
    """A detector ready to judge one group, and what was found on the way."""

    detector: Detector
    sign: int
    e0: float | None
    hopeless: bool
    warnings: list[str]
    summary: dict[str, Any]


def learn(
    particles: Particles,
    group: WorkingGroup,
    parameters: OutlierParameters,
    rng: np.random.Generator,
    checkpoints: Checkpoints,
    name: str,
) -> Generator[Progress, None, Learned]:
    """Return the detector of ``group``; yields :class:`Progress`.

    Raises
    ------
    InputError
        When the contrast stated is against the data, the box is too small, or too few images are there.
    """
    yield Progress("learn", 0, 3, f"{group.name}: reading a sample")
    rows = group.rows
    if len(rows) > parameters.fit_images:
        rows = np.sort(rng.choice(rows, parameters.fit_images, replace=False))
    sample = prepare_in_batches(particles, group, rows, +1)
    _check_sample(sample, group)
    yield Progress("learn", 1, 3, f"{group.name}: deciding the contrast")
    sign, warnings = _decide_sign(sample, group, parameters.contrast)
    if parameters.method == "reference":
        mean = yield from _stack_mean(particles, group, checkpoints, f"{name}_mean")
        return _reference(group, parameters, sign, mean, warnings)
    yield Progress("learn", 2, 3, f"{group.name}: learning noise and template from {len(sample)} images")
    saved = checkpoints.load(name)
    if saved is not None:
        detector = CalibratedDetector.from_arrays(saved)
    else:
        detector = yield from _fit(sample if sign > 0 else -sample, group, parameters.false_keep_rate, rng)
        checkpoints.save(name, detector.to_arrays())
    summary = asdict(detector.summary)
    return Learned(
        detector,
        sign,
        float(summary["e0"]),
        bool(summary["hopeless"]),
        warnings + list(summary.pop("warnings")),
        summary,
    )


class _StoppedError(Exception):
    """Ends the fit's thread when the job was closed."""


def _fit(
    sample: NDArray[np.float32], group: WorkingGroup, false_keep_rate: float, rng: np.random.Generator
) -> Generator[Progress, None, CalibratedDetector]:
    """Fit in a thread of its own, so that progress is told and closing the job is heeded while it works."""
    steps = (0, 1)
    stop = threading.Event()

    def note(done: int, total: int) -> None:
        nonlocal steps
        steps = (done, total)
        if stop.is_set():
            raise _StoppedError

    with ThreadPoolExecutor(max_workers=1) as pool:
        future = pool.submit(
            fit_detector, sample, group.radius_px, rng=rng, false_keep_rate=false_keep_rate, progress=note
        )
        try:
            while True:
                try:
                    return future.result(timeout=LOOK_EVERY_SECONDS)
                except InputError as error:
                    raise InputError(f"{group.name}: {error}") from error
                except TimeoutError:
                    if future.done():
                        raise
                    yield Progress("learn", *steps)
        finally:
            stop.set()


def _check_sample(sample: NDArray[np.float32], group: WorkingGroup) -> None:
    finite: NDArray[np.bool_] = np.asarray(np.isfinite(sample).all(axis=(1, 2)))
    images = np.where(finite[:, None, None], sample, 0.0)
    # Cropping leaves rounding noise of about 1e-7 of the grey value on a constant image.
    varied = images.std(axis=(1, 2)) > 1e-5 * np.abs(images).max(axis=(1, 2))
    if not (finite & varied).any():
        raise InputError(
            f"{group.name}: all {len(sample)} images looked at are constant or hold NaN; check how they were extracted"
        )


def _decide_sign(sample: NDArray[np.float32], group: WorkingGroup, wish: str) -> tuple[int, list[str]]:
    found, strength = detect_contrast(sample, group.radius_px)
    clear = strength >= CLEAR_CONTRAST
    if wish == "auto":
        if clear:
            return found, []
        return +1, [
            f"the contrast could not be decided from the images (strength {strength:.1f}): particles are taken to be "
            "bright; state it with --contrast white or --contrast black"
        ]
    stated = +1 if wish == "white" else -1
    if clear and stated != found:
        other = "black" if wish == "white" else "white"
        raise InputError(
            f"--contrast {wish}: the images say the opposite (strength {strength:.1f}); use --contrast {other} or auto"
        )
    return stated, []


def _stack_mean(
    particles: Particles, group: WorkingGroup, checkpoints: Checkpoints, name: str
) -> Generator[Progress, None, float]:
    """Mean of all images of the group: the published rule subtracts it, and chunks must not change it."""
    saved = checkpoints.load(name)
    if saved is not None:
        return float(saved["mean"])
    total, count = 0.0, 0
    for start in range(0, len(group.rows), CHUNK_IMAGES):
        yield Progress("mean", start, len(group.rows))
        images = prepare_in_batches(particles, group, group.rows[start : start + CHUNK_IMAGES], +1)
        finite = images[np.isfinite(images).all(axis=(1, 2))]
        total += float(finite.sum(dtype=np.float64))
        count += finite.size
    mean = total / max(count, 1)
    checkpoints.save(name, {"mean": np.array(mean)})
    return mean


def _reference(
    group: WorkingGroup, parameters: OutlierParameters, sign: int, mean: float, warnings: list[str]
) -> Learned:
    detector = ReferenceDetector(
        group.working_box_px,
        group.radius_px,
        stack_mean=sign * mean,
        kernel_px=parameters.kernel_px,
        points=parameters.points,
        eps_px=parameters.eps_px,
        min_points=parameters.min_points,
        edge_px=parameters.edge_px,
    )
    return Learned(detector, sign, None, False, warnings, {"stack_mean": sign * mean})
