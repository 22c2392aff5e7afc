"""The parts of the demonstration: each runs one job on data made on the spot and compares it with the truth."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import starfile

from napari_pickbias.imaging.phantoms import blob_volume, phantom
from napari_pickbias.jobs.bias_parameters import BiasParameters
from napari_pickbias.jobs.outlier_parameters import OutlierParameters
from napari_pickbias.jobs.progress import Progress
from napari_pickbias.jobs.simulate import SimulateParticlesParameters
from napari_pickbias.jobs.simulate_micrographs_parameters import SimulateMicrographsParameters
from napari_pickbias.jobs.softmodes_parameters import SoftmodesParameters
from napari_pickbias.records import open_particles, write_mrc
from napari_pickbias.records.micrographs import open_micrographs
from napari_pickbias.report.demo import Chapter, bias_chapter, outlier_chapter, softmodes_chapter
from napari_pickbias.runs.bias import run_bias
from napari_pickbias.runs.outliers import run_outliers
from napari_pickbias.runs.pick import open_template_input
from napari_pickbias.runs.simulate import run_simulate_particles
from napari_pickbias.runs.simulate_micrographs import run_simulate_micrographs
from napari_pickbias.runs.softmodes import run_softmodes

RADIUS, PIXEL_SIZE, BOX = 72.0, 4.0, 64
PARTICLES: dict[str, Any] = {
    "size": BOX,
    "pixel_size": PIXEL_SIZE,
    "radius": RADIUS,
    "snr": 0.25,
    "noise": "coloured",
    "noise_fraction": 0.15,
    "partial_fraction": 0.12,
    "multiple_fraction": 0.08,
}
"""A stack like those that template picking gives: a third of it is junk, the noise is coloured, the CTF is there."""


@dataclass(frozen=True)
class DemoPlan:
    """How large the demonstration is.

    Attributes
    ----------
    micrographs, micrograph_px : int
        Noise micrographs that a template picks from, and their side.
    angular_step : float
        Degrees between the template's views.
    particles : int
        Simulated particle images.
    map_box : int
        Voxels to which the map is cropped for its soft modes.
    views : int
        Views that the particles are binned to for them.
    """

    micrographs: int
    micrograph_px: int
    angular_step: float
    particles: int
    map_box: int
    views: int


FULL, QUICK = DemoPlan(3, 640, 36.0, 4000, 28, 768), DemoPlan(2, 512, 45.0, 1200, 20, 256)


def chosen_parameters(plan: DemoPlan, seed: int) -> dict[str, Any]:
    """Return the parameters of every part, by part."""
    return {
        "noise": _noise(plan, seed).model_dump(),
        "bias": _bias(plan, seed).model_dump(),
        "simulate": SimulateParticlesParameters(count=plan.particles, seed=seed, **PARTICLES).model_dump(),
        "outliers": OutlierParameters(radius=RADIUS, seed=seed).model_dump(),
        "softmodes": _softmodes(plan, seed).model_dump(),
    }


def run_bias_part(
    path: Path, plan: DemoPlan, seed: int, threads: int, again: dict[str, bool]
) -> Generator[Progress, None, Chapter]:
    """Pick from pure noise with the views of a molecule, and diagnose the picks."""
    molecule = path / "molecule.mrc"
    if not molecule.exists():
        write_mrc(molecule, blob_volume(phantom(RADIUS / PIXEL_SIZE), BOX), PIXEL_SIZE)
    yield from run_simulate_micrographs(_noise(plan, seed), path / "noise", **again)
    run = yield from run_bias(
        open_micrographs(str(path / "noise" / "micrographs.star")),
        open_template_input(molecule, None),
        _bias(plan, seed),
        path / "bias",
        template_path=molecule,
        threads=threads,
        **again,
    )
    return bias_chapter(run.summary["results"], run.result)


def _noise(plan: DemoPlan, seed: int) -> SimulateMicrographsParameters:
    return SimulateMicrographsParameters(
        count=plan.micrographs,
        size=plan.micrograph_px,
        pixel_size=PIXEL_SIZE,
        per_micrograph=0,
        radius=RADIUS,
        noise="coloured",
        seed=seed,
    )


def _bias(plan: DemoPlan, seed: int) -> BiasParameters:
    # A threshold as low as picking programs have by default: nearly every bump that looks like the particle.
    return BiasParameters(threshold=3.0, angular_step=plan.angular_step, contrast="black", nulls=16, seed=seed)


def run_outlier_part(
    path: Path, plan: DemoPlan, seed: int, threads: int, again: dict[str, bool]
) -> Generator[Progress, None, Chapter]:
    """Simulate a picked stack, a third of it junk, and remove the junk."""
    simulated = SimulateParticlesParameters(count=plan.particles, seed=seed, **PARTICLES)
    yield from run_simulate_particles(simulated, path / "simulated", threads=threads, **again)
    run = yield from run_outliers(
        open_particles(path / "simulated" / "particles.star"),
        OutlierParameters(radius=RADIUS, seed=seed),
        path / "outliers",
        threads=threads,
        **again,
    )
    return outlier_chapter(_against_truth(path), run.result)


def run_softmodes_part(
    path: Path, plan: DemoPlan, seed: int, again: dict[str, bool]
) -> Generator[Progress, None, Chapter]:
    """Ask what the kept particles, with their true poses, leave open of the molecule that they were made of."""
    run = yield from run_softmodes(
        path / "molecule.mrc",
        open_particles(path / "outliers" / "kept.star"),
        _softmodes(plan, seed),
        path / "softmodes",
        **again,
    )
    return softmodes_chapter(run.summary["results"], run.result)


def _softmodes(plan: DemoPlan, seed: int) -> SoftmodesParameters:
    # What is coarser the CTF hides, whatever the views are.
    return SoftmodesParameters(box=plan.map_box, modes=3, most_views=plan.views, noise="13", coarsest=80.0, seed=seed)


def _against_truth(path: Path) -> dict[str, Any]:
    """Compare the verdicts with what each image was made as."""
    truth = starfile.read(path / "simulated" / "truth.star")["particles"]
    verdicts = pd.read_csv(path / "outliers" / "scores.csv")
    kept = verdicts["keep"].to_numpy(dtype=bool)
    by_kind = {}
    for kind in ("inlier", "noise", "partial", "multiple"):
        members = (truth["kind"] == kind).to_numpy()
        by_kind[kind] = {
            "particles": int(members.sum()),
            "kept": int(kept[members].sum()),
            "kept_fraction": float(kept[members].mean()) if members.any() else 0.0,
        }
    outliers = (truth["kind"] != "inlier").to_numpy()
    return {
        "by_kind": by_kind,
        "junk_before": float(outliers.mean()),
        "junk_after": float(outliers[kept].mean()) if kept.any() else 0.0,
    }
