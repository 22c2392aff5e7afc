"""The picking job: micrographs and templates in, picks with a p-value and a q-value each out."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_pickbias.errors import InputError
from napari_pickbias.jobs.pick_candidates import PickCandidates
from napari_pickbias.jobs.pick_match import WriteMap, match_all
from napari_pickbias.jobs.pick_parameters import PickParameters
from napari_pickbias.jobs.pick_templates import TemplateInput
from napari_pickbias.jobs.pick_threshold import UNSURE, asked_threshold, highest_noise, highest_score, rates_at
from napari_pickbias.jobs.progress import Checkpoints, Progress
from napari_pickbias.matching.calibrate import Calibration, calibrate
from napari_pickbias.records.micrographs import MicrographSet

ABSURD_SCORE = 40.0
"""No particle stands so high above the noise: a gold bead, ice, or hot pixels do."""

Columns = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class PickResult:
    """Everything the report and the adapters need.

    Attributes
    ----------
    parameters : PickParameters
    candidates : PickCandidates
        All peaks, of the micrographs and of their noise.
    calibration : Calibration
    threshold : float
        Of the picks.
    picks : dict of columns, by the micrograph's name
        ``x_px``, ``y_px``, ``score``, ``psi_deg``, ``template`` (from 1), ``p_value``, ``q_value``, and for a map
        ``rot_deg`` and ``tilt_deg``; highest score first.
    fdr : (float, float, float) or None
        Expected share of false picks with a 95 % interval; None where the noise could not be told from particles.
    expected_false : (float, float, float)
        Expected false picks per micrograph, with a 95 % interval; NaN as ``fdr``.
    warnings : tuple of str
    """

    parameters: PickParameters
    candidates: PickCandidates
    calibration: Calibration
    threshold: float
    picks: dict[str, Columns]
    fdr: tuple[float, float, float] | None
    expected_false: tuple[float, float, float]
    warnings: tuple[str, ...]

    @property
    def count(self) -> int:
        """Picks on all micrographs."""
        return sum(len(columns["score"]) for columns in self.picks.values())


def pick_job(
    found: MicrographSet,
    templates: TemplateInput,
    parameters: PickParameters,
    *,
    threads: int = 1,
    checkpoints: Checkpoints | None = None,
    write_map: WriteMap | None = None,
) -> Generator[Progress, None, PickResult]:
    """Pick particles; yields :class:`Progress`, returns a :class:`PickResult`. See :func:`match_all`.

    Raises
    ------
    InputError
        When the data contradict each other or the parameters, or no threshold keeps the FDR asked for.
    """
    check(parameters)
    candidates = yield from match_all(
        found, templates, parameters, threads=threads, checkpoints=checkpoints, write_map=write_map
    )
    yield Progress("calibrate", 0, 1)
    result = decide(candidates, parameters)
    yield Progress("calibrate", 1, 1, f"{result.count} picks from a score of {result.threshold:.2f} up")
    return result


def basis_line(candidates: PickCandidates, parameters: PickParameters) -> str | None:
    """Return what a shared basis for rotations does to the scores, one sentence; None where none was asked for."""
    if not parameters.rotation_basis:
        return None
    bound, deviation = candidates.score_error
    if not bound:
        return "--rotation-basis saves nothing with these templates: each was matched by itself"
    return (
        f"--rotation-basis {parameters.rotation_basis:g}: scores differ from those without it by {bound:.2g} at most, "
        f"on noise with a standard deviation of {deviation:.2g} (in standard deviations of the noise, as the scores)"
    )


def check(parameters: PickParameters) -> None:
    """Refuse parameters that contradict each other.

    Raises
    ------
    InputError
        For a threshold and an FDR at once.
    """
    if parameters.threshold is not None and parameters.fdr is not None:
        raise InputError(
            f"--threshold {parameters.threshold:g} --fdr {parameters.fdr:g}: each sets the threshold; give one of them"
        )


def decide(candidates: PickCandidates, parameters: PickParameters) -> PickResult:
    """Draw the threshold and gather the picks above it; nothing is matched.

    Parameters
    ----------
    candidates : PickCandidates
    parameters : PickParameters
        ``threshold``, ``fdr`` and ``seed`` count.

    Raises
    ------
    InputError
        When no threshold keeps the FDR asked for, or there is too little noise to learn from.
    """
    check(parameters)
    calibration = calibrate(candidates.used, np.random.default_rng([parameters.seed, 2]))
    threshold = asked_threshold(candidates.used, calibration, parameters.threshold, parameters.fdr, _advice(candidates))
    picks = _picks(candidates, calibration, threshold)
    fdr, expected = rates_at(calibration, threshold)
    count = sum(len(columns["score"]) for columns in picks.values())
    warnings = _warnings(candidates, calibration, threshold, count)
    return PickResult(parameters, candidates, calibration, threshold, picks, fdr, expected, tuple(warnings))


def _advice(candidates: PickCandidates) -> str:
    facts = candidates.facts
    if facts["measured_contrast"] not in ("undecided", facts["contrast"]):
        return (
            f"{facts['measured_contrast']} particles match the templates better than {facts['contrast']} ones: try "
            f"--contrast {facts['measured_contrast']}"
        )
    return "check --pixel-size, --contrast and --diameter, and whether these templates are on these micrographs"


def _picks(candidates: PickCandidates, calibration: Calibration, threshold: float) -> dict[str, Columns]:
    with_views = candidates.facts["kind"] == "map"
    values = iter(zip(calibration.p, calibration.q, calibration.local_fdr, strict=True))
    found: dict[str, Columns] = {}
    for name, match in zip(candidates.names, candidates.matches, strict=True):
        if match is None:
            continue
        p, q, local = next(values)
        taken = match.peaks["score"] >= threshold
        table = match.peaks[taken]
        euler = candidates.euler_deg[table["template"]]
        columns: Columns = {
            "x_px": table["x"].astype(np.float64),
            "y_px": table["y"].astype(np.float64),
            "score": table["score"].astype(np.float64),
            "psi_deg": euler[:, 2],
            "template": candidates.view[table["template"]].astype(np.int64) + 1,
            "p_value": p[taken],
            "q_value": q[taken],
            "local_fdr": local[taken],
        }
        if with_views:
            columns |= {"rot_deg": euler[:, 0], "tilt_deg": euler[:, 1]}
        found[name] = columns
    return found


def _warnings(candidates: PickCandidates, calibration: Calibration, threshold: float, count: int) -> list[str]:
    found = list(candidates.facts["notes"])
    found += [f"left out {name}: {why}" for name, why in candidates.faults.items()]
    found += calibration.warnings
    if calibration.failed is not None:
        found.append(f"no FDR is given: {calibration.failed}")
    seen: dict[str, list[str]] = {}
    for name, match in zip(candidates.names, candidates.matches, strict=True):
        for text in match.warnings if match is not None else ():
            seen.setdefault(text, []).append(name)
    for text, names in seen.items():
        found.append(f"{names[0]}{f' and {len(names) - 1} more' if len(names) > 1 else ''}: {text}")
    top = highest_score(candidates.used)
    fdr, _ = rates_at(calibration, threshold)
    if fdr is not None and fdr[2] > UNSURE and count:
        found.append(f"as many as {fdr[2]:.0%} of the picks may be false; {_advice(candidates)}")
    if top > ABSURD_SCORE:
        found.append(
            f"the highest score is {top:.0f} standard deviations of the noise, which no particle reaches: gold, ice or "
            "hot pixels do; look at the picks and clean the micrographs"
        )
    if count == 0:
        found.append(
            f"no pick reaches {threshold:g}: the highest score is {top:.2f}, and noise alone reaches "
            f"{highest_noise(candidates.used):.2f}; {_advice(candidates)}"
        )
    return found
