"""Micrographs of a cryoSPARC output (``.cs`` with ``micrograph_blob``), with their CTF where it is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_pickbias.errors import InputError
from napari_pickbias.records.micrographs import MicrographSet
from napari_pickbias.records.particles import CtfParameters
from napari_pickbias.records.volume import Micrographs
from pickbias_cryosparc.group import contained, plain
from pickbias_cryosparc.tables import Table, read_table

BLOB = "micrograph_blob"


def open_micrographs(path: str | Path, pixel_size_angstrom: float | None = None) -> MicrographSet:
    """Open the micrographs of a ``.cs`` file; what it inherited is looked for in its passthrough file.

    Raises
    ------
    InputError
        When it holds no micrographs, or one is not there.
    """
    path = Path(path)
    table = read_table(path)
    tables = [table, *_partners(path, table)]
    blob = _field(tables, f"{BLOB}/path")
    if blob is None or not len(table):
        slots = ", ".join(table.slots) or "uids alone"
        raise InputError(f"{path}: holds no micrographs but {slots}; give the micrographs (exposures) of a job")
    names = [_text(value) for value in blob]
    paths = tuple(_locate(path, name) for name in names)
    sizes = _field(tables, f"{BLOB}/psize_A")
    pixel = np.full(len(paths), np.nan if pixel_size_angstrom is None else pixel_size_angstrom)
    if pixel_size_angstrom is None and sizes is not None:
        # Single precision: 1.77 is stored as 1.7699999.
        pixel = np.array([float(str(np.float32(value))) for value in sizes], np.float64)
    if not (np.isfinite(pixel) & (pixel > 0)).all():
        raise InputError(f"{path}: has no pixel size ({BLOB}/psize_A); give it in Å with --pixel-size")
    shown = tuple(name.removeprefix(">") for name in names)
    return MicrographSet(Micrographs(paths, pixel, _ctf(tables), shown), path, path)


def _partners(path: Path, table: Table) -> list[Table]:
    """Return the passthrough file of the same output, its rows in the order of ``table``."""
    if "passthrough" in path.name or "_" not in path.stem:
        return []
    job, _, output = path.stem.partition("_")
    partner = path.with_name(f"{job}_passthrough_{output}.cs")
    if not partner.is_file():
        return []
    other = read_table(partner)
    uids, theirs = np.asarray(table.rows["uid"]), np.asarray(other.rows["uid"])
    order = np.argsort(theirs)
    place = order[np.minimum(np.searchsorted(theirs, uids, sorter=order), max(len(theirs) - 1, 0))]
    if not len(theirs) or (theirs[place] != uids).any():
        raise InputError(f"{partner}: lacks rows of {path.name}; the two are not of one job output")
    return [Table(partner, other.rows[place], other.form)]


def _field(tables: list[Table], name: str) -> NDArray[Any] | None:
    return next((np.asarray(table.rows[name]) for table in tables if name in table.fields), None)


def _text(value: Any) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


def _locate(source: Path, name: str) -> Path:
    inside = contained(name, f"{source}: its micrograph")
    folder = plain(source).parent
    found = next((base / inside for base in (folder, *folder.parents) if (base / inside).is_file()), None)
    if found is None:
        raise InputError(
            f"{source}: names the micrograph {inside}, which is in none of the folders above it; keep the .cs file in "
            "its project"
        )
    return found


def _ctf(tables: list[Table]) -> CtfParameters | None:
    fields = ("df1_A", "df2_A", "df_angle_rad", "accel_kv", "cs_mm", "amp_contrast", "phase_shift_rad")
    u, v, angle, voltage, aberration, contrast, phase = (_field(tables, f"ctf/{name}") for name in fields)
    if u is None or voltage is None or not (u > 0).all():
        return None
    zeros = np.zeros(len(u))

    def known(values: NDArray[Any] | None) -> NDArray[np.float64]:
        return zeros if values is None else values.astype(np.float64)

    return CtfParameters(
        known(u),
        known(u if v is None else v),
        np.degrees(known(angle)),
        known(voltage),
        known(aberration),
        known(contrast),
        np.degrees(known(phase)),
    )
