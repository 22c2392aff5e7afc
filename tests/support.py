"""Data and helpers that tests of several rooms share."""

from __future__ import annotations

import numpy as np


def blob_stack(
    inliers: int, each: int, box: int = 33, radius: float = 9.0, signal: float = 1.2, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Particles that every detector must be able to judge: soft discs in white noise of standard deviation 1.

    Returns images ``(n, box, box)`` float32 and labels (0 inlier, 1 multiple, 2 noise, 3 partial), kinds one after
    another. ``signal`` is the disc's height.
    """
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:box, :box] - box // 2

    def disc(dy: float, dx: float) -> np.ndarray:
        return 1 / (1 + np.exp((np.hypot(y - dy, x - dx) - 0.75 * radius) / 0.8))

    clean, labels = [], []
    for label, count in ((0, inliers), (1, each), (2, each), (3, each)):
        for _ in range(count):
            angle = rng.uniform(0, 2 * np.pi)
            along = np.array([np.sin(angle), np.cos(angle)])
            if label == 0:
                image = disc(*rng.normal(0, 1.2, 2))
            elif label == 1:
                image = disc(*rng.normal(0, 0.8, 2)) + disc(*(1.4 * radius * along))
            elif label == 2:
                image = np.zeros((box, box))
            else:
                image = disc(*(rng.uniform(1.45, 1.7) * radius * along))
            clean.append(signal * image)
            labels.append(label)
    images = np.array(clean) + rng.normal(size=(len(clean), box, box))
    return images.astype(np.float32), np.array(labels, dtype=np.int8)
