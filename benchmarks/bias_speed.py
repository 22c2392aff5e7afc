"""Where the diagnosis spends its time on large micrographs, and what it holds in memory.

python benchmarks/bias_speed.py OUT.csv [--micrographs N] [--side 4096] [--views 17]

Micrographs of 1.77 Å a pixel with particles of 177 Å, picked by views of a phantom at in-plane angles 30° apart (17
views: 204 templates). CPU time of each stage for each micrograph and the largest memory so far; since every micrograph
is a matter of its own, 100 take 100 times the mean.
"""

from __future__ import annotations

import argparse
import csv
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

from napari_pickbias.imaging.noise import COLOURS, gaussian_noise
from napari_pickbias.imaging.phantoms import blob_volume, phantom
from napari_pickbias.imaging.projection import fourier_volume, project
from napari_pickbias.imaging.rotations import direction_grid, matrices_from_euler, random_rotations
from napari_pickbias.jobs.bias import bias_job
from napari_pickbias.jobs.bias_parameters import BiasParameters
from napari_pickbias.jobs.pick_templates import TemplateInput
from napari_pickbias.records import write_mrc
from napari_pickbias.records.micrographs import open_micrographs

PIXEL, BOX = 1.77, 144
PARTICLES = 400


def write_micrograph(path: Path, side: int, views: np.ndarray, rng: np.random.Generator) -> None:
    """Write noise with dark particles on a jittered grid."""
    image = gaussian_noise(1, (side, side), rng, power=COLOURS["coloured"], grid_factor=1)[0]
    step = side / np.sqrt(PARTICLES)
    corners = (np.mgrid[: int(side / step), : int(side / step)].reshape(2, -1).T * step).astype(int)
    for y, x in np.minimum(corners + rng.integers(0, 40, corners.shape), side - BOX):
        image[y : y + BOX, x : x + BOX] -= 12 * views[rng.integers(len(views))]
    write_mrc(path, image, PIXEL)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--micrographs", type=int, default=3)
    parser.add_argument("--side", type=int, default=4096)
    parser.add_argument("--views", type=int, default=17)
    chosen = parser.parse_args()
    rng = np.random.default_rng(0)
    volume = fourier_volume(blob_volume(phantom(42.0, elongation=1.4), BOX))
    images = project(volume, random_rotations(40, rng))
    images /= np.linalg.norm(images, axis=(1, 2), keepdims=True)
    directions = direction_grid(np.degrees(np.sqrt(4 * np.pi / chosen.views)))[: chosen.views]
    euler = np.column_stack([directions, np.zeros(len(directions))])
    wanted = TemplateInput(
        "images", np.asarray(project(volume, matrices_from_euler(euler)), np.float32), PIXEL, "views"
    )
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(chosen.micrographs):
            write_micrograph(Path(folder) / f"{number}.mrc", chosen.side, np.asarray(images), rng)
        parameters = BiasParameters(
            threshold=4.0, lowpass=60.0, diameter=177.0, angular_step=30.0, contrast="black"
        )  # fmt: skip
        job = bias_job(open_micrographs(folder), wanted, parameters)
        before, stage = time.process_time(), "prepare"
        while True:
            try:
                progress = next(job)
            except StopIteration as end:
                result, name, done = end.value, "conclude", 1
            else:
                name, done = progress.stage, progress.done
            now = time.process_time()
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            rows.append({"stage": name, "done": done, "cpu_s": round(now - before, 2), "peak_mib": round(memory)})
            print(rows[-1], stage, flush=True)
            before, stage = now, name
            if name == "conclude" and done == 1 and "result" in locals():
                break
    with chosen.out.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    spent = {name: sum(row["cpu_s"] for row in rows if row["stage"] == name) for name in ("match", "averages")}
    each = {name: value / chosen.micrographs for name, value in spent.items()}
    rest = sum(row["cpu_s"] for row in rows) - sum(spent.values())
    whole = 100 * sum(each.values()) + rest
    print(
        f"{len(result.candidates.view)} templates, {result.count} picks; per micrograph matching "
        f"{each['match']:.1f} s, averages {each['averages']:.1f} s of CPU; the rest {rest:.1f} s once; 100 micrographs "
        f"{whole / 60:.0f} min, {100 * 100 * each['match'] / whole:.0f} % of it matching"
    )


if __name__ == "__main__":
    main()
