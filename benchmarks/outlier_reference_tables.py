"""The published outlier rule on the published experiment: the tables of docs/reproduction/outliers_reference.md.

    python benchmarks/outlier_reference_tables.py DATA [--seeds 5]    # about ten minutes on one core

DATA is the folder of test data (the maps, and the images with the published program's verdicts). Prints Markdown.
Each stack has 1000 inliers and 333 outliers of each kind; figures are means over the seeds.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from outlier_cases import Case, make_case

from napari_pickbias.outliers.reference import ReferenceDetector, reference_verdicts

LEVELS = (10, 20, 40, 70, 100, 184)
AS_CODED = {"kernel_px": 10}
READINGS: dict[str, dict[str, object]] = {
    "as coded (k = 10)": {},
    "k = 9, as the program for real data": {"kernel_px": 9},
    "any anomaly in a band (Algorithm 1, line 15): `any_anomaly`": {"any_anomaly": True},
    "more than one cluster is an outlier (section 2.3): `cluster_rule`": {"cluster_rule": True},
    "both": {"any_anomaly": True, "cluster_rule": True},
    "index > T_E only, any anomaly (Algorithm 1 as printed): `one_sided`, `any_anomaly`": {
        "any_anomaly": True,
        "one_sided": True,
    },
    "A = 7": {"points": 7},
    "A = 20": {"points": 20},
    "eps = r / 2": {"eps_px": 2.5},
    "eps = r / 2, more than one cluster is an outlier": {"eps_px": 2.5, "cluster_rule": True},
}
COLOURS = {
    "published": "as coded (white within 0.3 %)",
    "amp/rad": "amplitude 1/sqrt(1 + rho²), rho in radians per pixel",
    "pow/index": "power 1/sqrt(1 + rho²), rho the Fourier index of 170",
    "amp/index": "amplitude 1/sqrt(1 + rho²), rho the Fourier index of 170",
}


def shares_kept(images: NDArray[np.float32], labels: NDArray[np.int8], radius: float, **options: object) -> list[float]:
    """Share kept of inliers, multiple, noise, partial."""
    keep = reference_verdicts(images, radius, **{**AS_CODED, **options})["keep"]  # type: ignore[arg-type]
    return [float(keep[labels == kind].mean()) for kind in range(4)]


def stack(level: int, colour: str, seed: int, data: Path) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
    images, labels, _ = make_case(Case("", "70S", 1 / level, "mean", colour, 33), data, seed)
    return images, labels


def text(shares: NDArray[np.float64]) -> list[str]:
    """Three decimals without the leading zero, as papers print them."""
    return [f"{share:.3f}".removeprefix("0") for share in shares]


def tnr(shares: NDArray[np.float64]) -> float:
    return float(1 - shares[1:].mean())


def print_table(heads: list[str], rows: Iterator[list[str]] | list[list[str]]) -> None:
    print("| " + " | ".join(heads) + " |\n|" + "---|" * len(heads), flush=True)
    for row in rows:
        print("| " + " | ".join(row) + " |", flush=True)
    print()


def golden_row(data: Path) -> list[str]:
    """Count verdicts and those that differ from the published program's."""
    verdicts = differ = 0
    for path in sorted((data / "outlier-golden").glob("*.npz")):
        golden = np.load(path)
        for radius in (3, 5, 9):
            for kernel in (9, 10):
                keep = reference_verdicts(golden["images"], radius, kernel_px=kernel)["keep"]
                verdicts += len(keep)
                differ += int(np.count_nonzero(keep != golden[f"keep_r{radius}_k{kernel}"]))
    return [f"{verdicts:,}", str(differ)]


def noise_rows(count: int = 100_000) -> Iterator[list[str]]:
    """Share of white noise that is kept."""
    for box, radius, kernel in (
        (33, 3, 9),
        (33, 3, 10),
        (33, 5, 9),
        (33, 5, 10),
        (33, 9, 9),
        (33, 9, 10),
        (55, 8, 16),
        (55, 17, 16),
    ):
        rng = np.random.default_rng(0)
        rule = ReferenceDetector(box, radius, kernel_px=kernel)
        chunks = (rng.standard_normal((2000, box, box), dtype=np.float32) for _ in range(count // 2000))
        kept = sum(int(rule.evaluate(images)["keep"].sum()) for images in chunks)
        yield [str(box), str(radius), str(kernel), *text(np.array([kept / count]))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    seeds = range(arguments.seeds)
    print_table(["verdicts", "different from the published program"], [golden_row(arguments.data)])
    print_table(["box (px)", "r", "k", "white noise kept"], noise_rows())
    by_radius: dict[tuple[int, int], list[list[float]]] = {}
    by_reading: dict[tuple[str, int], list[list[float]]] = {}
    by_colour: dict[tuple[str, int], list[list[float]]] = {}
    for seed in seeds:
        for level in LEVELS:
            images, labels = stack(level, "published", seed, arguments.data)
            for radius in (3, 5, 9):
                by_radius.setdefault((level, radius), []).append(shares_kept(images, labels, radius))
            if level in (20, 70):
                for name, options in READINGS.items():
                    by_reading.setdefault((name, level), []).append(shares_kept(images, labels, 5, **options))
                for colour in COLOURS:
                    if colour != "published":
                        images, labels = stack(level, colour, seed, arguments.data)
                    by_colour.setdefault((colour, level), []).append(shares_kept(images, labels, 5))
    mean = {key: np.mean(values, axis=0) for key, values in (by_radius | by_reading | by_colour).items()}  # type: ignore[operator]
    print_table(
        ["SNR", "r", "inliers (TPR)", "multiple", "noise", "partial", "TNR"],
        (
            [f"1/{level}", str(radius), *text(mean[level, radius]), *text(np.array([tnr(mean[level, radius])]))]
            for level, radius in by_radius
        ),
    )
    for what, names in (("reading", {name: name for name in READINGS}), ("noise", COLOURS)):
        print_table(
            [what, "1/20: TPR/TNR", "1/70: TPR/TNR"],
            [
                [
                    label,
                    *("/".join(text(np.array([mean[name, level][0], tnr(mean[name, level])]))) for level in (20, 70)),
                ]
                for name, label in names.items()
            ],
        )


if __name__ == "__main__":
    main()
