"""What the jobs on micrographs share: their inputs, local files of them, and picks as CryoSPARC has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import starfile
from numpy.typing import ArrayLike, NDArray

from napari_pickbias.errors import InputError
from napari_pickbias.records import open_data, write_mrc
from pickbias_cryosparc.from_star import hashed_uid
from pickbias_cryosparc.live_external import ExternalJob
from pickbias_cryosparc.live_inputs import files_of, load_input, one_file
from pickbias_cryosparc.live_job import Call, Input

EXPOSURES = Input(
    "exposures",
    "exposure",
    "micrographs",
    ("micrograph_blob", "?ctf", "?mscope_params"),
    (
        ("micrograph_blob/path", "O"),
        ("micrograph_blob/shape", "2u4"),
        ("micrograph_blob/psize_A", "f4"),
    ),
    "a job that has corrected or imported micrographs",
    ("micrographs", "exposures", "micrographs_accepted", "exposures_accepted"),
)
TEMPLATES = Input(
    "templates",
    "template",
    "templates",
    ("blob",),
    (("blob/path", "O"), ("blob/idx", "u4"), ("blob/psize_A", "f4")),
    "a 2-D classification",
    ("templates_selected", "templates", "class_averages"),
    "no",
    "job that has class averages to look for",
)
VOLUME = Input(
    "volume",
    "volume",
    "maps",
    ("map:blob",),
    (("map/path", "O"),),
    "a 3-D refinement or an imported map",
    ("volume",),
    "no",
    "job that has a map to look for",
)
LOCAL_EXPOSURES = "input_micrographs.cs"
LOCAL_TEMPLATES = "input_templates.mrcs"
PICK_FIELDS = (
    *(
        f"location/{name}"
        for name in (
            "micrograph_uid", "exp_group_id", "micrograph_path", "micrograph_shape", "micrograph_psize_A",
            "center_x_frac", "center_y_frac", "min_dist_A",
        )
    ),
    *(f"pick_stats/{name}" for name in ("ncc_score", "power", "template_idx", "angle_rad")),
)  # fmt: skip


class Sought(NamedTuple):
    """What to look for: a map, or class averages."""

    map_path: Path | None
    templates: Path | None

    @property
    def path(self) -> Path:
        """The file."""
        path = self.map_path or self.templates
        assert path is not None
        return path


def load_sought(external: ExternalJob, call: Call, wheres: Mapping[str, str], folder: Path, given: bool) -> Sought:
    """Return the map's file, or write the class averages that are asked for as a stack.

    ``given``: an option overrides their pixel size.

    Raises ``InputError`` when fields or files are missing, or the images differ.
    """
    if "volume" in call.places:
        volume = load_input(external, VOLUME, wheres["volume"])
        return Sought(one_file(external, volume, "map/path", wheres["volume"]), None)
    skipped = ("blob/psize_A",) if given else ()
    dataset = load_input(external, TEMPLATES, wheres["templates"], given=skipped)
    images = _template_images(external, dataset, wheres["templates"])
    sizes = np.unique(dataset["blob/psize_A"]) if "blob/psize_A" in dataset.fields() else np.ones(1)
    if len(sizes) != 1 or (sizes <= 0).any():
        raise InputError(
            f"{wheres['templates']}: its pixel sizes are {', '.join(f'{s:g}' for s in sizes)} Å; templates must share "
            "one: give it with --templates-pixel-size, or other templates"
        )
    path = folder / LOCAL_TEMPLATES
    # One that is the same already stays, so that a run can go on.
    if not (path.exists() and np.array_equal(np.asarray(open_data(path), np.float32), images)):
        write_mrc(path, images, float(str(np.float32(sizes[0]))), stack=True)
    return Sought(None, path)


def _template_images(external: ExternalJob, dataset: Any, where: str) -> NDArray[np.float32]:
    stacks, images = {}, []
    for path, index in zip(files_of(external, dataset, "blob/path", where), dataset["blob/idx"], strict=True):
        if path not in stacks:
            stack = open_data(path)
            stacks[path] = stack[None] if stack.ndim == 2 else stack
        if index >= len(stacks[path]):
            raise InputError(f"{where}: asks for image {index + 1} of {path}, which has {len(stacks[path])}")
        images.append(np.asarray(stacks[path][int(index)], np.float32))
    if len({image.shape for image in images}) > 1:
        raise InputError(f"{where}: its images differ in size; give templates of one box size")
    return np.stack(images)


def load_exposures(
    external: ExternalJob, wanted: Input, where: str, kept: Sequence[str] = (), *, given: float | None
) -> Any:
    """Return the micrographs' dataset; ``given`` is a pixel size that overrides theirs.

    Raises ``InputError`` when a field or a file is missing, or a file lies outside the project.
    """
    skipped = () if given is None else ("micrograph_blob/psize_A",)
    exposures = load_input(external, wanted, where, kept=kept, given=skipped)
    files_of(external, exposures, "micrograph_blob/path", where)
    return exposures


def micrograph_rows(exposures: Any) -> dict[str, int]:
    """Return the row of each micrograph, by the name that the run has for it."""
    return {str(name).removeprefix(">"): row for row, name in enumerate(exposures["micrograph_blob/path"])}


class Pick(NamedTuple):
    """Picks of all micrographs, one value a pick.

    ``micrograph`` is a name; ``x_px``, ``y_px`` count the micrograph file's pixels; ``template`` counts from 0.
    """

    micrograph: NDArray[np.str_]
    x_px: NDArray[np.float64]
    y_px: NDArray[np.float64]
    score: NDArray[np.float64]
    psi_deg: NDArray[np.float64]
    template: NDArray[np.int64]


def read_picks(path: str | Path) -> Pick:
    """Read the picks that a run wrote: ``picks.star`` of picking, ``picks_scored.star`` of the bias diagnosis.

    Raises ``InputError`` when the file is not there.
    """
    if not Path(path).exists():
        raise InputError(f"{path}: is missing; run again without --resume")
    found = starfile.read(path)
    return Pick(
        found["rlnMicrographName"].to_numpy(str),
        found["rlnCoordinateX"].to_numpy(np.float64),
        found["rlnCoordinateY"].to_numpy(np.float64),
        found["rlnAutopickFigureOfMerit"].to_numpy(np.float64),
        found["rlnAnglePsi"].to_numpy(np.float64),
        found["rlnClassNumber"].to_numpy(np.int64) - 1,
    )


def pick_dataset(exposures: Any, picks: Pick, min_distance_angstrom: float = 0.0) -> Any:
    """Return picks as a dataset with the slots ``location`` and ``pick_stats``, for a script of one's own."""
    from cryosparc.dataset import Dataset

    uids, columns = pick_rows(exposures, picks, min_distance_angstrom)
    types = dict.fromkeys(columns, "<f4") | {
        "location/micrograph_uid": "<u8",
        "location/exp_group_id": "<u4",
        "location/micrograph_path": "O",
        "location/micrograph_shape": "<u4",
        "pick_stats/template_idx": "<u4",
    }
    return Dataset({"uid": uids, **{name: np.asarray(v).astype(types[name]) for name, v in columns.items()}})


def pick_rows(
    exposures: Any, picks: Pick, min_distance_angstrom: float
) -> tuple[NDArray[np.uint64], dict[str, ArrayLike]]:
    """Return the uids of picks, and the columns of their slots ``location`` and ``pick_stats``.

    The score stands in both ``ncc_score`` and ``power``, so that Inspect Picks can cut on either. The same picks get
    the same uids.
    """
    rows = micrograph_rows(exposures)
    row = np.array([rows[name] for name in picks.micrograph.tolist()], np.int64)
    mic = np.asarray(exposures["uid"])[row]
    shape = np.asarray(exposures["micrograph_blob/shape"])[row]
    group = next((g for g in ("mscope_params", "ctf") if f"{g}/exp_group_id" in exposures.fields()), None)
    ids = np.zeros(len(exposures), np.uint32) if group is None else np.asarray(exposures[f"{group}/exp_group_id"])
    texts = [f"{m} {x:.2f} {y:.2f}" for m, x, y in zip(mic.tolist(), picks.x_px, picks.y_px, strict=True)]
    columns: dict[str, ArrayLike] = {
        "location/micrograph_uid": mic,
        "location/exp_group_id": ids[row],
        "location/micrograph_path": picks.micrograph,
        "location/micrograph_shape": shape,
        "location/center_x_frac": picks.x_px / shape[:, 1],
        "location/center_y_frac": picks.y_px / shape[:, 0],
        "location/min_dist_A": np.full(len(row), min_distance_angstrom),
        "location/micrograph_psize_A": _pixel_sizes(exposures)[row],
        **stat_columns(picks),
    }
    return np.array([hashed_uid(text) for text in texts], np.uint64), columns


def stat_columns(picks: Pick) -> dict[str, ArrayLike]:
    """Return the columns of the slot ``pick_stats``."""
    return {
        "pick_stats/ncc_score": picks.score,
        "pick_stats/power": picks.score,
        "pick_stats/template_idx": picks.template,
        "pick_stats/angle_rad": np.deg2rad(picks.psi_deg),
    }


def _pixel_sizes(exposures: Any) -> NDArray[np.float64]:
    if "micrograph_blob/psize_A" not in exposures.fields():
        return np.zeros(len(exposures))
    return np.asarray(exposures["micrograph_blob/psize_A"], np.float64)
