"""The bias diagnosis: micrographs, templates and picks in; false picks, noise twin, evidence and verdict out."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_pickbias.bias.diagnosis import Diagnosis, diagnose
from napari_pickbias.bias.evidence import Frame, Sums, make_frame, micrograph_evidence
from napari_pickbias.bias.null import Explained, explained_by_noise, poisson_interval
from napari_pickbias.bias.verdict import CLEAN_FDR, FEWEST_PICKS, Rate, Verdict, judge, standing_out
from napari_pickbias.errors import InputError
from napari_pickbias.jobs.bias_knockoff import knockoff_candidates
from napari_pickbias.jobs.bias_match import make_bias_plan
from napari_pickbias.jobs.bias_parameters import BiasParameters
from napari_pickbias.jobs.pick_candidates import PickCandidates
from napari_pickbias.jobs.pick_match import Plan, match_plan, searched
from napari_pickbias.jobs.pick_templates import TemplateInput, Views, bank_for, make_views, particle_diameter
from napari_pickbias.jobs.progress import Checkpoints, NoCheckpoints, Progress
from napari_pickbias.matching import TemplateBank, score_map
from napari_pickbias.matching.calibrate import Calibration, MicrographMatch, calibrate
from napari_pickbias.matching.noise_model import template_sd
from napari_pickbias.matching.peaks import PEAK
from napari_pickbias.matching.preprocess import Prepared, prepare
from napari_pickbias.records.micrographs import MicrographSet

STEPS = (0.0, 0.5, 1.0, 2.0)
"""Score bins above the threshold of the picks."""
FOREIGN_EDGES = (-100.0, 3.0, 3.5, 4.5)
"""Score bins for picks that another program made."""
DEFAULT_THRESHOLD = 4.0
"""Where no threshold keeps the FDR asked for."""
SNAP = 0.2
"""A foreign pick takes the highest score within this share of a diameter."""


@dataclass(frozen=True)
class BiasResult:
    """Everything the report and the adapters need.

    Attributes
    ----------
    parameters : BiasParameters
    candidates : PickCandidates
        All peaks, of the micrographs and of their noise.
    calibration : Calibration
    picks : dict of peak tables, by the micrograph's name
        In pixels of its file.
    foreign : bool
        Another program picked.
    threshold : float
        Lowest score of the picks.
    expected_null_picks : float
        Per data set: picks of pure noise at that threshold on the same area.
    rate : Rate
        Share of the picks that noise explains.
    explained : Explained or None
        The same by bins of the score, for foreign picks.
    recommended, data_threshold : float or None
        Threshold that keeps the FDR asked for; threshold from which the verdict would be ``data``.
    diagnosis : Diagnosis
    verdict : Verdict
    levels : tuple of (float, Rate, Verdict)
        The verdict on the picks at or above each score bin.
    frame : Frame
    lowpass : float
        Å.
    twin_rows : dict of peak tables, by the micrograph's name
        Picks of noise, on the matched pixels.
    twin_patches : ndarray, shape (n, b, b)
        Their images, in the order of ``twin_rows``.
    example : (str, ndarray, ndarray)
        Name of a micrograph, it as matched, and its noise twin.
    warnings : tuple of str
    null_interval : (float, float)
        95 % interval of ``expected_null_picks``.
    """

    parameters: BiasParameters
    candidates: PickCandidates
    calibration: Calibration
    picks: dict[str, NDArray[np.void]]
    foreign: bool
    threshold: float
    expected_null_picks: float
    rate: Rate
    explained: Explained | None
    recommended: float | None
    data_threshold: float | None
    diagnosis: Diagnosis
    verdict: Verdict
    levels: tuple[tuple[float, Rate, Verdict], ...]
    frame: Frame
    lowpass: float
    twin_rows: dict[str, NDArray[np.void]]
    twin_patches: NDArray[np.float32]
    example: tuple[str, NDArray[np.float32], NDArray[np.float32]]
    warnings: tuple[str, ...]
    null_interval: tuple[float, float] = (float("nan"), float("nan"))

    @property
    def count(self) -> int:
        """Picks on all micrographs."""
        return sum(len(table) for table in self.picks.values())


def bias_job(
    found: MicrographSet,
    templates: TemplateInput,
    parameters: BiasParameters,
    *,
    picks: Mapping[str, NDArray[np.floating]] | None = None,
    threads: int = 1,
    checkpoints: Checkpoints | None = None,
) -> Generator[Progress, None, BiasResult]:
    """Diagnose the bias of picks; yields :class:`Progress`, returns a :class:`BiasResult`.

    Parameters
    ----------
    found : MicrographSet
    templates : TemplateInput
    parameters : BiasParameters
    picks : mapping, optional
        By the micrograph's name: ``(n, 2)`` x, y in pixels of its file. Without, the templates pick.
    threads : int
        No result depends on it.
    checkpoints : Checkpoints, optional
        Finished pieces, for resumption.

    Raises
    ------
    InputError
        When the data contradict each other or the parameters, or no micrograph can be used.
    """
    checkpoints = checkpoints or NoCheckpoints()
    if parameters.select == "knockoff" and (picks is not None or parameters.threshold is not None):
        other = "--threshold" if picks is None else "--picks"
        raise InputError(f"--select knockoff and {other}: contradict each other; give one of them")
    diameter = parameters.diameter or particle_diameter(templates)
    lowpass = parameters.lowpass or diameter / 3
    picking = parameters.picking(lowpass)
    yield Progress("prepare", 0, 2, "reading headers, making templates")
    plan, candidates = yield from match_plan(make_bias_plan(found, templates, picking), threads, checkpoints)
    calibration = calibrate(candidates.used, np.random.default_rng([parameters.seed, 2]))
    sharp = make_views(
        templates, picking.model_copy(update={"lowpass": 2 * plan.settings.pixel_size}),
        plan.settings.pixel_size, diameter,
    )  # fmt: skip
    recommended = calibration.threshold_at(parameters.fdr)
    threshold = parameters.threshold or recommended or DEFAULT_THRESHOLD
    if parameters.select == "knockoff":
        candidates, threshold = yield from knockoff_candidates(plan, candidates, parameters, threads, checkpoints)
    edges = FOREIGN_EDGES if picks is not None else tuple(threshold + step for step in STEPS)
    work = _Work(plan, sharp, candidates, lowpass, edges, parameters, threads)
    sums: Sums | None = None
    tables: dict[str, NDArray[np.void]] = {}
    twins: dict[str, NDArray[np.void]] = {}
    patches: list[NDArray[np.float32]] = []
    example: dict[str, NDArray[Any]] | None = checkpoints.load("example")
    used = [number for number, match in enumerate(candidates.matches) if match is not None]
    finished = 0
    if (saved := checkpoints.load("sums")) is not None:
        finished = int(saved.pop("finished"))
        sums = Sums(**{field.name: np.array(saved[field.name]) for field in fields(Sums)})
    yield Progress("averages", finished, len(used))
    for done, number in enumerate(used):
        name = candidates.names[number]
        arrays = checkpoints.load(f"picks_{number:06d}") if done < finished else None
        if arrays is None:
            given = None if picks is None else np.asarray(picks.get(name, np.zeros((0, 2))), np.float64)
            own, arrays, images = work.one(number, threshold, given)
            if done == 0:
                example = images
                checkpoints.save("example", example)
            if done >= finished:
                if sums is None:
                    sums = own
                else:
                    sums.add(own)
                # the small piece first: sums that count a micrograph must find it
                checkpoints.save(f"picks_{number:06d}", arrays)
                checkpoints.save("sums", {**sums.arrays(), "finished": np.array(done + 1)})
        tables[name], twins[name] = arrays["picks"], arrays["twin"]
        patches.append(arrays["twin_patches"])
        yield Progress("averages", done + 1, len(used))
    assert sums is not None
    assert example is not None
    result = _concluded(
        work, calibration, tables, twins, np.concatenate(patches), example, sums, threshold, recommended,
        picks is not None,
    )  # fmt: skip
    yield Progress("conclude", 1, 1, f"{result.verdict.name}: {result.verdict.why}")
    return result


@dataclass(frozen=True)
class _Work:
    """What every micrograph needs."""

    plan: Plan
    sharp: Views
    candidates: PickCandidates
    lowpass: float
    edges: tuple[float, ...]
    parameters: BiasParameters
    threads: int
    frames: dict[str, Frame] = field(default_factory=dict)

    def frame(self, number: int) -> Frame:
        """Return bank, span and bands of one micrograph; without a CTF, all have the same."""
        if self.plan.ctf != "none":
            return self._made(number)
        if "all" not in self.frames:
            self.frames["all"] = self._made(number)
        return self.frames["all"]

    def _made(self, number: int) -> Frame:
        plan = self.plan
        bank = self._bank(number, plan.views)
        every = self._bank(number, self.sharp)
        first = np.flatnonzero(np.abs(every.euler_deg[:, 2]) < 1e-6)
        pixel = plan.settings.pixel_size
        return make_frame(
            bank, every.images[first], pixel, self.lowpass, plan.settings.min_distance / pixel, self.edges
        )

    def _bank(self, number: int, views: Views) -> TemplateBank:
        optics = self.plan.micrographs.ctf
        return bank_for(views, None if optics is None else optics.take(np.array([number])), self.plan.ctf)

    def one(
        self, number: int, threshold: float, given: NDArray[np.float64] | None
    ) -> tuple[Sums, dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
        """Gather the evidence of one micrograph: its sums, its picks and its noise twin, and both images."""
        rng = np.random.default_rng([self.parameters.seed, 3, number])
        match = self.candidates.matches[number]
        assert match is not None
        plan = self.plan
        image, ratio = searched(plan, number)
        image *= np.float32(plan.sign)
        frame = self.frame(number)
        prepared = prepare(image, plan.settings.diameter / plan.settings.pixel_size, frame.box)
        if given is None:
            picks = match.peaks[match.peaks["score"] >= threshold]
        else:
            picks = _scored(given, prepared, match, frame, ratio, plan, self.threads)
        inner = picks.copy()
        inner["y"] = (picks["y"] - plan.border_px) / ratio[0]
        inner["x"] = (picks["x"] - plan.border_px) / ratio[1]
        sums, twin = micrograph_evidence(
            prepared, match.noise, inner, frame, rng, repeats=self.parameters.nulls, threads=self.threads
        )
        images = {"micrograph": prepared.image, "noise": twin.image}
        return sums, {"picks": picks, "twin": twin.picks, "twin_patches": twin.patches}, images


def _scored(
    given: NDArray[np.float64],
    prepared: Prepared,
    match: MicrographMatch,
    frame: Frame,
    ratio: tuple[float, float],
    plan: Plan,
    threads: int,
) -> NDArray[np.void]:
    """Give picks of another program the highest score of the templates near them, and its place."""
    noise = match.noise
    power = noise.power if noise.method == "auto" else noise.tile_power
    scores, best = score_map(
        prepared.image, frame.bank, threads, noise_sd=template_sd(frame.bank, power), normalise="none"
    )
    reach = max(1, round(SNAP * plan.settings.diameter / plan.settings.pixel_size))
    offsets = np.argwhere(np.hypot(*(np.mgrid[-reach : reach + 1, -reach : reach + 1])) <= reach) - reach
    places = (given[:, ::-1] - plan.border_px) / np.array(ratio)
    around = np.rint(places)[:, None, :].astype(np.int64) + offsets
    height, width = scores.shape
    y, x = np.clip(around[..., 0], 0, height - 1), np.clip(around[..., 1], 0, width - 1)
    values = np.where(np.isfinite(scores[y, x]) & prepared.inside[y, x], scores[y, x], -np.inf)
    top = values.argmax(axis=1) if len(values) else np.zeros(0, np.int64)
    rows = np.arange(len(places))
    good = np.isfinite(values[rows, top])
    table = np.zeros(int(good.sum()), PEAK)
    place = (y[rows, top][good], x[rows, top][good])
    table["score"], table["template"] = scores[place], best[place]
    table["y"], table["x"] = place[0] * ratio[0] + plan.border_px, place[1] * ratio[1] + plan.border_px
    # two picks on one place are one
    _, first = np.unique(np.stack(place, axis=1), axis=0, return_index=True)
    return np.asarray(table[np.sort(first)])


def _concluded(
    work: _Work,
    calibration: Calibration,
    tables: dict[str, NDArray[np.void]],
    twins: dict[str, NDArray[np.void]],
    twin_patches: NDArray[np.float32],
    example: dict[str, NDArray[Any]],
    sums: Sums,
    threshold: float,
    recommended: float | None,
    foreign: bool,
) -> BiasResult:
    candidates, parameters = work.candidates, work.parameters
    number = next(i for i, match in enumerate(candidates.matches) if match is not None)
    frame = work.frame(number)
    diagnosis = diagnose(sums, frame)
    used = candidates.used
    trusted = min((match.trusted_from for match in used), default=float("inf"))
    explained = None
    if foreign:
        explained = explained_by_noise(
            list(tables.values()), [match.null_peaks for match in used], used[0].min_distance_px, trusted,
            np.random.default_rng([parameters.seed, 4]),
        )  # fmt: skip
        scores = np.concatenate([table["score"] for table in tables.values()])
        threshold = float(scores.min()) if len(scores) else threshold
    rates = [_rate_at(calibration, explained, level.threshold) for level in diagnosis.levels]
    heights = [(level.threshold, level.picks, rate) for level, rate in zip(diagnosis.levels, rates, strict=True)]
    levels = []
    for higher, (level, rate) in enumerate(zip(diagnosis.levels, rates, strict=True), 1):
        verdict = judge(
            level.picks, rate, level.beyond, level.inside, level.agreement, views=level.views,
            trusted_share=calibration.trusted_share, stands_out=standing_out(heights[higher:]),
        )  # fmt: skip
        levels.append((level.threshold, rate, verdict))
    counted = sum(int((table["score"] >= threshold).sum()) for match in used for table in match.null_peaks)
    repeats = parameters.surrogates
    verdict = levels[0][2]
    data_threshold = _data_threshold(calibration, levels, threshold)
    warnings = [*candidates.facts["notes"], *(f"left out {n}: {why}" for n, why in candidates.faults.items())]
    if calibration.failed is not None:
        warnings.append(calibration.failed)
    if frame.bands.beyond.last < frame.bands.beyond.first:
        warnings.append(
            f"at {frame.pixel_size:.3g} Å a pixel nothing finer than the templates' band ({work.lowpass:.3g} Å) can be "
            "seen; the diagnosis needs templates low-passed more strongly: give a larger --lowpass, and pick with it"
        )
    return BiasResult(
        parameters, candidates, calibration, tables, foreign, threshold, counted / repeats, levels[0][1], explained,
        recommended, data_threshold, diagnosis, verdict, tuple(levels), frame, work.lowpass, twins, twin_patches,
        (candidates.names[number], example["micrograph"], example["noise"]), tuple(warnings),
        poisson_interval(counted, repeats),
    )  # fmt: skip


def _rate_at(calibration: Calibration, explained: Explained | None, threshold: float) -> Rate:
    """Return the share of false picks at or above a threshold."""
    if explained is not None:
        if threshold <= explained.edges[0]:
            return explained.rate
        share = float(np.interp(threshold, explained.edges[:-1], explained.false_above))
        spread = (explained.rate.high - explained.rate.low) / 2
        return Rate(share, max(share - spread, 0), min(share + spread, 1))
    curve = calibration.fdr
    if curve is None or calibration.failed is not None:
        return Rate(*[float("nan")] * 3)

    def read(values: NDArray[np.floating]) -> float:
        known = np.isfinite(values)
        return float(np.interp(threshold, curve.thresholds[known], values[known])) if known.any() else float("nan")

    return Rate(read(curve.fdr), read(curve.low), read(curve.high))


def _data_threshold(
    calibration: Calibration, levels: list[tuple[float, Rate, Verdict]], threshold: float
) -> float | None:
    """Return the lowest threshold from which the FDR's upper end is clean, where averages hold evidence there."""
    if not any(verdict.name in ("data", "mixed") for _, _, verdict in levels):
        return None
    curve = calibration.fdr
    if curve is None or calibration.failed is not None:
        return None
    enough = np.isfinite(curve.high) & (curve.picks >= FEWEST_PICKS)
    good = ~enough | (curve.high <= CLEAN_FDR)
    from_here = np.logical_and.accumulate(good[::-1])[::-1] & enough & (curve.thresholds >= threshold)
    return float(curve.thresholds[np.argmax(from_here)]) if from_here.any() else None
