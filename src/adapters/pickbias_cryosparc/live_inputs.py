"""The groups that a live job reads: chosen, connected, loaded, and refused in one line where something is missing."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from napari_pickbias.errors import InputError
from napari_pickbias.records.atomic import atomic_path
from pickbias_cryosparc.group import contained
from pickbias_cryosparc.live_external import ExternalJob, SourceOutput, missing_field, source_outputs
from pickbias_cryosparc.live_job import Call, Input, Place

_WHAT = {
    "blob": "the images",
    "map": "the map",
    "mask": "the mask",
    "micrograph_blob": "the micrographs",
    "location": "the places of the picks",
    "alignments3D": "the poses",
}


def connect_inputs(external: ExternalJob, call: Call, inputs: Sequence[Input]) -> dict[str, str]:
    """Choose the output of each input, add the inputs to the external job and connect them.

    Returns
    -------
    dict
        Input to what it is taken from, such as ``J2.particles``.

    Raises
    ------
    InputError
        When an output is missing, of the wrong type, not clear, without a slot that is read, or empty.
    """
    outputs: dict[str, dict[str, SourceOutput]] = {}
    chosen: list[tuple[Input, str, SourceOutput]] = []
    for wanted in inputs:
        place = call.places.get(wanted.name)
        if place is not None:
            if place.job not in outputs:
                outputs[place.job] = source_outputs(external.session, external.project, place.job)
            chosen.append((wanted, place.job, choose_output(outputs[place.job], wanted, place)))
    for wanted, job, output in chosen:
        external.add_input(wanted, job, output.name)
    return {wanted.name: f"{job}.{output.name}" for wanted, job, output in chosen}


def choose_output(outputs: dict[str, SourceOutput], wanted: Input, place: Place) -> SourceOutput:
    """Return the output of a job that is meant.

    Raises ``InputError`` when there is none, or several and none is named, or it lacks a slot or has no rows.
    """
    main, job = wanted.needed == "main", place.job
    if place.output is not None:
        said = f"--output {place.output}" if main else f"--{wanted.name} {job}.{place.output}"
        if place.output not in outputs:
            raise InputError(f"{said}: {job} has no such output; it has {_names(outputs) or 'none'}")
        chosen = outputs[place.output]
        if chosen.type != wanted.type:
            raise InputError(f"{said}: is of type {chosen.type}, not of {wanted.plural}; {job} has {_names(outputs)}")
    else:
        chosen = _only(outputs, wanted, job)
    where = f"{job}.{chosen.name}"
    if not chosen.slots:
        raise InputError(f"{where}: has no results yet; wait until {job} has completed")
    for slot in wanted.required_slots:
        if slot not in chosen.slots:
            raise InputError(
                f"{where}: lacks the slot '{slot}' ({_WHAT[slot]}); it has {', '.join(sorted(chosen.slots))}: give the "
                f"output of {wanted.giver}"
            )
    if chosen.count == 0:
        raise InputError(f"{where}: holds no {wanted.plural} (0 rows); choose another output or job")
    return chosen


def _only(outputs: dict[str, SourceOutput], wanted: Input, job: str) -> SourceOutput:
    """Return the one output of the type, or the one with the usual name."""
    fitting = [o for o in outputs.values() if o.type == wanted.type]
    option = "" if wanted.needed == "main" else f" with --{wanted.name}"
    if not fitting:
        raise InputError(
            f"{job}: has no {wanted.type} output ({_names(outputs) or 'it has no outputs'}); give {wanted.giver}"
            f"{option}"
        )
    named = [o for name in wanted.preferred for o in fitting if o.name == name]
    if len(fitting) > 1 and not named:
        how = f"--{wanted.name} {job}.NAME" if option else "--output"
        raise InputError(
            f"{job}: has {len(fitting)} {wanted.type} outputs; choose one with {how}: "
            f"{', '.join(o.name for o in fitting)}"
        )
    return (named or fitting)[0]


def _names(outputs: dict[str, SourceOutput]) -> str:
    return ", ".join(f"{o.name} ({o.type})" for o in outputs.values())


def load_input(
    external: ExternalJob, wanted: Input, where: str, kept: Sequence[str] = (), given: Sequence[str] = ()
) -> Any:
    """Return the dataset of an input, with the fields that are read and those that are wanted back.

    Parameters
    ----------
    kept : sequence of str
        Outputs that send slots of this input back, as they are.
    given : sequence of str
        Fields that an option overrides.

    Raises
    ------
    InputError
        When it has no rows or lacks a field: nothing is computed, nothing sent.
    """
    dataset = external.load(wanted.name)
    if not len(dataset):
        raise InputError(f"{where}: holds no {wanted.plural} (0 rows); choose another output or job")
    fields = [(name, dtype) for name, dtype in wanted.fields if name not in given]
    fields += [field for output in kept for field in external.required_fields(output)]
    refuse_missing(dataset, fields, where, wanted)
    return dataset


def refuse_missing(dataset: Any, fields: Sequence[tuple[str, str]], where: str, wanted: Input) -> None:
    """Refuse rows that lack a field, by its name."""
    fault = missing_field(dataset, list(fields))
    if fault:
        raise InputError(f"{where}: {fault}, which is needed; give the output of {wanted.giver}")


def run_folder(external: ExternalJob, call: Call, marker: str) -> Path:
    """Return the folder that the run's files go into: the external job's, or with ``--resume`` that of an earlier one.

    Raises ``InputError`` when ``marker``, the first file that a run writes, is not in that of an earlier one.
    """
    if call.resume is None:
        return external.folder()
    earlier = external.session.call(f"find job {call.resume}", external.project.find_job, call.resume)
    folder = external.folder(earlier)
    if not (folder / marker).exists():
        raise InputError(f"--resume {call.resume}: there is no unfinished run of this program in {folder}")
    return folder


def write_dataset(dataset: Any, path: Path) -> Path:
    """Write rows as a ``.cs`` file; one that is the same already stays, so that a run can go on."""
    stream = io.BytesIO()
    dataset.save(stream)
    if not (path.exists() and path.read_bytes() == stream.getvalue()):
        with atomic_path(path) as temporary:
            temporary.write_bytes(stream.getvalue())
    return path


def one_file(external: ExternalJob, dataset: Any, field: str, where: str) -> Path:
    """Return the file that the only row of a group names, such as ``map/path``.

    Raises ``InputError`` when there are several rows, it is not there, or outside the project.
    """
    if len(dataset) != 1:
        raise InputError(f"{where}: holds {len(dataset)} rows, not one; choose an output with a single one")
    return files_of(external, dataset, field, where)[0]


def files_of(external: ExternalJob, dataset: Any, field: str, where: str) -> list[Path]:
    """Return the file that each row names.

    Raises ``InputError`` when one is not there, or outside the project.
    """
    project, found = external.project_folder(), {}
    for name in dict.fromkeys(str(name) for name in dataset[field]):
        found[name] = path = project / contained(name, f"{where}: '{field}'")
        if not path.is_file():
            raise InputError(f"{where}: its file {path} is not there; run where CryoSPARC's project folder is mounted")
    return [found[str(name)] for name in dataset[field]]
