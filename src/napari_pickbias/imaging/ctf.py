"""The contrast transfer function in RELION's convention, and phase flipping.

    CTF(k) = sin(pi lambda dz(k) k^2 - pi/2 Cs lambda^3 k^4 + phase_shift + arcsin(amplitude_contrast))

with underfocus ``dz`` positive. It starts at ``+amplitude_contrast``: images multiplied by it, or flipped by its sign,
keep protein bright where it was bright (RELION's particles; raw micrographs are dark). ASPIRE's CTF has the opposite
sign.

Source: RELION 3.1's behaviour (``relion_project --ctf``), which the tests compare with; the physics is in L. Reimer and
H. Kohl, Transmission Electron Microscopy, chapter 6.
"""

from __future__ import annotations

import numba
import numpy as np
import scipy.constants as constants
import scipy.fft
from numpy.typing import ArrayLike, NDArray

from napari_pickbias.imaging.fourier import Floats, fourier_crop, frequency_axes


def electron_wavelength_angstrom(voltage_kv: ArrayLike) -> NDArray[np.float64]:
    """Return the relativistic wavelength of electrons in Å: 0.0197 at 300 kV, 0.0251 at 200 kV."""
    energy = np.asarray(voltage_kv, np.float64) * 1e3 * constants.e
    rest = constants.m_e * constants.c**2
    return np.asarray(constants.h * constants.c / np.sqrt(energy * (energy + 2 * rest)) / constants.angstrom)


def _phase_coefficients(
    pixel_size_angstrom: ArrayLike,
    defocus_u_angstrom: ArrayLike,
    defocus_v_angstrom: ArrayLike,
    defocus_angle_deg: ArrayLike,
    voltage_kv: ArrayLike,
    spherical_aberration_mm: ArrayLike,
    amplitude_contrast: ArrayLike,
    phase_shift_deg: ArrayLike,
) -> NDArray[np.float64]:
    """Return ``(m, 5)``: phase = ``c0 x^2 + c1 x y + c2 y^2 + c3 (x^2 + y^2)^2 + c4``, x and y in cycles per pixel."""
    wavelength = electron_wavelength_angstrom(voltage_kv)
    u, v = np.asarray(defocus_u_angstrom, np.float64), np.asarray(defocus_v_angstrom, np.float64)
    angle = np.radians(np.asarray(defocus_angle_deg, np.float64))
    pixel = np.asarray(pixel_size_angstrom, np.float64)
    scale = np.pi * wavelength / pixel**2
    mean, half = (u + v) / 2, (u - v) / 2
    quartic = -np.pi / 2 * np.asarray(spherical_aberration_mm, np.float64) * 1e7 * wavelength**3 / pixel**4
    constant = np.radians(np.asarray(phase_shift_deg, np.float64)) + np.arcsin(
        np.asarray(amplitude_contrast, np.float64)
    )
    terms = np.broadcast_arrays(
        scale * (mean + half * np.cos(2 * angle)),
        scale * 2 * half * np.sin(2 * angle),
        scale * (mean - half * np.cos(2 * angle)),
        quartic,
        constant,
    )
    return np.stack([np.atleast_1d(term) for term in terms], axis=-1)


def _axes(shape: tuple[int, int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    rows, columns = frequency_axes(shape)
    return rows.ravel(), columns.ravel()


def ctf(
    shape: tuple[int, int],
    pixel_size_angstrom: ArrayLike,
    *,
    defocus_u_angstrom: ArrayLike,
    defocus_v_angstrom: ArrayLike,
    defocus_angle_deg: ArrayLike,
    voltage_kv: ArrayLike,
    spherical_aberration_mm: ArrayLike,
    amplitude_contrast: ArrayLike,
    phase_shift_deg: ArrayLike = 0.0,
) -> NDArray[np.float32]:
    """Return the CTF of one or more images on the half-spectrum.

    Parameters
    ----------
    shape : (h, w)
        Shape of the images, px.
    pixel_size_angstrom : array_like
        Å per pixel. This and all parameters below are numbers or arrays of shape ``(m,)``.
    defocus_u_angstrom, defocus_v_angstrom : array_like
        Defocus along and across the direction ``defocus_angle_deg``, Å, underfocus positive.
    defocus_angle_deg : array_like
        Direction of ``defocus_u``, degrees from the x axis towards the y axis.
    voltage_kv, spherical_aberration_mm, amplitude_contrast : array_like
        Microscope: kV, mm, fraction 0 ... 1.
    phase_shift_deg : array_like
        Of a phase plate, degrees.

    Returns
    -------
    ndarray, shape (m, h, w // 2 + 1), float32
    """
    coefficients = _phase_coefficients(
        pixel_size_angstrom,
        defocus_u_angstrom,
        defocus_v_angstrom,
        defocus_angle_deg,
        voltage_kv,
        spherical_aberration_mm,
        amplitude_contrast,
        phase_shift_deg,
    )
    result = np.empty((len(coefficients), shape[0], shape[1] // 2 + 1), np.float32)
    _fill_ctf(result, coefficients, *_axes(shape))
    return result


@numba.njit(cache=True, nogil=True)
def _fill_ctf(
    result: NDArray[np.float32],
    coefficients: NDArray[np.float64],
    rows: NDArray[np.float64],
    columns: NDArray[np.float64],
) -> None:  # pragma: no cover
    for image in range(result.shape[0]):
        xx, xy, yy, quartic, constant = coefficients[image]
        for i in range(rows.size):
            y = rows[i]
            for j in range(columns.size):
                x = columns[j]
                square = x * x + y * y
                result[image, i, j] = np.sin(
                    xx * x * x + xy * x * y + yy * y * y + quartic * square * square + constant
                )


@numba.njit(cache=True, nogil=True)
def _flip(
    spectra: NDArray[np.complex64],
    coefficients: NDArray[np.float64],
    rows: NDArray[np.float64],
    columns: NDArray[np.float64],
) -> None:  # pragma: no cover
    """Negate coefficients where the CTF is negative: where the phase lies in an odd interval of pi."""
    for image in range(spectra.shape[0]):
        xx, xy, yy, quartic, constant = coefficients[image] / np.pi
        for i in range(rows.size):
            y = rows[i]
            for j in range(columns.size):
                x = columns[j]
                square = x * x + y * y
                turns = xx * x * x + xy * x * y + yy * y * y + quartic * square * square + constant
                if int(np.floor(turns)) & 1:
                    spectra[image, i, j] = -spectra[image, i, j]


def phase_flip(
    images: Floats,
    pixel_size_angstrom: ArrayLike,
    *,
    defocus_u_angstrom: ArrayLike,
    defocus_v_angstrom: ArrayLike,
    defocus_angle_deg: ArrayLike,
    voltage_kv: ArrayLike,
    spherical_aberration_mm: ArrayLike,
    amplitude_contrast: ArrayLike,
    phase_shift_deg: ArrayLike = 0.0,
    new_size: int | None = None,
) -> NDArray[np.float32]:
    """Multiply the Fourier transforms of images by the sign of their CTF, and crop them if asked.

    Parameters
    ----------
    images : ndarray, shape (m, h, w)
        Square if ``new_size`` is given.
    pixel_size_angstrom ... phase_shift_deg
        As for :func:`ctf`; numbers or ``(m,)`` arrays.
    new_size : int or None
        Fourier-crop to this side as well: the same as
        :func:`~napari_pickbias.imaging.fourier.fourier_crop` afterwards, but faster.

    Returns
    -------
    ndarray, shape (m, h, w) or (m, new_size, new_size), float32
        The contrast of low frequencies is unchanged.

    Raises
    ------
    ValueError
        If ``new_size`` is larger than the images, or they are not square.
    """
    images = images.astype(np.float32, copy=False)
    pixel_size = np.asarray(pixel_size_angstrom, np.float64)
    if new_size is not None and new_size > images.shape[-1]:
        raise ValueError(f"`new_size` is {new_size}; it must be at most {images.shape[-1]}, the side of the images")
    if new_size is not None and new_size != images.shape[-1]:
        # Both steps act on each frequency alone, so cropping first gives the same and is cheaper; only the Nyquist
        # frequency of an even size, where two coefficients are summed, must be flipped before.
        odd = new_size + 1 - new_size % 2
        pixel_size = pixel_size * (images.shape[-1] / odd)
        images = np.asarray(fourier_crop(images, odd), np.float32)
    height, width = images.shape[-2:]
    coefficients = _phase_coefficients(
        pixel_size,
        defocus_u_angstrom,
        defocus_v_angstrom,
        defocus_angle_deg,
        voltage_kv,
        spherical_aberration_mm,
        amplitude_contrast,
        phase_shift_deg,
    )
    coefficients = np.ascontiguousarray(np.broadcast_to(coefficients, (len(images), 5)))
    spectra = np.ascontiguousarray(scipy.fft.rfft2(images, workers=1))
    _flip(spectra, coefficients, *_axes((height, width)))
    flipped = np.asarray(scipy.fft.irfft2(spectra, s=(height, width), workers=1, overwrite_x=True))
    if new_size is None or new_size == width:
        return flipped
    return np.asarray(fourier_crop(flipped, new_size), np.float32)
