"""The chapter of the report on what would weaken the bias: templates low-passed more strongly, and counted picks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_pickbias.bias.mitigation import lowpass_bias
from napari_pickbias.report.document import Section, Table

if TYPE_CHECKING:
    from napari_pickbias.jobs.bias import BiasResult

FACTORS = (0.5, 1.0, 1.5, 2.0)


def mitigation_section(result: BiasResult) -> Section:
    """Return the chapter: what bias alone would look like at other low-passes of the templates."""
    frame = result.frame
    power = result.candidates.used[0].noise.power
    rows = []
    for factor in FACTORS:
        lowpass = factor * result.lowpass
        if lowpass <= 2 * frame.pixel_size:
            continue
        found = lowpass_bias(frame.sharp, power, frame.pixel_size, lowpass)
        mark = " (yours)" if factor == 1.0 else ""
        rows.append((f"{lowpass:.3g} Å{mark}", f"{found.correlation:.2f}"))
    text = (
        "The average of picks of pure noise tends to what is predicted here; the more strongly the templates "
        "are low-passed, the less that looks like your molecule, and the wider the band beyond it in which only data "
        "can agree. What else helps: a threshold by false discovery rate (--fdr), or by templates of inverted contrast "
        "(--select knockoff), takes next to nothing from noise."
    )
    header = ("low-pass of the templates", "bias alone looks like the unfiltered template")
    return Section(
        "What would weaken the bias", (text,), (Table("Predicted bias", header, tuple(rows), frozenset(header[1:])),)
    )
