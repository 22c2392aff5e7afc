"""Time of the score map per template, beside scikit-image, OpenCV and RELION.

    python benchmarks/matching.py                      # some minutes on two cores that do nothing else
    python benchmarks/matching.py --side 2048 --quick  # a first look
    python benchmarks/matching.py --relion             # with relion_autopick, where it is installed

Prints Markdown. The micrograph is white noise in float32, the templates are noise as well: nothing here depends on
what the pixels hold. The time of a template is the slope between two numbers of templates, so that what is spent once
a micrograph (its own deviation under the mask) shows as a column of its own. Figures are the best of several runs, by
the clock and by the processor time of all threads; on a machine that does other work the clock is an upper bound.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import resource
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import mrcfile
import numpy as np
import scipy
from numpy.typing import NDArray
from skimage.feature import match_template

from napari_pickbias.matching import TemplateBank, band_limited, score_map
from napari_pickbias.matching.engine import EngineName

RELION = (
    "relion_autopick --i micrographs.star --odir out/ --pickname autopick --ref templates.mrcs --ang {angle} "
    "--angpix 1 --angpix_ref 1 --particle_diameter {diameter} --threshold 0 --min_distance 100 --max_stddev_noise -1 "
    "--shrink {shrink} --lowpass {lowpass}"
)

MICROGRAPHS = """
data_optics

loop_
_rlnOpticsGroup #1
_rlnOpticsGroupName #2
_rlnMicrographPixelSize #3
_rlnVoltage #4
_rlnSphericalAberration #5
_rlnAmplitudeContrast #6
1 noise 1.0 300 2.7 0.1

data_micrographs

loop_
_rlnMicrographName #1
_rlnOpticsGroup #2
noise.mrc 1
"""


def measure(work: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Return the least clock time and the least processor time of some runs, seconds."""
    clock, processor = [], []
    for _ in range(repeats):
        began, used = time.perf_counter(), time.process_time()
        work()
        clock.append(time.perf_counter() - began)
        processor.append(time.process_time() - used)
    return min(clock), min(processor)


def ours(
    image: NDArray[np.float32], bank: TemplateBank, threads: int, engine: EngineName, repeats: int
) -> tuple[float, float, float]:
    """Return clock and processor milliseconds a template, and clock milliseconds a micrograph."""
    few = max(len(bank) // 4, 1)
    part = bank.take(np.arange(few))
    score_map(image, part.take(np.arange(1)), threads, engine=engine)
    short = measure(lambda: score_map(image, part, threads, engine=engine), repeats)
    full = measure(lambda: score_map(image, bank, threads, engine=engine), repeats)
    slope = [1e3 * (b - a) / (len(bank) - few) for a, b in zip(short, full, strict=True)]
    return slope[0], slope[1], max(1e3 * short[0] - few * slope[0], 0.0)


def relion(
    image: NDArray[np.float32], templates: NDArray[np.float32], angle: float, shrink: float, lowpass: float
) -> tuple[float, float]:
    """Return clock and processor milliseconds an orientation of one run of relion_autopick on one thread."""
    with tempfile.TemporaryDirectory() as folder:
        for name, data in (("noise.mrc", image), ("templates.mrcs", templates)):
            with mrcfile.new(Path(folder, name), overwrite=True) as file:
                file.set_data(data)
                file.voxel_size = 1.0
        Path(folder, "micrographs.star").write_text(MICROGRAPHS)
        command = RELION.format(angle=angle, diameter=templates.shape[-1] * 0.9, shrink=shrink, lowpass=lowpass)
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        began = time.perf_counter()
        Path(folder, "out").mkdir()
        ended = subprocess.run(command.split(), cwd=folder, check=False, capture_output=True)
        # 3.1.3 aborts at its very end, in the summary, where nothing was picked: all templates were matched by then.
        if ended.returncode not in (0, -signal.SIGABRT):
            raise SystemExit(ended.stderr.decode(errors="replace"))
        clock = time.perf_counter() - began
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    orientations = len(templates) * max(round(360 / angle), 1)
    processor = after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime
    return 1e3 * clock / orientations, 1e3 * processor / orientations


def row(*cells: object) -> None:
    """Print a line of the table."""
    print(
        "| " + " | ".join(f"{cell:.3g}" if isinstance(cell, float) else str(cell) for cell in cells) + " |", flush=True
    )


def main() -> None:
    """Run all cases and print the table."""
    parser = argparse.ArgumentParser(description="Time of the score map per template.")
    parser.add_argument("--side", type=int, default=4096, help="side of the micrograph, px")
    parser.add_argument("--templates", type=int, default=32, help="templates in a run")
    parser.add_argument("--quick", action="store_true", help="one run of each, no other program")
    parser.add_argument("--relion", action="store_true", help="run relion_autopick too, where it is installed")
    given = parser.parse_args()
    repeats = 1 if given.quick else 3
    rng = np.random.default_rng(0)
    image = rng.standard_normal((given.side, given.side), dtype=np.float32)
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, ")
    print(f"scipy {scipy.__version__}, {given.side} px, load {os.getloadavg()[0]:.1f} (0 is a quiet machine)\n")
    row("case", "threads", "ms a template (clock)", "ms a template (processor)", "ms a micrograph")
    row(*["---"] * 5)
    engines: list[EngineName] = ["scipy", "ducc0"] if importlib.util.find_spec("ducc0") else ["scipy"]
    for box in (64, 128):
        bank = TemplateBank.from_images(rng.normal(size=(given.templates, box, box)))
        for engine in engines:
            for threads in (1, 2):
                row(f"score_map, {engine}, box {box}", threads, *ours(image, bank, threads, engine, repeats))
        if box == 128:
            many = bank.take(np.tile(np.arange(len(bank)), 8))
            for threads in (1, 2):
                small = band_limited(image, many, 1.0, 20.0, threads=threads)
                figures = ours(small.micrograph, small.bank, threads, engines[-1], repeats)
                side = small.micrograph.shape[0]
                row(f"score_map, {engines[-1]}, box 128 at 20 Å, 1 Å/px ({side} px)", threads, *figures)
        if not given.quick:
            peers(image, bank.images[:1], row)
    if given.relion and shutil.which("relion_autopick"):
        # faint: RELION picks noise with faint references only
        templates = (0.1 * rng.normal(size=(2, 64, 64))).astype(np.float32)
        row("relion_autopick, full size", 1, *relion(image, templates, 30, 1, -1), "with them")
        row("relion_autopick, its default 20 Å, 1 Å/px", 1, *relion(image, templates, 5, 0, 20), "with them")
    elif given.relion:
        print("\nrelion_autopick is not on the PATH.")
    print(f"\nLoad at the end {os.getloadavg()[0]:.1f}.")


def peers(image: NDArray[np.float32], template: NDArray[np.float32], line: Callable[..., None]) -> None:
    """Time what else there is, one template."""
    box = template.shape[-1]
    line(
        f"scikit-image match_template, box {box}",
        1,
        *[1e3 * s for s in measure(lambda: match_template(image, template[0]), 2)],
        "",
    )
    if importlib.util.find_spec("cv2") is None:
        line(f"OpenCV, box {box}", "", "not installed", "", "")
        return
    import cv2

    mask = np.ones((box, box), np.float32)

    def masked() -> object:
        return cv2.matchTemplate(image, template[0], cv2.TM_CCOEFF_NORMED, mask=mask)

    line(f"OpenCV masked, normalised, box {box}", 1, *[1e3 * s for s in measure(masked, 2)], "")


if __name__ == "__main__":
    main()
