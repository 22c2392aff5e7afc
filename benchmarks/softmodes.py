"""Time and memory of soft modes by box: the solver, plain Lanczos with transforms, and full matrices.

    python benchmarks/softmodes.py --box 32 --views 1024                     # couplings as a matrix where they fit
    python benchmarks/softmodes.py --box 32 --views 1024 --transforms        # never
    python benchmarks/softmodes.py --box 18 --views 256 --solver lanczos --transforms --iterations 32
    python benchmarks/softmodes.py --box 18 --views 256 --solver dense
    python benchmarks/softmodes.py --box 24 --views 1024 --particles 1000000 # the whole run, from a STAR file

Prints one Markdown row: box, views, solver, set-up, one product with a block of 8, six modes in all (seconds by the
clock), the softest eigenvalue, the largest residual, peak memory. Each case runs in a process of its own, since memory
is a peak. The molecule is the house's phantom, views are uniform, shifts are unknown. ``lanczos`` is the paper's way:
plain, re-orthogonalised, products by NUFFT alone (``--transforms``); the paper used 64 iterations at its box 20 and 32
at 31. ``dense`` is scipy's eigh of full matrices, for boxes up to about 18.

With ``--particles`` it writes that many random poses and defoci as a STAR file and runs ``pickbias softmodes`` on it,
``--views`` weighted views at most: seconds to read the file alone, seconds to solve (reading, binning and solving; no
report, no particles written), the whole run, CPU seconds, and peak memory.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

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
    parser.add_argument("--particles", type=int, help="run the job on so many particles")
    parser.add_argument("--transforms", action="store_true", help="keep no matrix of couplings")
    chosen = parser.parse_args()
    if chosen.particles:
        many_particles(chosen)
        return
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
    print_head("box", "views", "solver", "set-up s", "product of 8 s", "solver s", "CPU s", "softest",
               "largest residual", "peak MB")  # fmt: skip
    name = f"{chosen.solver}{', transforms' if chosen.transforms else ''}, {chosen.iterations} iterations"
    print(
        f"| {chosen.box} | {chosen.views} {chosen.kind} | {name} | {setup - start:.1f} | {product - setup:.2f} | "
        f"{end - product:.1f} | {cpu_seconds():.0f} | {found.eigenvalues[0]:.7f} | {found.residuals.max():.1e} | "
        f"{peak_memory_mb():.0f} |"
    )


def many_particles(chosen: argparse.Namespace) -> None:
    """Run the job on a STAR file of many particles."""
    from napari_pickbias.imaging.rotations import random_euler
    from napari_pickbias.jobs.softmodes_parameters import SoftmodesParameters
    from napari_pickbias.records import open_particles, write_mrc
    from napari_pickbias.runs.softmodes import run_softmodes
    from napari_pickbias.runs.softmodes_inputs import read_poses

    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_mrc(folder / "map.mrc", blob_volume(phantom(0.29 * chosen.box), chosen.box), 4.0)
        angles = random_euler(chosen.particles, rng, parse_views(chosen.kind))
        defocus = rng.uniform(8000, 20000, chosen.particles)
        optics = ["OpticsGroup", "OpticsGroupName", "ImagePixelSize", "ImageSize", "Voltage", "SphericalAberration"]
        labels = ["ImageName", "OpticsGroup", "DefocusU", "DefocusV", "DefocusAngle"]
        labels += ["AngleRot", "AngleTilt", "AnglePsi"]
        with (folder / "particles.star").open("w") as stream:
            columns = "".join(f"_rln{label}\n" for label in [*optics, "AmplitudeContrast"])
            stream.write(f"\ndata_optics\n\nloop_\n{columns}1 one 4.0 {chosen.box} 300.0 2.7 0.1\n")
            columns = "".join(f"_rln{label}\n" for label in labels)
            stream.write(f"\ndata_particles\n\nloop_\n{columns}")
            for row, (value, (rot, tilt, psi)) in enumerate(zip(defocus, angles, strict=True), 1):
                stream.write(f"{row}@s.mrcs 1 {value:.1f} {value:.1f} 0 {rot:.3f} {tilt:.3f} {psi:.3f}\n")
        del angles, defocus
        source = open_particles(folder / "particles.star")
        start, cpu = time.perf_counter(), cpu_seconds()
        read_poses(source, None)
        read = time.perf_counter()
        parameters = SoftmodesParameters(box=chosen.box, most_views=chosen.views, noise="13")
        job = run_softmodes(folder / "map.mrc", source, parameters, folder / "out", threads=chosen.threads)
        while True:
            try:
                next(job)
            except StopIteration as end:
                run = end.value
                break
        seconds = run.summary["seconds"]
        print_head("particles", "views", "box", "read s", "solve s", "whole run s", "CPU s", "softest", "binning error",
                   "peak MB")  # fmt: skip
        error = run.result.binning_error
        print(
            f"| {chosen.particles} | {len(run.result.rotations)} {chosen.kind} | {chosen.box} | {read - start:.1f} | "
            f"{seconds['solve']:.1f} | {seconds['total']:.1f} | {cpu_seconds() - cpu:.0f} | "
            f"{run.result.found.eigenvalues[0]:.5f} | {'' if error is None else f'{error.max():.1%}'} | "
            f"{peak_memory_mb():.0f} |"
        )


def cpu_seconds() -> float:
    """Return the processor time used so far, all threads."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def print_head(*names: str) -> None:
    """Print the head of a Markdown table."""
    print("| " + " | ".join(names) + " |")
    print("|" + "---|" * len(names))


if __name__ == "__main__":
    main()
