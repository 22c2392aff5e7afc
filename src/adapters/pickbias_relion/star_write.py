"""New STAR files, in the form of RELION 3.1 (which 4 and 5 read too).

Written here rather than with the ``starfile`` library, which rounds floats to six decimals (1.2e-08 becomes 0), turns
names that look like numbers into numbers, and writes ``<NA>``, which RELION reads as 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_pickbias.records.atomic import atomic_path
from napari_pickbias.records.particles import CtfParameters, FloatArray, IntArray, Poses
from pickbias_relion.star_subset import format_values

VERSION = 30001
"""RELION 3.1's version tag: what 4.0 writes too, and 5 reads without converting."""


def loop_text(block: str, columns: Mapping[str, ArrayLike]) -> bytes:
    """Return one block with a loop as STAR text.

    Parameters
    ----------
    block : str
        Name, without ``data_``.
    columns : mapping of label (without ``_``) to array, shape (n,)
        Written as :func:`pickbias_relion.star_subset.format_values` says: floats keep their full precision.

    Raises
    ------
    ValueError
        For columns of different lengths or without rows: RELION cannot read an empty loop.
    """
    texts = [format_values(np.asarray(values)) for values in columns.values()]
    if not texts or not texts[0] or len({len(column) for column in texts}) > 1:
        raise ValueError(f"data_{block} needs columns of one length above zero, got {[len(c) for c in texts]}")
    labels = b"".join(b"_%s #%d\n" % (label.encode(), k) for k, label in enumerate(columns, 1))
    rows = b"\n".join(b" ".join(row) for row in zip(*texts, strict=True))
    return b"\n# version %d\n\ndata_%s\n\nloop_\n%s%s\n" % (VERSION, block.encode(), labels, rows)


def write_tables(path: str | Path, tables: Sequence[bytes]) -> None:
    """Write blocks made by :func:`loop_text` to a file, whole or not at all.

    Raises
    ------
    InputError
        When the file cannot be written.
    """
    with atomic_path(path) as temporary:
        temporary.write_bytes(b"\n".join(tables))


def optics_columns(
    pixel_label: str, pixel_size_angstrom: ArrayLike, ctf: CtfParameters | None, n: int
) -> tuple[dict[str, NDArray[np.generic]], IntArray]:
    """Return the ``data_optics`` columns and each row's ``rlnOpticsGroup``, counted from 1.

    Rows that agree in pixel size, voltage, spherical aberration and amplitude contrast share a group. Without a CTF,
    300 kV, 2.7 mm and 0.1 are written, because RELION refuses optics without them.
    """
    described = np.empty((n, 4))
    described[:, 0] = pixel_size_angstrom
    described[:, 1] = 300.0 if ctf is None else ctf.voltage_kv
    described[:, 2] = 2.7 if ctf is None else ctf.spherical_aberration_mm
    described[:, 3] = 0.1 if ctf is None else ctf.amplitude_contrast
    groups, first, member = np.unique(described, axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first)  # numbered in order of appearance
    groups = groups[order]
    number = np.empty(len(order), np.int64)
    number[order] = np.arange(1, len(order) + 1)
    columns: dict[str, NDArray[np.generic]] = {
        "rlnOpticsGroup": np.arange(1, len(groups) + 1),
        "rlnOpticsGroupName": np.array([f"opticsGroup{k}" for k in range(1, len(groups) + 1)]),
        pixel_label: groups[:, 0],
        "rlnVoltage": groups[:, 1],
        "rlnSphericalAberration": groups[:, 2],
        "rlnAmplitudeContrast": groups[:, 3],
    }
    return columns, number[member.ravel()]


def ctf_columns(ctf: CtfParameters | None) -> dict[str, FloatArray]:
    """Return the columns of the CTF that differ from row to row; none without a CTF."""
    if ctf is None:
        return {}
    return {
        "rlnDefocusU": ctf.defocus_u_angstrom,
        "rlnDefocusV": ctf.defocus_v_angstrom,
        "rlnDefocusAngle": ctf.defocus_angle_deg,
        "rlnPhaseShift": ctf.phase_shift_deg,
    }


def write_particles(
    path: str | Path,
    image_names: Sequence[str],
    pixel_size_angstrom: ArrayLike,
    box_px: int,
    *,
    ctf: CtfParameters | None = None,
    poses: Poses | None = None,
    micrograph: Sequence[str] | NDArray[np.str_] | None = None,
    coordinates_px: FloatArray | None = None,
    extra: Mapping[str, ArrayLike] | None = None,
) -> None:
    """Write a new particle set (simulated particles, noise twins).

    Parameters
    ----------
    path : str or Path
        The STAR file.
    image_names : sequence of str, length n
        ``000001@stack.mrcs``, counted from 1, relative to the project's folder.
    pixel_size_angstrom : float or ndarray, shape (n,)
        Å.
    box_px : int
        Side of the images.
    ctf, poses, micrograph, coordinates_px
        As in :class:`napari_pickbias.records.Particles`.
    extra : mapping of label to array, optional
        More columns, labels without ``_``.

    Raises
    ------
    InputError
        When the file cannot be written.
    ValueError
        Without particles, or with columns of different lengths.
    """
    n = len(image_names)
    optics, group = optics_columns("rlnImagePixelSize", pixel_size_angstrom, ctf, n)
    groups = len(optics["rlnOpticsGroup"])
    optics |= {"rlnImageSize": np.full(groups, box_px), "rlnImageDimensionality": np.full(groups, 2)}
    columns: dict[str, ArrayLike] = {"rlnImageName": np.asarray(image_names, np.str_)}
    if micrograph is not None:
        columns["rlnMicrographName"] = np.asarray(micrograph, np.str_)
    columns["rlnOpticsGroup"] = group
    if coordinates_px is not None:
        columns |= {"rlnCoordinateX": coordinates_px[:, 0], "rlnCoordinateY": coordinates_px[:, 1]}
    columns |= ctf_columns(ctf)
    if poses is not None:
        angles = zip(("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"), poses.euler_deg.T, strict=True)
        shifts = zip(("rlnOriginXAngst", "rlnOriginYAngst"), poses.shifts_angstrom.T, strict=True)
        columns |= {**dict(angles), **dict(shifts)}
    write_tables(path, [loop_text("optics", optics), loop_text("particles", {**columns, **(extra or {})})])
