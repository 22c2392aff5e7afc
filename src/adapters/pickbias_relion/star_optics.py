"""What RELION 3.1 and later keep once per optics group, and earlier versions once per row: pixel sizes and the CTF."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from napari_pickbias.errors import InputError
from napari_pickbias.records.particles import CtfParameters
from pickbias_relion.star import StarFile
from pickbias_relion.star_columns import Columns, FloatArray, IntArray, line_of_row, read_columns
from pickbias_relion.star_index import Table, text_of

CTF_LABELS = (
    "rlnDefocusU",
    "rlnDefocusV",
    "rlnDefocusAngle",
    "rlnPhaseShift",
    "rlnVoltage",
    "rlnSphericalAberration",
    "rlnAmplitudeContrast",
)
PIXEL_LABELS = ("rlnImagePixelSize", "rlnMicrographPixelSize", "rlnMicrographOriginalPixelSize", "rlnPixelSize")
OLD_PIXEL_LABELS = ("rlnDetectorPixelSize", "rlnMagnification")
FLAGS = ("rlnCtfDataArePhaseFlipped", "rlnCtfDataAreCtfPremultiplied")


@dataclass(frozen=True)
class Optics:
    """The optics groups of a STAR file, in the file's order; one unnamed group where there is no ``data_optics``.

    Attributes
    ----------
    numbers : ndarray of int, shape (g,)
        ``rlnOpticsGroup``.
    names : tuple of str
        ``rlnOpticsGroupName``.
    columns : Columns
        The other columns, one value a group.
    """

    numbers: IntArray = field(default_factory=lambda: np.ones(1, np.int64))
    names: tuple[str, ...] = ("opticsGroup1",)
    columns: Columns = field(default_factory=Columns)


def read_optics(star: StarFile) -> Optics:
    """Read ``data_optics``, a loop or (with a single group) a list of keys and values.

    Raises
    ------
    InputError
        For a value that is no number.
    """
    table = star.find("optics")
    if table is None or (table.is_loop and table.n_rows == 0):
        return Optics()
    floats = [label for label in (*PIXEL_LABELS, *CTF_LABELS, *OLD_PIXEL_LABELS) if label in table.labels]
    integers = [x for x in ("rlnOpticsGroup", "rlnImageSize", "rlnImageDimensionality") if x in table.labels]
    texts = [label for label in ("rlnOpticsGroupName", *FLAGS) if label in table.labels]
    columns = (
        read_columns(star, table, floats=floats, integers=integers, texts=texts)
        if table.is_loop
        else _from_list(star, table, floats, integers)
    )
    n = table.n_rows if table.is_loop else 1
    numbers = columns.integers.get("rlnOpticsGroup", np.arange(1, n + 1))
    if "rlnOpticsGroupName" in columns.texts:
        names = tuple(columns.texts["rlnOpticsGroupName"].strings().tolist())
    else:
        names = tuple(f"opticsGroup{number}" for number in numbers.tolist())
    return Optics(numbers, names, columns)


def _from_list(star: StarFile, table: Table, floats: Sequence[str], integers: Sequence[str]) -> Columns:
    def number(label: str) -> float:
        text = text_of(table.values[table.labels.index(label)])
        try:
            return float(text)
        except ValueError:
            fault = f"{table.name}, key {label}: {text!r} is not a number; correct that value"
            raise InputError(f"{star.path}: {fault}") from None

    return Columns(
        {label: np.array([number(label)]) for label in floats},
        {label: np.array([number(label)]).astype(np.int64) for label in integers},
    )


def group_of_rows(star: StarFile, table: Table, columns: Columns, optics: Optics) -> IntArray:
    """Return the index into the optics groups of each row.

    Raises
    ------
    InputError
        When a row names a group that ``data_optics`` does not list, or names none though there are several.
    """
    numbers = columns.integers.get("rlnOpticsGroup")
    if numbers is None:
        if len(optics.numbers) > 1:
            raise InputError(
                f"{star.path}: {table.name} has no column rlnOpticsGroup, but data_optics lists "
                f"{len(optics.numbers)} groups; add the column"
            )
        return np.zeros(table.n_rows, np.int64)
    if star.find("optics") is None:  # numbers without their table (a merged or cut file): groups all the same
        return np.zeros(table.n_rows, np.int64)
    order = np.argsort(optics.numbers, kind="stable")
    place = np.minimum(np.searchsorted(optics.numbers, numbers, sorter=order), len(order) - 1)
    group = order[place]
    unknown = optics.numbers[group] != numbers
    if unknown.any():
        row = int(unknown.argmax())
        raise InputError(
            f"{star.path}: line {line_of_row(star, table, row)} belongs to optics group {numbers[row]}, "
            "which data_optics does not list; add that group to data_optics"
        )
    return group


def lookup(label: str, columns: Columns, optics: Optics, group: IntArray) -> FloatArray | None:
    """Return a quantity for each row, from the row itself or else from its optics group; None where neither has it."""
    if label in columns.floats:
        return columns.floats[label]
    if label in optics.columns.floats:
        return optics.columns.floats[label][group]
    return None


def pixel_sizes(
    star: StarFile,
    table: Table,
    columns: Columns,
    optics: Optics,
    group: IntArray,
    labels: tuple[str, ...],
    override_angstrom: float | None,
) -> FloatArray:
    """Return the pixel size of each row, Å: the first of ``labels`` that is there, else RELION 3.0's two columns.

    RELION 3.0 gives ``rlnDetectorPixelSize`` in µm and ``rlnMagnification``.

    Raises
    ------
    InputError
        When there is none, saying what was looked for, or one that is not above zero.
    """
    if override_angstrom is not None:
        if not (np.isfinite(override_angstrom) and override_angstrom > 0):
            raise InputError(f"--pixel-size {override_angstrom}: must be a number above 0, in Å")
        return np.full(table.n_rows, float(override_angstrom))
    for label in labels:
        sizes = lookup(label, columns, optics, group)
        if sizes is not None:
            return _above_zero(star, table, label, sizes)
    detector, magnification = (lookup(label, columns, optics, group) for label in OLD_PIXEL_LABELS)
    if detector is None or magnification is None:
        looked_for = ", ".join(labels)
        raise InputError(
            f"{star.path}: no pixel size: {table.name} and data_optics have neither {looked_for} nor "
            "rlnDetectorPixelSize with rlnMagnification; give --pixel-size"
        )
    _above_zero(star, table, "rlnMagnification", magnification)
    return _above_zero(star, table, "rlnDetectorPixelSize", detector) * 1e4 / magnification


def _above_zero(star: StarFile, table: Table, label: str, sizes: FloatArray) -> FloatArray:
    wrong = sizes <= 0
    if wrong.any():
        row = int(wrong.argmax())
        raise InputError(
            f"{star.path}: {label} is {sizes[row]:g} for line {line_of_row(star, table, row)}, which cannot be; "
            "correct it or give --pixel-size"
        )
    return sizes


def ctf_parameters(
    star: StarFile, columns: Columns, optics: Optics, group: IntArray
) -> tuple[CtfParameters | None, list[str]]:
    """Return the CTF of each row and what is worth noting about it; None without defocus or voltage.

    What is missing is taken as RELION takes it (``CTF::readByGroup``): second defocus as the first, everything else 0.
    """
    defocus_u, defocus_v, angle, phase_shift, voltage, aberration, contrast = (
        lookup(label, columns, optics, group) for label in CTF_LABELS
    )
    if defocus_u is None:
        return None, []
    if voltage is None:
        return None, [f"{star.path}: has defocus values but no rlnVoltage, so its CTF is unknown"]
    notes = [
        f"{star.path}: has no {label}; taken as 0, as RELION does"
        for label, values in (("rlnSphericalAberration", aberration), ("rlnAmplitudeContrast", contrast))
        if values is None
    ]
    zeros = np.zeros(len(group))

    def or_zero(values: FloatArray | None) -> FloatArray:
        return zeros if values is None else values

    parameters = CtfParameters(
        defocus_u_angstrom=defocus_u,
        defocus_v_angstrom=defocus_u if defocus_v is None else defocus_v,
        defocus_angle_deg=or_zero(angle),
        voltage_kv=voltage,
        spherical_aberration_mm=or_zero(aberration),
        amplitude_contrast=or_zero(contrast),
        phase_shift_deg=or_zero(phase_shift),
    )
    return parameters, notes


def flag(label: str, columns: Columns, optics: Optics, *others: str | None) -> bool:
    """Return whether a yes-or-no label is set anywhere: rows, optics groups, or values found elsewhere."""
    texts: list[str] = [value for value in others if value is not None]
    for part in (columns, optics.columns):
        if label in part.texts:
            texts += [text_of(value) for value in part.texts[label].values]
    return any(text.lower() in {"1", "1.0", "1.000000", "true", "yes"} for text in texts)


def image_sizes(optics: Optics, group: IntArray) -> NDArray[np.int64] | None:
    """Return the box of each row where all optics groups state it (``rlnImageSize``), else None."""
    sides = optics.columns.integers.get("rlnImageSize")
    return None if sides is None or (sides <= 0).any() else sides[group]
