"""Time and memory of soft modes by box: the solver, plain Lanczos with transforms, and full matrices.

    python benchmarks/softmodes.py --box 32 --views 1024                     # couplings as a matrix where they fit
    python benchmarks/softmodes.py --box 32 --views 1024 --transforms        # never
    python benchmarks/softmodes.py --box 18 --views 256 --solver lanczos --transforms --iterations 32
    python benchmarks/softmodes.py --box 18 --views 256 --solver dense

Prints one Markdown row: box, views, solver, set-up, one product with a block of 8, six modes in all (seconds by the
clock), the softest eigenvalue, the largest residual, peak memory. Each case runs in a process of its own, since memory
is a peak. The molecule is the house's phantom, views are uniform, shifts are unknown. ``lanczos`` is the paper's way:
plain, re-orthogonalised, products by NUFFT alone (``--transforms``); the paper used 64 iterations at its box 20 and 32
at 31. ``dense`` is scipy's eigh of full matrices, for boxes up to about 18.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from napari_pickbias.imaging.phantoms import blob_volume, phantom
from napari_pickbias.imaging.rotations import parse_views, random_rotations
from napari_pickbias.imaging.volumes import soft_ball
from napari_pickbias.runs.summary import peak_memory_mb
from napari_pickbias.softmodes.hessian import Hessian, rigid_generators
from napari_pickbias.softmodes.lanczos import lanczos_softest
from napari_pickbias.softmodes.solver import dense_softest, softest
from napari_pickbias.softmodes.views import make_views


def main() -> None:
    """Run one case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--box", type=int, default=32)
    parser.add_argument("--views", type=int, default=1024)
    parser.add_argument("--kind", default="uniform", help="uniform, polar:DEG or equatorial:DEG")
    parser.add_argument("--solver", choices=("lobpcg", "lanczos", "dense"), default="lobpcg")
    parser.add_argument("--iterations", type=int, default=60)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--transforms", action="store_true", help="keep no matrix of couplings")
    chosen = parser.parse_args()
    rng = np.random.default_rng(0)
    support = soft_ball(chosen.box, chosen.box / 2 - 1) >= 0.5
    volume = blob_volume(phantom(0.29 * chosen.box), chosen.box) * support
    views = make_views(random_rotations(chosen.views, rng, parse_views(chosen.kind)), chosen.box)
    start = time.perf_counter()
    dense = False if chosen.transforms else None
    hessian = Hessian(volume, views, support, images=chosen.views, dense=dense, threads=chosen.threads)
    setup = time.perf_counter()
    hessian(rng.standard_normal((int(support.sum()), 8)))
    product = time.perf_counter()
    rigid = rigid_generators(volume, support)
    if chosen.solver == "lanczos":
        found = lanczos_softest(hessian, 6, rigid, rng, iterations=chosen.iterations)
    elif chosen.solver == "dense":
        found = dense_softest(hessian, 6, rigid)
    else:
        found = softest(hessian, 6, rigid, rng, iterations=chosen.iterations)
    end = time.perf_counter()
    head = (
        "box",
        "views",
        "solver",
        "set-up s",
        "product of 8 s",
        "solver s",
        "softest",
        "largest residual",
        "peak MB",
    )
    print("| " + " | ".join(head) + " |")
    print("|" + "---|" * len(head))
    name = f"{chosen.solver}{', transforms' if chosen.transforms else ''}, {chosen.iterations} iterations"
    print(
        f"| {chosen.box} | {chosen.views} {chosen.kind} | {name} | {setup - start:.1f} | {product - setup:.2f} | "
        f"{end - product:.1f} | {found.eigenvalues[0]:.5f} | {found.residuals.max():.1e} | {peak_memory_mb():.0f} |"
    )


if __name__ == "__main__":
    main()
