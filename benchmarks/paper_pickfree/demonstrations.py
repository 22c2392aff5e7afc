"""Demonstrations of pick-free reconstruction on simulated micrographs; one JSON line a run.

Usage: PICKBIAS_DATA=... python benchmarks/paper_pickfree/demonstrations.py RESULTS.jsonl [--only NAME ...]
           [--seeds 5] [--threads 2]

Runs that RESULTS.jsonl holds already are skipped. Molecules: 70S (map), BPTI (5PTI), adenylate kinase (open form; its
closed form is the start of one case, BPTI that of ``70S-11-other``). Micrographs: continuous random views, white noise,
particles on whole pixels; in ``touching`` neighbouring boxes may touch, otherwise their corners lie 2 L - 1 apart.
Every curve is with the truth; starts other than the low-passed truth are aligned first (rotation, shift, hand), and
``aligned_fsc`` holds the first and the last map's of every run.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import time
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates

from napari_pickbias.imaging.correlation import fourier_correlation
from napari_pickbias.imaging.phantoms import splat_atoms
from napari_pickbias.imaging.projection import project, resample_volume
from napari_pickbias.imaging.rotations import random_rotations
from napari_pickbias.pickfree import Options, align, default_stages
from napari_pickbias.pickfree.chain import make_model
from napari_pickbias.pickfree.reconstruct import prepared_start, run_stages
from napari_pickbias.pickfree.rotation_levels import rotation_levels
from napari_pickbias.pickfree.start import default_lowpass, lowpassed, scaled_to
from napari_pickbias.records import read_volume

DATA = Path(os.environ.get("PICKBIAS_DATA", "data"))

USUAL: dict[str, object] = {
    "molecule": "70S", "box": 11, "patches": 2500, "snr": 1.0, "start": "lowpass", "touching": False, "iterations": 13,
}  # fmt: skip
CASES: dict[str, dict[str, object]] = {
    "70S-11": {},
    "70S-11-4000": {"patches": 4000, "most_seeds": 1},
    "BPTI-11": {"molecule": "BPTI"},
    "ADK-11": {"molecule": "ADK"},
    "70S-11-touching": {"touching": True, "most_seeds": 1},
    "70S-11-touching-1000": {"touching": True, "patches": 1000},
    "BPTI-11-touching-1000": {"molecule": "BPTI", "touching": True, "patches": 1000},
    "ADK-11-touching-1000": {"molecule": "ADK", "touching": True, "patches": 1000},
    "70S-11-other": {"start": "BPTI", "iterations": 20},
    "70S-11-warped": {"start": "warped", "iterations": 20},
    "70S-11-warped-low": {"start": "warped-low", "iterations": 20},
    "70S-11-random": {"start": "random", "iterations": 20},
    "ADK-11-closed": {"molecule": "ADK", "start": "closed", "iterations": 20},
    "70S-11-snr-0.5": {"snr": 0.5},
    "70S-11-snr-0.25-4k": {"patches": 4000, "snr": 0.25},
    "70S-11-snr-0.25-8k": {"patches": 8000, "snr": 0.25, "most_seeds": 3},
    "70S-11-snr-0.25-16k": {"patches": 16000, "snr": 0.25, "most_seeds": 2},
    "70S-11-snr-0.25-32k": {"patches": 32000, "snr": 0.25, "most_seeds": 1},
    "70S-15": {"box": 15, "patches": 1600, "iterations": 8},
    "70S-21": {"box": 21, "patches": 800, "iterations": 7},
}


def molecule(name: str, size: int) -> np.ndarray:
    """Return a molecule in a box of ``size`` px, its radius 0.7 px less than half the box."""
    radius = size / 2 - 0.7
    if name == "70S":
        volume = read_volume(DATA / "aspire-python/clean70SRibosome_vol_65p.mrc", 1.0).data
        return resample_volume(volume, 1.0, size, 26 / radius)
    atoms = coordinates(name)
    reach = float(np.quantile(np.linalg.norm(atoms, axis=1), 0.98))
    voxel = reach / (radius - 0.5)
    return splat_atoms(atoms, size, voxel, sigma_angstrom=0.6 * voxel)


def coordinates(name: str) -> np.ndarray:
    """Return the atoms of a model about their centre, Å."""
    models = DATA / "maps/models"
    if name == "BPTI":
        lines = gzip.decompress((models / "5PTI.cif.gz").read_bytes()).decode().splitlines()
        header = [line.strip().removeprefix("_atom_site.") for line in lines if line.startswith("_atom_site.")]
        columns = [header.index(f"Cartn_{axis}") for axis in "xyz"]
        rows = [line.split() for line in lines if line.startswith("ATOM ")]
        found = np.array([[float(row[i]) for i in columns] for row in rows])
    else:
        file = models / ("adk_closed.pdb" if name == "ADK-closed" else "adk_open.pdb")
        rows = [line for line in file.read_text().splitlines() if line.startswith("ATOM")]
        found = np.array([[float(line[30 + 8 * i : 38 + 8 * i]) for i in range(3)] for line in rows])
    return found - found.mean(axis=0)


def start_map(kind: str, name: str, truth: np.ndarray, seed: int) -> np.ndarray:
    """Return the map that the chain starts from, before its low-pass."""
    size = len(truth)
    rng = np.random.default_rng([seed, 99])
    if kind == "closed":
        return align(molecule("ADK-closed", size), truth, both_hands=False).volume
    if kind in ("BPTI", "ADK", "70S"):  # another molecule, laid onto nothing
        return molecule(kind, size)
    if kind == "random":
        return lowpassed(rng.standard_normal(truth.shape).astype(np.float32), default_lowpass(size))
    if kind == "warped-low":
        return lowpassed(start_map("warped", name, truth, seed), default_lowpass(size))
    if kind == "warped":
        field = np.stack([gaussian_filter(rng.standard_normal(truth.shape), 2.0) for _ in range(3)])
        field *= 1.0 / np.sqrt(np.mean(np.sum(field**2, axis=0)))
        grid = np.stack(np.meshgrid(*[np.arange(size)] * 3, indexing="ij")) + field
        warped = map_coordinates(truth, grid, order=3)
        # a lobe is missing: all that lies beyond half the radius along one axis
        return warped * (np.arange(size) - size // 2 < 0.45 * size / 2).astype(np.float32)
    return truth


def scene(volume: np.ndarray, count: int, seed: int, *, touching: bool) -> tuple[np.ndarray, int]:
    """Return patches of one micrograph of unit noise, and the number of particles."""
    size = len(volume)
    side = int(np.ceil(np.sqrt(count)))
    rng = np.random.default_rng(seed)
    image = rng.normal(size=(side * size,) * 2).astype(np.float32)
    apart = size if touching else 2 * size - 1
    wanted = round((0.40 if touching else 0.15) * side * side)
    free = np.ones((side * size - size + 1,) * 2, bool)
    corners = []
    for place in rng.permutation(free.size):
        y, x = divmod(int(place), free.shape[1])
        if free[y, x]:
            corners.append((y, x))
            free[max(0, y - apart + 1) : y + apart, max(0, x - apart + 1) : x + apart] = False
            if len(corners) == wanted:
                break
    for (y, x), view in zip(corners, project(volume, random_rotations(len(corners), rng)), strict=True):
        image[y : y + size, x : x + size] += view
    cut = image.reshape(side, size, side, size).transpose(0, 2, 1, 3).reshape(-1, size, size)
    return np.ascontiguousarray(cut[:count]), len(corners)


def run(name: str, seed: int, threads: int) -> dict[str, object]:
    """Return the record of one run."""
    case = USUAL | CASES[name]
    size, snr = int(case["box"]), float(case["snr"])
    levels = rotation_levels(4608)
    truth = scaled_to(make_model(size, levels), molecule(str(case["molecule"]), size), snr, 1.0)
    patches, particles = scene(truth, int(case["patches"]), seed, touching=bool(case["touching"]))
    began = time.perf_counter()
    model = make_model(size, levels, patches=len(patches))
    options, rows = Options(threads=threads), np.arange(len(patches))
    first = start_map(str(case["start"]), name, truth, seed)
    state, found_snr, _ = prepared_start(
        patches, model, first, options, noise_variance=1.0, empty=0.55,
        lowpass=None if case["start"] == "lowpass" else size // 2, snr=None, seed=seed,
    )  # fmt: skip
    volumes, records = [state.volume], []
    stages = default_stages(int(case["iterations"]))
    for state, record in run_stages(patches, model, state, stages, options, rows, [seed]):  # noqa: B020
        volumes.append(state.volume)
        records.append(record)
    seconds = time.perf_counter() - began
    if case["start"] == "lowpass":
        curves = [fourier_correlation(volume, truth, 3)[1:] for volume in volumes]
        likeness = [float(np.corrcoef(v.ravel(), truth.ravel())[0, 1]) for v in (volumes[0], volumes[-1])]
        # weak data let the frame drift
        fits = [align(volume, truth) for volume in (volumes[0], volumes[-1])]
    else:
        fits = [align(volume, truth) for volume in (volumes[0], volumes[-1])]
        curves = [fourier_correlation(fit.volume, truth, 3)[1:] for fit in fits]
        likeness = [fit.correlation for fit in fits]
    crossings = [crossing(curve) for curve in curves]
    aligned = [fourier_correlation(fit.volume, truth, 3)[1:] for fit in fits]
    middle = size // 2
    return {
        "case": name, "seed": seed, **case, "particles": particles, "found_snr": found_snr,
        "fsc": [np.round(curve, 4).tolist() for curve in curves], "crossing": crossings, "correlation": likeness,
        "aligned_fsc": [np.round(curve, 4).tolist() for curve in aligned],
        "aligned_correlation": [fit.correlation for fit in fits], "norm": [r.norm for r in records],
        "log_likelihood": [round(r.log_likelihood, 4) for r in records], "empty": records[-1].empty,
        "true_empty": 1 - particles * (2 * size - 1) ** 2 / (size**2 * len(patches)),
        "noise_variance": records[-1].noise_variance, "seconds": round(seconds, 1),
        "sections": [np.round(v[middle], 4).tolist() for v in (truth, volumes[0], volumes[-1])],
    }  # fmt: skip


def crossing(curve: np.ndarray) -> float:
    """Return the shell at which a curve (from shell 1 on) first falls below 0.5, linear between shells."""
    below = np.flatnonzero(curve < 0.5)
    if not below.size:
        return float(len(curve))
    at = int(below[0])
    if at == 0:
        return 0.0
    return at + float((curve[at - 1] - 0.5) / (curve[at - 1] - curve[at]))


def main() -> None:
    """Run all that is not there yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("--only", nargs="+", default=list(CASES))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    chosen = parser.parse_args()
    done = set()
    if chosen.results.exists():
        done = {(r["case"], r["seed"]) for r in map(json.loads, chosen.results.read_text().splitlines())}
    for name in chosen.only:
        for seed in range(chosen.first, min(chosen.seeds, int(CASES[name].get("most_seeds", 99)))):
            if (name, seed) in done:
                continue
            found = run(name, seed, chosen.threads)
            with chosen.results.open("a") as stream:
                stream.write(json.dumps(found) + "\n")
            print(
                f"{name} seed {seed}: {found['crossing'][0]:.2f} -> {found['crossing'][-1]:.2f} shells, FSC "
                f"{found['fsc'][-1]}, corr {found['correlation']}, loglik {found['log_likelihood'][-1]}, empty "
                f"{found['empty']:.3f} ({found['true_empty']:.3f}), {found['particles']} particles, "
                f"{found['seconds']} s",
                flush=True,
            )


if __name__ == "__main__":
    main()
