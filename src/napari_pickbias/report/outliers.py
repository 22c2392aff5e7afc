"""The report of outlier removal: a page to open in a browser, and the same as PDF."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from napari_pickbias.report.document import Document, Section
from napari_pickbias.report.provenance import input_table, parameter_table, program_name, run_table

if TYPE_CHECKING:
    from napari_pickbias.jobs.outliers import GroupResult, OutlierResult
    from napari_pickbias.report.panels import Panel

MOST_GROUPS = 12
"""Groups with figures of their own; the table has all of them."""


def write_outlier_report(
    result: OutlierResult, summary: dict[str, Any], directory: Path, report_name: str = "report"
) -> dict[str, Path]:
    """Write ``report.html`` and ``<report_name>.pdf`` into ``directory``, each whole or not at all.

    Parameters
    ----------
    result : OutlierResult
        Of the job.
    summary : dict
        What ``summary.json`` will hold (see ``runs.summary``): names and sizes of inputs, times, version.
    directory : Path
        Exists already.
    report_name : str
        Stem of the PDF.

    Returns
    -------
    dict
        ``{"html": path, "pdf": path}``

    Raises
    ------
    InputError
        When a file cannot be written.
    """
    # matplotlib and Jinja2 load here, not when a door shows its help.
    from napari_pickbias.report.html import write_html
    from napari_pickbias.report.pdf import write_pdf

    document = outlier_document(result, summary)
    files = {"html": Path(directory) / "report.html", "pdf": Path(directory) / f"{report_name}.pdf"}
    write_html(document, files["html"])
    write_pdf(document, files["pdf"])
    return files


def outlier_document(result: OutlierResult, summary: Mapping[str, Any]) -> Document:
    """Return the report of outlier removal, its figures not yet drawn."""
    from napari_pickbias.jobs.outliers import TRUSTED_E0
    from napari_pickbias.report import outlier_text as words

    inputs = list(summary.get("inputs", []))
    exact = {key: summary[key] for key in ("results", "seconds", "peak_memory_mb") if key in summary}
    return Document(
        title="Outlier removal",
        subtitle=_subject([str(item.get("path", "")) for item in inputs]),
        headline=words.headline(result.counts),
        program=program_name(summary),
        warnings=tuple(result.warnings),
        facts=words.key_figures(result, TRUSTED_E0),
        reading=words.reading(result),
        sections=_sections(result),
        appendix=(parameter_table(result.parameters), input_table(inputs), run_table(summary)),
        raw=json.dumps(exact, indent=2, ensure_ascii=False, default=str),
    )


def outlier_panels(result: OutlierResult) -> list[Panel]:
    """Return all panels of a result in the order of the report: for a dock or an event log."""
    return [panel for section in _sections(result) for panel in section.panels]


def _subject(paths: list[str]) -> str:
    if not paths:
        return "particles from memory"
    more = f" and {len(paths) - 1:,} more input files" if len(paths) > 1 else ""
    return f"{PurePath(paths[0]).name}{more}"


def _sections(result: OutlierResult) -> tuple[Section, ...]:
    from napari_pickbias.outliers.verdicts import REASONS
    from napari_pickbias.report import outlier_text as words
    from napari_pickbias.report.outlier_figures import micrograph_panel, reason_codes, verdict_panel
    from napari_pickbias.report.panels import counts_of

    codes = reason_codes(result)
    counts = [counts_of(codes[group.group.rows], REASONS) for group in result.groups]
    several = len(result.groups) > 1
    tables = (words.group_table(result.groups, counts),) if several else ()
    sections = [Section("Overview", tables=tables, panels=(verdict_panel(result),))]
    order = sorted(range(len(result.groups)), key=lambda i: -len(result.groups[i].group.rows))
    drawn = sorted(order[:MOST_GROUPS])
    for index in drawn:
        group = result.groups[index]
        paragraphs = (words.group_paragraph(group, counts[index]), *_missing(group))
        title = f"Group {index + 1}: {group.group.name}" if several else "Scores and images"
        sections.append(Section(title, paragraphs, panels=_group_panels(result, group, index if several else None)))
    if len(drawn) < len(result.groups):
        note = f"Figures are shown for the {MOST_GROUPS} largest of {len(result.groups)} groups; the table has all."
        sections[0] = Section("Overview", (note,), sections[0].tables, sections[0].panels)
    micrographs = micrograph_panel(result)
    if micrographs is not None:
        sections.append(Section("Where they come from", panels=(micrographs,)))
    return tuple(sections)


def _missing(group: GroupResult) -> tuple[str, ...]:
    if group.sums:
        return ()
    return ("No averages or power spectra: none of these images has finite pixels throughout.",)


def _group_panels(result: OutlierResult, group: GroupResult, index: int | None) -> tuple[Panel, ...]:
    from dataclasses import replace

    from napari_pickbias.report.outlier_figures import score_panel
    from napari_pickbias.report.outlier_images import average_panel, example_panel, spectrum_panel

    panels = (
        average_panel(result, group),
        score_panel(result, group),
        example_panel(result, group),
        spectrum_panel(result, group),
    )
    # Keys stay unique where several groups have the same panels.
    return tuple(replace(p, key=p.key if index is None else f"{p.key}_{index + 1}") for p in panels if p is not None)
