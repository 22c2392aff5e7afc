"""Particles as the science sees them, whatever pipeline they come from."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
TextArray = NDArray[np.str_]


class Images(Protocol):
    """Images read when asked for, addressed by particle row.

    A data set may hold several box sizes (one for each optics group); :meth:`read` takes rows of one size only.
    """

    @property
    def box_sizes(self) -> IntArray:
        """``(n,)`` side of each particle's square box, px."""
        ...

    def __len__(self) -> int: ...

    def read(self, rows: IntArray) -> NDArray[np.float32]:
        """Return the images of ``rows`` as ``(len(rows), box, box)`` float32, in the order asked for.

        Thread-safe. Raises ``InputError`` where a file is missing, short or damaged.
        """
        ...


@dataclass(frozen=True)
class CtfParameters:
    """Contrast transfer parameters, one value a particle; every array has shape ``(n,)``.

    Defocus is positive for underfocus, in Å; angles in degrees, with RELION's sense (from x towards y).
    """

    defocus_u_angstrom: FloatArray
    defocus_v_angstrom: FloatArray
    defocus_angle_deg: FloatArray
    voltage_kv: FloatArray
    spherical_aberration_mm: FloatArray
    amplitude_contrast: FloatArray
    phase_shift_deg: FloatArray

    def take(self, rows: IntArray) -> CtfParameters:
        """Return the parameters of ``rows``."""
        return CtfParameters(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})


@dataclass(frozen=True)
class Poses:
    """Orientations and shifts in RELION's convention.

    Attributes
    ----------
    euler_deg : ndarray, shape (n, 3)
        rot, tilt, psi (ZYZ) in degrees.
    shifts_angstrom : ndarray, shape (n, 2)
        x, y origin offsets in Å (``rlnOriginXAngst``, ``rlnOriginYAngst``).
    """

    euler_deg: FloatArray
    shifts_angstrom: FloatArray


@dataclass(frozen=True)
class Particles:
    """One particle set: images and what is known of each particle.

    Attributes
    ----------
    images : Images
        Lazy access to the pixels, ``n`` of them.
    pixel_size_angstrom : ndarray, shape (n,)
        Pixel size of each particle's image.
    optics_group : ndarray, shape (n,)
        Index into ``optics_group_names`` (0-based, whatever numbers the file uses).
    optics_group_names : tuple of str
        Names as the user knows them.
    ctf : CtfParameters or None
        None when the data carry no CTF.
    phase_flipped : bool
        True when the images were phase-flipped already.
    micrograph : ndarray of str, shape (n,), or None
        Micrograph of each particle.
    coordinates_px : ndarray, shape (n, 2), or None
        x, y of the pick in unbinned micrograph pixels.
    poses : Poses or None
        Present after refinement.
    particle_diameter_angstrom : float or None
        When the data say it themselves.
    notes : tuple of str
        Warnings gathered while reading, for the report.
    """

    images: Images
    pixel_size_angstrom: FloatArray
    optics_group: IntArray
    optics_group_names: tuple[str, ...] = ("opticsGroup1",)
    ctf: CtfParameters | None = None
    phase_flipped: bool = False
    micrograph: TextArray | None = None
    coordinates_px: FloatArray | None = None
    poses: Poses | None = None
    particle_diameter_angstrom: float | None = None
    notes: tuple[str, ...] = field(default=())

    def __len__(self) -> int:
        return len(self.images)
