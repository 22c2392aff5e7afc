"""False picks on real micrographs: what the calibration predicts, and what lists of picks by others say.

    python benchmarks/fdr_real.py                    # about two minutes on one core
    python benchmarks/fdr_real.py --conservative     # with the conservative spectra as well: three times as long

The six β-galactosidase micrographs of EMPIAR-10017 under ``PICKBIAS_DATA`` (7.08 Å a pixel, streaked border cut off).
Prints the tables of docs/reproduction/fdr.md. "Measured" lies between two numbers: picks with none of six lists' picks
within 10 px, and picks with no pick of the expert list for themselves within 10 px.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import mrcfile
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from napari_pickbias.imaging.fourier import band_filter
from napari_pickbias.imaging.projection import fourier_volume, project, resample_volume
from napari_pickbias.imaging.rotations import direction_grid, matrices_from_euler
from napari_pickbias.matching import TemplateBank
from napari_pickbias.matching.bank import soft_disc
from napari_pickbias.matching.calibrate import MatchSettings, MicrographMatch, calibrate, match_micrograph
from napari_pickbias.matching.significance import FreeAreaFdr, free_area_fdr

PIXEL, BORDER, DIAMETER, DISTANCE, NEAR = 7.08, 32, 177.0, 99.0, 10.0
NAMES = ("14_33_35", "14_57_34", "15_17_31", "15_30_21", "15_41_22", "16_26_22")
LISTS = ("cryoppp_expert", "CASSPER", "crYOLO", "crYOLO_casspers", "gautomatch", "topaz")
LEVELS = np.array([2.5, 3.0, 3.5, 4.0, 5.0])


def micrograph(folder: Path, name: str) -> NDArray[np.float32]:
    """Return a micrograph without its border, particles bright."""
    image = mrcfile.read(folder / f"Falcon_2012_06_12-{name}_0_bin4.mrc")
    return -image[BORDER:-BORDER, BORDER:-BORDER].astype(np.float32)


def bank(data: Path, wrong: bool = False, lowpass: float = 30.0) -> TemplateBank:
    """Return 12 views x 36 in-plane rotations of β-galactosidase, or of another molecule of similar size."""
    path, voxel = (data / "maps/emd_1832.map.gz", 5.7) if wrong else (data / "maps/betagal_ngl_crop64.mrc", 3.54)
    box = 42
    volume = resample_volume(mrcfile.read(path).astype(np.float32), voxel, box, PIXEL)
    views, psi = direction_grid(58.6), np.arange(0, 360, 10.0)
    euler = np.column_stack([np.repeat(views, len(psi), axis=0), np.tile(psi, len(views))])
    band = band_filter((box, box), PIXEL, lowpass_angstrom=lowpass)[None].astype(np.float32)
    images = project(fourier_volume(volume), matrices_from_euler(euler), ctf=band)
    # full weight on a radius of 14 px, half a particle and a little
    return TemplateBank.from_images(images, soft_disc(box, 20, 6), pixel_size_angstrom=PIXEL)


def settings(**changed: object) -> MatchSettings:
    """Return the settings of all runs."""
    given = {"pixel_size": PIXEL, "lowpass": 30.0, "diameter": DIAMETER, "min_distance": DISTANCE}
    return MatchSettings(**(given | changed))  # type: ignore[arg-type]


def places(folder: Path, kind: str, name: str) -> NDArray[np.float64]:
    """Return the picks of a list as y, x in the cut micrograph; empty where the list lacks the micrograph."""
    star, box = (folder / "picks" / kind / f"Falcon_2012_06_12-{name}_0{end}" for end in (".star", ".box"))
    if star.exists():
        columns, rows = [], []
        for line in star.read_text().splitlines():
            words = line.split()
            if words and words[0].startswith("_rln"):
                columns.append(words[0])
            elif words and columns and words[0][0] not in "#_dl":
                rows.append(words)
        wanted = [columns.index("_rlnCoordinateY"), columns.index("_rlnCoordinateX")]
        found = np.array([[float(row[column]) for column in wanted] for row in rows])
    elif box.exists():
        corners = np.array(
            [[float(word) for word in line.split()[:4]] for line in box.read_text().splitlines() if line]
        )
        found = (corners[:, :2] + corners[:, 2:] / 2)[:, ::-1]
    else:
        return np.zeros((0, 2))
    return np.asarray(found / 4 - BORDER)


def unmatched(picks: NDArray[np.void], reference: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which picks, highest first, find no reference of their own within 10 px."""
    tree, free = cKDTree(reference), np.ones(len(reference), np.bool_)
    lonely = np.ones(len(picks), np.bool_)
    for row, pick in enumerate(picks):
        place = np.array([pick["y"], pick["x"]])
        near = [other for other in tree.query_ball_point(place, NEAR) if free[other]]
        if near:
            free[min(near, key=lambda other: float(np.hypot(*(reference[other] - place))))] = False
            lonely[row] = False
    return lonely


def measured(folder: Path, matches: list[MicrographMatch], level: float) -> tuple[float, float]:
    """Return the least and the largest share of false picks at a score."""
    nowhere = not_expert = count = 0
    for name, match in zip(NAMES, matches, strict=False):
        picks = match.peaks[match.peaks["score"] >= level]
        count += len(picks)
        every = np.vstack([places(folder, kind, name) for kind in LISTS])
        away, _ = cKDTree(every).query(np.column_stack([picks["y"], picks["x"]]))
        nowhere += int((away > NEAR).sum())
        not_expert += int(unmatched(picks, places(folder, LISTS[0], name)).sum())
    return nowhere / count, not_expert / count


def matched(folder: Path, templates: TemplateBank, seed: int = 0, **changed: object) -> list[MicrographMatch]:
    """Match all six."""
    rng = np.random.default_rng(seed)
    return [
        match_micrograph(micrograph(folder, name), templates, settings(**changed), rng, threads=1) for name in NAMES
    ]


def curve(matches: list[MicrographMatch], free: bool = True) -> FreeAreaFdr:
    """Return the FDR at the five levels, on free or on the whole area."""
    trusted = [match.trusted_from if free else np.inf for match in matches]
    distance = matches[0].min_distance_px
    picks, noise = [match.peaks for match in matches], [match.null_peaks for match in matches]
    return free_area_fdr(picks, noise, LEVELS, distance, trusted, np.random.default_rng(1))


def row(*cells: object) -> None:
    """Print a line of a table."""
    print(
        "| " + " | ".join(f"{cell:.2f}" if isinstance(cell, float) else str(cell) for cell in cells) + " |", flush=True
    )


def report(folder: Path, title: str, templates: TemplateBank, conservative: bool) -> None:
    """Print the tables of one bank."""
    began = time.process_time()
    matches = matched(folder, templates)
    seconds = (time.process_time() - began) / len(matches)
    print(f"\n### {title}\n\n{len(templates)} templates, {seconds:.1f} s of one core a micrograph.\n")
    others = (
        {name: curve(matched(folder, templates, noise=name), False).fdr for name in ("tile", "phases", "inverted")}
        if conservative
        else {}
    )
    row("T", "N/mic", "predicted", "95 %", "measured", "whole area", *others)
    row(*["---"] * (6 + len(others)))
    free, whole = curve(matches), curve(matches, False)
    for place, level in enumerate(LEVELS):
        low, high = measured(folder, matches, level)
        interval = f"{free.low[place]:.2f}-{free.high[place]:.2f}"
        extra = [float(values[place]) for values in others.values()]
        count = round(free.picks[place] / len(matches))
        row(
            f"{level:g}",
            count,
            float(free.fdr[place]),
            interval,
            f"{low:.2f}-{high:.2f}",
            float(whole.fdr[place]),
            *extra,
        )
    found = calibrate(matches, np.random.default_rng(2))
    print(
        "\nThresholds for an FDR of .01, .05, .10, .20:", *[found.threshold_at(fdr) for fdr in (0.01, 0.05, 0.1, 0.2)]
    )
    if found.local is not None:
        print(
            "Local FDR:", *[f"{a:.2f}: {b:.2f}" for a, b in zip(found.local.scores, found.local.fdr, strict=True)][:9]
        )
    print()
    row("micrograph", "expert list", "left out in each round", "trusted from", "bad area", "free area", "warnings")
    row(*["---"] * 7)
    for name, match in zip(NAMES, matches, strict=True):
        noise, expert = match.noise, len(places(folder, LISTS[0], name))
        rounds = " ".join(str(count) for count in noise.excluded)
        row(
            name, expert, rounds, match.trusted_from, match.bad_fraction, noise.free_fraction, "; ".join(match.warnings)
        )


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description="Predicted and measured false picks on real micrographs.")
    parser.add_argument("--conservative", action="store_true", help="the conservative spectra too")
    parser.add_argument("--right-only", action="store_true", help="no wrong template")
    given = parser.parse_args()
    data = Path(os.environ.get("PICKBIAS_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
    folder = data / "micrographs" / "betagal_10017"
    report(folder, "The right molecule, low-pass 30 Å", bank(data), given.conservative)
    if not given.right_only:
        report(folder, "Another molecule (EMD-1832), low-pass 60 Å", bank(data, True, 60.0), given.conservative)


if __name__ == "__main__":
    main()
