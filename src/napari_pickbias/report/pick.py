"""The report of picking: how many, how sure, and what that does not mean."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_pickbias.report.document import Document, Fact, Section, Table
from napari_pickbias.report.panels import short_name
from napari_pickbias.report.pick_figures import (
    Shown,
    count_panel,
    fdr_panel,
    micrograph_panel,
    score_panel,
)
from napari_pickbias.report.provenance import input_table, parameter_table, program_name, run_table

if TYPE_CHECKING:
    from napari_pickbias.jobs.pick import PickResult

__all__ = ["Shown", "pick_document", "write_pick_report"]

LEVELS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
MOST_ROWS = 60


def write_pick_report(
    result: PickResult,
    shown: Sequence[Shown],
    summary: Mapping[str, Any],
    directory: Path,
    report_name: str = "report",
) -> dict[str, Path]:
    """Write ``report.html`` and ``<report_name>.pdf`` into ``directory``, each whole or not at all.

    Raises
    ------
    InputError
        When a file cannot be written.
    """
    from napari_pickbias.report.html import write_html
    from napari_pickbias.report.pdf import write_pdf

    document = pick_document(result, shown, summary)
    files = {"html": Path(directory) / "report.html", "pdf": Path(directory) / f"{report_name}.pdf"}
    write_html(document, files["html"])
    write_pdf(document, files["pdf"])
    return files


def pick_document(result: PickResult, shown: Sequence[Shown], summary: Mapping[str, Any]) -> Document:
    """Return the report of picking, its figures not yet drawn."""
    candidates, facts = result.candidates, result.candidates.facts
    pictures = tuple(micrograph_panel(result, each, number) for number, each in enumerate(shown, 1))
    sections = [
        Section("Thresholds", tables=(_level_table(result),), panels=(fdr_panel(result), score_panel(result))),
        Section("Micrographs", tables=(_micrograph_table(result),), panels=(count_panel(result), *pictures)),
    ]
    source = f"{facts['views']} " + ("views of a map" if facts["kind"] == "map" else "class averages")
    return Document(
        title="Picking",
        subtitle=f"{_micrographs(len(candidates.names))}, {facts['templates']:,} templates of {source}",
        headline=_headline(result),
        program=program_name(summary),
        warnings=result.warnings,
        facts=_facts(result),
        reading=(
            "A score is the best correlation of a template with the micrograph, in standard deviations of what that "
            "template gives on noise with the micrograph's own spectrum. The p-value is the chance that a peak of such "
            "noise stands as high; the q-value is the share of false picks among all that stand at least as high, if "
            "every peak were noise; the FDR counts false picks only on the area that no sure pick takes.",
            "A low FDR means that an object is there, not that it is your object. Templates of another molecule of "
            "similar size find particles with a low FDR too, and so do ice and carbon that escaped the mask. And "
            "averages of picks look like the templates whatever is there, noise included: judge what you have picked "
            "by detail beyond the templates' band.",
            "What the noise is was learned from these micrographs, on the area without sure picks. Particles so weak "
            "that they are never sure count as noise, so the FDR of low thresholds is overstated rather than "
            "understated; fringes between crowded strong particles are not in the model and work the other way.",
        ),
        sections=tuple(sections),
        appendix=(parameter_table(result.parameters), input_table(list(summary["inputs"])), run_table(summary)),
        raw=json.dumps(summary.get("results", {}), indent=2, ensure_ascii=False),
    )


def _headline(result: PickResult) -> str:
    used = len(result.candidates.used)
    if result.count == 0:
        return f"Nothing was picked on {_micrographs(used)}: no score reaches {result.threshold:.2f}."
    text = f"{result.count:,} picks on {_micrographs(used)}, from a score of {result.threshold:.2f} up"
    if result.fdr is None:
        return f"{text}; how many are false cannot be told."
    value, low, high = result.fdr
    return f"{text}; {value:.1%} of them are expected to be false ({low:.1%} to {high:.1%})."


def _micrographs(count: int) -> str:
    return f"{count:,} micrograph" + ("" if count == 1 else "s")


def _facts(result: PickResult) -> tuple[Fact, ...]:
    candidates, facts = result.candidates, result.candidates.facts
    used = len(candidates.used)
    per = result.count / max(used, 1)
    found = [Fact("Picks", f"{result.count:,}", f"{per:.1f} a micrograph")]
    found.append(Fact("Threshold", f"{result.threshold:.2f}", "standard deviations of the noise"))
    if result.fdr is not None:
        value, low, high = result.expected_false
        found.append(
            Fact("False picks", f"{result.fdr[0]:.1%}", f"95 % interval {result.fdr[1]:.1%} to {result.fdr[2]:.1%}")
        )
        found.append(Fact("False picks a micrograph", f"{value:.1f}", f"95 % interval {low:.1f} to {high:.1f}"))
    measured = facts["measured_contrast"]
    agree = "as measured" if measured == facts["contrast"] else f"measured: {measured}"
    found.append(Fact("Particles are", facts["contrast"], agree))
    found.append(
        Fact("Particle diameter", f"{candidates.diameter_angstrom:.4g} Å", "longest extent; circles in the pictures")
    )
    found.append(
        Fact("Searched at", f"{facts['working_pixel_size']:.3g} Å a pixel", f"CTF of the templates: {facts['ctf']}")
    )
    bound, deviation = candidates.score_error
    if bound:
        about = (
            f"of a rotation basis of {result.parameters.rotation_basis:g}; standard deviation on noise {deviation:.2g}"
        )
        found.append(Fact("Scores are within", f"{bound:.2g}", about))
    return tuple(found)


def _level_table(result: PickResult) -> Table:
    """Return thresholds for round rates of false picks."""
    curve = result.calibration.fdr
    header = ("false picks", "threshold", "picks", "false picks a micrograph")
    rows = []
    if curve is not None and result.fdr is not None:
        for level in LEVELS:
            threshold = result.calibration.threshold_at(level)
            if threshold is None:
                rows.append((f"{level:.0%}", "none keeps it", "", ""))
                continue
            index = int(np.searchsorted(curve.thresholds, threshold))
            false = result.calibration.expected_false[index, 0]
            rows.append((f"{level:.0%}", f"{threshold:.2f}", f"{int(curve.picks[index]):,}", f"{false:.1f}"))
    else:
        rows.append(("not given", result.calibration.failed or "no picks", "", ""))
    return Table("Lowest threshold that keeps the share of false picks", header, tuple(rows), frozenset(header[1:]))


def _micrograph_table(result: PickResult) -> Table:
    header = ("micrograph", "picks", "peaks of noise", "highest score", "sure from", "left out")
    rows = []
    for name, match in zip(result.candidates.names, result.candidates.matches, strict=True):
        if match is None:
            rows.append((short_name(name), "left out", "", "", "", result.candidates.faults[name]))
            continue
        noise = np.mean([(table["score"] >= result.threshold).sum() for table in match.null_peaks])
        sure = f"{match.trusted_from:.2f}" if np.isfinite(match.trusted_from) else "never"
        top = f"{match.peaks['score'].max():.2f}" if len(match.peaks) else ""
        rows.append(
            (
                short_name(name),
                f"{len(result.picks[name]['score'])}",
                f"{noise:.1f}",
                top,
                sure,
                f"{match.bad_fraction:.1%} of area",
            )
        )
    if len(rows) > MOST_ROWS:
        rows = [*rows[:MOST_ROWS], (f"and {len(rows) - MOST_ROWS:,} more, in summary.json", "", "", "", "", "")]
    return Table("Micrographs", header, tuple(rows), frozenset(header[1:5]))
