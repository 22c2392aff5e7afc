"""Noise spectra of a data set as refinements know them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class NoiseSpectra:
    """Power of the noise in the images of a refinement, by groups of particles.

    Attributes
    ----------
    variance : ndarray, shape (g, shells)
        Variance per pixel of white noise that had the power of this Fourier shell, in the units of the refined map's
        projections (sums along z over voxels); shell ``s`` lies at ``s / box_px`` cycles per pixel.
    group : ndarray of int, shape (n,)
        Row of ``variance`` that each particle belongs to.
    box_px : int
        Box of the images.
    pixel_size_angstrom : float
    notes : tuple of str
        Warnings gathered while reading.
    """

    variance: NDArray[np.float64]
    group: NDArray[np.int64]
    box_px: int
    pixel_size_angstrom: float
    notes: tuple[str, ...] = ()
