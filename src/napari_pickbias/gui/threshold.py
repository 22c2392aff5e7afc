"""All candidates of a picking run with the peaks of their noise: what a threshold means, read off live. No Qt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from napari_pickbias.gui.pick_layers import micrograph_layer
from napari_pickbias.jobs.pick import PickResult
from napari_pickbias.records import Micrographs
from napari_pickbias.records.pick_tables import PickTable
from napari_pickbias.report.bias_figures import q_colors

LayerData = tuple[Any, dict[str, Any], str]
ROLE = "pickbias_candidates"


class Meaning(NamedTuple):
    """What a threshold means: picks, expected false ones a micrograph and their share, each with its interval."""

    picks: int
    false: tuple[float, float, float]
    fdr: tuple[float, float, float]

    def text(self, micrographs: int) -> str:
        """Return it in a line."""
        each = f"{self.picks:,} picks, {self.picks / max(micrographs, 1):.1f} a micrograph"
        if not np.isfinite(self.fdr[0]):
            return f"{each}; how many are false is not known here."
        value, low, high = self.false
        share = f"{self.fdr[0]:.1%} (95 % interval {self.fdr[1]:.1%} to {self.fdr[2]:.1%})"
        return f"{each}; expected false: {value:.2g} a micrograph ({low:.2g} to {high:.2g}), that is {share} of them."


@dataclass(frozen=True)
class PickView:
    """Candidates of all micrographs.

    Attributes
    ----------
    micrographs : Micrographs
    table : DataFrame
        ``micrograph`` (number), ``x_px``, ``y_px``, ``score``, ``q_value``, ``p_value``, ``local_fdr``, ``template``.
    null : ndarray, shape (k,)
        Scores of noise peaks.
    repeats : float
        Noise images per micrograph: a histogram of ``null`` counts for so many times the area.
    threshold, diameter_angstrom : float
    result : PickResult
    foreign : bool
        Another program made the picks: the calibration counts peaks of the templates, not its picks.
    """

    micrographs: Micrographs
    table: pd.DataFrame
    null: NDArray[np.float64]
    repeats: float
    threshold: float
    diameter_angstrom: float
    result: PickResult
    foreign: bool = False

    def meaning(self, threshold: float) -> Meaning:
        """Return what a threshold means, read off the calibration's own curve."""
        picks = int((self.table["score"] >= threshold).sum())
        curve, unknown = self.result.calibration.fdr, (float("nan"),) * 3
        if curve is None or self.foreign or self.result.calibration.failed is not None:
            return Meaning(picks, unknown, unknown)

        def read(values: NDArray[Any]) -> float:
            known = np.isfinite(values)
            return float(np.interp(threshold, curve.thresholds[known], values[known])) if known.any() else float("nan")

        false = self.result.calibration.expected_false
        return Meaning(
            picks,
            (read(false[:, 0]), read(false[:, 1]), read(false[:, 2])),
            (read(curve.fdr), read(curve.low), read(curve.high)),
        )

    def extent(self) -> tuple[float, float]:
        """Return the least and largest score of a candidate."""
        scores = self.table["score"].to_numpy()
        return (float(scores.min()), float(scores.max())) if len(scores) else (0.0, 1.0)

    def layers(self, *, with_micrographs: bool = True) -> list[LayerData]:
        """Return the micrographs and the circles of all candidates, coloured by q (yellow: surely a particle)."""
        names, record = tuple(self.micrographs.names), self.micrographs
        source = str(record.paths[0].parent)
        pixel = float(np.median(record.pixel_size_angstrom))
        there = tuple(path if path.exists() else None for path in record.paths)
        rows = PickTable(pd.DataFrame(), None, None, names, there, pixel)
        stack = micrograph_layer(rows, source, pixel) if with_micrographs else None
        layers = [] if stack is None else [stack]
        for _, options, _ in layers:
            options["name"] = "micrographs"
            options["metadata"][ROLE] = True
        place = self.table[["micrograph", "y_px", "x_px"]].to_numpy(np.float32)
        show: dict[str, Any] = {
            "name": "picks by q-value",
            "features": self.table,
            "symbol": "o",
            "size": self.diameter_angstrom / pixel,
            "face_color": "transparent",
            "border_color": q_colors(self.table["q_value"].to_numpy(np.float64)),
            "border_width": 0.07,
            "shown": self.table["score"].to_numpy() >= self.threshold,
            "scale": (1.0, pixel, pixel),
            "units": ("pixel", "angstrom", "angstrom"),
            "axis_labels": ("micrograph", "y", "x"),
            "metadata": {ROLE: True},
        }
        return [*layers, (place.reshape(-1, 3), show, "points")]


def pick_view(result: PickResult, micrographs: Micrographs) -> PickView:
    """Return the candidates of a run in one table; ``micrographs`` are those it was run on."""
    number = {name: k for k, name in enumerate(micrographs.names)}
    columns = zip(result.calibration.p, result.calibration.q, result.calibration.local_fdr, strict=True)
    tables = []
    for name, match in zip(result.candidates.names, result.candidates.matches, strict=True):
        if match is None or name not in number:
            continue
        p, q, local = next(columns)
        peaks = match.peaks
        tables.append(
            pd.DataFrame(
                {
                    "micrograph": np.full(len(peaks), number[name]),
                    "x_px": peaks["x"].astype(np.float64),
                    "y_px": peaks["y"].astype(np.float64),
                    "score": peaks["score"].astype(np.float64),
                    "q_value": q,
                    "p_value": p,
                    "local_fdr": local,
                    "template": result.candidates.view[peaks["template"]].astype(np.int64) + 1,
                }
            )
        )
    used = result.candidates.used
    null = [table["score"].astype(np.float64) for match in used for table in match.null_peaks]
    return PickView(
        micrographs=micrographs,
        table=pd.concat(tables, ignore_index=True),
        null=np.concatenate(null) if null else np.empty(0),
        repeats=float(np.mean([len(match.null_peaks) for match in used])) if used else 1.0,
        threshold=result.threshold,
        diameter_angstrom=result.candidates.diameter_angstrom,
        result=result,
    )
