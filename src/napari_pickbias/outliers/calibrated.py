"""The calibrated radial detector: tells boxes with one whole particle in the middle from all others.

A stack's noise covariance, radial template and radial factors are learned from the stack itself; each image then gets
posterior odds of one central particle against noise, an off-centre particle and two particles, and the noise
threshold is set on surrogate noise so that the user states the share of pure noise that may be kept. The idea of
judging particles by rotation-invariant radial profiles is that of the published method (see ``reference``); formulas
and measurements: docs/reproduction/outliers.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_pickbias.errors import InputError
from napari_pickbias.outliers import evidence as ev
from napari_pickbias.outliers.calibration import Calibration, calibrate, decide, log_odds
from napari_pickbias.outliers.fit import LOW_SIGNAL, filter_outputs, fit_model
from napari_pickbias.outliers.geometry import make_geometry
from napari_pickbias.outliers.options import CalibratedOptions
from napari_pickbias.outliers.preparation import (
    contrast_strength,
    detect_contrast,
    prepare,
    usable_images,
    working_box,
)
from napari_pickbias.outliers.summary import DetectorSummary, summarise
from napari_pickbias.outliers.verdicts import empty_columns

__all__ = ["CalibratedDetector", "CalibratedOptions", "DetectorSummary", "detect_contrast", "fit_detector"]

FEWEST = 100
"""Fewest usable images for a fit."""
BLOCK = 256
"""Images per matrix product. Always the same shape, so that results do not depend on how a stack is cut."""
DARK = -4.0
"""Contrast strength below which particles are called dark."""


class CalibratedDetector:
    """A fitted calibrated detector; see :func:`fit_detector`.

    Attributes
    ----------
    summary : DetectorSummary
        What the fit found.
    """

    def __init__(
        self,
        box_px: int,
        scale: float,
        filters: NDArray[np.float32],
        tables: ev.Tables,
        calibration: Calibration,
        summary: DetectorSummary,
    ) -> None:
        self._box_px = box_px
        self._scale = scale
        self._filters = filters
        self._tables = tables
        self._calibration = calibration
        self.summary = summary

    @property
    def box_px(self) -> int:
        """Side of the images in pixels."""
        return self._box_px

    @property
    def columns(self) -> int:
        """Number of filters that each image is multiplied with: what an image costs."""
        return int(self._filters.shape[1])

    def evaluate(self, images: NDArray[np.float32]) -> dict[str, NDArray[np.generic]]:
        """Judge images.

        Parameters
        ----------
        images : (m, box_px, box_px) float32 array
            Particles bright, phase-flipped, cropped as for the fit.

        Returns
        -------
        dict
            The columns of :data:`napari_pickbias.outliers.verdicts.COLUMNS`, (m,) each. Images that are constant or
            not finite get the verdict noise, p-value 1 and NaN elsewhere.

        Raises
        ------
        InputError
            Images of another size than those of the fit.

        Notes
        -----
        Each image is judged by itself, bit for bit the same in chunks of any size. Safe to call from several threads
        at once; limit the threads of the matrix product with ``threadpoolctl`` where that is done.
        """
        images = np.asarray(images)
        d = self._box_px
        if images.ndim != 3 or images.shape[1:] != (d, d):
            raise InputError(f"images: shape {images.shape} does not fit the detector; give (n, {d}, {d})")
        columns = empty_columns(len(images))
        columns["reason"][:] = 1
        columns["p_value"][:] = 1
        for start in range(0, len(images), BLOCK):
            part = images[start : start + BLOCK]
            good = usable_images(part)
            n = int(good.sum())
            if n == 0:
                continue
            block = np.zeros((BLOCK, d, d), part.dtype)
            block[:n] = part[good]
            working = prepare(block, self.summary.working_box_px, self._scale)
            outputs = working.reshape(BLOCK, -1) @ self._filters
            for name, values in self._columns(ev.judge(outputs[:n], self._tables)).items():
                columns[name][start : start + len(part)][good] = values
        return columns

    def _columns(self, result: ev.Evidence) -> dict[str, NDArray[np.generic]]:
        """Lay evidence out as verdict columns."""
        each, score = log_odds(result.log_joint)
        reason = decide(each, self._calibration)
        pixel = self._box_px / self.summary.working_box_px
        none = result.second < 0
        second = np.where(none[:, None], np.nan, self._tables.centres[result.second] * pixel)
        return {
            "keep": reason == 0,
            "reason": reason,
            "score": score,
            "p_value": self._calibration.p_value(each[:, 0]),
            "log_odds_noise": each[:, 0],
            "log_odds_partial": each[:, 1],
            "log_odds_multiple": each[:, 2],
            "center_y_px": result.centre[:, 0] * pixel,
            "center_x_px": result.centre[:, 1] * pixel,
            "offset_px": result.offset * pixel,
            "amplitude": result.first_amplitude,
            "second_y_px": second[:, 0],
            "second_x_px": second[:, 1],
            "second_amplitude": np.where(none, np.nan, result.second_amplitude),
        }

    def expected_fdr(self, columns: Mapping[str, NDArray[np.generic]]) -> float | None:
        """Return the expected share of outliers among the kept images, mean of 1 - P(one central particle).

        An order of magnitude only. None where e0 < 8 (not meaningful) or nothing is kept.
        """
        keep = np.asarray(columns["keep"], bool)
        if self.summary.e0 < LOW_SIGNAL or not keep.any():
            return None
        score = np.asarray(columns["score"], np.float64)[keep]
        return float(np.mean(1 / (1 + np.exp(np.clip(score, -700, 700)))))

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return everything as plain arrays (for npz without pickle); :meth:`from_arrays` restores it exactly."""
        arrays: dict[str, NDArray[Any]] = {
            "box_px": np.array(self._box_px),
            "scale": np.array(self._scale),
            "filters": self._filters,
        }
        arrays |= {f"tables.{name}": np.asarray(value) for name, value in self._tables._asdict().items()}
        for name in (field.name for field in fields(Calibration)):
            arrays[f"calibration.{name}"] = np.asarray(getattr(self._calibration, name))
        for name in (field.name for field in fields(DetectorSummary)):
            value = getattr(self.summary, name)
            arrays[f"summary.{name}"] = np.array(value, dtype=np.str_) if name == "warnings" else np.asarray(value)
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> CalibratedDetector:
        """Restore a detector from :meth:`to_arrays`."""

        def group(prefix: str) -> dict[str, Any]:
            """Return the arrays of one part, 0-dimensional ones as plain numbers."""
            found = {name.removeprefix(prefix): np.asarray(arrays[name]) for name in arrays if name.startswith(prefix)}
            return {name: value.item() if value.ndim == 0 else value for name, value in found.items()}

        summary = group("summary.")
        summary |= {"pi": tuple(summary["pi"].tolist()), "warnings": tuple(summary["warnings"].tolist())}
        return cls(
            int(arrays["box_px"]),
            float(arrays["scale"]),
            np.asarray(arrays["filters"]),
            ev.Tables(**group("tables.")),
            Calibration(**group("calibration.")),
            DetectorSummary(**summary),
        )


def fit_detector(
    images: NDArray[np.float32],
    radius_px: float,
    *,
    rng: np.random.Generator,
    false_keep_rate: float = 0.01,
    options: CalibratedOptions | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> CalibratedDetector:
    """Fit the calibrated detector to a stack (once per stack or optics group).

    Parameters
    ----------
    images : (m, d, d) float32 array
        Particles bright, phase-flipped. 500 images are enough, at most ``options.max_images`` are used. Any
        constant, scale and gradient. Best where R is 8 to 10 px and d odd; larger ones are Fourier-cropped to that.
    radius_px : float
        Particle radius R (half its longest extent) in pixels.
    rng : numpy.random.Generator
        Choice of images and surrogate noise.
    false_keep_rate : float
        Share alpha of pure noise images that may be kept.
    options : CalibratedOptions, optional
    progress : callable, optional
        Called with (done, total) after every step of the fit.

    Returns
    -------
    CalibratedDetector

    Raises
    ------
    InputError
        Box too small for the particle; fewer than 100 usable images; particles look dark.
    """
    options = options or CalibratedOptions()
    if not 0 < false_keep_rate < 1:
        raise InputError(f"false-keep rate: {false_keep_rate:g} is not between 0 and 1; 0.01 is usual")
    images = np.asarray(images)
    box = images.shape[-1]
    make_geometry(box, radius_px)  # complains in pixels of the images given
    working = working_box(box, radius_px, options.working_radius_px)
    pixel = box / working
    geometry = make_geometry(
        working,
        radius_px / pixel,
        step=options.step,
        overhang=options.overhang,
        inner_px=None if options.inner_px is None else options.inner_px / pixel,
    )
    chosen = _choose(images, rng, options.max_images)
    x = prepare(images[chosen], working)
    scale = float(x[:, geometry.ring()].std(dtype=np.float64))
    x /= np.float32(scale)
    contrast = contrast_strength(x, geometry.ring(), geometry.radius_px)
    if contrast < DARK:
        raise InputError(
            "particles: particles look dark (the middle of the mean image is darker than its rim); "
            "invert them with --contrast black"
        )
    fitted = fit_model(x, geometry, options, progress=progress)
    joint = [
        ev.judge(
            filter_outputs(fitted.noise.draw(min(1000, options.surrogates - start), rng), fitted.operators),
            fitted.tables,
        ).log_joint
        for start in range(0, options.surrogates, 1000)
    ]
    calibration = calibrate(np.concatenate(joint), false_keep_rate)
    summary = summarise(fitted, calibration, alpha=false_keep_rate, n_fit=len(chosen), contrast=contrast, pixel=pixel)
    if progress is not None:
        progress(options.iterations + 1, options.iterations + 1)
    return CalibratedDetector(box, scale, fitted.operators.filters, fitted.tables, calibration, summary)


def _choose(images: NDArray[np.floating], rng: np.random.Generator, most: int) -> NDArray[np.intp]:
    """Return the images for the fit: usable ones, drawn at random where there are more than needed."""
    good = np.flatnonzero(usable_images(images))
    if len(good) < FEWEST:
        raise InputError(
            f"particles: {len(good)} usable images are too few to learn what a particle looks like; "
            f"give at least {FEWEST} (pool optics groups), 500 or more are better"
        )
    return good if len(good) <= most else np.sort(rng.choice(good, most, replace=False))
