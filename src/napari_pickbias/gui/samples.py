"""Sample data, made on the spot: no download, and files that the widgets can run on."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

from napari_pickbias.gui.reader import LayerData, particle_layers
from napari_pickbias.jobs.simulate import SimulateParticlesParameters
from napari_pickbias.runs.demo import PARTICLES
from napari_pickbias.runs.simulate import run_simulate_particles

COUNT = 600


def simulated_particles() -> list[LayerData]:
    """Return the particle stack of ``pickbias demo``, a smaller one: particles of radius 72 Å, a third of it junk."""
    return particle_layers(_simulated_file())


@functools.cache
def _simulated_file() -> Path:
    """Simulate once a session, into a temporary folder that stays: results may come to lie in it."""
    parameters = SimulateParticlesParameters(count=COUNT, **PARTICLES)
    folder = Path(tempfile.mkdtemp(prefix="pickbias_sample_"))
    steps = run_simulate_particles(parameters, folder / "simulated", report=False)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            file: Path = end.value.files["particles"]
            return file
