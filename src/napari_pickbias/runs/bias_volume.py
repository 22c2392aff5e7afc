"""What ``pickbias bias`` does on request once it has its verdict: maps of the picks, a bait, controls."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from napari_pickbias.errors import InputError
from napari_pickbias.jobs.bias import BiasResult
from napari_pickbias.jobs.bias_bait import BaitResult, bait_job
from napari_pickbias.jobs.bias_controls import Controls, controls_job, parse_controls
from napari_pickbias.jobs.bias_parameters import BiasParameters
from napari_pickbias.jobs.bias_volume import Null, VolumeResult, volume_job
from napari_pickbias.jobs.pick_templates import TemplateInput
from napari_pickbias.jobs.progress import Checkpoints, Progress
from napari_pickbias.records import read_volume, write_mrc
from napari_pickbias.records.atomic import atomic_path
from napari_pickbias.records.micrographs import MicrographSet
from napari_pickbias.report.bias_volume import bait_section, controls_section, volume_section
from napari_pickbias.report.document import Section
from napari_pickbias.runs.pick import open_template_input


class Further(NamedTuple):
    """What the further passes add to a run."""

    files: dict[str, Path]
    results: dict[str, Any]
    sections: tuple[Section, ...]


def check_further(templates: TemplateInput, parameters: BiasParameters) -> None:
    """Refuse what cannot be done, before anything is.

    Raises
    ------
    InputError
        When maps are asked for and the templates are no projections of a map, or a file of ``--bait`` or
        ``--controls`` cannot be read.
    """
    for asked, option in ((parameters.volume, "--volume"), (parameters.bait, "--bait")):
        if asked and templates.kind != "map":
            raise InputError(
                f"{option}: {templates.name} holds class averages, so picks have no angles in space; give the map they "
                f"came from as --map, or leave {option} out"
            )
    if parameters.controls is not None:
        other = parse_controls(parameters.controls).get("other")
        if other is not None:
            open_template_input(other, None, None)
    if parameters.bait not in (None, "auto"):
        read_volume(str(parameters.bait))


def further_passes(
    micrographs: MicrographSet,
    templates: TemplateInput,
    result: BiasResult,
    path: Path,
    threads: int,
    checkpoints: Checkpoints,
) -> Generator[Progress, None, Further]:
    """Do what the parameters ask for beyond the verdict; yields :class:`Progress`.

    Raises
    ------
    InputError
        See :func:`napari_pickbias.jobs.bias_volume.volume_job`.
    """
    found = Further({}, {}, ())
    parameters = result.parameters
    if parameters.volume:
        volume = yield from volume_job(micrographs, templates, result, threads=threads, checkpoints=checkpoints)
        found = found._replace(
            files=write_volume(volume, path), results={"volume": volume_of(volume)}, sections=(volume_section(volume),)
        )
    if parameters.bait is not None:
        mask = None if parameters.bait == "auto" else read_volume(parameters.bait).data
        bait = yield from bait_job(micrographs, templates, result, mask=mask, threads=threads)
        found = Further(
            found.files | write_bait(bait, path), found.results | {"bait": bait_of(bait)},
            (*found.sections, bait_section(bait)),
        )  # fmt: skip
    if parameters.controls is not None:
        wanted = {
            name: None if file is None else open_template_input(file, None, None)
            for name, file in parse_controls(parameters.controls).items()
        }
        controls = yield from controls_job(
            micrographs, templates, result, wanted, threads=threads, checkpoints=checkpoints
        )
        found = Further(
            found.files, found.results | {"controls": controls_of(controls)},
            (*found.sections, controls_section(controls)),
        )  # fmt: skip
    return found


def write_bait(result: BaitResult, path: Path) -> dict[str, Path]:
    """Write the maps of the bait into ``bait/``."""
    folder = path / "bait"
    folder.mkdir(exist_ok=True)
    return {
        f"bait_{name}": write_mrc(folder / f"{name}.mrc", volume, result.pixel_size)
        for name, volume in result.maps.items()
    }


def bait_of(result: BaitResult) -> dict[str, Any]:
    """Return the figures of the bait for scripts."""
    return {
        "omitted_share": result.share,
        "picks": result.picks,
        **{name: one._asdict() for name, one in result.bait._asdict().items()},
    }


def controls_of(controls: Controls) -> dict[str, Any]:
    """Return the figures of the controls for scripts."""
    masks = {"usual_mask": controls.usual_mask, "smaller_mask": controls.smaller_mask}
    return {
        "templates": [
            {
                "name": row.name, "picks": row.picks, "null_fraction": row.rate._asdict(),
                "evidence_in_band": _null(row.inside), "evidence_beyond_band": _null(row.beyond),
                "template_agreement": _null(row.agreement), "verdict": row.verdict,
            }
            for row in controls.rows
        ],
        **{name: None if null is None else _null(null) for name, null in masks.items()},
    }  # fmt: skip


def write_volume(result: VolumeResult, path: Path) -> dict[str, Path]:
    """Write the maps into ``volume/`` and the curves as ``fsc.csv``."""
    d, ml = result.diagnosis, result.likelihood
    folder = path / "volume"
    folder.mkdir(exist_ok=True)
    files = {
        f"volume_{name}": write_mrc(folder / f"{name}.mrc", volume, d.pixel_size) for name, volume in d.maps.items()
    }
    with np.errstate(divide="ignore"):
        resolution = 1 / d.frequency
    table = pd.DataFrame(
        {
            "resolution_angstrom": resolution, "plain": d.fsc_plain, "bias_removed": d.fsc_removed,
            "null_low": d.null_low, "null_high": d.null_high, "noise_plain": d.twin_plain[0],
            "noise_bias_removed": d.twin_removed[0], "likelihood_plain": ml.fsc_plain,
            "likelihood_noise_plain": ml.twin_plain, "likelihood_bias_removed": ml.fsc_removed,
        }
    )  # fmt: skip
    files["fsc"] = path / "fsc.csv"
    with atomic_path(files["fsc"]) as temporary:
        table.to_csv(temporary, index=False, float_format="%.6g")
    return files


def volume_of(result: VolumeResult) -> dict[str, Any]:
    """Return the figures in three dimensions for scripts."""
    d, ml = result.diagnosis, result.likelihood
    return {
        "picks": list(d.picks),
        "pixel_size": d.pixel_size,
        "plain_fsc": {"in_band": d.plain[0], "beyond": d.plain[1]},
        "evidence_beyond_band": _null(d.beyond),
        "evidence_in_band": _null(d.inside),
        "evidence_small_mask": _null(d.small_mask),
        "template_agreement": _null(d.agreement),
        "relative_agreement": d.relative_agreement,
        "noise": {
            "plain_in_band": d.twin_plain_inside, "in_band": d.twin_inside, "beyond": d.twin_beyond,
            "template_agreement": d.twin_agreement,
        },
        "maximum_likelihood": {
            "picks": ml.picks, "rotations": ml.rotations, "plain_in_band": ml.plain, "noise_plain_in_band": ml.twin,
            "evidence_in_band": _null(ml.inside), "evidence_beyond_band": _null(ml.beyond),
            "template_correlation": ml.template_correlation, "noise_template_correlation": ml.twin_template_correlation,
        },
    }  # fmt: skip


def _null(null: Null) -> dict[str, float]:
    return {**null._asdict(), "z": null.z}
