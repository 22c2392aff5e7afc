"""Time and memory of reading three columns and of writing a subset of a large particle STAR file, beside peers.

    python benchmarks/star_subset.py                 # a million rows, 415 MB
    python benchmarks/star_subset.py --rows 100000 --repeats 3

Each figure is one process, start included: the least wall time and the largest peak memory (resident set) of the
repeats. All tools keep the same half of the rows. ``starfile`` has no way to read three columns only, so it reads all;
``relion_star_handler`` (where installed) selects rows by the value of one column and cannot read for others.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import numpy as np

LABELS = [
    "CoordinateX", "CoordinateY", "AutopickFigureOfMerit", "ClassNumber", "AnglePsi", "ImageName", "MicrographName",
    "OpticsGroup", "CtfMaxResolution", "CtfFigureOfMerit", "DefocusU", "DefocusV", "DefocusAngle", "CtfBfactor",
    "CtfScalefactor", "PhaseShift", "AngleRot", "AngleTilt", "OriginXAngst", "OriginYAngst", "GroupNumber",
    "NormCorrection", "LogLikeliContribution", "MaxValueProbDistribution", "NrOfSignificantSamples",
]  # fmt: skip
PER_MICROGRAPH = 300
LIMIT = 2000.0  # half of the rows have a larger rlnCoordinateX


def make_star(path: Path, rows: int) -> None:
    """Write a particle set as RELION 3.1 formats it: an optics group and 25 columns."""
    rng = np.random.default_rng(1)
    optics = ("OpticsGroup", "OpticsGroupName", "ImagePixelSize", "Voltage", "SphericalAberration", "AmplitudeContrast")
    head = "".join(f"_rln{label} #{k} \n" for k, label in enumerate(optics, 1))
    labels = "".join(f"_rln{label} #{k} \n" for k, label in enumerate(LABELS, 1))
    with path.open("w") as file:
        file.write(f"\n# version 30001\n\ndata_optics\n\nloop_ \n{head}")
        file.write("           1 opticsGroup1     1.400000   300.000000     2.700000     0.100000 \n \n")
        file.write(f"\n# version 30001\n\ndata_particles\n\nloop_ \n{labels}")
        for k in range(rows):
            x, y, *v = (rng.random(19) * 4000).tolist()
            micrograph = f"20170629_{k // PER_MICROGRAPH:05d}_frameImage"
            numbers = "".join(f" {value:12.6f}" for value in v[:12])
            file.write(
                f"{x:12.6f} {y:12.6f} {v[12] / 4000:12.6f} {1:12d} {v[13] / 11:12.6f} "
                f"{k % PER_MICROGRAPH + 1:06d}@Extract/job009/Movies/{micrograph}.mrcs "
                f"MotionCorr/job002/Movies/{micrograph}.mrc {1:12d}{numbers} {1:12d} {v[14] / 4000:12.6f} "
                f"{v[15] * 100:12.6e} {v[16] / 4000:12.6f} {7:12d} \n"
            )
        file.write(" \n")


def adapter_columns(source: Path, target: Path) -> None:
    from pickbias_relion.star import open_star
    from pickbias_relion.star_columns import read_columns

    del target
    star = open_star(source)
    read_columns(star, star.rows(), floats=["rlnCoordinateX", "rlnDefocusU"], images=["rlnImageName"])


def _adapter_subset(source: Path, target: Path, with_column: bool) -> None:
    from pickbias_relion import write_subset

    keep = np.load(source.with_suffix(".npy"))
    own = {"score": np.random.default_rng(0).normal(size=len(keep)).astype(np.float32)}
    write_subset(source, keep, target, own if with_column else None)


def adapter_subset(source: Path, target: Path) -> None:
    _adapter_subset(source, target, with_column=False)


def adapter_subset_with_score(source: Path, target: Path) -> None:
    _adapter_subset(source, target, with_column=True)


def starfile_columns(source: Path, target: Path) -> None:
    import starfile

    del target
    starfile.read(source)["particles"][["rlnCoordinateX", "rlnDefocusU", "rlnImageName"]]


def starfile_subset(source: Path, target: Path) -> None:
    import starfile

    tables = starfile.read(source)
    tables["particles"] = tables["particles"][np.load(source.with_suffix(".npy"))]
    starfile.write(tables, target)


TASKS: dict[str, Callable[[Path, Path], None]] = {
    "three columns | pickbias_relion": adapter_columns,
    "three columns | starfile": starfile_columns,
    "subset | pickbias_relion": adapter_subset,
    "subset, own column | pickbias_relion": adapter_subset_with_score,
    "subset | starfile": starfile_subset,
}
RELION = "subset | relion_star_handler"


def measured(command: list[str], folder: Path) -> tuple[float, float, float]:
    """Return wall time (s), processor time (s) and peak memory (MB) of a process; raises where it fails."""
    start = perf_counter()
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, cwd=folder, stdout=said, stderr=said)
        _, status, usage = os.wait4(process.pid, 0)
        wall = perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            said.seek(0)
            raise RuntimeError(said.read().decode(errors="replace")[-2000:])
    unit = 1024**2 if sys.platform == "darwin" else 1024  # bytes there, kilobytes elsewhere
    return wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / unit


def n_rows(path: Path) -> int:
    """Return the particles of a STAR file by counting lines, without any of the tools."""
    with path.open("rb") as file:
        return sum(b"@Extract/" in line for line in file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--task", choices=list(TASKS), help=argparse.SUPPRESS)
    parser.add_argument("--source", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--target", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.task:
        TASKS[options.task](options.source, options.target)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source, target = folder / "particles.star", folder / "subset.star"
        make_star(source, options.rows)
        with source.open("rb") as file:
            x = np.array([float(line[:12]) for line in file if b"@Extract/" in line])
        keep = x >= LIMIT
        np.save(source.with_suffix(".npy"), keep)
        print(f"{options.rows} rows, {source.stat().st_size / 1e6:.0f} MB, {keep.sum()} kept")
        files = ["--source", str(source), "--target", str(target)]
        commands = {task: [sys.executable, str(Path(__file__).resolve()), "--task", task, *files] for task in TASKS}
        if handler := shutil.which("relion_star_handler"):
            commands[RELION] = [handler, "--i", source.name, "--o", target.name]
            commands[RELION] += ["--select", "rlnCoordinateX", "--minval", str(LIMIT)]
        print(f"{'task':<14}{'tool':<42}{'wall s':>8}{'cpu s':>8}{'peak MB':>9}")
        for task, command in commands.items():
            figures = []
            for _ in range(options.repeats):
                target.unlink(missing_ok=True)
                figures.append(measured(command, folder))
                if "subset" in task and n_rows(target) != keep.sum():
                    raise RuntimeError(f"{task}: kept {n_rows(target)} rows instead of {keep.sum()}")
            what, tool = task.split(" | ")
            what, _, detail = what.partition(", ")
            tool += f" ({detail})" if detail else ""
            wall, cpu = (min(f[k] for f in figures) for k in (0, 1))
            print(f"{what:<14}{tool:<42}{wall:8.2f}{cpu:8.2f}{max(f[2] for f in figures):9.0f}", flush=True)


if __name__ == "__main__":
    main()
