"""The matching of the bias diagnosis: that of picking, on pixels fine enough to see beyond the templates' band."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace

from napari_pickbias.errors import InputError
from napari_pickbias.jobs import pick_match
from napari_pickbias.jobs.pick_candidates import PickCandidates, match_of_arrays
from napari_pickbias.jobs.pick_match import Plan, make_plan
from napari_pickbias.jobs.pick_parameters import PickParameters
from napari_pickbias.jobs.pick_templates import TemplateInput, make_views
from napari_pickbias.jobs.progress import Checkpoints, Progress
from napari_pickbias.matching.calibrate import MicrographMatch
from napari_pickbias.records.micrographs import MicrographSet

PIXELS_PER_LOWPASS = 8.5
"""Pixels of the diagnosis in one length of the low-pass: details 2.5 times finer than it stay well within Nyquist."""
FINEST_PX, COARSEST_PX = 36, 20
"""Bounds of the particle's diameter in pixels of the diagnosis."""


def analysis_pixel(pixel_size: float, lowpass: float, diameter: float) -> float:
    """Return the pixel size of the diagnosis, Å."""
    wanted = min(max(lowpass / PIXELS_PER_LOWPASS, diameter / FINEST_PX), diameter / COARSEST_PX)
    return max(pixel_size, wanted)


def make_bias_plan(found: MicrographSet, templates: TemplateInput, parameters: PickParameters) -> Plan:
    """Return the plan of picking on the pixels of the diagnosis.

    Raises
    ------
    InputError
        When the data contradict each other or the parameters.
    """
    plan = make_plan(found, templates, parameters)
    pixel, diameter = plan.pixel_size, plan.settings.diameter
    side = min(plan.shapes[0]) - 2 * plan.border_px
    coarse = pick_match._coarse(side, pixel / analysis_pixel(pixel, parameters.lowpass, diameter))
    size = pixel * side / coarse
    # without a low-pass of its own the matching stays on these pixels
    settings = replace(plan.settings, pixel_size=size, lowpass=None)
    return plan._replace(settings=settings, views=make_views(templates, parameters, size, diameter))


def match_for_bias(
    plan: Plan, threads: int, checkpoints: Checkpoints
) -> Generator[Progress, None, tuple[Plan, PickCandidates]]:
    """Match every micrograph; yields :class:`Progress`, returns the plan with the particles' sign, and all candidates.

    Raises
    ------
    InputError
        When no micrograph can be used.
    """
    yield Progress("prepare", 1, 2)
    plan, facts = pick_match._with_contrast(plan, threads, checkpoints)
    yield Progress("prepare", 2, 2, f"{len(plan.views.images)} templates, {facts['contrast']} particles")
    total = len(plan.micrographs)
    matches: list[MicrographMatch | None] = []
    faults: dict[str, str] = {}
    yield Progress("match", 0, total)
    for number, name in enumerate(plan.micrographs.names):
        piece = f"micrograph_{number:06d}"
        arrays = checkpoints.load(piece)
        if arrays is None:
            arrays = pick_match._matched(plan, number, threads, None)
            checkpoints.save(piece, arrays)
        message = ""
        if "fault" in arrays:
            faults[name] = str(arrays["fault"])
            message = f"left out {name}: {faults[name]}"
            matches.append(None)
        else:
            matches.append(match_of_arrays(arrays))
        yield Progress("match", number + 1, total, message)
    if len(faults) == total:
        first = next(iter(faults))
        raise InputError(f"{first}: {faults[first]}" + (f" (so are all {total} micrographs)" if total > 1 else ""))
    return plan, PickCandidates(
        names=plan.micrographs.names,
        matches=tuple(matches),
        faults=faults,
        pixel_size_angstrom=plan.pixel_size,
        diameter_angstrom=plan.settings.diameter,
        min_distance_angstrom=plan.settings.min_distance,
        view=plan.views.view,
        euler_deg=plan.views.euler_deg,
        facts=facts,
    )
