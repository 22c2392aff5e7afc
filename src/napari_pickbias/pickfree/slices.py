"""Projections of one small volume along many fixed rotations, and their exact adjoint, planned once."""

from __future__ import annotations

import finufft
import numpy as np
import scipy.fft
from numpy.typing import NDArray

from napari_pickbias.imaging.fourier import hermitian_weights, shift_factors
from napari_pickbias.imaging.projection import slice_points

ACCURACY = 1e-5


class Slices:
    """What :func:`~napari_pickbias.imaging.projection.project` does, for rotations that stay the same.

    A class, because planning (sorting of the points) takes as long as a projection, and an iteration needs dozens.

    Parameters
    ----------
    rotations : ndarray, shape (K, 3, 3)
        Active rotations.
    size : int
        Side ``L`` of the volume and of the images.
    accuracy : float
        Relative accuracy of the slices.
    """

    def __init__(self, rotations: NDArray[np.float64], size: int, accuracy: float = ACCURACY) -> None:
        points, self.disc = slice_points(rotations, size)
        self.size, self.count = size, len(rotations)
        self._flat = [np.ascontiguousarray(axis.ravel(), np.float32) for axis in points[::-1]]
        self._plans = {kind: self._plan(kind, accuracy) for kind in (1, 2)}
        origin = np.full((1, 2), float(size // 2))
        rows, columns = shift_factors(origin, size)
        self._phase = (rows[0] * columns[0]).astype(np.complex64)
        weights = np.broadcast_to(hermitian_weights(size), self.disc.shape)[self.disc] / size**2
        self._weights = (weights * self._phase[self.disc].conj()).astype(np.complex64)

    def _plan(self, kind: int, accuracy: float) -> finufft.Plan:
        plan = finufft.Plan(
            kind, (self.size,) * 3, eps=accuracy, isign=-1 if kind == 2 else 1, dtype="complex64", nthreads=1,
            showwarn=0, upsampfac=1.25,
        )  # fmt: skip
        plan.setpts(*self._flat)
        return plan

    def project(self, volume: NDArray[np.float32], ctf: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        """Return the ``(K, L, L)`` projections; ``ctf``, ``(L, L // 2 + 1)``, multiplies their Fourier transforms."""
        values = np.asarray(self._plans[2].execute(volume.astype(np.complex64))).reshape(self.count, -1)
        factor = self._phase[self.disc]
        if ctf is not None:
            factor = factor * ctf[self.disc]
        spectrum = np.zeros((self.count, *self.disc.shape), np.complex64)
        spectrum[:, self.disc] = values * factor
        return np.asarray(scipy.fft.irfft2(spectrum, s=(self.size,) * 2, workers=1, overwrite_x=True), np.float32)

    def backproject(self, images: NDArray[np.float32], ctf: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        """Return the adjoint of :meth:`project`, ``(L, L, L)``, summed over the rotations."""
        factor = self._weights
        if ctf is not None:
            factor = factor * ctf[self.disc]
        spectrum = np.asarray(scipy.fft.rfft2(np.asarray(images, np.float32), workers=1))[:, self.disc]
        spectrum *= factor
        strengths = np.ascontiguousarray(spectrum.ravel(), np.complex64)
        return np.ascontiguousarray(np.asarray(self._plans[1].execute(strengths)).real, np.float32)
