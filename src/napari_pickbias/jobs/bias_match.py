"""The plan of the bias diagnosis: that of picking, on pixels fine enough to see beyond the templates' band."""

from __future__ import annotations

from dataclasses import replace

from napari_pickbias.jobs.pick_match import Plan, coarse_side, make_plan
from napari_pickbias.jobs.pick_parameters import PickParameters
from napari_pickbias.jobs.pick_templates import TemplateInput, make_views
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
    coarse = coarse_side(side, pixel / analysis_pixel(pixel, parameters.lowpass, diameter))
    size = pixel * side / coarse
    # without a low-pass of its own the matching stays on these pixels
    settings = replace(plan.settings, pixel_size=size, lowpass=None)
    return plan._replace(settings=settings, views=make_views(templates, parameters, size, diameter))
