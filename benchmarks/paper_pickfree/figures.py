"""Figures and the table of docs/reproduction/pickfree.md from the lines that demonstrations.py wrote.

Usage: python benchmarks/paper_pickfree/figures.py RESULTS.jsonl docs/reproduction
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

BLUE, ORANGE, GREY = "#0072B2", "#E69F00", "#8A8A8A"
SHOWN = ("70S-11", "BPTI-11", "ADK-11", "70S-11-touching-1000", "70S-15", "70S-21")
"""Cases whose sections are drawn; their starts are low-passed truths, which need no alignment."""
Runs = dict[str, list[dict[str, Any]]]


def read(path: Path) -> Runs:
    """Return the runs by case, in the order of the file, seeds in theirs."""
    found: Runs = defaultdict(list)
    for line in path.read_text().splitlines():
        record = json.loads(line)
        found[record["case"]].append(record)
    return {name: sorted(records, key=lambda r: int(r["seed"])) for name, records in found.items()}


def draw_fsc(runs: Runs) -> Figure:
    """Return FSC with the truth of start and end, one panel a case; bars are standard deviations over seeds."""
    columns = 3
    rows = -(-len(runs) // columns)
    figure = Figure(figsize=(8.5, 2.2 * rows), layout="constrained")
    for axes, (name, records) in zip(figure.subplots(rows, columns, squeeze=False).ravel(), runs.items(), strict=False):
        curves = np.array([[r["fsc"][0], r["fsc"][-1]] for r in records])
        shells = np.arange(1, curves.shape[2] + 1)
        for number, color, label in ((0, ORANGE, "start"), (1, BLUE, "end")):
            mean, deviation = curves[:, number].mean(axis=0), curves[:, number].std(axis=0)
            axes.errorbar(shells, mean, deviation, color=color, label=label, capsize=2, linewidth=1.2)
        axes.axhline(0.5, color=GREY, linewidth=0.6, linestyle="--")
        axes.set_ylim(-0.4, 1.05)
        plural = "seed" if len(records) == 1 else "seeds"
        axes.set_title(f"{name}, {len(records)} {plural}", fontsize=8)
        axes.tick_params(labelsize=7)
    for axes in figure.axes[len(runs) :]:
        axes.remove()
    figure.axes[0].legend(fontsize=7, frameon=False)
    figure.supxlabel("shell", fontsize=8)
    figure.supylabel("FSC with the truth", fontsize=8)
    return figure


def draw_iterations(runs: Runs) -> Figure:
    """Return the shell of FSC 0.5 by iteration (the published figure 5), for starts that need no alignment."""
    figure = Figure(figsize=(6.8, 3.2), layout="constrained")
    axes = figure.subplots()
    for name, records in runs.items():
        crossings = [r["crossing"] for r in records if name in SHOWN or "snr" in name]
        if crossings:
            mean = np.mean(crossings, axis=0)
            axes.plot(np.arange(len(mean)), mean, marker="o", markersize=2.5, linewidth=1.1, label=name)
    axes.set_xlabel("iteration", fontsize=8)
    axes.set_ylabel("shell where FSC falls below 0.5", fontsize=8)
    axes.tick_params(labelsize=7)
    axes.legend(fontsize=6.5, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def draw_sections(runs: Runs) -> Figure:
    """Return central sections of truth, start and end, one row a case, its first seed."""
    shown = {name: runs[name][0] for name in SHOWN if name in runs}
    figure = Figure(figsize=(4.6, 1.35 * len(shown)), layout="constrained")
    for row, (name, record) in zip(figure.subplots(len(shown), 3, squeeze=False), shown.items(), strict=True):
        sections = [np.array(section) for section in record["sections"]]
        for axes, section, title in zip(row, sections, ("truth", "start", "end"), strict=True):
            axes.imshow(section, origin="lower", cmap="gray", vmin=sections[0].min(), vmax=sections[0].max())
            axes.set_xticks([])
            axes.set_yticks([])
            if row is not None and name == next(iter(shown)):
                axes.set_title(title, fontsize=8)
        row[0].set_ylabel(name, fontsize=6.5)
    return figure


def table(runs: Runs) -> str:
    """Return the runs as Markdown, means and standard deviations over seeds."""
    lines = [
        "| case | patches / particles | SNR | seeds | shell of FSC 0.5, start → end | FSC of the last three "
        "shells at the end | correlation | log-likelihood a patch | empty (true) | s |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, records in runs.items():
        crossing = np.array([[r["crossing"][0], r["crossing"][-1]] for r in records])
        last = np.array([r["fsc"][-1][-3:] for r in records]).mean(axis=0)
        likelihood = np.array([r["log_likelihood"][-1] for r in records])
        first = records[0]
        spread = f" ± {crossing[:, 1].std():.2f}" if len(records) > 1 else ""
        deviation = f" ± {likelihood.std():.3f}" if len(records) > 1 else ""
        before = f" ± {crossing[:, 0].std():.2f}" if crossing[:, 0].std() > 5e-3 else ""
        likeness = np.array([[r["correlation"][0], r["correlation"][-1]] for r in records])
        lines.append(
            f"| {name} | {first['patches']} / {first['particles']} | {first['snr']:g} | {len(records)} | "
            f"{crossing[:, 0].mean():.2f}{before} → {crossing[:, 1].mean():.2f}{spread} of {len(first['fsc'][0])} | "
            f"{' '.join(f'{v:.2f}' for v in last)} | {likeness[:, 0].mean():.2f} → {likeness[:, 1].mean():.2f} | "
            f"{likelihood.mean():.3f}{deviation} | "
            f"{np.mean([r['empty'] for r in records]):.3f} ({max(first['true_empty'], 0):.3f}) | "
            f"{np.mean([r['seconds'] for r in records]):.0f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Write the figures and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("folder", type=Path)
    chosen = parser.parse_args()
    runs = read(chosen.results)
    for name, draw in (("fsc", draw_fsc), ("iterations", draw_iterations), ("sections", draw_sections)):
        draw(runs).savefig(chosen.folder / f"pickfree_{name}.png", dpi=130)
    print(table(runs))


if __name__ == "__main__":
    main()
