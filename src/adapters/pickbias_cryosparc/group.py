"""Particle groups: the ``.cs`` files of one job output, tied together by a ``.csg``, a ``job.json`` or their names.

CryoSPARC keeps what a job made in a main file and what the job inherited in a passthrough file; rows belong together
by ``uid``, not by their order. A ``.csg`` (YAML) names the file of each slot.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from napari_pickbias.errors import InputError
from pickbias_cryosparc.tables import Table, read_table

_JOB = re.compile(r"J\d+$")


@dataclass(frozen=True)
class Description:
    """What a ``.csg`` or ``job.json`` says of a group."""

    source: Path
    files: dict[str, Path]
    """Slot to the ``.cs`` file that holds it."""
    types: dict[str, str]
    """Slot to its type, such as ``particle.blob``."""
    name: str = "particles"
    title: str = "Particles"
    text: str = ""
    version: str = "v4.4.0"

    @property
    def distinct_files(self) -> list[Path]:
        """The files, the one that the job made first."""
        return sorted(dict.fromkeys(self.files.values()), key=lambda p: "passthrough" in p.name)


@dataclass(frozen=True)
class Group:
    """The joined tables of one particle output.

    Attributes
    ----------
    path : Path
        What the user opened.
    tables : tuple of Table
        The first one gives the rows and their order.
    places : tuple of (ndarray or None)
        For each table, where the rows of the first one stand in it; None where they stand in the same order.
    slots : dict
        Slot to index into ``tables``.
    description : Description or None
        None when nothing but the files themselves was found.
    notes : tuple of str
    """

    path: Path
    tables: tuple[Table, ...]
    places: tuple[NDArray[np.int64] | None, ...]
    slots: dict[str, int]
    description: Description | None = None
    notes: tuple[str, ...] = field(default=())

    def __len__(self) -> int:
        return len(self.tables[0])

    @property
    def folder(self) -> Path:
        """Folder of the main file, which paths that begin with ``>`` start from."""
        return self.tables[0].path.parent

    @property
    def fields(self) -> list[str]:
        """All fields that :meth:`column` gives."""
        return ["uid", *(f for t in self.tables for f in t.fields if "/" in f and self._table_of(f) is t)]

    def has(self, name: str) -> bool:
        """Tell whether a field is there."""
        return self._table_of(name) is not None

    def column(self, name: str) -> NDArray[Any]:
        """Return a field of all rows, in the order of the main file; ``InputError`` where it is missing."""
        table = self._table_of(name)
        if table is None:
            raise InputError(
                f"{self.path}: has no field '{name}'; give the job's .csg file, or a job output that carries "
                f"'{name.split('/')[0]}'"
            )
        place = self.places[self.tables.index(table)]
        values = np.ascontiguousarray(table.rows[name])
        return values if place is None else values[place]

    def _table_of(self, name: str) -> Table | None:
        index = self.slots.get(name.split("/")[0], 0)
        table = self.tables[index]
        return table if name in table.fields else None


def open_group(path: str | Path) -> Group:
    """Open a particle group: a ``.cs`` file, a ``.csg`` file, a job folder or an export folder.

    Beside a ``.cs`` file its partner is looked for: by a ``.csg`` or ``job.json`` that names the file, else by the
    name (``J30_passthrough_particles.cs``).

    Raises
    ------
    InputError
        When the files are missing, damaged, not particles, empty, or do not belong together by their uids.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: no such file; check the path, which is taken from the current directory")
    notes: list[str] = []
    if path.is_dir():
        return _join(path, describe_folder(path), notes)
    if path.suffix.lower() == ".csg":
        return _join(path, read_csg(path), notes)
    description = _description_of(path, notes)
    if description is not None:
        return _join(path, description, notes)
    tables = [read_table(path), *_partners_by_name(path)]
    return _joined(path, tables, {}, None, notes)


def _join(path: Path, description: Description, notes: list[str]) -> Group:
    given = plain(path)
    tables = []
    for file in description.distinct_files:
        if file.exists():
            tables.append(read_table(file))
        elif path.suffix.lower() == ".cs":
            notes.append(f"{description.source.name} names {file.name}, which is not there; its columns are left out")
        else:
            raise InputError(f"{description.source}: names {file}, which is not there; copy it beside, or export again")
    if given.suffix.lower() == ".cs" and "passthrough" not in given.name:
        tables.sort(key=lambda t: not t.path.samefile(given))
    by_file = {t.path: i for i, t in enumerate(tables)}
    slots = {slot: by_file[file] for slot, file in description.files.items() if file in by_file}
    return _joined(path, tables, slots, description, notes)


def _joined(
    path: Path, tables: list[Table], slots: dict[str, int], description: Description | None, notes: list[str]
) -> Group:
    main = tables[0]
    if not len(main):
        raise InputError(f"{main.path}: holds no particles (0 rows); choose another output of the job")
    for index, table in enumerate(tables):
        for slot in table.slots:
            slots.setdefault(slot, index)
    if not {"blob", "location"} & slots.keys():
        raise InputError(
            f"{main.path}: holds no particles but {', '.join(slots) or 'uids alone'}; give a particle output of the job"
        )
    uids = np.ascontiguousarray(main.rows["uid"])
    _refuse_repeats(main, uids)
    places: list[NDArray[np.int64] | None] = [None]
    places += [_places(main, uids, table) for table in tables[1:]]
    return Group(path, tuple(tables), tuple(places), slots, description, tuple(notes))


def _refuse_repeats(table: Table, uids: NDArray[np.uint64]) -> None:
    ordered = np.sort(uids)
    twice = ordered[1:][ordered[1:] == ordered[:-1]]
    if len(twice):
        raise InputError(
            f"{table.path}: the uid {twice[0]} stands in more than one row, so rows cannot be told apart; export the "
            "job again"
        )


def _places(main: Table, uids: NDArray[np.uint64], other: Table) -> NDArray[np.int64] | None:
    theirs = np.ascontiguousarray(other.rows["uid"])
    if np.array_equal(uids, theirs):
        return None
    order = np.argsort(theirs, kind="stable")
    found = np.minimum(np.searchsorted(theirs, uids, sorter=order), max(len(theirs) - 1, 0))
    there = theirs[order[found]] == uids if len(theirs) else np.zeros(len(uids), bool)
    if not there.all():
        raise InputError(
            f"{other.path}: lacks {int((~there).sum())} of the {len(uids)} uids of {main.path.name} (the first is "
            f"{uids[~there][0]}); the two are not of one job output"
        )
    _refuse_repeats(other, theirs)
    return order[found]


# -- descriptions -----------------------------------------------------------------------------------------------------


def read_csg(path: Path) -> Description:
    """Read a ``.csg`` file.

    Raises ``InputError`` when it is not one, is not of particles, or leads out of its folder.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        group, results = content["group"], content["results"]
        metafiles = {str(slot): str(result["metafile"]) for slot, result in results.items()}
        types = {str(slot): str(result.get("type", f"particle.{slot}")) for slot, result in results.items()}
        kind = str(group["type"])
    except OSError as fault:
        raise InputError(f"{path}: cannot be opened ({fault.strerror}); check the path and its permissions") from None
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError, AttributeError):
        raise InputError(f"{path}: is not a CryoSPARC group (.csg); export the group again") from None
    if kind != "particle":
        raise InputError(f"{path}: is a group of type '{kind}', not of particles; give the .csg of the particles")
    if not metafiles:
        raise InputError(f"{path}: names no .cs file; export the group again")
    return Description(
        source=path,
        files={slot: _metafile(path, metafile) for slot, metafile in metafiles.items()},
        types=types,
        name=str(group.get("name", "particles")),
        title=str(group.get("title", "Particles")),
        text=str(group.get("description") or ""),
        version=str(content.get("version", "v4.4.0")),
    )


def _metafile(csg: Path, metafile: str) -> Path:
    inside = contained(metafile, f"{csg}: its metafile")
    if metafile.startswith(">"):
        return csg.parent / inside
    job = next((p for p in plain(csg).parents if _JOB.match(p.name)), None)
    return (job.parent if job else csg.parent) / inside


def plain(path: Path) -> Path:
    """Return the absolute path without ``..``, links left as they are: projects are built of them."""
    return Path(os.path.abspath(path))  # noqa: PTH100 (resolve would follow the links, absolute keeps the dots)


def contained(text: str, who: str) -> PurePosixPath:
    """Return a path of a CryoSPARC file without its mark ``>``.

    Raises ``InputError`` when it would lead out of the folder that it starts from.
    """
    inside = PurePosixPath(text.removeprefix(">"))
    windows = PureWindowsPath(inside)  # the stricter reading: backslashes and drives lead elsewhere there
    if not inside.parts or windows.anchor or ".." in windows.parts or "\0" in text:
        raise InputError(f"{who} '{text}' leads out of the project folder and is not followed; export the group again")
    return inside


def describe_folder(folder: Path) -> Description:
    """Return the particle group of a job folder (4.x and 5.x) or of an export.

    Raises ``InputError`` when there is none, or more than one and none is called ``particles``.
    """
    found = _job_groups(folder)
    if not found:
        for csg in sorted(folder.glob("*.csg")):
            try:
                found.append(read_csg(csg))
            except InputError:
                continue  # micrographs, volumes …
    if not found:
        raise InputError(
            f"{folder}: holds no particle group (no .csg and no job.json with one); give a particle job's folder or "
            "its .cs file"
        )
    named = [d for d in found if d.name == "particles"]
    if len(found) > 1 and len(named) != 1:
        choices = ", ".join(sorted(d.distinct_files[0].name for d in found))
        raise InputError(f"{folder}: holds {len(found)} particle groups; give the file of one of them: {choices}")
    return named[0] if len(found) > 1 else found[0]


def _job_groups(folder: Path, versions_of: Path | None = None) -> list[Description]:
    """Return the particle outputs that ``job.json`` lists, each at its last version.

    With ``versions_of`` at the version that file is of, and only the outputs it belongs to.
    """
    path = folder / "job.json"
    try:
        job = json.loads(path.read_text(encoding="utf-8"))
        outputs = list(_outputs(job))
        version = str(job.get("cryosparc_version") or job.get("version") or "v4.4.0")
    except (OSError, ValueError, AttributeError, TypeError, KeyError):
        return []  # a job that keeps no such file, or is being written: the .csg files will do
    found: dict[str, tuple[dict[str, Path], dict[str, str], str]] = {}
    belongs: set[str] = set()
    for group, title, slot, kind, metafiles in outputs:
        if not metafiles:
            continue
        files = [plain(folder).parent / contained(m, f"{path}: its metafile") for m in metafiles]
        chosen = files[-1]
        if versions_of is not None and (same := [f for f in files if f == plain(versions_of)]):
            chosen = same[0]
            belongs.add(group)
        into = found.setdefault(group, ({}, {}, title))
        into[0][slot], into[1][slot] = chosen, kind
    return [
        Description(path, files, types, group, title, version=version)
        for group, (files, types, title) in found.items()
        if versions_of is None or group in belongs
    ]


def _outputs(job: dict[str, Any]) -> Any:
    """Yield (group, title, slot, type, metafiles) of each particle result, of either layout."""
    if "spec" in job:  # 5.x
        for group, output in job["spec"]["outputs"].items():
            if output["type"] == "particle":
                for r in output["results"]:
                    yield group, str(output.get("title", group)), r["name"], _full_type(r["dtype"]), r["metafiles"]
        return
    titles = {g.get("name"): g.get("title") for g in job.get("output_result_groups", [])}
    for r in job["output_results"]:
        if str(r["type"]).startswith("particle."):
            yield (
                r["group_name"],
                str(titles.get(r["group_name"]) or r["group_name"]),
                r["name"],
                r["type"],
                r["metafiles"],
            )


def _full_type(dtype: str) -> str:
    return dtype if "." in dtype else f"particle.{dtype}"


def _description_of(path: Path, notes: list[str]) -> Description | None:
    """Return the description beside a ``.cs`` file that names it."""
    for csg in sorted(path.parent.glob("*.csg")):
        try:
            description = read_csg(csg)
        except InputError:
            continue  # another group's, or damaged: the .cs file itself is what the user gave
        if any(_is(file, path) for file in description.files.values()):
            return description
    groups = _job_groups(path.parent, path)
    if len(groups) > 1:
        notes.append(f"{path.name} belongs to the groups {', '.join(g.name for g in groups)}; the first is taken")
    return groups[0] if groups else None


def _is(a: Path, b: Path) -> bool:
    return a.exists() and a.samefile(b)


def _partners_by_name(path: Path) -> list[Table]:
    """Return the passthrough file that belongs to a main file by its name and its uids, or none."""
    kind = re.split(r"[_\d]*?(particles\w*)$", path.stem)
    wanted = kind[1] if len(kind) > 1 else "particles"
    found = [p for p in sorted(path.parent.glob(f"*passthrough_{wanted}.cs")) if p != path]
    found += [p for p in sorted(path.parent.glob("*passthrough_particles.cs")) if p != path and p not in found]
    if not found or "passthrough" in path.name:
        return []
    uids = np.sort(read_table(path).rows["uid"])
    for candidate in found:
        table = read_table(candidate)
        theirs = np.sort(table.rows["uid"])
        if np.array_equal(uids, theirs) or np.isin(uids, theirs).all():
            return [table]
    return []
