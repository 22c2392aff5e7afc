"""RELION 5's list of tomograms, and picks in tomograms as its next jobs want them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_pickbias.errors import InputError
from napari_pickbias.records.atomic import write_text
from napari_pickbias.records.tomograms import TomogramList
from pickbias_relion.project import project_path
from pickbias_relion.project_paths import resolve_all, tried
from pickbias_relion.star import open_star
from pickbias_relion.star_columns import read_columns
from pickbias_relion.star_index import text_of
from pickbias_relion.star_write import VERSION, loop_text, write_tables

FILES = ("rlnTomoReconstructedTomogramDenoised", "rlnTomoReconstructedTomogram", "rlnTomoReconstructedTomogramHalf1")
"""Labels of the files of tomograms; the plain one is taken where it is there, then half 1."""
Columns = Mapping[str, NDArray[np.generic]]


def open_tomogram_list(path: str | Path) -> TomogramList:
    """Read RELION 5's ``tomograms.star``; sizes are the tilt series' pixel size times the tomogram's binning.

    Raises
    ------
    InputError
        When it lists no reconstructed tomograms, or one of them is not there.
    """
    star = open_star(path)
    wanted = (FILES[1], FILES[2], FILES[0])
    table = next((t for t in star.tables if t.is_loop and any(label in t.labels for label in wanted)), None)
    if table is None or table.n_rows == 0 or "rlnTomoName" not in table.labels:
        raise InputError(
            f"{star.path}: lists no reconstructed tomograms (rlnTomoName, rlnTomoReconstructedTomogram); give the "
            "tomograms.star of Reconstruct tomograms, or the .mrc files"
        )
    label = next(name for name in wanted if name in table.labels)
    sizes = [x for x in ("rlnTomoTiltSeriesPixelSize", "rlnTomoTomogramBinning") if x in table.labels]
    columns = read_columns(star, table, floats=sizes, texts=["rlnTomoName", label])
    text = columns.texts[label]
    files = [text.values[code] for code in text.codes.tolist()]
    found: list[Path] = []
    for name, where in zip(files, resolve_all(files, star.path), strict=True):
        if where is None:
            raise InputError(
                f"{star.path}: names the tomogram {text_of(name)!r}, which is not there; looked in "
                f"{tried(star.path)}; run in the RELION project's folder"
            )
        found.append(where)
    voxels = None
    if len(sizes) == 2:
        voxels = tuple((columns.floats[sizes[0]] * columns.floats[sizes[1]]).tolist())
    notes = () if label == FILES[1] else (f"{star.path}: has no whole tomograms; {label} is taken",)
    return TomogramList(
        tuple(columns.texts["rlnTomoName"].strings().tolist()), tuple(found), voxels, (*star.notes, *notes)
    )


def write_tomogram_picks(
    out: Path,
    tables: Mapping[str, Columns],
    centres_px: Mapping[str, tuple[float, float, float]],
    voxel_size: float,
    *,
    tomograms_star: Path | None = None,
) -> dict[str, Path]:
    """Write ``particles.star`` and ``optimisation_set.star`` for RELION 5, and ``per_tomogram/*_picks.star``.

    Parameters
    ----------
    out : Path
        Output directory.
    tables : mapping of tomogram name to columns
        ``x_px``, ``y_px``, ``z_px`` (voxels of the tomogram's file from 0), ``score``, ``rot_deg``, ``tilt_deg``,
        ``psi_deg``, ``p_value``, ``q_value``; each of shape (n,).
    centres_px : mapping of tomogram name to x, y, z
        Half of its sides, what RELION 5 counts coordinates from.
    voxel_size : float
        Å.
    tomograms_star : Path, optional
        RELION's list of the tomograms; without it there is no optimisation set.

    Returns
    -------
    dict
        ``particles`` and ``optimisation_set`` (where there are any), and one entry for each tomogram with picks.

    Raises
    ------
    InputError
        When a file cannot be written.
    """
    files: dict[str, Path] = {}
    parts: list[dict[str, NDArray[np.generic]]] = []
    for name, columns in tables.items():
        count = len(columns["x_px"])
        if not count:
            continue
        centred = [
            (f"rlnCenteredCoordinate{axis.upper()}Angst", (columns[f"{axis}_px"] - middle) * voxel_size)
            for axis, middle in zip("xyz", centres_px[name], strict=True)
        ]
        parts.append(
            {
                "rlnTomoName": np.array([name] * count, np.str_),
                "rlnTomoParticleName": np.array([f"{name}/{number}" for number in range(1, count + 1)], np.str_),
                **{label: np.asarray(values, np.float64).round(3) for label, values in centred},
                **_values(columns),
            }
        )
        target = out / "per_tomogram" / f"{name.replace('/', '_')}_picks.star"
        target.parent.mkdir(parents=True, exist_ok=True)
        pixels = {f"rlnCoordinate{axis.upper()}": _rounded(columns[f"{axis}_px"], 3) for axis in "xyz"}
        write_tables(target, [loop_text("particles", {**pixels, **_values(columns)})])
        files[f"picks of {name}"] = target
    if parts:
        joined = {label: np.concatenate([part[label] for part in parts]) for label in parts[0]}
        files["particles"] = out / "particles.star"
        write_tables(files["particles"], [loop_text("particles", joined)])
        if tomograms_star is not None:
            files["optimisation_set"] = out / "optimisation_set.star"
            write_text(files["optimisation_set"], optimisation_set(files["particles"], tomograms_star))
    return files


def optimisation_set(particles: Path, tomograms: Path) -> str:
    """Return RELION 5's list of what belongs together; paths relative to the project, as its jobs write them.

    Source: RELION 5.0.1, src/jaz/tomography/optimisation_set.cpp.
    """
    names = {"rlnTomoParticlesFile": particles, "rlnTomoTomogramsFile": tomograms}
    lines = [f"_{label} {_quoted(project_path(path))}" for label, path in names.items()]
    return "\n".join(["", f"# version {VERSION}", "", "data_", "", *lines, "", ""])


def _quoted(name: str) -> str:
    return f'"{name}"' if len(name.split()) > 1 else name


def _values(columns: Columns) -> dict[str, NDArray[np.generic]]:
    angles = {f"rlnAngle{name.capitalize()}": _rounded(columns[f"{name}_deg"], 4) for name in ("rot", "tilt", "psi")}
    rates = {
        label: np.array([float(f"{value:.4g}") for value in columns[key].tolist()])
        for key, label in (("p_value", "pickbiasPValue"), ("q_value", "pickbiasQValue"))
    }
    return {**angles, "rlnAutopickFigureOfMerit": _rounded(columns["score"], 4), **rates}


def _rounded(values: NDArray[np.generic], digits: int) -> NDArray[np.generic]:
    return np.asarray(values, np.float64).round(digits)
