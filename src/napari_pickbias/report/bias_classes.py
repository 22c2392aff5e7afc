"""The chapter of the report on class averages that know no template."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_pickbias.report.document import Section, Table
from napari_pickbias.report.palette import Theme
from napari_pickbias.report.panels import SMALL_SIZE, Panel, robust_range, scale_bar, show_image

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import FigureBase

    from napari_pickbias.jobs.bias_classes import Classes

NAMES = {"picks": "your picks", "noise": "picks of noise", "random": "random places of noise"}
SHOWN = 8


def classes_section(classes: Classes, pixel_size: float) -> Section:
    """Return the chapter: correlations with what bias gives, of the picks and of noise, and pictures."""
    paragraphs, tables, panels = [], [], []
    if classes.sets:
        paragraphs.append(
            "A classification that starts at random and knows no template was run on your picks, on picks of noise and "
            "on random places of noise. Where classes of your picks match the predicted bias no better than those of "
            "noise do, the match proves nothing; where they match it less than expected of noise, something else is in "
            f"them. In noise such a classification finds the templates from about {classes.needed:.0f} picks on."
        )
        header = ("patches", "number", "classes", "correlation with predicted bias", "expected of picks of noise")
        rows = tuple(
            (
                NAMES[name],
                str(int(one.picks.sum())),
                str(int((one.picks > 0).sum())),
                f"{one.mean_correlation:.2f}",
                "–" if name == "random" else f"{one.mean_expected:.2f}",
            )
            for name, one in classes.sets.items()
        )
        title = "Classes without labels" + (", turned in their plane" if classes.aligned else "")
        tables.append(Table(title, header, rows, frozenset(header[1:])))
        panels.append(_panel(classes, pixel_size))
    if classes.given is not None:
        given = classes.given
        columns = ("average", "most like template", "correlation with predicted bias")
        listed = tuple(
            (str(number + 1), str(int(label) + 1), f"{value:.2f}")
            for number, (label, value) in enumerate(zip(given.template[:40], given.correlation[:40], strict=True))
        )
        paragraphs.append(
            f"The averages given as --averages correlate with what bias alone gives by {given.correlation.mean():.2f} "
            f"on average, {given.correlation.max():.2f} at most, over all turns and shifts; averages of random noise "
            f"reach {given.noise.max():.2f}. A high figure does not tell bias from particles like the template: "
            "compare it with that of the noise twin, classified by the same program."
        )
        tables.append(Table("Your own class averages", columns, listed, frozenset(columns[1:])))
    return Section("Class averages that know no template", tuple(paragraphs), tuple(tables), tuple(panels))


def _panel(classes: Classes, pixel_size: float) -> Panel:
    text = (
        "Each pair of rows: class averages, largest first, and below them what picking alone puts into the average of "
        "the template they are matched to. Numbers are patches and correlation."
    )
    return Panel(
        "classes", "Classes of picks and of noise", text, 0.3 + 1.75 * len(classes.sets),
        partial(_draw, classes, pixel_size),
    )  # fmt: skip


def _draw(classes: Classes, pixel_size: float, figure: FigureBase, theme: Theme) -> None:
    most = min(SHOWN, max(len(one.picks) for one in classes.sets.values()))
    grid = figure.subplots(2 * len(classes.sets), SHOWN, squeeze=False)
    for axes in grid.ravel():
        axes.set_axis_off()
    for row, (name, one) in enumerate(classes.sets.items()):
        order = np.argsort(-one.picks)[:most]
        for column, number in enumerate(order):
            upper, lower = grid[2 * row][column], grid[2 * row + 1][column]
            _show(upper, one.averages[number], theme)
            upper.set_title(
                f"{one.picks[number]}, {one.correlation[number]:.2f}", fontsize=SMALL_SIZE, color=theme.text
            )
            if one.template[number] >= 0:
                _show(lower, classes.predicted[one.template[number]], theme)
        for axes, label in ((grid[2 * row][0], NAMES[name]), (grid[2 * row + 1][0], "predicted")):
            axes.set_axis_on()
            axes.set_ylabel(label.replace(" of noise", "\nof noise"), fontsize=SMALL_SIZE, color=theme.text)
    scale_bar(grid[0][0], classes.predicted.shape[-1], pixel_size)


def _show(axes: Axes, image: NDArray[np.floating], theme: Theme) -> None:
    axes.set_axis_on()
    show_image(axes, np.asarray(image, np.float64), robust_range(image[image != 0], 0.5, 99.5), theme)
