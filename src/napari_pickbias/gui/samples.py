"""Sample data, made on the spot: no download, and files that the widgets can run on."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np

from napari_pickbias.gui.pick_layers import pick_layers
from napari_pickbias.gui.preferences import OFFERS
from napari_pickbias.gui.reader import LayerData, particle_layers
from napari_pickbias.imaging.phantoms import blob_volume, phantom
from napari_pickbias.imaging.projection import project
from napari_pickbias.imaging.rotations import matrices_from_euler
from napari_pickbias.jobs.progress import Progress
from napari_pickbias.jobs.simulate import SimulateParticlesParameters
from napari_pickbias.jobs.simulate_micrographs_parameters import SimulateMicrographsParameters
from napari_pickbias.records import write_mrc
from napari_pickbias.runs.simulate import run_simulate_particles
from napari_pickbias.runs.simulate_micrographs import run_simulate_micrographs

COUNT = 600
PARTICLES: dict[str, Any] = {
    "size": 64,
    "pixel_size": 4.0,
    "radius": 72.0,
    "snr": 0.25,
    "noise": "coloured",
    "noise_fraction": 0.15,
    "partial_fraction": 0.12,
    "multiple_fraction": 0.08,
}
MICROGRAPHS: dict[str, Any] = {
    "count": 3,
    "size": 512,
    "pixel_size": 8.0,
    "per_micrograph": 15,
    "radius": 80.0,
    "snr": 0.4,
    "noise": "coloured",
}
PICKED: dict[str, Any] = {
    "count": 5,
    "size": 480,
    "pixel_size": 8.0,
    "per_micrograph": 48,
    "radius": 80.0,
    "elongation": 1.5,
    "snr": 0.8,
    "noise": "coloured",
    "views": "polar:25",
    "ctf": False,
    "seed": 5,
}
"""Small, and of few views: the diagnosis takes some ten seconds."""
PICKED_LOWPASS = 60.0
"""Å: leaves enough beyond the templates' band to tell by."""
TEMPLATE_VIEWS = ((0.0, 0.0, 0.0), (0.0, 20.0, 0.0), (120.0, 20.0, 0.0), (240.0, 20.0, 0.0))


def simulated_particles() -> list[LayerData]:
    """Return the particle stack of ``pickbias demo``, a smaller one: particles of radius 72 Å, a third of it junk."""
    return particle_layers(_simulated_file())


def simulated_micrographs() -> list[LayerData]:
    """Return a few small micrographs with known particles; the map that they show lies beside them, to pick with."""
    return _with_templates(_simulated_folder(), "molecule.mrc")


def simulated_picking() -> list[LayerData]:
    """Return small micrographs of few views with templates for them: the diagnosis of bias takes some ten seconds."""
    layers = _with_templates(_picked_folder(), "templates.mrcs")
    for _, options, _ in layers:
        options["metadata"][OFFERS] = {"lowpass": PICKED_LOWPASS}
    return layers


def _with_templates(folder: Path, templates: str) -> list[LayerData]:
    layers = pick_layers(folder / "micrographs.star")
    for _, options, _ in layers:
        # The docks take their templates from here: a map's own layer would not go with micrographs' axes.
        options["metadata"]["map"] = str(folder / templates)
    return layers


@functools.cache
def _simulated_folder() -> Path:
    """Simulate once a session, as :func:`_simulated_file` does."""
    folder = Path(tempfile.mkdtemp(prefix="pickbias_sample_")) / "micrographs"
    _finish(run_simulate_micrographs(SimulateMicrographsParameters(**MICROGRAPHS), folder, report=False))
    pixel = MICROGRAPHS["pixel_size"] / 2
    radius = MICROGRAPHS["radius"]
    write_mrc(folder / "molecule.mrc", blob_volume(phantom(radius / pixel), 64), pixel)
    return folder


@functools.cache
def _picked_folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="pickbias_sample_")) / "picking"
    _finish(run_simulate_micrographs(SimulateMicrographsParameters(**PICKED), folder, report=False))
    pixel = PICKED["pixel_size"]
    volume = blob_volume(phantom(PICKED["radius"] / pixel, elongation=PICKED["elongation"]), 36)
    views = project(volume, matrices_from_euler(np.array(TEMPLATE_VIEWS)))
    write_mrc(folder / "templates.mrcs", np.asarray(views, np.float32), pixel, stack=True)
    return folder


@functools.cache
def _simulated_file() -> Path:
    """Simulate once a session, into a temporary folder that stays: results may come to lie in it."""
    parameters = SimulateParticlesParameters(count=COUNT, **PARTICLES)
    folder = Path(tempfile.mkdtemp(prefix="pickbias_sample_"))
    file: Path = _finish(run_simulate_particles(parameters, folder / "simulated", report=False)).files["particles"]
    return file


def _finish(steps: Generator[Progress, None, Any]) -> Any:
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value
