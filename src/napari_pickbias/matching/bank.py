"""A bank of templates: zero mean and unit norm under one mask, ready for correlation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from napari_pickbias.errors import InputError
from napari_pickbias.imaging.fourier import band_filter
from napari_pickbias.imaging.projection import fourier_volume, project
from napari_pickbias.imaging.rotations import matrices_from_euler
from napari_pickbias.matching.views import view_grid


@dataclass(frozen=True)
class TemplateBank:
    """Templates and the mask they share.

    Attributes
    ----------
    images : ndarray, shape (L, b, b), float32
        Masked templates: sum 0, sum of squares 1 each. Origin at pixel ``b // 2``.
    mask : ndarray, shape (b, b), float32
        Weights from 0 to 1 of the pixels that count, invariant under in-plane rotation.
    view : ndarray, shape (L,)
        Number of the projection direction or class average, 0-based.
    euler_deg : ndarray, shape (L, 3)
        RELION's rot, tilt, psi of each template.
    pixel_size_angstrom : float or None
        Of the templates.
    """

    images: NDArray[np.float32]
    mask: NDArray[np.float32]
    view: NDArray[np.int32]
    euler_deg: NDArray[np.float64]
    pixel_size_angstrom: float | None = None

    def __len__(self) -> int:
        return len(self.images)

    @property
    def box_px(self) -> int:
        """Side of the templates."""
        return int(self.images.shape[-1])

    @classmethod
    def from_images(
        cls,
        images: NDArray[np.floating],
        mask: NDArray[np.floating] | None = None,
        *,
        view: NDArray[np.integer] | None = None,
        euler_deg: NDArray[np.floating] | None = None,
        pixel_size_angstrom: float | None = None,
    ) -> TemplateBank:
        """Make a bank from template images, particles bright.

        Parameters
        ----------
        images : ndarray, shape (L, b, b)
            Any scale and offset.
        mask : ndarray, shape (b, b), optional
            Default: a soft disc that touches the box.

        Raises
        ------
        InputError
            When a template is constant under the mask or holds NaN.
        """
        images = np.asarray(images, dtype=np.float64)
        if images.ndim != 3 or images.shape[1] != images.shape[2]:
            raise InputError(f"templates: have shape {images.shape}; give a stack of square images")
        count, box, _ = images.shape
        weights = soft_disc(box, box / 2 - 1.5) if mask is None else np.asarray(mask, dtype=np.float64)
        if weights.shape != (box, box):
            raise InputError(f"template mask: has shape {weights.shape}; it must be {box} x {box} as the templates")
        mean = (images * weights).sum(axis=(1, 2)) / weights.sum()
        centred = weights * (images - mean[:, None, None])
        norm = np.sqrt((centred**2).sum(axis=(1, 2)))
        scale = np.abs(images).max(axis=(1, 2)) * np.sqrt(weights.sum())
        bad = np.flatnonzero(~(norm > 1e-6 * scale))
        if len(bad):
            raise InputError(f"template {bad[0] + 1} of {count}: is constant or not finite under the mask; remove it")
        return cls(
            (centred / norm[:, None, None]).astype(np.float32),
            weights.astype(np.float32),
            np.arange(count, dtype=np.int32) if view is None else np.asarray(view, dtype=np.int32),
            np.zeros((count, 3)) if euler_deg is None else np.asarray(euler_deg, dtype=np.float64),
            pixel_size_angstrom,
        )

    @classmethod
    def from_volume(
        cls,
        volume: NDArray[np.floating],
        pixel_size: float,
        angular_step: float,
        *,
        symmetry: str = "C1",
        lowpass: float | None = None,
        highpass: float | None = None,
        mask_diameter: float | None = None,
    ) -> TemplateBank:
        """Make a bank of the projections of a map, on an even grid of views with in-plane rotations.

        Parameters
        ----------
        volume : ndarray, shape (n, n, n)
            Density, particle bright, origin at voxel ``n // 2``.
        pixel_size : float
            Å, of the map and of the micrographs.
        angular_step : float
            Degrees: see :func:`napari_pickbias.matching.views.view_grid`.
        symmetry : str
            Point group of the map, in RELION's setting.
        lowpass, highpass : float, optional
            Finest and coarsest detail kept, Å.
        mask_diameter : float, optional
            Å; the soft mask is 0 outside. Default: it touches the box.

        Raises
        ------
        InputError
            When the map is not a cube or empty, an option is out of range, or the mask is wider than the box.
        """
        if volume.ndim != 3 or len(set(volume.shape)) != 1:
            raise InputError(f"map: has shape {volume.shape}; it must be a cube")
        if not np.isfinite(volume).all() or float(np.ptp(volume)) == 0:
            raise InputError("map: is constant or not finite; give the map of a particle")
        if lowpass and highpass and lowpass >= highpass:
            raise InputError(f"--lowpass {lowpass:g} --highpass {highpass:g}: nothing is left between them; swap them")
        size = volume.shape[0]
        diameter_px = size - 3.0 if mask_diameter is None else mask_diameter / pixel_size
        if size < 9:
            raise InputError(f"map: has a side of {size} px; templates need at least 9")
        if not 6 <= diameter_px <= size:
            raise InputError(
                f"--mask-diameter {mask_diameter:g}: is {diameter_px:.1f} px; it must lie between 6 px and the map's "
                f"{size} px ({size * pixel_size:g} Å)"
            )
        view, euler = view_grid(angular_step, symmetry)
        band = band_filter((size, size), pixel_size, lowpass_angstrom=lowpass, highpass_angstrom=highpass)
        mask = soft_disc(size, diameter_px / 2)
        prepared = fourier_volume(np.asarray(volume, np.float32))
        images = np.empty((len(euler), size, size), np.float32)
        for first in range(0, len(euler), 64):
            part = slice(first, first + 64)
            projections = project(prepared, matrices_from_euler(euler[part]), ctf=band[None].astype(np.float32))
            images[part] = cls.from_images(projections, mask).images
        return cls(images, mask.astype(np.float32), view, euler, pixel_size)

    def noise_sd(self, power: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the standard deviation of each template's correlation with noise of a given power spectrum.

        ``s_l = sqrt(x_l' Sigma x_l)``, exact for stationary noise whose correlation fits into the grid.

        Parameters
        ----------
        power : ndarray, shape (n, n // 2 + 1)
            Expected ``|rfft2(noise)|**2 / n**2`` on an ``n x n`` grid, ``n`` at least the box plus the noise's
            correlation length: white noise of variance 1 is 1 everywhere.
        """
        size = power.shape[0]
        if size < self.box_px:
            raise ValueError(f"`power` lies on a grid of {size} px; it must be at least the box, {self.box_px} px")
        weights = np.full(power.shape[1], 2.0)
        weights[0] = 1.0
        if size % 2 == 0:
            weights[-1] = 1.0
        variances = [
            np.einsum("lij,ij->l", np.abs(np.asarray(block)) ** 2, power * weights) / size**2
            for block in self._grids(size)
        ]
        return np.asarray(np.sqrt(np.concatenate(variances)), np.float64)

    def _grids(self, size: int, block: int = 64) -> Iterator[NDArray[np.complex128]]:
        for first in range(0, len(self), block):
            yield scipy.fft.rfft2(self.images[first : first + block].astype(np.float64), s=(size, size), workers=1)

    def template(self, number: int) -> NDArray[np.float32]:
        """Return one template, shape (b, b)."""
        return np.asarray(self.images[number])

    def take(self, rows: NDArray[np.integer]) -> TemplateBank:
        """Return the bank of some templates."""
        return replace(self, images=self.images[rows], view=self.view[rows], euler_deg=self.euler_deg[rows])


def soft_disc(box: int, radius: float, edge: float = 3.0) -> NDArray[np.float64]:
    """Return a disc of weights 1 inside ``radius - edge``, falling as a cosine to 0 at ``radius`` (pixels)."""
    offsets = np.arange(box) - box // 2
    distance = np.hypot(offsets[:, None], offsets[None, :])
    inside = np.clip((radius - distance) / max(edge, 1e-9), 0.0, 1.0)
    return np.asarray(0.5 - 0.5 * np.cos(np.pi * inside))
