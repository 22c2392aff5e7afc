"""The 26 synthetic stacks on which outlier removal is measured: calibrated method beside the published rule.

    python benchmarks/outliers_table.py DATA [--seed 0] [--cases 0-25] [--markdown FILE]

DATA is the folder of test data. Prints one Markdown row a stack. About 20 s of one core each.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from outlier_cases import Case, cases, make_case

from napari_pickbias.outliers.calibrated import fit_detector
from napari_pickbias.outliers.reference import reference_verdicts

HEADER = (
    "| stack | e0 | published rule: TPR: multiple/noise/partial (TNR) | same TPR, by score | default: TPR: "
    "multiple/noise/partial (TNR) | FDR estimated/true | AUC multiple/noise/partial |\n|---|---|---|---|---|---|---|"
)


def rates(keep: NDArray[np.bool_], labels: NDArray[np.int8]) -> str:
    """Return TPR: rejected share of multiple/noise/partial (their mean)."""
    rejected = [1 - keep[labels == kind].mean() for kind in (1, 2, 3)]
    return f"{keep[labels == 0].mean():.3f}: " + "/".join(f"{r:.3f}" for r in rejected) + f" ({np.mean(rejected):.3f})"


def area(score: NDArray[np.float32], labels: NDArray[np.int8], kind: int) -> float:
    """Return the probability that an inlier scores above an outlier of one kind."""
    inliers, outliers = score[labels == 0], score[labels == kind]
    ranks = np.argsort(np.argsort(np.concatenate([inliers, outliers])))
    return float((ranks[: len(inliers)].mean() - (len(inliers) - 1) / 2) / len(outliers))


def row(spec: Case, data: Path, seed: int) -> str:
    """Measure one stack."""
    images, labels, radius = make_case(spec, data, seed)
    kernel, published_radius = (10, 5) if spec.size == 33 else (16, 8)
    published = reference_verdicts(images, published_radius, kernel_px=kernel)["keep"]
    detector = fit_detector(images, radius, rng=np.random.default_rng(seed))
    columns = detector.evaluate(images)
    score, keep = columns["score"], columns["keep"]
    # The score's threshold that keeps as many inliers as the published rule: an oracle, for comparison only.
    kept_inliers = int(published[labels == 0].sum())
    threshold = np.sort(score[labels == 0])[::-1][max(kept_inliers - 1, 0)]
    fdr = detector.expected_fdr(columns)
    true_fdr = (labels[keep] != 0).mean() if keep.any() else float("nan")
    auc = "/".join(f"{area(score, labels, kind):.3f}" for kind in (1, 2, 3))
    name = f"**held out** {spec.name}" if spec.held_out else spec.name
    estimated = "-" if fdr is None else f"{fdr:.3f}"
    return (
        f"| {name} | {detector.summary.e0:.0f} | {rates(published, labels)} | {rates(score >= threshold, labels)} | "
        f"{rates(keep, labels)} | {estimated}/{true_fdr:.3f} | {auc} |"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cases", default="0-25", help="first-last, counted from 0")
    arguments = parser.parse_args()
    first, last = (int(part) for part in arguments.cases.split("-"))
    print(HEADER, flush=True)
    start = time.perf_counter()
    for spec in cases()[first : last + 1]:
        print(row(spec, arguments.data, arguments.seed), flush=True)
    print(f"{time.perf_counter() - start:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
