"""The report of the bias diagnosis in tomograms: the verdict, three figures, sections of averages, and curves."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_pickbias.report.bias import WORDS, next_step
from napari_pickbias.report.bias_figures import VERDICT_COLORS
from napari_pickbias.report.document import Document, Fact, Section, Table
from napari_pickbias.report.panels import (
    Panel,
    dress,
    legend,
    mark_threshold,
    resolution_axis,
    robust_range,
    say,
    show_image,
)
from napari_pickbias.report.pick_figures import BLUE
from napari_pickbias.report.provenance import input_table, parameter_table, program_name, run_table

if TYPE_CHECKING:
    from matplotlib.figure import FigureBase

    from napari_pickbias.jobs.bias_tomograms import BiasTomogramsResult
    from napari_pickbias.report.palette import Theme

ORANGE = "#d9822b"


def write_bias_tomograms_report(
    result: BiasTomogramsResult, summary: Mapping[str, Any], directory: Path
) -> dict[str, Path]:
    """Write ``report.html`` and ``report.pdf`` into ``directory``, each whole or not at all.

    Raises
    ------
    InputError
        When a file cannot be written.
    """
    from napari_pickbias.report.html import write_html
    from napari_pickbias.report.pdf import write_pdf

    document = bias_tomograms_document(result, summary)
    files = {"html": Path(directory) / "report.html", "pdf": Path(directory) / "report.pdf"}
    write_html(document, files["html"])
    write_pdf(document, files["pdf"])
    return files


def bias_tomograms_document(result: BiasTomogramsResult, summary: Mapping[str, Any]) -> Document:
    """Return the report, its figures not yet drawn."""
    verdict, count = result.verdict, len(result.candidates.used)
    return Document(
        title="Bias of picks in tomograms",
        subtitle=f"{count} tomogram{'' if count == 1 else 's'}, {result.count} picks, {len(result.frame.bank)} "
        "orientations of one map",
        headline=f"{WORDS[verdict.name]}: {verdict.why}.",
        program=program_name(summary),
        warnings=result.warnings,
        facts=_facts(result),
        reading=(
            next_step(verdict.name, verdict.fdr_failed, result.threshold, None),
            "A search for a map finds it in pure noise too, and the average of such sub-tomograms looks like the map. "
            "So three questions are asked that noise cannot pass. First: how many picks would noise of the same "
            "three-dimensional spectrum, searched in the same way, have given? Second: when everything that the map, "
            "at any orientation and any shift within reach, can have put into the average is removed, do two halves of "
            f"the picks still agree on details finer than {result.lowpass:.3g} Å? Third: are these details those of "
            "the map before its low-pass?",
            "A low share of false picks says that objects are there, not that they are yours: membranes, gold and "
            "other molecules are objects. The missing wedge is in the noise and, with --tilt-range, in the templates; "
            "the averages are not weighted by it, so that views that few particles fill come out weak.",
        ),
        sections=(
            Section(
                "Averages of noise and of your picks", panels=(_picture_panel(result),), tables=(_averages(result),)
            ),
            Section("How many picks are noise", panels=(_fdr_panel(result),)),
            Section("What is not from the map", panels=(_fsc_panel(result),)),
            Section("What was assumed", paragraphs=_assumed(result)),
        ),
        appendix=(parameter_table(result.parameters), input_table(list(summary["inputs"])), run_table(summary)),
        raw=json.dumps(summary.get("results", {}), indent=2, ensure_ascii=False),
    )


def _facts(result: BiasTomogramsResult) -> tuple[Fact, ...]:
    verdict, d, rate = result.verdict, result.diagnosis, result.rate
    known = np.isfinite(rate.value) and not verdict.fdr_failed
    interval = f", 95 % interval {rate.low:.0%} to {rate.high:.0%}" if known else ""
    relative = verdict.relative_agreement
    facts = [
        Fact("Verdict", verdict.name, f"{WORDS[verdict.name]}.", VERDICT_COLORS[verdict.name]),
        Fact(
            "1. Is an object there?",
            f"{rate.value:.0%}" if known else "not given",
            f"of the {result.count} picks are what pure noise gives{interval}; noise alone gives "
            f"{result.expected_null_picks:.0f} picks in the same volume",
        ),
        Fact(
            "2. Did the map bring it?",
            _number(d.beyond.value),
            f"agreement of half averages beyond the map's band, bias removed; noise gives "
            f"{_number(d.beyond.null_mean)} ± {_number(d.beyond.null_sd)}; nothing is 0, perfect 1",
        ),
        Fact(
            "3. Is it your object?",
            f"{relative:.2f}" if np.isfinite(relative) else "not given",
            (verdict.agreement or "nothing beyond the map's band to compare") + ".",
        ),
    ]
    if result.recommended is not None:
        text = f"keeps false picks at {result.parameters.fdr:.0%}; yours is {result.threshold:.2f}"
        facts.append(Fact("Recommended threshold", f"{result.recommended:.2f}", text))
    return tuple(facts)


def _number(value: float) -> str:
    return f"{value:.2f}" if np.isfinite(value) else "–"


def _averages(result: BiasTomogramsResult) -> Table:
    d = result.diagnosis
    header = ("", "your picks", "picks of noise")
    rows = (
        ("sub-tomograms", f"{d.picks}", f"{d.twin_picks}"),
        ("correlation with what picking alone puts there", _number(d.correlation), _number(d.twin_correlation)),
        ("the same, expected of noise", "", _number(d.predicted_correlation)),
        ("halves agree in the map's band, plain", _number(d.plain[0]), _number(d.twin_plain[0])),
        ("in the band, bias removed", _number(d.inside.value), _number(d.twin_inside)),
        ("beyond the band, plain", _number(d.plain[1]), _number(d.twin_plain[1])),
        ("beyond the band, bias removed", _number(d.beyond.value), _number(d.twin_beyond)),
        ("agreement with the unfiltered map beyond the band", _number(d.agreement.value), _number(d.twin_agreement)),
    )
    return Table("Averages", header, rows, frozenset(header[1:]))


def _picture_panel(result: BiasTomogramsResult) -> Panel:
    text = (
        "Central sections (above: along z, below: along y) of the average of your picks, of that of noise, of what "
        "picking alone puts there, and, with the bias removed, of your picks, of noise and of the unfiltered map. The "
        "first three look alike whatever is in the tomograms; the last three do not."
    )
    return Panel("sections", "Averages", text, 2.7, partial(_draw_sections, result))


def _draw_sections(result: BiasTomogramsResult, figure: FigureBase, theme: Theme) -> None:
    d = result.diagnosis
    cubes: tuple[tuple[str, NDArray[np.float64]], ...] = (
        ("your picks", d.average),
        ("noise", d.twin_average),
        ("predicted bias", d.predicted),
        ("yours, removed", d.removed),
        ("noise, removed", d.twin_removed),
        ("map, removed", d.sharp),
    )
    grid = figure.subplots(2, len(cubes))
    half = result.frame.box // 2
    for column, (title, cube) in enumerate(cubes):
        limits = robust_range(cube[half], 0.5, 99.5)
        for row, section in enumerate((cube[half], cube[:, half])):
            show_image(grid[row, column], section.astype(np.float32), limits, theme)
            if row == 0:
                grid[row, column].set_title(title, fontsize=6.5, color=theme.text)


def _fdr_panel(result: BiasTomogramsResult) -> Panel:
    text = (
        "Share of the picks above a threshold that pure noise would give in the volume without particles, with its 95 "
        "% interval."
    )
    return Panel("fdr", "False picks against the threshold", text, 2.5, partial(_draw_fdr, result))


def _draw_fdr(result: BiasTomogramsResult, figure: FigureBase, theme: Theme) -> None:
    axes = figure.subplots()
    curve = result.calibration.fdr
    if curve is None or result.verdict.fdr_failed:
        say(axes, theme, "the noise cannot be told from particles with this map, so no FDR is given")
        return
    known = np.isfinite(curve.fdr) & (curve.picks >= 5)
    axes.fill_between(curve.thresholds[known], curve.low[known], curve.high[known], color=BLUE, alpha=0.2, linewidth=0)
    axes.plot(curve.thresholds[known], curve.fdr[known], color=BLUE, label="share of false picks")
    axes.axhline(result.parameters.fdr, color=theme.muted, linewidth=0.6, linestyle=":")
    mark_threshold(axes, theme, result.threshold, f"threshold {result.threshold:.2f}")
    axes.set_ylim(0, 1.02)
    dress(axes, theme, x="threshold (noise deviations)", y="share of false picks", grid="y")
    legend(axes, theme)


def _fsc_panel(result: BiasTomogramsResult) -> Panel:
    text = (
        "Correlation between the averages of two halves of the picks. Plain (left), noise agrees with itself as well "
        "as particles do within the map's band (grey area). With the bias removed (right), noise stays within its band "
        "(orange, 95 % of random places); what rises above it beyond the grey area is in your data."
    )
    return Panel("fsc", "Do two halves of the picks agree?", text, 2.6, partial(_draw_fsc, result))


def _draw_fsc(result: BiasTomogramsResult, figure: FigureBase, theme: Theme) -> None:
    left, right = figure.subplots(1, 2, sharey=True)
    d, frame = result.diagnosis, result.frame
    last = min(frame.bands.beyond.last + 1, len(d.frequency) - 1)
    part = slice(1, last + 1)
    edge = (frame.bands.inside.last + 0.5) / (frame.box * frame.voxel_size)
    pairs = ((left, d.fsc_plain, d.twin_fsc_plain, "plain"), (right, d.fsc_removed, d.twin_fsc_removed, "bias removed"))
    for axes, ours, noise, title in pairs:
        axes.axvspan(0, edge, color=theme.grid, alpha=0.6, linewidth=0, label="map's band")
        axes.plot(d.frequency[part], noise[part], color=ORANGE, linestyle="--", marker=".", markersize=3, label="noise")
        axes.plot(d.frequency[part], ours[part], color=BLUE, marker=".", markersize=4, label="your picks")
        axes.axhline(0, color=theme.muted, linewidth=0.5)
        axes.set_ylim(-0.45, 1.05)
        dress(axes, theme, x="spatial frequency (1/Å)", y="correlation" if axes is left else "", grid="y", title=title)
        resolution_axis(axes, theme, float(d.frequency[last]))
    right.fill_between(d.frequency[part], d.null_low[part], d.null_high[part], color=ORANGE, alpha=0.22, linewidth=0)
    legend(left, theme)


def _assumed(result: BiasTomogramsResult) -> tuple[str, ...]:
    frame = result.frame
    tilts = result.parameters.tilt_range
    wedge = "no missing wedge was stated" if tilts is None else f"tilts of {tilts[0]:g} to {tilts[1]:g} degrees about y"
    return (
        f"Noise is Gaussian with each tomogram's own median three-dimensional spectrum; {wedge}. Searched at "
        f"{frame.voxel_size:.3g} Å a voxel in boxes of {frame.box}. The span that was removed has {len(frame.basis)} "
        f"dimensions; the band of the map is shells {frame.bands.inside.first} to {frame.bands.inside.last}, that "
        f"beyond shells {frame.bands.beyond.first} to {frame.bands.beyond.last}, down to "
        f"{frame.box * frame.voxel_size / max(frame.bands.beyond.last, 1):.3g} Å.",
        f"Random places of noise, with the orientations of the picks, were averaged {result.parameters.nulls} times. "
        "One average over all orientations counts as one view, where the verdict asks for five deviations above noise.",
    )
