"""What pickers take from pure noise (Fig. 6): means of their picks, and whether halves agree: templates, Topaz, random.

python benchmarks/paper_bias/pickers.py FOLDER [--topaz "topaz extract -r 8 -m resnet16_u64 -x 1 -t -6 -o {out} {in}"]

Makes noise micrographs of 1024² px (white and coloured, ``FOLDER/KIND/noiseN.mrc``), runs Topaz on those without a
``topazN.txt`` beside them, and writes ``paper_bias_pickers.png`` and a table. Halves are different micrographs.
Topaz is a program of its own (GPL; ``pip install topaz-em``) that this project does not need.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from napari_pickbias.bias.averages import cut_patches
from napari_pickbias.bias.mixture import correlations
from napari_pickbias.imaging.noise import COLOURS, gaussian_noise
from napari_pickbias.imaging.phantoms import blob_volume, phantom
from napari_pickbias.imaging.projection import project
from napari_pickbias.imaging.rotations import random_rotations
from napari_pickbias.jobs.bias_picker import mean_frc
from napari_pickbias.matching import TemplateBank, find_peaks, score_map
from napari_pickbias.records import read_micrograph, write_mrc
from napari_pickbias.runs.bias_picks import read_topaz

SIDE, BOX, MICROGRAPHS, PIXEL = 1024, 48, 4, 4.0
LEVELS = (-6.0, 0.0)
KINDS = {"white": None, "coloured": COLOURS["coloured"]}


def noise(kind: str, number: int) -> np.ndarray:
    rng = np.random.default_rng([7, number, kind == "white"])
    return gaussian_noise(1, (SIDE, SIDE), rng, power=KINDS[kind])[0]


def mixed_bank(rng: np.random.Generator) -> TemplateBank:
    """Return a large bank of unlike templates: views of molecules of several sizes and shapes."""
    images = []
    for radius, elongation in ((5.0, 1.0), (6.0, 1.6), (7.5, 2.2), (8.0, 1.0)):
        volume = blob_volume(phantom(radius, elongation=elongation), BOX)
        images.append(project(volume, random_rotations(60, rng)))
    return TemplateBank.from_images(np.concatenate(images))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--topaz", help="command; {in} and {out} are replaced")
    given = parser.parse_args()
    rng = np.random.default_rng(0)
    bank = mixed_bank(rng)
    whole = Figure(figsize=(9.6, 5.0), layout="constrained")
    grid = whole.subplots(len(KINDS), 5, gridspec_kw={"width_ratios": [1, 1, 1, 1, 1.7]})
    for row, kind in zip(grid, KINDS, strict=True):
        folder = given.folder / kind
        folder.mkdir(parents=True, exist_ok=True)
        taken: dict[str, list[np.ndarray]] = {}
        for number in range(MICROGRAPHS):
            path, table = folder / f"noise{number}.mrc", folder / f"topaz{number}.txt"
            if not path.exists():
                write_mrc(path, noise(kind, number), PIXEL)
            image = read_micrograph(path)
            if given.topaz and not table.exists():
                parts = [p.format_map({"in": path, "out": table}) for p in shlex.split(given.topaz)]
                subprocess.run(parts, check=True)
            count = 1500
            if table.exists():
                found = read_topaz(table)
                scores = found.features["score"].to_numpy()
                count = len(found)
                for level in LEVELS:
                    name = f"Topaz, score ≥ {level:g}"
                    taken.setdefault(name, []).append(found.coordinates_px[scores >= level][:, ::-1])
            scores, best = score_map(image, bank, 1, normalise="global")
            peaks = find_peaks(scores, best, 0.0, 8.0)[: min(count, 1500)]
            taken.setdefault("templates (240, mixed)", []).append(np.column_stack([peaks["y"], peaks["x"]]))
            taken.setdefault("random places", []).append(rng.uniform(0, SIDE, (min(count, 1500), 2)))
        means, curves, numbers = {}, {}, {}
        reach = BOX / 2
        for name, places in taken.items():
            halves, counts = np.zeros((2, BOX, BOX)), np.zeros(2, int)
            for number, where in enumerate(places):
                inside = where[((where >= reach) & (where <= SIDE - reach)).all(axis=1)]
                patches = cut_patches(read_micrograph(folder / f"noise{number}.mrc"), inside, BOX)
                halves[number % 2] += patches.sum(axis=0, dtype=np.float64)
                counts[number % 2] += len(patches)
            means[name], numbers[name] = halves.sum(axis=0) / counts.sum(), int(counts.sum())
            curves[name] = mean_frc(halves, counts)
        radius = np.hypot(*(np.mgrid[:BOX, :BOX] - BOX // 2))
        for name, mean in means.items():
            sd = np.sqrt(numbers[name]) * mean / noise(kind, 0).std()
            against = correlations(mean[None], means["templates (240, mixed)"][None])[0, 0]
            low, high = np.nanmean(curves[name][1:6]), np.nanmean(curves[name][6:13])
            print(f"{kind}, {name}: {numbers[name]} picks; middle (r < 4 px) {sd[radius < 4].mean():.1f} deviations of "
                  f"noise; halves agree, shells 1-5: {low:.2f}, 6-12: {high:.2f}; correlation with the templates' mean "
                  f"{against:.2f}", flush=True)  # fmt: skip
        order = ["templates (240, mixed)", "Topaz, score ≥ -6", "Topaz, score ≥ 0", "random places"]
        for axes, name in zip(row, order, strict=False):
            axes.set_axis_off()
            if name in means:
                axes.imshow(means[name], cmap="gray")
                axes.set_title(f"{name}\n{numbers[name]} picks", fontsize=7)
        for name in [name for name in order if name in curves]:
            row[4].plot(np.arange(1, 21), curves[name][1:21], ".-", label=name)
        row[4].axhline(0, color="grey", linewidth=0.5)
        row[4].set(ylim=(-0.6, 1.05), xlabel="shell", title="halves of the mean")
        row[4].title.set_fontsize(8)
        row[0].text(-2, BOX / 2, f"{kind} noise", rotation=90, fontsize=8, ha="right", va="center")
        if kind == "white":
            row[4].legend(fontsize=5.5, loc="lower left", framealpha=0.6)
    whole.savefig(given.folder / "paper_bias_pickers.png", dpi=110)


if __name__ == "__main__":
    main()
