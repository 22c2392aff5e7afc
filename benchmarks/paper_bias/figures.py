"""The paper's experiments, with pictures: bias against threshold, picks, size, rotation grid; wrong templates; causes.

python benchmarks/paper_bias/figures.py FOLDER [--only NAME ...]

NAME: threshold (Fig. 4a), grids (4b), finite (finite samples), wrong (5), mechanisms (9). Writes
``paper_bias_NAME.png`` and prints the table behind each.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from scipy.ndimage import gaussian_filter
from scipy.sparse.linalg import LinearOperator, cg

from napari_pickbias.bias.averages import cut_patches
from napari_pickbias.bias.mixture import assign, correlations, fit_mixture
from napari_pickbias.bias.theory import inverse_mills, predicted_correlation, predicted_error, sample_picked
from napari_pickbias.imaging.phantoms import blob_volume, phantom
from napari_pickbias.imaging.projection import backproject, project
from napari_pickbias.imaging.rotations import matrices_from_euler, random_rotations, super_fibonacci_rotations
from napari_pickbias.imaging.volumes import distance_grid, soft_ball
from napari_pickbias.matching import TemplateBank, find_peaks, score_map

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#6A737D"


def views_of(box: int, count: int, seed: int, elongation: float = 1.6) -> np.ndarray:
    """Return unit-norm, zero-mean views of a molecule, ``(count, box, box)``; ``seed`` makes another molecule."""
    blobs = phantom(0.42 * box, elongation=elongation, count=32)
    rng = np.random.default_rng(seed)
    if seed:
        weights = rng.uniform(0.2, 1.8, len(blobs.weights)) * rng.choice([0.2, 1.0, 2.5], len(blobs.weights))
        blobs = blobs._replace(
            weights=weights / weights.sum(), centres_px=blobs.centres_px @ random_rotations(1, rng)[0]
        )
    images = project(blob_volume(blobs, box), random_rotations(count, rng)).astype(np.float64)
    images -= images.mean(axis=(1, 2), keepdims=True)
    return images / np.linalg.norm(images, axis=(1, 2))[:, None, None]


def orthonormal(dimension: int, count: int, rng: np.random.Generator) -> np.ndarray:
    return np.linalg.qr(rng.standard_normal((dimension, count)))[0].T


def labelled(patches: np.ndarray, x: np.ndarray) -> np.ndarray:
    label = (patches @ x.T).argmax(axis=1)
    return np.stack([patches[label == k].mean(axis=0) if (label == k).any() else 0 * x[k] for k in range(len(x))])


def matched(means: np.ndarray, x: np.ndarray) -> np.ndarray:
    return correlations(means, x)[np.arange(len(x)), np.arange(len(x))]


def threshold(folder: Path) -> None:
    rng = np.random.default_rng(0)
    levels = np.array([0.25, 0.5, 1, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8])
    banks = {
        "five orthogonal templates, d 225": orthonormal(225, 5, rng),
        "five views of a molecule, d 289": views_of(17, 5, 0).reshape(5, -1),
    }
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    for axes, (name, x) in zip(figure.subplots(1, 2), banks.items(), strict=True):
        picks, rows = 20_000, []
        for level in levels:
            patches = sample_picked(x, float(level), picks, rng)
            means = labelled(patches, x)
            truth, free = float(matched(means, x).mean()), fit_mixture(patches, 5, rng, starts=2, iterations=60)
            found = float(assign(free.means, x)[1].mean())
            shift = float(((means - level * x) ** 2).sum(axis=1).mean() / level**2)
            expected = float(predicted_correlation(inverse_mills(level), x.shape[1], picks / 5))
            rows.append((truth, found, expected, shift, predicted_error(level, x.shape[1], 5, picks) / level**2))
            print(f"{name}, T {level:g}: labelled {truth:.3f}, unlabelled {found:.3f}, predicted {expected:.3f}, "
                  f"|mean/T - x|^2 {shift:.4f}, predicted {rows[-1][4]:.4f}")  # fmt: skip
        table = np.array(rows)
        axes.plot(levels, table[:, 2], color=GREY, linestyle="--", label="correlation, predicted")
        axes.plot(levels, table[:, 0], "o-", color=BLUE, markersize=4, label="correlation, labels known")
        axes.plot(levels, table[:, 1], "s-", color=ORANGE, markersize=4, label="correlation, classes from random start")
        axes.plot(
            levels, np.minimum(table[:, 3], 2), "^-", color=GREEN, markersize=4, label="|mean/T − x|², labels known"
        )
        axes.plot(levels, np.minimum(table[:, 4], 2), color=GREEN, linestyle=":", label="the same, predicted")
        axes.set(xlabel="threshold (noise deviations)", title=name, ylim=(-0.05, 1.15))
        axes.legend(fontsize=7, loc="center right")
    figure.savefig(folder / "paper_bias_threshold.png", dpi=110)


def finite(folder: Path) -> None:
    rng = np.random.default_rng(1)
    level, counts = 4.0, np.array([100, 250, 500, 1000, 2000, 4000, 8000, 16_000])
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for dimension, color in ((64, BLUE), (256, ORANGE), (1024, GREEN)):
        x = orthonormal(dimension, 5, rng)
        error, similar, found = [], [], []
        for picks in counts:
            patches = sample_picked(x, level, int(picks), rng)
            means = labelled(patches, x)
            error.append(float(((means - level * x) ** 2).sum(axis=1).mean()))
            similar.append(float(matched(means, x).mean()))
            few = dimension == 1024 and picks > 4000
            fit = None if few else fit_mixture(patches, 5, rng, starts=3, iterations=40)
            found.append(np.nan if fit is None else float(assign(fit.means, x)[1].mean()))
            wanted = predicted_error(level, dimension, 5, int(picks))
            like = float(predicted_correlation(inverse_mills(level), dimension, picks / 5))
            print(f"d {dimension}, M {picks}: error {error[-1]:.4f}, predicted {wanted:.4f}; correlation "
                  f"{similar[-1]:.3f}, unlabelled {found[-1]:.3f}, predicted {like:.3f}", flush=True)  # fmt: skip
        fine = np.geomspace(counts[0], counts[-1], 60)
        left.loglog(counts, error, "o", color=color, label=f"d = {dimension}")
        left.loglog(fine, [predicted_error(level, dimension, 5, m) for m in fine], color=color, linewidth=1)
        right.semilogx(counts, similar, "o", color=color)
        right.semilogx(counts, found, "s", color=color, fillstyle="none")
        right.semilogx(fine, predicted_correlation(inverse_mills(level), dimension, fine / 5), color=color, linewidth=1)
    left.axhline((inverse_mills(level) - level) ** 2, color=GREY, linestyle=":", label="rest of a finite threshold")
    left.set(xlabel="picks M", ylabel="|mean − T x|², T = 4, five templates")
    left.legend(fontsize=7)
    right.plot([], [], "o", color=GREY, label="labels known")
    right.plot([], [], "s", color=GREY, fillstyle="none", label="classes from random start")
    right.plot([], [], color=GREY, label="predicted for labels")
    right.set(xlabel="picks M", ylabel="correlation with the template", ylim=(0, 1.03))
    right.legend(fontsize=7, loc="lower right")
    figure.savefig(folder / "paper_bias_finite.png", dpi=110)


def reconstruct(patches: np.ndarray, grid: np.ndarray, start: np.ndarray, iterations: int = 8) -> np.ndarray:
    """Return the likeliest volume of patches of unknown orientation on a grid of rotations, in unit white noise."""
    box = start.shape[0]
    flat, volume = patches.reshape(len(patches), -1), start.copy()
    ball = soft_ball(box, box / 2 - 0.5)
    for _ in range(iterations):
        views = project(volume, grid).reshape(len(grid), -1)
        logits = flat @ views.T - 0.5 * (views**2).sum(axis=1)
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)
        mass, sums = shares.sum(axis=0), (shares.T @ flat).reshape(-1, box, box)
        used = mass > 1e-3

        def normal(v: np.ndarray, used: np.ndarray = used, mass: np.ndarray = mass) -> np.ndarray:
            moved = (v.reshape(ball.shape) * ball).astype(np.float64)
            seen = project(moved, grid[used]) * mass[used][:, None, None]
            return (backproject(seen, grid[used]) * ball + 1e-3 * mass.sum() * moved).ravel()

        size = box**3
        right = (backproject(sums[used], grid[used]) * ball).ravel()
        found, _ = cg(LinearOperator((size, size), matvec=normal, dtype=np.float64), right, volume.ravel(), maxiter=12)
        volume = found.reshape(ball.shape) * ball
    return volume


def grids(folder: Path) -> None:
    rng = np.random.default_rng(2)
    box, picks, level = 17, 6000, 4.5
    ball = soft_ball(box, box / 2 - 0.5)
    volume = blob_volume(phantom(6.5, elongation=1.5), box).astype(np.float64) * ball
    used = super_fibonacci_rotations(150)
    images = project(volume, used).astype(np.float64)
    scale = np.linalg.norm(images, axis=(1, 2))
    x = (images / scale[:, None, None]).reshape(len(used), -1)
    patches = sample_picked(x, level, picks, rng)
    by_chance = rng.standard_normal((picks, box * box))
    turn = matrices_from_euler(np.array([[11.0, 17.0, 5.0]]))[0]
    inside = distance_grid(box, 3) <= box / 2 - 1
    # hardly more than where the object lies and how it is turned: without, every start ends turned in its own way
    start = gaussian_filter(volume, 2.5) * ball
    start *= level / np.linalg.norm(project(start, used), axis=(1, 2)).mean()
    kinds = {
        "the same 150 rotations": used,
        "the same, turned by 20°": used @ turn,
        "another 150, at random": random_rotations(150, rng),
        "60, coarser": super_fibonacci_rotations(60),
        "400, finer": super_fibonacci_rotations(400),
    }
    found = {}
    for name, grid in kinds.items():
        found[name] = reconstruct(patches, np.asarray(grid), start)
        value = np.corrcoef(found[name][inside], volume[inside])[0, 1]
        print(f"{name}: correlation with the template's volume {value:.3f}", flush=True)
    found["control: noise not picked"] = reconstruct(by_chance, used, start)
    print(f"start: {np.corrcoef(start[inside], volume[inside])[0, 1]:.3f}; control: "
          f"{np.corrcoef(found['control: noise not picked'][inside], volume[inside])[0, 1]:.3f}")  # fmt: skip
    shown = {"template": volume, "start": start, **found}
    figure = Figure(figsize=(1.55 * len(shown), 3.7), layout="constrained")
    rows = figure.subplots(2, len(shown))
    for column, (name, one) in enumerate(shown.items()):
        value = np.corrcoef(one[inside], volume[inside])[0, 1]
        for row, axis in ((0, 0), (1, 1)):
            rows[row][column].imshow(one.sum(axis=axis), cmap="gray")
            rows[row][column].set_axis_off()
        rows[0][column].set_title(
            f"{name.replace(', ', ',' + chr(10)).replace(': ', ':' + chr(10))}\n{value:.2f}", fontsize=7
        )
    figure.savefig(folder / "paper_bias_grids.png", dpi=110)


def wrong(folder: Path) -> None:
    rng = np.random.default_rng(3)
    box, side, count = 33, 1024, 5
    true, used = views_of(box, count, 5, elongation=1.1), views_of(box, count, 0, elongation=2.4)
    print("largest correlation between true and template views", f"{correlations(true, used).max():.2f}")
    bank = TemplateBank.from_images(used, np.ones((box, box), np.float32))
    results = {}
    for strength in (0.0, 4.0, 6.0, 9.0):
        patches, planted = [], 0
        for _ in range(6):
            image = rng.standard_normal((side, side))
            places = [(y, x) for y in range(40, side - 40, 72) for x in range(40, side - 40, 72)] if strength else []
            for y, x in places:
                y, x = y + int(rng.integers(-12, 13)), x + int(rng.integers(-12, 13))
                image[y - 16 : y + 17, x - 16 : x + 17] += strength * true[rng.integers(count)]
            planted += len(places)
            scores, best = score_map(image.astype(np.float32), bank, 1, normalise="none")
            peaks = find_peaks(scores, best, 4.0, box, rule="paper", subpixel=False)
            patches.append(cut_patches(image, np.column_stack([peaks["y"], peaks["x"]]), box))
        stack = np.concatenate(patches).reshape(-1, box * box)
        fit = fit_mixture(stack, 8, rng, starts=3, iterations=40)
        own, false = correlations(fit.means, true.reshape(count, -1)), correlations(fit.means, used.reshape(count, -1))
        results[strength] = (fit, own.max(axis=1), false.max(axis=1), planted, len(stack))
        sizes = np.bincount(fit.labels, minlength=8)
        order = np.argsort(-sizes)
        told = ", ".join(f"{sizes[k]}: {own[k].max():.2f}, {false[k].max():.2f}" for k in order)
        print(
            f"strength {strength:g}: {planted} planted, {len(stack)} picked; patches: true, template: {told}",
            flush=True,
        )
    figure = Figure(figsize=(8.5, 1.2 * (2 + len(results)) + 0.4), layout="constrained")
    rows = figure.subplots(2 + len(results), 8)
    for axes in rows.ravel():
        axes.set_xticks([]), axes.set_yticks([]), axes.set_frame_on(False)
    for k in range(count):
        rows[0][k].imshow(true[k], cmap="gray")
        rows[1][k].imshow(used[k], cmap="gray")
    rows[0][0].set_ylabel("true\nparticles", fontsize=7)
    rows[1][0].set_ylabel("templates", fontsize=7)
    for row, (strength, (fit, own, false, planted, picked)) in zip(rows[2:], results.items(), strict=True):
        sizes = np.bincount(fit.labels, minlength=8)
        for axes, k in zip(row, np.argsort(-sizes), strict=True):
            axes.imshow(fit.means[k].reshape(box, box), cmap="gray")
            axes.set_title(f"{sizes[k]}: {own[k]:.2f} / {false[k]:.2f}", fontsize=6)
        row[0].set_ylabel(f"strength {strength:g}\n{planted} planted,\n{picked} picked", fontsize=7)
    figure.suptitle(
        "classes of picks with the wrong templates; patches: correlation with true / with template", fontsize=8
    )
    figure.savefig(folder / "paper_bias_wrong.png", dpi=110)


def mechanisms(folder: Path) -> None:
    rng = np.random.default_rng(4)
    box, classes, picks = 17, 5, 10_000
    x = views_of(box, classes, 0).reshape(classes, -1)
    noise = rng.standard_normal((picks, box * box))
    large = rng.standard_normal((2000, 2 * box, 2 * box))
    aligned = []
    for view in x.reshape(-1, box, box):
        spectrum = np.fft.rfft2(large) * np.conj(np.fft.rfft2(view, s=large.shape[1:]))
        best = np.fft.irfft2(spectrum, s=large.shape[1:]).reshape(len(large), -1).argmax(axis=1)
        moved = [
            np.roll(image, (-(b // (2 * box)), -(b % (2 * box))), (0, 1))[:box, :box]
            for image, b in zip(large, best, strict=True)
        ]
        aligned.append(np.mean(moved, axis=0).ravel())
    picked = sample_picked(x, 4.0, picks, rng)
    fits = {
        "templates": x,
        "picked at T = 4,\nrandom start": fit_mixture(picked, classes, rng, starts=3).means,
        "noise aligned by shift\nto each template\n(Einstein from noise)": np.stack(aligned),
        "noise, classification\nstarted from templates,\n20 iterations": fit_mixture(
            noise, classes, rng, initial=x, iterations=20, tolerance=-1.0
        ).means,
        "the same, started from\n4 × the templates": fit_mixture(
            noise, classes, rng, initial=4 * x, iterations=20, tolerance=-1.0
        ).means,
        "noise, random start\n(control)": fit_mixture(noise, classes, rng, starts=2, iterations=20).means,
    }
    figure = Figure(figsize=(7.2, 6.6), layout="constrained")
    rows = figure.subplots(len(fits), classes)
    for row, (name, means) in zip(rows, fits.items(), strict=True):
        order, value = np.arange(classes), matched(means, x)
        if "random" in name:
            template, value = assign(means, x)
            order = np.argsort(template)
            value = value[order]
        length = np.linalg.norm(means, axis=1).mean()
        print(f"{name!r}: correlation {value.mean():.3f}, length of the means {length:.2f}", flush=True)
        for column, (axes, k) in enumerate(zip(row, order, strict=True)):
            axes.imshow(means[k].reshape(box, box), cmap="gray")
            axes.set_xticks([]), axes.set_yticks([])
            axes.set_title("" if name == "templates" else f"{value[column]:.2f}", fontsize=7)
        row[0].set_ylabel(name, fontsize=7, rotation=0, ha="right", va="center")
    figure.savefig(folder / "paper_bias_mechanisms.png", dpi=110)


TASKS = {"threshold": threshold, "finite": finite, "wrong": wrong, "mechanisms": mechanisms, "grids": grids}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", nargs="+", choices=list(TASKS), default=list(TASKS))
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    for name in given.only:
        print(f"# {name}", flush=True)
        TASKS[name](given.folder)


if __name__ == "__main__":
    main()
