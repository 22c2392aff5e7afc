"""The report of the demonstration: the jobs' own figures, with the truth beside them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_pickbias.report.document import Document, Fact, Section, Table
from napari_pickbias.report.provenance import program_name, run_table

if TYPE_CHECKING:
    from napari_pickbias.jobs.outliers import OutlierResult


def write_demo_report(summary: Mapping[str, Any], result: OutlierResult | None, directory: Path) -> dict[str, Path]:
    """Write ``report.html`` and ``report.pdf`` of the demonstration.

    Raises
    ------
    InputError
        When a file cannot be written.
    """
    from napari_pickbias.report.html import write_html
    from napari_pickbias.report.outliers import outlier_panels
    from napari_pickbias.report.pdf import write_pdf

    found = summary["results"]["outliers"]
    kinds = found["by_kind"]
    rows = tuple(
        (kind, f"{line['particles']:,}", f"{line['kept']:,}", f"{line['kept_fraction']:.1%}")
        for kind, line in kinds.items()
    )
    document = Document(
        title="PickBias demonstration",
        subtitle="particles simulated on the spot, a third of them junk",
        headline=(
            f"Junk went from {found['junk_before']:.0%} of the stack to {found['junk_after']:.1%} of what was kept; "
            f"{kinds['inlier']['kept_fraction']:.1%} of the good particles were kept."
        ),
        program=program_name(summary),
        facts=(
            Fact("Junk before", f"{found['junk_before']:.1%}", "noise, cut-off and double particles as simulated"),
            Fact("Junk after", f"{found['junk_after']:.1%}", "of the kept particles; known here because we made them"),
            Fact("Noise kept", f"{kinds['noise']['kept_fraction']:.1%}", "the stated false-keep rate is 1 %"),
        ),
        reading=(
            "This is what the outlier job does with a stack of picked particles. It was not told the truth: it learned "
            "the noise and the particle's profile from the stack. The figures below are those of its own report, which "
            "stands in outliers/report.html, with the files of kept and rejected particles beside it.",
        ),
        sections=(
            Section(
                "Verdicts against the truth",
                tables=(Table("", ("made as", "made", "kept", "kept"), rows, frozenset({"made", "kept"})),),
            ),
            *(() if result is None else (Section("Outlier removal", panels=tuple(outlier_panels(result))),)),
        ),
        appendix=(run_table(summary),),
    )
    files = {"html": directory / "report.html", "pdf": directory / "report.pdf"}
    write_html(document, files["html"])
    write_pdf(document, files["pdf"])
    return files
