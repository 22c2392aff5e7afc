"""Speed and memory of outlier removal, beside scikit-learn's DBSCAN and the published figures.

    python benchmarks/outliers.py            # some minutes on two cores that do nothing else
    python benchmarks/outliers.py --quick    # 33-px boxes only, fewer images and runs
    python benchmarks/outliers.py --data DATA    # also stacks of real maps (DATA: the folder of test data)

Prints Markdown. The images are made here: a Gaussian blob near the middle of the box plus white noise. Speeds are the
best of several runs and hold from images in memory to verdicts; reading, phase flipping and cropping come on top. The
first speed is by the clock: on a machine that does other work as well it is a lower bound. The second is by the
processor time of all threads together, which other work disturbs less. Needs the ``test`` extra.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import scipy
import sklearn
from numpy.typing import NDArray
from outlier_cases import cases, make_case
from threadpoolctl import threadpool_limits

from napari_pickbias.outliers.calibrated import fit_detector
from napari_pickbias.outliers.reference import ReferenceDetector
from napari_pickbias.outliers.verdicts import Detector

PLAIN_VERSION = Path(__file__).resolve().parents[1] / "tests" / "outliers" / "test_reference.py"
CHUNK = 2048
SIZES = {33: (9.0, 5.0), 55: (15.0, 8.0)}
"""Box: the particle's radius (for the calibrated detector) and the published rule's r, px."""

STACKS = ("70S 1/20 white 33", "5295 P1.4 amp/index 33", "70S 1/20 white 55")
"""An ordinary stack, the one with most factors, and a larger box."""

PUBLISHED = [
    ("published program, one thread of a shared 2-core AMD EPYC", 33, "982"),
    ("published program, one thread of a shared 2-core AMD EPYC", 55, "722 to 735"),
    ("the paper, EMPIAR-10028, half the cores of a node with a 3.1 GHz Xeon Gold 6254", 55, "182"),
    ("the paper, EMPIAR-10017, the same", 55, "817"),
]


def make_images(count: int, box: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Blobs of width R/2 with small offsets in white noise of standard deviation 1."""
    y, x = np.mgrid[:box, :box].astype(np.float32) - box // 2
    radius = np.float32(SIZES[box][0])
    offset = rng.normal(scale=box / 16, size=(2, count, 1, 1)).astype(np.float32)
    images = np.exp(-((y - offset[0]) ** 2 + (x - offset[1]) ** 2) / (2 * (radius / 2) ** 2))
    images += rng.standard_normal(images.shape, dtype=np.float32)
    return images


def best_rates(work: Callable[[], object], images: int, repeats: int) -> tuple[str, str]:
    """Images per second by the clock and by processor time, each of its best run; one run before does not count."""
    work()
    wall, processor = [], []
    for _ in range(repeats):
        start = time.perf_counter(), time.process_time()
        work()
        wall.append(time.perf_counter() - start[0])
        processor.append(time.process_time() - start[1])
    return f"{images / min(wall):,.0f}", f"{images / min(processor):,.0f}"


def threaded(detector: Detector, images: NDArray[np.float32], threads: int) -> None:
    """Judge a stack as the job does: chunks in threads, one BLAS thread each."""
    starts = range(0, len(images), CHUNK)
    with threadpool_limits(1), ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda start: detector.evaluate(images[start : start + CHUNK])["keep"].sum(), starts))


def plain_rule() -> Callable[..., object]:
    """Return the plain version of the published rule (NumPy and scikit-learn, one image at a time) from the tests."""
    spec = importlib.util.spec_from_file_location("plain_rule", PLAIN_VERSION)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    rule: Callable[..., object] = module.plain_verdict
    return rule


def speed_rows(box: int, quick: bool) -> Iterator[tuple[str, int, str, str]]:
    """Yield what, box, images per second by the clock and by processor time."""
    rng = np.random.default_rng(box)
    radius, strictness = SIZES[box]
    images = make_images(2 * CHUNK if quick else 8 * CHUNK, box, rng)
    repeats = 5 if quick else 15
    for dtype, threads in ((np.float32, 1), (np.float64, 1), (np.float32, 2)):
        rule = ReferenceDetector(box, strictness, stack_mean=float(images.mean()), dtype=dtype)
        rates = best_rates(partial(threaded, rule, images, threads), len(images), repeats)
        yield f"`reference`, {np.dtype(dtype).name}, {threads} thread{'s'[: threads - 1]}", box, *rates
    calibrated = fit_detector(images[:500], radius, rng=rng)
    part = images[: 2 * CHUNK]
    rates = best_rates(partial(threaded, calibrated, part, 2), len(part), 3 if quick else 5)
    yield "`calibrated`, 2 threads", box, *rates
    plain, few = plain_rule(), images[: 100 if quick else 400]
    with threadpool_limits(1):
        rates = best_rates(lambda: [plain(image, strictness, mean=0.0) for image in few], len(few), 5)
    yield "the published rule by NumPy and scikit-learn's DBSCAN, image by image, 1 thread", box, *rates


def stack_rows(data: Path) -> Iterator[tuple[str, int, int, str, str]]:
    """Yield stack, box, filter columns, images per second by the clock and by processor time, with two threads.

    The detector takes more radial factors where the signal is strong, so that its cost depends on the stack.
    """
    for spec in cases():
        if spec.name in STACKS:
            stack, _, radius = make_case(spec, data, 0)
            detector = fit_detector(stack, radius, rng=np.random.default_rng(0))
            images = np.concatenate([stack] * 5)[: 4 * CHUNK]
            rates = best_rates(partial(threaded, detector, images, 2), len(images), 5)
            yield spec.name, spec.size, detector.columns, *rates


def fit_row(box: int) -> tuple[str, int, str]:
    """Return what, box, seconds."""
    rng = np.random.default_rng(box)
    images = make_images(2000, box, rng)
    start = time.perf_counter()
    fit_detector(images, SIZES[box][0], rng=rng)
    return "`calibrated`: learning from 2000 images", box, f"{time.perf_counter() - start:.1f}"


def peak_memory_mib() -> float:
    """Peak resident memory of this process; on Linux not that of the process that started it."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024**2 if sys.platform == "darwin" else 1024)


def stream(method: str, chunks: int, box: int) -> None:
    """Judge ``chunks`` chunks, made and dropped one after the other; print the peak memory in MiB (child process)."""
    rng = np.random.default_rng(0)
    radius, strictness = SIZES[box]
    detector: Detector
    if method == "reference":
        detector = ReferenceDetector(box, strictness)
    else:
        detector = fit_detector(make_images(500, box, rng), radius, rng=rng)
    kept = 0
    for _ in range(chunks):
        images = make_images(CHUNK, box, rng)
        with threadpool_limits(1):
            kept += int(detector.evaluate(images)["keep"].sum())
    print(json.dumps({"peak": peak_memory_mib(), "kept": kept}))


def memory_rows(box: int, quick: bool) -> Iterator[tuple[str, int, int, float]]:
    """Yield method, box, images, peak resident memory in MiB; each in a process of its own."""
    few = 2 if quick else 6
    for method in ("reference", "calibrated"):
        for chunks in (few, 4 * few):
            command = [sys.executable, __file__, "--stream", method, str(chunks), str(box)]
            answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            yield method, box, chunks * CHUNK, json.loads(answer)["peak"]


def print_table(heads: list[str], rows: Iterator[tuple[object, ...]] | list[tuple[object, ...]]) -> None:
    """Print a Markdown table, a row as soon as it is known."""
    print("| " + " | ".join(heads) + " |")
    print("|" + "---|" * len(heads), flush=True)
    for row in rows:
        print("| " + " | ".join(str(cell) for cell in row) + " |", flush=True)
    print()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="33-px boxes only, fewer images and runs")
    parser.add_argument("--stream", nargs=3, metavar=("METHOD", "CHUNKS", "BOX"), help=argparse.SUPPRESS)
    parser.add_argument("--data", type=Path, help="folder of test data")
    arguments = parser.parse_args()
    if arguments.stream:
        method, chunks, box = arguments.stream
        stream(method, int(chunks), int(box))
        return
    sizes = [33] if arguments.quick else list(SIZES)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    print(f"{platform.machine()}, {os.cpu_count()} cores, load {load:.1f} at the start")
    versions = f"NumPy {np.__version__}, SciPy {scipy.__version__}, scikit-learn {sklearn.__version__}"
    print(f"Python {platform.python_version()}, {versions}\n")
    speeds = (row for box in sizes for row in speed_rows(box, arguments.quick))
    print_table(["images to verdicts", "box (px)", "images/s", "images per CPU second"], speeds)
    if arguments.data:
        heads = ["`calibrated`, 2 threads, a stack of outliers_table.py", "box (px)", "filter columns"]
        print_table([*heads, "images/s", "images per CPU second"], stack_rows(arguments.data))
    print_table(["once per stack", "box (px)", "seconds"], (fit_row(box) for box in sizes))
    print_table(["published figures, not measured here", "box (px)", "images/s"], [*PUBLISHED])
    memory = (
        (method, box, f"{count:,}", f"{peak:,.0f}")
        for box in sizes
        for method, box, count, peak in memory_rows(box, arguments.quick)
    )
    print_table(["streamed", "box (px)", "images", "peak memory (MiB)"], memory)


if __name__ == "__main__":
    main()
