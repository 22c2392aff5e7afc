"""Maps of picks: real micrographs with a right and a wrong map, and noise like them; bait and controls beside.

python benchmarks/bias_volume.py DATA OUT.csv [--micrographs N] [--only right|wrong] [--noise] [--bait] [--controls]

DATA is the folder that holds ``micrographs/betagal_10017`` and ``maps``. One row a case, written as it is finished;
curves go to OUT with the suffix ``.fsc.csv``.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import tempfile
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np

from napari_pickbias.jobs.bias import BiasResult, bias_job
from napari_pickbias.jobs.bias_bait import bait_job
from napari_pickbias.jobs.bias_controls import controls_job
from napari_pickbias.jobs.bias_parameters import BiasParameters
from napari_pickbias.jobs.bias_volume import volume_job
from napari_pickbias.jobs.pick_templates import TemplateInput
from napari_pickbias.matching.noise_model import surrogate
from napari_pickbias.records import Micrographs, read_volume, write_mrc
from napari_pickbias.records.micrographs import MicrographSet, open_micrographs

MAPS = {"right": ("betagal_ngl_crop64.mrc", "D2"), "wrong": ("emd_1832.map.gz", "C1")}


class Kept:
    """Pieces in memory, so that controls find the sums."""

    def __init__(self) -> None:
        self.pieces: dict[str, dict[str, Any]] = {}

    def load(self, name: str) -> dict[str, Any] | None:
        found = self.pieces.get(name)
        return None if found is None else dict(found)

    def save(self, name: str, arrays: Any) -> None:
        self.pieces[name] = {key: np.array(value) for key, value in dict(arrays).items()}


def drained(job: Generator[Any, None, Any]) -> Any:
    while True:
        try:
            next(job)
        except StopIteration as end:
            return end.value


def case(
    name: str, found: MicrographSet, wanted: TemplateInput, parameters: BiasParameters, chosen: argparse.Namespace
) -> tuple[dict[str, object], list[list[object]], BiasResult]:
    kept = Kept()
    result = drained(bias_job(found, wanted, parameters, threads=2, checkpoints=kept))
    start = time.process_time()
    volume = drained(volume_job(found, wanted, result, threads=2))
    spent = time.process_time() - start
    d, ml = volume.diagnosis, volume.likelihood
    row: dict[str, object] = {
        "case": name, "picks": sum(d.picks), "verdict": result.verdict.name, "plain_in": d.plain[0],
        "twin_plain_in": np.mean(d.twin_plain_inside), "in": d.inside.value, "in_z": d.inside.z,
        "beyond": d.beyond.value, "beyond_sd": d.beyond.null_sd, "beyond_z": d.beyond.z,
        "twin_in": np.mean(d.twin_inside), "twin_beyond": np.mean(d.twin_beyond), "agreement": d.agreement.value,
        "agreement_z": d.agreement.z, "relative": d.relative_agreement, "small_mask": d.small_mask.value,
        "small_mask_z": d.small_mask.z, "ml_plain_in": ml.plain, "ml_twin_plain_in": ml.twin, "ml_in": ml.inside.value,
        "ml_beyond": ml.beyond.value, "ml_beyond_z": ml.beyond.z, "ml_template": ml.template_correlation,
        "ml_twin_template": ml.twin_template_correlation, "cpu_s": spent,
    }  # fmt: skip
    if chosen.bait:
        bait = drained(bait_job(found, wanted, result, threads=2)).bait
        row |= {key: " ".join(f"{v:.2f}" for v in value) for key, value in bait._asdict().items()}
    if chosen.controls:
        found_controls = drained(
            controls_job(found, wanted, result, {"sphere": None, "scrambled": None}, threads=2, checkpoints=kept)
        )
        for one in found_controls.rows[1:]:
            row[one.name] = (
                f"{one.picks} picks, FDR {one.rate.value:.2f}, in {one.inside.value:.2f}, beyond "
                f"{one.beyond.value:.2f} ({one.beyond.z:.1f}), agreement {one.agreement.value:.2f}: {one.verdict}"
            )
    curves = [
        [name, kind, *np.round(curve, 3)]
        for kind, curve in (
            ("plain", d.fsc_plain), ("bias_removed", d.fsc_removed), ("null_low", d.null_low),
            ("null_high", d.null_high), *(("noise_plain", one) for one in d.twin_plain),
            *(("noise_bias_removed", one) for one in d.twin_removed), ("ml_plain", ml.fsc_plain),
            ("ml_noise_plain", ml.twin_plain), ("ml_bias_removed", ml.fsc_removed),
        )
    ]  # fmt: skip
    return {key: f"{v:.3g}" if isinstance(v, float) else v for key, v in row.items()}, curves, result


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--micrographs", type=int, default=2)
    parser.add_argument("--threshold", type=float, default=4.0)
    parser.add_argument("--only", choices=list(MAPS))
    for option in ("--noise", "--bait", "--controls"):
        parser.add_argument(option, action="store_true")
    chosen = parser.parse_args()
    every = open_micrographs(str(chosen.data / "micrographs/betagal_10017/*bin4.mrc"), 7.08)
    m, n = every.micrographs, chosen.micrographs
    found = dataclasses.replace(
        every, micrographs=Micrographs(m.paths[:n], m.pixel_size_angstrom[:n], None, m.names[:n])
    )
    rows: list[dict[str, object]] = []
    curves: list[list[object]] = []

    def keep(row: dict[str, object], own: list[list[object]]) -> None:
        rows.append(row)
        curves.extend(own)
        print(row, flush=True)
        with chosen.out.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, list(max(rows, key=len)), restval="")
            writer.writeheader()
            writer.writerows(rows)
        with chosen.out.with_suffix(".fsc.csv").open("w", newline="") as stream:
            csv.writer(stream).writerows(curves)

    for which in MAPS if chosen.only is None else (chosen.only,):
        name, symmetry = MAPS[which]
        volume = read_volume(chosen.data / "maps" / name)
        wanted = TemplateInput("map", volume.data, volume.voxel_size_angstrom, which)
        parameters = BiasParameters(
            threshold=chosen.threshold, lowpass=60.0, diameter=177.0, min_distance=99.0, angular_step=30.0,
            border=230.0, symmetry=symmetry, contrast="black",
        )  # fmt: skip
        row, own, result = case(f"real, {which}", found, wanted, parameters, chosen)
        keep(row, own)
        if chosen.noise:
            with tempfile.TemporaryDirectory() as folder:
                rng = np.random.default_rng(0)
                for number, match in enumerate(result.candidates.used):
                    write_mrc(Path(folder) / f"noise{number}.mrc", -surrogate(match.noise, (1024, 1024), rng), 7.08)
                lower = parameters.model_copy(update={"threshold": 3.0})
                keep(*case(f"noise, {which}, T 3", open_micrographs(folder), wanted, lower, chosen)[:2])


if __name__ == "__main__":
    main()
