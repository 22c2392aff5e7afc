"""The report of the bias diagnosis: the verdict, three figures with their uncertainty, and pictures."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_pickbias.bias.frc import FEWEST
from napari_pickbias.report.bias_classes import classes_section
from napari_pickbias.report.bias_figures import VERDICT_COLORS, fdr_panel, frc_panel, micrograph_panel, picture_panel
from napari_pickbias.report.bias_mitigation import mitigation_section
from napari_pickbias.report.bias_picker import picker_section
from napari_pickbias.report.document import Document, Fact, Outcome, Section, Table
from napari_pickbias.report.provenance import input_table, parameter_table, program_name, run_table

if TYPE_CHECKING:
    from napari_pickbias.bias.views import ViewRecall
    from napari_pickbias.jobs.bias import BiasResult
    from napari_pickbias.jobs.bias_classes import Classes
    from napari_pickbias.jobs.bias_parameters import BiasParameters
    from napari_pickbias.jobs.bias_picker import PickerNull
    from napari_pickbias.jobs.pick_candidates import PickCandidates

WORDS = {
    "data": "The picks come from the data",
    "mixed": "The picks are a mixture of particles and noise",
    "template": "What the picks show comes from the template",
    "undecided": "It cannot be told whether the picks come from the data",
}
"""Each verdict as a sentence."""


def write_bias_report(
    result: BiasResult,
    summary: Mapping[str, Any],
    directory: Path,
    report_name: str = "report",
    recall: ViewRecall | None = None,
    taken: PickerNull | None = None,
    classes: Classes | None = None,
    further: tuple[Section, ...] = (),
) -> dict[str, Path]:
    """Write ``report.html`` and ``<report_name>.pdf`` into ``directory``, each whole or not at all.

    Raises
    ------
    InputError
        When a file cannot be written.
    """
    from napari_pickbias.report.html import write_html
    from napari_pickbias.report.pdf import write_pdf

    document = bias_document(result, summary, recall, taken, classes, further)
    files = {"html": Path(directory) / "report.html", "pdf": Path(directory) / f"{report_name}.pdf"}
    write_html(document, files["html"])
    write_pdf(document, files["pdf"])
    return files


def bias_document(
    result: BiasResult,
    summary: Mapping[str, Any],
    recall: ViewRecall | None = None,
    taken: PickerNull | None = None,
    classes: Classes | None = None,
    further: tuple[Section, ...] = (),
) -> Document:
    """Return the report of the diagnosis, its figures not yet drawn."""
    verdict = result.verdict
    inputs = list(summary.get("inputs", []))
    names = result.candidates.names
    subtitle = f"{result.count} picks on {len(result.candidates.used)} micrographs, such as {PurePath(names[0]).name}"
    headline = f"{WORDS[verdict.name]}: {verdict.why}."
    return Document(
        title="Template bias of picks",
        subtitle=subtitle,
        headline=headline,
        program=program_name(summary),
        warnings=tuple(summary.get("results", {}).get("warnings", result.warnings)),
        facts=_facts(result),
        outcome=Outcome(
            f"{verdict.name}: {_lower(WORDS[verdict.name])}",
            _sentence(verdict.why),
            next_step(
                verdict.name,
                verdict.fdr_failed,
                result.threshold,
                result.data_threshold,
                thin=not np.isfinite(result.diagnosis.levels[0].beyond.value),
            ),
            VERDICT_COLORS[verdict.name],
        ),
        sections=(
            Section("Averages of noise and of your picks", panels=(picture_panel(result),)),
            Section("How many picks are noise", tables=(_levels(result),), panels=(fdr_panel(result),)),
            Section("What is not from the template", panels=(frc_panel(result),)),
            Section("A micrograph", panels=(micrograph_panel(result),)),
            Section("How to read this", paragraphs=_reading(result)),
            Section("Class averages", tables=(_classes(result),)),
            *([] if classes is None else [classes_section(classes, result.frame.pixel_size)]),
            mitigation_section(result),
            *([] if taken is None else [picker_section(taken)]),
            *([] if recall is None else [_views(recall)]),
            *further,
            Section("What was assumed", paragraphs=assumed(result.candidates, result.parameters, result.lowpass)),
        ),
        appendix=(parameter_table(result.parameters), input_table(inputs), run_table(summary)),
        raw=json.dumps(summary.get("results", {}), indent=2, ensure_ascii=False),
    )


def _facts(result: BiasResult) -> tuple[Fact, ...]:
    verdict, first = result.verdict, result.diagnosis.levels[0]
    rate = result.rate
    shown = "not given" if verdict.fdr_failed or not np.isfinite(rate.value) else f"{rate.value:.0%}"
    interval = "" if shown == "not given" else f", 95 % interval {rate.low:.0%} to {rate.high:.0%}"
    relative = verdict.relative_agreement
    facts = [
        Fact(
            "1. Is an object there?",
            shown,
            f"of the {result.count} picks are what pure noise gives{interval}; noise alone gives "
            f"{result.expected_null_picks:.0f} picks ({result.null_interval[0]:.0f} to {result.null_interval[1]:.0f}) "
            "on the same area",
        ),
        Fact(
            "2. Did the template bring it?",
            "not given" if not np.isfinite(first.beyond.value) else _number(first.beyond.value),
            f"agreement of half averages beyond the template's band, bias removed; noise gives "
            f"{_number(first.beyond.null_mean)} ± {_number(first.beyond.null_sd)}; nothing is 0, perfect 1"
            if np.isfinite(first.beyond.value)
            else f"no view has {2 * FEWEST} picks or more, which averages of two halves need",
        ),
        Fact(
            "3. Is it your object?",
            "not given" if not np.isfinite(relative) else f"{relative:.2f}",
            _sentence(verdict.agreement or "nothing beyond the template's band to compare")
            + f" As measured {_number(first.agreement.value)}; noise gives {_number(first.agreement.null_mean)} ± "
            f"{_number(first.agreement.null_sd)}.",
        ),
    ]
    if result.recommended is not None and not verdict.fdr_failed:
        facts.append(
            Fact(
                "Recommended threshold",
                f"{result.recommended:.2f}",
                f"keeps false picks at {result.parameters.fdr:.0%}; yours is {result.threshold:.2f}",
            )
        )
    return tuple(facts)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def _number(value: float) -> str:
    return "–" if not np.isfinite(value) else f"{value:.2f}".replace("-0.00", "0.00")


def next_step(
    name: str, fdr_failed: bool, threshold: float, data_threshold: float | None, *, thin: bool = False
) -> str:
    """Return what to do next, by the verdict's name; ``data_threshold`` is that from which it would be ``data``.

    ``thin``: no view has picks enough for averages of two halves.
    """
    if name == "data":
        return "What to do next: nothing about bias. Go on with these picks."
    if fdr_failed:
        return (
            "What to do next: use templates that are nearer to the particles, or more of their views; until then judge "
            "by the bias-removed pictures below, not by counts."
        )
    if name == "mixed":
        if data_threshold is not None and data_threshold > threshold:
            return (
                f"What to do next: raise the threshold to {data_threshold:.2f}; from there on the picks come "
                "from the data. Classes of the weaker picks will look like the template whether or not they are "
                "particles."
            )
        return "What to do next: keep the picks of high score only; the table below says what each threshold gives."
    if name == "template":
        return (
            "What to do next: do not go on with these picks. Raise the threshold, check pixel size and contrast, or "
            "pick without a template; a class average or a map made of them will show the template."
        )
    if thin:
        return (
            "What to do next: give more micrographs, or fewer templates (a larger --angular-step), so that some of "
            f"them have {2 * FEWEST} picks and more; or put the views of a map together (--volume). Until then only "
            "the share of false picks says something."
        )
    return (
        "What to do next: look at the bias-removed pictures; give more micrographs, templates of more views, or "
        "templates low-passed more strongly, so that there is something they cannot have brought."
    )


def _reading(result: BiasResult) -> tuple[str, ...]:
    return (
        "A picker that looks for a template finds it in pure noise too, and the average of such picks looks like the "
        "template. So three questions are asked that noise cannot pass. First: how many picks would noise of the same "
        "spectrum, picked in the same way, have given? Second: when everything that the templates can have put into "
        f"the averages is removed, do two halves of the picks still agree on details finer than {result.lowpass:.3g} "
        "Å, which the templates do not hold? Third: are these details those of the template before its low-pass?",
        "A low share of false picks says that objects are there, not that they are yours. A low third figure does not "
        "prove another object: round particles, or a missing CTF, give one too.",
    )


def _levels(result: BiasResult) -> Table:
    header = ("threshold", "picks", "share of false picks", "beyond the band", "noise gives", "verdict")
    rows = []
    for level, (threshold, rate, verdict) in zip(result.diagnosis.levels, result.levels, strict=True):
        known = np.isfinite(rate.value) and not verdict.fdr_failed
        rows.append(
            (
                "all" if threshold < 0 else f"{threshold:.2f}",
                str(level.picks),
                f"{rate.value:.0%} ({rate.low:.0%} to {rate.high:.0%})" if known else "–",
                _number(level.beyond.value),
                f"{_number(level.beyond.null_mean)} ± {_number(level.beyond.null_sd)}",
                verdict.name,
            )
        )
    return Table("The same picks from higher scores up", header, tuple(rows), frozenset(header[1:5]))


def _classes(result: BiasResult) -> Table:
    header = (
        "view",
        "picks",
        "looks like bias",
        "if all were noise",
        "halves agree, plain",
        "bias removed",
        "noise, 95 %",
    )
    rows = tuple(
        (
            str(one.view + 1),
            str(one.picks),
            _number(one.correlation),
            _number(one.predicted_null_correlation),
            _number(one.frc_plain),
            _number(one.frc_bias_removed),
            f"{_number(one.null_band[0])} to {_number(one.null_band[1])}",
        )
        for one in sorted(result.diagnosis.classes, key=lambda one: -one.picks)[:24]
    )
    title = "Views with most picks: correlation with what bias alone gives, and agreement of their halves"
    return Table(title, header, rows, frozenset(header[1:]))


def _views(recall: ViewRecall) -> Section:
    rows = tuple(
        (
            f"{recall.edges[i]:.0f}° to {recall.edges[i + 1]:.0f}°",
            str(recall.particles[i]),
            str(recall.found[i]),
            f"{recall.recall[i]:.0%} ({recall.low[i]:.0%} to {recall.high[i]:.0%})",
        )
        for i in range(len(recall.recall))
    )
    worst = f"{recall.edges[recall.worst]:.0f}° to {recall.edges[recall.worst + 1]:.0f}°"
    if recall.misses:
        text = (
            f"The picks miss views: of the refined particles at tilts of {worst} they have "
            f"{recall.recall[recall.worst]:.0%}, of all others {recall.elsewhere:.0%}; chance explains it with p = "
            f"{recall.worst_p:.1g}. A map made of them has fewer of these views."
        )
    else:
        text = (
            f"Recall does not depend detectably on the view (p = {recall.p:.2g}): picks that are missing are missing "
            "in all views alike."
        )
    header = ("tilt", "refined particles", "picked", "recall")
    return Section("Views", (text,), (Table("Recall by tilt", header, rows, frozenset(header[1:])),))


def assumed(candidates: PickCandidates, parameters: BiasParameters, lowpass: float) -> tuple[str, ...]:
    """Return what the diagnosis rests on: noise spectrum, excluded area, numbers of surrogates, the low-pass in Å."""
    bad = float(np.mean([match.bad_fraction for match in candidates.used]))
    excluded = [match.noise.excluded[-1] if match.noise.excluded else 0 for match in candidates.used]
    low = "" if sum(excluded) else (
        " No particles were found to leave out of it; where a few strong noise peaks are left out by mistake, the "
        "share of false picks at high thresholds comes out too low."
    )  # fmt: skip
    return (
        f"The noise's spectrum was measured on each micrograph with its particles left out ({np.mean(excluded):.0f} "
        f"places a micrograph on average), and the noise is Gaussian of that spectrum.{low} {bad:.1%} of the area was "
        f"taken for carbon, ice or dirt. {parameters.surrogates} noise images a micrograph were picked for the "
        f"counts, and {parameters.nulls} sets of random places give the spread of the second and third figure.",
        f"The templates were taken to be low-passed at {lowpass:.3g} Å when they picked. If the picker used "
        "them finer than that, details beyond that limit can be bias too: state it as --lowpass.",
    )
