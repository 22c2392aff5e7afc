"""What matching leaves behind: all peaks of the micrographs and of their noise, for any threshold to be drawn."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_pickbias.matching.calibrate import MicrographMatch
from napari_pickbias.matching.contrast import Contrast
from napari_pickbias.matching.noise_model import NoiseModel
from napari_pickbias.matching.peaks import PEAK

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class PickCandidates:
    """All that a threshold needs; small beside the micrographs.

    Attributes
    ----------
    names : tuple of str
        Micrographs, as the user's data name them.
    matches : tuple of (MicrographMatch or None)
        One each; None where a micrograph could not be used. Positions in pixels of the micrograph's file.
    faults : dict
        Why, by name.
    pixel_size_angstrom, diameter_angstrom, min_distance_angstrom : float
        Of the micrographs' files, the particle, and two picks.
    view : ndarray, shape (L,)
        Number of view or class average of each template, from 0.
    euler_deg : ndarray, shape (L, 3)
        RELION's rot, tilt, psi of each template.
    facts : dict
        ``kind`` (``map`` or ``images``), ``sign``, ``contrast``, ``measured_contrast``, ``ctf``,
        ``working_pixel_size``, ``templates``, ``views``, ``notes`` and the like.
    """

    names: tuple[str, ...]
    matches: tuple[MicrographMatch | None, ...]
    faults: dict[str, str]
    pixel_size_angstrom: float
    diameter_angstrom: float
    min_distance_angstrom: float
    view: NDArray[np.int32]
    euler_deg: NDArray[np.float64]
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def used(self) -> list[MicrographMatch]:
        """The micrographs that could be used."""
        return [match for match in self.matches if match is not None]

    @property
    def score_error(self) -> tuple[float, float]:
        """How far scores can be from those without a shared basis, and the difference's deviation on noise."""
        errors = [match.score_error for match in self.used]
        return max((bound for bound, _ in errors), default=0.0), max((sd for _, sd in errors), default=0.0)


def match_arrays(match: MicrographMatch) -> Arrays:
    """Return a match as arrays that a file can hold; maps are left out."""
    noise = match.noise
    about = {name: getattr(match, name) for name in _names(MicrographMatch) - _ARRAYS - {"noise", "tails"}}
    about["tails"] = None if match.tails is None else list(match.tails)
    model = {name: getattr(noise, name) for name in _names(NoiseModel) - _ARRAYS}
    return {
        "peaks": match.peaks,
        "null_peaks": np.concatenate([np.zeros(0, PEAK), *match.null_peaks]),
        "null_counts": np.array([len(table) for table in match.null_peaks], np.int64),
        "power": noise.power,
        "tile_power": noise.tile_power,
        "about": np.array(json.dumps({"match": about, "noise": model})),
    }


_ARRAYS = {"peaks", "null_peaks", "power", "tile_power", "scores", "best"}


def _names(kind: type[MicrographMatch] | type[NoiseModel]) -> set[str]:
    return {each.name for each in fields(kind)}


def match_of_arrays(arrays: Mapping[str, NDArray[Any]]) -> MicrographMatch:
    """Return the match that :func:`match_arrays` was given."""
    about = json.loads(str(arrays["about"]))
    known: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in about["match"].items()}
    model: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in about["noise"].items()}
    if known["tails"] is not None:
        known["tails"] = Contrast(*known["tails"])
    return MicrographMatch(
        peaks=arrays["peaks"],
        null_peaks=np.split(arrays["null_peaks"], np.cumsum(arrays["null_counts"])[:-1]),
        noise=NoiseModel(power=arrays["power"], tile_power=arrays["tile_power"], **model),
        **known,
    )


def candidate_arrays(candidates: PickCandidates) -> Arrays:
    """Return all candidates as arrays for one file; the noise spectra are left out, thresholds do not need them."""
    found: Arrays = {
        "view": candidates.view,
        "euler_deg": candidates.euler_deg,
        "about": np.array(
            json.dumps(
                {
                    "names": candidates.names,
                    "faults": candidates.faults,
                    "facts": candidates.facts,
                    "pixel_size_angstrom": candidates.pixel_size_angstrom,
                    "diameter_angstrom": candidates.diameter_angstrom,
                    "min_distance_angstrom": candidates.min_distance_angstrom,
                }
            )
        ),
    }
    for number, match in enumerate(candidates.matches):
        if match is not None:
            arrays = match_arrays(match)
            arrays |= {"power": np.zeros((0, 0)), "tile_power": np.zeros((0, 0))}
            found |= {f"{number}/{key}": values for key, values in arrays.items()}
    return found


def candidates_of_arrays(arrays: Mapping[str, NDArray[Any]]) -> PickCandidates:
    """Return the candidates that :func:`candidate_arrays` was given.

    Raises
    ------
    KeyError
        When something is missing.
    """
    about = json.loads(str(arrays["about"]))
    grouped: dict[int, Arrays] = {}
    for key, values in arrays.items():
        number, slash, name = key.partition("/")
        if slash:
            grouped.setdefault(int(number), {})[name] = values
    matches = tuple(
        match_of_arrays(grouped[number]) if number in grouped else None for number in range(len(about["names"]))
    )
    return PickCandidates(
        names=tuple(about["names"]),
        matches=matches,
        faults=about["faults"],
        pixel_size_angstrom=about["pixel_size_angstrom"],
        diameter_angstrom=about["diameter_angstrom"],
        min_distance_angstrom=about["min_distance_angstrom"],
        view=arrays["view"],
        euler_deg=arrays["euler_deg"],
        facts=about["facts"],
    )
