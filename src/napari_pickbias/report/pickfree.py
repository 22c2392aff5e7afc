"""The report of reconstruction without picking: what came out, how far to trust it, and what noise alone would give."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_pickbias.report.document import Document, Fact, Section, Table
from napari_pickbias.report.provenance import input_table, parameter_table, program_name, run_table

if TYPE_CHECKING:
    from matplotlib.figure import FigureBase

    from napari_pickbias.jobs.pickfree import PickfreeResult
    from napari_pickbias.report.palette import Theme
    from napari_pickbias.report.panels import Panel

BLUE, ORANGE, GREY, PINK = "#0072B2", "#E69F00", "#8A8A8A", "#CC79A7"
NAMES = {"map": "micrographs", "null": "surrogates (null)", "half1": "half 1", "half2": "half 2"}
COLORS = {"map": BLUE, "null": GREY, "half1": "#56B4E9", "half2": "#009E73"}


def write_pickfree_report(
    result: PickfreeResult, summary: Mapping[str, Any], directory: Path, report_name: str = "report"
) -> dict[str, Path]:
    """Write ``report.html`` and ``<report_name>.pdf`` into ``directory``, each whole or not at all.

    Raises
    ------
    InputError
        When a file cannot be written.
    """
    from napari_pickbias.report.html import write_html
    from napari_pickbias.report.pdf import write_pdf

    document = pickfree_document(result, summary)
    files = {"html": Path(directory) / "report.html", "pdf": Path(directory) / f"{report_name}.pdf"}
    write_html(document, files["html"])
    write_pdf(document, files["pdf"])
    return files


def pickfree_document(result: PickfreeResult, summary: Mapping[str, Any]) -> Document:
    """Return the report, its figures not yet drawn."""
    inputs = list(summary.get("inputs", []))
    name = PurePath(str(inputs[0]["path"])).name if inputs else "an initial map from memory"
    return Document(
        title="Reconstruction without picking",
        subtitle=f"{result.micrographs} micrographs, {result.patches} patches; initial map {name}",
        headline=headline(result),
        program=program_name(summary),
        warnings=tuple(result.warnings),
        facts=_facts(result),
        reading=(
            "The likelihood decides, not the look of the map. Each patch of a micrograph may be empty or show the "
            "particle at any place and in any view; the log-likelihood says how much better that explains the patches "
            "than noise alone does. On noise the map keeps the shape of its start for many iterations while its "
            "amplitude decays: a map of low norm must never be scaled up and shown.",
            "The null is the same run, from the same start, on surrogates: micrographs of the same spectrum whose "
            "phases are random. What the micrographs give beyond the null comes from particles; what both give alike "
            "comes from the start.",
            "The FSC between halves is optimistic in the shells of the low-passed start, which both halves share. "
            "Without picking nothing fixes rotation, place and hand of the map but the start.",
        ),
        sections=(
            Section("Maps", panels=(_slice_panel(result),)),
            Section("Trust", tables=(_table(result),), panels=(_convergence_panel(result), _fsc_panel(result))),
        ),
        appendix=(parameter_table(result.parameters), input_table(inputs), run_table(summary)),
        raw=json.dumps(summary.get("results", {}), indent=2, ensure_ascii=False),
    )


def headline(result: PickfreeResult) -> str:
    """Return the outcome in one sentence."""
    gain = result.chains["map"].records[-1].log_likelihood
    ratio = result.norm_ratio()
    if not result.evidence:
        became = f"decayed to {ratio:.0%} of its start" if ratio < 1 else f"has {ratio:.0%} of its start's norm"
        picked = f" Template picking on such noise keeps {result.picking[-1]:.0%}." if result.picking else ""
        return (
            f"No evidence: the micrographs cannot be told from noise ({gain:+.4f} log-likelihood per patch), and the "
            f"map {became}; nothing of its shape comes from the data.{picked}"
        )
    pixels = result.resolution_px
    reach = "the half maps do not agree"
    if pixels is not None:
        reach = f"the half maps agree to {pixels * result.voxel_size_angstrom:.3g} Å"
    above = "the null" if "null" in result.chains else "white noise (no null was run)"
    return (
        f"The map explains the micrographs better than noise does: {gain:+.3f} log-likelihood per patch, "
        f"{result.standard_errors:.0f} standard errors above {above}; {reach}."
    )


def _facts(result: PickfreeResult) -> tuple[Fact, ...]:
    last = result.chains["map"].records[-1]
    facts = [
        Fact("Evidence", "yes" if result.evidence else "none", "needed: 3 standard errors over the null's likelihood"),
        Fact(
            "Log-likelihood",
            f"{last.log_likelihood:+.4g}",
            f"per patch, against all empty; ± {last.standard_error:.2g}",
        ),
        Fact("Norm", f"{result.norm_ratio():.2f}", "of the map over its start"),
        Fact("Empty", f"{last.empty:.0%}", "of the patches"),
    ]
    if "null" in result.chains:
        null = result.chains["null"].records[-1]
        facts.insert(2, Fact("Null", f"{null.log_likelihood:+.2g}", f"per patch; norm {result.norm_ratio('null'):.2f}"))
    if result.picking:
        facts.insert(-1, Fact("Template picking", f"{result.picking[-1]:.2f}", "of the start's norm kept, on the null"))
    pixels = result.resolution_px
    if pixels is not None:
        facts.append(Fact("Resolution", f"{pixels * result.voxel_size_angstrom:.3g} Å", "half maps, FSC 0.143"))
    return tuple(facts)


def _table(result: PickfreeResult) -> Table:
    header = ("chain", "iterations", "log-likelihood", "± ", "norm over start", "empty", "noise variance")
    rows = []
    for name in ("map", "null", "half1", "half2"):
        if name not in result.chains:
            continue
        last = result.chains[name].records[-1]
        rows.append(
            (
                NAMES[name], str(last.iteration), f"{last.log_likelihood:+.4f}", f"{last.standard_error:.4f}",
                f"{result.norm_ratio(name):.3f}", f"{last.empty:.3f}", f"{last.noise_variance:.3f}",
            )
        )  # fmt: skip
    if result.picking:
        rows.append(
            (
                "template picking on the surrogates",
                str(len(result.picking)),
                "",
                "",
                f"{result.picking[-1]:.3f}",
                "",
                "",
            )
        )
    for name, gains in (("map", result.starts), ("null", result.null_starts)):
        if len(gains) > 1:
            rows += [
                (f"{NAMES[name]}, start {number + 1}", "", f"{gain:+.4f}", "", "", "", "")
                for number, gain in enumerate(gains)
            ]
    return Table("Chains", header, tuple(rows), frozenset(header[1:]))


def _slice_panel(result: PickfreeResult) -> Panel:
    from napari_pickbias.report.panels import Panel

    text = (
        "Central sections across z, y and x, all on one grey scale, that of the low-passed start at least: a map that "
        "decayed looks flat, as it should."
    )
    rows = 3 + ("null" in result.chains)
    return Panel("sections", "Start, map, half map and null", text, 1.55 * rows, partial(_draw_slices, result))


def _draw_slices(result: PickfreeResult, figure: FigureBase, theme: Theme) -> None:
    maps = {"start": result.start, "map": result.chains["map"].volume, "half 1": result.chains["half1"].volume}
    if "null" in result.chains:
        maps["null"] = result.chains["null"].volume
    low, high = float(result.start.min()), float(result.start.max())
    if result.evidence:
        low, high = min(low, float(maps["map"].min())), max(high, float(maps["map"].max()))
    grid = figure.subplots(len(maps), 3, squeeze=False)
    middle = result.parameters.box // 2
    for row, (name, volume) in zip(grid, maps.items(), strict=True):
        for axes, section in zip(row, (volume[middle], volume[:, middle], volume[:, :, middle]), strict=True):
            axes.imshow(section, origin="lower", cmap="gray", vmin=low, vmax=high, interpolation="nearest")
            axes.set_xticks([])
            axes.set_yticks([])
        row[0].set_ylabel(name, color=theme.text, fontsize=7.5)


def _convergence_panel(result: PickfreeResult) -> Panel:
    from napari_pickbias.report.panels import Panel

    text = (
        "Left: log-likelihood per patch over that of empty patches; bars are three standard errors. It jumps where the "
        "batches change. Right: norm of the map over that of the start. Template picking on the same surrogates keeps "
        "its template, or builds it up."
    )
    return Panel("convergence", "Convergence", text, 2.7, partial(_draw_convergence, result))


def _draw_convergence(result: PickfreeResult, figure: FigureBase, theme: Theme) -> None:
    from napari_pickbias.report.panels import dress, legend, whole_numbers

    left, right = figure.subplots(1, 2)
    for name in ("half1", "half2", "null", "map"):
        if name not in result.chains:
            continue
        records = result.chains[name].records
        x = [r.iteration for r in records]
        style = {"color": COLORS[name], "linewidth": 1.4 if name in ("map", "null") else 0.8, "label": NAMES[name]}
        left.errorbar(
            x, [r.log_likelihood for r in records], [3 * r.standard_error for r in records], elinewidth=0.6, **style
        )
        right.plot([0, *x], [1, *(r.norm / result.start_norm for r in records)], **style)
    if result.picking:
        right.plot(
            range(len(result.picking) + 1), [1, *result.picking], color=PINK, linestyle="--", linewidth=1.2,
            label="template picking on surrogates",
        )  # fmt: skip
    left.axhline(0, color=theme.muted, linewidth=0.6)
    right.set_ylim(bottom=0)
    dress(left, theme, x="iteration", y="log-likelihood per patch", grid="y")
    dress(right, theme, x="iteration", y="norm over start", grid="y")
    for axes in (left, right):
        whole_numbers(axes, "x")
    legend(right, theme)


def _fsc_panel(result: PickfreeResult) -> Panel:
    from napari_pickbias.report.panels import Panel

    text = (
        "Fourier shell correlation between the maps of the two halves of the patches, and of the map with the initial "
        "map. That of the null's map with the initial map shows how much of such a likeness noise alone inherits from "
        "the start; on noise the halves agree too, for they decay from one start."
    )
    return Panel("fsc", "Fourier shell correlation", text, 2.7, partial(_draw_fsc, result))


def _draw_fsc(result: PickfreeResult, figure: FigureBase, theme: Theme) -> None:
    from napari_pickbias.report.panels import dress, legend, resolution_axis

    axes = figure.subplots()
    frequency = np.arange(len(result.fsc_halves)) / (result.parameters.box * result.voxel_size_angstrom)
    curves = [
        (result.fsc_halves, BLUE, "-", "between halves"),
        (result.fsc_initial, ORANGE, "--", "with the initial map"),
    ]
    if len(result.fsc_null):
        curves.append((result.fsc_null, GREY, ":", "null with the initial map"))
    for values, color, line, label in curves:
        axes.plot(
            frequency[1:],
            values[1:],
            color=color,
            linestyle=line,
            linewidth=1.3,
            marker="o",
            markersize=2.5,
            label=label,
        )
    for level in (0.143, 0.5):
        axes.axhline(level, color=theme.muted, linewidth=0.6, linestyle=(0, (4, 2)))
    axes.set_ylim(-0.35, 1.05)
    dress(axes, theme, x="spatial frequency (1/Å)", y="FSC", grid="y")
    resolution_axis(axes, theme, float(frequency[-1]) * 1.02)
    legend(axes, theme)
