"""Time of the score map per template, beside scikit-image, OpenCV and RELION; of peaks; of tomograms.

    python benchmarks/matching.py                      # some minutes on two cores that do nothing else
    python benchmarks/matching.py --side 2048 --quick  # a first look
    python benchmarks/matching.py --relion             # with relion_autopick, where it is installed

Prints Markdown. The micrograph is white noise in float32, the templates are noise as well: nothing here depends on
what the pixels hold. The time of a template is the slope between two numbers of templates, so that what is spent once
a micrograph (its spectra, its own deviation under the mask) shows as a column of its own. Figures are the best of
several runs, by the clock and by the processor time of all threads. On a machine that does other work both are upper
bounds: memory, caches and clock rate are shared. The last column therefore gives processor time in units of a forward
and inverse real transform of 512 x 512 pixels by the same SciPy, measured right before and after. Few images are
transformed at once, so that their results lie in memory that was used before: results of tens of megabytes are mapped
anew for each call, and their page faults cost as much again as the transform.
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
import scipy.fft
import scipy.ndimage
from numpy.typing import NDArray
from skimage.feature import match_template

from napari_pickbias.imaging.fourier import band_filter
from napari_pickbias.imaging.phantoms import blob_volume, phantom
from napari_pickbias.imaging.projection import fourier_volume, project
from napari_pickbias.imaging.rotations import matrices_from_euler
from napari_pickbias.matching import (
    TemplateBank,
    band_limited,
    find_peaks,
    prepare_bank,
    score_map,
    score_volume,
    volume_bank,
)
from napari_pickbias.matching.basis import score_bound, shared_basis
from napari_pickbias.matching.engine import EngineName
from napari_pickbias.matching.prepared import PreparedBank
from napari_pickbias.matching.tiles import plan_tiles

RELION = (
    "relion_autopick --i micrographs.star --odir out/ --pickname autopick --ref templates.mrcs --ang {angle} "
    "--angpix 1 --angpix_ref 1 --particle_diameter {diameter} --threshold 0.5 --min_distance 100 --max_stddev_noise -1 "
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


def transform_pair() -> float:
    """Return the least processor milliseconds of a forward and inverse transform of 512 x 512 pixels."""
    images = np.random.default_rng(0).standard_normal((4, 4, 512, 512), dtype=np.float32)

    def pair() -> None:
        for part in images:
            scipy.fft.irfft2(scipy.fft.rfft2(part, workers=1), s=(512, 512), workers=1)

    return 1e3 * measure(pair, 4)[1] / images[..., 0, 0].size


def ours(
    image: NDArray[np.generic], bank: TemplateBank, threads: int, engine: EngineName, repeats: int
) -> tuple[object, ...]:
    """Return clock and processor milliseconds a template, processor milliseconds a micrograph, and pairs a template."""
    few = max(len(bank) // 4, 1)
    part = bank.take(np.arange(few))
    score_map(image, part.take(np.arange(1)), threads, engine=engine)
    unit = transform_pair()
    short = measure(lambda: score_map(image, part, threads, engine=engine), repeats)
    full = measure(lambda: score_map(image, bank, threads, engine=engine), repeats)
    unit = min(unit, transform_pair())
    clock, processor = (1e3 * (b - a) / (len(bank) - few) for a, b in zip(short, full, strict=True))
    return clock, processor, max(1e3 * short[1] - few * processor, 0.0), processor / unit


def many_micrographs(image: NDArray[np.float32], bank: PreparedBank, threads: int, repeats: int) -> tuple[object, ...]:
    """Return the same of a micrograph for which the templates' spectra are there already."""
    unit = transform_pair()
    times = measure(lambda: score_map(image, bank, threads), max(repeats, 3))
    unit = min(unit, transform_pair())
    clock, processor = (1e3 * seconds / len(bank.bank) for seconds in times)
    return clock, processor, "with them", processor / unit


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
    texts = (
        str(cell) if not isinstance(cell, float) else f"{cell:.0f}" if cell >= 100 else f"{cell:.3g}" for cell in cells
    )
    print("| " + " | ".join(texts) + " |", flush=True)


def main() -> None:
    """Run all cases and print the tables."""
    parser = argparse.ArgumentParser(description="Time of the score map per template.")
    parser.add_argument("--side", type=int, default=4096, help="side of the micrograph, px")
    parser.add_argument("--templates", type=int, default=32, help="templates in a run")
    parser.add_argument("--quick", action="store_true", help="one run of each, no other program")
    parser.add_argument("--relion", action="store_true", help="run relion_autopick too, where it is installed")
    parser.add_argument("--only", choices=["ours", "basis", "peers", "peaks", "tomogram"], help="one of the tables")
    given = parser.parse_args()
    rng = np.random.default_rng(0)
    image = rng.standard_normal((given.side, given.side), dtype=np.float32)
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, ")
    print(f"scipy {scipy.__version__}, {given.side} px, load {os.getloadavg()[0]:.1f} (0 is a quiet machine), ")
    print(f"transform pair {transform_pair():.2f} ms\n")
    if given.only in (None, "ours", "peers"):
        row("case", "threads", "ms a template (clock)", "(processor)", "ms a micrograph (processor)", "transform pairs")
        row(*["---"] * 6)
    if given.only in (None, "ours"):
        matching(image, given.templates, 1 if given.quick else 4, rng)
    if given.only in (None, "basis"):
        rotations(image, 1 if given.quick else 3)
    if given.only in (None, "peers") and not given.quick:
        peers(image, rng, given.relion)
    if given.only in (None, "peaks"):
        peaks(image)
    if given.only in (None, "tomogram"):
        tomogram(rng)
    print(f"\nLoad at the end {os.getloadavg()[0]:.1f}.")


def matching(image: NDArray[np.float32], count: int, repeats: int, rng: np.random.Generator) -> None:
    """Time this package."""
    engines: list[EngineName] = ["scipy", "ducc0"] if importlib.util.find_spec("ducc0") else ["scipy"]
    for box in (64, 128):
        bank = TemplateBank.from_images(rng.normal(size=(count, box, box)))
        for engine in engines:
            for threads in (1, 2):
                row(f"score_map, {engine}, box {box}", threads, *ours(image, bank, threads, engine, repeats))
    for kind in (np.float16, np.int8):
        wide = np.clip(rng.standard_normal((5760, 4092), dtype=np.float32) * 20, -127, 127).astype(kind)
        few = bank.take(np.arange(min(8, count)))
        row(f"score_map, {engines[-1]}, box 128, 5760 x 4092 {kind.__name__}", 2, *ours(wide, few, 2, engines[-1], 1))
    many = bank.take(np.tile(np.arange(count), 8))
    small = band_limited(image, many, 1.0, 20.0)
    side, name = small.micrograph.shape[0], "box 128 at 20 Å, 1 Å/px"
    ready = prepare_bank(small.bank, (side, small.micrograph.shape[1]))
    for threads in (1, 2):
        figures = ours(small.micrograph, small.bank, threads, engines[-1], repeats)
        row(f"score_map, {engines[-1]}, {name} ({side} px)", threads, *figures)
        figures = many_micrographs(small.micrograph, ready, threads, repeats)
        row(f"score_map, {engines[-1]}, {name}, prepared bank", threads, *figures)


def rotations(image: NDArray[np.float32], repeats: int) -> None:
    """Time 72 rotations of one view of a map, one by one and through a basis, and say how far the scores are apart."""
    print()
    row("72 rotations, low-pass 4 px", "threads", "rank", "s (clock)", "s (processor)", "of direct", "bound", "seen")
    row(*["---"] * 8)
    engines: list[EngineName] = ["scipy", "ducc0"] if importlib.util.find_spec("ducc0") else ["scipy"]
    for box in (64, 128):
        volume = scipy.ndimage.zoom(blob_volume(phantom(10.0, elongation=1.6), 32), box / 32, order=3)
        euler = np.column_stack([np.full((72, 2), (30.0, 50.0)), np.arange(0, 360, 5)])
        band = band_filter((box, box), 1.0, lowpass_angstrom=4.0).astype(np.float32)
        views = project(fourier_volume(volume.astype(np.float32)), matrices_from_euler(euler), ctf=band[None])
        bank = TemplateBank.from_images(views, view=np.zeros(72, np.int32))
        for engine in engines:
            for threads in (1, 2):
                name = f"{engine}, box {box}"
                score_map(image[:1024, :1024], bank, threads, engine=engine)
                plain, _ = score_map(image, bank, threads, engine=engine)
                clock, processor = measure(lambda: score_map(image, bank, threads, engine=engine), repeats)  # noqa: B023
                row(f"{name}, one by one", threads, len(bank), clock, processor, "", "", "")
                for error in (0.05, 0.01, 0.001):
                    basis = shared_basis(bank, error)
                    if not basis.groups:
                        row(f"{name}, error {error:g}", threads, "no gain: one by one", "", "", "", "", "")
                        continue
                    scores, _ = score_map(image, bank, threads, engine=engine, rotation_basis=error)
                    inside = np.isfinite(plain)
                    seen = float(np.abs(scores[inside] - plain[inside]).max())
                    times = measure(
                        lambda: score_map(image, bank, threads, engine=engine, rotation_basis=error),  # noqa: B023
                        repeats,
                    )
                    bound = score_bound(basis, bank.mask)
                    rank = basis.groups[0].rank
                    row(f"{name}, error {error:g}", threads, rank, *times, times[1] / processor, bound, seen)


def peers(image: NDArray[np.float32], rng: np.random.Generator, with_relion: bool) -> None:
    """Time what else there is, one template, and compare its scores with ours where definitions coincide."""
    for box in (64, 128):
        template = rng.normal(size=(1, box, box)).astype(np.float32)
        # mean 0 beforehand, so that OpenCV's normalised correlation without a mask's mean is the same thing
        template -= template.mean()
        mask = np.ones((box, box), np.float32)
        scores, _ = score_map(image, TemplateBank.from_images(template, mask))
        inside = slice(box // 2, box // 2 + image.shape[0] - box + 1)
        expected = scores[inside, inside] / box
        found: list[NDArray[np.float32]] = []

        def skimage(template: NDArray[np.float32] = template, found: list[NDArray[np.float32]] = found) -> None:
            found[:] = [match_template(image, template[0])]

        line(f"scikit-image match_template, box {box}", skimage, found, expected)
        if importlib.util.find_spec("cv2") is None:
            row(f"OpenCV, box {box}", "", "not installed", "", "", "")
            continue
        import cv2

        cv2.setNumThreads(1)
        for name in ("TM_CCOEFF_NORMED", "TM_CCORR_NORMED"):
            for masked in (False, True):

                def opencv(
                    name: str = name,
                    masked: bool = masked,
                    template: NDArray[np.float32] = template,
                    mask: NDArray[np.float32] = mask,
                    found: list[NDArray[np.float32]] = found,
                ) -> None:
                    method = getattr(cv2, name)
                    found[:] = [cv2.matchTemplate(image, template[0], method, mask=mask if masked else None)]

                same = expected if name == "TM_CCOEFF_NORMED" else None
                line(f"OpenCV {name}{' with mask' if masked else ''}, box {box}", opencv, found, same)
    if with_relion and shutil.which("relion_autopick"):
        # faint: RELION picks noise with faint references only
        templates = (0.1 * rng.normal(size=(2, 64, 64))).astype(np.float32)
        row("relion_autopick, full size", 1, *relion(image, templates, 90, 1, -1), "with them", "")
        row("relion_autopick, its default 20 Å, 1 Å/px", 1, *relion(image, templates, 5, 0, 20), "with them", "")
    elif with_relion:
        print("\nrelion_autopick is not on the PATH.")


def line(
    name: str, work: Callable[[], None], found: list[NDArray[np.float32]], expected: NDArray[np.float32] | None
) -> None:
    """Time one peer and say how far its scores are from ours."""
    unit = transform_pair()
    clock, processor = measure(work, 2)
    unit = min(unit, transform_pair())
    note = "" if expected is None else f"; largest difference to score_map {np.abs(found[0] - expected).max():.1g}"
    row(name + note, 1, 1e3 * clock, 1e3 * processor, "with it", 1e3 * processor / unit)


def peaks(image: NDArray[np.float32]) -> None:
    """Time the peaks of a smooth map with a million candidates."""
    scores = scipy.ndimage.gaussian_filter(image, 3)
    best = np.zeros(scores.shape, np.int32)
    threshold = float(np.partition(scores.ravel(), -1_000_000)[-1_000_000])
    print()
    row("a million candidates, distance 20 px", "peaks", "ms (clock)", "ms (processor)")
    row(*["---"] * 4)
    for rule in ("local_maximum", "greedy", "paper"):
        count = len(find_peaks(scores, best, threshold, 20, rule=rule))
        times = measure(lambda rule=rule: find_peaks(scores, best, threshold, 20, rule=rule), 5)  # type: ignore[misc]
        row(rule, count, *(1e3 * seconds for seconds in times))


def tomogram(rng: np.random.Generator) -> None:
    """Time tomograms of two sizes and say what memory they took at most."""
    bank = volume_bank(blob_volume(phantom(10.0), 32), 10.0, 30.0).take(np.arange(8))
    print()
    row("tomogram, box 32, 8 orientations", "s (clock)", "s (processor)", "peak memory, MB", "input and maps, MB")
    row(*["---"] * 5)
    for shape in ((96, 160, 160), (160, 256, 256), (160, 512, 256)):
        volume = rng.standard_normal(shape, dtype=np.float32)
        times = measure(lambda volume=volume: score_volume(volume, bank, 2), 1)  # type: ignore[misc]
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        row(" x ".join(map(str, shape)), *times, peak, volume.size * 10 / 2**20)
    tiling = plan_tiles((512, 1024, 1024), 32)
    voxels, tile = 512 * 1024 * 1024, 8 * np.prod(tiling.tile) / 2**20
    print(
        f"\n512 x 1024 x 1024: {len(tiling.starts)} tiles of {tiling.tile}; maps {6 * voxels / 2**30:.1f} GB, "
        f"spectra of templates {max(512, tile):.0f} MB, scratch of a thread about {4 * tile:.0f} MB."
    )


if __name__ == "__main__":
    main()
