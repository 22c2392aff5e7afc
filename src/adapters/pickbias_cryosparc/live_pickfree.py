"""Reconstruction without picking as an external job of CryoSPARC: micrographs and an initial map in, a map out."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from napari_pickbias.errors import InputError
from napari_pickbias.jobs.pickfree_parameters import PickfreeParameters
from pickbias_cryosparc import live_exposures
from pickbias_cryosparc.live_exposures import LOCAL_EXPOSURES, load_exposures
from pickbias_cryosparc.live_external import ExternalJob
from pickbias_cryosparc.live_inputs import connect_inputs, load_input, one_file, run_folder, write_dataset
from pickbias_cryosparc.live_job import Call, Job
from pickbias_cryosparc.live_outputs import VOLUME_FIELDS, panels_of, refuse_unknown_fields, save_volume, show

if TYPE_CHECKING:
    from napari_pickbias.jobs.progress import Progress
    from napari_pickbias.runs.pickfree import PickfreeRun

EXPOSURES = replace(live_exposures.EXPOSURES, giver="a CTF estimation")
VOLUME = replace(live_exposures.VOLUME, needed="yes", help="job that has the initial map")
OUTPUT = "volume"
MAPS = {"map": "map.mrc", "map_half_A": "half1.mrc", "map_half_B": "half2.mrc"}


def run(external: ExternalJob, call: Call, parameters: PickfreeParameters) -> Generator[Progress, None, list[str]]:
    """Reconstruct in the external job's folder; yields progress, returns the closing lines.

    Output: ``volume`` with the slots ``map``, ``map_half_A`` and ``map_half_B``.

    Raises
    ------
    InputError
        Everything the user can mend, among it wrong or missing outputs and fields, before anything is computed.
    """
    from napari_pickbias.runs.pickfree import run_pickfree

    wheres = connect_inputs(external, call, [EXPOSURES, VOLUME])
    external.add_output("volume", OUTPUT, [f"{slot}:blob" for slot in MAPS], "Map without picking")
    external.start()
    exposures = load_exposures(external, EXPOSURES, wheres["exposures"], given=parameters.pixel_size)
    _refuse_without_ctf(exposures, parameters, wheres["exposures"])
    volume = load_input(external, VOLUME, wheres["volume"])
    refuse_unknown_fields(external, OUTPUT, [f"{slot}/{name}" for slot in MAPS for name in VOLUME_FIELDS])
    initial = one_file(external, volume, "map/path", wheres["volume"])
    folder = run_folder(external, call, LOCAL_EXPOSURES)
    external.log(f"{len(exposures)} micrographs of {wheres['exposures']}; files go into {folder}")
    local = write_dataset(exposures, folder / LOCAL_EXPOSURES)
    finished = yield from run_pickfree(
        local, initial, parameters, folder, threads=call.threads, resume=call.resume is not None, shared=True
    )
    if finished.result is not None:
        from napari_pickbias.report.pickfree import pickfree_document

        show(external, panels_of(pickfree_document(finished.result, finished.summary)), OUTPUT)
    save_volume(external, OUTPUT, {slot: folder / name for slot, name in MAPS.items()})
    return closing_lines(finished)


def _refuse_without_ctf(exposures: Any, parameters: PickfreeParameters, where: str) -> None:
    if not parameters.ctf:
        return
    for name in ("df1_A", "df2_A", "df_angle_rad", "accel_kv", "cs_mm", "amp_contrast"):
        if f"ctf/{name}" not in exposures.fields():
            raise InputError(
                f"{where}: has no field 'ctf/{name}', which is needed; give the output of {EXPOSURES.giver}, or "
                "--no-ctf to take the CTF as 1"
            )


def closing_lines(finished: PickfreeRun) -> list[str]:
    """Return the outcome, warnings and where the report is."""
    from napari_pickbias.runs.pickfree import outcome_of

    warnings = finished.summary["results"].get("warnings", [])
    return [
        outcome_of(finished.summary),
        *(f"WARNING: {text}" for text in warnings),
        f"report: {finished.directory / 'report.html'}",
    ]


JOB = Job(
    "Reconstruction without picking",
    "Reconstruct a low-resolution map straight from micrographs, and say whether they hold the particle.",
    (EXPOSURES, VOLUME),
    PickfreeParameters,
    run,
)
