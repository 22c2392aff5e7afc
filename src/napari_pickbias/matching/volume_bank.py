"""Templates for tomograms: one map at all orientations of a grid, each made when it is needed."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from napari_pickbias.errors import InputError
from napari_pickbias.imaging.fourier import frequency_axes, radial_frequency
from napari_pickbias.imaging.projection import FourierVolume, fourier_volume, volume_at
from napari_pickbias.imaging.rotations import (
    Matrices,
    angular_distance_deg,
    euler_from_matrices,
    rotation_count,
    super_fibonacci_rotations,
)
from napari_pickbias.imaging.volumes import soft_ball
from napari_pickbias.matching.views import symmetry_rotations


@dataclass(frozen=True)
class VolumeBank:
    """A map, the orientations at which it is looked for, and the mask they share.

    Attributes
    ----------
    transform : FourierVolume
        The map, ready for rotation.
    mask : ndarray, shape (b, b, b), float32
        Weights from 0 to 1 of the voxels that count: a soft ball, the same at all orientations.
    rotations : ndarray, shape (L, 3, 3)
        ``R`` turns the map, on ``(x, y, z)``, to its pose in the tomogram.
    filter : ndarray, shape (b, b, b // 2 + 1), float32
        What templates are filtered by, in the tomogram's frame: band limits and missing wedge.
    voxel_size_angstrom : float or None
        Of the map.
    """

    transform: FourierVolume
    mask: NDArray[np.float32]
    rotations: Matrices
    filter: NDArray[np.float32]
    voxel_size_angstrom: float | None = None

    def __len__(self) -> int:
        return len(self.rotations)

    @property
    def box_px(self) -> int:
        """Side of the templates."""
        return int(self.mask.shape[0])

    @property
    def euler_deg(self) -> NDArray[np.float64]:
        """RELION's rot, tilt and psi of each orientation, shape (L, 3)."""
        return euler_from_matrices(self.rotations)

    def take(self, rows: NDArray[np.integer]) -> VolumeBank:
        """Return the bank of some orientations."""
        return replace(self, rotations=self.rotations[rows])

    def template(self, number: int) -> NDArray[np.float32]:
        """Return the map at one orientation, filtered; sum 0, sum of squares 1 under the mask.

        Rotated in Fourier space: ``F(R^T k)``, interpolated to single precision.

        Returns
        -------
        ndarray, shape (b, b, b), float32
            Origin at voxel ``b // 2``; axes z, y, x.
        """
        size = self.box_px
        axes = np.broadcast_arrays(*frequency_axes((size,) * 3, 1 / (2 * np.pi)))
        points = np.stack(axes[::-1])  # x, y, z
        # what lies beyond the Nyquist frequency at some orientation is left out at all
        inside = (points**2).sum(axis=0) < np.pi**2
        turned = self.rotations[number].T @ points[:, inside]
        spectrum = np.zeros(inside.shape, np.complex64)
        spectrum[inside] = volume_at(self.transform, turned)
        for frequency in frequency_axes((size,) * 3):
            spectrum *= np.exp(-2j * np.pi * frequency * (size // 2)).astype(np.complex64)
        spectrum *= self.filter
        density = scipy.fft.irfftn(spectrum, s=(size,) * 3, workers=1)
        weights = self.mask.astype(np.float64)
        centred = weights * (density - (weights * density).sum() / weights.sum())
        return np.asarray(centred / np.linalg.norm(centred), np.float32)


def volume_bank(
    volume: NDArray[np.floating],
    voxel_size: float,
    angular_step: float,
    *,
    symmetry: str = "C1",
    lowpass: float | None = None,
    highpass: float | None = None,
    mask_diameter: float | None = None,
    tilt_range: tuple[float, float] | None = None,
) -> VolumeBank:
    """Make the templates of a map for tomograms, on an even grid of orientations.

    Parameters
    ----------
    volume : ndarray, shape (b, b, b)
        Density, particle bright (as in the tomogram), origin at voxel ``b // 2``.
    voxel_size : float
        Å, of map and tomogram.
    angular_step : float
        Degrees between neighbouring orientations; half of it is about how far a pose lies from the next one.
    symmetry : str
        Point group of the map, in RELION's setting: of orientations that it makes equal one is kept.
    lowpass, highpass : float, optional
        Finest and coarsest detail kept, Å, with soft edges 10 % wide.
    mask_diameter : float, optional
        Å; the mask is 0 outside. Default: it touches the box.
    tilt_range : (float, float), optional
        Lowest and highest tilt of the series, degrees, about the y axis: frequencies that no tilt has seen are 0 in the
        templates as they are in the tomogram.

    Raises
    ------
    InputError
        When the map is not a cube or empty, or an option is out of range.
    """
    if volume.ndim != 3 or len(set(volume.shape)) != 1:
        raise InputError(f"map: has shape {volume.shape}; it must be a cube")
    if not np.isfinite(volume).all() or float(np.ptp(volume)) == 0:
        raise InputError("map: is constant or not finite; give the map of a particle")
    if not 2 <= angular_step <= 180:
        raise InputError(f"--angular-step {angular_step:g}: must lie in 2 to 180 degrees for tomograms")
    if lowpass and highpass and lowpass >= highpass:
        raise InputError(f"--lowpass {lowpass:g} --highpass {highpass:g}: nothing is left between them; swap them")
    size = volume.shape[0]
    diameter = size - 3.0 if mask_diameter is None else mask_diameter / voxel_size
    if size < 9:
        raise InputError(f"map: has a side of {size} px; templates need at least 9")
    if not 6 <= diameter <= size:
        raise InputError(
            f"--mask-diameter {mask_diameter:g}: is {diameter:.1f} px; it must lie between 6 px and the map's "
            f"{size} px ({size * voxel_size:g} Å)"
        )
    weight = _band(size, voxel_size, lowpass, highpass)
    if tilt_range is not None:
        weight = weight * seen_by_tilts(size, tilt_range)
    return VolumeBank(
        fourier_volume(np.asarray(volume, np.float32)),
        soft_ball(size, diameter / 2 - 3, 3.0),
        orientation_grid(angular_step, symmetry),
        weight.astype(np.float32),
        voxel_size,
    )


def orientation_grid(angular_step: float, symmetry: str = "C1") -> Matrices:
    """Return an even grid of orientations, those that a point group makes equal taken about once.

    Parameters
    ----------
    angular_step : float
        Degrees between neighbours.
    symmetry : str
        Point group in RELION's setting.

    Returns
    -------
    ndarray, shape (L, 3, 3)
    """
    grid = super_fibonacci_rotations(rotation_count(angular_step))
    group = symmetry_rotations(symmetry)
    # of each set of equal orientations the one nearest to a reference that no symmetry axis goes through
    reference = Rotation.from_rotvec([0.011, 0.007, 0.017]).as_matrix()
    distance = np.stack([angular_distance_deg(grid @ turn, reference) for turn in group])
    own = angular_distance_deg(grid, reference)
    kept = own <= distance.min(axis=0) + 1e-9
    return grid[kept] if kept.any() else grid[[int(np.argmin(own))]]


def _band(size: int, voxel_size: float, lowpass: float | None, highpass: float | None) -> NDArray[np.float64]:
    frequency = radial_frequency((size,) * 3)
    weight = np.ones(frequency.shape)
    for length, passed in ((lowpass, -1.0), (highpass, 1.0)):
        if length:
            edge = voxel_size / length
            position = np.clip(passed * (frequency / edge - 1) / 0.1, -0.5, 0.5)
            weight *= 0.5 + 0.5 * np.sin(np.pi * position)
    return weight


def seen_by_tilts(size: int, tilt_range: tuple[float, float]) -> NDArray[np.float64]:
    """Return 1 at the frequencies that a tilt series about y has seen, 0 in its missing wedge.

    Parameters
    ----------
    size : int
        Side of the box.
    tilt_range : (float, float)
        Lowest and highest tilt, degrees, between -90 and 90. A tilt ``a`` sees the plane ``kz = kx tan(a)``.

    Returns
    -------
    ndarray, shape (size, size, size // 2 + 1)

    Raises
    ------
    InputError
        When the range is empty or goes beyond 90 degrees.
    """
    low, high = tilt_range
    if not -90 <= low < high <= 90:
        raise InputError(f"--tilt-range {low:g} {high:g}: must rise and lie in -90 to 90 degrees")
    z, _, x = np.broadcast_arrays(*frequency_axes((size,) * 3))  # x is never negative
    angle = np.degrees(np.arctan2(z, x))
    seen = (angle >= low - 1e-9) & (angle <= high + 1e-9)
    if low == -90 or high == 90:  # one and the same plane
        seen |= np.abs(angle) > 90 - 1e-9
    seen |= (x == 0) & (z == 0)  # the axis belongs to every plane
    return np.asarray(seen, np.float64)
