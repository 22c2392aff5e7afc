"""The report of soft modes: how far the map can be trusted, where, and why not."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from napari_pickbias.report.document import Document, Fact, Section, Table
from napari_pickbias.report.provenance import input_table, parameter_table, program_name, run_table
from napari_pickbias.report.softmodes_figures import (
    path_panel,
    slice_panel,
    spectrum_panel,
    view_panel,
    what_if_panel,
)
from napari_pickbias.report.softmodes_surfaces import surface_panel
from napari_pickbias.softmodes.coverage import SIDE_VIEWS

if TYPE_CHECKING:
    from napari_pickbias.jobs.softmodes import SoftmodesResult
    from napari_pickbias.report.panels import Panel

HEADINGS = {
    "determined": "Determined",
    "missing_views": "Views are missing",
    "polar": "Polar views only",
    "coupled_poses": "Poses hide deformations",
    "equatorial": "Equatorial views only",
    "faint": "Little information",
    "spurious_difference": "The heterogeneity may be spurious",
}


def write_softmodes_report(
    result: SoftmodesResult, summary: Mapping[str, Any], directory: Path, report_name: str = "report"
) -> dict[str, Path]:
    """Write ``report.html`` and ``<report_name>.pdf`` into ``directory``, each whole or not at all.

    Raises
    ------
    InputError
        When a file cannot be written.
    """
    from napari_pickbias.report.html import write_html
    from napari_pickbias.report.pdf import write_pdf

    document = softmodes_document(result, summary)
    files = {"html": Path(directory) / "report.html", "pdf": Path(directory) / f"{report_name}.pdf"}
    write_html(document, files["html"])
    write_pdf(document, files["pdf"])
    return files


def softmodes_document(result: SoftmodesResult, summary: Mapping[str, Any]) -> Document:
    """Return the report of soft modes, its figures not yet drawn."""
    found = result.found
    inputs = list(summary.get("inputs", []))
    cover = result.coverage
    extra = tuple(panel for panel in (what_if_panel(result), path_panel(result)) if panel is not None)
    return Document(
        title="Soft modes",
        subtitle=PurePath(str(inputs[0]["path"])).name if inputs else "a map from memory",
        headline=f"{HEADINGS[result.verdict.code]}: {result.verdict.text}.",
        program=program_name(summary),
        warnings=tuple(result.warnings),
        facts=(
            Fact("Softest eigenvalue", f"{found.eigenvalues[0]:.3g}", "1: uniform views, known poses, CTF 1"),
            Fact("with known poses", f"{found.known_pose_eigenvalues[0]:.3g}", "small: views are missing along it"),
            Fact("Amplitude", f"{found.amplitude_fraction[0]:.2%}", "of the map, at odds of 20 to 1"),
            Fact("Pose change", f"{found.pose_change_deg[0]:.2g}°", "root mean square, at that amplitude"),
            Fact(
                "Valid",
                "yes" if found.valid.all() else "not for all modes",
                "poses fitted anew at the full amplitude lose what the eigenvalue predicts, within 20 %",
            ),
            Fact(
                "SCF*",
                f"{cover.scf:.2f}",
                f"sampling by views alone, poses taken as exact: 1 is uniform, below {SIDE_VIEWS} is uneven; "
                f"{cover.unseen:.0%} of directions unseen",
            ),
        ),
        reading=(
            "A soft mode is a change of the map that its images can hardly tell from the map itself, once every "
            "particle may settle into the pose that suits the changed map best. The maps mode_NN_plus and "
            "mode_NN_minus are the two ends of what a likelihood ratio of 20 to 1 still accepts: features that differ "
            "between them are not determined by the data.",
            "Two things make a mode soft: missing views (its value is small with known poses too) and coupled poses "
            "(its value is small only when poses are free). More views mend the first; a tighter mask, or other views, "
            "mend the second. The images themselves were not read: what does not fit the model is not seen here.",
        ),
        sections=(
            Section("Spectrum", tables=(_table(result),), panels=(spectrum_panel(result), view_panel(result))),
            Section("Where", panels=(surface_panel(result), slice_panel(result))),
            *_what_if_section(result, extra),
        ),
        appendix=(parameter_table(result.parameters), input_table(inputs), run_table(summary)),
        raw=json.dumps(summary.get("results", {}), indent=2, ensure_ascii=False),
    )


def _what_if_section(result: SoftmodesResult, panels: tuple[Panel, ...]) -> tuple[Section, ...]:
    rows = [*result.scenarios, *result.advice]
    tables = []
    if len(rows) > 1:
        header = ("what", "particles", "softest", "known poses", "amplitude", "information ×", "box")
        tables.append(
            Table(
                "What if",
                header,
                tuple(
                    (
                        row.name,
                        f"{row.particles:.0f}",
                        f"{row.eigenvalues[0]:.4g}",
                        f"{row.known_pose_eigenvalues[0]:.4g}",
                        f"{row.amplitude_fraction[0]:.2%}",
                        f"{row.gain:.3g}",
                        "small" if row.small_box else f"{result.box_px}",
                    )
                    for row in rows
                ),
                frozenset(header[1:]),
            )
        )
    paragraphs = []
    if result.difference is not None:
        other = result.difference
        paragraphs.append(
            f"The other map differs by {other.size:.1%} of the map. Along that difference an image of this data set "
            f"tells {other.eigenvalue:.3g} with poses free and {other.known_pose_eigenvalue:.3g} with poses known; "
            f"{other.share_in_modes:.0%} of it lies within the modes found. All images together would lose "
            f"{other.loss:.3g} units of log-likelihood by it ({other.known_pose_loss:.3g} with poses held), to second "
            "order."
        )
        if other.joint_share is not None:
            paragraphs.append(
                f"One map in between, poses free, explains both sets of particles at a loss of {other.joint_loss:.3g} "
                f"units of log-likelihood, {other.joint_share:.1%} of what ideal sets (uniform views, known poses) "
                "would lose by it. Below 10 % the two maps are not told apart by views: a difference made by splitting."
            )
    if not (tables or paragraphs or panels):
        return ()
    return (Section("What if", tuple(paragraphs), tuple(tables), panels),)


def _table(result: SoftmodesResult) -> Table:
    found = result.found
    header = ["mode", "eigenvalue", "known poses", "kept", "residual", "amplitude", "pose change", "likelihood ratio"]
    header += ["binning"] if result.binning_error is not None else []
    rows = []
    for i in range(len(found.eigenvalues)):
        row = [
            str(i + 1),
            f"{found.eigenvalues[i]:.4g}",
            f"{found.known_pose_eigenvalues[i]:.4g}",
            f"{found.eigenvalues[i] / max(found.known_pose_eigenvalues[i], 1e-300):.0%}",
            f"{found.residuals[i]:.1e}",
            f"{found.amplitude_fraction[i]:.2%}",
            f"{found.pose_change_deg[i]:.2g}°",
            f"{found.misfit_ratio[i, 0]:.2f} / {found.misfit_ratio[i, 1]:.2f}",
        ]
        row += [f"{result.binning_error[i]:.1%}"] if result.binning_error is not None else []
        rows.append((*row, "yes" if found.valid[i] else "no"))
    return Table("Modes", (*header, "valid"), tuple(rows), frozenset(header[1:]))
