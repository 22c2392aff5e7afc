"""Sample data, made on the spot: no download, and files that the widgets can run on."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import Any

from napari_pickbias.gui.pick_layers import pick_layers
from napari_pickbias.gui.reader import LayerData, particle_layers
from napari_pickbias.imaging.phantoms import blob_volume, phantom
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


def simulated_particles() -> list[LayerData]:
    """Return the particle stack of ``pickbias demo``, a smaller one: particles of radius 72 Å, a third of it junk."""
    return particle_layers(_simulated_file())


def simulated_micrographs() -> list[LayerData]:
    """Return a few small micrographs with known particles; the map that they show lies beside them, to pick with."""
    folder = _simulated_folder()
    layers = pick_layers(folder / "micrographs.star")
    for _, options, _ in layers:
        # The docks take their templates from here: a map's own layer would not go with micrographs' axes.
        options["metadata"]["map"] = str(folder / "molecule.mrc")
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
