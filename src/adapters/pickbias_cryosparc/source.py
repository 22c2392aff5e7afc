"""A CryoSPARC particle group as a source: read into records, written back as a subset that CryoSPARC imports."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from napari_pickbias.errors import InputError
from napari_pickbias.records.atomic import write_text
from napari_pickbias.records.particles import CtfParameters, Particles, Poses
from pickbias_cryosparc.group import Group, open_group, plain
from pickbias_cryosparc.images import ImageFiles, find_images, lazy_images, link_images
from pickbias_cryosparc.poses import euler_from_rotation_vectors
from pickbias_cryosparc.tables import Table, write_rows, write_table

_CTF_FIELDS = ("accel_kv", "cs_mm", "amp_contrast", "df1_A", "df2_A", "df_angle_rad", "phase_shift_rad")
_NOT_USED = {
    "ctf/tilt_A": "beam tilt",
    "ctf/trefoil_A": "trefoil",
    "ctf/tetra_A": "tetrafoil",
    "ctf/anisomag": "anisotropic magnification",
}


class CryosparcSource:
    """Particles of a CryoSPARC job.

    Parameters
    ----------
    path : str or Path
        A ``.cs`` file (its passthrough file is found beside it), a ``.csg``, a job folder or an export folder.

    Raises
    ------
    InputError
        When there is no particle group, or its files do not belong together.
    """

    suffix = ".cs"

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.group = open_group(self.path)

    def __len__(self) -> int:
        return len(self.group)

    def read_metadata(self, pixel_size_angstrom: float | None = None) -> Particles:
        """Read as :meth:`read` does; that the stacks are not there is not worth a note."""
        return self._read(pixel_size_angstrom, replace(find_images(self.group), tried=()))

    def read(self, pixel_size_angstrom: float | None = None) -> Particles:
        """Read what the science needs; images stay on disk.

        Images are multiplied by ``blob/sign`` when read. Poses are those of a refinement (``alignments3D``), in
        RELION's convention. Coordinates count rows in the order of the micrograph file, as RELION does.
        ``pixel_size_angstrom`` overrides ``blob/psize_A``.

        Raises ``InputError`` when a field is missing or holds no numbers.
        """
        return self._read(pixel_size_angstrom, find_images(self.group))

    def _read(self, pixel_size_angstrom: float | None, files: ImageFiles) -> Particles:
        group = self.group
        images, notes = lazy_images(group, files)
        optics_group, names = _optics_groups(group)
        ctf, ctf_notes = _ctf(group)
        return Particles(
            images=images,
            pixel_size_angstrom=_pixel_sizes(group, pixel_size_angstrom),
            optics_group=optics_group,
            optics_group_names=names,
            ctf=ctf,
            micrograph=micrograph_names(group),
            coordinates_px=coordinates(group),
            poses=_poses(group),
            notes=tuple(f"{self.path}: {note}" for note in [*group.notes, *notes, *ctf_notes]),
        )

    def input_files(self) -> list[Path]:
        """Return the metadata files (the one that was opened first), then the stacks."""
        group = self.group
        metadata = [group.path] if group.path.is_file() else []
        metadata += [t.path for t in group.tables]
        if group.description is not None:
            metadata.append(group.description.source)
        unique: dict[Path, Path] = {}
        for file in [*metadata, *find_images(group).paths]:
            unique.setdefault(plain(file), file)
        return list(unique.values())

    def write_subset(
        self, keep: NDArray[np.bool_], target: Path, columns: Mapping[str, NDArray[np.generic]] | None = None
    ) -> list[Path]:
        """Write the kept rows as ``.cs`` files and the ``.csg`` that ties them together for Import Result Group.

        ``<stem>.cs`` has the kept rows of the main file byte for byte, ``<stem>_passthrough.cs`` those of the
        passthrough file, ``<stem>.csg`` names the file of each slot. ``columns`` go to ``<stem>_pickbias.cs``, a
        table of its own with the same uids, so that CryoSPARC's fields stay as they were. Where the image paths would
        not be found from the target's folder, links to their folders are made there.

        Returns the files written, ``target`` first. Raises ``InputError`` when a target is one of the inputs.
        """
        keep, target = np.asarray(keep, bool), Path(target)
        if keep.shape != (len(self.group),):
            raise ValueError(f"keep has shape {keep.shape} for {len(self.group)} particles")
        targets = [target, *(target.with_name(f"{target.stem}{s}.cs") for s in _partner_suffixes(self.group))]
        csg, own = target.with_suffix(".csg"), target.with_name(f"{target.stem}_pickbias.cs")
        self._refuse_inputs([*targets, csg, own])
        for table, place, path in zip(self.group.tables, self.group.places, targets, strict=True):
            write_table(path, table, _kept_rows(table, place, keep))
        if columns:
            uids = np.ascontiguousarray(self.group.tables[0].rows["uid"])
            write_rows(own, _own_table(uids[keep], {name: np.asarray(v)[keep] for name, v in columns.items()}))
        write_text(csg, csg_text(self.group, targets, int(keep.sum())))
        if self.group.has("blob/path"):
            link_images(find_images(self.group), target.parent)
        return [*targets, csg, *([own] if columns else [])]

    def _refuse_inputs(self, targets: list[Path]) -> None:
        inputs = [t.path for t in self.group.tables]
        if self.group.description is not None:
            inputs.append(self.group.description.source)
        for target in targets:
            if target.exists() and any(i.exists() and target.samefile(i) for i in inputs):
                raise InputError(f"{target}: is an input file, which is never written to; give another name")


def open_particles(path: str | Path) -> CryosparcSource:
    """Open a CryoSPARC particle group; see :class:`CryosparcSource`."""
    return CryosparcSource(path)


def read_particles(path: str | Path, pixel_size_angstrom: float | None = None) -> Particles:
    """Read a CryoSPARC particle group into records; see :meth:`CryosparcSource.read`."""
    return CryosparcSource(path).read(pixel_size_angstrom)


def write_subset(
    source_path: str | Path,
    keep: NDArray[np.bool_],
    target_path: str | Path,
    columns: Mapping[str, NDArray[np.generic]] | None = None,
) -> list[Path]:
    """Write the kept rows of a CryoSPARC particle group; see :meth:`CryosparcSource.write_subset`."""
    return CryosparcSource(source_path).write_subset(keep, Path(target_path), columns)


# -- columns ----------------------------------------------------------------------------------------------------------


def numbers(group: Group, name: str) -> NDArray[np.float64]:
    """Return a field as float64; ``InputError`` where it is missing or has a value that is no number."""
    values = group.column(name).astype(np.float64)
    bad = ~np.isfinite(values)
    if bad.any():
        row = int(np.argmax(bad.reshape(len(values), -1).any(axis=1)))
        raise InputError(
            f"{group.path}: '{name}' of row {row + 1} is no number; run the job again or leave that particle out"
        )
    return values


def shortest(values: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return float32 values as the float64 of their shortest decimal text, so that 0.6575 stays 0.6575."""
    unique, index = np.unique(values, return_inverse=True)
    return np.array([float(str(v)) for v in unique])[index.reshape(values.shape)]


def _pixel_sizes(group: Group, given: float | None) -> NDArray[np.float64]:
    if given is not None:
        return np.full(len(group), float(given))
    if not group.has("blob/psize_A"):
        raise InputError(f"{group.path}: has no field 'blob/psize_A'; give the pixel size in Å with --pixel-size")
    sizes = shortest(group.column("blob/psize_A"))
    bad = ~(np.isfinite(sizes) & (sizes > 0))
    if bad.any():
        raise InputError(
            f"{group.path}: the pixel size of row {int(np.argmax(bad)) + 1} is {sizes[bad][0]:g} Å; give it with "
            "--pixel-size"
        )
    return sizes


def _optics_groups(group: Group) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    for name in ("ctf/exp_group_id", "location/exp_group_id"):
        if group.has(name):
            ids, index = np.unique(group.column(name), return_inverse=True)
            return index.astype(np.int64), tuple(f"exposure group {i}" for i in ids)
    return np.zeros(len(group), np.int64), ("exposure group 0",)


def _ctf(group: Group) -> tuple[CtfParameters | None, list[str]]:
    if not group.has("ctf/df1_A"):
        return None, []
    accel, cs, amplitude, u, v, angle, phase = (numbers(group, f"ctf/{f}") for f in _CTF_FIELDS)
    if not u.any() and not v.any():
        return None, ["every defocus is 0, so the CTF counts as unknown"]
    notes = []
    used = [what for name, what in _NOT_USED.items() if group.has(name) and group.column(name).any()]
    if used:
        notes.append(f"{', '.join(used)} is in the file and not used")
    ctf = CtfParameters(
        defocus_u_angstrom=u,
        defocus_v_angstrom=v,
        defocus_angle_deg=np.rad2deg(angle),
        voltage_kv=accel,
        spherical_aberration_mm=shortest(cs.astype(np.float32)),
        amplitude_contrast=shortest(amplitude.astype(np.float32)),
        phase_shift_deg=np.rad2deg(phase),
    )
    return ctf, notes


def _poses(group: Group) -> Poses | None:
    if not group.has("alignments3D/pose"):
        return None
    scale = numbers(group, "alignments3D/psize_A")
    return Poses(
        euler_deg=euler_from_rotation_vectors(numbers(group, "alignments3D/pose")),
        # The shift counts pixels of the refinement, which may be binned; not those of the image.
        shifts_angstrom=numbers(group, "alignments3D/shift") * scale[:, None],
    )


def micrograph_names(group: Group) -> NDArray[np.str_] | None:
    """Return each particle's micrograph: its path, or its uid where the path is empty; None without locations."""
    if not group.has("location/micrograph_path"):
        return None
    paths, index = np.unique(group.column("location/micrograph_path"), return_inverse=True)
    names = np.array([bytes(p).decode(errors="replace").removeprefix(">") for p in paths], str)[index]
    if (names == "").any() and group.has("location/micrograph_uid"):
        names = np.where(names == "", group.column("location/micrograph_uid").astype(str), names)
    return None if (names == "").all() else names


def coordinates(group: Group) -> NDArray[np.float64] | None:
    """Return x, y of the picks, ``(n, 2)``, in pixels of the micrograph file; None without locations."""
    needed = ("location/center_x_frac", "location/center_y_frac", "location/micrograph_shape")
    if not all(group.has(name) for name in needed):
        return None
    height, width = group.column("location/micrograph_shape").astype(np.float64).T
    return np.stack([numbers(group, needed[0]) * width, numbers(group, needed[1]) * height], axis=1)


# -- writing ----------------------------------------------------------------------------------------------------------


def _partner_suffixes(group: Group) -> list[str]:
    others = len(group.tables) - 1
    return ["_passthrough"] if others == 1 else [f"_passthrough_{i + 1}" for i in range(others)]


def _kept_rows(table: Table, place: NDArray[np.int64] | None, keep: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which rows of ``table`` are kept; it may have another order, and rows that the main file lacks."""
    if place is None:
        return keep
    kept = np.zeros(len(table), bool)
    kept[place[keep]] = True
    return kept


def _own_table(uids: NDArray[np.uint64], columns: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    stored = {f"pickbias/{_field_name(name)}": _storable(values) for name, values in columns.items()}
    rows = np.empty(len(uids), [("uid", "<u8"), *((name, v.dtype, v.shape[1:]) for name, v in stored.items())])
    rows["uid"] = uids
    for name, values in stored.items():
        rows[name] = values
    return rows


def _field_name(name: str) -> str:
    """Return ``p_value`` for ``pickbiasPValue``: CryoSPARC's way of naming."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower().removeprefix("pickbias_")


def _storable(values: NDArray[Any]) -> NDArray[Any]:
    """Return values in a type that CryoSPARC's client reads: no booleans, no float16, text as UTF-8 bytes."""
    if values.dtype.kind in "UO":
        encoded = [str(v).encode() for v in values.tolist()]
        return np.array(encoded, f"S{max([1, *map(len, encoded)])}")
    if values.dtype.kind == "b":
        return values.astype("<u4")
    return values.astype("<f4") if values.dtype == np.float16 else values.astype(values.dtype.newbyteorder("<"))


def _slot_type(slot: str) -> str:
    """Return the result type of a slot where no ``.csg`` says it; numbered slots share one type."""
    if re.fullmatch(r"alignments_class_\d+", slot):
        return "particle.alignments3D"
    return "particle." + re.sub(r"_mode_\d+$", "", slot)


def csg_text(group: Group, targets: list[Path], count: int) -> str:
    """Return the ``.csg`` that ties ``targets`` (one a table of ``group``, ``count`` rows each) together."""
    description = group.description
    files = {table.path: target.name for table, target in zip(group.tables, targets, strict=True)}
    if description is not None:
        slots = {slot: files[path] for slot, path in description.files.items() if path in files}
        types = description.types
    else:
        slots = {slot: targets[index].name for slot, index in group.slots.items()}
        types = {}
    content = {
        # The source's own time, so that the same run writes the same bytes.
        "created": datetime.fromtimestamp(group.tables[0].path.stat().st_mtime, UTC).replace(tzinfo=None),
        "group": {
            "description": description.text if description else "",
            "name": description.name if description else "particles",
            "title": description.title if description else "Particles",
            "type": "particle",
        },
        "results": {
            slot: {"metafile": f">{name}", "num_items": count, "type": types.get(slot, _slot_type(slot))}
            for slot, name in slots.items()
        },
        "version": description.version if description else "v4.4.0",
    }
    return str(yaml.safe_dump(content, default_flow_style=False))
