"""The output directory of a run: claimed once, resumable, and never left half-written."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import filelock
import numpy as np
from numpy.typing import NDArray

from napari_pickbias.errors import InputError
from napari_pickbias.records.atomic import atomic_path, write_fault, write_text

STATE = ".pickbias"
"""Hidden folder in the output directory: fingerprint, finished pieces, lock. Only finished pieces' arrays are big."""


class RunDirectory:
    """An output directory claimed by this process.

    Use :func:`claim`; the instance also serves as the job's ``Checkpoints``.

    Attributes
    ----------
    path : Path
        The directory.
    resumed : bool
        True when pieces of an earlier, unfinished run are there to be used.
    """

    def __init__(self, path: Path, resumed: bool) -> None:
        self.path = path
        self.resumed = resumed
        self._state = path / STATE

    def load(self, name: str) -> dict[str, NDArray[Any]] | None:
        """Return a finished piece, or None; a piece that cannot be read counts as not finished."""
        try:
            # Opened here, because np.load leaves a damaged archive open.
            with (self._state / f"{name}.npz").open("rb") as stream, np.load(stream, allow_pickle=False) as saved:
                return {key: saved[key] for key in saved.files}
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None

    def save(self, name: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Keep a finished piece for ``--resume``."""
        with atomic_path(self._state / f"{name}.npz") as temporary, temporary.open("wb") as stream:
            np.savez(stream, **dict(arrays))  # type: ignore[arg-type]

    def record_outputs(self, files: list[Path]) -> None:
        """Remember which files this run wrote, so that ``--overwrite`` removes those and no others."""
        names = [str(p.relative_to(self.path)) for p in files]
        write_text(self._state / "outputs.json", json.dumps(sorted(set(names))))

    @property
    def finished(self) -> bool:
        """True when this very run (same parameters, same inputs) ended well before and its files are still there."""
        if not (self.resumed and (self._state / "finished").exists()):
            return False
        return all((self.path / name).exists() for name in _outputs(self._state))

    def finish(self) -> None:
        """Mark the run as complete and drop its pieces."""
        write_text(self._state / "finished", "")
        for piece in self._state.glob("*.npz"):
            piece.unlink(missing_ok=True)


def fingerprint(tool: str, parameters: Mapping[str, Any], inputs: list[dict[str, Any]]) -> str:
    """Return a short text that changes when the tool, a parameter or an input file changes."""
    text = json.dumps([tool, dict(parameters), inputs], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


@contextlib.contextmanager
def claim(
    path: str | Path,
    tool: str,
    parameters: Mapping[str, Any],
    inputs: list[dict[str, Any]],
    *,
    overwrite: bool = False,
    resume: bool = False,
    shared: bool = False,
    writes: Iterable[str] = (),
) -> Iterator[RunDirectory]:
    """Claim ``path`` as the output directory of one run.

    Parameters
    ----------
    path : str or Path
        Created when it does not exist.
    tool, parameters, inputs
        What is run on what: ``--resume`` goes on only where these are the same.
    overwrite : bool
        Remove the files that an earlier run wrote there, and start afresh. Files of others stay.
    resume : bool
        Go on where an earlier run stopped; starts afresh where nothing was begun.
    shared : bool
        The directory belongs to a pipeline (RELION's ``External/jobNNN``): files of others in it are no fault, and
        an unfinished run of the same job is resumed, another one overwritten.
    writes : iterable of str
        Names of files that this run will write into the directory: none of them may be an input.

    Raises
    ------
    InputError
        The directory has contents and neither flag is given, another run works in it, it was begun with other
        parameters or inputs, it cannot be written, or an input would be removed or replaced in it.
    """
    path = Path(path)
    if overwrite and resume:
        raise InputError("--overwrite and --resume: contradict each other; give one of them")
    if path.exists() and not path.is_dir():
        raise InputError(f"--out {path}: is a file; give a folder")
    print_now = fingerprint(tool, parameters, inputs)
    state = path / STATE
    occupied = path.is_dir() and any(path.iterdir())
    if occupied and not (overwrite or resume or shared):
        raise InputError(
            f"--out {path}: exists already and is not empty; give another folder, --overwrite to replace that run, "
            "or --resume to go on with it"
        )
    fresh = not occupied
    try:
        state.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(state / "lock", timeout=0)
        lock.acquire()
    except filelock.Timeout as error:
        raise InputError(f"--out {path}: another run is working there; wait for it or give another folder") from error
    except OSError as error:
        raise write_fault(path, error) from error
    try:
        begun = _read_json(state / "run.json")
        same = begun.get("fingerprint") == print_now
        if resume and begun and not same:
            difference = _difference(begun, tool, parameters)
            raise InputError(f"--resume: {path} was begun {difference}; run with the same or give --overwrite")
        resumed = (resume or shared) and same and not overwrite
        _spare_inputs(path, inputs, [*writes, *([] if resumed else _outputs(state))])
        if not resumed:
            _clear(path, state)
            described = {"tool": tool, "parameters": dict(parameters), "fingerprint": print_now}
            write_text(state / "run.json", json.dumps(described, default=str, indent=1))
        yield RunDirectory(path, resumed)
    except InputError:
        if fresh and not shared:
            _leave_nothing(path)
        raise
    finally:
        lock.release()


def _spare_inputs(path: Path, inputs: list[dict[str, Any]], names: list[str]) -> None:
    """Refuse to remove or replace a file that the run reads: ``kept.star`` of a first round, or simulated particles."""
    doomed = {(path / name).resolve() for name in names}
    for entry in inputs:
        if Path(entry["path"]).resolve() in doomed:
            raise InputError(
                f"--out {path}: {entry['path']} is read by this run and would be removed or replaced there; "
                "give another folder"
            )


def _leave_nothing(path: Path) -> None:
    """Remove a directory made by a run that failed before it finished anything, so that the next try need no flag."""
    state = path / STATE
    if any(state.glob("*.npz")) or (state / "outputs.json").exists():
        return
    if {item.name for item in path.iterdir()} <= {STATE, "pickbias.log"}:
        shutil.rmtree(path, ignore_errors=True)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _difference(begun: dict[str, Any], tool: str, parameters: Mapping[str, Any]) -> str:
    if begun.get("tool") != tool:
        return f"by {begun.get('tool')}"
    old = begun.get("parameters", {})
    now = json.loads(json.dumps(dict(parameters), default=str))
    changed = [f"{k} = {old.get(k)} (now {now.get(k)})" for k in sorted({*old, *now}) if old.get(k) != now.get(k)]
    return "with " + ", ".join(changed) if changed else "with other input files, or they changed since"


def _clear(path: Path, state: Path) -> None:
    """Remove what an earlier run wrote: its outputs by its own list, and its pieces."""
    for name in _outputs(state):
        target = (path / name).resolve()
        if target.is_relative_to(path.resolve()) and target.is_file():
            target.unlink(missing_ok=True)
    for item in state.iterdir():
        if item.name == "lock":
            continue
        if item.is_dir():
            shutil.rmtree(item, ignore_errors=True)
        else:
            item.unlink(missing_ok=True)


def _outputs(state: Path) -> list[str]:
    """Return the names of the files that the run recorded as its own."""
    try:
        names = json.loads((state / "outputs.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return [str(name) for name in names] if isinstance(names, list) else []


def describe_inputs(files: list[Path]) -> list[dict[str, Any]]:
    """Return path, size and identity of each input file, as ``summary.json`` lists them.

    Small files carry a SHA-256; large ones (stacks) their modification time, since hashing terabytes tells no more.
    """
    described = []
    for file in files:
        try:
            stat = os.stat(file)  # noqa: PTH116 (one call for both figures)
            entry: dict[str, Any] = {"path": str(file), "size": stat.st_size}
            if stat.st_size <= 16 * 1024 * 1024 and len(described) < 8:
                entry["sha256"] = hashlib.sha256(Path(file).read_bytes()).hexdigest()
            else:
                entry["mtime"] = stat.st_mtime
        except OSError as error:
            raise InputError(f"{file}: cannot be read: {error.strerror}; check the path and its permissions") from error
        described.append(entry)
    return described
