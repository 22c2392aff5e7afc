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
from napari_pickbias.jobs.progress import Checkpoints, Progress
from napari_pickbias.matching.calibrate import Calibration, calibrate
from napari_pickbias.records.micrographs import MicrographSet

DEFAULT_FDR = 0.05
UNSURE = 0.5
"""Upper end of the FDR's interval beyond which a threshold is not said to keep any rate."""
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
    threshold = _threshold(candidates, calibration, parameters)
    picks = _picks(candidates, calibration, threshold)
    fdr, expected = _at(calibration, threshold)
    count = sum(len(columns["score"]) for columns in picks.values())
    warnings = _warnings(candidates, calibration, threshold, count)
    return PickResult(parameters, candidates, calibration, threshold, picks, fdr, expected, tuple(warnings))


def _threshold(candidates: PickCandidates, calibration: Calibration, parameters: PickParameters) -> float:
    if parameters.threshold is not None:
        return parameters.threshold
    wanted = parameters.fdr or DEFAULT_FDR
    if calibration.failed is not None:
        raise InputError(
            f"--fdr {wanted:g}: cannot be kept, because no FDR can be given: {calibration.failed.rstrip('.')}; give "
            "--threshold, or other templates"
        )
    found = calibration.threshold_at(wanted)
    if found is None:
        top = _highest(candidates)
        raise InputError(
            f"--fdr {wanted:g}: no score keeps it: the highest is {top:.2f}, and noise alone reaches "
            f"{_null_top(candidates):.2f}; {_advice(candidates)}"
        )
    fdr, _ = _at(calibration, found)
    if fdr is not None and fdr[2] > UNSURE:
        count = sum(int((match.peaks["score"] >= found).sum()) for match in candidates.used)
        raise InputError(
            f"--fdr {wanted:g}: no score keeps it surely: of the {count} peaks from {found:.2f} up as many as "
            f"{fdr[2]:.0%} may be false; {_advice(candidates)}"
        )
    return found


def _highest(candidates: PickCandidates) -> float:
    return max((float(match.peaks["score"].max()) for match in candidates.used if len(match.peaks)), default=0.0)


def _null_top(candidates: PickCandidates) -> float:
    """Return how high the highest noise peak of a micrograph is on average."""
    tops = [float(table["score"].max()) for match in candidates.used for table in match.null_peaks if len(table)]
    return float(np.mean(tops)) if tops else 0.0


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


def _at(
    calibration: Calibration, threshold: float
) -> tuple[tuple[float, float, float] | None, tuple[float, float, float]]:
    """Return FDR and false picks per micrograph at a threshold, each with its interval."""
    curve = calibration.fdr
    if curve is None or calibration.failed is not None:
        return None, (float("nan"),) * 3

    # Beyond the highest pick nothing is known but that it is no more.
    def read(values: NDArray[np.floating]) -> float:
        known = np.isfinite(values)
        return float(np.interp(threshold, curve.thresholds[known], values[known])) if known.any() else float("nan")

    fdr = (read(curve.fdr), read(curve.low), read(curve.high))
    expected = calibration.expected_false
    return fdr, (read(expected[:, 0]), read(expected[:, 1]), read(expected[:, 2]))


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
    top = _highest(candidates)
    fdr, _ = _at(calibration, threshold)
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
            f"{_null_top(candidates):.2f}; {_advice(candidates)}"
        )
    return found
