"""Picking as an external job of CryoSPARC: micrographs and templates in, particles with locations and scores out."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_pickbias.jobs.pick_parameters import PickParameters
from pickbias_cryosparc.live_exposures import (
    EXPOSURES,
    LOCAL_EXPOSURES,
    PICK_FIELDS,
    TEMPLATES,
    VOLUME,
    Pick,
    load_exposures,
    load_sought,
    pick_rows,
)
from pickbias_cryosparc.live_external import ExternalJob
from pickbias_cryosparc.live_inputs import connect_inputs, run_folder, write_dataset
from pickbias_cryosparc.live_job import Call, Job
from pickbias_cryosparc.live_outputs import fill, panels_of, refuse_unknown_fields, show

if TYPE_CHECKING:
    from napari_pickbias.jobs.pick import PickResult
    from napari_pickbias.jobs.progress import Progress
    from napari_pickbias.runs.pick import PickRun

PICKED, MICROGRAPHS = "particles", "micrographs"


def run(external: ExternalJob, call: Call, parameters: PickParameters) -> Generator[Progress, None, list[str]]:
    """Pick in the external job's folder; yields progress, returns the closing lines.

    Outputs: ``particles`` with the slots ``location`` and ``pick_stats``, ``micrographs`` as they came in.

    Raises
    ------
    InputError
        Everything the user can mend, among it wrong or missing outputs and fields, before anything is computed.
    """
    from napari_pickbias.records.micrographs import open_micrographs
    from napari_pickbias.runs.pick import open_template_input, run_pick

    wheres = connect_inputs(external, call, [EXPOSURES, TEMPLATES, VOLUME])
    external.add_output("particle", PICKED, ["location", "pick_stats"], "Particles picked")
    external.add_output("exposure", MICROGRAPHS, ["micrograph_blob"], "Micrographs picked", "exposures")
    external.start()
    exposures = load_exposures(external, EXPOSURES, wheres["exposures"], [MICROGRAPHS], given=parameters.pixel_size)
    refuse_unknown_fields(external, PICKED, PICK_FIELDS)
    folder = run_folder(external, call, LOCAL_EXPOSURES)
    sought = load_sought(external, call, wheres, folder, parameters.templates_pixel_size is not None)
    external.log(f"{len(exposures)} micrographs of {wheres['exposures']}; files go into {folder}")
    found = open_micrographs(write_dataset(exposures, folder / LOCAL_EXPOSURES), parameters.pixel_size)
    templates = open_template_input(sought.map_path, sought.templates, parameters.templates_pixel_size)
    finished = yield from run_pick(
        found, templates, parameters, folder, template_path=sought.path, threads=call.threads,
        resume=call.resume is not None, as_job=True,
    )  # fmt: skip
    result = _result(finished, parameters)
    if finished.result is not None:
        from napari_pickbias.report.pick import pick_document

        show(external, panels_of(pick_document(result, (), finished.summary)), PICKED)
    uids, columns = pick_rows(exposures, picks_of(result), result.candidates.min_distance_angstrom)
    external.save(PICKED, fill(external, PICKED, uids, columns))
    external.save(MICROGRAPHS, exposures.filter_prefixes(["micrograph_blob"]))
    return closing_lines(finished)


def _result(finished: PickRun, parameters: PickParameters) -> PickResult:
    """Return the result; that of a run that had been finished before is drawn from its candidates again."""
    from napari_pickbias.jobs.pick import decide
    from napari_pickbias.runs.pick import CANDIDATES, read_candidates

    return finished.result or decide(read_candidates(finished.directory / CANDIDATES), parameters)


def picks_of(result: PickResult) -> Pick:
    """Return the picks of all micrographs in one table."""
    tables = list(result.picks.values())

    def joined(name: str) -> Any:
        return np.concatenate([np.asarray(table[name]) for table in tables])

    names = np.repeat(np.array(list(result.picks), np.str_), [len(table["score"]) for table in tables])
    x, y, score, psi = (joined(name) for name in ("x_px", "y_px", "score", "psi_deg"))
    return Pick(names, x, y, score, psi, joined("template") - 1)


def closing_lines(finished: PickRun) -> list[str]:
    """Return counts, the share of false picks, warnings and where the report is."""
    results = finished.summary["results"]
    used = results["micrographs"] - results["left_out"]
    lines = [f"{results['picks']} picks on {used} micrographs from a score of {results['threshold']:.2f} up"]
    if results["fdr"] is not None:
        low, high = (value or 0.0 for value in results["fdr_interval"])
        lines.append(f"expected share of false picks: {results['fdr']:.1%} ({low:.1%} to {high:.1%})")
    lines += [f"WARNING: {text}" for text in results.get("warnings", [])]
    return [*lines, f"report: {finished.directory / 'report.html'}"]


JOB = Job(
    "Template picking with noise control",
    "Pick particles by templates or a map, with a p-value and a q-value each.",
    (EXPOSURES, TEMPLATES, VOLUME),
    PickParameters,
    run,
    one_of=("templates", "volume"),
)
