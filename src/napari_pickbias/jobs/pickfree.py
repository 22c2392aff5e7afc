"""The job of reconstruction without picking: micrographs and an initial map in; map, half maps and their null out."""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_pickbias.errors import InputError
from napari_pickbias.imaging.correlation import crossing_resolution, fourier_correlation
from napari_pickbias.jobs.pickfree_chains import Chain, run_chain
from napari_pickbias.jobs.pickfree_parameters import PickfreeParameters
from napari_pickbias.jobs.pickfree_patches import (
    Patches,
    check_sizes,
    prepare,
    small_micrograph,
    surrogate_of,
    whitened,
)
from napari_pickbias.jobs.pickfree_setup import cells_of, check_device, course_of, initial_map, origin_of, start_shell
from napari_pickbias.jobs.progress import Checkpoints, NoCheckpoints, Progress
from napari_pickbias.pickfree.alignment import refined
from napari_pickbias.pickfree.chain import Model, Options, Record, Stage, State, make_model
from napari_pickbias.pickfree.picking import pick_boxes, refine_picks
from napari_pickbias.pickfree.reconstruct import (
    half_rows,
    prepared_start,
)
from napari_pickbias.pickfree.rotation_levels import rotation_levels
from napari_pickbias.pickfree.start import lowpassed
from napari_pickbias.records import Micrographs, Volume

Array32 = NDArray[np.float32]
STANDARD_ERRORS = 3.0
"""By how many standard errors the likelihood must exceed the null's."""
LEAST_GAIN = 1e-3
"""And by how much per patch, at least: the search's own approximations are about this large."""
MOST_CONCENTRATED = 0.4
"""Share of the likelihood in a hundredth of the patches from which on a warning is given."""
PICKED_PATCHES = 2500
"""Patches' worth of surrogates that template picking is tried on."""
PICKING_ITERATIONS = 6


@dataclass(frozen=True)
class PickfreeResult:
    """Everything the report and the adapters need. Maps are in the initial map's units.

    Attributes
    ----------
    parameters : PickfreeParameters
    voxel_size_angstrom : float
    origin_angstrom : tuple of float
    initial, start : ndarray, shape (L, L, L)
        The initial map in this box, and what the chains started from.
    chains : dict
        ``map``, ``half1``, ``half2``, and ``null`` where asked for.
    factor : float
        By which the initial map was multiplied to fit the micrographs in units of their noise.
    snr : float
        Of the start.
    fsc_halves, fsc_initial, fsc_null : ndarray
        By shell; the last is that of the null's map with the initial map (empty without null).
    evidence : bool
    standard_errors : float
        By which the gain exceeds the null's.
    picking : list of float
        What template picking on the surrogates keeps of the start's norm after each iteration.
    starts, null_starts : list of float
        Last log-likelihood per patch from each start, on the micrographs and on the surrogates.
    patches, micrographs : int
    warnings : list of str
    """

    parameters: PickfreeParameters
    voxel_size_angstrom: float
    origin_angstrom: tuple[float, float, float]
    initial: Array32
    start: Array32
    chains: dict[str, Chain]
    factor: float
    snr: float
    fsc_halves: NDArray[np.float64]
    fsc_initial: NDArray[np.float64]
    fsc_null: NDArray[np.float64]
    evidence: bool
    standard_errors: float
    picking: list[float]
    starts: list[float]
    null_starts: list[float]
    patches: int
    micrographs: int
    warnings: list[str]

    @property
    def start_norm(self) -> float:
        """Norm of the start in the patches' units, as the records count it."""
        return float(np.linalg.norm(self.start.astype(np.float64))) * self.factor

    def norm_ratio(self, chain: str = "map") -> float:
        """Return the norm of a chain's last map over that of the start."""
        return self.chains[chain].records[-1].norm / self.start_norm

    @property
    def resolution_px(self) -> float | None:
        """Half-set resolution at FSC 0.143 in pixels of this box; None without evidence, or where it starts below."""
        value = crossing_resolution(self.fsc_halves, float(self.parameters.box))
        return value if self.evidence and math.isfinite(value) else None


def pickfree_job(
    micrographs: Micrographs,
    initial: Volume,
    parameters: PickfreeParameters,
    folder: Path,
    *,
    threads: int = 1,
    checkpoints: Checkpoints | None = None,
) -> Generator[Progress, None, PickfreeResult]:
    """Reconstruct without picking; yields :class:`Progress`, returns a :class:`PickfreeResult`.

    Parameters
    ----------
    micrographs : Micrographs
    initial : Volume
        A cube; its extent is kept, its voxels become extent / box.
    parameters : PickfreeParameters
    folder : Path
        For the patches' files, which grow to twice the size of the down-sampled micrographs.
    threads : int
        The result is the same for any number.
    checkpoints : Checkpoints, optional
        Every finished iteration is kept there.

    Raises
    ------
    InputError
        A map that is no cube, empty or smaller than the box, a box larger than a micrograph, and the like.
    """
    kept = checkpoints or NoCheckpoints()
    box = parameters.box
    volume, voxel, warnings = initial_map(initial, box)
    check_sizes(micrographs, voxel, box)
    check_device(parameters.device)
    shell = start_shell(parameters, voxel)
    patches = yield from prepare(micrographs, voxel, parameters, folder, kept)
    warnings += patches.notes
    stages, options, rotations = course_of(parameters, threads)
    count = len(patches.real)
    if count < 50:
        raise InputError(
            f"--micrographs: give only {count} patches of {box} px at {voxel:.3g} Å; at least 50 are needed, and some "
            "thousands to be of use: give more micrographs"
        )
    model = make_model(box, rotation_levels(rotations, cells_of(rotations)), patches.ctfs, patches.group)
    yield Progress("start", 0, 1, "scaling the initial map to the micrographs")
    state, snr, sign = _start(patches, model, volume, shell, parameters, options, kept)
    factor = _factor(state.volume, lowpassed(volume, shell))
    every, (even, odd) = np.arange(count), half_rows(count)
    real, null = _signed(patches.real, sign), patches.null
    seed = parameters.seed
    chains: dict[str, Chain] = {}
    for number, (name, rows) in enumerate((("half1", even), ("half2", odd))):
        chains[name] = yield from run_chain(
            name, real, model, state, stages, options, rows, [seed, 1 + number], kept, fsc=None
        )
    chains["half2"].volumes[-1] = refined(chains["half2"].volume, chains["half1"].volume).volume
    fsc = fourier_correlation(chains["half1"].volume, chains["half2"].volume, 3)
    firsts = [state] + [
        replace(state, volume=_perturbed(state.volume, seed, trial)) for trial in range(1, parameters.starts)
    ]
    chains["map"], starts = yield from _likeliest(
        "map", real, model, firsts, stages, options, every, [seed, 0], kept, fsc if parameters.prior == "fsc" else None
    )
    picking: list[float] = []
    null_starts: list[float] = []
    shadow = replace(model, ctfs=patches.null_ctfs)
    if parameters.null:
        # as many starts as the micrographs had: the likeliest of several is likelier on noise too
        chains["null"], null_starts = yield from _likeliest(
            "null", null, shadow, firsts, stages, options, every, [seed, 3], kept, None
        )
        yield Progress("picking", 0, 1, "template picking on the surrogates, for comparison")
        picking = _picking(micrographs, voxel, patches, shadow, state, options, parameters, chains["map"], kept)
    evidence, errors = judge(chains["map"].records[-1], chains["null"].records[-1] if parameters.null else None)
    warnings += _warnings(parameters, evidence, chains, snr)
    for chain in chains.values():
        chain.volumes = [np.asarray(v / np.float32(factor), np.float32) for v in chain.volumes]
    start = np.asarray(state.volume / np.float32(factor), np.float32)
    aligned = refined(chains["map"].volume, volume).volume
    none = np.zeros(0)
    return PickfreeResult(
        parameters, voxel, origin_of(initial, box, voxel), volume, start, chains, factor, snr, fsc,
        fourier_correlation(aligned, volume, 3),
        fourier_correlation(refined(chains["null"].volume, volume).volume, volume, 3) if parameters.null else none,
        evidence, errors, picking, starts, null_starts, count, len(micrographs), warnings,
    )  # fmt: skip


def _likeliest(
    name: str,
    patches: Array32,
    model: Model,
    firsts: list[State],
    stages: tuple[Stage, ...],
    options: Options,
    rows: NDArray[np.int64],
    seed: list[int],
    kept: Checkpoints,
    fsc: NDArray[np.float64] | None,
) -> Generator[Progress, None, tuple[Chain, list[float]]]:
    """Run a chain from each start; return the likeliest, and the last log-likelihood per patch of each."""
    best: Chain | None = None
    gains = []
    for trial, first in enumerate(firsts):
        part = name if trial == 0 else f"{name}{trial + 1}"
        chain = yield from run_chain(part, patches, model, first, stages, options, rows, [*seed, trial], kept, fsc=fsc)
        gains.append(chain.records[-1].log_likelihood)
        if best is None or gains[-1] > best.records[-1].log_likelihood:
            best = chain
    assert best is not None
    return best, gains


def judge(found: Record, null: Record | None) -> tuple[bool, float]:
    """Return whether the data can be told from their null, and by how many standard errors of the likelihood."""
    gain, error = found.log_likelihood, found.standard_error
    if null is not None:
        gain, error = gain - max(null.log_likelihood, 0.0), math.hypot(error, null.standard_error)
    errors = gain / max(error, 1e-12)
    return errors > STANDARD_ERRORS and gain > LEAST_GAIN, errors


def _start(
    patches: Patches,
    model: Model,
    volume: Array32,
    shell: int,
    parameters: PickfreeParameters,
    options: Options,
    kept: Checkpoints,
) -> tuple[State, float, float]:
    """Return the first state, its signal-to-noise ratio, and the sign that makes particles bright."""
    done = kept.load("start")
    noise = parameters.noise or 1.0
    snr, sign = (None, 1.0) if done is None else (float(done["snr"]), float(done["sign"]))
    best = -math.inf
    common: dict[str, Any] = {
        "noise_variance": noise, "empty": parameters.empty, "lowpass": shell, "seed": parameters.seed,
    }  # fmt: skip
    if done is None:
        signs = (1.0, -1.0) if parameters.contrast == "auto" else (1.0,)
        for trial in signs if parameters.snr is None or len(signs) > 1 else ():
            _, ratio, gain = prepared_start(_signed(patches.real, trial), model, volume, options, snr=None, **common)
            if gain > best:
                best, snr, sign = gain, ratio, trial
        snr = parameters.snr or snr
        kept.save("start", {"snr": np.array(snr), "sign": np.array(sign)})
    state, ratio, _ = prepared_start(_signed(patches.real, sign), model, volume, options, snr=snr, **common)
    return state, ratio, sign


class _Negative:
    """Patches of the other contrast, read when asked for."""

    def __init__(self, patches: Array32) -> None:
        self._patches = patches
        self.shape = patches.shape

    def __len__(self) -> int:
        return len(self._patches)

    def __getitem__(self, rows: Any) -> Array32:
        return np.asarray(-self._patches[rows], np.float32)


def _signed(patches: Array32, sign: float) -> Array32:
    return patches if sign > 0 else _Negative(patches)  # type: ignore[return-value]


def _factor(start: Array32, low: Array32) -> float:
    return float(np.linalg.norm(start.astype(np.float64)) / np.linalg.norm(low.astype(np.float64)))


def _perturbed(volume: Array32, seed: int, trial: int) -> Array32:
    """Return another start: the same map plus low-passed noise of its own norm."""
    rng = np.random.default_rng([seed, 30_000, trial])
    noise = lowpassed(rng.standard_normal(volume.shape, np.float32), max(2, round(0.2 * volume.shape[0])))
    mixed = volume + noise * np.float32(np.linalg.norm(volume) / np.linalg.norm(noise))
    return np.asarray(mixed * np.float32(np.linalg.norm(volume) / np.linalg.norm(mixed)), np.float32)


def _picking(
    micrographs: Micrographs,
    voxel: float,
    patches: Patches,
    model: Model,
    state: State,
    options: Options,
    parameters: PickfreeParameters,
    found: Chain,
    kept: Checkpoints,
) -> list[float]:
    """Return what template picking on the surrogates keeps of the start's norm, iteration by iteration."""
    done = kept.load("picking")
    if done is not None:
        return [float(value) for value in done["norms"]]
    box = parameters.box
    templates = model.coarse.project(state.volume, model.ctfs[0])[:: max(1, model.coarse.count // 144)]
    share = (1 - found.records[-1].empty) * box**2 / (2 * box - 1) ** 2
    boxes, seen = [], 0
    sign = -1.0 if parameters.contrast == "black" else 1.0
    for index in range(len(micrographs)):
        image = small_micrograph(micrographs, index, voxel, sign)
        image = surrogate_of(image, parameters.seed, index)
        number = int((patches.micrograph == index).sum())
        boxes.append(pick_boxes(whitened(image, patches.power[1]), templates, max(1, round(share * number))))
        seen += number
        if seen >= PICKED_PATCHES:
            break
    norms = refine_picks(np.concatenate(boxes), model, state, options, PICKING_ITERATIONS)
    start = float(np.linalg.norm(state.volume.astype(np.float64)))
    ratios = [norm / start for norm in norms]
    kept.save("picking", {"norms": np.array(ratios)})
    return ratios


def _warnings(parameters: PickfreeParameters, evidence: bool, chains: dict[str, Chain], snr: float) -> list[str]:
    notes = []
    last = chains["map"].records[-1]
    if not evidence:
        notes.append(
            "no evidence: the micrographs cannot be told from noise of their own spectrum; the map's shape is that of "
            "the initial map, and its amplitude means nothing"
        )
    if not parameters.null:
        notes.append("no null was run: evidence is judged against noise of exactly the assumed variance and colour")
    if len(chains["map"].records) > 1 and evidence:
        before = chains["map"].records[-2]
        if last.patches == before.patches and last.log_likelihood - before.log_likelihood > 0.01 * abs(
            last.log_likelihood
        ):
            notes.append("the likelihood still rises: give more --iterations")
    if evidence and last.concentration > MOST_CONCENTRATED:
        notes.append(
            f"a hundredth of the patches holds {last.concentration:.0%} of the likelihood: that is contamination or "
            "edges rather than particles, and evidence of nothing; leave such micrographs out, or try --junk"
        )
    if snr >= 16:
        notes.append("the start's scale is at the end of what was tried; give --snr")
    return notes
