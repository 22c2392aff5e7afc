"""The report of the demonstration: the jobs' own figures, with the truth beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_pickbias.report.document import Document, Fact, Section, Table
from napari_pickbias.report.provenance import program_name, run_table

if TYPE_CHECKING:
    from napari_pickbias.jobs.bias import BiasResult
    from napari_pickbias.jobs.outliers import OutlierResult
    from napari_pickbias.jobs.softmodes import SoftmodesResult


@dataclass(frozen=True)
class Chapter:
    """One job's part of the demonstration.

    Attributes
    ----------
    key : str
        Name under ``results`` in ``summary.json``, and of the job's folder.
    results : dict
    headline : str
        One sentence.
    facts, reading, sections : tuple
        As in a :class:`~napari_pickbias.report.document.Document`.
    """

    key: str
    results: dict[str, Any]
    headline: str
    facts: tuple[Fact, ...]
    reading: tuple[str, ...]
    sections: tuple[Section, ...]


def bias_chapter(found: Mapping[str, Any], result: BiasResult | None) -> Chapter:
    """Return the part on template picking from pure noise."""
    from napari_pickbias.report.bias_figures import fdr_panel, frc_panel, picture_panel

    picks, plain = found["observed_picks"], found["plain_agreement"]["in_band"]
    evidence = found["evidence_beyond_band"]["value"]
    panels = () if result is None else (picture_panel(result), fdr_panel(result), frc_panel(result))
    return Chapter(
        "bias",
        {name: value for name, value in found.items() if name != "class_averages"},
        f"From micrographs of pure noise a template picked {picks:,} particles whose averages look like it "
        f"(correlation {plain:.2f}); the verdict on them: {found['verdict']}.",
        (
            Fact("Picks from noise", f"{picks:,}", "there is no particle on these micrographs"),
            Fact(
                "Likeness", f"{plain:.2f}", "correlation of the picks' averages with the template: structure from noise"
            ),
            Fact(
                "Beyond the template",
                f"{round(evidence, 2) + 0:.2f}",
                "what is left beyond the template's band: 0 is nothing",
            ),
            Fact("Verdict", found["verdict"], f"{found['why']}"),
        ),
        (
            "The first part picks from micrographs that hold nothing but noise, with the views of a molecule as "
            "templates. Averages of such picks show the molecule all the same. The diagnosis sees it: as many picks as "
            "noise gives, and nothing in their averages that the template could not have brought.",
        ),
        (Section("Structure from noise", panels=panels),),
    )


def outlier_chapter(found: dict[str, Any], result: OutlierResult | None) -> Chapter:
    """Return the part on outlier removal: verdicts against the truth."""
    from napari_pickbias.report.outliers import outlier_panels

    kinds = found["by_kind"]
    rows = tuple(
        (kind, f"{line['particles']:,}", f"{line['kept']:,}", f"{line['kept_fraction']:.1%}")
        for kind, line in kinds.items()
    )
    return Chapter(
        "outliers",
        found,
        f"Junk went from {found['junk_before']:.0%} of the stack to {found['junk_after']:.1%} of what was kept; "
        f"{kinds['inlier']['kept_fraction']:.1%} of the good particles were kept.",
        (
            Fact("Junk before", f"{found['junk_before']:.1%}", "noise, cut-off and double particles as simulated"),
            Fact("Junk after", f"{found['junk_after']:.1%}", "of the kept particles; known here because we made them"),
            Fact("Noise kept", f"{kinds['noise']['kept_fraction']:.1%}", "the stated false-keep rate is 1 %"),
        ),
        (
            "Outlier removal was not told the truth: it learned the noise and the particle's profile from the stack. "
            "Some of the doubles that were kept are boxes with one whole particle in the middle and only the rim of a "
            "second one.",
        ),
        (
            Section(
                "Outliers: verdicts against the truth",
                tables=(Table("", ("made as", "made", "kept", "share kept"), rows, frozenset({"made", "kept"})),),
            ),
            *(() if result is None else (Section("Outlier removal", panels=tuple(outlier_panels(result))),)),
        ),
    )


def softmodes_chapter(found: Mapping[str, Any], result: SoftmodesResult | None) -> Chapter:
    """Return the part on soft modes."""
    from napari_pickbias.report.softmodes_figures import slice_panel, spectrum_panel, view_panel

    softest, known = found["eigenvalues"][0], found["known_pose_eigenvalues"][0]
    amplitude = found["amplitude_fraction"][0]
    panels = () if result is None else (spectrum_panel(result), view_panel(result), slice_panel(result))
    return Chapter(
        "softmodes",
        dict(found),
        f"The kept particles leave a change of {amplitude:.1%} of the map undecided.",
        (
            Fact("Softest mode", f"{softest:.3g}", f"information left, per image; {known:.3g} were poses known"),
            Fact("Undecided", f"{amplitude:.2%}", "of the map: the softest change that the images would still accept"),
        ),
        (
            "Soft modes were asked of the molecule that the stack was made of and of the kept particles' true poses: "
            "which changes of the map could these images hardly tell from it, if every pose may follow the change? "
            "Changes coarser than 80 Å were left out: those the CTF hides.",
        ),
        (Section("Soft modes", panels=panels),),
    )


def write_demo_report(summary: Mapping[str, Any], chapters: Sequence[Chapter], directory: Path) -> dict[str, Path]:
    """Write ``report.html`` and ``report.pdf`` of the demonstration.

    Raises
    ------
    InputError
        When a file cannot be written.
    """
    from napari_pickbias.report.html import write_html
    from napari_pickbias.report.pdf import write_pdf

    document = Document(
        title="PickBias demonstration",
        subtitle="every job on data simulated on the spot, with the truth beside it",
        headline=" ".join(chapter.headline for chapter in chapters),
        program=program_name(summary),
        facts=tuple(fact for chapter in chapters for fact in chapter.facts),
        reading=(
            *(text for chapter in chapters for text in chapter.reading),
            "Each job has a folder with a report of its own: "
            + ", ".join(f"{chapter.key}/report.html" for chapter in chapters)
            + ".",
        ),
        sections=tuple(section for chapter in chapters for section in chapter.sections),
        appendix=(run_table(summary),),
    )
    files = {"html": directory / "report.html", "pdf": directory / "report.pdf"}
    write_html(document, files["html"])
    write_pdf(document, files["pdf"])
    return files
