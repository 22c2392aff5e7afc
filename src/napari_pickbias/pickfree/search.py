"""The E-step of one patch after another: best-first search over rotations, and sparse sums for the M-step.

No posterior mass is ever thrown away: cells of the coarse grid that are not refined keep their own score, and what is
too small to be added one by one is sampled systematically, which leaves the sums unbiased.
"""

from __future__ import annotations

import math

import numba
import numpy as np
from numpy.typing import NDArray

MOST_CELLS = 8192
"""Cells refined for one patch, at most; the others keep their coarse score."""
GONE = np.float32(-1e30)
"""Score of a cell that was refined: its rotations stand for it."""
_LOG2E = np.float32(1.4426950408889634)


@numba.njit(cache=True, nogil=True)
def _sum(a: NDArray[np.float32]) -> np.float32:  # pragma: no cover
    s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = np.float32(0.0)
    whole = a.size - a.size % 8
    for i in range(0, whole, 8):
        s0 += a[i]
        s1 += a[i + 1]
        s2 += a[i + 2]
        s3 += a[i + 3]
        s4 += a[i + 4]
        s5 += a[i + 5]
        s6 += a[i + 6]
        s7 += a[i + 7]
    for i in range(whole, a.size):
        s0 += a[i]
    return ((s0 + s4) + (s1 + s5)) + ((s2 + s6) + (s3 + s7))


@numba.njit(cache=True, nogil=True)
def exp_of_row(
    values: NDArray[np.float32], shift: np.float32, bits: NDArray[np.int32], out: NDArray[np.float32]
) -> np.float32:  # pragma: no cover
    """Fill ``out`` with ``exp(values - shift)``, values at most ``shift``, and return the sum; 4e-6 relative.

    Two to the whole part goes straight into the float's exponent, the rest is a polynomial: the loop vectorises.
    """
    for i in range(values.size):
        t = max((values[i] - shift) * _LOG2E, np.float32(-126.0))
        whole = np.floor(t + np.float32(0.5))
        f = t - whole
        bits[i] = (np.int32(whole) + np.int32(127)) << np.int32(23)
        p = np.float32(0.0013333558) * f + np.float32(0.009618129)
        p = p * f + np.float32(0.05550411)
        p = p * f + np.float32(0.24022651)
        p = p * f + np.float32(0.6931472)
        out[i] = p * f + np.float32(1.0)
    powers = bits.view(np.float32)
    for i in range(values.size):
        out[i] *= powers[i]
    return _sum(out[: values.size])


@numba.njit(cache=True, nogil=True)
def correlate(
    patch: NDArray[np.float32], basis: NDArray[np.float32], windows: NDArray[np.float32], out: NDArray[np.float32]
) -> None:  # pragma: no cover
    """Fill ``out``, ``((2L-1)^2, r)``, with the correlations of a ``(L, L)`` patch with shifted, cut basis images.

    For each vertical shift one matrix product over the rows that overlap; ``windows`` is ``(2L-1, L^2)`` scratch.
    """
    size = patch.shape[0]
    side = 2 * size - 1
    for ly in range(side):
        dy = ly - (size - 1)
        top, bottom = max(0, -dy), min(size, size - dy)
        rows = bottom - top
        part = windows.ravel()[: side * rows * size].reshape(side, rows * size)
        for lx in range(side):
            dx = lx - (size - 1)
            left, right = max(0, -dx), min(size, size - dx)
            for y in range(rows):
                for x in range(left):
                    part[lx, y * size + x] = 0.0
                for x in range(left, right):
                    part[lx, y * size + x] = patch[top + y + dy, x + dx]
                for x in range(right, size):
                    part[lx, y * size + x] = 0.0
        np.dot(part, basis[top * size : bottom * size], out[ly * side : (ly + 1) * side])


@numba.njit(cache=True, nogil=True)
def add_shifted(
    patch: NDArray[np.float32], shift: int, weight: float, image: NDArray[np.float32]
) -> None:  # pragma: no cover
    """Add ``weight`` times the patch, moved back by ``shift`` (an index) into the particle's box, to ``image``."""
    size = patch.shape[0]
    side = 2 * size - 1
    dy, dx = shift // side - (size - 1), shift % side - (size - 1)
    left, right = max(0, -dx), min(size, size - dx)
    for y in range(max(0, -dy), min(size, size - dy)):
        for x in range(left, right):
            image[y, x] += weight * patch[y + dy, x + dx]


@numba.njit(cache=True, nogil=True)
def _dot(a: NDArray[np.float32], b: NDArray[np.float32]) -> np.float32:  # pragma: no cover
    # Eight sums side by side vectorise. Letting the compiler reorder one sum ("fastmath") would do so too, but then
    # code just compiled and the same code from the cache differ in the last bit, and so does a resumed run.
    s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = np.float32(0.0)
    whole = a.size - a.size % 8
    for i in range(0, whole, 8):
        s0 += a[i] * b[i]
        s1 += a[i + 1] * b[i + 1]
        s2 += a[i + 2] * b[i + 2]
        s3 += a[i + 3] * b[i + 3]
        s4 += a[i + 4] * b[i + 4]
        s5 += a[i + 5] * b[i + 5]
        s6 += a[i + 6] * b[i + 6]
        s7 += a[i + 7] * b[i + 7]
    for i in range(whole, a.size):
        s0 += a[i] * b[i]
    return ((s0 + s4) + (s1 + s5)) + ((s2 + s6) + (s3 + s7))


@numba.njit(cache=True, nogil=True)
def largest(values: NDArray[np.float32], one: NDArray[np.int32]) -> np.float32:  # pragma: no cover
    """Return the maximum of floats that are no NaN; ``one`` is scratch of one number.

    A maximum of floats does not vectorise, one of integers does; with the bits of negative numbers flipped, floats are
    ordered as their bits.
    """
    bits = values.view(np.int32)
    best = np.int32(-2147483648)
    for i in range(bits.size):
        best = max(best, bits[i] ^ ((bits[i] >> np.int32(31)) & np.int32(2147483647)))
    one[0] = best ^ ((best >> np.int32(31)) & np.int32(2147483647))
    return np.float32(one.view(np.float32)[0])


@numba.njit(cache=True, nogil=True)
def _combine(
    a: NDArray[np.float32], b: NDArray[np.float32], sign: np.float32, out: NDArray[np.float32]
) -> None:  # pragma: no cover
    for i in range(a.size):
        out[i] = a[i] + sign * b[i]


@numba.njit(cache=True, nogil=True)
def _more_mass(
    score: float, top: float, mass: float, row_mass: NDArray[np.float64]
) -> tuple[float, float]:  # pragma: no cover
    """Return reference and mass, relative to it, once a score has joined; ``row_mass`` keeps to the reference."""
    if score - top > 50:
        factor = math.exp(top - score)
        mass *= factor
        for k in range(row_mass.size):
            row_mass[k] *= factor
        top = score
    return top, mass + math.exp(score - top)


@numba.njit(cache=True, nogil=True)
def search_patches(
    patches: NDArray[np.float32],
    void: NDArray[np.float64],
    offset: NDArray[np.float64],
    log_even: float,
    basis: NDArray[np.float32],
    fine: NDArray[np.float32],
    fine_energy: NDArray[np.float32],
    coarse: NDArray[np.float32],
    coarse_energy: NDArray[np.float32],
    spread: NDArray[np.float32],
    middle: NDArray[np.float32],
    middle_energy: NDArray[np.float32],
    middle_spread: NDArray[np.float32],
    start: NDArray[np.int64],
    middle_of_cell: NDArray[np.int64],
    middle_start: NDArray[np.int64],
    log_weight: NDArray[np.float64],
    log_tau: float,
    samples: int,
    sums: NDArray[np.float32],
    weights: NDArray[np.float32],
    found: NDArray[np.float64],
) -> None:  # pragma: no cover
    """Do the E-step of some patches and add to the sums of the M-step.

    Parameters
    ----------
    patches : ndarray, shape (B, L, L)
        Background 0.
    void : ndarray, shape (B,)
        Log of prior times likelihood ratio of all classes that are not the particle; the empty class has ratio 1.
    offset : ndarray, shape (B,)
        In 0 ... 1, where systematic sampling starts for each patch.
    log_even : float
        Log prior probability of one coarse rotation at one shift.
    basis ... middle_spread
        Of :class:`~napari_pickbias.pickfree.tables.Tables`.
    start, middle_of_cell, middle_start : ndarray
        Of :class:`~napari_pickbias.pickfree.rotation_levels.RotationLevels`.
    log_weight : ndarray, shape (K0,)
        Log of each cell's prior over an even share, already within ``coarse_energy``.
    log_tau : float
        A cell is refined if its best rotation may hold more than this log share of the posterior.
    samples : int
        Sampled mass comes in pieces of one over this.
    sums : ndarray, shape (K1, L, L)
        Added to: probability times the patch, moved back into the box.
    weights : ndarray, shape (K0, n_s)
        Added to: probability.
    found : ndarray, shape (B, 4)
        Filled: log-likelihood over that of noise alone, probability of ``void``, mean score of the particle classes,
        number of cells refined.
    """
    size, rank = patches.shape[1], basis.shape[1]
    few, cells = coarse.shape
    side = 2 * size - 1
    shifts = side * side
    windows = np.empty((side, size * size), np.float32)
    x = np.empty((shifts, rank), np.float32)
    x_few = np.empty((shifts, few), np.float32)
    scores = np.empty((shifts, cells), np.float32)
    row_best, row_hope = np.empty(shifts, np.float32), np.empty(shifts, np.float32)
    row_mass = np.empty(shifts, np.float64)
    bits, row = np.empty(cells, np.int32), np.empty(cells, np.float32)
    keys, places = np.empty(MOST_CELLS, np.float32), np.empty(MOST_CELLS, np.int64)
    most = MOST_CELLS * 4
    child, child_shift = np.empty(most, np.int32), np.empty(most, np.int32)
    child_cell, child_score = np.empty(most, np.int32), np.empty(most, np.float64)
    step, levels = 1.0 / samples, 3 if middle.shape[0] else 2
    one, row_spread = np.empty(1, np.int32), np.empty(shifts, np.float32)
    for at in range(shifts):
        row_spread[at] = largest(spread[at], one)
    for m in range(patches.shape[0]):
        patch = patches[m]
        correlate(patch, basis, windows, x)
        for at in range(shifts):
            for j in range(few):
                x_few[at, j] = x[at, j]
        top = void[m] - log_even
        for block in range(side):
            # one vertical shift at a time, which stays in the cache
            rows = slice(block * side, (block + 1) * side)
            np.dot(x_few[rows], coarse, scores[rows])
            for at in range(block * side, (block + 1) * side):
                _combine(scores[at], coarse_energy[at], np.float32(-1.0), scores[at])
                row_best[at] = largest(scores[at], one)
                row_hope[at] = row_best[at] + row_spread[at]
                top = max(top, np.float64(row_best[at]))
        mass = math.exp(void[m] - log_even - top)
        for at in range(shifts):
            row_mass[at] = 0.0
            if row_best[at] > top - 20:
                row_mass[at] = exp_of_row(scores[at], np.float32(top), bits, row)
            mass += row_mass[at]

        # Best first: the likeliest cell alone, then all that pass the bound that it sets.
        children, refined = 0, 0
        for turn in range(2):
            number = 0
            if turn == 0:
                likely = np.argmax(row_hope)
                _combine(scores[likely], spread[likely], np.float32(1.0), row)
                bound = largest(row, one)
                bound -= np.float32(1e-3) * abs(bound) + np.float32(1e-6)
            else:
                bound = np.float32(top + math.log(mass) + log_tau)
            for at in range(shifts):
                if row_hope[at] < bound:
                    continue
                _combine(scores[at], spread[at], np.float32(1.0), row)
                if largest(row, one) <= bound:
                    continue
                for w in range(cells):
                    key = row[w]
                    if key > bound and spread[at, w] > 0.05 and number < MOST_CELLS:
                        keys[number], places[number] = key, at * cells + w
                        number += 1
            order = np.argsort(-keys[:number])
            for i in range(number):
                key, at, w = keys[order[i]], places[order[i]] // cells, places[order[i]] % cells
                if turn == 0 and i > 7:
                    break
                if turn == 1 and key <= top + math.log(mass) + log_tau:
                    break
                first, last = start[w], start[w + 1]
                if children + last - first > most:
                    break
                gone = math.exp(scores[at, w] - top) if scores[at, w] > top - 20 else 0.0
                gone = min(gone, row_mass[at])
                row_mass[at] -= gone
                mass -= gone
                scores[at, w] = GONE
                refined += 1
                share = log_weight[w] - math.log(last - first)
                hope = top + math.log(max(mass, 1e-300)) + log_tau
                # with two levels each fine rotation is looked at, with three those of promising middle rotations
                groups = middle_of_cell[w + 1] - middle_of_cell[w] if levels == 3 else 1
                for g in range(groups):
                    one_first, one_last = first, last
                    if levels == 3:
                        j = middle_of_cell[w] + g
                        one_first, one_last = middle_start[j], middle_start[j + 1]
                        s = np.float64(_dot(middle[j], x[at])) - middle_energy[j, at] + share
                        s += math.log(one_last - one_first)
                        if middle_spread[j, at] <= 0.05 or s + middle_spread[j, at] <= hope:
                            child[children], child_shift[children] = -1 - j, at
                            child_cell[children], child_score[children] = w, s
                            children += 1
                            top, mass = _more_mass(s, top, mass, row_mass)
                            continue
                    for c in range(one_first, one_last):
                        s = np.float64(_dot(fine[c], x[at])) - fine_energy[c, at] + share
                        child[children], child_shift[children] = c, at
                        child_cell[children], child_score[children] = w, s
                        children += 1
                        top, mass = _more_mass(s, top, mass, row_mass)

        found[m, 0] = top + log_even + math.log(mass)
        found[m, 1] = math.exp(void[m] - log_even - top) / mass
        found[m, 3] = refined
        mean_score, done, goal, turn_of_child = 0.0, 0.0, offset[m] * step, 0
        for i in range(children):
            p = math.exp(child_score[i] - top) / mass
            w = child_cell[i]
            if p > step:
                piece = p
            else:
                done += p
                if done <= goal:
                    continue
                goal += step
                piece = step
            raw = child_score[i] - log_weight[w] + math.log(start[w + 1] - start[w])
            c = np.int64(child[i])
            if c < 0:
                # a middle rotation: its fine ones take turns
                j = -1 - c
                several = middle_start[j + 1] - middle_start[j]
                raw -= math.log(several)
                c = middle_start[j] + turn_of_child % several
                turn_of_child += 1
            mean_score += piece * raw
            add_shifted(patch, child_shift[i], piece, sums[c])
            weights[w, child_shift[i]] += np.float32(piece)
        for at in range(shifts):
            p = row_mass[at] / mass
            if done + p <= goal:
                done += p
                continue
            end = done + p
            exp_of_row(scores[at], np.float32(top), bits, row)
            for w in range(cells):
                if scores[at, w] <= top - 60:
                    continue
                done += row[w] / mass
                while done > goal:
                    goal += step
                    c = start[w] + turn_of_child % (start[w + 1] - start[w])
                    turn_of_child += 1
                    mean_score += step * (scores[at, w] - log_weight[w])
                    add_shifted(patch, at, step, sums[c])
                    weights[w, at] += np.float32(step)
            done = end
        found[m, 2] = mean_score
