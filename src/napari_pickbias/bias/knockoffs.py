"""Knockoffs: templates that noise cannot tell from the real ones, and the threshold their competition gives.

Every candidate goes to the bank that scores higher there, the real one or the knockoff's. In noise both win equally
often at every height, so that candidates won by knockoffs count the false ones won by templates, without any surrogate
and without a model of the noise's strength. Source of the rule: Barber and Candes, "Controlling the false discovery
rate via knockoffs", 2015 (the ``+`` version); of the competition of peaks: as target and decoy in mass spectrometry.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from napari_pickbias.bias.averages import turning_matrix
from napari_pickbias.imaging.fourier import Floats
from napari_pickbias.matching.bank import TemplateBank


class Selection(NamedTuple):
    """What a knockoff rule takes."""

    threshold: float
    """Lowest score; infinity where no threshold keeps the rate."""

    taken: int
    """Candidates of the real templates from there on."""

    knockoffs: int
    """Candidates of the knockoffs from there on."""

    rate: float
    """``(1 + knockoffs) / taken``: the estimate of the false share; NaN where nothing is taken."""


def inverted_bank(bank: TemplateBank) -> TemplateBank:
    """Return the templates with inverted contrast.

    The law of their scores on noise is exactly that of the real ones for every noise that is as likely as its inverse
    (all Gaussian noise). On micrographs dark fringes around particles win for them: too many false picks are counted,
    never too few.
    """
    return TemplateBank(-bank.images, bank.mask, bank.view, bank.euler_deg, bank.pixel_size_angstrom)


def scrambled_bank(bank: TemplateBank, rng: np.random.Generator) -> TemplateBank:
    """Return templates of the same power spectrum with random phases, one drawing a view, turned as the view is.

    For comparison: each has the scores' law of the real one on noise that is alike in all directions, but its turned
    copies are less alike than those of a molecule, so that the highest of them wins too often.
    """
    box = bank.box_px
    images = np.empty(bank.images.shape)
    for view in np.unique(bank.view):
        rows = np.flatnonzero(bank.view == view)
        first = rows[np.argmin(np.abs((bank.euler_deg[rows, 2] + 180) % 360 - 180))]
        spectrum = scipy.fft.rfft2(bank.images[first].astype(np.float64), workers=1)
        phases = scipy.fft.rfft2(rng.standard_normal((box, box)), workers=1)
        other = scipy.fft.irfft2(spectrum * phases / np.maximum(np.abs(phases), 1e-12), s=(box, box), workers=1)
        for row in rows:
            turn = turning_matrix(box, -float(bank.euler_deg[row, 2] - bank.euler_deg[first, 2]))
            images[row] = (turn @ other.ravel()).reshape(box, box)
    return TemplateBank.from_images(
        images, bank.mask, view=bank.view, euler_deg=bank.euler_deg, pixel_size_angstrom=bank.pixel_size_angstrom
    )


def compete(
    real: NDArray[np.void], knockoff: NDArray[np.void], distance: float
) -> tuple[NDArray[np.void], NDArray[np.void]]:
    """Let peaks of two banks compete: of two nearer than a distance the lower one goes.

    Parameters
    ----------
    real, knockoff : ndarray of (y, x, score, template)
        Peaks of each bank on one micrograph, down to scores that noise reaches everywhere.
    distance : float
        Pixels.

    Returns
    -------
    real, knockoff : ndarrays of (y, x, score, template)
        The winners of each, highest first.
    """
    every = np.concatenate([real, knockoff])
    if not len(every):
        return real, knockoff
    order = np.argsort(-every["score"], kind="stable")
    places = np.column_stack([every["y"], every["x"]])[order].astype(np.float64)
    near = cKDTree(places).query_ball_point(places, distance * (1 - 1e-9))
    alive = np.ones(len(every), np.bool_)
    for rank, neighbours in enumerate(near):
        if alive[rank]:
            lower = [other for other in neighbours if other > rank]
            alive[lower] = False
    kept = order[alive]
    is_real = kept < len(real)
    return every[kept[is_real]], every[kept[~is_real]]


def knockoff_threshold(real: Floats, knockoff: Floats, rate: float) -> Selection:
    """Return the lowest threshold at which the knockoffs' estimate of the false share stays at or below a rate.

    ``min {t : (1 + #{knockoffs >= t}) / max(1, #{real >= t}) <= q}``. Where each false candidate is as likely won by
    either bank, independently of the others, the expected false share of what is taken is at most the rate.

    Parameters
    ----------
    real, knockoff : ndarray
        Scores of the winners, over all micrographs.
    rate : float
        Wanted, 0 to 1.
    """
    ours, theirs = np.sort(np.asarray(real, np.float64)), np.sort(np.asarray(knockoff, np.float64))
    if not len(ours):
        return Selection(float("inf"), 0, 0, float("nan"))
    taken = len(ours) - np.searchsorted(ours, ours, "left")
    lost = len(theirs) - np.searchsorted(theirs, ours, "left")
    good = (1 + lost) / taken <= rate
    if not good.any():
        return Selection(float("inf"), 0, 0, float("nan"))
    first = int(np.argmax(good))
    return Selection(float(ours[first]), int(taken[first]), int(lost[first]), float((1 + lost[first]) / taken[first]))
