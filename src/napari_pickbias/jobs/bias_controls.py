"""Control templates: the same diagnosis with templates that cannot be the particle, and under a smaller mask."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_pickbias.bias.controls import disc_of_sphere, masked_evidence, scrambled, small_mask
from napari_pickbias.bias.frc import Null, average_mask
from napari_pickbias.bias.verdict import Rate
from napari_pickbias.errors import InputError
from napari_pickbias.jobs.bias import BiasResult, bias_job
from napari_pickbias.jobs.bias_parameters import BiasParameters
from napari_pickbias.jobs.pick_templates import TemplateInput
from napari_pickbias.jobs.progress import Checkpoints, NoCheckpoints, Progress
from napari_pickbias.records.micrographs import MicrographSet

__all__ = ["Control", "Controls", "Null", "control_templates", "controls_job", "parse_controls"]


class Control(NamedTuple):
    """One template's picks and what they hold."""

    name: str
    picks: int
    rate: Rate
    """Share of them that is what noise gives."""
    inside: Null
    beyond: Null
    agreement: Null
    verdict: str


class Controls(NamedTuple):
    """The template and its controls."""

    rows: tuple[Control, ...]
    """The template first."""
    usual_mask: Null | None
    """Evidence beyond the band in one random split, under the mask of the averages."""
    smaller_mask: Null | None
    """The same under a mask of 0.7 diameters; None where the sums are not at hand."""


def parse_controls(text: str) -> dict[str, str | None]:
    """Read ``sphere,scrambled,other=MAP`` into the names of controls, ``other`` with its file.

    Raises
    ------
    InputError
        When a part is none of these.
    """
    found: dict[str, str | None] = {}
    for part in text.split(","):
        name, _, value = part.strip().partition("=")
        if (name in ("sphere", "scrambled") and not value) or (name == "other" and value):
            found[name] = value or None
        else:
            raise InputError(
                f"--controls {text}: {part.strip() or 'nothing'} is not known; give sphere, scrambled, other=MAP, or "
                "several of them with commas between"
            )
    return found


def control_templates(name: str, templates: TemplateInput, diameter: float, rng: np.random.Generator) -> TemplateInput:
    """Return the templates of a control, ``sphere`` or ``scrambled``, from the user's; ``diameter`` in Å."""
    pixel = templates.pixel_size_angstrom
    if name == "sphere":
        size = max(templates.data.shape[-1], int(np.ceil(1.6 * diameter / pixel)))
        return TemplateInput("images", disc_of_sphere(size, diameter / pixel)[None], pixel, "sphere")
    volumes = [templates.data] if templates.kind == "map" else list(templates.data)
    made = np.stack([scrambled(volume, diameter / pixel, rng) for volume in volumes])
    return TemplateInput(templates.kind, made[0] if templates.kind == "map" else made, pixel, "scrambled")


def controls_job(
    found: MicrographSet,
    templates: TemplateInput,
    result: BiasResult,
    wanted: Mapping[str, TemplateInput | None],
    *,
    threads: int = 1,
    checkpoints: Checkpoints | None = None,
) -> Generator[Progress, None, Controls]:
    """Diagnose with control templates; yields :class:`Progress`.

    Parameters
    ----------
    found : MicrographSet
    templates : TemplateInput
        The user's.
    result : BiasResult
        With them.
    wanted : mapping
        ``sphere`` and ``scrambled`` to None, ``other`` to its map.
    threads : int
        No result depends on it.
    checkpoints : Checkpoints, optional
        Those of ``result``.

    Raises
    ------
    InputError
        See :func:`napari_pickbias.jobs.bias.bias_job`.
    """
    checkpoints = checkpoints or NoCheckpoints()
    rows = [_row("your template", result)]
    rng = np.random.default_rng([result.parameters.seed, 8])
    diameter = result.candidates.diameter_angstrom
    for name, given in wanted.items():
        own = given or control_templates(name, templates, diameter, rng)
        parameters = _same_search(result, symmetry="C1")
        job = bias_job(found, own, parameters, threads=threads, checkpoints=_Apart(checkpoints, f"control_{name}_"))
        rows.append(_row(name if given is None else f"other: {given.name}", (yield from job)))
    return Controls(tuple(rows), *_masks(result, checkpoints.load("sums")))


def _same_search(result: BiasResult, symmetry: str) -> BiasParameters:
    candidates = result.candidates
    return result.parameters.model_copy(
        update={
            "threshold": result.threshold,
            "lowpass": result.lowpass,
            "diameter": candidates.diameter_angstrom,
            "min_distance": candidates.min_distance_angstrom,
            "contrast": candidates.facts["contrast"],
            "templates_pixel_size": None,
            "symmetry": symmetry,
        }
    )


def _row(name: str, result: BiasResult) -> Control:
    level = result.diagnosis.levels[0]
    return Control(name, result.count, result.rate, level.inside, level.beyond, level.agreement, result.verdict.name)


def _masks(result: BiasResult, sums: Mapping[str, NDArray[Any]] | None) -> tuple[Null | None, Null | None]:
    """Return the evidence beyond the band under the usual and the smaller mask."""
    if sums is None:
        return None, None
    frame = result.frame
    halves, nulls = sums["removed"].sum(axis=0), sums["null_removed"].sum(axis=1)
    counts = sums["counts"].sum(axis=0)
    diameter = result.candidates.diameter_angstrom / frame.pixel_size
    masks = average_mask(frame.box), small_mask(frame.box, diameter)
    usual, smaller = (masked_evidence(halves, counts, nulls, frame.bands.beyond, mask) for mask in masks)
    return usual, smaller


class _Apart:
    """Checkpoints of another name."""

    def __init__(self, inner: Checkpoints, prefix: str) -> None:
        self._inner, self._prefix = inner, prefix

    def load(self, name: str) -> dict[str, NDArray[Any]] | None:
        return self._inner.load(self._prefix + name)

    def save(self, name: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        self._inner.save(self._prefix + name, arrays)
