"""The Hessian of the profile likelihood: what images tell of a map whose poses adjust themselves.

With the residuals' mean, zero, it is the Fisher information after the poses are eliminated (Schur complement)::

    H = sum_j P_j^* (1 - Pi_j) P_j ,   Pi_j the projection onto the tangents of the pose of view j

so every slice of a change of the map is projected off what a change of its pose explains. Known poses leave
``H_FF = sum_j P_j^* P_j``. Source: docs/softmodes.md, equations 1 to 4.
"""

from __future__ import annotations

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from napari_pickbias.imaging.fourier import Complexes, Floats
from napari_pickbias.softmodes.metric import Convolution, corner_symbol, for_each, riesz_metric
from napari_pickbias.softmodes.residuals import pose_curvature, pull, push, push_of_view, recover_from
from napari_pickbias.softmodes.views import (
    Tangents,
    Views,
    gradient_volumes,
    normal_symbol,
    orthonormal_tangents,
    real_products,
    sample,
    slices_and_tangents,
    spread,
)

MOST_DENSE_BYTES = 1_100_000_000
"""Up to this size the couplings of map and poses are kept as a matrix, which is faster than transforms: 1024 views with
five unknowns at box 48."""


class Hessian:
    """Hessian of a volume, on the voxels of a support.

    Vectors are ``(N,)`` or ``(N, k)``, one value a voxel of the support. Nothing is divided by the number of images.

    Parameters
    ----------
    volume : ndarray, shape (n, n, n)
        Map whose images these would be; what lies outside the support counts too.
    views : Views
        From :func:`~napari_pickbias.softmodes.views.make_views`.
    support : ndarray of bool, shape (n, n, n)
        Voxels that may change.
    images : float
        Images that the views stand for: the weight of the neutral frequencies.
    shifts, contrast : bool
        Unknowns of a pose besides the rotation.
    dense : bool or None
        Keep couplings as a matrix; None decides by :data:`MOST_DENSE_BYTES`.
    coarsest_px : float or None
        Wavelengths above this count as known, as those beyond Nyquist do; None leaves them to the images.
    threads : int
        Columns, or views, worked at at a time; results do not depend on it.
    residuals : ndarray, shape (J, p), or None
        Filtered slices less the images, in the units of ``slices``: the Hessian of the very images then, not the
        expected one, at poses that suit them (:mod:`~napari_pickbias.softmodes.residuals`).

    Attributes
    ----------
    metric : Convolution
        Riesz metric ``W``.
    tangents : Tangents
        Of the poses; orthonormal without residuals.
    unsettled : ndarray of bool, shape (J,)
        Views whose pose is no minimum of the misfit of their image; their own blocks are the expected ones.
    """

    def __init__(
        self,
        volume: Floats,
        views: Views,
        support: NDArray[np.bool_],
        *,
        images: float,
        shifts: bool = True,
        contrast: bool = False,
        dense: bool | None = None,
        coarsest_px: float | None = None,
        threads: int = 1,
        residuals: Complexes | None = None,
    ) -> None:
        self.volume, self.views, self.support, self.images = np.asarray(volume, np.float64), views, support, images
        self.shifts, self.contrast, self.threads = shifts, contrast, threads
        self.slices, raw = slices_and_tangents(self.volume, views, shifts=shifts, contrast=contrast)
        self.residuals = None if residuals is None else np.asarray(residuals, np.complex128)
        self.tangents, self.unsettled = self._tangents(raw)
        self.metric = riesz_metric(support, threads)
        symbol = normal_symbol(views) + images * corner_symbol(views.size, coarsest_px)
        self._known = Convolution(symbol, support, threads)
        count, unknowns = raw.shape[:2]
        size = 4 * int(support.sum()) * count * unknowns
        self._couplings = self._coupling_matrix() if (size <= MOST_DENSE_BYTES if dense is None else dense) else None

    def known_pose(self, vectors: Floats) -> NDArray[np.float64]:
        """Apply ``H_FF``: the Hessian if all poses were known."""
        return self._known(vectors)

    def __call__(self, vectors: Floats) -> NDArray[np.float64]:
        """Apply the Hessian of the profile likelihood."""
        columns = np.asarray(vectors, np.float64).reshape(len(vectors), -1)
        if self._couplings is not None:
            explained = self._couplings @ (self._couplings.T @ columns.astype(self._couplings.dtype))
        else:
            explained = np.empty_like(columns)

            def explain(index: int) -> None:
                part = self.components(columns[:, index])
                explained[:, index] = self._back(np.einsum("kjq,jqp->kjp", part, self.tangents.basis))[:, 0]
                if self.residuals is not None:
                    steps = np.einsum("jab,jb->ja", self.tangents.recover, part[0])
                    pushed = push(steps, self.views, self.residuals, shifts=self.shifts, contrast=self.contrast)
                    explained[:, index] += pushed[self.support]

            for_each(explain, columns.shape[1], self.threads)
        return (self._known(columns) - explained).reshape(np.shape(vectors))

    def embed(self, vectors: Floats) -> NDArray[np.float64]:
        """Return ``(N, k)`` vectors as ``(k, n, n, n)`` volumes."""
        columns = np.asarray(vectors, np.float64).reshape(len(vectors), -1)
        volumes = np.zeros((columns.shape[1], *self.support.shape))
        volumes[:, self.support] = columns.T
        return volumes

    def slices_of(self, vectors: Floats) -> NDArray[np.complex128]:
        """Return the filtered slices of ``(N, k)`` vectors, ``(k, J, p)``."""
        return np.asarray(sample(self.embed(vectors), self.views.points) * self.views.filters)

    def components(self, vectors: Floats) -> NDArray[np.float64]:
        """Return how much of each slice the pose explains: ``(N, k)`` vectors to ``(k, J, q)``."""
        slices = self.slices_of(vectors)
        found = real_products(slices.transpose(1, 0, 2), self.tangents.basis).transpose(1, 0, 2)
        if self.residuals is not None:
            pulled = pull(self.embed(vectors), self.views, self.residuals, shifts=self.shifts, contrast=self.contrast)
            found = found + np.einsum("jab,kja->kjb", self.tangents.recover, pulled)
        return found

    def pose_change(self, vectors: Floats) -> NDArray[np.float64]:
        """Return the poses that follow a change of the map, to first order: ``-H_tt^-1 H_tF v``, ``(k, J, q)``.

        Rotation vectors in the image's frame in radians, then shifts in pixels, then the contrast.
        """
        return -np.einsum("jab,kjb->kja", self.tangents.recover, self.components(vectors))

    def pose_covariance(self) -> NDArray[np.float64]:
        """Return ``H_tt^-1`` of each view, ``(J, q, q)``; times ``sigma^2`` it is the covariance of its pose."""
        return np.asarray(self.tangents.recover @ self.tangents.recover.transpose(0, 2, 1))

    def _tangents(self, raw: Complexes) -> tuple[Tangents, NDArray[np.bool_]]:
        if self.residuals is None:
            return orthonormal_tangents(raw), np.zeros(len(raw), bool)
        curvature = pose_curvature(self.volume, self.views, self.residuals, shifts=self.shifts, contrast=self.contrast)
        recover, unsettled = recover_from(curvature, raw)
        self.residuals[unsettled] = 0
        return Tangents(np.einsum("jab,jap->jbp", recover, raw), recover), unsettled

    def _back(self, slices: NDArray[np.complex128]) -> NDArray[np.float64]:
        volumes = spread(slices * self.views.filters, self.views.points, self.views.size)
        return np.ascontiguousarray(volumes[:, self.support].T)

    def _coupling_matrix(self) -> NDArray[np.float32]:
        """Return ``P^* Q``, ``(N, J q)``: one small transform for each view."""
        count, unknowns, _ = self.tangents.basis.shape
        matrix = np.empty((count * unknowns, int(self.support.sum())), np.float32)
        points = self.views.points

        def fill(view: int) -> None:
            values = (self.tangents.basis[view] * self.views.filters[view]).astype(np.complex64)
            volumes = spread(values, points[:, view], self.views.size)
            if self.residuals is not None:
                pushed = push_of_view(
                    view, self.views, points, self.residuals, shifts=self.shifts, contrast=self.contrast
                )
                volumes = volumes + np.tensordot(self.tangents.recover[view].T, pushed, 1)
            matrix[view * unknowns : (view + 1) * unknowns] = volumes[:, self.support]

        for_each(fill, count, self.threads)
        return matrix.T


def rigid_generators(volume: Floats, support: NDArray[np.bool_], *, shifts: bool = True) -> NDArray[np.float64]:
    """Return the changes of a map under rotations and, with ``shifts``, translations: ``(N, 3 or 6)``, unit columns.

    ``-(w x x) . grad V`` and ``-grad V``, the gradient by Fourier transform.
    """
    size = volume.shape[0]
    spectrum = scipy.fft.fftn(np.asarray(volume, np.float64), workers=1)
    frequency = 2 * np.pi * np.fft.fftfreq(size)
    if size % 2 == 0:
        frequency[size // 2] = 0
    shapes = ((1, 1, -1), (1, -1, 1), (-1, 1, 1))
    slopes = [scipy.fft.ifftn(1j * frequency.reshape(shape) * spectrum, workers=1).real for shape in shapes]
    # i x V is conj of the gradient volumes' factor: the coordinates themselves
    x, y, z = (gradient_volumes(np.ones(volume.shape))[axis].imag * -1 for axis in range(3))
    dx, dy, dz = slopes
    columns = [-(y * dz - z * dy), -(z * dx - x * dz), -(x * dy - y * dx)]
    if shifts:
        columns += [-dx, -dy, -dz]
    matrix = np.stack([column[support] for column in columns], axis=1)
    return np.asarray(matrix / np.linalg.norm(matrix, axis=0).clip(min=np.finfo(float).tiny))
