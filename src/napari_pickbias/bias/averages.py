"""Class averages by matched template: patches at sub-pixel places, summed by template, turned back into their view."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from scipy.sparse import csr_array

from napari_pickbias.imaging.fourier import Floats, shift_images

MARGIN = 4
"""Pixels cut around a patch before it is shifted by less than one, so that nothing wraps into it."""


def cut_patches(image: Floats, positions: Floats, box: int) -> NDArray[np.float32]:
    """Cut patches at any position, by Fourier shifts.

    Parameters
    ----------
    image : ndarray, shape (h, w)
    positions : ndarray, shape (n, 2)
        y, x of the pixel that comes to ``box // 2``. Beyond the border the image is continued by its edge pixels.
    box : int

    Returns
    -------
    ndarray, shape (n, box, box), float32
    """
    places = np.asarray(positions, np.float64).reshape(-1, 2)
    wide = box + 2 * MARGIN
    whole = np.rint(places).astype(np.int64)
    start = whole - box // 2 - MARGIN
    span = np.arange(wide)
    rows = np.clip(start[:, 0, None] + span, 0, image.shape[0] - 1)
    columns = np.clip(start[:, 1, None] + span, 0, image.shape[1] - 1)
    found = np.empty((len(places), box, box), np.float32)
    for first in range(0, len(places), 512):
        part = slice(first, first + 512)
        patches = image[rows[part, :, None], columns[part, None, :]].astype(np.float32)
        moved = shift_images(patches, (whole - places)[part, ::-1])
        found[part] = moved[:, MARGIN:-MARGIN, MARGIN:-MARGIN]
    return found


def sum_by_label(patches: Floats, labels: NDArray[np.integer], count: int) -> NDArray[np.float64]:
    """Return the sum of the patches of each label 0 ... count - 1, ``(count, box, box)``; label -1 is left out."""
    sums = np.zeros((count, *patches.shape[1:]))
    order = np.argsort(labels, kind="stable")
    order = order[labels[order] >= 0]
    if not len(order):
        return sums
    ordered = labels[order]
    first = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    sums[ordered[first]] = np.add.reduceat(np.asarray(patches, np.float64)[order], first, axis=0)
    return sums


class Turns(NamedTuple):
    """How sums by template are turned back and added by view."""

    view: NDArray[np.int64]
    """``(L,)`` view of each template, 0 ... views - 1."""

    angle: NDArray[np.int64]
    """``(L,)`` index into ``matrices``."""

    matrices: list[csr_array]
    """``(box², box²)``: turn a flattened image back by one in-plane angle."""

    @property
    def views(self) -> int:
        """Number of views."""
        return int(self.view.max()) + 1


def make_turns(view: NDArray[np.integer], psi_deg: Floats, box: int) -> Turns:
    """Prepare the turning back of templates of given views and in-plane angles.

    Parameters
    ----------
    view : ndarray, shape (L,)
        Any numbers; renumbered from 0 in rising order.
    psi_deg : ndarray, shape (L,)
        RELION's psi.
    box : int
    """
    _, numbers = np.unique(view, return_inverse=True)
    angles, index = np.unique(np.round(np.asarray(psi_deg, np.float64) % 360, 4), return_inverse=True)
    return Turns(numbers.astype(np.int64), index.astype(np.int64), [turning_matrix(box, float(a)) for a in angles])


def turning_matrix(size: int, psi_deg: float) -> csr_array:
    """Return the matrix that takes a flattened image of in-plane angle ``psi_deg`` (RELION's) back to angle 0.

    Cubic convolution (R. G. Keys 1981); pixels that come from outside are 0.
    """
    middle = size // 2
    rows, columns = np.mgrid[:size, :size] - middle
    angle = np.radians(psi_deg)
    x = np.cos(angle) * columns + np.sin(angle) * rows + middle
    y = -np.sin(angle) * columns + np.cos(angle) * rows + middle
    x0, y0 = np.floor(x + 1e-9).astype(int), np.floor(y + 1e-9).astype(int)
    flat = np.arange(size * size).reshape(size, size)
    entries, places, targets = [], [], []
    for dy in range(-1, 3):
        for dx in range(-1, 3):
            weight = _keys(x - (x0 + dx)) * _keys(y - (y0 + dy))
            inside = (x0 + dx >= 0) & (x0 + dx < size) & (y0 + dy >= 0) & (y0 + dy < size) & (np.abs(weight) > 1e-12)
            entries.append(weight[inside])
            places.append(((y0 + dy) * size + x0 + dx)[inside])
            targets.append(flat[inside])
    indices = (np.concatenate(targets), np.concatenate(places))
    return csr_array((np.concatenate(entries), indices), shape=(size**2, size**2))


def _keys(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    d = np.abs(distance)
    inner = 1.5 * d**3 - 2.5 * d**2 + 1
    outer = -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2
    return np.where(d <= 1, inner, np.where(d < 2, outer, 0.0))


def turn_back(sums: Floats, turns: Turns) -> NDArray[np.float64]:
    """Turn sums by template back to in-plane angle 0 and add those of each view.

    Parameters
    ----------
    sums : ndarray, shape (L, box, box)

    Returns
    -------
    ndarray, shape (views, box, box)
    """
    box = sums.shape[-1]
    result = np.zeros((turns.views, box * box))
    for number, matrix in enumerate(turns.matrices):
        chosen = np.flatnonzero(turns.angle == number)
        flat = np.asarray(sums, np.float64)[chosen].reshape(len(chosen), -1)
        np.add.at(result, turns.view[chosen], (matrix @ flat.T).T)
    return result.reshape(-1, box, box)


def turned(patches: Floats, labels: NDArray[np.integer], turns: Turns) -> NDArray[np.float64]:
    """Turn every patch back by the in-plane angle of its template, ``(n, box, box)``."""
    box = patches.shape[-1]
    flat = np.asarray(patches, np.float64).reshape(len(patches), box * box)
    result = np.empty_like(flat)
    angle = turns.angle[labels]
    for number in np.unique(angle):
        chosen = np.flatnonzero(angle == number)
        result[chosen] = (turns.matrices[number] @ flat[chosen].T).T
    return result.reshape(-1, box, box)


def view_sums(
    patches: Floats, labels: NDArray[np.integer], half: NDArray[np.bool_], turns: Turns
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Sum patches by view, in two halves.

    Parameters
    ----------
    patches : ndarray, shape (n, box, box)
    labels : ndarray of int, shape (n,)
        Template of each patch.
    half : ndarray of bool, shape (n,)

    Returns
    -------
    sums : ndarray, shape (2, views, box, box)
    counts : ndarray, shape (2, views)
    """
    sums, counts = [], []
    for chosen in (~half, half):
        sums.append(turn_back(sum_by_label(patches[chosen], labels[chosen], len(turns.view)), turns))
        found = labels[chosen]
        counts.append(np.bincount(turns.view[found[found >= 0]], minlength=turns.views))
    return np.stack(sums), np.stack(counts)


def filter_images(images: Floats, half_spectrum: Floats, size: int) -> NDArray[np.float64]:
    """Filter small images on a grid of ``size`` px (no wrapping), and cut them to their own box again."""
    from napari_pickbias.imaging.volumes import resize_box

    box = images.shape[-1]
    spectra = scipy.fft.rfft2(resize_box(np.asarray(images, np.float64), size, 2), workers=1)
    return np.asarray(resize_box(scipy.fft.irfft2(spectra * half_spectrum, s=(size, size), workers=1), box, 2))
