"""Which particles are judged together, at what working size, and how their images are prepared."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_pickbias.errors import InputError
from napari_pickbias.imaging.ctf import phase_flip
from napari_pickbias.imaging.fourier import fourier_crop
from napari_pickbias.jobs.outlier_parameters import OutlierParameters
from napari_pickbias.records import Particles

CALIBRATED_RADIUS_PX = 9.0
"""Working radius of the calibrated detector: nothing is gained above it, and the cost grows (docs/outliers.md)."""
WIDEST_BOX_RADII = 10.0
"""Widest box of the calibrated detector: cost grows with the fourth power, and a radius in px for one in Å is usual."""
REFERENCE_BOX_PX = 55
"""Working box of the published method on real data."""


@dataclass(frozen=True)
class WorkingGroup:
    """Particles of one box size and pixel size, and the size they are judged at.

    Attributes
    ----------
    rows : ndarray
        Row numbers, rising.
    box_px, pixel_size_angstrom : int, float
        Of the images on disk.
    working_box_px, working_pixel_size_angstrom, radius_px : int, float, float
        Of the Fourier-cropped images, and the particle radius in their pixels.
    flip : bool
        Whether phases are flipped here.
    """

    name: str
    rows: NDArray[np.int64]
    box_px: int
    pixel_size_angstrom: float
    working_box_px: int
    working_pixel_size_angstrom: float
    radius_px: float
    flip: bool
    notes: tuple[str, ...] = ()


def plan_groups(particles: Particles, options: OutlierParameters) -> list[WorkingGroup]:
    """Group particles by box and pixel size; optics groups that share both are pooled.

    Pooling matters: a detector wants some hundred images, and optics groups made for beam tilt may hold fewer.

    Raises
    ------
    InputError
        When no radius is known, or the CTF is asked for and missing.
    """
    radius = options.radius
    if radius is None and particles.particle_diameter_angstrom is not None:
        radius = particles.particle_diameter_angstrom / 2
    if radius is None:
        raise InputError(
            "--radius is missing: give the particle's radius in Å (half its longest extent); the data do not state it"
        )
    flip, notes = _decide_flip(particles, options.phase_flip)
    boxes = np.asarray(particles.images.box_sizes)
    # Pixel sizes that differ by rounding of a header (1.0600001) belong together.
    key = np.stack([boxes, np.round(particles.pixel_size_angstrom * 1e4).astype(np.int64)], axis=1)
    unique, inverse = np.unique(key, axis=0, return_inverse=True)
    groups = []
    for index, (box, _) in enumerate(unique):
        rows = np.flatnonzero(inverse.ravel() == index)
        pixel_size = float(np.median(particles.pixel_size_angstrom[rows]))
        names = sorted({particles.optics_group_names[g] for g in np.unique(particles.optics_group[rows])})
        name = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        if options.method == "calibrated":
            _check_box(int(box), pixel_size, radius)
        working = _working_box(int(box), pixel_size, radius, options)
        working_pixel = pixel_size * int(box) / working
        groups.append(
            WorkingGroup(
                name=f"{name} ({int(box)} px, {pixel_size:.4g} Å/px)",
                rows=rows,
                box_px=int(box),
                pixel_size_angstrom=pixel_size,
                working_box_px=working,
                working_pixel_size_angstrom=working_pixel,
                radius_px=radius / working_pixel,
                flip=flip,
                notes=notes if index == 0 else (),
            )
        )
    return groups


def _check_box(box: int, pixel_size: float, radius: float) -> None:
    """Refuse boxes too wide (a radius given in px) and too narrow: the margin must be a third of the radius."""
    if box * pixel_size > WIDEST_BOX_RADII * radius:
        raise InputError(
            f"--radius {radius:g}: the images ({box} px = {box * pixel_size:.0f} Å) are more than "
            f"{WIDEST_BOX_RADII / 2:g} such particles wide; give the radius in Å ({radius:g} px would be "
            f"{radius * pixel_size:g} Å here), or extract boxes of at most "
            f"{math.floor(WIDEST_BOX_RADII * radius / pixel_size)} px"
        )
    if box * pixel_size / 2 - radius >= radius / 3:
        return
    least, better = math.ceil(2 * (4 / 3) * radius / pixel_size), math.ceil(2 * 1.8 * radius / pixel_size)
    raise InputError(
        f"--radius {radius:g}: the images ({box} px = {box * pixel_size:.0f} Å) are too small for a particle of that "
        f"radius, central and off-centre ones look alike; extract boxes of at least {least} px (better {better}), or "
        f"give the radius that holds nearly all of the mass, at most {0.375 * box * pixel_size:.0f} Å here"
    )


def _decide_flip(particles: Particles, wish: str) -> tuple[bool, tuple[str, ...]]:
    if wish == "no":
        return False, ()
    if particles.phase_flipped:
        return False, (
            ("--phase-flip yes was ignored: the data say that phases are flipped already",) * (wish == "yes")
        )
    if particles.ctf is None:
        if wish == "yes":
            raise InputError("--phase-flip yes: the data carry no CTF columns; use --phase-flip no or add the CTF")
        return False, ("the data carry no CTF: images are used without phase flipping",)
    return True, ()


def _working_box(box: int, pixel_size: float, radius: float, options: OutlierParameters) -> int:
    if options.working_box is not None:
        if options.working_box > box:
            raise InputError(
                f"--working-box {options.working_box}: larger than the images ({box} px); give at most that"
            )
        return options.working_box
    if options.method == "reference":
        return min(REFERENCE_BOX_PX, box)
    wanted = box * pixel_size * CALIBRATED_RADIUS_PX / radius
    odd = 2 * int(wanted // 2) + 1  # an odd box has a pixel at its very centre
    return min(odd, box if box % 2 else box - 1)


def prepare_images(
    particles: Particles, group: WorkingGroup, rows: NDArray[np.int64], sign: int
) -> NDArray[np.float32]:
    """Read ``rows``, flip phases at full size, set the sign, and Fourier-crop to the working box.

    Phases are flipped at the full box, as the published pipeline does, and cropped in the same transform.
    """
    images = particles.images.read(rows)
    if group.flip and particles.ctf is not None:
        ctf = particles.ctf.take(rows)
        images = phase_flip(
            images,
            pixel_size_angstrom=group.pixel_size_angstrom,
            defocus_u_angstrom=ctf.defocus_u_angstrom,
            defocus_v_angstrom=ctf.defocus_v_angstrom,
            defocus_angle_deg=ctf.defocus_angle_deg,
            voltage_kv=ctf.voltage_kv,
            spherical_aberration_mm=ctf.spherical_aberration_mm,
            amplitude_contrast=ctf.amplitude_contrast,
            phase_shift_deg=ctf.phase_shift_deg,
            new_size=group.working_box_px,
        )
    elif group.working_box_px != group.box_px:
        images = fourier_crop(images, group.working_box_px)
    return -images if sign < 0 else images
