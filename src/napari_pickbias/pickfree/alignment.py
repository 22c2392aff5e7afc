"""Bringing one map onto another: rotation, shift and hand. EM leaves all three open."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.fft
import scipy.optimize
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates, spline_filter
from scipy.spatial.transform import Rotation

from napari_pickbias.imaging.fourier import fourier_resample_volume
from napari_pickbias.imaging.rotations import super_fibonacci_rotations

COARSE_SIDE = 13
"""The search over all rotations is done on maps of at most this side."""


class Alignment(NamedTuple):
    """How a map was laid onto another."""

    volume: NDArray[np.float32]
    """The map, moved."""

    rotation: NDArray[np.float64]
    """``(3, 3)`` active rotation, after the mirror."""

    shift: NDArray[np.float64]
    """``(3,)`` x, y, z voxels, after the rotation."""

    mirrored: bool
    correlation: float
    """Of all voxels, after."""


def _moved(
    coefficients: NDArray[np.float64], rotation: NDArray[np.float64], shift: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return a map, given by its cubic spline coefficients, turned, then shifted by x, y, z; zeros come in."""
    size = coefficients.shape[0]
    offsets = np.arange(size) - size // 2
    z, y, x = np.meshgrid(offsets, offsets, offsets, indexing="ij")
    places = np.stack([x.ravel(), y.ravel(), z.ravel()]) - shift[:, None]
    # the value at r comes from R^T r
    source = rotation.T @ places + size // 2
    values = map_coordinates(coefficients, source[::-1], order=3, prefilter=False, mode="constant")
    return np.asarray(values, np.float64).reshape(coefficients.shape)


def _correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    return float(np.vdot(a, b)) / max(float(np.linalg.norm(a) * np.linalg.norm(b)), 1e-30)


def align(
    volume: NDArray[np.floating], reference: NDArray[np.floating], *, rotations: int = 1152, both_hands: bool = True
) -> Alignment:
    """Return ``volume`` moved onto ``reference``.

    Parameters
    ----------
    volume, reference : ndarray, shape (L, L, L)
    rotations : int
        Size of the grid searched before the refinement.
    both_hands : bool
        Try the mirror image too: projections do not tell the hand.

    Notes
    -----
    All rotations of a grid with the best shift of each (by FFT) on small copies; then the best five by Powell's method
    in six parameters at full size.
    """
    source, target = np.asarray(volume, np.float64), np.asarray(reference, np.float64)
    size = source.shape[0]
    small = min(size, COARSE_SIDE)
    thin_target = fourier_resample_volume(target, small)
    padded = 2 * small
    conjugate = scipy.fft.rfftn(thin_target, (padded,) * 3, workers=1).conj()
    grid = super_fibonacci_rotations(rotations)
    candidates: list[tuple[float, bool, int, NDArray[np.float64]]] = []
    none = np.zeros(3)
    for mirrored in (False, True) if both_hands else (False,):
        # the hand: x -> -x about the origin voxel
        thin = spline_filter(fourier_resample_volume(_mirror(source) if mirrored else source, small))
        for number, rotation in enumerate(grid):
            moved = _moved(thin, rotation, none)
            product = scipy.fft.rfftn(moved, (padded,) * 3, workers=1).conj() * conjugate.conj()
            scores = scipy.fft.irfftn(product, (padded,) * 3, workers=1)
            best = int(scores.argmax())
            norm = max(float(np.linalg.norm(moved)), 1e-30)
            place = np.array(np.unravel_index(best, scores.shape), np.float64)
            place -= padded * (place > padded / 2)
            candidates.append((float(scores.flat[best]) / norm, mirrored, number, place[::-1] * (size / small)))
    candidates.sort(key=lambda item: -item[0])
    best_fit: Alignment | None = None
    for _, mirrored, number, shift in candidates[:5]:
        fit = _refine(source, target, grid[number], shift, mirrored)
        if best_fit is None or fit.correlation > best_fit.correlation:
            best_fit = fit
    assert best_fit is not None
    return best_fit


def refined(volume: NDArray[np.floating], reference: NDArray[np.floating]) -> Alignment:
    """Return ``volume`` moved onto ``reference`` by the few degrees and fractions of a voxel that chains drift apart.

    A search near the identity alone: on maps of noise a search over everything would make an FSC of its own.
    """
    return _refine(
        np.asarray(volume, np.float64), np.asarray(reference, np.float64), np.eye(3), np.zeros(3), mirrored=False
    )


def _mirror(volume: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mirror image, x to -x about voxel ``n // 2``."""
    flipped = volume[:, :, ::-1]
    return flipped if volume.shape[2] % 2 else np.roll(flipped, 1, axis=2)


def _refine(
    source: NDArray[np.float64],
    target: NDArray[np.float64],
    rotation: NDArray[np.float64],
    shift: NDArray[np.float64],
    mirrored: bool,
) -> Alignment:
    coefficients = spline_filter(_mirror(source) if mirrored else source)

    def turned(parameters: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(Rotation.from_rotvec(parameters[:3]).as_matrix() @ rotation)

    def cost(parameters: NDArray[np.float64]) -> float:
        return -_correlation(_moved(coefficients, turned(parameters), shift + 2 * parameters[3:]), target)

    fit = scipy.optimize.minimize(
        cost, np.zeros(6), method="Powell", options={"xtol": 1e-3, "ftol": 1e-5, "maxiter": 6}
    )
    final, place = turned(fit.x), shift + 2 * fit.x[3:]
    moved = _moved(coefficients, final, place)
    return Alignment(moved.astype(np.float32), final, place, mirrored, _correlation(moved, target))
