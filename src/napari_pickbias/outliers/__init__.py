"""Outlier removal from particle stacks by radial profiles."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from napari_pickbias.outliers.verdicts import Detector

__all__ = ["classify_stack"]

_CHUNK = 4096


def classify_stack(
    images: NDArray[np.floating],
    radius_px: float,
    method: Literal["calibrated", "reference"] = "calibrated",
    threads: int | None = None,
    *,
    seed: int = 0,
    false_keep_rate: float = 0.01,
    **options: Any,
) -> pd.DataFrame:
    """Tell, for every image of a particle stack, whether there is one whole particle in the middle of the box.

    Parameters
    ----------
    images : (m, d, d) array
        Particle images, phase-flipped, **particles bright**. For "calibrated" best Fourier-cropped so that the
        particle's radius is 8 to 10 pixels.
    radius_px : float
        "calibrated": particle radius R (half its longest extent) in pixels. "reference": the published method's r, a
        strictness of about 0.5 to 0.65 of R.
    method : {"calibrated", "reference"}
        The detector fitted to the stack (:func:`napari_pickbias.outliers.calibrated.fit_detector`), or the published
        rule (:class:`napari_pickbias.outliers.reference.ReferenceDetector`).
    threads : int, optional
        Threads; default all allowed cores. The verdicts do not depend on it.
    seed : int
        Seed of the random numbers of the fit.
    false_keep_rate : float
        "calibrated": share of pure noise images that may be kept.
    **options
        Fields of :class:`~napari_pickbias.outliers.calibrated.CalibratedOptions` or of ``ReferenceDetector``.

    Returns
    -------
    pandas.DataFrame
        One row per image with the columns of :data:`napari_pickbias.outliers.verdicts.COLUMNS`, ``reason`` as a
        category of the names in ``REASONS``. ``table.attrs["warnings"]`` holds what the fit had to say.

    Raises
    ------
    InputError
        Images that are no stack of square boxes, box too small, too few images, particles dark.
    """
    import numpy as np
    import pandas as pd
    from threadpoolctl import threadpool_limits

    from napari_pickbias.errors import InputError
    from napari_pickbias.outliers.verdicts import REASONS, empty_columns

    images = np.asarray(images)
    if images.ndim != 3 or images.shape[1] != images.shape[2]:
        raise InputError(f"images: shape {images.shape} is no stack of square boxes; give (n, d, d)")
    threads = threads or (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    detector: Detector
    warnings: list[str] = []
    if method == "calibrated":
        from napari_pickbias.outliers.calibrated import CalibratedOptions, fit_detector

        with threadpool_limits(threads):
            fitted = fit_detector(
                images,
                radius_px,
                rng=np.random.default_rng(seed),
                false_keep_rate=false_keep_rate,
                options=CalibratedOptions(**options),
            )
        detector, warnings = fitted, list(fitted.summary.warnings)
    elif method == "reference":
        from napari_pickbias.outliers.reference import fit_reference

        detector = fit_reference(images, radius_px, **options)
    else:
        raise InputError(f'method: "{method}" is unknown; "calibrated" or "reference" will do')
    columns = empty_columns(len(images))
    starts = range(0, len(images), _CHUNK)

    def work(start: int) -> None:
        for name, values in detector.evaluate(images[start : start + _CHUNK]).items():
            columns[name][start : start + _CHUNK] = values

    with threadpool_limits(1), ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, starts))
    table = pd.DataFrame(columns)
    table["reason"] = pd.Categorical.from_codes(columns["reason"].astype(np.int64), categories=list(REASONS))
    table.attrs["warnings"] = warnings
    return table
