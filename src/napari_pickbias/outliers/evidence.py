"""From filter outputs to the evidence of each hypothesis, image by image (the numba kernel and its tables)."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from napari_pickbias.outliers.operators import Operators, ParticleModel

FloatArray = NDArray[np.float64]

WIDE_SHARE = 0.05
"""Share of the wide null of the second amplitude (residual model error must not look like a particle)."""
WIDE_SD = 0.15
"""Its standard deviation, in units of the first amplitude."""
CLOSEST = 0.9
"""Closest second particle that is looked for, in units of R."""
KAPPA_BIN = 0.25
"""Width of the distance bins of kappa, in units of R."""

KEEP, NOISE, OFF, TWO = 0, 1, 2, 3
"""Hypotheses: one central particle, none, one off-centre particle, two particles."""


class Tables(NamedTuple):
    """All that the kernel needs besides the filter outputs; n centres, c of them in the core, K columns each."""

    energy: FloatArray  # (n,)
    offset: FloatArray  # (c, K)
    constant: FloatArray  # (c,)
    first_row: FloatArray  # (c, K)
    cross_core: NDArray[np.float32]  # (c, n, K)
    cross: NDArray[np.float32]  # (n, n)
    residual_energy: FloatArray  # (n, n): e2[t1, t], 0 where a second particle is not looked for
    kappa: FloatArray  # (n, n)
    log_centre: FloatArray  # (c,): log g(t), -inf outside its reach
    outside: NDArray[np.bool_]  # (n,): rho > r_in
    rho: FloatArray  # (n,)
    centres: FloatArray  # (n, 2)
    neighbours: NDArray[np.int64]  # (n, 4): grid neighbours -y, +y, -x, +x, or -1
    log_prior: FloatArray  # (4,)
    s2: float  # amplitude variance


class Evidence(NamedTuple):
    """Kernel results for m images."""

    log_joint: FloatArray  # (m, 4): log prior_j E_j
    log_likelihood: NDArray[np.float32]  # (m, n)
    first: NDArray[np.int64]  # (m,): likeliest centre
    first_amplitude: FloatArray  # (m,)
    centre: FloatArray  # (m, 2): refined between the grid points
    offset: FloatArray  # (m,): posterior mean distance from the box centre
    second: NDArray[np.int64]  # (m,): likeliest second centre, -1 where none is possible
    second_amplitude: FloatArray  # (m,)
    second_z: NDArray[np.float32]  # (m, n): b2 / sqrt(e2), NaN where not looked for


def kappa_bins(geometry_radius_px: float, centres: FloatArray) -> NDArray[np.int64]:
    """Return the (n, n) distance bins of centre pairs."""
    distance = np.linalg.norm(centres[:, None] - centres[None], axis=2)
    return np.asarray(np.floor(distance / (KAPPA_BIN * geometry_radius_px) + 1e-9).astype(np.int64))


def make_tables(operators: Operators, model: ParticleModel) -> Tables:
    """Gather the kernel's tables for fitted operators and a particle model."""
    geometry = operators.geometry
    centres, rho, c = geometry.centres, geometry.centre_radius, geometry.n_core
    energy = operators.energy
    distance = np.linalg.norm(centres[:, None] - centres[None], axis=2)
    residual = np.empty((len(energy), len(energy)))
    residual[:c] = energy - (operators.cross_core.astype(np.float64) ** 2).sum(axis=2)
    residual[c:] = energy - operators.cross[c:].astype(np.float64) ** 2
    residual = np.maximum(residual, 1e-3 * energy)
    residual[distance < CLOSEST * geometry.radius_px - 1e-9] = 0.0
    bins = np.minimum(kappa_bins(geometry.radius_px, centres), len(model.kappa) - 1)
    weight = np.where(rho[:c] <= geometry.core_px, -0.5 * (rho[:c] / model.centre_sd) ** 2, -np.inf)
    log_centre = weight - np.log(np.exp(weight).sum())
    step = np.min(distance[distance > 0])
    index = {(round(y / step), round(x / step)): k for k, (y, x) in enumerate(centres)}
    neighbours = np.full((len(centres), 4), -1, np.int64)
    for (iy, ix), k in index.items():
        around = ((iy - 1, ix), (iy + 1, ix), (iy, ix - 1), (iy, ix + 1))
        neighbours[k] = [index.get(p, -1) for p in around]
    outside = rho > geometry.inner_px
    return Tables(
        energy,
        operators.offset,
        operators.constant,
        operators.first_row,
        operators.cross_core,
        operators.cross,
        residual,
        model.kappa[bins],
        log_centre,
        outside,
        rho,
        centres,
        neighbours,
        np.log(np.maximum(model.prior, 1e-6)),
        model.amplitude_sd**2,
    )


@njit(cache=True, nogil=True)
def _log_sum(values: FloatArray, count: int) -> float:
    """Return log sum exp of the first ``count`` values."""
    top = -np.inf
    for k in range(count):
        top = max(top, values[k])
    if top == -np.inf:
        return top
    total = 0.0
    for k in range(count):
        if values[k] > top - 40.0:
            total += math.exp(values[k] - top)
    return top + math.log(total)


@njit(cache=True, nogil=True)
def _likelihoods(b, tab, logl, coeff):
    """Fill log L(t) against noise and the whitened coefficients of the core centres."""
    n, (c, K) = len(tab.energy), tab.offset.shape
    for t in range(n):
        e = tab.energy[t]
        if t < c:
            q = 0.0
            for k in range(K):
                value = b[n + t * K + k] + tab.offset[t, k]
                coeff[t, k] = value
                q += value * value
            if b[t] > 0:
                logl[t] = 0.5 * q - tab.constant[t]
                continue
        v = 1.0 / e
        s = v + tab.s2
        a = b[t] * v
        if a < 0:
            logl[t] = min(0.5 * (math.log(v / s) + a * a / v - (a - 1.0) ** 2 / s), -0.5 / s)
        else:
            logl[t] = 0.5 * (math.log(v / s) + a * a / v - (a - 1.0) ** 2 / s)


@njit(cache=True, nogil=True)
def _second(b, tab, t1, coeff, work, z):
    """Evidence of a second particle given a first one at t1: log E_two/E_one, a1, likeliest t2, a2."""
    n, (c, K) = len(tab.energy), tab.offset.shape
    core = t1 < c and b[t1] > 0
    if core:
        a1 = 0.0
        for k in range(K):
            a1 += tab.first_row[t1, k] * coeff[t1, k]
        whitened = 0.0
    else:
        precision = tab.energy[t1] + 1.0 / tab.s2
        whitened = (b[t1] + 1.0 / tab.s2) / math.sqrt(precision)
        a1 = whitened / math.sqrt(precision)
    best, t2, a2_best, count = -np.inf, -1, 0.0, 0
    for t in range(n):
        e2 = tab.residual_energy[t1, t]
        if e2 <= 0.0:
            z[t] = np.nan
            continue
        if core:
            b2 = 0.0
            for k in range(K):
                b2 += tab.cross_core[t1, t, k] * coeff[t1, k]
            b2 = b[t] - b2
        else:
            b2 = b[t] - tab.cross[t1, t] * whitened
            e2 = max(tab.energy[t] - tab.cross[t1, t] ** 2, 1e-3 * tab.energy[t])
        a2 = b2 / e2
        z[t] = b2 / math.sqrt(e2)
        v = (1.0 + tab.kappa[t1, t] * a1 * a1) / e2
        s = v + tab.s2
        w = v + (WIDE_SD * a1) ** 2
        up = 0.5 * a2 * a2 * (1.0 / v - 1.0 / w)
        wide = WIDE_SHARE * math.sqrt(v / w)
        null = up + math.log(wide) if up > 60.0 else math.log((1.0 - WIDE_SHARE) + wide * math.exp(up))
        llr = 0.5 * (math.log(v / s) + a2 * a2 / v - (a2 - 1.0) ** 2 / s) - null
        work[count] = llr
        count += 1
        if llr > best:
            best, t2, a2_best = llr, t, a2
    total = _log_sum(work, count) - math.log(2.0 * n) if count else -np.inf
    return total, a1, t2, a2_best


@njit(cache=True, nogil=True)
def _refine(tab, logl, t):
    """Return the particle centre between grid points: a parabola along each axis."""
    place = np.empty(2)
    for axis in range(2):
        low, high = tab.neighbours[t, 2 * axis], tab.neighbours[t, 2 * axis + 1]
        place[axis] = tab.centres[t, axis]
        if low >= 0 and high >= 0:
            bend = logl[low] - 2 * logl[t] + logl[high]
            if bend < 0:
                move = 0.5 * (logl[low] - logl[high]) / bend
                step = 0.5 * (tab.centres[high, axis] - tab.centres[low, axis])
                place[axis] += min(max(move, -0.5), 0.5) * step
    return place


@njit(cache=True, nogil=True)
def _judge(B, tab, log_joint, loglik, first, first_amp, centre, offset, second, second_amp, second_z):
    """Fill the evidence of every image; ``loglik`` and ``second_z`` may have one row only (scratch)."""
    n, (c, K) = len(tab.energy), tab.offset.shape
    logl, coeff = np.empty(n), np.empty((c, K))
    work, z = np.empty(n), np.empty(n)
    keep_all = loglik.shape[0] == B.shape[0]
    n_out = 0
    for t in range(n):
        n_out += tab.outside[t]
    for i in range(B.shape[0]):
        b = B[i]
        _likelihoods(b, tab, logl, coeff)
        t1 = 0
        for t in range(n):
            if logl[t] > logl[t1]:
                t1 = t
        for t in range(c):
            work[t] = logl[t] + tab.log_centre[t]
        keep = _log_sum(work, c)
        count = 0
        for t in range(n):
            if tab.outside[t]:
                work[count] = logl[t]
                count += 1
        off = _log_sum(work, count) - math.log(n_out)
        top = logl[t1]
        mean_rho, mass = 0.0, 0.0
        for t in range(n):
            if logl[t] > top - 40.0:
                weight = 0.0
                if t < c:
                    weight += math.exp(tab.log_prior[KEEP] + tab.log_centre[t])
                if tab.outside[t]:
                    weight += math.exp(tab.log_prior[OFF]) / n_out
                weight *= math.exp(logl[t] - top)
                mean_rho += weight * tab.rho[t]
                mass += weight
        two, a1, t2, a2 = _second(b, tab, t1, coeff, work, z)
        single = max(keep, off) + math.log1p(math.exp(-abs(keep - off)))
        log_joint[i, KEEP] = tab.log_prior[KEEP] + keep
        log_joint[i, NOISE] = tab.log_prior[NOISE]
        log_joint[i, OFF] = tab.log_prior[OFF] + off
        log_joint[i, TWO] = tab.log_prior[TWO] + single + two
        first[i], first_amp[i] = t1, a1
        centre[i] = _refine(tab, logl, t1)
        offset[i] = mean_rho / mass
        second[i], second_amp[i] = t2, a2
        if keep_all:
            loglik[i] = logl
            second_z[i] = z


def judge(outputs: NDArray[np.float32], tables: Tables, *, details: bool = False) -> Evidence:
    """Turn filter outputs into evidence.

    Parameters
    ----------
    outputs : (m, n + c*K) float32 array
        ``images @ operators.filters``.
    tables : Tables
    details : bool
        Also return the log-likelihood and the second-particle z of every centre (else those have no rows).
    """
    m, n = len(outputs), len(tables.energy)
    rows = m if details else 0
    out = Evidence(
        np.empty((m, 4)),
        np.empty((rows, n), np.float32),
        np.empty(m, np.int64),
        np.empty(m),
        np.empty((m, 2)),
        np.empty(m),
        np.empty(m, np.int64),
        np.empty(m),
        np.empty((rows, n), np.float32),
    )
    if m:
        _judge(outputs, tables, *out)
    return out
