"""Time and memory of ``pickbias pick --tomograms``: a tomogram of noise with planted particles, searched as it is.

    python benchmarks/tomograms.py                                             # small, a minute
    python benchmarks/tomograms.py --shape 512 1024 1024 --angular-step 120    # full size

The search runs in a process of its own, whose memory is read twice a second: what it allocated (anonymous pages), and
all that is resident, the pages of mapped files included, which the system takes back when it needs them.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import mrcfile
import numpy as np
import starfile
from scipy.spatial import cKDTree

from napari_pickbias.imaging.phantoms import blob_volume, phantom
from napari_pickbias.imaging.rotations import angular_distance_deg, matrices_from_euler
from napari_pickbias.matching.volume_bank import orientation_grid
from napari_pickbias.records import write_mrc

RUN = "import sys; from napari_pickbias.cli.main import main; sys.exit(main(sys.argv[1:]))"
VOXEL, RADIUS = 10.0, 9.5
"""Å; voxels: the particle's box is 32."""


def plant(path: Path, shape: tuple[int, int, int], step: float, count: int, amplitude: float, half: bool) -> None:
    """Write white noise with bright particles at a few orientations of the grid, slab by slab."""
    rng = np.random.default_rng(0)
    grid = orientation_grid(step)
    molecule, reach = phantom(RADIUS, elongation=1.4), 20
    places = np.column_stack([rng.integers(reach, side - reach, 50 * count) for side in shape])
    kept = [places[0]]
    for place in places[1:]:
        if len(kept) < count and min(np.linalg.norm(place - other) for other in kept) > 2 * reach:
            kept.append(place)
    poses = grid[rng.integers(0, len(grid), len(kept))]
    turned = [blob_volume(molecule._replace(centres_px=molecule.centres_px @ pose.T), 2 * reach) for pose in poses]
    with mrcfile.new_mmap(path, shape, mrc_mode=12 if half else 2) as out:
        out.voxel_size = VOXEL
        for first in range(0, shape[0], 16):
            slab = rng.standard_normal((min(16, shape[0] - first), *shape[1:]), np.float32)
            for (z, y, x), volume in zip(kept, turned, strict=True):
                low, high = max(first, z - reach), min(first + len(slab), z + reach)
                if low < high:
                    part = volume[low - z + reach : high - z + reach] / np.linalg.norm(volume)
                    slab[low - first : high - first, y - reach : y + reach, x - reach : x + reach] += amplitude * part
            out.data[first : first + len(slab)] = slab
    np.savez(path.with_suffix(".npz"), places=np.array(kept), poses=poses)


def memory(pid: int) -> tuple[float, float]:
    """Return anonymous and resident memory of a process, GB."""
    found = {}
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name in {"RssAnon", "VmRSS"}:
            found[name] = int(value.split()[0]) * 1024 / 1e9
    return found.get("RssAnon", 0.0), found.get("VmRSS", 0.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", type=int, nargs=3, default=(96, 192, 192), metavar=("D", "H", "W"))
    parser.add_argument("--angular-step", type=float, default=90.0)
    parser.add_argument("--particles", type=int, default=12)
    parser.add_argument("--amplitude", type=float, default=14.0, help="norm of a particle, in noise deviations")
    parser.add_argument("--float16", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--folder", help="where the tomogram and the search's volumes lie; default: temporary")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=chosen.folder) as name:
        folder = Path(name)
        plant(folder / "tomogram.mrc", tuple(chosen.shape), chosen.angular_step, chosen.particles, chosen.amplitude,
              chosen.float16)  # fmt: skip
        write_mrc(folder / "map.mrc", blob_volume(phantom(RADIUS, elongation=1.4), 32), VOXEL)
        words = ["pick", "--tomograms", "tomogram.mrc", "--map", "map.mrc", "--lowpass", str(2 * VOXEL)]
        words += ["--diameter", str(25 * VOXEL), "--angular-step", str(chosen.angular_step), "--contrast", "white"]
        words += ["--out", "out", "--threads", str(chosen.threads), "--quiet"]
        start = time.perf_counter()
        process = subprocess.Popen([sys.executable, "-c", RUN, *words], cwd=folder)
        anonymous = resident = 0.0
        while process.poll() is None:
            now = memory(process.pid)
            anonymous, resident = max(anonymous, now[0]), max(resident, now[1])
            time.sleep(0.5)
        seconds = time.perf_counter() - start
        if process.returncode:
            raise SystemExit(f"pickbias ended with {process.returncode}")
        results = json.loads((folder / "out" / "summary.json").read_text())["results"]
        with np.load(folder / "tomogram.npz") as saved:
            places, poses = saved["places"], saved["poses"]
        table = starfile.read(folder / "out" / "per_tomogram" / "tomogram_picks.star")
        apart, nearest = cKDTree(table[["rlnCoordinateZ", "rlnCoordinateY", "rlnCoordinateX"]]).query(places)
        turns = matrices_from_euler(table[["rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"]].to_numpy()[nearest])
        off = angular_distance_deg(turns, poses)
        facts = {
            "shape": list(chosen.shape),
            "dtype": "float16" if chosen.float16 else "float32",
            "orientations": results["orientations"],
            "working_voxel": results["working_pixel_size"],
            "seconds": round(seconds, 1),
            "allocated_gb": round(anonymous, 2),
            "resident_gb": round(resident, 2),
            "picks": results["picks"],
            "planted": len(places),
            "found_within_1_voxel": int((apart <= 1.0).sum()),
            "largest_distance_voxels": round(float(apart.max()), 2),
            "right_orientation": int((off < 1).sum()),
        }
        print(json.dumps(facts), flush=True)


if __name__ == "__main__":
    main()
