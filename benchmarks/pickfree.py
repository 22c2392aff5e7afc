"""Pick-free reconstruction: time per iteration beside the plain matrix product, and the oracles in full size.

Usage: OMP_NUM_THREADS=1 python benchmarks/pickfree.py speed [--box 11 15 21] [--patches 1000] [--threads 2]
       OMP_NUM_THREADS=1 python benchmarks/pickfree.py search [--box 11]
       OMP_NUM_THREADS=1 python benchmarks/pickfree.py level0 [--box 11 15 21 31]
       OMP_NUM_THREADS=1 python benchmarks/pickfree.py levels [--box 11 15] [--patches 200]
       OMP_NUM_THREADS=1 python benchmarks/pickfree.py demo [--box 11] [--patches 5000] [--snr 1] [--seed 0]
       OMP_NUM_THREADS=1 python benchmarks/pickfree.py null [--patches 4000] [--seed 0]

``speed``: one iteration at an effective grid of 4608 rotations, all patches; core-seconds per 10,000 patches (on two
free cores half of that by the clock), the least of three, and seconds by the clock on the machine as it is. The plain
product evaluates every hypothesis of 576 rotations (in brackets: of the 4608 that it would need), E and M.
``search``: best-first search and low rank against the dense fine grid (oracles 5, 6, 7).
``level0``: coarse scores and correlations with the basis by matrix products, as the program does, and by Fourier
transforms, the two compared. ``levels``: the E-step on 36,864 rotations with two and with three levels.
``demo`` and ``null``: oracles 9 and 10.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import scipy.fft
from threadpoolctl import threadpool_limits

from napari_pickbias.imaging.correlation import fourier_correlation
from napari_pickbias.imaging.phantoms import blob_volume, phantom
from napari_pickbias.imaging.projection import project
from napari_pickbias.imaging.rotations import random_rotations
from napari_pickbias.pickfree import Options, Stage, reconstruct
from napari_pickbias.pickfree.chain import first_state, iterate, make_model
from napari_pickbias.pickfree.expectation import cell_shares, expectation
from napari_pickbias.pickfree.picking import pick_boxes, refine_picks
from napari_pickbias.pickfree.reconstruct import default_stages
from napari_pickbias.pickfree.rotation_levels import rotation_levels
from napari_pickbias.pickfree.search import correlate
from napari_pickbias.pickfree.start import default_lowpass, lowpassed, scaled_to
from napari_pickbias.pickfree.tables import build_tables


def molecule(size: int, snr: float) -> np.ndarray:
    """Return the phantom at a signal-to-noise ratio in noise of variance 1."""
    model = make_model(size, rotation_levels(576))
    return scaled_to(model, blob_volume(phantom(size / 2 - 0.7), size), snr, 1.0)


def scene(volume: np.ndarray, count: int, seed: int, *, density: float = 0.15, gap: int | None = None):
    """Return ``count`` patches of one micrograph, the micrograph, and the number of particles."""
    size = len(volume)
    side = int(np.ceil(np.sqrt(count)))
    rng = np.random.default_rng(seed)
    image = rng.normal(size=(side * size, side * size)).astype(np.float32)
    apart = (2 * size - 1) if gap is None else gap
    wanted = round(density * side * side)
    free = np.ones((image.shape[0] - size + 1,) * 2, bool)
    corners = []
    for place in rng.permutation(free.size):
        if len(corners) >= wanted:
            break
        y, x = divmod(int(place), free.shape[1])
        if free[y, x]:
            corners.append((y, x))
            free[max(0, y - apart + 1) : y + apart, max(0, x - apart + 1) : x + apart] = False
    views = project(volume, random_rotations(len(corners), rng)) if corners else []
    for (y, x), view in zip(corners, views, strict=True):
        image[y : y + size, x : x + size] += view
    cut = image.reshape(side, size, side, size).transpose(0, 2, 1, 3).reshape(-1, size, size)
    return np.ascontiguousarray(cut[:count]), image, len(corners)


def plain(patches: np.ndarray, images: np.ndarray) -> float:
    """Return the core-seconds of a dense E- and M-step by matrix products, every template a row."""
    count, size = images.shape[:2]
    side = 2 * size - 1
    padded = np.zeros((count, 3 * size, 3 * size), np.float32)
    padded[:, size : 2 * size, size : 2 * size] = images
    windows = np.lib.stride_tricks.sliding_window_view(padded, (size, size), axis=(1, 2))[:, 1:-1, 1:-1]
    table = np.ascontiguousarray(windows.reshape(count * side * side, size * size))
    energy = 0.5 * np.einsum("tp,tp->t", table, table)
    flat = patches.reshape(len(patches), -1)
    start = time.process_time()
    scores = flat @ table.T - energy
    scores -= scores.max(axis=1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=1, keepdims=True)
    _ = scores.T @ flat
    return time.process_time() - start


def speed(arguments: argparse.Namespace) -> None:
    print(
        "box  r/r0  core s per 10,000 patches  of it once  wall s, loaded  plain 576 (4608), core s  "
        "ns/hypothesis  model Mflop a patch, so Gflop/s a core"
    )
    for size in arguments.box:
        volume = molecule(size, 1.0)
        count = arguments.patches * 11 // size
        patches, _, _ = scene(volume, count, 0)
        levels = rotation_levels(4608)
        model = make_model(size, levels, patches=count)
        state = first_state(model, lowpassed(volume, default_lowpass(size)), 1.0)
        options, rows = Options(threads=arguments.threads), np.arange(count)
        rng = np.random.default_rng(0)
        state, _ = iterate(patches, model, state, Stage(1), options, rows, rng)
        tables = build_tables(model.fine.project(state.volume), levels, 1.0, weights=cell_shares(levels))
        once, whole, clock = [], [], []
        for _ in range(3):
            start = time.process_time()
            iterate(patches, model, state, Stage(1), options, rows[:2], rng)
            once.append(time.process_time() - start)
            start, tick = time.process_time(), time.perf_counter()
            iterate(patches, model, state, Stage(1), options, rows, rng)
            whole.append(time.process_time() - start)
            clock.append((time.perf_counter() - tick) / count)
        each = (min(whole) - min(once)) / count
        hypotheses = 4608 * (2 * size - 1) ** 2
        # the model: correlations with the basis over the rows that overlap, then all cells at all shifts
        model_flop = 2 * (2 * size - 1) * size**3 * tables.basis.shape[1]
        model_flop += 2 * (2 * size - 1) ** 2 * len(levels.coarse) * len(tables.coarse)
        dense = ""
        if size <= 15:
            few = 16 if size == 15 else 64
            with threadpool_limits(limits=1, user_api="blas"):
                seconds = min(plain(patches[:few], model.coarse.project(state.volume)) for _ in range(2)) / few
            dense = f"{1e4 * seconds:.0f} ({8e4 * seconds:.0f})"
        print(
            f"{size:3d}  {tables.basis.shape[1]}/{len(tables.coarse)}   {1e4 * each + min(once):8.1f}"
            f"   {min(once):20.2f}  {1e4 * min(clock):10.1f}   {dense:>20s}   {1e9 * each / hypotheses:8.3f}   "
            f"{model_flop / 1e6:.0f}, {model_flop / each / 1e9:.0f}",
            flush=True,
        )


def search(arguments: argparse.Namespace) -> None:
    for size in arguments.box:
        volume = molecule(size, arguments.snr)
        patches, _, _ = scene(volume, 60, arguments.seed)
        levels, rows = rotation_levels(4608), np.arange(60)
        images = make_model(size, levels).fine.project(volume)
        shares = cell_shares(levels)
        exact = build_tables(images, levels, 1.0, tail=0, coarse_tail=0, weights=shares)
        # the dense grid: one rotation a cell
        flat = rotation_levels(4608, 4608)
        order = build_tables(make_model(size, flat).fine.project(volume), flat, 1.0, tail=0, coarse_tail=0)
        dense = expectation(patches, rows, order, flat, 0.55, samples=2048)
        cases = [("full rank, -11", exact, -11.0)] + [(f"1e-4, {tau:g}", None, tau) for tau in (-9.0, -7.0, -5.0)]
        for name, tables, tau in cases:
            used = build_tables(images, levels, 1.0, weights=shares) if tables is None else tables
            found = expectation(patches, rows, used, levels, 0.55, log_tau=tau)
            d, v = found.log_likelihood - dense.log_likelihood, found.void - dense.void
            print(
                f"box {size} SNR {arguments.snr:g} {name}: d loglik mean {d.mean():+.3f} max {np.abs(d).max():.2f}, "
                f"d p_empty mean {np.abs(v).mean():.4f} max {np.abs(v).max():.3f}, cells {found.refined / 60:.0f}, "
                f"posterior sums corr {np.corrcoef(found.weights.sum(0), dense.weights.sum(0))[0, 1]:.5f}",
                flush=True,
            )


def level0(arguments: argparse.Namespace) -> None:
    print("box  rank, coarse rank  scores ms: products, transforms  correlations ms: products, transforms  difference")
    for size in arguments.box:
        # a map with power up to the last shell needs more of the basis than the smooth phantom
        rng = np.random.default_rng(0)
        volume = molecule(size, 1.0) * np.exp(rng.standard_normal((size,) * 3)).astype(np.float32)
        levels, side = rotation_levels(4608), 2 * size - 1
        tables = build_tables(make_model(size, levels).fine.project(volume), levels, 1.0, weights=cell_shares(levels))
        rank, few, cells = tables.basis.shape[1], len(tables.coarse), tables.coarse.shape[1]
        patch = rng.normal(size=(size, size)).astype(np.float32)
        found, windows = np.empty((side**2, rank), np.float32), np.empty((side, size**2), np.float32)
        scores = np.empty((side**2, cells), np.float32)
        long = scipy.fft.next_fast_len(side, real=True)
        means = (tables.coarse.T @ tables.basis[:, :few].T).reshape(cells, size, size)

        def transformed(images: np.ndarray, length: int = long) -> np.ndarray:
            return scipy.fft.rfft2(images, (length, length), workers=1).conj().astype(np.complex64)

        spectra = [transformed(means), transformed(tables.basis.T.reshape(rank, size, size))]

        def products(patch=patch, tables=tables, windows=windows, found=found) -> None:
            correlate(patch, tables.basis, windows, found)

        def coarse(found=found, tables=tables, scores=scores, few=few, side=side) -> None:
            thin = np.ascontiguousarray(found[:, :few])
            for row in range(side):
                np.dot(thin[row * side : (row + 1) * side], tables.coarse, out=scores[row * side : (row + 1) * side])

        def transforms(spectrum: np.ndarray, patch=patch, length=long) -> np.ndarray:
            forward = scipy.fft.rfft2(patch, (length, length), workers=1)
            return scipy.fft.irfft2(spectrum * forward, (length, length), workers=1, overwrite_x=True)

        def least(call) -> float:
            times = []
            for _ in range(15):
                start = time.process_time()
                call()
                times.append(time.process_time() - start)
            return 1e3 * min(times)

        with threadpool_limits(limits=1, user_api="blas"):
            times = [
                least(products),
                least(lambda s=spectra[1]: transforms(s)),
                least(coarse),
                least(lambda s=spectra[0]: transforms(s)),
            ]
        shifted = np.roll(transforms(spectra[0]), (size - 1, size - 1), (1, 2))[:, :side, :side]
        wrong = np.abs(scores.T - shifted.reshape(cells, -1)).max() / np.abs(scores).max()
        print(
            f"{size:3d}  {rank}, {few}   {times[2]:.2f}, {times[3]:.2f}   {times[0]:.2f}, {times[1]:.2f}   {wrong:.0e}",
            flush=True,
        )


def levels_of(arguments: argparse.Namespace) -> None:
    for size in arguments.box:
        volume = molecule(size, arguments.snr)
        patches, _, _ = scene(volume, arguments.patches, arguments.seed)
        rows, before = np.arange(len(patches)), None
        cases = [("two levels, 4608 + 36864", rotation_levels(36864, 4608)), ("three, 576 + 4608 + 36864", None)]
        for name, given in cases:
            levels = rotation_levels(36864) if given is None else given
            start = time.process_time()
            images = make_model(size, levels).fine.project(volume)
            tables = build_tables(images, levels, 1.0, weights=cell_shares(levels))
            once = time.process_time() - start
            expectation(patches[:2], rows[:2], tables, levels, 0.55)
            start = time.process_time()
            found = expectation(patches, rows, tables, levels, 0.55)
            each = (time.process_time() - start) / len(rows)
            text = ""
            if before is not None:
                d, v = found.log_likelihood - before.log_likelihood, np.abs(found.void - before.void)
                text = (
                    f", d loglik mean {d.mean():+.3f} max {np.abs(d).max():.2f}, d p_empty mean {v.mean():.4f} max "
                    f"{v.max():.3f}"
                )
            before = found
            print(
                f"box {size} {name}: {1e3 * each:.2f} core-ms a patch, {once:.1f} core-s for the tables, cells "
                f"{found.refined / len(rows):.0f}{text}",
                flush=True,
            )


def demo(arguments: argparse.Namespace) -> None:
    for size in arguments.box:
        volume = molecule(size, arguments.snr)
        patches, _, particles = scene(volume, arguments.patches, arguments.seed)
        start = time.perf_counter()
        first = lowpassed(volume, default_lowpass(size))
        found = reconstruct(patches, first, snr=None, options=Options(threads=arguments.threads), seed=arguments.seed)
        last = found.records[-1]
        curve = [fourier_correlation(v, volume, 3) for v in (first, found.volume)]
        true = 1 - particles * (2 * size - 1) ** 2 / (size**2 * len(patches))
        print(
            f"box {size} SNR {arguments.snr:g} patches {len(patches)} particles {particles} seed {arguments.seed}: "
            f"FSC {np.round(curve[0][1:], 2)} -> {np.round(curve[1][1:], 2)}, loglik {last.log_likelihood:.3f}, "
            f"empty {last.empty:.3f} (true {true:.3f}), {time.perf_counter() - start:.0f} s",
            flush=True,
        )


def null(arguments: argparse.Namespace) -> None:
    size = 11
    volume = molecule(size, arguments.snr)
    patches, image, _ = scene(volume, arguments.patches, arguments.seed, density=0.0)
    options = Options(threads=arguments.threads)
    found = reconstruct(
        patches, volume, snr=arguments.snr, lowpass=default_lowpass(size), stages=default_stages(30), options=options
    )
    model = make_model(size, rotation_levels(4608), patches=len(patches))
    boxes = pick_boxes(image, model.coarse.project(volume)[::4], 614)
    start = lowpassed(volume, default_lowpass(size))
    kept = refine_picks(boxes, model, first_state(model, start, 1.0), options, 30)
    norms = [r.norm / found.start_norm for r in found.records]
    picked = [norm / np.linalg.norm(start) for norm in kept]
    for name, values in (("pick-free", norms), ("picking", picked)):
        print(
            f"{name} norm over start at 1/5/10/20/30: " + " ".join(f"{values[i - 1]:.3f}" for i in (1, 5, 10, 20, 30))
        )
    print(f"log-likelihood per patch {found.records[0].log_likelihood:+.4f} -> {found.records[-1].log_likelihood:+.5f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["speed", "search", "level0", "levels", "demo", "null"])
    parser.add_argument("--box", type=int, nargs="+", default=[11])
    parser.add_argument("--patches", type=int, default=1000)
    parser.add_argument("--snr", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    chosen = parser.parse_args()
    calls = {"speed": speed, "search": search, "level0": level0, "levels": levels_of, "demo": demo, "null": null}
    calls[chosen.what](chosen)
