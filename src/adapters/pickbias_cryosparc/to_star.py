"""CryoSPARC particles to a RELION STAR file, with a side table that keeps the uids for the way back.

Formulas checked against csparc2star's output on real files: poses to 1e-15 rad, origins, defocus and coordinates to the
last printed digit. Origins are scaled by the pixel size of the alignment, not of the image.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
import pandas as pd
import starfile
from numpy.typing import NDArray

from napari_pickbias.errors import InputError
from napari_pickbias.records.atomic import atomic_path
from pickbias_cryosparc.group import Group, open_group
from pickbias_cryosparc.images import ImageFiles, find_images
from pickbias_cryosparc.poses import euler_from_rotation_vectors
from pickbias_cryosparc.source import coordinates, micrograph_names, numbers, shortest

MicrographY = Literal["same", "flipped"]
UID_PREFIX = re.compile(r"^(\d{21})_")
_LEFT_OUT = {"tilt_A": "beam tilt", "trefoil_A": "trefoil", "tetra_A": "tetrafoil", "anisomag": "anisotropic scale"}


@dataclass(frozen=True)
class Converted:
    """What a conversion wrote.

    Attributes
    ----------
    files : list of Path
        The target first.
    notes : tuple of str
        What could not be carried over, or needs the user's eye.
    """

    files: list[Path]
    notes: tuple[str, ...] = ()


def cs_to_star(
    source: str | Path,
    target: str | Path,
    *,
    micrograph_y: MicrographY = "same",
    strip_uids: bool = False,
    link_stacks: bool = False,
) -> Converted:
    """Write a CryoSPARC particle group as a STAR file of RELION 3.1 and later.

    Parameters
    ----------
    source : str or Path
        ``.cs``, ``.csg``, job folder or export folder.
    target : str or Path
        The STAR file to make; ``<stem>_uids.csv`` beside it keeps each image's uid and sign.
    micrograph_y : {"same", "flipped"}
        How the rows of RELION's micrographs count: ``"same"`` when both programs read the same MRC files,
        ``"flipped"`` when RELION made its own from TIFF or EER movies, which turns them over. Coordinates alone change:
        the images, and with them poses, origins and defocus angles, stay CryoSPARC's.
    strip_uids : bool, default False
        Take CryoSPARC's 21-digit prefix off micrograph names, to match RELION's own.
    link_stacks : bool, default False
        Make a link ``<target stem>_stacks/….mrcs`` to each stack and name that, since RELION takes ``.mrc`` files for
        single images.

    Returns
    -------
    Converted

    Raises
    ------
    InputError
        When a field is missing or damaged, or a file cannot be written.
    """
    target, group = Path(target), open_group(source)
    files = find_images(group)
    names = _stack_names(files, target, link_stacks)
    index = group.column("blob/idx").astype(np.int64) + 1
    images = np.array([f"{i:06d}@{names[f]}" for i, f in zip(index.tolist(), files.file_index.tolist(), strict=True)])
    notes = list(group.notes)
    optics, optics_number = _optics(group, notes)
    particles: dict[str, Any] = {"rlnImageName": images}
    particles |= _locations(group, micrograph_y, strip_uids)
    particles |= _alignments(group)
    particles |= _ctf(group, notes)
    particles |= _filaments(group, notes)
    particles["rlnOpticsGroup"] = optics_number
    sign = group.column("blob/sign") if group.has("blob/sign") else np.ones(len(group), np.float32)
    if (sign < 0).any():
        notes.append(
            "the images are dark on light (blob/sign is -1) and are not changed; RELION wants them inverted "
            "(relion_preprocess --operate_on … --invert_contrast)"
        )
    with atomic_path(target) as temporary:
        starfile.write({"optics": pd.DataFrame(optics), "particles": pd.DataFrame(particles)}, temporary)
    side = target.with_name(f"{target.stem}_uids.csv")
    with atomic_path(side) as temporary:
        _uid_table(group, images, sign).to_csv(temporary, index=False)
    return Converted([target, side], tuple(notes))


def _uid_table(group: Group, images: NDArray[np.str_], sign: NDArray[np.float32]) -> pd.DataFrame:
    """Return what STAR has no word for and the way back needs, one row an image."""
    table: dict[str, Any] = {"rlnImageName": images, "uid": group.column("uid"), "sign": sign.astype(int)}
    table["blob_path"] = [os.fsdecode(bytes(path)) for path in group.column("blob/path")]
    if group.has("location/micrograph_uid") and group.has("location/micrograph_shape"):
        table["micrograph_uid"] = group.column("location/micrograph_uid")
        table["micrograph_ny"], table["micrograph_nx"] = group.column("location/micrograph_shape").T
    return pd.DataFrame(table)


def _stack_names(files: ImageFiles, target: Path, link: bool) -> list[str]:
    """Return what ``rlnImageName`` says after the ``@``, for each stack."""
    if not link:
        return [str(name) for name in files.names]
    folder = Path(f"{target.stem}_stacks")
    names = []
    for name, path in zip(files.names, files.paths, strict=True):
        if not path.exists():
            raise InputError(f"{path}: no such stack, so no link to it can be made; convert without links")
        inside = folder / PurePosixPath(name).with_suffix(".mrcs")
        place = target.parent / inside
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.unlink(missing_ok=True)
            place.symlink_to(path.resolve())
        except OSError as fault:
            raise InputError(
                f"{place}: cannot link to the stack ({fault.strerror}); convert without links, or to another folder"
            ) from None
        names.append(inside.as_posix())
    return names


def _optics(group: Group, notes: list[str]) -> tuple[dict[str, Any], NDArray[np.int64]]:
    """Return the optics table and each particle's group number; a group with mixed values is split."""
    n = len(group)
    columns: dict[str, NDArray[Any]] = {}
    if group.has("ctf/accel_kv"):
        columns["rlnVoltage"] = numbers(group, "ctf/accel_kv")
        columns["rlnSphericalAberration"] = shortest(group.column("ctf/cs_mm"))
        columns["rlnAmplitudeContrast"] = shortest(group.column("ctf/amp_contrast"))
    else:
        notes.append("there is no CTF; RELION needs voltage, aberration and defocus for most jobs")
    columns["rlnImagePixelSize"] = shortest(group.column("blob/psize_A"))
    columns["rlnImageSize"] = group.column("blob/shape").reshape(n, -1)[:, 0].astype(np.int64)
    if group.has("location/micrograph_psize_A"):
        columns["rlnMicrographPixelSize"] = shortest(group.column("location/micrograph_psize_A"))
    number = group.column("ctf/exp_group_id").astype(np.int64) + 1 if group.has("ctf/exp_group_id") else np.ones(n, int)
    keys = np.column_stack([number, *columns.values()])
    _, first, index = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    numbers_of = number[first].copy()
    repeated = np.flatnonzero(np.diff(numbers_of, prepend=-1) == 0)
    if len(repeated):
        notes.append("exposure groups whose particles differ in pixel size, box or microscope were split")
        numbers_of[repeated] = numbers_of.max() + 1 + np.arange(len(repeated))
    table: dict[str, Any] = {
        "rlnOpticsGroup": numbers_of,
        "rlnOpticsGroupName": [f"opticsGroup{i}" for i in numbers_of],
        **{name: values[first] for name, values in columns.items()},
        "rlnImageDimensionality": np.full(len(first), 2),
    }
    return table, numbers_of[index.reshape(-1)]


def _locations(group: Group, micrograph_y: MicrographY, strip_uids: bool) -> dict[str, Any]:
    found: dict[str, Any] = {}
    names = micrograph_names(group)
    if names is not None:
        found["rlnMicrographName"] = np.array([stripped(n) for n in names]) if strip_uids else names
    places = coordinates(group)
    if places is not None:
        height = group.column("location/micrograph_shape")[:, 0].astype(np.float64)
        found["rlnCoordinateX"] = places[:, 0]
        found["rlnCoordinateY"] = places[:, 1] if micrograph_y == "same" else height - places[:, 1]
    return found


def stripped(name: str) -> str:
    """Return a micrograph's name without the uid prefix that CryoSPARC gives to files."""
    path = PurePosixPath(name)
    stem = path.name
    while UID_PREFIX.match(stem):  # a re-imported micrograph has it twice
        stem = UID_PREFIX.sub("", stem)
    return str(path.with_name(stem)) if stem else name


def _ctf(group: Group, notes: list[str]) -> dict[str, Any]:
    if not group.has("ctf/df1_A"):
        return {}
    left_out = [what for f, what in _LEFT_OUT.items() if group.has(f"ctf/{f}") and group.column(f"ctf/{f}").any()]
    if left_out:
        notes.append(f"{', '.join(left_out)} of the .cs file: no formula is sure, so left out; refine them in RELION")
    found = {
        "rlnDefocusU": numbers(group, "ctf/df1_A"),
        "rlnDefocusV": numbers(group, "ctf/df2_A"),
        "rlnDefocusAngle": np.rad2deg(numbers(group, "ctf/df_angle_rad")),
        "rlnPhaseShift": np.rad2deg(numbers(group, "ctf/phase_shift_rad")),
    }
    if group.has("ctf/bfactor"):
        found["rlnCtfBfactor"] = numbers(group, "ctf/bfactor")
    return found


def _alignments(group: Group) -> dict[str, Any]:
    """Return angles, origins, half-set and class of the best alignment there is: 3-D, of several classes, 2-D."""
    classes, best = _best_class(group)
    if group.has("alignments3D/pose"):
        found: dict[str, Any] = _pose_columns(
            *(numbers(group, f"alignments3D/{f}") for f in ("pose", "shift", "psize_A"))
        )
        slot = "alignments3D"
    elif best:
        found, slot = _pose_columns(*best), ""
    elif group.has("alignments2D/pose"):
        shift = numbers(group, "alignments2D/shift") * numbers(group, "alignments2D/psize_A")[:, None]
        found = {
            "rlnAnglePsi": np.rad2deg(numbers(group, "alignments2D/pose")),
            "rlnOriginXAngst": shift[:, 0],
            "rlnOriginYAngst": shift[:, 1],
        }
        slot = "alignments2D"
    else:
        return {}
    splits = [s for s in (slot, "alignments3D_multi", "alignments_class_0") if group.has(f"{s}/split")]
    split = group.column(f"{splits[0]}/split").astype(np.int64) if splits else np.zeros(0, int)
    if len(np.unique(split)) > 1:
        found["rlnRandomSubset"] = split + 1
    if classes is not None:
        found["rlnClassNumber"] = classes + 1
    elif slot and group.has(f"{slot}/class"):
        found["rlnClassNumber"] = group.column(f"{slot}/class").astype(np.int64) + 1
    return found


def _pose_columns(
    pose: NDArray[np.float64], shift: NDArray[np.float64], psize: NDArray[np.float64]
) -> dict[str, NDArray[np.float64]]:
    euler = euler_from_rotation_vectors(pose)
    origin = shift * psize[:, None]
    return {
        "rlnAngleRot": euler[:, 0],
        "rlnAngleTilt": euler[:, 1],
        "rlnAnglePsi": euler[:, 2],
        "rlnOriginXAngst": origin[:, 0],
        "rlnOriginYAngst": origin[:, 1],
    }


def _best_class(group: Group) -> tuple[NDArray[np.int64] | None, tuple[NDArray[np.float64], ...] | None]:
    """Return the likeliest class of each particle and its pose, shift, pixel size, after heterogeneous refinement."""
    rows = np.arange(len(group))
    if group.has("alignments3D_multi/class_posterior"):  # 4.5 and later: one array with a class axis
        best = numbers(group, "alignments3D_multi/class_posterior").argmax(axis=1)
        pose, shift, psize = (numbers(group, f"alignments3D_multi/{f}") for f in ("pose", "shift", "psize_A"))
        return best, (pose[rows, best], shift[rows, best], psize[rows, best] if psize.ndim == 2 else psize)
    slots: list[str] = []
    while group.has(f"alignments_class_{len(slots)}/class_posterior"):
        slots.append(f"alignments_class_{len(slots)}")
    if not slots:
        return None, None
    best = np.stack([numbers(group, f"{s}/class_posterior") for s in slots], axis=1).argmax(axis=1)
    of_all = (np.stack([numbers(group, f"{s}/{f}") for s in slots], axis=1) for f in ("pose", "shift", "psize_A"))
    return best, tuple(values[rows, best] for values in of_all)


def _filaments(group: Group, notes: list[str]) -> dict[str, Any]:
    if not (group.has("filament/filament_uid") and group.has("filament/filament_pose")):
        return {}
    notes.append("filament angles are converted by a formula that was not checked on real filaments")
    # RELION counts tubes in 32 bits, so CryoSPARC's 64-bit numbers are replaced by 1, 2, …
    _, tube = np.unique(group.column("filament/filament_uid"), return_inverse=True)
    prior = np.rad2deg(np.pi / 2 - numbers(group, "filament/filament_pose"))
    return {"rlnHelicalTubeID": tube + 1, "rlnAnglePsiPrior": prior}
