"""Outliers made from real particle images: how many of each kind are found at the low signal of a real stack.

    python benchmarks/outliers_injected.py DATA [--seeds 5]

DATA is the folder of test data. The stack is ``particles/betagal_10204`` (699 picks of a blob picker, 64 px of
3.54 Å). Inliers are the particles of the classes that RELION resolved to better than 21 Å, partial ones are such
images rolled by 11 to 16 working px, multiple ones the sum of two over root 2, the second rolled by 10 to 14 px.
No truth exists: the inliers hold junk and neighbours, so that their rate is a share kept. Prints Markdown.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import starfile
from numpy.typing import NDArray

from napari_pickbias.jobs.outlier_groups import plan_groups, prepare_images
from napari_pickbias.jobs.outlier_parameters import OutlierParameters
from napari_pickbias.outliers.calibrated import fit_detector
from napari_pickbias.outliers.reference import reference_verdicts
from pickbias_relion import read_particles

RADIUS_ANGSTROM = 62.0
"""9 px of 6.87 Å, the working pixel of a 33-px box."""
GOOD_RESOLUTION_ANGSTROM = 21.0


def good_images(data: Path) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return all working images (33 px, phases flipped), and those of the better classes."""
    folder = data / "particles" / "betagal_10204"
    particles = read_particles(folder / "Extract" / "job009" / "particles.star")
    options = OutlierParameters(radius=RADIUS_ANGSTROM, working_box=33)
    (group,) = plan_groups(particles, options)
    images = prepare_images(particles, group, group.rows, 1)
    classes = starfile.read(folder / "Class2D" / "job010" / "run_it025_model.star")["model_classes"]
    resolved = classes["rlnEstimatedResolution"].to_numpy(float) < GOOD_RESOLUTION_ANGSTROM
    members = starfile.read(folder / "Class2D" / "job010" / "run_it025_data.star")["particles"]
    of_class = dict(zip(members["rlnImageName"], members["rlnClassNumber"], strict=True))
    names = starfile.read(folder / "Extract" / "job009" / "particles.star")["particles"]["rlnImageName"]
    return images, images[[bool(resolved[of_class[name] - 1]) for name in names]]


def roll(image: NDArray[np.float32], low: int, high: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return the image rolled by a distance between ``low`` and ``high`` px in a random direction."""
    distance, angle = rng.uniform(low, high), rng.uniform(0, 2 * np.pi)
    return np.roll(image, (round(distance * np.sin(angle)), round(distance * np.cos(angle))), (0, 1))


def outliers(good: NDArray[np.float32], rng: np.random.Generator) -> dict[str, NDArray[np.float32]]:
    """Return as many partial and multiple images as there are good ones."""
    other = good[rng.permutation(len(good))]
    pairs = [(a + roll(b, 10, 14, rng)) / np.sqrt(2) for a, b in zip(good, other, strict=True)]
    return {"multiple": np.stack(pairs), "partial": np.stack([roll(image, 11, 16, rng) for image in good])}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    images, good = good_images(arguments.data)
    print(f"{len(images)} picks, {len(good)} in classes better than {GOOD_RESOLUTION_ANGSTROM:g} Å\n")
    signals: list[float] = []
    rows: dict[str, list[list[float]]] = {}
    for seed in range(arguments.seeds):
        rng = np.random.default_rng(seed)
        made = outliers(good, rng)
        for radius in (3, 5):
            verdicts = [reference_verdicts(x, radius)["keep"] for x in (good, made["multiple"], made["partial"])]
            name = f"published rule, r = {radius}"
            rows.setdefault(name, []).append([verdicts[0].mean(), *(1 - v.mean() for v in verdicts[1:])])
        detector = fit_detector(images, RADIUS_ANGSTROM / (64 * 3.54 / 33), rng=rng)
        columns = [detector.evaluate(x) for x in (good, made["multiple"], made["partial"])]
        kept = [c["keep"] for c in columns]
        signals.append(detector.summary.e0)
        rows.setdefault("calibrated, default", []).append([kept[0].mean(), *(1 - k.mean() for k in kept[1:])])
        scores = [c["score"] for c in columns]
        for share in (0.9, 0.636):
            level = np.quantile(scores[0], 1 - share)
            rows.setdefault(f"calibrated, score that keeps {share:g}", []).append(
                [share, *((s < level).mean() for s in scores[1:])]
            )
    print(f"e0 = {min(signals):.0f} to {max(signals):.0f}\n")
    print("| rule | inliers kept | multiple rejected | partial rejected |\n|---|---|---|---|")
    for name, values in rows.items():
        mean, sd = np.mean(values, axis=0), np.std(values, axis=0, ddof=1) if len(values) > 1 else np.zeros(3)
        print(f"| {name} | " + " | ".join(f"{m:.3f} ± {s:.3f}" for m, s in zip(mean, sd, strict=True)) + " |")


if __name__ == "__main__":
    main()
