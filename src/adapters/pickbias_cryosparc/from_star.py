"""A RELION STAR file to CryoSPARC particles: the way back of :mod:`pickbias_cryosparc.to_star`."""

from __future__ import annotations

import csv
import hashlib
import os
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
import starfile
from numpy.typing import NDArray

from napari_pickbias.errors import InputError
from napari_pickbias.records.atomic import write_text
from napari_pickbias.records.mrc import read_header
from pickbias_cryosparc.group import open_group, plain
from pickbias_cryosparc.poses import rotation_vectors_from_euler
from pickbias_cryosparc.source import csg_text
from pickbias_cryosparc.tables import write_rows
from pickbias_cryosparc.to_star import UID_PREFIX, Converted, MicrographY

_ALIGNMENT_REST = {
    "error": 0.0,
    "error_min": 0.0,
    "resid_pow": 0.0,
    "slice_pow": 0.0,
    "image_pow": 0.0,
    "cross_cor": 0.0,
    "alpha": 1.0,
    "alpha_min": 0.0,
    "weight": 0.0,
    "pose_ess": 0.0,
    "shift_ess": 0.0,
    "class_posterior": 1.0,
}
"""Alignment fields that RELION has no word for, with the values of a particle that was just imported."""

Columns = dict[str, NDArray[Any]]


def star_to_cs(
    source: str | Path,
    target: str | Path,
    *,
    uids: str | Path | None = None,
    micrograph_y: MicrographY = "same",
) -> Converted:
    """Write the particles of a STAR file (RELION 1 to 5) as a ``.cs`` file with its ``.csg``.

    Parameters
    ----------
    source : str or Path
        The STAR file.
    target : str or Path
        The ``.cs`` file to make; the ``.csg`` for Import Result Group stands beside it.
    uids : str or Path, optional
        Side table of :func:`cs_to_star`; ``<source stem>_uids.csv`` is taken when it is there. Images get their old
        uids back through it; without one, uids are made from the image names, the same every time.
    micrograph_y : {"same", "flipped"}
        As in :func:`cs_to_star`.

    Returns
    -------
    Converted

    Raises
    ------
    InputError
        When the STAR file has no particles, lacks what CryoSPARC needs, or the side table does not fit.
    """
    source, target = Path(source), Path(target)
    table = _read_star(source)
    notes: list[str] = []
    names = table["rlnImageName"].astype(str).tolist()
    pairs = [_split_name(source, row, name) for row, name in enumerate(names)]
    kept = _kept(source, names, Path(uids) if uids else None, notes)
    pixel_size = _pixel_size(source, table)
    columns: Columns = {"uid": kept.uid}
    columns |= _blob(source, table, pairs, pixel_size, kept)
    columns |= _ctf(source, table, notes)
    columns |= _alignments(source, table, pixel_size)
    columns |= _location(source, table, kept, micrograph_y, notes)
    rows = np.empty(len(table), [(name, v.dtype, v.shape[1:]) for name, v in columns.items()])
    for name, values in columns.items():
        rows[name] = values
    write_rows(target, rows)
    csg = target.with_suffix(".csg")
    write_text(csg, csg_text(open_group(target), [target], len(rows)))
    return Converted([target, csg], tuple(notes))


def _read_star(path: Path) -> pd.DataFrame:
    """Return the particle rows, the columns of their optics group added."""
    try:
        blocks = starfile.read(path, always_dict=True, parse_as_string=["rlnImageName", "rlnMicrographName"])
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; check the path, which is taken from the current directory") from None
    except Exception as fault:
        # starfile lets whatever its parsers met come through; each of them means that the file cannot be read.
        raise InputError(f"{path}: cannot be read as a STAR file ({fault}); write it again with RELION") from None
    tables = {name: pd.DataFrame(b) for name, b in blocks.items() if isinstance(b, pd.DataFrame)}
    particles = next((t for t in tables.values() if "rlnImageName" in t.columns), None)
    if particles is None:
        raise InputError(f"{path}: has no particles (no rlnImageName); give the STAR file of extracted particles")
    if not len(particles):
        raise InputError(f"{path}: holds no particles (0 rows); give a STAR file with some")
    optics = tables.get("optics")
    if optics is not None and "rlnOpticsGroup" in particles.columns and "rlnOpticsGroup" in optics.columns:
        new = [c for c in optics.columns if c not in particles.columns or c == "rlnOpticsGroup"]
        known = set(optics["rlnOpticsGroup"])
        unknown = [g for g in particles["rlnOpticsGroup"].unique() if g not in known]
        if unknown:
            raise InputError(f"{path}: particles are of optics group {unknown[0]}, which data_optics does not list")
        return particles.merge(optics[new].drop_duplicates("rlnOpticsGroup"), on="rlnOpticsGroup", how="left")
    return particles


def _split_name(path: Path, row: int, name: str) -> tuple[int, str]:
    number, at, stack = name.rpartition("@")
    if not at:
        return 0, name
    if not number.isdigit() or int(number) < 1 or not stack:
        raise InputError(f"{path}: rlnImageName of row {row + 1} is '{name}', not number@stack; mend that row")
    return int(number) - 1, stack


@dataclass(frozen=True)
class _Kept:
    """What the side table keeps of each row; None where it says nothing of it."""

    uid: NDArray[np.uint64]
    sign: NDArray[np.float32]
    path: list[str] | None = None
    micrograph_uid: NDArray[np.uint64] | None = None
    micrograph_shape: NDArray[np.uint32] | None = None


def _kept(source: Path, names: list[str], given: Path | None, notes: list[str]) -> _Kept:
    """Return the rows of the side table that belong to the images, or uids made from the names."""
    side = given or source.with_name(f"{source.stem}_uids.csv")
    keys = _numbered(names)
    if given is None and not side.exists():
        notes.append("no side table of uids: new ones were made, so CryoSPARC will not know these particles again")
        made = [hashed_uid(f"{name}#{repeat}") for name, repeat in keys]
        return _Kept(np.array(made, np.uint64), np.ones(len(names), np.float32))
    try:
        with side.open(newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
        known = dict(zip(_numbered([r["rlnImageName"] for r in rows]), rows, strict=True))
        missing = next((i for i, key in enumerate(keys) if key not in known), None)
        if missing is not None:
            raise InputError(
                f"{side}: has no uid for {names[missing]} (row {missing + 1} of {source.name}); give the table that "
                "was made with that STAR file"
            )
        found = [known[key] for key in keys]
        kept = _Kept(
            uid=np.array([int(r["uid"]) for r in found], np.uint64),
            sign=np.array([float(r["sign"]) for r in found], np.float32),
            path=[r["blob_path"] for r in found] if "blob_path" in found[0] else None,
        )
        if "micrograph_uid" in found[0]:
            kept = replace(
                kept,
                micrograph_uid=np.array([int(r["micrograph_uid"]) for r in found], np.uint64),
                micrograph_shape=np.array([(r["micrograph_ny"], r["micrograph_nx"]) for r in found]).astype("<u4"),
            )
    except (OSError, KeyError, ValueError, TypeError, OverflowError):
        raise InputError(
            f"{side}: is not a table of uids (columns rlnImageName, uid, sign); give the one made with the STAR file"
        ) from None
    return kept


def hashed_uid(text: str) -> int:
    """Return a 64-bit number that is the same for the same text, everywhere."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def _numbered(names: list[str]) -> list[tuple[str, int]]:
    """Tell repeated names apart, as symmetry expansion makes them, by counting them."""
    seen: Counter[str] = Counter()
    numbered = []
    for name in names:
        plain = name.lstrip("0")  # programs pad the number before the @ differently
        numbered.append((plain, seen[plain]))
        seen[plain] += 1
    return numbered


def _number(source: Path, table: pd.DataFrame, label: str, default: float | None = None) -> NDArray[np.float64]:
    if label not in table.columns:
        if default is None:
            raise InputError(f"{source}: has no column {label}, which CryoSPARC needs; add it")
        return np.full(len(table), default)
    values = pd.to_numeric(table[label], errors="coerce").to_numpy(np.float64)
    bad = ~np.isfinite(values)
    if bad.any():
        raise InputError(f"{source}: {label} of row {int(bad.argmax()) + 1} is no number; mend that row")
    return values


def _pixel_size(source: Path, table: pd.DataFrame) -> NDArray[np.float64]:
    for label in ("rlnImagePixelSize", "rlnPixelSize"):
        if label in table.columns:
            return _number(source, table, label)
    if {"rlnDetectorPixelSize", "rlnMagnification"} <= set(table.columns):  # RELION up to 3.0: µm and magnification
        return 1e4 * _number(source, table, "rlnDetectorPixelSize") / _number(source, table, "rlnMagnification")
    raise InputError(f"{source}: holds no pixel size (rlnImagePixelSize); add it to data_optics")


def _blob(
    source: Path,
    table: pd.DataFrame,
    pairs: list[tuple[int, str]],
    pixel_size: NDArray[np.float64],
    kept: _Kept,
) -> Columns:
    if "rlnImageSize" in table.columns:
        side = _number(source, table, "rlnImageSize").astype("<u4")
    else:
        boxes: dict[str, int] = {}
        for _, stack in pairs:
            if stack not in boxes:
                boxes[stack] = _header(source, stack, "keep it in its project, or add rlnImageSize to data_optics")[1]
        side = np.array([boxes[stack] for _, stack in pairs], "<u4")
    return {
        "blob/path": np.array([os.fsencode(p) for p in kept.path or [stack for _, stack in pairs]]),
        "blob/idx": np.array([number for number, _ in pairs], "<u4"),
        "blob/shape": np.stack([side, side], axis=1),
        "blob/psize_A": pixel_size.astype("<f4"),
        "blob/sign": kept.sign.astype("<f4"),
        "blob/import_sig": np.zeros(len(pairs), "<u8"),
    }


def _header(source: Path, name: str, mend: str) -> tuple[int, int]:
    """Return rows and columns of an MRC file that a STAR file names: from its folder, or a project folder above."""
    for folder in list(plain(source).parents)[:5]:
        if (folder / name).is_file():
            return read_header(folder / name).shape[1:]
    raise InputError(f"{source}: names {name}, which is not in its folder or above; {mend}")


def _ctf(source: Path, table: pd.DataFrame, notes: list[str]) -> Columns:
    n = len(table)
    if "rlnDefocusU" not in table.columns:
        notes.append("the STAR file has no CTF, so there is no ctf slot")
        return {}
    left_out = [c for c in ("rlnBeamTiltX", "rlnOddZernike", "rlnEvenZernike", "rlnMagMat00") if c in table.columns]
    if left_out:
        notes.append(f"{', '.join(left_out)} (higher aberrations): no formula is sure, so they are 0")
    numbers: Columns = {
        "exp_group_id": _exposure_groups(source, table),
        "accel_kv": _number(source, table, "rlnVoltage"),
        "cs_mm": _number(source, table, "rlnSphericalAberration"),
        "amp_contrast": _number(source, table, "rlnAmplitudeContrast"),
        "df1_A": _number(source, table, "rlnDefocusU"),
        "df2_A": _number(source, table, "rlnDefocusV"),
        "df_angle_rad": np.deg2rad(_number(source, table, "rlnDefocusAngle", 0)),
        "phase_shift_rad": np.deg2rad(_number(source, table, "rlnPhaseShift", 0)),
        "scale": np.ones(n),
        "scale_const": np.zeros(n),
        **{name: np.zeros((n, size)) for name, size in (("shift_A", 2), ("tilt_A", 2), ("trefoil_A", 2))},
        **{name: np.zeros((n, 4)) for name in ("tetra_A", "anisomag")},
        "bfactor": _number(source, table, "rlnCtfBfactor", 0),
    }
    columns: Columns = {"ctf/type": np.full(n, b"imported")}
    return columns | {f"ctf/{k}": v if v.dtype.kind == "u" else v.astype("<f4") for k, v in numbers.items()}


def _exposure_groups(source: Path, table: pd.DataFrame) -> NDArray[np.uint32]:
    """Return the group numbers counted from 0; RELION renumbers groups but keeps their names ``opticsGroup<N>``."""
    number = _number(source, table, "rlnOpticsGroup", 1)
    if "rlnOpticsGroupName" in table.columns:
        by_name = table["rlnOpticsGroupName"].astype(str).str.extract(r"^opticsGroup(\d+)$")[0]
        number = np.where(by_name.notna(), by_name.fillna("1").astype(float), number)
    return np.asarray(np.maximum(number - 1, 0), "<u4")


def _alignments(source: Path, table: pd.DataFrame, pixel_size: NDArray[np.float64]) -> Columns:
    if "rlnAnglePsi" not in table.columns:
        return {}
    psi = _number(source, table, "rlnAnglePsi")
    three = {"rlnAngleRot", "rlnAngleTilt"} <= set(table.columns)
    if three:
        euler = [_number(source, table, "rlnAngleRot"), _number(source, table, "rlnAngleTilt"), psi]
        pose = rotation_vectors_from_euler(np.stack(euler, axis=1))
    else:
        pose = np.deg2rad(psi)
    shift = [
        _number(source, table, f"rlnOrigin{axis}Angst") / pixel_size
        if f"rlnOrigin{axis}Angst" in table.columns
        else _number(source, table, f"rlnOrigin{axis}", 0)  # RELION up to 3.0 counts pixels
        for axis in "XY"
    ]
    fields: Columns = {
        "split": np.maximum(_number(source, table, "rlnRandomSubset", 1) - 1, 0).astype("<u4"),
        "shift": np.stack(shift, axis=1).astype("<f4"),
        "pose": pose.astype("<f4"),
        "psize_A": pixel_size.astype("<f4"),
        **{name: np.full(len(table), value, "<f4") for name, value in _ALIGNMENT_REST.items()},
        "class": np.maximum(_number(source, table, "rlnClassNumber", 1) - 1, 0).astype("<u4"),
        "class_ess": np.ones(len(table), "<f4"),
    }
    return {f"{'alignments3D' if three else 'alignments2D'}/{name}": values for name, values in fields.items()}


def _location(source: Path, table: pd.DataFrame, kept: _Kept, micrograph_y: MicrographY, notes: list[str]) -> Columns:
    if not {"rlnMicrographName", "rlnCoordinateX", "rlnCoordinateY"} <= set(table.columns):
        return {}
    names = table["rlnMicrographName"].astype(str).tolist()
    shape, uid = kept.micrograph_shape, kept.micrograph_uid
    if shape is None or uid is None:
        try:
            shapes = {name: _header(source, name, "keep the STAR file in its project") for name in dict.fromkeys(names)}
        except InputError as fault:
            notes.append(f"there is no location slot, since the micrographs' size is unknown: {fault}")
            return {}
        shape = np.array([shapes[name] for name in names], "<u4")
        uid = np.array([_micrograph_uid(name) for name in names], np.uint64)
    x = _number(source, table, "rlnCoordinateX") / shape[:, 1]
    y = _number(source, table, "rlnCoordinateY") / shape[:, 0]
    return {
        "location/micrograph_uid": uid,
        "location/exp_group_id": _exposure_groups(source, table),
        "location/micrograph_path": np.array([name.encode() for name in names]),
        "location/micrograph_shape": shape,
        "location/center_x_frac": x.astype("<f4"),
        "location/center_y_frac": (y if micrograph_y == "same" else 1 - y).astype("<f4"),
        "location/min_dist_A": np.zeros(len(names), "<f4"),
    }


def _micrograph_uid(name: str) -> int:
    """Return the uid that CryoSPARC wrote into the file's name, else one made from the name."""
    found = UID_PREFIX.match(PurePosixPath(name).name)
    return int(found[1]) if found and int(found[1]) < 1 << 64 else hashed_uid(str(PurePosixPath(name)))
