"""What template picking keeps of its template on the same data: the comparison that the null is shown with."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from napari_pickbias.pickfree.chain import Model, Options, State
from napari_pickbias.pickfree.expectation import expectation
from napari_pickbias.pickfree.maximisation import Normal, own_prior, pixel_weights, solve_map
from napari_pickbias.pickfree.tables import build_tables

Array32 = NDArray[np.float32]
REACH = 2
"""Pixels by which a pick may still move along each axis."""


def pick_boxes(micrograph: Array32, templates: Array32, count: int) -> Array32:
    """Cut out the best peaks of a normalised cross-correlation with templates.

    Parameters
    ----------
    micrograph : ndarray, shape (h, w)
        White noise, background 0.
    templates : ndarray, shape (K, L, L)
        Projections.
    count : int
        Boxes wanted; at most one within a box's side of another.

    Returns
    -------
    ndarray, shape (n, L, L)
        Centred on the peaks.
    """
    size = templates.shape[1]
    shape = (micrograph.shape[0], micrograph.shape[1])
    spectrum = scipy.fft.rfft2(micrograph, workers=1)
    best = np.full(shape, -np.inf, np.float32)
    for template in templates:
        norm = float(np.linalg.norm(template))
        if norm > 0:
            kernel = scipy.fft.rfft2(template / norm, shape, workers=1)
            np.maximum(best, scipy.fft.irfft2(spectrum * kernel.conj(), shape, workers=1), out=best)
    # corners of boxes, so only those that lie within
    best = best[: shape[0] - size + 1, : shape[1] - size + 1]
    boxes = []
    for place in np.argsort(-best, axis=None):
        y, x = divmod(int(place), best.shape[1])
        if not np.isfinite(best[y, x]):
            continue
        boxes.append(micrograph[y : y + size, x : x + size])
        best[max(0, y - size + 1) : y + size, max(0, x - size + 1) : x + size] = -np.inf
        if len(boxes) == count:
            break
    return np.array(boxes, np.float32).reshape(-1, size, size)


def refine_picks(boxes: Array32, model: Model, state: State, options: Options, iterations: int) -> list[float]:
    """Refine the map on picks, small shifts and no empty class, and return its norm after each iteration.

    Parameters
    ----------
    boxes : ndarray, shape (n, L, L)
    model : Model
        Its first group's CTF holds for all.
    state : State
        With the template.
    options : Options
    iterations : int
    """
    size = model.size
    side = 2 * size - 1
    moves = np.abs(np.arange(side) - (size - 1)) > REACH
    forbidden = (moves[:, None] | moves[None, :]).ravel()
    volume, norms = state.volume, []
    whole = replace(model, group=np.zeros(len(boxes), np.int64))
    ctf = model.ctfs[0]
    for _ in range(iterations):
        tables = build_tables(whole.fine.project(volume, ctf), whole.levels, state.noise_variance, weights=state.views)
        tables.coarse_energy[forbidden] = 1e9
        tables.spread[forbidden] = 0
        found = expectation(
            boxes, np.arange(len(boxes)), tables, whole.levels, 1e-12, log_tau=options.log_tau, threads=options.threads
        )
        right = whole.fine.backproject(found.sums, ctf)
        part = Normal(whole.coarse, pixel_weights(found.weights, size), ctf)
        volume = solve_map([part], right, own_prior(volume), state.noise_variance, volume)
        norms.append(float(np.linalg.norm(volume.astype(np.float64))))
    return norms
