"""Reading an output folder of ``pickbias softmodes`` again, for whoever shows it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from napari_pickbias.errors import InputError
from napari_pickbias.imaging.fourier import fourier_resample_volume
from napari_pickbias.jobs.softmodes_views import ViewSphere, sphere_of_poses, sphere_of_text
from napari_pickbias.records import open_particles, read_volume
from napari_pickbias.records.pick_tables import open_picks
from napari_pickbias.runs.bias_story import read_results

TOOL = "pickbias softmodes"
MOST_PX = 48
"""Side of the box in which changes are shown: finer surfaces take long to contour and show no more."""
SPREAD = "pickbiasRotationSd"


@dataclass(frozen=True)
class SoftmodesFolder:
    """What an output folder says.

    Attributes
    ----------
    summary : dict
    volume, uncertainty : ndarray, shape (n, n, n)
        Map within the box shown, and how uncertain it is.
    changes : list of ndarray, shape (n, n, n)
        Amplitude times mode.
    voxel_size_angstrom : float
    origin_angstrom : tuple of float
        x, y, z.
    eigenvalues, amplitude_fraction : ndarray, shape (k,)
    sphere : ViewSphere or None
    """

    summary: dict[str, Any]
    volume: NDArray[np.float64]
    uncertainty: NDArray[np.float64]
    changes: list[NDArray[np.float64]]
    voxel_size_angstrom: float
    origin_angstrom: tuple[float, ...]
    eigenvalues: NDArray[np.float64]
    amplitude_fraction: NDArray[np.float64]
    sphere: ViewSphere | None


def read_softmodes(folder: str | Path) -> SoftmodesFolder:
    """Read maps, spectrum and views of a finished run.

    Raises
    ------
    InputError
        When the folder holds no finished run, or one of its files is missing or damaged.
    """
    folder = Path(folder)
    summary = read_results(folder, TOOL)
    try:
        spectrum = pd.read_csv(folder / "spectrum.csv")
    except (OSError, ValueError) as fault:
        raise InputError(
            f"{folder / 'spectrum.csv'}: cannot be read ({type(fault).__name__}); run {TOOL} again"
        ) from fault
    trust = read_volume(folder / "uncertainty.mrc")
    side = trust.data.shape[0]
    box = min(side, MOST_PX)

    def shown(values: NDArray[np.floating]) -> NDArray[np.float64]:
        return np.asarray(fourier_resample_volume(values.astype(np.float64), box), np.float64)

    volume, changes = None, []
    for number in range(1, len(spectrum) + 1):
        plus, minus = (read_volume(folder / f"mode_{number:02d}_{end}.mrc").data for end in ("plus", "minus"))
        changes.append(shown((plus - minus) / 2))
        volume = shown((plus + minus) / 2) if volume is None else volume
    if volume is None:
        raise InputError(f"{folder / 'spectrum.csv'}: lists no modes; run {TOOL} again")
    return SoftmodesFolder(
        summary, volume, np.maximum(shown(trust.data), 0), changes, trust.voxel_size_angstrom * side / box,
        tuple(trust.origin_angstrom), spectrum["eigenvalue"].to_numpy(np.float64),
        spectrum["amplitude_fraction"].to_numpy(np.float64), _sphere(folder, summary),
    )  # fmt: skip


def _sphere(folder: Path, summary: dict[str, Any]) -> ViewSphere | None:
    parameters = summary["parameters"]
    seed = int(parameters.get("seed", 0))
    if parameters.get("views"):
        return sphere_of_text(parameters["views"], seed)
    written = next((p for end in (".star", ".cs") if (p := folder / f"particles_softmodes{end}").exists()), None)
    # The particles' own file first: it lies where its stacks are found from. The rows are the same.
    files = [str(entry["path"]) for entry in summary["inputs"][1:2]]
    poses = next((found for path in (*files, *filter(None, [written])) if (found := _poses(path)) is not None), None)
    if poses is None or written is None:
        return None
    try:
        features = open_picks(written).read().features
    except InputError:
        return None
    spread = features[SPREAD].to_numpy(np.float64) if SPREAD in features else None
    if spread is not None and len(spread) != len(poses):
        return None
    return sphere_of_poses(poses, spread, parameters.get("add_views"), seed)


def _poses(path: str | Path) -> NDArray[np.float64] | None:
    """Return rot, tilt, psi of a particle file; None where it, or its stacks, are not there any more."""
    try:
        found = open_particles(path).read(1.0).poses
    except InputError:
        return None
    return None if found is None else np.asarray(found.euler_deg, np.float64)
