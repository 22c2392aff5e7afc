"""What mitigations do to picks of pure noise, and what they cost on particles: a table.

python benchmarks/paper_bias/mitigations.py [--images 4] [--lowpass 20 60 100]

Noise falls fourfold within the band; particles are views of a molecule in any in-plane angle, 5.5 deviations strong.
For each way of picking: picks of a micrograph of pure noise, correlation of the averages of these picks (turned back by
their labels) with the template before its low-pass, what theory predicts for it; then picks, share of false ones and
share of the particles found on micrographs with particles.
"""

from __future__ import annotations

import argparse
from typing import NamedTuple

import numpy as np

from napari_pickbias.bias.averages import cut_patches, make_turns, view_sums
from napari_pickbias.bias.knockoffs import compete, inverted_bank, knockoff_threshold, scrambled_bank
from napari_pickbias.bias.mitigation import blob_bank, lowpass_bias
from napari_pickbias.bias.mixture import correlations
from napari_pickbias.imaging.fourier import apply_filter, band_filter, radial_frequency
from napari_pickbias.imaging.noise import noise_of_spectrum
from napari_pickbias.imaging.phantoms import blob_volume, phantom
from napari_pickbias.imaging.projection import project
from napari_pickbias.imaging.rotations import direction_grid, matrices_from_euler
from napari_pickbias.matching import TemplateBank, find_peaks, score_map
from napari_pickbias.matching.bank import soft_disc
from napari_pickbias.matching.noise_model import template_sd
from napari_pickbias.matching.significance import q_values

SIDE, BOX, PIXEL, GRID, DISTANCE, STRENGTH = 512, 33, 7.0, 128, 14.0, 5.5


def power_on(size: int) -> np.ndarray:
    return 1 / (1 + (radial_frequency((size, size)) / 0.1) ** 2) + 0.05


class Data(NamedTuple):
    noise: list[np.ndarray]
    """Pure noise: what is picked from it is all false."""
    reference: list[np.ndarray]
    """More of it, from which p-values are learned."""
    mixed: list[np.ndarray]
    places: np.ndarray
    sharp: np.ndarray
    euler: np.ndarray
    view: np.ndarray
    first: np.ndarray


def make_data(images: int) -> Data:
    rng = np.random.default_rng(0)
    views = direction_grid(71.0)
    psi = np.arange(0, 360, 15.0)
    euler = np.column_stack([np.repeat(views, len(psi), axis=0), np.tile(psi, len(views))])
    view = np.repeat(np.arange(len(views), dtype=np.int32), len(psi))
    volume = blob_volume(phantom(9.0, elongation=1.6), BOX)
    sharp = np.asarray(project(volume, matrices_from_euler(euler)), np.float64)
    unit = TemplateBank.from_images(sharp, soft_disc(BOX, 14.0))
    sd = template_sd(unit, power_on(GRID))
    places = np.array([(y, x) for y in range(40, SIDE - 30, 60) for x in range(40, SIDE - 30, 60)])

    def noise() -> np.ndarray:
        return noise_of_spectrum(1, power_on(SIDE), (SIDE, SIDE), rng)[0]

    mixed = []
    for _ in range(images):
        image = noise().astype(np.float64)
        for y, x in places:
            one = rng.integers(len(sharp))
            image[y - 16 : y + 17, x - 16 : x + 17] += STRENGTH * sd[one] * unit.images[one]
        mixed.append(image.astype(np.float32))
    draw = [[noise() for _ in range(images)] for _ in range(2)]
    return Data(draw[0], draw[1], mixed, places, sharp, euler, view, np.flatnonzero(euler[:, 2] == 0))


def peaks_of(images: list[np.ndarray], bank: TemplateBank) -> list[np.ndarray]:
    sd = template_sd(bank, power_on(GRID))
    found = []
    for image in images:
        scores, best = score_map(image, bank, 1, noise_sd=sd, normalise="none")
        found.append(find_peaks(scores, best, 1.0, DISTANCE))
    return found


def average(images: list[np.ndarray], picks: list[np.ndarray], bank: TemplateBank, data: Data) -> float:
    """Correlate averages by view, weighted by their picks, with the templates before their low-pass."""
    patches = np.concatenate(
        [cut_patches(im, np.column_stack([p["y"], p["x"]]), BOX) for im, p in zip(images, picks, strict=True)]
    )
    labels = np.concatenate([p["template"] for p in picks]).astype(int)
    if len(patches) < 10:
        return float("nan")
    mask = soft_disc(BOX, 14.0) > 0.5
    turns = make_turns(bank.view, bank.euler_deg[:, 2], BOX)
    sums, counts = view_sums(patches, labels, np.zeros(len(patches), bool), turns)
    counts = counts.sum(axis=0)
    means = sums.sum(axis=0) / np.maximum(counts, 1)[:, None, None]
    table = correlations(means[:, mask], data.sharp[data.first][:, mask])
    own = np.diag(table) if len(bank) > 1 else table.max(axis=1)
    return float(np.average(own, weights=counts))


def row(
    name: str, data: Data, bank: TemplateBank, noise: list[np.ndarray], mixed: list[np.ndarray], predicted: float
) -> None:
    taken = sum(len(p) for p in noise) / len(data.noise)
    false = true = 0
    for picks in mixed:
        if len(picks):
            near = (
                np.hypot(picks["y"][:, None] - data.places[:, 0], picks["x"][:, None] - data.places[:, 1]).min(axis=1)
                < 8
            )
            true, false = true + int(near.sum()), false + int((~near).sum())
    both = true + false
    shown = ["–" if np.isnan(v) else f"{v:.2f}" for v in (average(data.noise, noise, bank, data), predicted)]
    found = (f"{both / len(mixed):.0f}", f"{false / max(both, 1):.3f}", f"{true / len(mixed) / len(data.places):.2f}")
    print(" | ".join((name, f"{taken:.1f}", *shown, *found)), flush=True)


def above(tables: list[np.ndarray], threshold: float) -> list[np.ndarray]:
    return [table[table["score"] >= threshold] for table in tables]


def benjamini_hochberg(tables: list[np.ndarray], null: np.ndarray, rate: float) -> list[np.ndarray]:
    """Keep the peaks whose q-value is at most a rate; p is the share of noise peaks as high."""
    ordered = np.sort(null)
    p = [(1 + len(null) - np.searchsorted(ordered, t["score"])) / (1 + len(null)) for t in tables]
    q = np.split(q_values(np.concatenate(p)), np.cumsum([len(values) for values in p])[:-1])
    return [table[values <= rate] for table, values in zip(tables, q, strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--lowpass", type=float, nargs="*", default=[20.0, 60.0, 100.0])
    given = parser.parse_args()
    data = make_data(given.images)
    mask = soft_disc(BOX, 14.0)
    print("picking | null picks | null average with unfiltered template | predicted | picks | false | found")
    for lowpass in given.lowpass:
        images = apply_filter(data.sharp, band_filter((BOX, BOX), PIXEL, lowpass_angstrom=lowpass))
        bank = TemplateBank.from_images(images, mask, view=data.view, euler_deg=data.euler)
        expected = lowpass_bias(data.sharp[data.first], power_on(GRID), PIXEL, lowpass, mask)
        noise, mixed, null = (peaks_of(part, bank) for part in (data.noise, data.mixed, data.reference))
        for level in (3.0, 4.0):
            row(
                f"low-pass {lowpass:g} Å, T {level:g}",
                data,
                bank,
                above(noise, level),
                above(mixed, level),
                expected.correlation,
            )
        if lowpass != 60.0:
            continue
        heights = np.concatenate([table["score"] for table in null])
        for rate in (0.05, 0.2):
            row(f"the same, Benjamini-Hochberg at {rate:g}", data, bank, benjamini_hochberg(noise, heights, rate),
                benjamini_hochberg(mixed, heights, rate), expected.correlation)  # fmt: skip
        for name, other in (
            ("inverted", inverted_bank(bank)),
            ("scrambled", scrambled_bank(bank, np.random.default_rng(1))),
        ):
            rivals = [peaks_of(part, other) for part in (data.noise, data.mixed)]
            for rate in (0.05, 0.2):
                chosen = []
                for ours, theirs in zip((noise, mixed), rivals, strict=True):
                    fought = [compete(a, b, DISTANCE) for a, b in zip(ours, theirs, strict=True)]
                    threshold = knockoff_threshold(
                        np.concatenate([a["score"] for a, _ in fought]),
                        np.concatenate([b["score"] for _, b in fought]),
                        rate,
                    ).threshold
                    chosen.append([a[a["score"] >= threshold] for a, _ in fought])
                row(f"the same, {name} knockoffs at {rate:g}", data, bank, *chosen, expected.correlation)
    blob = blob_bank(BOX, 18.0)
    noise, mixed = (peaks_of(part, blob) for part in (data.noise, data.mixed))
    for level in (3.0, 4.0):
        row(f"difference of Gaussians, T {level:g}", data, blob, above(noise, level), above(mixed, level), float("nan"))


if __name__ == "__main__":
    main()
