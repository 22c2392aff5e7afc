"""Class averages without labels, written and told: see :mod:`napari_pickbias.jobs.bias_classes`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from napari_pickbias.errors import InputError
from napari_pickbias.jobs.bias_classes import Classes
from napari_pickbias.jobs.pick_templates import TemplateInput
from napari_pickbias.records import write_mrc
from napari_pickbias.runs.pick import open_template_input


def open_averages(path: str) -> TemplateInput:
    """Read class averages that another program made.

    Raises
    ------
    InputError
        When the file cannot be used.
    """
    try:
        return open_template_input(None, path)._replace(name=f"--averages {path}")
    except InputError as fault:
        raise InputError(str(fault).replace("--templates", "--averages")) from None


def write_classes(classes: Classes, path: Path, pixel_size: float) -> dict[str, Path]:
    """Write the classes of each set, as ``classes_picks.mrcs`` and so on, and the predicted bias of each."""
    files = {}
    for name, one in classes.sets.items():
        files[f"classes_{name}"] = path / f"classes_{name}.mrcs"
        pairs = np.concatenate([one.averages, classes.predicted[one.template]])
        write_mrc(files[f"classes_{name}"], pairs.astype(np.float32), pixel_size, stack=True)
    return files


def classes_of(classes: Classes) -> dict[str, Any]:
    """Return the figures for scripts."""
    found: dict[str, Any] = {
        name: {
            "picks": one.picks, "template": one.template + 1, "correlation": one.correlation,
            "expected_if_noise": one.expected, "mean_correlation": one.mean_correlation,
            "mean_expected": one.mean_expected,
        }
        for name, one in classes.sets.items()
    }  # fmt: skip
    found |= {"dimension": classes.dimension, "picks_needed_in_noise": classes.needed, "aligned": classes.aligned}
    if (given := classes.given) is not None:
        found["given"] = {
            "template": given.template + 1, "correlation": given.correlation, "random_noise": given.noise,
        }  # fmt: skip
    return found
