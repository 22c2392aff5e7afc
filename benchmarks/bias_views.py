"""Which views real pickers miss, by several ways to bin the tilt and several distances of pick and particle.

python benchmarks/bias_views.py DATA

DATA is the folder that holds ``micrographs/betagal_10017``. Prints the tables of ``docs/reproduction/bias.md``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import starfile
from scipy.stats import chi2_contingency

from napari_pickbias.bias.views import matched, recall_by_view
from pickbias_relion.coordinates import read_picks

PICKERS = {
    "CASSPER": "star", "crYOLO_casspers": "star", "crYOLO": "box", "topaz": "box", "gautomatch": "star",
    "deepPicker": "box",
}  # fmt: skip
WIDTHS = (0.0, 30.0, 45.0, 60.0, 75.0, 90.0)
"""Tilts in bins of 15 degrees, the first two joined, as the published figure bins them."""


def found_by(folder: Path, picker: str, suffix: str, radius: float, origins: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return which refined particles a picker has, and their tilts folded to 0 ... 90 degrees."""
    table = starfile.read(folder / "refined_poses_relion1.star")
    # these particles count in pixels of 3.54 Å from 98 px on, the picks in pixels of 1.77 Å
    shift = table[["rlnOriginX", "rlnOriginY"]].to_numpy() if origins else 0.0
    places = 2 * (table[["rlnCoordinateX", "rlnCoordinateY"]].to_numpy() - shift) + 98
    names = table["rlnMicrographName"].astype(str).str.rsplit("/").str[-1].str.removesuffix(".mrc").to_numpy()
    found, tilt = [], []
    for file in sorted((folder / "picks" / picker).glob(f"*.{suffix}")):
        rows = names == file.stem
        if rows.any():
            found.append(matched(places[rows], read_picks(file).coordinates_px, radius))
            tilt.append(table["rlnAngleTilt"].to_numpy()[rows])
    angles = np.concatenate(tilt)
    return np.concatenate(found), np.minimum(angles, 180 - angles)


def in_widths(found: np.ndarray, tilt: np.ndarray) -> tuple[np.ndarray, float]:
    """Return recall in bins of equal width and the chi-squared test's p."""
    bins = np.clip(np.searchsorted(WIDTHS, tilt, side="right") - 1, 0, len(WIDTHS) - 2)
    total, hits = np.bincount(bins), np.bincount(bins, found.astype(float))
    return hits / total, float(chi2_contingency([hits, total - hits]).pvalue)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    folder = parser.parse_args().data / "micrographs" / "betagal_10017"
    print(
        "| picker | radius, px | origins | equal areas | p | worst bin p | 0-30-45-60-75-90 | p | said to miss views |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for picker, suffix in PICKERS.items():
        for radius, origins in ((20.0, True), (30.0, True), (40.0, True), (60.0, True), (40.0, False)):
            found, tilt = found_by(folder, picker, suffix, radius, origins)
            areas = recall_by_view(tilt, found)
            recall, p = in_widths(found, tilt)
            texts = [" ".join(f"{v:.2f}".removeprefix("0") for v in values) for values in (areas.recall, recall)]
            print(
                f"| {picker} | {radius:.0f} | {'yes' if origins else 'no'} | {texts[0]} | {areas.p:.0e} | "
                f"{areas.worst_p:.0e} | {texts[1]} | {p:.0e} | {'yes' if areas.misses else 'no'} |"
            )


if __name__ == "__main__":
    main()
