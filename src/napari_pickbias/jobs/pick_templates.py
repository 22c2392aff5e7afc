"""Templates for picking: views of a map or class averages, at the micrographs' pixel size, with in-plane rotations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import finufft
import numpy as np
import scipy.fft
from numpy.typing import NDArray

from napari_pickbias.errors import InputError
from napari_pickbias.imaging.ctf import ctf
from napari_pickbias.imaging.fourier import band_filter, frequency_axes, radius_grid
from napari_pickbias.imaging.projection import (
    fourier_volume,
    half_disc,
    image_of_spectrum,
    project,
    resample_volume,
)
from napari_pickbias.imaging.rotations import in_plane_angles, matrices_from_euler
from napari_pickbias.imaging.volumes import mass_centre_and_radius, resize_box, soft_ball
from napari_pickbias.jobs.pick_parameters import PickParameters
from napari_pickbias.matching import TemplateBank
from napari_pickbias.matching.bank import soft_disc
from napari_pickbias.matching.views import view_grid
from napari_pickbias.records import CtfParameters

MASK, CANVAS = 1.12, 1.5
"""Mask in particle diameters; canvas, on which the CTF acts, in masks."""
FEWEST_PX = 8
"""Particle diameter below which nothing can be told."""
BLOCK = 64


class TemplateInput(NamedTuple):
    """What the user gave to look for."""

    kind: Literal["map", "images"]
    data: NDArray[np.float32]
    """``(n, n, n)`` density, or ``(m, n, n)`` images."""
    pixel_size_angstrom: float
    name: str


@dataclass(frozen=True)
class Views:
    """All templates before any CTF.

    Attributes
    ----------
    images : ndarray, shape (L, c, c)
        Band-limited, particle bright, on a canvas larger than the mask.
    mask : ndarray, shape (b, b)
        What counts.
    view : ndarray, shape (L,)
        Number of view or class average, from 0.
    euler_deg : ndarray, shape (L, 3)
        RELION's rot, tilt, psi; rot and tilt are 0 for images.
    pixel_size_angstrom, diameter_angstrom : float
    notes : tuple of str
        Worth a warning.
    """

    images: NDArray[np.float32]
    mask: NDArray[np.float32]
    view: NDArray[np.int32]
    euler_deg: NDArray[np.float64]
    pixel_size_angstrom: float
    diameter_angstrom: float
    notes: tuple[str, ...] = ()


def particle_diameter(templates: TemplateInput) -> float:
    """Measure the longest extent of what the templates show, Å.

    Raises
    ------
    InputError
        When nothing in them is bright.
    """
    if templates.kind == "map":
        try:
            centre, radius = mass_centre_and_radius(templates.data)
        except ValueError:
            raise InputError(f"{templates.name}: nothing in it is bright; give a map with density above zero") from None
        return 2 * (radius + float(np.linalg.norm(centre))) * templates.pixel_size_angstrom
    radii = []
    distance = radius_grid(templates.data.shape[-1])
    for image in _bright(templates.data):
        dense = np.where(image > 0.2 * image.max(), image, 0).ravel()
        order = np.argsort(distance.ravel(), kind="stable")
        share = np.cumsum(dense[order]) / dense.sum()
        radii.append(distance.ravel()[order][np.searchsorted(share, 0.98)])
    return 2 * float(np.median(radii)) * templates.pixel_size_angstrom


def make_views(templates: TemplateInput, parameters: PickParameters, pixel_size: float, diameter: float) -> Views:
    """Make all templates at the pixel size of the search.

    Parameters
    ----------
    templates : TemplateInput
    parameters : PickParameters
        ``lowpass``, ``highpass``, ``angular_step``, ``symmetry`` count.
    pixel_size, diameter : float
        Å.

    Raises
    ------
    InputError
        When the particle is too small at this pixel size, or nothing is left between the pass filters.
    """
    if diameter / pixel_size < FEWEST_PX:
        raise InputError(
            f"{templates.name}: the particle ({diameter:.4g} Å) is {diameter / pixel_size:.1f} px wide at "
            f"{pixel_size:.4g} Å a pixel; check --pixel-size, --templates-pixel-size and --diameter"
        )
    if parameters.highpass is not None and parameters.highpass <= parameters.lowpass:
        raise InputError(
            f"--lowpass {parameters.lowpass:g} --highpass {parameters.highpass:g}: nothing is left between them; swap "
            "them"
        )
    box = 2 * int(np.ceil(MASK * diameter / pixel_size / 2)) + 2
    canvas = 2 * int(np.ceil(CANVAS * box / 2))
    # Half a pixel inside Nyquist nothing is left to filter.
    lowpass = parameters.lowpass if parameters.lowpass > 2.02 * pixel_size else None
    band = band_filter(
        (canvas, canvas), pixel_size, lowpass_angstrom=lowpass, highpass_angstrom=parameters.highpass
    ).astype(np.float32)
    notes: list[str] = []
    if templates.kind == "map":
        view, euler = view_grid(parameters.angular_step, parameters.symmetry)
        images = _projections(templates, euler, band, canvas, pixel_size)
    else:
        psi = in_plane_angles(parameters.angular_step)
        count = len(templates.data)
        view = np.repeat(np.arange(count, dtype=np.int32), len(psi))
        euler = np.column_stack([np.zeros((len(view), 2)), np.tile(psi, count)])
        images = _turned(_bright(templates.data), templates.pixel_size_angstrom, psi, band, canvas, pixel_size)
        dark = int((_central_level(templates.data) < 0).sum())
        if dark:
            notes.append(f"{templates.name}: {dark} of {count} templates are dark in the middle and were inverted")
    mask = soft_disc(box, box / 2 - 1)
    return Views(images, mask.astype(np.float32), view, euler, pixel_size, diameter, tuple(notes))


def bank_for(views: Views, optics: CtfParameters | None, mode: Literal["none", "flip", "multiply"]) -> TemplateBank:
    """Return the bank for one micrograph: all views, seen through its CTF.

    Parameters
    ----------
    views : Views
    optics : CtfParameters or None
        Of one micrograph (arrays of length 1).
    mode : {"none", "flip", "multiply"}
        The CTF's sign, or the CTF itself; it starts positive, so particles stay bright.
    """
    images = views.images
    if optics is not None and mode != "none":
        canvas = images.shape[-1]
        transfer = ctf(
            (canvas, canvas),
            views.pixel_size_angstrom,
            defocus_u_angstrom=optics.defocus_u_angstrom,
            defocus_v_angstrom=optics.defocus_v_angstrom,
            defocus_angle_deg=optics.defocus_angle_deg,
            voltage_kv=optics.voltage_kv,
            spherical_aberration_mm=optics.spherical_aberration_mm,
            amplitude_contrast=optics.amplitude_contrast,
            phase_shift_deg=optics.phase_shift_deg,
        )[0]
        factor = np.where(transfer < 0, -1, 1).astype(np.float32) if mode == "flip" else transfer
        seen = np.empty_like(images)
        for first in range(0, len(images), BLOCK):
            part = slice(first, first + BLOCK)
            spectrum = scipy.fft.rfft2(images[part], workers=1)
            seen[part] = scipy.fft.irfft2(spectrum * factor, s=(canvas, canvas), workers=1)
        images = seen
    cut = resize_box(images, views.mask.shape[0], 2)
    return TemplateBank.from_images(
        cut, views.mask, view=views.view, euler_deg=views.euler_deg, pixel_size_angstrom=views.pixel_size_angstrom
    )


def _projections(
    templates: TemplateInput, euler: NDArray[np.float64], band: NDArray[np.float32], canvas: int, pixel_size: float
) -> NDArray[np.float32]:
    volume = templates.data
    if not np.isfinite(volume).all() or float(np.ptp(volume)) == 0:
        raise InputError(f"{templates.name}: is constant or holds NaN; give the map of a particle")
    prepared = fourier_volume(resample_volume(volume, templates.pixel_size_angstrom, canvas, pixel_size))
    images = np.empty((len(euler), canvas, canvas), np.float32)
    for first in range(0, len(euler), BLOCK):
        part = slice(first, first + BLOCK)
        images[part] = project(prepared, matrices_from_euler(euler[part]), ctf=band[None])
    return images


def _turned(
    images: NDArray[np.float32],
    pixel_size: float,
    psi_deg: NDArray[np.float64],
    band: NDArray[np.float32],
    canvas: int,
    new_pixel_size: float,
) -> NDArray[np.float32]:
    """Rotate and resample images in one step: their transforms are evaluated at the frequencies of the new grid.

    The image of angle psi is what a projection with that psi would be, so rotating a pick's image back by psi aligns
    it with the class average.
    """
    ratio = pixel_size / new_pixel_size
    disc = half_disc(canvas)
    rows, columns = np.broadcast_arrays(*frequency_axes((canvas, canvas), 1 / (2 * np.pi)))
    rotations = matrices_from_euler(np.column_stack([np.zeros((len(psi_deg), 2)), psi_deg]))
    points = columns[disc] * rotations[:, 0, :2, None] + rows[disc] * rotations[:, 1, :2, None]
    points = points.transpose(1, 0, 2) * ratio
    inside = (np.abs(points) < np.pi).all(axis=0)
    turned = np.empty((len(images), len(psi_deg), canvas, canvas), np.float32)
    edge = soft_ball(images.shape[-1], images.shape[-1] / 2 - 3, 3, 2)
    for image, target in zip(images, turned, strict=True):
        modes = np.ascontiguousarray(image * edge, np.complex64)
        values = finufft.nufft2d2(
            np.ascontiguousarray(points[1][inside], np.float32),
            np.ascontiguousarray(points[0][inside], np.float32),
            modes,
            eps=1e-5,
            isign=-1,
            nthreads=1,
            showwarn=0,
        )
        flat = np.zeros(inside.shape, np.complex64)
        flat[inside] = values
        spectrum = np.zeros((len(psi_deg), *disc.shape), np.complex64)
        spectrum[:, disc] = flat
        target[:] = image_of_spectrum(np.asarray(spectrum * band, np.complex64), canvas)
    return turned.reshape(-1, canvas, canvas)


def _central_level(images: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return how much brighter the middle of each image is than its rim."""
    distance = radius_grid(images.shape[-1])
    middle, rim = distance < 0.2 * images.shape[-1], distance > 0.45 * images.shape[-1]
    return np.asarray(images[:, middle].mean(axis=1) - images[:, rim].mean(axis=1), np.float64)


def _bright(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the images with their rim at 0 and their middle bright."""
    rim = radius_grid(images.shape[-1]) > 0.45 * images.shape[-1]
    level = images[:, rim].mean(axis=1)
    sign = np.where(_central_level(images) < 0, -1, 1).astype(np.float32)
    return np.asarray((images - level[:, None, None]) * sign[:, None, None], np.float32)
