"""What picking looks for, before it looks: the templates of the first micrograph, upright, as they will be matched."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_pickbias.jobs.bias_match import make_bias_plan
from napari_pickbias.jobs.bias_parameters import BiasParameters
from napari_pickbias.jobs.pick_match import make_plan
from napari_pickbias.jobs.pick_parameters import PickParameters
from napari_pickbias.jobs.pick_templates import TemplateInput, bank_for, particle_diameter
from napari_pickbias.jobs.progress import Progress
from napari_pickbias.records.micrographs import MicrographSet

MOST = 24
"""Views shown: of more, so many spread evenly over them."""


class TemplatePreview(NamedTuple):
    """Some of the templates.

    Attributes
    ----------
    images : ndarray, shape (n, b, b)
        Low-passed, seen through the first micrograph's CTF, particle bright (micrographs are turned so, too).
    view : ndarray of int, shape (n,)
        Number of view or class average, from 0.
    pixel_size_angstrom, diameter_angstrom, lowpass_angstrom : float
    views, templates : int
        How many there are, without and with in-plane rotations.
    with_ctf : bool
    """

    images: NDArray[np.float32]
    view: NDArray[np.int32]
    pixel_size_angstrom: float
    diameter_angstrom: float
    lowpass_angstrom: float
    views: int
    templates: int
    with_ctf: bool

    def text(self) -> str:
        """Return what is shown, in a line."""
        some = f"{len(self.images)} of {self.views} views" if len(self.images) < self.views else f"{self.views} views"
        through = ", through the first micrograph's CTF" if self.with_ctf else ""
        return (
            f"{some}, {self.templates:,} templates with in-plane rotations; low-passed at {self.lowpass_angstrom:.3g} "
            f"Å, {self.pixel_size_angstrom:.3g} Å a pixel, particle {self.diameter_angstrom:.3g} Å{through}."
        )


def preview_job(
    found: MicrographSet, templates: TemplateInput, parameters: PickParameters | BiasParameters, most: int = MOST
) -> Generator[Progress, None, TemplatePreview]:
    """Make the templates of a picking run or a diagnosis; yields :class:`Progress`, returns some of them.

    Raises
    ------
    InputError
        When the data contradict each other or the parameters.
    """
    yield Progress("prepare", 0, 1, "making templates")
    if isinstance(parameters, BiasParameters):
        lowpass = parameters.lowpass or (parameters.diameter or particle_diameter(templates)) / 3
        plan = make_bias_plan(found, templates, parameters.picking(lowpass))
    else:
        lowpass = parameters.lowpass
        plan = make_plan(found, templates, parameters)
    views = plan.views
    _, first = np.unique(views.view, return_index=True)
    chosen = first[np.unique(np.linspace(0, len(first) - 1, min(most, len(first))).round().astype(np.int64))]
    some = replace(
        views, images=views.images[chosen], view=views.view[chosen], euler_deg=views.euler_deg[chosen]
    )  # fmt: skip
    optics = plan.micrographs.ctf
    with_ctf = optics is not None and plan.ctf != "none"
    bank = bank_for(some, None if optics is None else optics.take(np.array([0])), plan.ctf)
    yield Progress("prepare", 1, 1)
    return TemplatePreview(
        np.asarray(bank.images, np.float32), some.view, views.pixel_size_angstrom, views.diameter_angstrom,
        float(lowpass), len(first), len(views.images), with_ctf,
    )  # fmt: skip
