"""The verdict on apoferritin and raw K2 micrographs, with right and wrong maps.

python benchmarks/bias_real.py DATA OUT.jsonl

DATA is the folder that holds ``micrographs``, ``maps``, ``cryolike`` and ``aspire-python``. One line a case; cases that
are there already are not run again.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import starfile
from bias_validation import finish

from napari_pickbias.bias.views import matched
from napari_pickbias.imaging.phantoms import Blobs, blob_volume
from napari_pickbias.jobs.bias import BiasResult, bias_job
from napari_pickbias.jobs.bias_parameters import BiasParameters
from napari_pickbias.jobs.pick_templates import TemplateInput
from napari_pickbias.records import read_volume
from napari_pickbias.records.micrographs import open_micrographs
from napari_pickbias.records.models import read_atoms

CASES = [
    ("apoferritin", which, symmetry, threshold)
    for which, symmetry in (("apoferritin", "O"), ("beta-galactosidase", "D2"), ("EMD-1148", "C6"))
    for threshold in (5.0, 4.0, 3.0)
] + [
    ("ribosome", which, symmetry, threshold)
    for which, symmetry in (("70S", "C1"), ("beta-galactosidase", "D2"), ("EMD-1148", "C6"))
    for threshold in (5.0, 4.0, 3.0)
]  # fmt: skip
MICROGRAPHS = {"apoferritin": "apoferritin_10146/May08_*[0-9].mrc", "ribosome": "raw_ribosome_k2/*.mrc"}
SURROGATES = {"apoferritin": 2, "ribosome": 6}
"""One micrograph alone holds too few peaks of noise with the usual two."""
DIAMETER = {"apoferritin": 128.0, "ribosome": 260.0}
FILES = {"beta-galactosidase": "maps/betagal_ngl_crop64.mrc", "EMD-1148": "maps/emd_1148.map.gz"}


def template_of(data: Path, which: str) -> TemplateInput:
    """Return a map, from a file or from the atoms of apoferritin."""
    if which == "apoferritin":
        atoms = read_atoms(data / "cryolike" / "apoferritin_ca_apo_sym.pdb")
        voxel, size = 2.5, 64
        centres = (atoms - atoms.mean(axis=0)) / voxel
        every = Blobs(centres, np.full(len(centres), 1.2), np.ones(len(centres)))
        return TemplateInput("map", blob_volume(every, size), voxel, which)
    if which == "70S":
        volume = read_volume(data / "aspire-python" / "clean70SRibosome_vol_65p.mrc", 5.0)
        return TemplateInput("map", np.asarray(volume.data, np.float32), 5.0, which)
    volume = read_volume(data / FILES[which])
    return TemplateInput("map", np.asarray(volume.data, np.float32), float(volume.voxel_size_angstrom), which)


def true_share(data: Path, result: BiasResult) -> float:
    """Return the share of picks that no hand-marked particle explains; NaN where nobody marked any."""
    hits = total = 0
    for name, table in result.picks.items():
        marked = Path(str(name).replace(".mrc", "_manual.star"))
        if not marked.is_file():
            return float("nan")
        places = starfile.read(marked)[["rlnCoordinateX", "rlnCoordinateY"]].to_numpy(float)
        radius = 0.4 * result.candidates.diameter_angstrom / result.candidates.pixel_size_angstrom
        found = matched(places, np.column_stack([table["x"], table["y"]]).astype(float), radius)
        hits, total = hits + int(found.sum()), total + len(table)
    return 1 - hits / total if total else float("nan")


def run(data: Path, specimen: str, which: str, symmetry: str, threshold: float) -> dict[str, Any]:
    """Diagnose one case."""
    parameters = BiasParameters(
        threshold=threshold, diameter=DIAMETER[specimen], angular_step=30.0, symmetry=symmetry, contrast="black",
        surrogates=SURROGATES[specimen],
    )  # fmt: skip
    found = open_micrographs(str(data / "micrographs" / MICROGRAPHS[specimen]))
    result = finish(bias_job(found, template_of(data, which), parameters))
    level, (_, rate, verdict) = result.diagnosis.levels[0], result.levels[0]
    return {
        "specimen": specimen, "template": which, "threshold": threshold, "micrographs": len(found),
        "picks": result.count, "not marked": true_share(data, result), "rate": list(rate),
        "beyond": [*level.beyond, level.beyond.z], "relative": verdict.relative_agreement,
        "plain": level.plain[0], "verdict": verdict.name, "why": verdict.why, "views": level.views,
        "trusted": result.calibration.trusted_share,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    chosen = parser.parse_args()
    rows = [json.loads(line) for line in chosen.out.read_text().splitlines()] if chosen.out.exists() else []
    done = {(row["specimen"], row["template"], row["threshold"]) for row in rows}
    for specimen, which, symmetry, threshold in CASES:
        if (specimen, which, threshold) in done:
            continue
        row = run(chosen.data, specimen, which, symmetry, threshold)
        with chosen.out.open("a") as stream:
            stream.write(json.dumps(row) + "\n")
        print(row, flush=True)


if __name__ == "__main__":
    main()
