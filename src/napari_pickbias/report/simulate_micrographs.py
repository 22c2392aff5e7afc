"""The report of simulated micrographs: what was made, and what it looks like with the truth drawn in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from napari_pickbias.report.document import Document, Fact, Section
from napari_pickbias.report.provenance import input_table, parameter_table, program_name, run_table

if TYPE_CHECKING:
    from matplotlib.figure import FigureBase

    from napari_pickbias.report.palette import Theme
    from napari_pickbias.report.panels import Panel

RING = "#56B4E9"


class Shown(NamedTuple):
    """A micrograph for the report."""

    name: str
    image: NDArray[np.float32]
    """Made coarser for the page."""
    pixel_size_angstrom: float
    """Of ``image``."""
    centres_px: NDArray[np.float64]
    """``(n, 2)`` x, y of the particles on ``image``."""


def write_micrograph_report(
    parameters: BaseModel, shown: Shown | None, summary: Mapping[str, Any], directory: Path
) -> dict[str, Path]:
    """Write ``report.html`` and ``report.pdf``, each whole or not at all.

    Raises
    ------
    InputError
        When a file cannot be written.
    """
    from napari_pickbias.report.html import write_html
    from napari_pickbias.report.pdf import write_pdf

    results = summary["results"]
    particles = results.get("particles", 0)
    count = results["micrographs"]
    what = f"{count:,} micrographs with {particles:,} particles were made" if particles else f"{count:,} noise images"
    facts = [Fact("Micrographs", f"{count:,}", "")]
    if particles:
        facts += [
            Fact("Particles", f"{particles:,}", "their places and poses are in truth.star"),
            Fact("Particle radius", f"{results['radius_angstrom']:.4g} Å", "half the longest extent"),
            Fact("Signal to noise", f"{summary['parameters']['snr']:g}", results["definitions"]["snr"]),
        ]
    document = Document(
        title="Simulated micrographs" if particles else "Noise micrographs",
        subtitle=f"map: {summary['parameters']['map']}" if "map" in summary["parameters"] else "noise alone",
        headline=f"{what}." if particles else f"{what} were made, with the spectra of the given micrographs.",
        program=program_name(summary),
        facts=tuple(facts),
        reading=(
            "micrographs.star holds what a pipeline would know; truth.star has one row for each particle with its "
            "centre (pixels, from the middle of the first pixel) and its pose."
            if particles
            else "Whatever is picked on these images is picked from noise.",
        ),
        sections=(Section("Example", panels=(_panel(shown),)),) if shown is not None else (),
        appendix=(parameter_table(parameters), input_table(list(summary["inputs"])), run_table(summary)),
        raw=json.dumps(results, indent=2, ensure_ascii=False),
    )
    files = {"html": directory / "report.html", "pdf": directory / "report.pdf"}
    write_html(document, files["html"])
    write_pdf(document, files["pdf"])
    return files


def _panel(shown: Shown) -> Panel:
    from napari_pickbias.report.panels import Panel

    text = f"{shown.name}, made coarser for this page." + (" Rings: the particles." if len(shown.centres_px) else "")
    height = 7.0 * shown.image.shape[0] / shown.image.shape[1] + 0.2
    return Panel("micrograph", "The first micrograph", text, min(height, 8.5), partial(_draw, shown))


def _draw(shown: Shown, figure: FigureBase, theme: Theme) -> None:
    from napari_pickbias.report.panels import robust_range, scale_bar, show_image

    axes = figure.subplots()
    show_image(axes, shown.image, robust_range(shown.image, 0.5, 99.5), theme)
    axes.plot(*shown.centres_px.T, "o", markersize=7, markerfacecolor="none", markeredgecolor=RING, linestyle="")
    scale_bar(axes, shown.image.shape[1], shown.pixel_size_angstrom)
