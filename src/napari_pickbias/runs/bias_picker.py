"""A picker that is a program of the user's: run on the micrographs, and on noise like them."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Generator, Sequence
from pathlib import Path, PurePath
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from napari_pickbias.errors import InputError
from napari_pickbias.jobs.bias import BiasResult
from napari_pickbias.jobs.bias_picker import PickerNull, Taken, noise_micrograph, peak_table, picker_null, taken
from napari_pickbias.jobs.progress import Checkpoints, Progress
from napari_pickbias.records import Micrographs, read_header, read_micrograph, write_mrc
from napari_pickbias.records.atomic import atomic_path
from napari_pickbias.records.micrographs import one_pixel_size, read_headers
from napari_pickbias.runs.bias_picks import SUFFIXES, ForeignPicks, check_inside, sort_picks

POLL = 0.2
"""Seconds between two looks at a running program."""
FOLDERS = "{folder}"
FILES = "{micrographs}"
OUT = "{out}"
WORK = ".pickbias/picker"
"""Folder in the output directory where the program works; it is removed at the end."""
PREFERRED = (".cbox", ".star", ".cs", ".txt", ".box")
"""Of a program that writes its picks in several formats the first of these is read: those that hold scores."""


class PickerCommand(NamedTuple):
    """A program that picks, and how its picks are to be read."""

    command: str
    """As the user gave it."""

    parts: list[str]
    """From :func:`split_command`."""

    picks_pixel_size: float | None
    """Å, of the pixels that its picks count in, where its files do not say it."""

    timeout: float | None
    """Seconds that one run may take."""

    @property
    def name(self) -> str:
        """Name of the program."""
        return PurePath(self.parts[0]).name


def split_command(command: str) -> list[str]:
    """Split a command as a shell would, without a shell, and check it.

    Parameters
    ----------
    command : str
        ``{micrographs}`` stands for all files, one argument each; ``{folder}`` for the folder that holds them;
        ``{out}`` for where the program is to write, a file or a folder. The last two may be part of an argument.

    Raises
    ------
    InputError
        When the quotes do not match, a placeholder is missing, or there is no such program.
    """
    try:
        parts = shlex.split(command)
    except ValueError as error:
        raise InputError(f"--picker {command}: its quotes do not match ({error}); close them") from error
    if not parts:
        raise InputError("--picker: is empty; give a command such as 'topaz extract -r 8 -o {out} {micrographs}'")
    if FILES not in parts and not any(FOLDERS in part for part in parts):
        raise InputError(
            f"--picker {command}: does not say where the micrographs go; write {FILES} (all files, an argument by "
            f"itself) or {FOLDERS} (their folder)"
        )
    if not any(OUT in part for part in parts):
        raise InputError(f"--picker {command}: does not say where the picks go; write {OUT} where it takes its output")
    if shutil.which(parts[0]) is None:
        raise InputError(f"--picker {parts[0]}: no such program; check its name, or give its whole path")
    return parts


def filled(parts: Sequence[str], files: Sequence[Path], folder: Path, out: Path) -> list[str]:
    """Put files and folders in the place of the placeholders; a name with blanks or quotes stays one argument."""
    found: list[str] = []
    for part in parts:
        if part == FILES:
            found += [str(file) for file in files]
        else:
            found.append(part.replace(FOLDERS, str(folder)).replace(OUT, str(out)))
    return found


def run_program(arguments: list[str], log: Path, stage: str, timeout: float | None) -> Generator[Progress, None, None]:
    """Run a program to its end; its words go to ``log``. It and its children are ended on every other way out.

    Raises
    ------
    InputError
        When it cannot be started, does not end in time, or ends with a fault.
    """
    name = PurePath(arguments[0]).name
    began = time.monotonic()
    said = log.with_suffix(".err")
    with log.open("wb") as words, said.open("wb") as faults:
        try:
            child = subprocess.Popen(
                arguments, stdin=subprocess.DEVNULL, stdout=words, stderr=faults, start_new_session=True
            )
        except OSError as error:
            raise InputError(f"--picker {arguments[0]}: cannot be started: {error.strerror}; check it") from error
        try:
            while child.poll() is None:
                yield Progress(stage, 0, 1, "")
                if timeout is not None and time.monotonic() - began > timeout:
                    raise InputError(
                        f"--picker {name}: did not end within {timeout:g} s; raise --picker-timeout, or try it by hand"
                    )
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(POLL)
        finally:
            if child.poll() is None:
                _end(child)
    if child.returncode != 0:
        last = _last_line(said) or _last_line(log) or "it said nothing"
        raise InputError(f"--picker {name}: ended with fault {child.returncode}: {last}; run it by hand to mend it")


def _end(child: subprocess.Popen[bytes]) -> None:
    """End a program and all that it started."""
    for mark in (signal.SIGTERM, getattr(signal, "SIGKILL", signal.SIGTERM)):
        if hasattr(os, "killpg"):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(child.pid, mark)
        else:  # pragma: no cover (Windows)
            child.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(3)
            return


def _last_line(file: Path) -> str:
    lines = [line.strip() for line in file.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""


def pick_files(out: Path, name: str) -> list[Path]:
    """Return what a program wrote: a file or a folder named ``out``, with or without a suffix.

    A file whose suffix tells nothing gets one by its first line.

    Raises
    ------
    InputError
        When nothing is there, or nothing that holds picks.
    """
    written = sorted(path for path in out.parent.glob(f"{out.name}*"))
    if not written:
        raise InputError(f"--picker {name}: wrote nothing to its {OUT}; check where the command says {OUT}")
    files = [file for path in written for file in (sorted(path.rglob("*")) if path.is_dir() else [path])]
    files = [_with_suffix(file) for file in files if file.is_file()]
    for suffix in PREFERRED:
        if chosen := [file for file in files if file.suffix.lower() == suffix]:
            return chosen
    if all(path.is_dir() for path in written) and not files:
        return []
    raise InputError(
        f"--picker {name}: wrote {files[0].name}, which is no file of picks known here; let it write one of "
        f"{', '.join(SUFFIXES)}"
    )


def _with_suffix(file: Path) -> Path:
    if file.suffix.lower() in SUFFIXES:
        return file
    with file.open("r", encoding="utf-8", errors="replace") as stream:
        first = next((line.strip() for line in stream if line.strip()), "")
    suffix = ".txt" if first.startswith("image_name") else ".star" if first.startswith(("data_", "# ")) else None
    if suffix is None:
        return file
    named = file.with_name(file.name + suffix)
    shutil.copyfile(file, named)
    return named


def run_picker(
    program: PickerCommand, files: Sequence[Path], names: Sequence[str], pixel_size: float, folder: Path
) -> Generator[Progress, None, ForeignPicks]:
    """Run the picker on files of one folder and read its picks.

    Parameters
    ----------
    program : PickerCommand
    files : sequence of Path
        All in one folder; their stems are unique.
    names : sequence of str
        What the picks of each file are to be called.
    pixel_size : float
        Of the micrographs, Å.
    folder : Path
        For its output and its words.

    Raises
    ------
    InputError
        See :func:`run_program`, :func:`pick_files`, and where the picks cannot be read.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    out = folder.resolve() / "picks"
    name = program.name
    arguments = filled(program.parts, files, files[0].parent, out)
    yield from run_program(arguments, folder / "program.log", "picker", program.timeout)
    found, total = sort_picks(
        pick_files(out, name), [file.name for file in files], pixel_size, program.picks_pixel_size, f"--picker {name}"
    )
    if total and not found.places:
        raise InputError(
            f"--picker {name}: none of its {total} picks names a micrograph that it was given, such as "
            f"{files[0].name}; let it keep their names"
        )
    called = {file.name: own for file, own in zip(files, names, strict=True)}
    return found._replace(
        places={called[key]: value for key, value in found.places.items()},
        scores={called[key]: value for key, value in found.scores.items()},
    )


def link_names(names: Sequence[str]) -> list[str]:
    """Return a file name for each micrograph, its own; numbered where two would be called the same."""
    stems = [PurePath(name).name for name in names]
    twice = len({stem.split(".mrc")[0] for stem in stems}) < len(stems)
    return [f"{number + 1:06d}_{stem}" for number, stem in enumerate(stems)] if twice else stems


def pick_data(
    program: PickerCommand, record: Micrographs, folder: Path, checkpoints: Checkpoints
) -> Generator[Progress, None, ForeignPicks]:
    """Let the picker pick the user's micrographs, which are linked into a folder of their own.

    Raises
    ------
    InputError
        See :func:`run_picker`; and when it picks nothing.
    """
    if (saved := checkpoints.load("picker_data")) is not None:
        return _loaded(saved, record.names)
    given = folder / "micrographs"
    shutil.rmtree(given, ignore_errors=True)
    given.mkdir(parents=True)
    files = [given.resolve() / name for name in link_names(record.names)]
    for file, path in zip(files, record.paths, strict=True):
        _link(path.resolve(), file)
    yield Progress("picker", 0, 1, f"running {program.name} on {len(files)} micrographs")
    found = yield from run_picker(program, files, record.names, one_pixel_size(record), folder / "data")
    shutil.rmtree(given)
    if not found.places:
        raise InputError(f"--picker {program.name}: picks nothing on these micrographs; lower its threshold")
    headers = read_headers(record)
    check_inside(found.places, {n: (h.shape[1], h.shape[2]) for n, h in zip(record.names, headers, strict=True)})
    checkpoints.save("picker_data", _saved(found, record.names))
    return found


def _link(target: Path, link: Path) -> None:
    try:
        link.symlink_to(target)
    except OSError:  # where links need rights that users do not have
        shutil.copyfile(target, link)


def _saved(found: ForeignPicks, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    number = {name: index for index, name in enumerate(names)}
    rows = [
        np.column_stack([np.full(len(places), number[name]), places, found.scores[name]])
        for name, places in found.places.items()
    ]
    return {"rows": np.concatenate(rows) if rows else np.zeros((0, 4))}


def _loaded(saved: dict[str, NDArray[Any]], names: Sequence[str]) -> ForeignPicks:
    rows = saved["rows"]
    parts = {name: rows[rows[:, 0] == number] for number, name in enumerate(names)}
    kept = {name: part for name, part in parts.items() if len(part)}
    return ForeignPicks(
        {name: part[:, 1:3] for name, part in kept.items()}, {name: part[:, 3] for name, part in kept.items()}, [], []
    )


def pick_noise(
    program: PickerCommand, record: Micrographs, result: BiasResult, own: ForeignPicks, folder: Path,
    checkpoints: Checkpoints,
) -> Generator[Progress, None, PickerNull]:  # fmt: skip
    """Let the picker pick noise like each micrograph, and conclude.

    One noise image of every micrograph is on the disk at a time; they are removed when they are picked.

    Parameters
    ----------
    own : ForeignPicks
        Its picks of the micrographs.

    Raises
    ------
    InputError
        See :func:`run_picker`; and when the disk has no room.
    """
    used = [number for number, match in enumerate(result.candidates.matches) if match is not None]
    names = [record.names[number] for number in used]
    repeats, pixel_size = result.parameters.surrogates, one_pixel_size(record)
    tables: dict[str, list[NDArray[np.void]]] = {name: [] for name in names}
    sums: dict[str, list[Taken]] = {name: [] for name in names}
    for repeat in range(repeats):
        piece = f"picker_noise_{repeat:03d}"
        given = folder / "noise_micrographs"
        files = [given.resolve() / f"{name.split('.mrc')[0]}.mrc" for name in link_names(names)]
        saved = checkpoints.load(piece)
        if saved is None:
            _check_room(folder, record, used)
            shutil.rmtree(given, ignore_errors=True)
            given.mkdir(parents=True)
            for done, (number, file) in enumerate(zip(used, files, strict=True)):
                yield Progress("noise", repeat * len(used) + done, repeats * len(used))
                write_mrc(file, noise_micrograph(record.read(number), result, number, repeat), pixel_size)
            yield Progress("picker", 0, 1, f"running {program.name} on {len(files)} noise micrographs")
            found = yield from run_picker(program, files, names, pixel_size, folder / f"noise_{repeat + 1}")
            sizes = {name: record.read(number).shape for name, number in zip(names, used, strict=True)}
            check_inside(found.places, sizes)
            saved = _saved(found, names)
            for name, number, file in zip(names, used, files, strict=True):
                places = found.places.get(name, np.zeros((0, 2)))
                one = taken(read_micrograph(file), places, result, number, repeat)
                saved |= {f"{key}_{number}": value for key, value in one._asdict().items()}
            checkpoints.save(piece, saved)
            shutil.rmtree(given)
        found = _loaded(saved, names)
        for name, number in zip(names, used, strict=True):
            table = _table(found, name)
            tables[name].append(table)
            one = Taken(**{key: saved[f"{key}_{number}"] for key in Taken._fields})
            sums[name].append(one)
    rows = {name: peak_table(np.concatenate([one.places for one in sums[name]])[:, ::-1], None) for name in names}
    real = {name: _table(own, name) for name in names}
    every = [one for name in names for one in sums[name]]
    shutil.rmtree(folder, ignore_errors=True)
    return picker_null(program.command, result, real, tables, every, rows, repeats)


def _table(found: ForeignPicks, name: str) -> NDArray[np.void]:
    places = found.places.get(name, np.zeros((0, 2)))
    return peak_table(places, found.scores.get(name))


def _check_room(folder: Path, record: Micrographs, used: Sequence[int]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    needed = 4 * sum(int(np.prod(read_header(record.paths[number]).shape)) for number in used)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise InputError(
            f"--out {folder.parent}: noise micrographs need {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free; give "
            "a folder on a larger disk"
        )


def picker_of(found: PickerNull) -> dict[str, Any]:
    """Return the figures for scripts."""
    null = found.null
    return {
        "command": found.command, "observed_picks": null.observed, "expected_null_picks": null.expected,
        "expected_null_picks_interval": [null.low, null.high], "null_fraction": null.rate.value,
        "null_fraction_interval": [null.rate.low, null.rate.high], "noise_images_per_micrograph": found.repeats,
        "recommended_own_score": found.recommended, "noise_patches": found.picks,
        "half_agreement_of_means": {kind: [float(v) for v in curve[1:6]] for kind, curve in found.frc.items()},
    }  # fmt: skip


def write_picker(found: PickerNull, path: Path) -> dict[str, Path]:
    """Write the program's picks of noise: their patches, their means, and its false picks by its own score."""
    files = {"picker_noise": path / "picker_noise.mrcs", "picker_means": path / "picker_noise_means.mrcs"}
    if len(found.patches):
        write_mrc(files["picker_noise"], found.patches, found.pixel_size, stack=True)
    else:
        del files["picker_noise"]
    write_mrc(
        files["picker_means"], np.stack(list(found.means.values())).astype(np.float32), found.pixel_size, stack=True
    )
    if found.null.curve is not None:
        files["picker_fdr"] = path / "picker_fdr.csv"
        curve = found.null.curve
        table = pd.DataFrame(
            {
                "score": curve.thresholds, "picks": curve.picks, "expected_null_picks": curve.false_picks,
                "fdr": curve.fdr, "low": curve.low, "high": curve.high,
            }
        )  # fmt: skip
        with atomic_path(files["picker_fdr"]) as temporary:
            table.to_csv(temporary, index=False, float_format="%.6g")
    return files
