"""The bias diagnosis as an external job of CryoSPARC: micrographs, picks, templates in; scored picks and twin out."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import starfile
from numpy.typing import ArrayLike, NDArray

from napari_pickbias.jobs.bias_parameters import BiasParameters
from napari_pickbias.records import read_header
from pickbias_cryosparc import live_exposures
from pickbias_cryosparc.from_star import hashed_uid
from pickbias_cryosparc.live_exposures import (
    EXPOSURES,
    LOCAL_EXPOSURES,
    PICK_FIELDS,
    Pick,
    load_exposures,
    load_sought,
    micrograph_rows,
    pick_rows,
    read_picks,
    stat_columns,
)
from pickbias_cryosparc.live_external import ExternalJob
from pickbias_cryosparc.live_inputs import connect_inputs, load_input, run_folder, write_dataset
from pickbias_cryosparc.live_job import Call, Input, Job
from pickbias_cryosparc.live_outputs import fill, panels_of, refuse_unknown_fields, show

if TYPE_CHECKING:
    from napari_pickbias.jobs.progress import Progress
    from napari_pickbias.runs.bias import BiasRun

TEMPLATES = replace(live_exposures.TEMPLATES, help="job that has the class averages that picked")
VOLUME = replace(live_exposures.VOLUME, help="job that has the map whose views picked")
PICKS = Input(
    "picks",
    "particle",
    "picks",
    ("location", "?pick_stats"),
    (
        ("location/micrograph_path", "O"),
        ("location/micrograph_shape", "2u4"),
        ("location/center_x_frac", "f4"),
        ("location/center_y_frac", "f4"),
    ),
    "a picking or extraction job",
    ("particles", "particles_selected", "particles_accepted"),
    "no",
    "job that has the picks, of any program; default: the templates pick",
)
SCORED, TWIN = "particles_scored", "noise_twin"
LOCAL_PICKS = "input_picks.cs"
IMAGE_FIELDS = ("path", "idx", "shape", "psize_A", "sign", "import_sig")
CTF_DEFAULTS: dict[str, float] = {
    "scale": 1.0, "scale_const": 0.0, "shift_A": 0.0, "tilt_A": 0.0, "trefoil_A": 0.0, "tetra_A": 0.0, "anisomag": 0.0,
    "bfactor": 0.0, "phase_shift_rad": 0.0, "exp_group_id": 0.0,
}  # fmt: skip
"""What particles' CTF may have and micrographs' may lack: none of it."""


def run(external: ExternalJob, call: Call, parameters: BiasParameters) -> Generator[Progress, None, list[str]]:
    """Diagnose picks in the external job's folder; yields progress, returns the closing lines.

    Outputs: ``particles_scored``, the picks with their score in ``pick_stats``; ``noise_twin``, the picks of noise as a
    particle stack, with the CTF of their micrographs where it is known.

    Raises
    ------
    InputError
        Everything the user can mend, among it wrong or missing outputs and fields, before anything is computed.
    """
    from napari_pickbias.records.micrographs import open_micrographs
    from napari_pickbias.runs.bias import run_bias
    from napari_pickbias.runs.pick import open_template_input

    wheres = connect_inputs(external, call, [EXPOSURES, TEMPLATES, VOLUME, PICKS])
    foreign = "picks" in wheres
    slots, inherit = (["pick_stats"], "picks") if foreign else (["location", "pick_stats"], "")
    external.add_output("particle", SCORED, slots, "Picks with their score", inherit)
    external.start()
    exposures = load_exposures(external, EXPOSURES, wheres["exposures"], given=parameters.pixel_size)
    twin_slots = ["blob", "ctf"] if "ctf/df1_A" in exposures.fields() else ["blob"]
    external.add_output("particle", TWIN, twin_slots, "Noise twin: the same picker on noise")
    picks = load_input(external, PICKS, wheres["picks"]) if foreign else None
    refuse_unknown_fields(external, SCORED, PICK_FIELDS)
    refuse_unknown_fields(external, TWIN, _twin_fields(), exposures)
    folder = run_folder(external, call, LOCAL_EXPOSURES)
    sought = load_sought(external, call, wheres, folder, parameters.templates_pixel_size is not None)
    external.log(f"{len(exposures)} micrographs of {wheres['exposures']}; files go into {folder}")
    found = open_micrographs(write_dataset(exposures, folder / LOCAL_EXPOSURES), parameters.pixel_size)
    templates = open_template_input(sought.map_path, sought.templates, parameters.templates_pixel_size)
    local_picks = None if picks is None else write_dataset(picks, folder / LOCAL_PICKS)
    finished = yield from run_bias(
        found, templates, parameters, folder, template_path=sought.path, picks=local_picks, threads=call.threads,
        resume=call.resume is not None, shared=True,
    )  # fmt: skip
    if finished.result is not None:
        from napari_pickbias.report.bias import bias_document

        show(external, panels_of(bias_document(finished.result, finished.summary)), SCORED)
    lines = _send_scored(external, exposures, picks, folder, parameters.min_distance or 0.0)
    _send_twin(external, exposures, folder)
    return [*lines, *closing_lines(finished)]


def _twin_fields() -> list[str]:
    return [*(f"blob/{name}" for name in IMAGE_FIELDS), *(f"ctf/{name}" for name in (*CTF_DEFAULTS, "type"))]


def _send_scored(
    external: ExternalJob, exposures: Any, picks: Any, folder: Path, min_distance_angstrom: float
) -> list[str]:
    """Send the scored picks; those that came in keep their uid and place."""
    scored = read_picks(folder / "picks_scored.star")
    if picks is None:
        uids, columns = pick_rows(exposures, scored, min_distance_angstrom)
        external.save(SCORED, fill(external, SCORED, uids, columns))
        return []
    place = match_picks(picks, scored)
    order = np.lexsort([-scored.score, place])  # in the order they came in
    order = order[np.r_[True, np.diff(place[order]) > 0]] if len(order) else order
    uids = np.asarray(picks["uid"])[place[order]]
    columns = {name: np.asarray(values)[order] for name, values in stat_columns(scored).items()}
    external.save(SCORED, fill(external, SCORED, uids, columns))
    left = len(picks) - len(uids)
    return (
        [f"{left} of {len(picks)} picks lie on a border, bad area or another pick, and have no score"] if left else []
    )


def match_picks(picks: Any, scored: Pick) -> NDArray[np.int64]:
    """Return the row of the pick that each scored one was: the run moves picks to the best score near by.

    Parameters
    ----------
    picks : Dataset
        With ``location``.
    scored : Pick
        Of ``n`` of them.

    Returns
    -------
    ndarray of int64, shape (n,)
    """
    from scipy.spatial import cKDTree

    names = np.array([str(name).removeprefix(">") for name in picks["location/micrograph_path"]])
    shape = np.asarray(picks["location/micrograph_shape"], np.float64)
    places = np.stack([picks["location/center_x_frac"] * shape[:, 1], picks["location/center_y_frac"] * shape[:, 0]], 1)
    found = np.zeros(len(scored.score), np.int64)
    keys, wanted = _file_names(names), _file_names(scored.micrograph)
    for key in np.unique(wanted):
        rows, mine = np.flatnonzero(keys == key), wanted == key
        if not len(rows):  # the run knows micrographs by the beginning of their names too
            rows = np.flatnonzero([k.startswith(key) or key.startswith(k) for k in keys])
        found[mine] = rows[cKDTree(places[rows]).query(np.stack([scored.x_px, scored.y_px], axis=1)[mine])[1]]
    return found


def _file_names(paths: NDArray[np.str_]) -> NDArray[np.str_]:
    return np.array([path.rsplit("/", 1)[-1].split(".mrc")[0] for path in paths.tolist()], np.str_)


def _send_twin(external: ExternalJob, exposures: Any, folder: Path) -> None:
    """Send the noise twin as a particle stack, particles bright."""
    stack = folder / "twin/particles.mrcs"
    table = starfile.read(stack.with_suffix(".star"))["particles"]
    header, path = read_header(stack), external.in_project(stack)
    count = len(table)
    if not count:
        external.log("noise alone gives no picks, so the twin is empty and is not sent")
        return
    rows = {f"noise_of_{Path(name).name}": row for name, row in micrograph_rows(exposures).items()}
    row = np.array([rows[name] for name in table["rlnMicrographName"]], np.int64)
    columns: dict[str, ArrayLike] = {
        "blob/path": [path] * count,
        "blob/idx": np.arange(count),
        "blob/shape": np.tile(header.shape[-2:], (count, 1)),
        "blob/psize_A": np.full(count, header.pixel_size_angstrom),
        "blob/sign": np.ones(count),
        "blob/import_sig": np.full(count, hashed_uid(path), np.uint64),
    }
    for name, dtype in external.required_fields(TWIN):
        if name.startswith("ctf/"):
            columns[name] = _ctf_column(exposures, name, dtype, row)
    uids = np.array([hashed_uid(f"{path} {index}") for index in range(count)], np.uint64)
    external.save(TWIN, fill(external, TWIN, uids, columns))


def _ctf_column(exposures: Any, name: str, dtype: str, row: NDArray[np.int64]) -> NDArray[Any]:
    """Return a field of the CTF for particles of the micrographs in these rows."""
    if name in exposures.fields():
        return np.asarray(exposures[name])[row]
    if name == "ctf/type":
        return np.full(len(row), "imported", object)
    shape = np.dtype(dtype).shape
    return np.full((len(row), *shape), CTF_DEFAULTS[name.removeprefix("ctf/")])


def closing_lines(finished: BiasRun) -> list[str]:
    """Return the verdict and why, counts, warnings and where the report is."""
    results = finished.summary["results"]
    lines = [f"verdict: {results['verdict']}: {results['why']}"]
    lines.append(
        f"{results['observed_picks']} picks from a score of {results['threshold']:.2f} up; noise alone gives "
        f"{results['expected_null_picks']:.0f}"
    )
    if results["recommended_threshold"] is not None:
        lines.append(f"recommended threshold: {results['recommended_threshold']:.2f}")
    lines += [f"WARNING: {text}" for text in results.get("warnings", [])]
    return [*lines, f"report: {finished.directory / 'report.html'}"]


JOB = Job(
    "Template bias of picks",
    "Tell how much of picks and class averages comes from the template.",
    (EXPOSURES, TEMPLATES, VOLUME, PICKS),
    BiasParameters,
    run,
    one_of=("templates", "volume"),
)
