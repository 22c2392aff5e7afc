"""The verdict on data sets whose truth is known: noise and particles, many molecules, right and wrong templates.

python benchmarks/bias_validation.py run DATA OUT.jsonl [--count N]
python benchmarks/bias_validation.py table OUT.jsonl

DATA is the folder that holds ``maps``. Every data set is two micrographs made straight on the pixels of the
diagnosis, every third of noise alone. One line of JSON a data set, so that a run that was stopped goes on where it was.
``table`` judges the stored figures again, so that the rule can be tried without making the data anew.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.fft
from bias_validation_tables import show

from napari_pickbias.bias.views import matched
from napari_pickbias.imaging.ctf import ctf
from napari_pickbias.imaging.fourier import apply_filter, band_filter
from napari_pickbias.imaging.noise import COLOURS, amplitude_filter, gaussian_noise
from napari_pickbias.imaging.phantoms import blob_volume, phantom
from napari_pickbias.imaging.projection import fourier_volume, project, resample_volume
from napari_pickbias.imaging.rotations import direction_grid, matrices_from_euler, random_euler
from napari_pickbias.jobs.bias import BiasResult, bias_job
from napari_pickbias.jobs.bias_parameters import BiasParameters
from napari_pickbias.jobs.pick_templates import TemplateInput, particle_diameter
from napari_pickbias.records import CtfParameters, Micrographs, read_volume, write_mrc
from napari_pickbias.records.micrographs import MicrographSet

MOLECULES = {
    "beta-galactosidase": ("betagal_ngl_crop64.mrc", "D2"),
    "EMD-1024": ("emd_1024.map", "C6"),
    "EMD-1066": ("emd_1066.map", "C1"),
    "EMD-1148": ("emd_1148.map.gz", "C6"),
    "EMD-1832": ("emd_1832.map.gz", "C1"),
    "EMD-2479": ("emd_2479.map", "C1"),
    "EMD-3400": ("emd_3400_86.mrc.gz", "C1"),
    "EMD-5295": ("emd_5295.map", "C1"),
    "long phantom": (1.6, "C1"),
    "round phantom": (1.1, "C1"),
}
FIELD = 16.0
"""Side of a micrograph in particle diameters."""
MICROGRAPHS = 2
NEAR = 0.4
"""A pick within this share of a diameter is that particle's."""


class Case(NamedTuple):
    """One data set."""

    number: int
    molecule: str
    template: str
    """``right``, ``other`` (name in ``other``), ``scrambled`` or ``disc``."""
    other: str
    views: str
    """``all``, with a map as template; or ``few``: six directions, with their images as templates."""
    sharpness: float
    """Diameters in one low-pass."""
    noise: str
    score: float
    """Expected score of a particle with the right template; 0: no particles."""
    crowded: bool
    ctf: str
    """``none``, ``known`` or ``unknown``."""
    threshold: float


def case_of(number: int) -> Case:
    """Return the data set of a number; every third holds noise alone."""
    rng = np.random.default_rng([7, number])

    def one(*values: Any) -> Any:
        return values[int(rng.integers(len(values)))]

    views = one("all", "few", "few")
    # with a map, only molecules whose symmetry leaves few views, so that a data set is a matter of seconds
    known = [name for name, (_, symmetry) in MOLECULES.items() if views == "few" or symmetry != "C1"]
    molecule = one(*known)
    other = one(*(name for name in known if name != molecule))
    template = one("right", "right", "right", "other", "other", "scrambled", "disc")
    score = one(5.0, 7.0, 10.0, 14.0)
    return Case(
        number, molecule, template, other, views, one(2.5, 3.0, 3.5), one("white", "coloured", "mix"),
        0.0 if number % 3 == 0 else score, one(True, False), one("none", "none", "known", "unknown"),
        one(2.5, 3.0, 3.5) if number % 3 == 0 else one(2.5, 3.0, 3.5, 4.0, 5.0),
    )  # fmt: skip


def volume_of(maps: Path, name: str) -> tuple[np.ndarray, float, str]:
    """Return a molecule's map, its voxel size in Å and its symmetry."""
    source, symmetry = MOLECULES[name]
    if isinstance(source, float):
        return blob_volume(phantom(16.0, elongation=source), 64), 5.0, symmetry
    volume = read_volume(maps / source)
    return np.asarray(volume.data, np.float32), float(volume.voxel_size_angstrom), symmetry


class Scene(NamedTuple):
    """What the data set's micrographs share."""

    images: np.ndarray
    """``(n, box, box)`` particles without noise, before the CTF, on the pixels of the micrographs."""
    wanted: TemplateInput
    pixel: float
    diameter: float
    symmetry: str


def scene_of(case: Case, maps: Path, rng: np.random.Generator) -> Scene:
    """Draw particles, and make the templates that look for them."""
    volume, voxel, symmetry = volume_of(maps, case.molecule)
    diameter = particle_diameter(TemplateInput("map", volume, voxel, case.molecule))
    pixel = diameter / case.sharpness / 8.5
    box = 2 * round(1.7 * diameter / pixel / 2)
    prepared = fourier_volume(resample_volume(volume, voxel, box, pixel))
    few = direction_grid(80.0)[:6] + rng.uniform(0, 40, 2)
    euler = random_euler(600, rng)
    if case.views == "few":
        euler[:, :2] = few[rng.integers(0, len(few), 600)] + rng.normal(0, 5, (600, 2))
    images = project(prepared, matrices_from_euler(euler))
    if case.template == "other":
        volume, voxel, symmetry = volume_of(maps, case.other)
        voxel *= diameter / particle_diameter(TemplateInput("map", volume, voxel, case.other))
        prepared = fourier_volume(resample_volume(volume, voxel, box, pixel))
    if case.views == "all" and case.template in ("right", "other"):
        return Scene(images, TemplateInput("map", volume, voxel, case.template), pixel, diameter, symmetry)
    views = np.asarray(project(prepared, matrices_from_euler(np.column_stack([few, np.zeros(len(few))]))), np.float32)
    y, x = np.mgrid[:box, :box] - box // 2
    if case.template == "disc":
        views = (np.hypot(y, x) < 0.4 * diameter / pixel).astype(np.float32)[None]
    elif case.template == "scrambled":
        phases = scipy.fft.rfft2(rng.standard_normal(views.shape))
        views = scipy.fft.irfft2(np.abs(scipy.fft.rfft2(views)) * phases / np.abs(phases), s=(box, box))
        views = np.fft.fftshift(views, axes=(1, 2)) * (np.hypot(y, x) < 0.5 * diameter / pixel)
        views *= np.sign((views * np.exp(-(y**2 + x**2) / (0.2 * diameter / pixel) ** 2)).sum(axis=(1, 2)))[
            :, None, None
        ]
    return Scene(images, TemplateInput("images", views.astype(np.float32), pixel, case.template), pixel, diameter, "C1")


def optics_of(rng: np.random.Generator) -> CtfParameters:
    """Draw the defocus of each micrograph."""
    defocus, one = rng.uniform(8000, 22000, MICROGRAPHS), np.ones(MICROGRAPHS)
    return CtfParameters(defocus, defocus, 0 * one, 300 * one, 2.7 * one, 0.1 * one, 0 * one)


def unit_score(images: np.ndarray, case: Case, pixel: float, lowpass: float) -> float:
    """Return the median score of particles as they are with their own low-passed images as templates."""
    size = images.shape[-1]
    band = band_filter((size, size), pixel, lowpass_angstrom=lowpass)
    found = np.asarray(apply_filter(images - images.mean(axis=(1, 2), keepdims=True), band))
    power = amplitude_filter((size, size), COLOURS[case.noise]) ** 2
    deviation = np.sqrt((found * apply_filter(found, power)).sum(axis=(1, 2)))
    return float(np.median((found * images).sum(axis=(1, 2)) / deviation))


def places_of(case: Case, side: int, diameter: float, rng: np.random.Generator) -> np.ndarray:
    """Return x, y of particles at least 1.1 diameters apart; ``diameter`` in px."""
    wanted, margin = (110 if case.crowded else 60), 0.9 * diameter
    found = np.zeros((0, 2))
    for place in rng.uniform(margin, side - margin, (20000, 2)):
        if len(found) < wanted and (not len(found) or np.hypot(*(found - place).T).min() > 1.1 * diameter):
            found = np.vstack([found, place])
    return found


def make_micrographs(
    case: Case, scene: Scene, folder: Path, rng: np.random.Generator
) -> tuple[MicrographSet, dict[str, np.ndarray]]:
    """Write the micrographs; return them, and where the particles are."""
    width = scene.diameter / scene.pixel
    side, box = 2 * round(FIELD * width / 2), scene.images.shape[-1]
    optics = optics_of(rng)
    paths, truth = [], {}
    for number in range(MICROGRAPHS):
        image = gaussian_noise(1, (side, side), rng, power=COLOURS[case.noise])[0].astype(np.float64)
        places = places_of(case, side, width, rng) if case.score else np.zeros((0, 2))
        if len(places):
            images = scene.images[rng.integers(0, len(scene.images), len(places))]
            if case.ctf != "none":
                one = optics.take(np.array([number]))
                transfer = ctf(
                    (box, box), scene.pixel, defocus_u_angstrom=one.defocus_u_angstrom,
                    defocus_v_angstrom=one.defocus_v_angstrom, defocus_angle_deg=one.defocus_angle_deg,
                    voltage_kv=one.voltage_kv, spherical_aberration_mm=one.spherical_aberration_mm,
                    amplitude_contrast=one.amplitude_contrast, phase_shift_deg=one.phase_shift_deg,
                )[0]  # fmt: skip
                images = apply_filter(images, transfer)
            images = images * (case.score / unit_score(images, case, scene.pixel, scene.diameter / case.sharpness))
            corner = np.rint(places).astype(int)[:, ::-1] - box // 2
            places = corner[:, ::-1] + box // 2
            for (y, x), one_image in zip(corner, images, strict=True):
                rows = slice(max(y, 0), min(y + box, side))
                columns = slice(max(x, 0), min(x + box, side))
                image[rows, columns] += one_image[rows.start - y : rows.stop - y, columns.start - x : columns.stop - x]
        path = write_mrc(folder / f"{number}.mrc", image.astype(np.float32), scene.pixel)
        paths.append(path)
        truth[str(path)] = places.astype(float)
    known = optics if case.ctf == "known" else None
    return MicrographSet(Micrographs(tuple(paths), np.full(MICROGRAPHS, scene.pixel), known), folder), truth


def finish(job: Any) -> BiasResult:
    """Run a job to its end."""
    while True:
        try:
            next(job)
        except StopIteration as end:
            return end.value


def false_share(result: BiasResult, truth: dict[str, np.ndarray], threshold: float) -> float:
    """Return the true share of false picks at or above a threshold."""
    radius = NEAR * result.candidates.diameter_angstrom / result.candidates.pixel_size_angstrom
    hits = total = 0
    for name, table in result.picks.items():
        chosen = table[table["score"] >= threshold]
        total += len(chosen)
        hits += int(matched(truth[name], np.column_stack([chosen["x"], chosen["y"]]).astype(float), radius).sum())
    return 1 - hits / total if total else float("nan")


def levels_of(result: BiasResult, truth: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """Return all that the rule needs, and the truth, at each threshold."""
    return [
        {
            "threshold": level.threshold, "picks": level.picks, "views": level.views,
            "false": false_share(result, truth, level.threshold), "rate": list(rate),
            "beyond": list(level.beyond), "inside": list(level.inside), "agreement": list(level.agreement),
            "plain": list(level.plain), "verdict": verdict.name, "relative": verdict.relative_agreement,
        }
        for level, (_, rate, verdict) in zip(result.diagnosis.levels, result.levels, strict=True)
    ]  # fmt: skip


def run_case(case: Case, maps: Path) -> dict[str, Any]:
    """Make a data set, diagnose it, and put the truth beside."""
    rng = np.random.default_rng([8, case.number])
    start = time.process_time()
    scene = scene_of(case, maps, rng)
    with tempfile.TemporaryDirectory() as folder:
        found, truth = make_micrographs(case, scene, Path(folder), rng)
        made = time.process_time()
        parameters = BiasParameters(
            threshold=case.threshold, lowpass=scene.diameter / case.sharpness, diameter=scene.diameter,
            angular_step=30.0, symmetry=scene.symmetry, contrast="white",
            seed=case.number,
        )  # fmt: skip
        result = finish(bias_job(found, scene.wanted, parameters))
        return {
            **case._asdict(), "levels": levels_of(result, truth), "trusted_share": result.calibration.trusted_share,
            "twin_beyond": result.diagnosis.twin_beyond, "templates": len(result.candidates.view),
            "micrographs": MICROGRAPHS,
            "why": result.verdict.why, "seconds": [made - start, time.process_time() - made],
        }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parts = parser.add_subparsers(dest="part", required=True)
    run = parts.add_parser("run")
    run.add_argument("data", type=Path)
    run.add_argument("out", type=Path)
    run.add_argument("--count", type=int, default=300)
    run.add_argument("--shard", type=int, nargs=2, default=(0, 1), metavar=("K", "OF"), help="every OF-th from K on")
    table = parts.add_parser("table")
    table.add_argument("out", type=Path)
    chosen = parser.parse_args()
    if chosen.part == "table":
        show([json.loads(line) for line in chosen.out.read_text().splitlines()])
        return
    done = set()
    if chosen.out.exists():
        done = {json.loads(line)["number"] for line in chosen.out.read_text().splitlines()}
    for number in range(chosen.shard[0], chosen.count, chosen.shard[1]):
        if number not in done:
            row = run_case(case_of(number), chosen.data / "maps")
            with chosen.out.open("a") as stream:
                stream.write(json.dumps(row) + "\n")
            first = row["levels"][0]
            print(
                number, row["template"], row["score"], f"T {row['threshold']}", first["picks"],
                f"false {first['false']:.2f}", [round(v, 2) for v in first["rate"]],
                [round(v, 2) for v in first["beyond"]], first["verdict"], [round(s, 1) for s in row["seconds"]],
                flush=True,
            )  # fmt: skip


if __name__ == "__main__":
    main()
