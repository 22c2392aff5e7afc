"""One chain of approximate EM: its state, and one iteration."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from napari_pickbias.imaging.volumes import soft_ball
from napari_pickbias.pickfree.dense import array_library, expectation_dense
from napari_pickbias.pickfree.expectation import Statistics, batches, cell_shares, expectation
from napari_pickbias.pickfree.maximisation import Normal, own_prior, pixel_weights, solve_map
from napari_pickbias.pickfree.rotation_levels import RotationLevels
from napari_pickbias.pickfree.slices import Slices
from napari_pickbias.pickfree.tables import build_tables

Array32 = NDArray[np.float32]
LEAST_PARTICLES = 1e-5
"""Prior probability that the particle's classes keep."""
JUNK_VARIANCES = (1.5, 2.0, 4.0, 16.0)
"""Variances, over the noise's, of the Gaussians that the junk class is an even mixture of."""


@dataclass(frozen=True)
class Model:
    """What stays the same over the iterations.

    Attributes
    ----------
    levels : RotationLevels
    coarse, fine, middle : Slices
        Along the grids; ``middle`` is ``fine`` where there are two levels.
    ctfs : tuple of (ndarray or None)
        ``(L, L // 2 + 1)`` for each defocus group.
    group : ndarray, shape (M,)
        Defocus group of each patch.
    """

    levels: RotationLevels
    coarse: Slices
    fine: Slices
    middle: Slices
    ctfs: tuple[Array32 | None, ...]
    group: NDArray[np.int64]

    @property
    def size(self) -> int:
        """Side of patches and map."""
        return self.fine.size


@dataclass(frozen=True)
class Stage:
    """Iterations that are done alike.

    Attributes
    ----------
    iterations : int
    fraction : float
        Share of the patches that each iteration sees, a fresh draw each time.
    band : int or None
        Last Fourier shell of the map (frequency marching); None for all.
    fine : bool
        Solve on the fine rotations too (with three levels the middle ones), not on the cells: dearer, and better near
        the end.
    """

    iterations: int
    fraction: float = 1.0
    band: int | None = None
    fine: bool = False


@dataclass(frozen=True)
class Options:
    """How a chain is run.

    Attributes
    ----------
    learn_noise, learn_empty, learn_views : bool
        Learn the noise variance, the empty fraction, the distribution of views.
    junk : bool
        Have a class for patches that hold neither noise nor the particle (ice, dirt).
    memory : bool
        Keep running sums over mini-batches; False forgets them, as the published program does.
    uniform_prior : bool
        Nearly no prior (a ridge of 1e-3 of the normal matrix), as the published program.
    log_tau, samples, tail
        See :func:`~napari_pickbias.pickfree.search.search_patches` and
        :func:`~napari_pickbias.pickfree.tables.build_tables`.
    threads : int
    device : str
        ``cpu``: best-first search. ``cuda`` (needs CuPy) and ``dense`` (the same with NumPy): every rotation and shift.
    """

    learn_noise: bool = True
    learn_empty: bool = True
    learn_views: bool = False
    junk: bool = False
    memory: bool = True
    uniform_prior: bool = False
    log_tau: float = -7.0
    samples: int = 256
    tail: float = 1e-4
    threads: int = 1
    device: str = "cpu"


@dataclass(frozen=True)
class State:
    """All that an iteration hands on to the next: saved, it lets a run go on bit for bit.

    Attributes
    ----------
    volume : ndarray, shape (L, L, L)
    noise_variance, empty, junk : float
        ``empty`` and ``junk`` are prior probabilities of these classes.
    iteration : int
        Iterations done.
    right : ndarray, shape (L, L, L)
        Running back-projection.
    weights : ndarray, shape (groups, K0, n_s)
        Running posterior weights.
    views : ndarray, shape (K0,)
        Prior of each cell over an even share.
    """

    volume: Array32
    noise_variance: float
    empty: float
    junk: float
    iteration: int
    right: Array32
    weights: Array32
    views: NDArray[np.float64]


@dataclass(frozen=True)
class Record:
    """What an iteration found, for the table of convergence.

    Attributes
    ----------
    log_likelihood : float
        Mean over the patches seen, of the map *before* the update, against "all empty".
    standard_error : float
        Of that mean.
    empty, junk, noise_variance : float
        After the update.
    norm : float
        Root of the sum of squares of the map after the update.
    patches : int
        Seen.
    refined : float
        Cells refined per patch.
    concentration : float
        Share of the gain that the best hundredth of the patches holds: some 0.1 for particles, more for contamination.
    """

    iteration: int
    log_likelihood: float
    standard_error: float
    empty: float
    junk: float
    noise_variance: float
    norm: float
    patches: int
    refined: float
    concentration: float = 0.0


def make_model(
    size: int,
    levels: RotationLevels,
    ctfs: tuple[Array32 | None, ...] = (None,),
    group: NDArray[np.int64] | None = None,
    patches: int = 0,
) -> Model:
    """Return the fixed part of a chain; all patches belong to group 0 by default."""
    fine = Slices(levels.fine, size)
    return Model(
        levels, Slices(levels.coarse, size), fine, Slices(levels.middle, size) if len(levels.middle) else fine, ctfs,
        np.zeros(patches, np.int64) if group is None else group,
    )  # fmt: skip


def first_state(model: Model, volume: Array32, noise_variance: float, empty: float = 0.55, junk: float = 0.0) -> State:
    """Return the state before the first iteration."""
    size = model.size
    cells, shifts = len(model.levels.coarse), (2 * size - 1) ** 2
    return State(
        (volume * soft_ball(size, size // 2)).astype(np.float32), noise_variance, empty, junk, 0,
        np.zeros((size,) * 3, np.float32), np.zeros((len(model.ctfs), cells, shifts), np.float32),
        cell_shares(model.levels),
    )  # fmt: skip


def junk_ratio(patches: Array32, noise_variance: float) -> NDArray[np.float64]:
    """Return the log likelihood ratio of each patch under the junk class against noise."""
    pixels = patches.shape[1] * patches.shape[2]
    energy = np.einsum("mij,mij->m", patches, patches, dtype=np.float64) / (2 * noise_variance)
    terms = [energy * (1 - 1 / v) - pixels / 2 * np.log(v) for v in JUNK_VARIANCES]
    return np.asarray(np.logaddexp.reduce(terms, axis=0) - np.log(len(terms)))


def scan(patches: Array32, model: Model, state: State, options: Options, rows: NDArray[np.int64]) -> list[Statistics]:
    """Do the E-step of ``rows`` for every defocus group (an empty one for groups without any)."""
    found = []
    void = state.empty + state.junk

    def other(chunk: Array32) -> NDArray[np.float64]:
        ratio = junk_ratio(chunk, state.noise_variance)
        return np.asarray(np.logaddexp(np.log(state.empty / void), np.log(state.junk / void) + ratio), np.float64)

    for number, ctf in enumerate(model.ctfs):
        chosen = rows[model.group[rows] == number]
        prior = np.log(np.maximum(state.views, 1e-6))
        junk = other if options.junk else None
        tables = build_tables(
            model.fine.project(state.volume, ctf), model.levels, state.noise_variance, tail=options.tail,
            coarse_tail=min(10 * options.tail, 1e-3), weights=state.views,
        )  # fmt: skip
        if options.device != "cpu":
            library = array_library("cuda" if options.device == "cuda" else "cpu")
            part = expectation_dense(
                patches, chosen, tables, model.levels, void, log_weight=prior, other=junk, library=library
            )
        else:
            part = expectation(
                patches, chosen, tables, model.levels, void, log_weight=prior, other=junk, log_tau=options.log_tau,
                samples=options.samples, threads=options.threads,
            )  # fmt: skip
        found.append(part)
    return found


def iterate(
    patches: Array32,
    model: Model,
    state: State,
    stage: Stage,
    options: Options,
    rows: NDArray[np.int64],
    rng: np.random.Generator,
    prior: NDArray[np.float64] | None = None,
) -> tuple[State, Record]:
    """Do one iteration.

    Parameters
    ----------
    patches : ndarray or memory map, shape (M, L, L)
        Background 0, noise white.
    model, state, stage, options
        See there.
    rows : ndarray
        Patches of this chain (a half-set, or all).
    rng : numpy.random.Generator
        Draws the mini-batch.
    prior : ndarray, shape (L // 2 + 1,), or None
        Power by shell; by default :func:`~napari_pickbias.pickfree.maximisation.own_prior` of the map.

    Returns
    -------
    State, Record
    """
    batch = batches(rows, stage.fraction, rng)
    found = scan(patches, model, state, options, batch)
    likelihood = np.concatenate([part.log_likelihood for part in found])
    void = np.concatenate([part.void for part in found])
    number = len(batch)
    # Sums stand for the whole set, so that the prior weighs the same in every stage.
    scale = np.float32(len(rows) / number)
    right = np.zeros_like(state.right)
    for part, ctf in zip(found, model.ctfs, strict=True):
        right += model.fine.backproject(part.sums, ctf) * scale
    weights = np.stack([part.weights for part in found]) * scale
    share = 1.0
    if options.memory and stage.fraction < 1:
        share = max(stage.fraction, 1 / (state.iteration + 1))
    kept = np.float32(1 - share)
    right = kept * state.right + np.float32(share) * right
    weights = kept * state.weights + np.float32(share) * weights
    power = own_prior(state.volume) if prior is None else prior
    parts = _normal(model, weights, stage.fine)
    if options.uniform_prior:
        seen = sum(float(part.weights.mean()) * part.slices.count for part in parts)
        power = np.full(len(power), state.noise_variance * model.size**3 / max(1e-3 * seen, 1e-9))
    volume = solve_map(parts, right, power, state.noise_variance, state.volume, band=stage.band)
    empty, junk = _classes(patches, found, state, options, batch, model, float(void.mean()))
    variance = state.noise_variance
    if options.learn_noise:
        energy = sum(_energy(patches, batch[i : i + 4096]) for i in range(0, number, 4096))
        score = sum(part.score for part in found)
        variance = (energy - 2 * state.noise_variance * score) / (number * model.size**2)
    views = state.views
    if options.learn_views:
        mass = weights.sum(axis=(0, 2), dtype=np.float64)
        # a tenth of the mass stays spread evenly, so that no view can die out
        views = 0.9 * mass / max(mass.sum(), 1e-12) * len(mass) + 0.1 * cell_shares(model.levels)
    after = State(volume, float(variance), empty, junk, state.iteration + 1, right, weights, views)
    error = float(likelihood.std() / np.sqrt(number))
    refined = sum(part.refined for part in found) / number
    norm = float(np.linalg.norm(volume.astype(np.float64)))
    record = Record(
        after.iteration,
        float(likelihood.mean()),
        error,
        empty,
        junk,
        after.noise_variance,
        norm,
        number,
        refined,
        concentration(likelihood),
    )
    return after, record


def concentration(likelihood: NDArray[np.float64]) -> float:
    """Return which share of the positive log-likelihoods the best hundredth of the patches holds."""
    gains = np.sort(np.maximum(likelihood, 0))[::-1]
    return float(gains[: max(1, len(gains) // 100)].sum() / max(gains.sum(), 1e-30))


def _energy(patches: Array32, rows: NDArray[np.int64]) -> float:
    chunk = np.asarray(patches[rows], np.float32)
    return float(np.einsum("mij,mij->", chunk, chunk, dtype=np.float64))


def _normal(model: Model, weights: Array32, fine: bool) -> list[Normal]:
    parts = []
    for ctf, weight in zip(model.ctfs, weights, strict=True):
        if not weight.any():
            continue
        if fine:
            children = model.levels.children
            spread = weight / children[:, None].astype(np.float32)
            if model.middle is model.fine:
                spread = np.repeat(spread, children, axis=0)
            else:
                # 15 degrees are fine enough here, and a third level has eight times as many rotations
                shares = np.diff(model.levels.middle_start).astype(np.float32)[:, None]
                spread = np.repeat(spread, np.diff(model.levels.middle_of_cell), axis=0) * shares
            parts.append(Normal(model.middle, pixel_weights(spread, model.size), ctf))
        else:
            parts.append(Normal(model.coarse, pixel_weights(weight, model.size), ctf))
    return parts


def _classes(
    patches: Array32,
    found: list[Statistics],
    state: State,
    options: Options,
    batch: NDArray[np.int64],
    model: Model,
    void: float,
) -> tuple[float, float]:
    """Return the new priors of the empty and the junk class."""
    if not options.learn_empty:
        return state.empty, state.junk
    void = float(np.clip(void, 1e-4, 1 - LEAST_PARTICLES))
    if not options.junk:
        return void, 0.0
    junk = 0.0
    for number, part in enumerate(found):
        rows = batch[model.group[batch] == number]
        for i in range(0, len(rows), 4096):
            ratio = junk_ratio(np.asarray(patches[rows[i : i + 4096]], np.float32), state.noise_variance)
            odds = np.log(max(state.junk, 1e-12)) + ratio - np.log(state.empty)
            junk += float((part.void[i : i + 4096] / (1 + np.exp(-np.clip(odds, -700, 700)))).sum())
    junk = max(junk / len(batch), 1e-6)
    empty = max(void - junk, 1e-4)
    # no class dies out, the particle's neither
    most = 1 - LEAST_PARTICLES
    total = max((empty + junk) / most, 1.0)
    return empty / total, junk / total


def with_volume(state: State, volume: Array32) -> State:
    """Return ``state`` with another map."""
    return replace(state, volume=volume)
