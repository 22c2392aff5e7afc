"""Class averages without labels, of the picks, of picks of noise and of random places, beside what bias gives.

The classification knows no template: a Gaussian mixture of known covariance from random starts. Its averages are then
matched to the templates and compared with the average that picking alone would put there.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

import numpy as np
import scipy.fft
import scipy.signal
from numpy.typing import NDArray
from scipy.sparse import csr_array

from napari_pickbias.bias.averages import cut_patches
from napari_pickbias.bias.mixture import assign, correlations, fit_mixture, turning_matrices
from napari_pickbias.bias.theory import needed_picks, predicted_correlation
from napari_pickbias.imaging.fourier import radial_frequency, shell_average, shift_images
from napari_pickbias.imaging.volumes import distance_grid, resize_box
from napari_pickbias.jobs.bias import BiasResult
from napari_pickbias.jobs.bias_match import make_bias_plan
from napari_pickbias.jobs.pick_match import searched
from napari_pickbias.jobs.pick_templates import TemplateInput
from napari_pickbias.jobs.progress import Progress
from napari_pickbias.matching.noise_model import surrogate
from napari_pickbias.matching.preprocess import prepare
from napari_pickbias.records.micrographs import MicrographSet

__all__ = ["ClassSet", "Classes", "Given", "class_job", "compare_given"]

MOST = 4000
"""Patches that are classified, drawn at random where there are more."""
STARTS, ITERATIONS = 3, 40
TURN = 30.0
"""Degrees between the in-plane angles tried where classes are aligned."""
FLOOR = 1e-4
"""Least eigenvalue of the noise's covariance, of the largest."""
SHIFT = 2
"""Pixels that averages of another program may lie off centre, in steps of one."""


@dataclass(frozen=True)
class ClassSet:
    """One classification.

    Attributes
    ----------
    averages : ndarray, shape (K, b, b)
        Plain class averages, zero outside the disc.
    picks : ndarray of int, shape (K,)
    template : ndarray of int, shape (K,)
        Template of the bank it is matched to, one to one; -1 where there is none left.
    correlation : ndarray, shape (K,)
        With what picking alone puts there, where the noise is white.
    expected : ndarray, shape (K,)
        What that would be if every patch were noise picked with that template.
    """

    averages: NDArray[np.float64]
    picks: NDArray[np.int64]
    template: NDArray[np.int64]
    correlation: NDArray[np.float64]
    expected: NDArray[np.float64]

    @property
    def mean_correlation(self) -> float:
        """Over classes, by their picks; NaN where there are none."""
        known = np.isfinite(self.correlation) & (self.picks > 0)
        return float(np.average(self.correlation[known], weights=self.picks[known])) if known.any() else float("nan")

    @property
    def mean_expected(self) -> float:
        """Over the same classes."""
        known = np.isfinite(self.correlation) & (self.picks > 0)
        return float(np.average(self.expected[known], weights=self.picks[known])) if known.any() else float("nan")


@dataclass(frozen=True)
class Given:
    """Class averages that another program made.

    Attributes
    ----------
    averages : ndarray, shape (K, b, b)
        On the pixels of the diagnosis.
    template : ndarray of int, shape (K,)
    correlation : ndarray, shape (K,)
        Highest one over turns and small shifts, with what picking alone gives.
    noise : ndarray
        The same of averages of random noise patches, for comparison.
    """

    averages: NDArray[np.float64]
    template: NDArray[np.int64]
    correlation: NDArray[np.float64]
    noise: NDArray[np.float64]


@dataclass(frozen=True)
class Classes:
    """Classifications of the picks and of noise.

    Attributes
    ----------
    sets : dict of ClassSet
        ``picks``, ``noise`` (picked with the templates), ``random`` (places of noise).
    predicted : ndarray, shape (L, b, b)
        What picking alone puts into the average of each template.
    dimension : int
        Pixels under the disc.
    needed : float
        Picks from which a classification without labels can find the templates in noise.
    aligned : bool
    given : Given or None
    """

    sets: dict[str, ClassSet]
    predicted: NDArray[np.float64]
    dimension: int
    needed: float
    aligned: bool
    given: Given | None = None


@dataclass(frozen=True)
class _White:
    """Patches under a disc, their noise made white; the noise is taken as alike in all directions."""

    disc: NDArray[np.bool_]
    forward: NDArray[np.float64]
    back: NDArray[np.float64]

    def apply(self, patches: NDArray[np.floating]) -> NDArray[np.float64]:
        return np.asarray(np.asarray(patches, np.float64)[:, self.disc] @ self.forward)

    def square(self, flat: NDArray[np.floating]) -> NDArray[np.float64]:
        found = np.zeros((len(flat), *self.disc.shape))
        found[:, self.disc] = flat
        return found


def class_job(
    found: MicrographSet,
    templates: TemplateInput,
    result: BiasResult,
    classes: int,
    *,
    align: bool = False,
    given: TemplateInput | None = None,
) -> Generator[Progress, None, Classes]:
    """Classify the picks, the picks of noise and random places of noise; yields :class:`Progress`.

    Parameters
    ----------
    found, templates
        What the diagnosis was made of.
    result : BiasResult
    classes : int
        ``K``; fewer where there are too few picks. 0 classifies nothing: only ``given`` is compared.
    align : bool
        Let classes turn in their plane, :data:`TURN` degrees apart.
    given : TemplateInput, optional
        Class averages that another program made of these picks.
    """
    rng = np.random.default_rng([result.parameters.seed, 8])
    sets = {}
    stacks = yield from _patches(found, templates, result, rng)
    white = _whitening(result)
    predicted = _predicted(result, white)
    along = white.apply(predicted)
    scores = np.concatenate([table["score"] for table in result.picks.values()])
    disc = np.flatnonzero(white.disc.ravel())
    every = turning_matrices(result.frame.box, [float(a) for a in np.arange(TURN, 360, TURN)]) if align else []
    turns = [csr_array(turn[disc][:, disc]) for turn in every]
    level = float(np.mean(scores)) if len(scores) else result.threshold
    dimension = int(white.disc.sum())
    for done, (name, patches) in enumerate(stacks.items()):
        count = min(classes, len(patches) // 4)
        if count < 1:
            continue
        yield Progress("classes", done, len(stacks), f"classifying {len(patches)} patches of {name}")
        fit = fit_mixture(white.apply(patches), count, rng, starts=STARTS, iterations=ITERATIONS, turns=turns)
        template, value = assign(fit.means, along)
        sizes = np.bincount(fit.labels, minlength=count)
        expected = predicted_correlation(max(level, 0.1), dimension, np.maximum(sizes, 1))
        sets[name] = ClassSet(white.square(fit.means @ white.back), sizes, template, value, expected)
    views = result.frame.turns.views if align else len(predicted)
    needed = needed_picks(max(result.threshold, 0.1), dimension, min(views, max(classes, 1)))
    compared = None if given is None else compare_given(given, result, predicted, stacks["random"], rng)
    yield Progress("classes", len(stacks), len(stacks))
    return Classes(sets, predicted, dimension, needed, align, compared)


def _patches(
    found: MicrographSet, templates: TemplateInput, result: BiasResult, rng: np.random.Generator
) -> Generator[Progress, None, dict[str, NDArray[np.float32]]]:
    """Cut the picks again, and as many random places of noise."""
    plan = make_bias_plan(found, templates, result.parameters.picking(result.lowpass))
    sign, box = np.float32(result.candidates.facts["sign"]), result.frame.box
    used = [number for number, match in enumerate(result.candidates.matches) if match is not None]
    share = min(1.0, MOST / max(result.count, 1))
    real, anywhere = [], []
    for done, number in enumerate(used):
        yield Progress("patches", done, len(used))
        match = result.candidates.matches[number]
        assert match is not None
        table = result.picks.get(result.candidates.names[number])
        if table is None or not len(table):
            continue
        table = table[rng.random(len(table)) < share]
        image, ratio = searched(plan, number)
        prepared = prepare(image * sign, plan.settings.diameter / plan.settings.pixel_size, box)
        places = (np.column_stack([table["y"], table["x"]]) - plan.border_px) / np.array(ratio)
        real.append(cut_patches(prepared.image, places, box))
        noise = surrogate(match.noise, prepared.image.shape, rng)
        inside = np.argwhere(prepared.inside)
        anywhere.append(cut_patches(noise, inside[rng.integers(0, len(inside), len(table))].astype(np.float64), box))
    twin = result.twin_patches
    if len(twin) > MOST:
        twin = twin[np.sort(rng.choice(len(twin), MOST, replace=False))]
    empty = np.zeros((0, box, box), np.float32)
    return {
        "picks": np.concatenate(real) if real else empty,
        "noise": twin,
        "random": np.concatenate(anywhere) if anywhere else empty,
    }


def _covariance(result: BiasResult, disc: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the covariance of the noise of all pixels of the disc, its spectrum averaged over directions."""
    size = min(match.noise.power.shape[0] for match in result.candidates.used)
    at = np.minimum(radial_frequency((size, size)), 0.5)
    curves = []
    for match in result.candidates.used:
        side = match.noise.power.shape[0]
        shells = shell_average(match.noise.power, (side, side))
        curves.append(np.interp(at, np.arange(len(shells)) / side, shells))
    lags = scipy.fft.irfft2(np.mean(curves, axis=0), s=(size, size), workers=1)
    rows, columns = np.nonzero(disc)
    return np.asarray(lags[(rows[:, None] - rows) % size, (columns[:, None] - columns) % size])


def _whitening(result: BiasResult) -> _White:
    box = result.frame.box
    disc = distance_grid(box, 2) <= (box - 1) / 2 - 1
    values, vectors = np.linalg.eigh(_covariance(result, disc))
    root = np.sqrt(np.maximum(values, FLOOR * values[-1]))
    return _White(disc, (vectors / root) @ vectors.T, (vectors * root) @ vectors.T)


def _predicted(result: BiasResult, white: _White) -> NDArray[np.float64]:
    """Return the covariance times each template: where averages of picked noise go."""
    flat = np.asarray(result.frame.bank.images, np.float64)[:, white.disc]
    return white.square(flat @ white.back @ white.back)


def compare_given(
    given: TemplateInput,
    result: BiasResult,
    predicted: NDArray[np.floating],
    noise: NDArray[np.floating],
    rng: np.random.Generator,
) -> Given:
    """Compare averages that another program made with what picking alone gives.

    They may be turned (by the bank's in-plane angles), off centre by :data:`SHIFT` pixels, of any scale, and dark where
    most of them are; each takes the template and shift of its highest correlation.

    Parameters
    ----------
    given : TemplateInput
        Their images and pixel size.
    predicted : ndarray, shape (L, b, b)
    noise : ndarray, shape (n, b, b)
        Patches of noise at random places.
    """
    box, pixel = result.frame.box, result.frame.pixel_size
    data = np.asarray(given.data, np.float64)
    side = max(round(data.shape[-1] * given.pixel_size_angstrom / pixel), 4)
    if side != data.shape[-1]:
        data = scipy.signal.resample(scipy.signal.resample(data, side, axis=1), side, axis=2)
    images = np.asarray(resize_box(data, box, 2), np.float64)
    middle = distance_grid(box, 2) <= box / 5
    # programs differ in whether particles are bright in their averages
    images = images * (1 if np.median(images[:, middle].mean(axis=1) - images.mean(axis=(1, 2))) >= 0 else -1)
    disc = distance_grid(box, 2) <= (box - 1) / 2 - 1 - SHIFT
    template, value = _best(images, predicted, disc)
    draws = [noise[rng.choice(len(noise), max(len(noise) // max(len(images), 1), 1))].mean(axis=0) for _ in range(8)]
    _, null = _best(np.stack(draws), predicted, disc)
    return Given(images, template, value, null)


def _best(
    images: NDArray[np.floating], predicted: NDArray[np.floating], disc: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    best, label = np.full(len(images), -1.0), np.full(len(images), -1, np.int64)
    for dy in range(-SHIFT, SHIFT + 1):
        for dx in range(-SHIFT, SHIFT + 1):
            moved = shift_images(np.asarray(images, np.float64), np.tile([float(dx), float(dy)], (len(images), 1)))
            table = correlations(moved[:, disc], predicted[:, disc])
            top = table.argmax(axis=1)
            better = table[np.arange(len(images)), top] > best
            best[better], label[better] = table[np.arange(len(images)), top][better], top[better]
    return label, best
