"""The verdict on real micrographs: right and wrong template, strict and loose, only the weak picks, and noise.

python benchmarks/bias_situations.py DATA OUT.csv [--micrographs N] [--only right|wrong|noise]

DATA is the folder that holds ``micrographs/betagal_10017`` and ``maps``. Writes one row a situation.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import tempfile
from pathlib import Path

import numpy as np

from napari_pickbias.jobs.bias import BiasResult, bias_job
from napari_pickbias.jobs.bias_parameters import BiasParameters
from napari_pickbias.jobs.pick_templates import TemplateInput
from napari_pickbias.matching.noise_model import surrogate
from napari_pickbias.records import Micrographs, read_volume, write_mrc
from napari_pickbias.records.micrographs import MicrographSet, open_micrographs

MAPS = {"right": ("betagal_ngl_crop64.mrc", "D2"), "wrong": ("emd_1832.map.gz", "C1")}
LEVELS = {"right": (5.0, 4.0, 3.0, 2.5), "wrong": (5.0, 4.0, 3.0, 2.5), "noise": (3.5, 3.0, 2.5)}
WEAK = ((2.5, 3.0), (2.0, 2.5))


class Kept:
    """Matching is kept from one threshold to the next; sums are not."""

    def __init__(self) -> None:
        self.pieces: dict[str, dict] = {}

    def load(self, name: str) -> dict | None:
        return self.pieces.get(name)

    def save(self, name: str, arrays: dict) -> None:
        if not name.startswith(("sums", "picks_")):
            self.pieces[name] = {key: np.array(value) for key, value in dict(arrays).items()}


def run(found: MicrographSet, which: str, maps: Path, threshold: float, kept: Kept, picks: dict | None) -> BiasResult:
    name, symmetry = MAPS[which]
    volume = read_volume(maps / name)
    parameters = BiasParameters(
        threshold=threshold, lowpass=60.0, diameter=177.0, min_distance=99.0, angular_step=30.0, border=230.0,
        symmetry=symmetry, contrast="black",
    )  # fmt: skip
    wanted = TemplateInput("map", volume.data, volume.voxel_size_angstrom, which)
    job = bias_job(found, wanted, parameters, picks=picks, threads=2, checkpoints=kept)
    while True:
        try:
            next(job)
        except StopIteration as end:
            return end.value


def row(name: str, result: BiasResult) -> dict[str, object]:
    level, (_, rate, verdict) = result.diagnosis.levels[0], result.levels[0]
    return {
        "situation": name, "picks": result.count, "fdr": f"{rate.value:.2f}", "low": f"{rate.low:.2f}",
        "high": f"{rate.high:.2f}", "plain_in": f"{level.plain[0]:.2f}", "in": f"{level.inside.value:.2f}",
        "beyond": f"{level.beyond.value:.2f}", "beyond_z": f"{level.beyond.z:.1f}",
        "agreement": f"{level.agreement.value:.2f}", "agreement_z": f"{level.agreement.z:.1f}",
        "relative": f"{verdict.relative_agreement:.2f}", "verdict": verdict.name, "why": verdict.why,
        "recommended": result.recommended, "data_threshold": result.data_threshold,
        "trusted_share": f"{result.calibration.trusted_share:.2f}",
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--micrographs", type=int, default=4)
    parser.add_argument("--only", choices=["right", "wrong", "noise"])
    chosen = parser.parse_args()
    maps = chosen.data / "maps"
    every = open_micrographs(str(chosen.data / "micrographs/betagal_10017/*bin4.mrc"), 7.08)
    m, n = every.micrographs, chosen.micrographs
    found = dataclasses.replace(
        every, micrographs=Micrographs(m.paths[:n], m.pixel_size_angstrom[:n], None, m.names[:n])
    )
    rows = []

    def say(name: str, result: BiasResult) -> None:
        rows.append(row(name, result))
        print(rows[-1], flush=True)
        with chosen.out.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)

    for which in ("right", "wrong") if chosen.only is None else (chosen.only,) if chosen.only != "noise" else ():
        kept = Kept()
        for threshold in LEVELS[which]:
            result = run(found, which, maps, threshold, kept, None)
            say(f"real, {which} template, T {threshold:g}", result)
        for low, high in WEAK:
            weak = {
                name: np.column_stack([t["x"], t["y"]])[(t["score"] >= low) & (t["score"] < high)]
                for name, t in zip(result.candidates.names, [k.peaks for k in result.candidates.used], strict=True)
            }
            say(f"real, {which} template, only {low:g} to {high:g}", run(found, which, maps, low, kept, weak))
    if chosen.only in (None, "noise"):
        kept = Kept()
        source = run(found, "right", maps, 4.0, kept, None)
        with tempfile.TemporaryDirectory() as folder:
            rng = np.random.default_rng(0)
            for number, match in enumerate(source.candidates.used):
                image = -surrogate(match.noise, (1024, 1024), rng)
                write_mrc(Path(folder) / f"noise{number}.mrc", image, 7.08)
            noise = open_micrographs(folder)
            for which in ("right", "wrong"):
                kept = Kept()
                for threshold in LEVELS["noise"]:
                    say(f"noise, {which} template, T {threshold:g}", run(noise, which, maps, threshold, kept, None))


if __name__ == "__main__":
    main()
