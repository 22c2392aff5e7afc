"""Reconstruction from patches: stages of iterations, named presets, half-sets."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from napari_pickbias.imaging.correlation import fourier_correlation
from napari_pickbias.pickfree.chain import Model, Options, Record, Stage, State, first_state, iterate, make_model
from napari_pickbias.pickfree.maximisation import shell_power
from napari_pickbias.pickfree.rotation_levels import rotation_levels
from napari_pickbias.pickfree.start import default_lowpass, likeliest_snr, lowpassed, scaled_to

Array32 = NDArray[np.float32]
DEFAULT_ROTATIONS = 4608
SCALE_PATCHES = 400
"""Patches on which the start's scale is found."""


@dataclass(frozen=True)
class Reconstruction:
    """What a chain arrived at.

    Attributes
    ----------
    volume : ndarray, shape (L, L, L)
        In the patches' scale: its projections, moved and cut, are what the patches show.
    records : list of Record
        One an iteration.
    state : State
        The last.
    start_norm : float
        Norm of the scaled start; ``records[-1].norm / start_norm`` tells growth from decay.
    """

    volume: Array32
    records: list[Record]
    state: State
    start_norm: float


def default_stages(iterations: int = 13) -> tuple[Stage, ...]:
    """Return the usual course: half of the patches an iteration, then the last three on all, on the fine rotations."""
    last = min(3, iterations)
    rest = iterations - last
    return (*((Stage(rest, 0.5),) if rest else ()), Stage(last, 1.0, fine=True))


def paper_stages(size: int) -> tuple[Stage, ...]:
    """Return the published course: 5, 5 and 10 iterations of rising band on 5 % of the patches each.

    The published bands are degrees of spherical harmonics (6, 8 and 10 of 10 at 11 px); here they are shells in the
    same proportion. Batch share and band are not in the text; they are those of the published program.
    """
    return tuple(
        Stage(count, 0.05, band=max(1, round(share * (size // 2)))) for count, share in ((5, 0.6), (5, 0.8), (10, 1.0))
    )


PAPER_ROTATIONS = 552


def paper_options(options: Options) -> Options:
    """Return the published choices: noise variance known, no memory of earlier batches, no prior but a ridge."""
    return replace(options, learn_noise=False, memory=False, uniform_prior=True)


def run_stages(
    patches: Array32,
    model: Model,
    state: State,
    stages: Sequence[Stage],
    options: Options,
    rows: NDArray[np.int64],
    seed: Sequence[int],
    *,
    fsc: NDArray[np.float64] | None = None,
) -> Generator[tuple[State, Record], None, None]:
    """Go on from ``state`` to the end of ``stages``; yields after every iteration.

    Every random choice comes from ``seed`` and the number of the iteration, so a chain that goes on from a saved state
    ends as one that was never interrupted.

    Parameters
    ----------
    fsc : ndarray, shape (L // 2 + 1,), or None
        Half-set FSC: the prior of full-batch iterations is then the map's power times FSC / (1 - FSC), for a
        map from both halves (S. H. W. Scheres, RELION, 2012).
    """
    number = 0
    for stage in stages:
        for _ in range(stage.iterations):
            if state.iteration <= number:
                prior = None if fsc is None or stage.fraction < 1 else fsc_prior(state.volume, fsc)
                rng = np.random.default_rng([*seed, number])
                state, record = iterate(patches, model, state, stage, options, rows, rng, prior)
                yield state, record
            number += 1


def fsc_prior(volume: Array32, fsc: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the prior power by shell that a half-set FSC stands for."""
    half = np.clip(np.nan_to_num(fsc), 0.0, 0.999)
    whole = 2 * half / (1 + half)
    return np.asarray(np.maximum(shell_power(volume) * np.maximum(whole, 0.02) / (1 - whole), 1e-30))


def half_rows(count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the even and the odd patches."""
    return np.arange(0, count, 2), np.arange(1, count, 2)


def prepared_start(
    patches: Array32,
    model: Model,
    initial: Array32,
    options: Options,
    *,
    noise_variance: float,
    empty: float,
    lowpass: int | None,
    snr: float | None,
    seed: int,
) -> tuple[State, float, float]:
    """Return the first state, its map low-passed and scaled, its signal-to-noise ratio, and its likelihood (or 0)."""
    shell = default_lowpass(model.size) if lowpass is None else lowpass
    volume = lowpassed(initial, shell)
    junk = 0.02 if options.junk else 0.0
    state = first_state(model, volume, noise_variance, empty, junk)
    gain = 0.0
    if snr is None:
        rng = np.random.default_rng([seed, 10_000])
        rows = np.sort(rng.choice(len(patches), min(SCALE_PATCHES, len(patches)), replace=False))
        snr, gains = likeliest_snr(patches, model, state, options, rows)
        gain = float(gains.max())
    return replace(state, volume=scaled_to(model, state.volume, snr, noise_variance)), snr, gain


def reconstruct(
    patches: Array32,
    initial: Array32,
    *,
    rotations: int = DEFAULT_ROTATIONS,
    iterations: int = 13,
    stages: Sequence[Stage] | None = None,
    noise_variance: float = 1.0,
    empty: float = 0.55,
    lowpass: int | None = None,
    snr: float | None = None,
    ctfs: Sequence[Array32] | None = None,
    group: NDArray[np.int64] | None = None,
    rows: NDArray[np.int64] | None = None,
    options: Options | None = None,
    seed: int = 0,
) -> Reconstruction:
    """Reconstruct a map from patches of micrographs, without picking.

    Parameters
    ----------
    patches : ndarray or memory map, shape (M, L, L), float32
        Neighbouring, non-overlapping patches; particles bright, background 0, noise white.
    initial : ndarray, shape (L, L, L)
        Initial map, in any scale.
    rotations : int
        Of the fine grid; an eighth of them is searched everywhere.
    iterations : int
        With the usual stages: the last three are on all patches.
    stages : sequence of Stage, optional
        Instead of ``iterations``.
    noise_variance : float
        Of a pixel; learned from there on, unless ``options`` say otherwise.
    empty : float
        First guess of the share of patches without any particle.
    lowpass : int, optional
        Last Fourier shell of the start; about a fifth of the box by default.
    snr : float, optional
        Mean energy of the particle's projections per pixel of its box over the noise variance, to which the start is
        scaled; by default the likeliest of ten from 1/32 to 16.
    ctfs : sequence of ndarray, shape (L, L // 2 + 1), optional
        CTF (times whitening filter) of each defocus group.
    group : ndarray of int, shape (M,), optional
        Defocus group of each patch.
    rows : ndarray of int, optional
        Patches to use: a half-set.
    options : Options, optional
    seed : int

    Returns
    -------
    Reconstruction
        Its map is fixed only up to a rotation, a shift and the hand: see
        :func:`~napari_pickbias.pickfree.alignment.align`.

    Raises
    ------
    ValueError
        Shapes that do not fit each other, or a map of zeros.

    Notes
    -----
    S. Kreymer, A. Singer and T. Bendory, Expectation-Maximization for Structure Determination Directly from Cryo-EM
    Micrographs, sections 3.1 to 3.4; the search and the sums are this project's own (docs/pickfree.md).
    """
    size = patches.shape[1]
    if patches.ndim != 3 or patches.shape[2] != size or initial.shape != (size,) * 3:
        raise ValueError(f"`patches` {patches.shape} and `initial` {initial.shape} do not have the same side")
    chosen = options or Options()
    transfer: tuple[Array32 | None, ...] = (None,) if ctfs is None else tuple(ctfs)
    model = make_model(size, rotation_levels(rotations), transfer, group, len(patches))
    state, _, _ = prepared_start(
        patches, model, initial, chosen, noise_variance=noise_variance, empty=empty, lowpass=lowpass, snr=snr, seed=seed
    )
    start_norm = float(np.linalg.norm(state.volume.astype(np.float64)))
    every = np.arange(len(patches)) if rows is None else rows
    records = []
    course = default_stages(iterations) if stages is None else tuple(stages)
    for reached, record in run_stages(patches, model, state, course, chosen, every, [seed]):
        records.append(record)
        state = reached
    return Reconstruction(state.volume, records, state, start_norm)


def half_set_fsc(first: Array32, second: Array32) -> NDArray[np.float64]:
    """Return the FSC of two maps in one frame, by shell ``0 ... L // 2``."""
    return fourier_correlation(first, second, 3)
