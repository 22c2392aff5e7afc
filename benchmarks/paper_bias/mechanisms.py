"""The paper's experiments on the law of picked noise, without scanning any: bias against threshold, picks and size.

python benchmarks/paper_bias/mechanisms.py

Prints three tables: the correlation of class averages with their templates against the threshold (Fig. 4a), against the
number of picks and the size of the patch (finite samples), and for three mechanisms that make structure from noise
(Fig. 9): picking, aligning to a reference ("Einstein from noise"), and starting a classification from the templates.
"""

from __future__ import annotations

import numpy as np

from napari_pickbias.bias.mixture import assign, correlations, fit_mixture
from napari_pickbias.bias.theory import inverse_mills, needed_picks, predicted_correlation, sample_picked

CLASSES = 5


def templates(dimension: int, rng: np.random.Generator) -> np.ndarray:
    return np.linalg.qr(rng.standard_normal((dimension, CLASSES)))[0].T


def labelled(patches: np.ndarray, x: np.ndarray) -> float:
    label = (patches @ x.T).argmax(axis=1)
    means = np.stack([patches[label == k].mean(axis=0) for k in range(len(x))])
    return float(np.diag(correlations(means, x)).mean())


def against_threshold(rng: np.random.Generator) -> None:
    print("threshold, labelled averages, unlabelled classes, predicted (d 225, 20,000 picks)")
    x = templates(225, rng)
    for level in (0.5, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0):
        patches = sample_picked(x, level, 20_000, rng)
        found = float(assign(fit_mixture(patches, CLASSES, rng, starts=2).means, x)[1].mean())
        expected = float(predicted_correlation(inverse_mills(level), 225, 4000))
        print(f"{level:g}, {labelled(patches, x):.3f}, {found:.3f}, {expected:.3f}")


def against_size(rng: np.random.Generator) -> None:
    print("d, picks, labelled averages, predicted, unlabelled classes, picks needed by these (T 4)")
    for dimension in (225, 1024):
        x = templates(dimension, rng)
        for picks in (250, 1000, 4000):
            patches = sample_picked(x, 4.0, picks, rng)
            expected = float(predicted_correlation(inverse_mills(4.0), dimension, picks / CLASSES))
            found = float(assign(fit_mixture(patches, CLASSES, rng, starts=3).means, x)[1].mean())
            needed = needed_picks(4.0, dimension, CLASSES)
            print(f"{dimension}, {picks}, {labelled(patches, x):.3f}, {expected:.3f}, {found:.3f}, {needed:.0f}")


def mechanisms(rng: np.random.Generator) -> None:
    print("mechanism, picks, correlation with the templates (d 225)")
    x = templates(225, rng)
    for picks in (1000, 10_000):
        noise = rng.standard_normal((picks, 225))
        picked = sample_picked(x, 4.0, picks, rng)
        found = fit_mixture(picked, CLASSES, rng)
        print(f"picking at T 4, then random start, {picks}, {assign(found.means, x)[1].mean():.3f}")
        print(f"all noise sorted by its best template, {picks}, {labelled(noise, x):.3f}")
        started = fit_mixture(noise, CLASSES, rng, initial=x, iterations=20)
        print(f"classification started from the templates, {picks}, {assign(started.means, x)[1].mean():.3f}")
        free = fit_mixture(noise, CLASSES, rng, starts=2)
        print(f"classification from a random start (control), {picks}, {assign(free.means, x)[1].mean():.3f}")


def main() -> None:
    rng = np.random.default_rng(0)
    against_threshold(rng)
    against_size(rng)
    mechanisms(rng)


if __name__ == "__main__":
    main()
