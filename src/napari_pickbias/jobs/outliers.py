"""The outlier job: particles in, a verdict for each of them out, streamed in bounded memory."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit

from napari_pickbias.errors import InputError
from napari_pickbias.jobs.outlier_groups import WorkingGroup, plan_groups
from napari_pickbias.jobs.outlier_learn import learn
from napari_pickbias.jobs.outlier_parameters import OutlierParameters
from napari_pickbias.jobs.outlier_stream import ChunkSums, add_sums, prepare_in_batches, stream_group
from napari_pickbias.jobs.progress import Checkpoints, NoCheckpoints, Progress
from napari_pickbias.outliers.verdicts import REASONS, empty_columns
from napari_pickbias.records import Particles

EXAMPLES_PER_REASON = 12
TRUSTED_E0 = 8.0
"""Below this the estimated false-discovery rate is not meaningful (docs/outliers.md)."""


@dataclass(frozen=True)
class Example:
    """One particle as the detector saw it, for the report."""

    row: int
    reason: str
    image: NDArray[np.float32]  # (d, d), particles bright
    pixel_size_angstrom: float
    columns: dict[str, Any]


@dataclass(frozen=True)
class GroupResult:
    """What was learned from one group of particles with the same box and pixel size.

    Attributes
    ----------
    group : WorkingGroup
        Its rows and working geometry.
    sign : int
        +1 where particles are bright in the data, -1 where the contrast was inverted before judging.
    e0 : float or None
        Squared detection signal-to-noise ratio of an average particle; None for the published method.
    summary : dict
        The detector's own figures: plain numbers, lists and 1-D arrays (see ``CalibratedDetector.summary``).
    sums : dict of ChunkSums
        Per reason: averages and power spectra follow from them.
    """

    group: WorkingGroup
    sign: int
    e0: float | None
    summary: dict[str, Any]
    sums: dict[str, ChunkSums]


@dataclass(frozen=True)
class OutlierResult:
    """Everything the report and the adapters need.

    ``table`` has one row per particle, in the order of the data, with the columns of
    :data:`napari_pickbias.outliers.verdicts.COLUMNS` (``reason`` as text), lengths in Å (``center_y_angstrom`` ...)
    and the micrograph's name where known.
    """

    parameters: OutlierParameters
    table: pd.DataFrame
    groups: list[GroupResult]
    warnings: list[str]
    expected_fdr: float | None
    examples: list[Example] = field(default_factory=list)

    @property
    def counts(self) -> dict[str, int]:
        """Particles by reason, ``kept`` among them."""
        found = self.table["reason"].value_counts()
        return {reason: int(found.get(reason, 0)) for reason in REASONS}


def outlier_job(
    particles: Particles,
    parameters: OutlierParameters,
    *,
    threads: int = 1,
    checkpoints: Checkpoints | None = None,
) -> Generator[Progress, None, OutlierResult]:
    """Judge every particle; yields :class:`Progress`, returns an :class:`OutlierResult`.

    Particles of one box size and pixel size are judged together: a detector is learned from a random sample of them,
    then all are streamed through it in chunks, ``threads`` at a time. Closing the generator stops the work after the
    chunks in hand; what ``checkpoints`` holds by then is not computed again.

    Raises
    ------
    InputError
        No particles, no radius, boxes too small, damaged images, or contrast against the one stated.
    """
    checkpoints = checkpoints or NoCheckpoints()
    if len(particles) == 0:
        raise InputError("the input holds no particles; give a particle set with at least one row")
    groups = plan_groups(particles, parameters)
    columns = empty_columns(len(particles))
    warnings = list(particles.notes)
    results: list[GroupResult] = []
    done = 0
    for index, group in enumerate(groups):
        rng = np.random.default_rng([parameters.seed, index])
        learned = yield from learn(particles, group, parameters, rng, checkpoints, f"learned_{index:03d}")
        sums: dict[str, ChunkSums] = {}
        stream = stream_group(
            particles, group, learned.sign, learned.detector, threads, checkpoints, f"scores_{index:03d}"
        )
        for chunk in stream:
            for name, values in chunk.columns.items():
                columns[name][chunk.rows] = values
            add_sums(sums, chunk.sums)
            done += len(chunk.rows)
            yield Progress("judge", done, len(particles))
        notes = [*group.notes, *learned.warnings]
        if learned.hopeless and not parameters.remove_when_hopeless:
            columns["keep"][group.rows] = True
            columns["reason"][group.rows] = 0
            sums = _all_kept(sums)
            notes.append(
                f"the signal (e0 = {learned.e0:.1f}) is too weak to tell particles from noise, so nothing was removed"
            )
        warnings += [f"{group.name}: {text}" if len(groups) > 1 else text for text in notes]
        results.append(GroupResult(group, learned.sign, learned.e0, learned.summary, sums))
    table = _table(particles, groups, columns)
    examples = yield from _examples(particles, results, columns, parameters.seed)
    return OutlierResult(parameters, table, results, warnings, _expected_fdr(results, columns), examples)


def _all_kept(sums: dict[str, ChunkSums]) -> dict[str, ChunkSums]:
    merged: dict[str, ChunkSums] = {}
    for part in sums.values():
        add_sums(merged, {"kept": part})
    return merged


def _expected_fdr(results: list[GroupResult], columns: dict[str, NDArray[Any]]) -> float | None:
    """Mean posterior of "not one central particle" among the kept; None where it means nothing (e0 < 8)."""
    if any(r.e0 is None or r.e0 < TRUSTED_E0 for r in results):
        return None
    scores = columns["score"][columns["keep"]]
    return float(expit(-scores[np.isfinite(scores)].astype(np.float64)).mean()) if len(scores) else None


def _table(particles: Particles, groups: list[WorkingGroup], columns: dict[str, NDArray[Any]]) -> pd.DataFrame:
    table = pd.DataFrame(columns)
    table["reason"] = pd.Categorical.from_codes(columns["reason"].tolist(), categories=pd.Index(REASONS))
    pixel = np.empty(len(particles))
    for group in groups:
        pixel[group.rows] = group.working_pixel_size_angstrom
    # Lengths leave the job in Å: working pixels mean nothing outside it.
    for name in [name for name in columns if name.endswith("_px")]:
        table[name.removesuffix("_px") + "_angstrom"] = (table.pop(name) * pixel).astype(np.float32)
    if particles.micrograph is not None:
        table.insert(0, "micrograph", particles.micrograph)
    return table


def _examples(
    particles: Particles, results: list[GroupResult], columns: dict[str, NDArray[Any]], seed: int
) -> Generator[Progress, None, list[Example]]:
    """Read some particles of each reason again, drawn at random (not the best: the report must not flatter)."""
    rng = np.random.default_rng([seed, 1_000_003])
    examples = []
    for step, (code, reason) in enumerate(enumerate(REASONS)):
        yield Progress("examples", step, len(REASONS))
        members = np.flatnonzero(columns["reason"] == code)
        chosen = np.sort(rng.choice(members, min(EXAMPLES_PER_REASON, len(members)), replace=False))
        for result in results:
            rows = np.intersect1d(chosen, result.group.rows)
            if len(rows):
                images = prepare_in_batches(particles, result.group, rows, result.sign)
                examples += [
                    Example(
                        int(row),
                        reason,
                        image,
                        result.group.working_pixel_size_angstrom,
                        {name: values[row].item() for name, values in columns.items()},
                    )
                    for row, image in zip(rows, images, strict=True)
                ]
    return examples
