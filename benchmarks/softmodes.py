"""Time and memory of soft modes by box: couplings kept as a matrix, and by transforms alone.

    python benchmarks/softmodes.py --box 32 --views 1024            # one case
    python benchmarks/softmodes.py --box 32 --views 1024 --transforms

Prints one Markdown row: box, views, set-up, one product with a block of 8, six modes in all (seconds by the clock), the
softest eigenvalue, peak memory. Each case runs in a process of its own, since memory is a peak. The molecule is the
house's phantom, views are uniform, shifts are unknown.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from napari_pickbias.imaging.phantoms import blob_volume, phantom
from napari_pickbias.imaging.rotations import random_rotations
from napari_pickbias.imaging.volumes import soft_ball
from napari_pickbias.runs.summary import peak_memory_mb
from napari_pickbias.softmodes.hessian import Hessian, rigid_generators
from napari_pickbias.softmodes.solver import softest
from napari_pickbias.softmodes.views import make_views


def main() -> None:
    """Run one case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--box", type=int, default=32)
    parser.add_argument("--views", type=int, default=1024)
    parser.add_argument("--transforms", action="store_true", help="keep no matrix of couplings")
    chosen = parser.parse_args()
    rng = np.random.default_rng(0)
    support = soft_ball(chosen.box, chosen.box / 2 - 1) >= 0.5
    volume = blob_volume(phantom(0.29 * chosen.box), chosen.box) * support
    views = make_views(random_rotations(chosen.views, rng), chosen.box)
    start = time.perf_counter()
    dense = False if chosen.transforms else None
    hessian = Hessian(volume, views, support, images=chosen.views, dense=dense)
    setup = time.perf_counter()
    hessian(rng.standard_normal((int(support.sum()), 8)))
    product = time.perf_counter()
    found = softest(hessian, 6, rigid_generators(volume, support), rng)
    end = time.perf_counter()
    print("| box | views | set-up s | product of 8 s | solver s | softest | largest residual | peak MB |")
    print("|---|---|---|---|---|---|---|---|")
    print(
        f"| {chosen.box} | {chosen.views} | {setup - start:.1f} | {product - setup:.2f} | {end - product:.1f} | "
        f"{found.eigenvalues[0]:.4f} | {found.residuals.max():.1e} | {peak_memory_mb():.0f} |"
    )


if __name__ == "__main__":
    main()
