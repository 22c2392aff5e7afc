"""The report of a simulated stack: what was made, and what it looks like."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from napari_pickbias.report.document import Document, Fact, Section
from napari_pickbias.report.provenance import input_table, parameter_table, program_name, run_table

if TYPE_CHECKING:
    from matplotlib.figure import FigureBase

    from napari_pickbias.report.palette import Theme
    from napari_pickbias.report.panels import Panel

Examples = Mapping[str, Sequence[NDArray[np.float32]]]


def write_simulation_report(
    parameters: BaseModel, examples: Examples, summary: Mapping[str, Any], directory: Path
) -> dict[str, Path]:
    """Write ``report.html`` and ``report.pdf``; ``examples`` holds some images of each kind.

    Raises
    ------
    InputError
        When a file cannot be written.
    """
    from napari_pickbias.report.html import write_html
    from napari_pickbias.report.pdf import write_pdf

    results = summary["results"]
    pixel_size = float(summary["parameters"]["pixel_size"])
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in results["by_kind"].items() if count)
    document = Document(
        title="Simulated particles",
        subtitle=f"map: {summary['parameters']['map']}",
        headline=f"{results['particles']:,} particle images were made: {kinds}.",
        program=program_name(summary),
        facts=(
            Fact("Signal to noise", f"{results['signal_variance']:g}", results["definitions"]["snr"]),
            Fact("Particle radius", f"{results['radius_angstrom']:.4g} Å", "half the longest extent"),
            Fact("multiple", f"{results['by_kind']['multiple']:,}", results["definitions"]["multiple"]),
            Fact("partial", f"{results['by_kind']['partial']:,}", results["definitions"]["partial"]),
        ),
        reading=(
            "particles.star holds what a picking pipeline would know; truth.star has the same rows with the kind, the "
            "amplitude and the second particle of each image. Noise has variance 1 in every pixel.",
        ),
        sections=(Section("Examples", panels=(_panel(examples, pixel_size),)),),
        appendix=(parameter_table(parameters), input_table(list(summary["inputs"])), run_table(summary)),
        raw=json.dumps(results, indent=2, ensure_ascii=False),
    )
    files = {"html": directory / "report.html", "pdf": directory / "report.pdf"}
    write_html(document, files["html"])
    write_pdf(document, files["pdf"])
    return files


def _panel(examples: Examples, pixel_size: float) -> Panel:
    from napari_pickbias.report.panels import Panel

    text = "The first images of each kind as they were written, without any filter, each on its own grey scale."
    return Panel("examples", "Images", text, 0.2 + 1.15 * len(examples), partial(_draw, examples, pixel_size))


def _draw(examples: Examples, pixel_size: float, figure: FigureBase, theme: Theme) -> None:
    from napari_pickbias.report.panels import LABEL_SIZE, robust_range, scale_bar, show_image

    columns = max(len(images) for images in examples.values())
    grid = figure.subplots(len(examples), columns, squeeze=False)
    for axes in grid.ravel():
        axes.set_axis_off()
    for row, (kind, images) in zip(grid, examples.items(), strict=True):
        for axes, image in zip(row, images, strict=False):
            axes.set_axis_on()
            show_image(axes, image, robust_range(image, 0.5, 99.5), theme)
        scale_bar(row[0], images[0].shape[0], pixel_size)
        row[0].set_ylabel(kind, fontsize=LABEL_SIZE, color=theme.text)
