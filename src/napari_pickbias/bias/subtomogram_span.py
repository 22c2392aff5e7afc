"""The bank span in three dimensions: what a search of tomograms can have put into sub-tomograms, and its removal.

The same regression as :mod:`napari_pickbias.bias.span`, on cubes: the span of the map at all orientations of the bank
and all shifts within reach, the tomogram's three-dimensional noise spectrum (missing wedge included), patches of the
whitened tomogram. A low-passed map fills few dimensions, so that the span stays small enough for boxes up to 24 voxels.
"""

from __future__ import annotations

import numpy as np
import scipy.fft
import scipy.linalg
from numpy.typing import NDArray

from napari_pickbias.bias.span import KEPT_EIGENVALUE, PINV_RCOND
from napari_pickbias.imaging.fourier import Floats, frequency_axes, hermitian_weights, radial_frequency, shell_numbers
from napari_pickbias.imaging.volumes import distance_grid, resize_box
from napari_pickbias.matching.volume_bank import VolumeBank
from napari_pickbias.matching.volume_noise import refined

LARGEST_BOX = 24
"""Beyond this the span's matrix takes minutes and gigabytes."""
MOST_ORIENTATIONS = 240
"""Of the bank, evenly chosen: between them the span of a low-passed map is full."""
ROWS = 32
"""Volumes transformed at a time."""


def volume_span(
    bank: VolumeBank, reach: float, *, step: float, keep: float = KEPT_EIGENVALUE, most: int = MOST_ORIENTATIONS
) -> NDArray[np.float64]:
    """Return an orthonormal basis of a bank's templates at all shifts within reach, cut to the ball in their box.

    Parameters
    ----------
    bank : VolumeBank
    reach : float
        Largest shift, voxels.
    step : float
        Spacing of the shifts, voxels.
    keep : float
        Share of the largest eigenvalue below which a direction is left out.
    most : int
        Orientations taken.

    Returns
    -------
    ndarray, shape (k, b ** 3)
        Rows are orthonormal and zero outside the ball.

    Raises
    ------
    ValueError
        When the box is larger than ``LARGEST_BOX``.
    """
    box = bank.box_px
    if box > LARGEST_BOX:
        raise ValueError(f"the span of a box of {box} voxels is out of reach; {LARGEST_BOX} is the largest")
    inside = span_ball(box).ravel()
    count = int(reach / step)
    axis = np.arange(-count, count + 1) * step
    shifts = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
    shifts = shifts[np.linalg.norm(shifts, axis=1) <= reach + 1e-9]
    grid = scipy.fft.next_fast_len(box + 2 * int(np.ceil(reach)) + 2, real=True)
    moves = [shift_factor(shift, grid) for shift in shifts]
    rows = np.unique(np.linspace(0, len(bank) - 1, min(most, len(bank))).round().astype(int))
    moment = np.zeros((int(inside.sum()),) * 2, np.float32)
    for number in rows.tolist():
        spectrum = scipy.fft.rfftn(resize_box(bank.template(number), grid), workers=1)
        for first in range(0, len(moves), ROWS):
            part = spectrum * np.stack(moves[first : first + ROWS])
            moved = resize_box(scipy.fft.irfftn(part, s=(grid,) * 3, workers=1), box)
            flat = moved.reshape(len(moved), -1)[:, inside]
            moment += flat.T @ flat
    values, vectors = scipy.linalg.eigh(moment, check_finite=False, overwrite_a=True)
    chosen = vectors[:, values > keep * values[-1]][:, ::-1]
    basis = np.zeros((chosen.shape[1], box**3))
    basis[:, inside] = chosen.T
    return basis


def span_ball(box: int) -> NDArray[np.bool_]:
    """Return the ball that the span is cut to: 1 voxel inside the box."""
    return distance_grid(box) <= (box - 1) / 2 - 0.5


def shift_factor(shift_px: Floats, size: int) -> NDArray[np.complex64]:
    """Return the phase factor, on the half-spectrum of a cube, that moves its content by ``(z, y, x)`` voxels."""
    axes = frequency_axes((size,) * 3)
    factor = np.ones((1, 1, 1), np.complex128)
    for frequency, move in zip(axes, shift_px, strict=True):
        phase = np.exp(-2j * np.pi * frequency * move)
        # the Nyquist frequency has both signs: real, so that the cube stays real
        phase = np.where(np.isclose(np.abs(frequency), 0.5), phase.real, phase)
        factor = factor * phase
    return np.asarray(factor, np.complex64)


def volume_whitening(
    power: Floats, shape: tuple[int, int, int], voxel_size: float, *, finest: float, coarsest: float
) -> NDArray[np.float64]:
    """Return ``P ** -0.5`` of the radial mean of a tomogram's spectrum, cut to a band, on the grid of ``shape``.

    Parameters
    ----------
    power : ndarray, shape (t, t, t // 2 + 1)
        From :func:`napari_pickbias.matching.volume_noise.volume_power`. Frequencies that no tilt has seen lower the
        mean of their shell; they are not amplified.
    shape : (d, h, w)
    voxel_size : float
        Å.
    finest, coarsest : float
        Band in Å, with raised-cosine edges of a fifth of their place.
    """
    tile = power.shape[0]
    numbers = np.minimum(shell_numbers((tile,) * 3), tile // 2)
    weights = np.broadcast_to(hermitian_weights(tile), numbers.shape)
    sums = np.bincount(numbers.ravel(), (weights * power).ravel())
    radial = sums / np.bincount(numbers.ravel(), weights.ravel())
    radial[:2] = radial[2]
    amplitude = np.interp(radial_frequency(shape) * tile, np.arange(len(radial)), 1 / np.sqrt(np.maximum(radial, 1e-9)))
    place = radial_frequency(shape, voxel_size)
    return np.asarray(amplitude * _edge(place * finest) * (1 - _edge(place * coarsest)))


def _edge(relative: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a raised-cosine fall from 1 to 0 between 0.9 and 1.1."""
    return np.asarray(0.5 + 0.5 * np.cos(np.pi * np.clip((relative - 0.9) / 0.2, 0, 1)))


class VolumeRemoval:
    """The regression of whitened sub-tomograms on a span, for one noise spectrum.

    Parameters
    ----------
    basis : ndarray, shape (k, b ** 3)
        From :func:`volume_span`.
    power : ndarray, shape (t, t, t // 2 + 1)
        Of the noise.
    whitening : ndarray, on the half-spectrum of a cube of side ``n``
        From :func:`volume_whitening`; ``n`` at least the box and some correlation lengths.

    Attributes
    ----------
    basis : ndarray, shape (k, b ** 3), float32
        Coefficients of a plain sub-tomogram ``z`` are ``basis @ z``.
    gain : ndarray, shape (k, b ** 3), float32
        What these coefficients bring into the whitened one.
    """

    def __init__(self, basis: NDArray[np.float64], power: Floats, whitening: Floats) -> None:
        box, size = round(len(basis[0]) ** (1 / 3)), whitening.shape[0]
        grid = refined(power, (size,) * 3)
        coloured, crossed = np.empty(basis.shape), np.empty(basis.shape)
        for first in range(0, len(basis), ROWS):
            rows = resize_box(basis[first : first + ROWS].reshape(-1, box, box, box), size)
            spectra = scipy.fft.rfftn(rows, axes=(1, 2, 3), workers=1) * grid
            for target, factor in ((coloured, None), (crossed, whitening)):
                part = spectra if factor is None else spectra * factor
                cut = resize_box(scipy.fft.irfftn(part, s=(size,) * 3, axes=(1, 2, 3), workers=1), box)
                target[first : first + ROWS] = cut.reshape(len(cut), -1)
        inverse = np.linalg.pinv(basis @ coloured.T, rcond=PINV_RCOND, hermitian=True)
        self.basis = basis.astype(np.float32)
        self.gain = (inverse @ crossed).astype(np.float32)

    def apply(self, whitened: Floats, plain: Floats) -> NDArray[np.float32]:
        """Return whitened sub-tomograms without their part in the span; both ``(m, b, b, b)``."""
        flat = np.asarray(plain, np.float32).reshape(len(plain), -1)
        part = (flat @ self.basis.T) @ self.gain
        return np.asarray(np.asarray(whitened, np.float32) - part.reshape(whitened.shape))
