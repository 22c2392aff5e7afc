"""The bias diagnosis on simulated tomograms: noise, particles found with the right map, and with a wrong one.

    python benchmarks/bias_tomograms.py --seeds 3 --results results.jsonl

Each tomogram has 52 x 104 x 104 voxels of 10 A, coloured noise, and tilts of -60 to 60 degrees; "weak"
and "strong" are 108 molecules of norm 26 and 36 in it, no two nearer than 10.5 voxels. A line of JSON for each is
added to the results as soon as it is there.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import scipy.fft
from scipy.ndimage import gaussian_filter

from napari_pickbias.imaging.phantoms import Blobs, blob_volume, phantom
from napari_pickbias.imaging.rotations import random_rotations
from napari_pickbias.records import write_mrc

SHAPE, VOXEL, COUNT = (52, 104, 104), 10.0, 108
RUN = "import sys; from napari_pickbias.cli.main import main; sys.exit(main(sys.argv[1:]))"
MAP = phantom(6.0, elongation=1.4)
OTHER = phantom(5.6, elongation=1.0, count=9)
SITUATIONS: dict[str, tuple[Blobs, float]] = {
    "noise": (MAP, 0.0),
    "right map, strong": (MAP, 36.0),
    "wrong map, strong": (OTHER, 36.0),
    "right map, weak": (MAP, 26.0),
}


def tomogram(molecule: Blobs, amplitude: float, rng: np.random.Generator) -> np.ndarray:
    made = rng.normal(size=SHAPE)
    made += 2 * gaussian_filter(made, 1.5)
    places: list[np.ndarray] = []
    while len(places) < COUNT and amplitude:
        place = np.array([rng.integers(11, side - 11) for side in SHAPE])
        if all(np.linalg.norm(place - other) > 10.5 for other in places):
            places.append(place)
    for place, pose in zip(places, random_rotations(COUNT, rng), strict=False):
        turned = blob_volume(molecule._replace(centres_px=molecule.centres_px @ pose.T), 20)
        made[tuple(slice(at - 10, at + 10) for at in place)] -= amplitude * turned / np.linalg.norm(turned)
    spectrum = scipy.fft.rfftn(made)
    unseen = np.abs(np.fft.fftfreq(SHAPE[0])[:, None, None]) > np.fft.rfftfreq(SHAPE[2]) * np.tan(np.radians(60)) + 1e-9
    spectrum[np.broadcast_to(unseen, spectrum.shape)] = 0
    return np.asarray(scipy.fft.irfftn(spectrum, s=SHAPE), np.float32)


def diagnose(
    folder: Path, situation: str, seed: int, step: float, nulls: int, threshold: float | None = None
) -> dict[str, object]:
    molecule, amplitude = SITUATIONS[situation]
    write_mrc(folder / "tomogram.mrc", tomogram(molecule, amplitude, np.random.default_rng([seed, 7])), VOXEL)
    words = ["bias-tomograms", "--tomograms", "tomogram.mrc", "--map", "map.mrc", "--angular-step", str(step)]
    words += ["--tilt-range", "-60", "60", "--nulls", str(nulls), "--contrast", "black", "--threads", "1"]
    words += [] if threshold is None else ["--threshold", str(threshold)]
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", RUN, *words, "--out", "out", "--overwrite", "--quiet"],
        cwd=folder, check=False, capture_output=True, text=True,
    )  # fmt: skip
    facts: dict[str, object] = {"situation": situation, "seed": seed, "angular_step": step, "threshold": threshold}
    if done.returncode:
        return facts | {"fault": done.stderr.strip().splitlines()[-1]}
    found = json.loads((folder / "out" / "summary.json").read_text())["results"]
    for name in ("verdict", "observed_picks", "null_fraction", "null_fraction_interval", "relative_agreement"):
        facts[name] = found[name]
    for name in ("evidence_in_band", "evidence_beyond_band", "template_agreement"):
        facts[name] = {key: round(value, 3) for key, value in found[name].items()}
    facts |= {"plain": found["plain_agreement"], "noise_twin": found["noise_twin"]}
    facts["correlation"] = found["correlation_with_predicted_bias"]
    return facts | {"seconds": round(time.perf_counter() - start, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--angular-step", type=float, default=45.0)
    parser.add_argument("--nulls", type=int, default=16)
    parser.add_argument("--threshold", type=float, help="default: the one that keeps false picks at 5 %%")
    parser.add_argument("--situation", choices=list(SITUATIONS), action="append", help="default: all")
    parser.add_argument("--results", type=Path, help="lines of JSON are added; default: printed only")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_mrc(folder / "map.mrc", blob_volume(MAP, 32), VOXEL)
        for seed in range(chosen.seeds):
            for situation in chosen.situation or SITUATIONS:
                found = diagnose(folder, situation, seed, chosen.angular_step, chosen.nulls, chosen.threshold)
                line = json.dumps(found)
                print(line, flush=True)
                if chosen.results is not None:
                    with chosen.results.open("a") as stream:
                        stream.write(line + "\n")


if __name__ == "__main__":
    main()
