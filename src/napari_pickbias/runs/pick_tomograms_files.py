"""Files of picking in tomograms that this program reads again: all peaks, and score maps."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_pickbias.errors import InputError
from napari_pickbias.jobs.pick_tomograms import TomogramCandidates, TomogramPeaks
from napari_pickbias.jobs.pick_tomograms_parameters import PickTomogramsParameters
from napari_pickbias.records.atomic import atomic_path
from napari_pickbias.records.mrc import StackWriter, open_data
from napari_pickbias.records.mrc_header import read_header
from napari_pickbias.records.tomograms import TomogramSet

CANDIDATES, MAPS = "candidates.npz", "score_maps"
FACTS = "tomograms"
"""Name of the array, JSON in text, that tells candidates of tomograms from those of micrographs."""
SECTIONS_AT_A_TIME = 16
_OF_CANDIDATES = ("faults", "voxel_size_angstrom", "diameter_angstrom", "min_distance_angstrom", "facts")


class Earlier(NamedTuple):
    """What an earlier run left."""

    candidates: TomogramCandidates
    tomograms: TomogramSet
    parameters: PickTomogramsParameters


def write_candidates(
    path: Path, candidates: TomogramCandidates, tomograms: TomogramSet, parameters: PickTomogramsParameters
) -> None:
    """Write all peaks, of tomograms and of their noise, and all that another threshold needs, to one file."""
    facts = {name: getattr(candidates, name) for name in _OF_CANDIDATES}
    facts |= {
        "paths": [str(each) for each in tomograms.paths],
        "shapes": tomograms.shapes,
        "list_file": None if tomograms.list_file is None else str(tomograms.list_file),
        "parameters": parameters.model_dump(mode="json"),
    }
    arrays: dict[str, NDArray[Any]] = {
        "names": np.array(candidates.names, np.str_),
        "euler_deg": candidates.euler_deg,
        FACTS: np.array(json.dumps(facts), np.str_),
    }
    for number, each in enumerate(candidates.found):
        if each is not None:
            arrays[f"peaks_{number:06d}"] = each.peaks
            for surrogate, table in enumerate(each.null_peaks):
                arrays[f"null_peaks_{number:06d}_{surrogate:03d}"] = table
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]


def read_candidates(path: Path) -> Earlier:
    """Read what :func:`write_candidates` wrote.

    Raises
    ------
    InputError
        When it is not there, or damaged.
    """
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as saved:
            return _of_arrays({key: saved[key] for key in saved.files})
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; give the folder of an earlier pickbias pick --tomograms") from None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as fault:
        raise InputError(f"{path}: cannot be read ({type(fault).__name__}); pick again") from fault


def _of_arrays(arrays: Mapping[str, NDArray[Any]]) -> Earlier:
    facts = json.loads(str(arrays[FACTS]))
    names = tuple(arrays["names"].tolist())
    found: list[TomogramPeaks | None] = []
    for number in range(len(names)):
        null = [arrays[key] for key in sorted(arrays) if key.startswith(f"null_peaks_{number:06d}_")]
        peaks = arrays.get(f"peaks_{number:06d}")
        found.append(None if peaks is None else TomogramPeaks(peaks, tuple(null)))
    euler = np.asarray(arrays["euler_deg"], np.float64)
    candidates = TomogramCandidates(
        names, tuple(found), euler_deg=euler, **{name: facts[name] for name in _OF_CANDIDATES}
    )
    list_file = None if facts["list_file"] is None else Path(facts["list_file"])
    shapes = tuple((int(z), int(y), int(x)) for z, y, x in facts["shapes"])
    paths = tuple(Path(name) for name in facts["paths"])
    tomograms = TomogramSet(paths, names, shapes, candidates.voxel_size_angstrom, list_file)
    return Earlier(candidates, tomograms, PickTomogramsParameters(**facts["parameters"]))


class ScoreMaps(NamedTuple):
    """The score map of a tomogram, memory-mapped."""

    scores: NDArray[np.float32]
    """``(d, h, w)``, z, y, x; 0 where the map's box leaves the tomogram."""

    orientations: NDArray[Any]
    """Of the same shape: row of ``euler_deg`` in ``candidates.npz``; -1 outside."""

    voxel_size_angstrom: float
    """Of the search, which may be coarser than the file's."""


def score_map_files(out: Path, name: str) -> tuple[Path, Path]:
    """Return where the scores and the winning orientations of a tomogram lie."""
    stem = name.replace("/", "_")
    return out / MAPS / f"{stem}_scores.mrc", out / MAPS / f"{stem}_orientations.mrc"


def write_score_maps(
    out: Path, name: str, scores: NDArray[np.float32], best: NDArray[np.integer], voxel_size: float
) -> tuple[Path, Path]:
    """Write the score map of a tomogram, a few sections at a time.

    Raises
    ------
    InputError
        When a file cannot be written.
    """
    files = score_map_files(out, name)
    files[0].parent.mkdir(exist_ok=True)
    # MRC has no integers of four bytes; float32 holds numbers of orientations to 16 million
    kind = np.int16 if best.dtype.itemsize <= 2 else np.float32
    depth, height, width = scores.shape
    for path, values, dtype in ((files[0], scores, np.float32), (files[1], best, kind)):
        with StackWriter(path, (depth, height, width), voxel_size, dtype=dtype, volume=True) as stream:
            for first in range(0, depth, SECTIONS_AT_A_TIME):
                part = np.asarray(values[first : first + SECTIONS_AT_A_TIME])
                stream.append(np.where(np.isfinite(part), part, 0))
    return files


def open_score_maps(out: str | Path, name: str) -> ScoreMaps:
    """Open the score map that ``pickbias pick --tomograms --score-maps`` wrote for a tomogram.

    Parameters
    ----------
    out : str or Path
        The run's output directory.
    name : str
        Of the tomogram.

    Raises
    ------
    InputError
        When it is not there or damaged.
    """
    scores, orientations = score_map_files(Path(out), name)
    for path in (scores, orientations):
        if not path.exists():
            raise InputError(f"{path}: no such file; pick with --score-maps")
    voxel = read_header(scores).voxel_size_angstrom[0]
    return ScoreMaps(open_data(scores), open_data(orientations), float(voxel or 1.0))
