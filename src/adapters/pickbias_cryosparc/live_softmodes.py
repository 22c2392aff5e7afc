"""Soft modes as an external job of CryoSPARC: particles with poses and their map in; modes, uncertainties out."""

from __future__ import annotations

import json
import os
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_pickbias.errors import InputError
from napari_pickbias.jobs.softmodes_parameters import SoftmodesParameters
from pickbias_cryosparc.live_external import ExternalJob
from pickbias_cryosparc.live_inputs import connect_inputs, load_input, one_file, run_folder, write_dataset
from pickbias_cryosparc.live_job import Call, Input, Job
from pickbias_cryosparc.live_outputs import fill, panels_of, refuse_unknown_fields, save_volume, show
from pickbias_cryosparc.live_session import RefusedError

if TYPE_CHECKING:
    from napari_pickbias.jobs.progress import Progress
    from napari_pickbias.runs.softmodes import SoftmodesRun

PARTICLES = Input(
    "particles",
    "particle",
    "particles",
    ("alignments3D", "blob", "?ctf", "?location"),
    (
        ("alignments3D/pose", "3f4"),
        ("alignments3D/shift", "2f4"),
        ("alignments3D/psize_A", "f4"),
        ("blob/path", "O"),
        ("blob/idx", "u4"),
        ("blob/shape", "2u4"),
        ("blob/psize_A", "f4"),
    ),
    "a 3-D refinement",
    ("particles",),
)
VOLUME = Input(
    "volume",
    "volume",
    "maps",
    ("map:blob", "?map_half_A:blob", "?map_half_B:blob"),
    (("map/path", "O"),),
    "a 3-D refinement",
    ("volume",),
    "same job",
    "job that has the map; default: SOURCE_JOB",
)
MASK = Input(
    "mask",
    "mask",
    "masks",
    ("mask:blob",),
    (("mask/path", "O"),),
    "a job that makes a mask",
    ("mask",),
    "no",
    "job that has a mask: what may change is where it is 0.5 and above",
)
OUTPUT = "particles"
UNCERTAINTIES = {"rotation_sd": "pickbias/rotation_sd", "shift_sd": "pickbias/shift_sd_angst"}
"""Slot to the column of the run's own table: degrees and Å."""
LOCAL_INPUT = "input_particles.cs"


def run(external: ExternalJob, call: Call, parameters: SoftmodesParameters) -> Generator[Progress, None, list[str]]:
    """Find soft modes in the external job's folder; yields progress, returns the closing lines.

    Outputs: ``mode_01`` ... with the slots ``map`` (the mode), ``map_plus`` and ``map_minus`` (the map with it, and
    with its reverse), ``uncertainty``, and ``particles`` with the uncertainty of each pose. Where the volume has half
    maps and no noise is given, the noise is theirs.

    Raises
    ------
    InputError
        Everything the user can mend, among it wrong or missing outputs and fields, before anything is computed.
    """
    from threadpoolctl import threadpool_limits

    from napari_pickbias.records import open_particles
    from napari_pickbias.runs.softmodes import run_softmodes

    wheres = connect_inputs(external, call, [PARTICLES, VOLUME, MASK])
    slots = _add_outputs(external, parameters)
    external.start()
    given = () if parameters.pixel_size is None else ("blob/psize_A",)
    dataset = load_input(external, PARTICLES, wheres["particles"], given=given)
    volume = load_input(external, VOLUME, wheres["volume"])
    _refuse_unfit_outputs(external, parameters, slots, dataset)
    map_path = one_file(external, volume, "map/path", wheres["volume"])
    mask_path = None
    if "mask" in wheres:
        mask_path = one_file(external, load_input(external, MASK, wheres["mask"]), "mask/path", wheres["mask"])
    folder = run_folder(external, call, LOCAL_INPUT)
    external.log(
        f"{len(dataset)} particles of {wheres['particles']}, map of {wheres['volume']}; files go into {folder}"
    )
    parameters = _with_noise(external, parameters, volume, wheres["volume"], folder)
    source = open_particles(write_dataset(dataset, folder / LOCAL_INPUT))
    with threadpool_limits(limits=call.threads):
        finished = yield from run_softmodes(
            map_path, source, parameters, folder, mask_path=mask_path, resume=call.resume is not None, shared=True
        )
    _send(external, dataset, finished, parameters, slots)
    return closing_lines(finished)


def _add_outputs(external: ExternalJob, parameters: SoftmodesParameters) -> list[str]:
    """Add the outputs; return the slots of the particles."""
    for number in range(1, parameters.modes + 1):
        slots = ["map:blob", "map_plus:blob", "map_minus:blob"]
        external.add_output("volume", f"mode_{number:02d}", slots, f"Soft mode {number}")
    external.add_output("volume", "uncertainty", ["map:blob"], "Uncertainty of the map")
    if parameters.views is not None:
        return []  # what-if views are not the particles'
    slots = [slot for slot in UNCERTAINTIES if slot != "shift_sd" or parameters.shifts]
    title = "Particles with the uncertainty of their poses"
    try:
        external.add_output(
            "particle", OUTPUT, [f"{slot}:components" for slot in slots], title, passthrough="particles"
        )
    except RefusedError as fault:
        # No slot type is meant for this. Numbers per mode of 3D Variability come closest; else the table must do.
        external.log(f"{fault}; the uncertainties of the poses are in the job's folder alone", level="warning")
        slots = ["alignments3D"]
        external.add_output("particle", OUTPUT, slots, title, passthrough="particles")
    return slots


def _refuse_unfit_outputs(
    external: ExternalJob, parameters: SoftmodesParameters, slots: list[str], dataset: Any
) -> None:
    ends = [f"map{end}/{name}" for end in ("", "_plus", "_minus") for name in ("path", "shape", "psize_A")]
    for output in [*(f"mode_{number:02d}" for number in range(1, parameters.modes + 1)), "uncertainty"]:
        refuse_unknown_fields(external, output, ends)
    if slots:
        made = [f"{slot}/{name}" for slot in UNCERTAINTIES for name in ("component", "value")]
        refuse_unknown_fields(external, OUTPUT, made, dataset)


def _with_noise(
    external: ExternalJob, parameters: SoftmodesParameters, volume: Any, where: str, folder: Path
) -> SoftmodesParameters:
    """Take the noise from the volume's half maps where it has them; they are linked under names that say so."""
    halves = [f"map_half_{half}/path" for half in "AB"]
    if parameters.noise is not None or not all(name in volume.fields() for name in halves):
        return parameters
    links = [folder / f"input_half{number}.mrc" for number in (1, 2)]
    for link, name in zip(links, halves, strict=True):
        goal = os.path.relpath(one_file(external, volume, name, where).resolve(), folder.resolve())
        if not (link.is_symlink() and os.readlink(link) == goal):  # noqa: PTH115 (as it was written)
            link.unlink(missing_ok=True)
            link.symlink_to(goal)
    external.log("the noise is that of the half maps; --noise takes another")
    return parameters.model_copy(update={"noise": str(links[0])})


def _send(
    external: ExternalJob, dataset: Any, finished: SoftmodesRun, parameters: SoftmodesParameters, slots: list[str]
) -> None:
    if finished.result is not None:
        from napari_pickbias.report.softmodes import softmodes_document

        show(external, panels_of(softmodes_document(finished.result, finished.summary)), "mode_01")
    folder = finished.directory
    for number in range(1, parameters.modes + 1):
        stem = f"mode_{number:02d}"
        files = {f"map{end}": folder / f"{stem}{end}.mrc" for end in ("", "_plus", "_minus")}
        if all(path.exists() for path in files.values()):
            save_volume(external, stem, files)
    save_volume(external, "uncertainty", {"map": folder / "uncertainty.mrc"})
    if slots == ["alignments3D"]:
        external.save(OUTPUT, dataset.filter_prefixes(slots))
    elif slots:
        external.save(OUTPUT, fill(external, OUTPUT, dataset["uid"], _uncertainties(dataset, folder, slots)))


def _uncertainties(dataset: Any, folder: Path, slots: list[str]) -> dict[str, Any]:
    """Return the columns of the particle output, in the order of ``dataset``."""
    from pickbias_cryosparc.tables import read_table

    path = folder / "particles_softmodes_pickbias.cs"
    if not path.exists():
        raise InputError(f"{path}: is missing; run again without --resume")
    rows = read_table(path).rows
    order = np.argsort(rows["uid"])
    place = order[np.searchsorted(rows["uid"], dataset["uid"], sorter=order)]
    columns: dict[str, Any] = {}
    for index, slot in enumerate(slots):
        columns[f"{slot}/component"] = np.full(len(dataset), index)
        columns[f"{slot}/value"] = rows[UNCERTAINTIES[slot]][place]
    return columns


def closing_lines(finished: SoftmodesRun) -> list[str]:
    """Return the verdict, the softest modes, warnings and where the report is."""
    summary = finished.summary or json.loads((finished.directory / "summary.json").read_text(encoding="utf-8"))
    results = summary["results"]
    lines = [results["verdict_text"]] if "verdict_text" in results else []
    rows = zip(results["eigenvalues"], results["known_pose_eigenvalues"], results["amplitude_fraction"], strict=True)
    for number, (value, known, amplitude) in enumerate(rows, 1):
        lines.append(f"mode {number}: eigenvalue {value:.3g}, known poses {known:.3g}, amplitude {amplitude:.2%}")
    lines += [f"WARNING: {text}" for text in results.get("warnings", [])]
    return [*lines, f"report: {finished.directory / 'report.html'}"]


JOB = Job(
    "Soft modes",
    "Find which parts of a map and which poses the data leave uncertain.",
    (PARTICLES, VOLUME, MASK),
    SoftmodesParameters,
    run,
)
