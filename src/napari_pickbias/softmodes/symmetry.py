"""Point groups: soft modes among the changes that keep a map's symmetry, as a symmetric refinement does."""

from __future__ import annotations

import numpy as np
import scipy.fft
import scipy.sparse
from numpy.typing import NDArray

from napari_pickbias.imaging.fourier import Floats
from napari_pickbias.softmodes.hessian import Hessian
from napari_pickbias.softmodes.views import sample, spread

BROKEN = 2.0
"""Eigenvalue given to what breaks the symmetry, beyond any that is looked for."""


class Symmetriser:
    """Mean of a volume over the rotations of a point group, and its adjoint, on the voxels of a support.

    Groups whose rotations permute the voxels (2- and 4-folds along the axes) are exact; others go through Fourier
    space below Nyquist.

    Parameters
    ----------
    rotations : ndarray, shape (m, 3, 3)
        The whole group, about the centre of the box (voxel ``n // 2``).
    support : ndarray of bool, shape (n, n, n)
    """

    def __init__(self, rotations: Floats, support: NDArray[np.bool_]) -> None:
        self.rotations, self.support = np.asarray(rotations, np.float64), support
        whole = np.rint(self.rotations)
        self._matrix = _permutations(whole, support) if np.allclose(self.rotations, whole, atol=1e-6) else None
        size = support.shape[0]
        axis = 2 * np.pi * np.fft.fftfreq(size)
        z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
        self._band = x**2 + y**2 + z**2 < np.pi**2
        grid = np.stack([x, y, z])[:, self._band]
        self._points = np.einsum("mab,bp->amp", self.rotations, grid)
        self._phase = np.exp(1j * (size // 2) * grid.sum(axis=0))

    def __call__(self, vectors: Floats) -> NDArray[np.float64]:
        """Symmetrise ``(N,)`` or ``(N, k)`` vectors."""
        if self._matrix is not None:
            return np.asarray(self._matrix @ vectors)
        columns = np.asarray(vectors, np.float64).reshape(len(vectors), -1)
        result = np.empty_like(columns)
        for index, column in enumerate(columns.T):
            volume = np.zeros(self.support.shape)
            volume[self.support] = column
            spectrum = np.zeros(self.support.shape, np.complex128)
            # the transform counts positions from the middle voxel, the FFT from the first
            spectrum[self._band] = sample(volume[None], self._points)[0].mean(axis=0) / self._phase
            result[:, index] = scipy.fft.ifftn(spectrum, workers=1).real[self.support]
        return result.reshape(np.shape(vectors))

    def adjoint(self, vectors: Floats) -> NDArray[np.float64]:
        """Apply the adjoint, which is the same but for rounding and the edge of the band."""
        if self._matrix is not None:
            return np.asarray(self._matrix.T @ vectors)
        size = self.support.shape[0]
        columns = np.asarray(vectors, np.float64).reshape(len(vectors), -1)
        result = np.empty_like(columns)
        for index, column in enumerate(columns.T):
            volume = np.zeros(self.support.shape)
            volume[self.support] = column
            values = scipy.fft.fftn(volume, workers=1)[self._band] * self._phase / size**3 / len(self.rotations)
            turned = np.broadcast_to(values, self._points.shape[1:])
            result[:, index] = spread(turned[None].astype(np.complex128), self._points, size)[0][self.support]
        return result.reshape(np.shape(vectors))


def _permutations(rotations: NDArray[np.float64], support: NDArray[np.bool_]) -> scipy.sparse.csr_array:
    """Return the mean over permutations of voxels; a voxel turned out of the support counts as zero."""
    size, count = support.shape[0], int(support.sum())
    number = np.full(support.shape, -1)
    number[support] = np.arange(count)
    places = np.argwhere(support)[:, ::-1] - size // 2
    total = scipy.sparse.csr_array((count, count))
    for rotation in rotations:
        turned = (places @ rotation.T).astype(np.int64) + size // 2
        inside = ((turned >= 0) & (turned < size)).all(axis=1)
        target = np.full(count, -1)
        target[inside] = number[tuple(turned[inside, ::-1].T)]
        rows = np.flatnonzero(target >= 0)
        part = scipy.sparse.coo_array((np.ones(len(rows)), (rows, target[rows])), shape=(count, count))
        total = total + part.tocsr()
    return scipy.sparse.csr_array(total / len(rotations))


class SymmetricHessian:
    """A Hessian restricted to symmetric changes; what breaks the symmetry is made stiff (:data:`BROKEN`).

    ``S^T H S + BROKEN * J (1 - S)^T W (1 - S)``, with the interface that the solvers use. Views need no expansion: a
    symmetric change looks the same from all views that the group makes equal.
    """

    def __init__(self, hessian: Hessian, symmetrise: Symmetriser) -> None:
        self.plain, self.symmetrise = hessian, symmetrise
        self.support, self.metric, self.images = hessian.support, hessian.metric, hessian.images

    def __call__(self, vectors: Floats) -> NDArray[np.float64]:
        """Apply it to ``(N,)`` or ``(N, k)`` vectors."""
        even = self.symmetrise(vectors)
        odd = self.metric(np.asarray(vectors) - even)
        return np.asarray(
            self.symmetrise.adjoint(self.plain(even)) + BROKEN * self.images * (odd - self.symmetrise.adjoint(odd))
        )
