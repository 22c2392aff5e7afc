"""The report of picking in tomograms: how many, how sure, and slices with the picks."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from matplotlib.ticker import NullLocator
from numpy.typing import NDArray

from napari_pickbias.report.document import Document, Fact, Section, Table
from napari_pickbias.report.panels import (
    Panel,
    dress,
    legend,
    mark_threshold,
    say,
    short_name,
)
from napari_pickbias.report.pick_figures import BLUE, GREY, draw_picks
from napari_pickbias.report.provenance import input_table, parameter_table, program_name, run_table

if TYPE_CHECKING:
    from matplotlib.figure import FigureBase

    from napari_pickbias.jobs.pick_tomograms_decide import TomogramResult
    from napari_pickbias.report.palette import Theme

LEVELS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
MOST_ROWS = 60


class TomogramSlice(NamedTuple):
    """A slab of a tomogram for the report."""

    name: str
    image: NDArray[np.float32]
    """Mean over the slab, made coarser for the page, as it is in the file."""
    pixel_size_angstrom: float
    section: int
    """Its middle, from 0."""
    centres_px: NDArray[np.float64]
    """``(n, 2)`` x, y on ``image`` of the picks within half a particle of the middle."""
    q: NDArray[np.float64]


def write_tomogram_report(
    result: TomogramResult,
    shown: Sequence[TomogramSlice],
    summary: Mapping[str, Any],
    directory: Path,
    pdf_name: str = "report",
) -> dict[str, Path]:
    """Write ``report.html`` and a PDF (``report.pdf``) into ``directory``, each whole or not at all.

    Raises
    ------
    InputError
        When a file cannot be written.
    """
    from napari_pickbias.report.html import write_html
    from napari_pickbias.report.pdf import write_pdf

    document = tomogram_document(result, shown, summary)
    files = {"html": Path(directory) / "report.html", "pdf": Path(directory) / f"{pdf_name}.pdf"}
    write_html(document, files["html"])
    write_pdf(document, files["pdf"])
    return files


def tomogram_document(result: TomogramResult, shown: Sequence[TomogramSlice], summary: Mapping[str, Any]) -> Document:
    """Return the report, its figures not yet drawn."""
    candidates, facts = result.candidates, result.candidates.facts
    diameter = candidates.diameter_angstrom
    pictures = tuple(_slice_panel(each, diameter, number) for number, each in enumerate(shown, 1))
    return Document(
        title="Picking in tomograms",
        subtitle=f"{_tomograms(len(candidates.names))}, one map at {facts['orientations']:,} orientations",
        headline=_headline(result),
        program=program_name(summary),
        warnings=result.warnings,
        facts=_facts(result),
        reading=(
            "A score is the best correlation of the map, over all orientations, with the tomogram under the particle's "
            "mask, in standard deviations of what that orientation gives on noise with the tomogram's own spectrum. "
            "The p-value is the chance that a peak of such noise stands as high; the q-value is the share of false "
            "picks among all that stand at least as high, if every peak were noise; the FDR counts false picks only "
            "where no sure pick takes the place.",
            "The noise is a Gaussian volume with the tomogram's median three-dimensional spectrum, missing wedge "
            "included. It has no membranes, no gold, no ice and no other molecules: all of those are objects, and the "
            "FDR does not call them false. A low FDR means that an object is there, not that it is your object. "
            "Particles that fill most of a tomogram are in its spectrum too, and make the FDR too high.",
        ),
        sections=(
            Section("Thresholds", tables=(_level_table(result),), panels=(score_panel(result),)),
            Section("Tomograms", tables=(_tomogram_table(result),), panels=pictures),
        ),
        appendix=(parameter_table(result.parameters), input_table(list(summary["inputs"])), run_table(summary)),
        raw=json.dumps(summary.get("results", {}), indent=2, ensure_ascii=False),
    )


def score_panel(result: TomogramResult) -> Panel:
    """Return the scores of all peaks beside those of noise."""
    text = (
        "Heights of all peaks of the tomograms' scores (blue), and of the scores of noise with each tomogram's own "
        "spectrum (grey), for the same volume. Picks are the peaks right of the dashed line."
    )
    return Panel("scores", "Scores against those of noise", text, 2.9, partial(_draw_scores, result))


def _draw_scores(result: TomogramResult, figure: FigureBase, theme: Theme) -> None:
    axes = figure.subplots()
    used = result.candidates.used
    real = np.concatenate([each.peaks["score"] for each in used]).astype(np.float64)
    if not len(real):
        say(axes, theme, "no peaks")
        return
    pairs = [
        (table["score"].astype(np.float64), 1 / len(each.null_peaks)) for each in used for table in each.null_peaks
    ]
    null = np.concatenate([heights for heights, _ in pairs])
    weights = np.concatenate([np.full(len(heights), weight) for heights, weight in pairs])
    low = min(float(real.min()), float(null.min()))
    high = min(max(float(real.max()), float(null.max())), result.threshold + 25)
    edges = np.arange(np.floor(5 * low) / 5, high + 0.2, 0.1 if high - low < 15 else 0.25)
    axes.stairs(np.histogram(null, edges, weights=weights)[0], edges, fill=True, color=GREY, alpha=0.45, label="noise")
    axes.stairs(np.histogram(np.minimum(real, edges[-1]), edges)[0], edges, color=BLUE, linewidth=1.3, label="data")
    mark_threshold(axes, theme, result.threshold, f"threshold {result.threshold:.2f}")
    # Single peaks count where the two part, so the axis is logarithmic.
    axes.set_yscale("log")
    axes.set_ylim(bottom=0.4)
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(lambda value, _position: f"{value:,g}")
    dress(axes, theme, x="score (standard deviations of the noise)", y="peaks", grid="y")
    legend(axes, theme)


def _slice_panel(shown: TomogramSlice, diameter: float, number: int) -> Panel:
    height, width = shown.image.shape
    text = (
        f"{short_name(shown.name)}, mean of the sections within a quarter of a particle of section {shown.section}, "
        f"smoothed for this page: {len(shown.q)} picks lie within half a particle of it. Circles have the diameter of "
        "the particle; their colour is the q-value."
    )
    inches = min(7.2 * height / width + 0.3, 8.6)
    draw = partial(draw_picks, shown, diameter / shown.pixel_size_angstrom)
    return Panel(f"slice_{number}", "Picks", text, inches, draw)


def _headline(result: TomogramResult) -> str:
    used = len(result.candidates.used)
    if result.count == 0:
        return f"Nothing was picked in {_tomograms(used)}: no score reaches {result.threshold:.2f}."
    text = f"{result.count:,} picks in {_tomograms(used)}, from a score of {result.threshold:.2f} up"
    if result.fdr is None:
        return f"{text}."
    value, low, high = result.fdr
    return f"{text}; {value:.1%} of them are expected to be false ({low:.1%} to {high:.1%})."


def _tomograms(count: int) -> str:
    return f"{count:,} tomogram" + ("" if count == 1 else "s")


def _facts(result: TomogramResult) -> tuple[Fact, ...]:
    candidates, facts = result.candidates, result.candidates.facts
    per = result.count / max(len(candidates.used), 1)
    found = [
        Fact("Picks", f"{result.count:,}", f"{per:.1f} a tomogram"),
        Fact("Threshold", f"{result.threshold:.2f}", "standard deviations of the noise"),
    ]
    if result.fdr is not None:
        value, low, high = result.fdr
        found.append(Fact("False picks", f"{value:.1%}", f"95 % interval {low:.1%} to {high:.1%}"))
    found += [
        Fact("Particles are", facts["contrast"], f"measured: {facts['measured_contrast']}"),
        Fact("Particle diameter", f"{candidates.diameter_angstrom:.4g} Å", "longest extent; circles in the pictures"),
        Fact("Searched at", f"{facts['working_pixel_size']:.3g} Å a voxel", f"boxes of {facts['box_px']} voxels"),
    ]
    return tuple(found)


def _level_table(result: TomogramResult) -> Table:
    """Return thresholds for round rates of false picks."""
    curve = result.calibration.fdr
    header = ("false picks", "threshold", "picks", "false picks a tomogram")
    rows = []
    for level in LEVELS:
        threshold = result.calibration.threshold_at(level)
        if threshold is None or curve is None:
            rows.append((f"{level:.0%}", "none keeps it", "", ""))
            continue
        index = int(np.searchsorted(curve.thresholds, threshold))
        false = result.calibration.expected_false[index, 0]
        rows.append((f"{level:.0%}", f"{threshold:.2f}", f"{int(curve.picks[index]):,}", f"{false:.1f}"))
    return Table("Lowest threshold that keeps the share of false picks", header, tuple(rows), frozenset(header[1:]))


def _tomogram_table(result: TomogramResult) -> Table:
    header = ("tomogram", "picks", "peaks of noise", "highest score", "highest of noise")
    rows = []
    for name, each in zip(result.candidates.names, result.candidates.found, strict=True):
        if each is None:
            rows.append((short_name(name), "left out", "", "", ""))
            continue
        noise = np.mean([(table["score"] >= result.threshold).sum() for table in each.null_peaks])
        tops = [float(table["score"].max()) if len(table) else 0.0 for table in (each.peaks, *each.null_peaks)]
        picks = f"{len(result.picks[name]['score'])}"
        rows.append((short_name(name), picks, f"{noise:.1f}", f"{tops[0]:.2f}", f"{max(tops[1:]):.2f}"))
    if len(rows) > MOST_ROWS:
        rows = [*rows[:MOST_ROWS], (f"and {len(rows) - MOST_ROWS:,} more, in summary.json", "", "", "", "")]
    return Table("Tomograms", header, tuple(rows), frozenset(header[1:]))
