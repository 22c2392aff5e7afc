"""Picks as RELION's next jobs want them: one list of all, a file for each micrograph, and what names those files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from pickbias_relion.coordinates import (
    Picks,
    coordinate_path,
    write_coordinate_list,
    write_coords_suffix,
    write_picks,
)
from pickbias_relion.project import project_path
from pickbias_relion.star_write import loop_text, write_tables

PICK_NAME = "picks"
"""Per-micrograph files end in ``_picks.star``."""

Columns = Mapping[str, NDArray[np.generic]]


def write_pick_files(
    out: Path, tables: Mapping[str, Columns], *, micrographs_star: str | Path | None = None, as_job: bool = False
) -> dict[str, Path]:
    """Write ``picks.star``, the per-micrograph coordinate files, and ``coordinates.star``.

    Parameters
    ----------
    out : Path
        Output directory.
    tables : mapping of micrograph name to columns
        ``x_px``, ``y_px`` (centres, unbinned micrograph pixels from 0), ``score``, ``psi_deg``, ``template`` (from 1),
        ``p_value``, ``q_value``, and for projections of a map ``rot_deg`` and ``tilt_deg``; each of shape (n,).
    micrographs_star : str or Path, optional
        The list the micrographs came from; named in RELION 3.1's ``coords_suffix_picks.star``.
    as_job : bool
        The directory is that of a RELION job: coordinate files lie in it as RELION looks for them, below the
        micrographs' own folders. Otherwise they lie side by side in ``per_micrograph`` where their names allow it.

    Returns
    -------
    dict
        ``picks`` (where there are any), ``coordinates``, ``coords_suffix`` (with ``as_job`` and a list), and one entry
        for each coordinate file.

    Raises
    ------
    InputError
        When a file cannot be written.
    """
    files: dict[str, Path] = {}
    folder = out if as_job else out / "per_micrograph"
    flat = not as_job and max(Counter(PurePosixPath(name).stem for name in tables).values(), default=0) == 1
    listed: dict[str, str] = {}
    for name, columns in tables.items():
        target = coordinate_path(folder, PurePosixPath(name).name if flat else name, PICK_NAME)
        target.parent.mkdir(parents=True, exist_ok=True)
        write_picks(target, _relion_picks(columns))
        files[f"picks of {name}"] = target
        listed[name] = project_path(target)
    files["coordinates"] = out / "coordinates.star"
    write_coordinate_list(files["coordinates"], listed)
    if as_job and micrographs_star is not None:
        files["coords_suffix"] = write_coords_suffix(out, PICK_NAME, project_path(micrographs_star))
    if any(len(columns["x_px"]) for columns in tables.values()):
        files["picks"] = out / "picks.star"
        write_tables(files["picks"], [loop_text("picks", _all_picks(tables))])
    return files


def _relion_picks(columns: Columns) -> Picks:
    return Picks(
        np.column_stack([columns["x_px"], columns["y_px"]]).astype(np.float64).round(3),
        np.asarray(columns["score"], np.float64).round(4),
        np.asarray(columns["psi_deg"], np.float64).round(4),
        np.asarray(columns["template"], np.int64),
    )


def _all_picks(tables: Mapping[str, Columns]) -> dict[str, NDArray[np.generic]]:
    labels = {
        "x_px": ("rlnCoordinateX", 3),
        "y_px": ("rlnCoordinateY", 3),
        "score": ("rlnAutopickFigureOfMerit", 4),
        "rot_deg": ("rlnAngleRot", 4),
        "tilt_deg": ("rlnAngleTilt", 4),
        "psi_deg": ("rlnAnglePsi", 4),
        "template": ("rlnClassNumber", 0),
        "p_value": ("pickbiasPValue", 300),
        "q_value": ("pickbiasQValue", 300),
    }
    names = np.repeat(np.array(list(tables), np.str_), [len(columns["x_px"]) for columns in tables.values()])
    joined: dict[str, NDArray[np.generic]] = {"rlnMicrographName": names}
    for key, (label, digits) in labels.items():
        if not all(key in columns for columns in tables.values()):
            continue
        values = np.concatenate([np.asarray(columns[key]) for columns in tables.values()])
        if digits == 300:  # no more than is known, and no zeros of small values
            values = np.array([float(f"{value:.4g}") for value in values])
        joined[label] = values.round(digits) if values.dtype.kind == "f" and digits < 300 else values
    return joined
