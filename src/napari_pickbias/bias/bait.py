"""Baited maps: a part is left out of the templates, and the density that comes back there is compared.

Omega of B. A. Lucas, B. A. Himes and N. Grigorieff, eLife 12:e90486 (2023), as their program cisTEM defines it
(``measure_template_bias``): picks are made with the whole template F and with the baited one O, ``D = F - O``, ``S`` is
where ``D`` exceeds a tenth of the mean of its 100 largest values, and
``Omega = (sum_S R_F - sum_S R_O) / sum_S R_F`` of the two maps: 0 where nothing in S is there only because the template
had it, 1 where all is. The interval, and the same figure on noise, are not in the paper.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_pickbias.imaging.fourier import Floats

SHARE = 0.15
"""Of the mass, left out where no mask is given."""
EDGE_PX = 2.0
DRAWS = 1000


class Omega(NamedTuple):
    """A share and its 95 % bootstrap interval; NaN where it cannot be given."""

    value: float
    low: float
    high: float


class Bait(NamedTuple):
    """Omega of the picks beside that of noise, and how much of the omitted part came back with the baited template."""

    omega: Omega
    noise_omega: Omega
    returned: Omega
    """Mean density over the omitted part over that of the rest, baited templates."""
    noise_returned: Omega


def omitted_part(volume: Floats, group: Floats, share: float = SHARE, *, threshold: float = 0.2) -> NDArray[np.float64]:
    """Return a soft mask, 1 where density is to be left out: a ball at the periphery, and its symmetry mates.

    Parameters
    ----------
    volume : ndarray, shape (n, n, n)
        Density, bright.
    group : ndarray, shape (s, 3, 3)
        Rotations of its point group.
    share : float
        Of the mass above ``threshold`` times the maximum.

    Returns
    -------
    ndarray, shape (n, n, n)
    """
    size = np.array(volume.shape)
    density = np.where(volume > threshold * volume.max(), volume, 0).astype(np.float64)
    z, y, x = np.nonzero(density)
    mass = density[z, y, x]
    places = np.column_stack([x, y, z]) - (size[::-1] // 2)
    distance = np.linalg.norm(places - (mass @ places) / mass.sum(), axis=1)
    order = np.argsort(distance)
    rim = order[np.searchsorted(np.cumsum(mass[order]), 0.98 * mass.sum())]
    mates = np.asarray(group, np.float64) @ places[rim]
    nearest = np.min(np.linalg.norm(places[None] - mates[:, None], axis=2), axis=0)
    near = np.argsort(nearest)
    radius = nearest[near][np.searchsorted(np.cumsum(mass[near]), share * mass.sum())]
    grids = np.meshgrid(*(np.arange(n) - n // 2 for n in size), indexing="ij")
    every = np.stack(grids[::-1], axis=-1).astype(np.float64)
    away = np.full(volume.shape, np.inf)
    for mate in mates:
        np.minimum(away, np.linalg.norm(every - mate, axis=-1), out=away)
    return np.asarray(0.5 + 0.5 * np.cos(np.pi * np.clip((away - radius) / EDGE_PX + 0.5, 0, 1)))


def support(difference: Floats) -> NDArray[np.bool_]:
    """Return where a density exceeds a tenth of the mean of its 100 largest values."""
    top = np.sort(np.asarray(difference).ravel())[-100:]
    return np.asarray(difference > 0.1 * top.mean())


def omega(full: Floats, baited: Floats, rng: np.random.Generator, *, draws: int = DRAWS) -> Omega:
    """Return Omega from sums of density over the omitted part.

    Parameters
    ----------
    full, baited : ndarray, shape (g,)
        Share of each group of picks in ``sum_S R_F`` and ``sum_S R_O``; they add up to these.
    rng : numpy.random.Generator
        Groups of both are drawn with replacement, apart from each other: that they share particles only makes the
        interval wider than it need be.
    """
    one, two = (np.asarray(values, np.float64) for values in (full, baited))
    value = float(1 - two.sum() / one.sum()) if one.sum() > 0 else float("nan")
    a = one[rng.integers(0, len(one), (draws, len(one)))].sum(axis=1)
    b = two[rng.integers(0, len(two), (draws, len(two)))].sum(axis=1)
    return _interval(value, 1 - b[a > 0] / a[a > 0], draws)


def returned(omitted: Floats, rest: Floats, rng: np.random.Generator, *, draws: int = DRAWS) -> Omega:
    """Return the mean density over the omitted part over that of the rest; groups as in :func:`omega`, drawn alike."""
    one, two = (np.asarray(values, np.float64) for values in (omitted, rest))
    value = float(one.sum() / two.sum()) if two.sum() > 0 else float("nan")
    drawn = rng.integers(0, len(one), (draws, len(one)))
    a, b = one[drawn].sum(axis=1), two[drawn].sum(axis=1)
    return _interval(value, a[b > 0] / b[b > 0], draws)


def _interval(value: float, drawn: NDArray[np.float64], draws: int) -> Omega:
    # a denominator that is often not positive has no meaning
    if not np.isfinite(value) or len(drawn) < 0.95 * draws:
        return Omega(float("nan"), float("nan"), float("nan"))
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Omega(value, float(low), float(high))
