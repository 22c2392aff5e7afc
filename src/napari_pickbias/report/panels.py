"""Panels: figures with their title and explanation, and what their axes have in common.

Figures are built with matplotlib's objects alone: no pyplot, no settings changed, so threads can draw side by side.
"""

from __future__ import annotations

import contextlib
import io
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, FigureBase
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator
from numpy.typing import ArrayLike, NDArray

from napari_pickbias.report.palette import LIGHT, REASON_COLORS, REASON_LINES, Theme

PANEL_WIDTH = 7.4
"""Inches: the width between the margins of an A4 page, for which all sizes are chosen."""
TITLE_SIZE, LABEL_SIZE, SMALL_SIZE = 8.5, 7.5, 6.5
RESOLUTIONS = (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10, 12, 15, 20, 30, 50, 100, 200, 500, 1000)
"""Å: where resolution axes may have a tick."""
_USETEX_LOCK = threading.Lock()


@dataclass(frozen=True)
class Panel:
    """One figure of a report.

    Attributes
    ----------
    key : str
        Short name, unique within a document: "scores", "averages" ...
    title, text : str
        Heading, and one to four sentences that tell a structural biologist what is to be seen.
    height : float
        Inches, at a width of :data:`PANEL_WIDTH`.
    draw : callable
        Draws into an empty figure or subfigure with the colours of a theme.
    """

    key: str
    title: str
    text: str
    height: float
    draw: Callable[[FigureBase, Theme], None]

    def figure(self, theme: Theme = LIGHT) -> Figure:
        """Return the panel as a figure of its own."""
        figure = Figure(figsize=(PANEL_WIDTH, self.height), layout="constrained", facecolor=theme.background)
        self.draw(figure, theme)
        return figure

    def png(self, dpi: float = 180, theme: Theme = LIGHT) -> bytes:
        """Return the panel as a PNG file."""
        stream = io.BytesIO()
        with without_tex():
            figure = self.figure(theme)
            figure.savefig(stream, format="png", dpi=dpi, facecolor=theme.background)
        figure.clear()
        return stream.getvalue()


@contextlib.contextmanager
def without_tex() -> Iterator[None]:
    """Let figures be rendered without LaTeX even where the user's own settings ask for it."""
    if not mpl.rcParams["text.usetex"]:
        yield
        return
    with _USETEX_LOCK, mpl.rc_context({"text.usetex": False}):
        yield


def dress(axes: Axes, theme: Theme, *, x: str = "", y: str = "", title: str = "", grid: str = "") -> None:
    """Give axes their labels and the theme's colours; ``grid`` is "x", "y", "both" or empty.

    Texts may come from the user's files, so dollar signs do not start a formula.
    """
    axes.set_facecolor(theme.background)
    axes.set_xlabel(x, fontsize=LABEL_SIZE, color=theme.text, parse_math=False)
    axes.set_ylabel(y, fontsize=LABEL_SIZE, color=theme.text, parse_math=False)
    if title:
        axes.set_title(title, fontsize=TITLE_SIZE, color=theme.text, loc="left", parse_math=False)
    axes.tick_params(which="both", labelsize=SMALL_SIZE, color=theme.muted, labelcolor=theme.text, width=0.6)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(theme.muted)
        spine.set_linewidth(0.6)
    if grid:
        axes.grid(visible=True, axis=grid, color=theme.grid, linewidth=0.5)  # type: ignore[arg-type]
        axes.set_axisbelow(True)


def legend(axes: Axes, theme: Theme, **options: Any) -> None:
    """Add a legend in the theme's colours, where there is anything to list."""
    if axes.get_legend_handles_labels()[0]:
        axes.legend(
            **{"fontsize": SMALL_SIZE, "frameon": False, "labelcolor": theme.text, "handlelength": 1.8} | options
        )


def say(axes: Axes, theme: Theme, text: str) -> None:
    """Write in the middle of empty axes why they are empty."""
    axes.text(
        0.5,
        0.5,
        text,
        transform=axes.transAxes,
        ha="center",
        va="center",
        fontsize=LABEL_SIZE,
        color=theme.muted,
        wrap=True,
        parse_math=False,
    )


def whole_numbers(axes: Axes, axis: str) -> None:
    """Put ticks of a linear axis at whole numbers, with separators of thousands."""
    target = axes.xaxis if axis == "x" else axes.yaxis
    target.set_major_locator(MaxNLocator(nbins="auto", integer=True))
    target.set_major_formatter(lambda value, _position: f"{value:,.0f}")


def plain_log(axes: Axes) -> None:
    """Make the y axis logarithmic, with plain numbers at its ticks: call it when the data are drawn."""
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    narrow = high / low < 300
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if narrow else (1.0,)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(lambda value, _position: f"{value:g}")


def robust_range(values: ArrayLike, low: float = 0.1, high: float = 99.9) -> tuple[float, float] | None:
    """Return the range between two percentiles of the finite values, never empty; None where nothing is finite."""
    finite = np.asarray(values, np.float64)
    finite = finite[np.isfinite(finite)]
    if not len(finite):
        return None
    lower, upper = (float(v) for v in np.percentile(finite, (low, high)))
    if upper - lower < 1e-9 * max(abs(lower), abs(upper), 1e-30):
        room = max(abs(lower) * 0.05, 1e-6)
        return lower - room, upper + room
    return lower, upper


def reason_histograms(
    axes: Axes,
    values: NDArray[Any],
    codes: NDArray[np.int8],
    reasons: tuple[str, ...],
    edges: NDArray[np.float64],
    theme: Theme,
    *,
    log: bool,
) -> dict[str, NDArray[np.int64]]:
    """Draw one histogram per verdict, each from the axis up, and return the counts.

    Values beyond the outermost edges count in the outermost bins: every finite value is drawn.
    """
    found: dict[str, NDArray[np.int64]] = {}
    finite = np.isfinite(values)
    for code, reason in enumerate(reasons):
        chosen = np.clip(values[(codes == code) & finite].astype(np.float64), edges[0], edges[-1])
        counts = np.histogram(chosen, edges)[0].astype(np.int64)
        found[reason] = counts
        if counts.any():
            axes.stairs(counts, edges, fill=True, color=REASON_COLORS[reason], alpha=0.35)
            axes.stairs(
                counts, edges, color=REASON_COLORS[reason], linestyle=REASON_LINES[reason], linewidth=1.1, label=reason
            )
    top = max((int(c.max()) for c in found.values()), default=0)
    if log and top:
        axes.set_yscale("log")
        axes.set_ylim(0.7, top * 2.0)
        axes.yaxis.set_minor_locator(NullLocator())  # half of the time of drawing went into these ticks
        axes.yaxis.set_major_formatter(lambda value, _position: f"{value:,.0f}")
    else:
        axes.set_ylim(0, max(top * 1.08, 1))
        whole_numbers(axes, "y")
    return found


def mark_threshold(axes: Axes, theme: Theme, value: float, text: str) -> None:
    """Draw a threshold as a vertical line with its value."""
    axes.axvline(value, color=theme.text, linewidth=1.0, linestyle=(0, (4, 2)), label=text)


def resolution_axis(axes: Axes, theme: Theme, highest: float) -> None:
    """Set up ``axes`` over spatial frequency from 0 to ``highest`` (1/Å), with the resolution in Å along the top."""
    axes.set_xlim(0, highest)
    chosen: list[float] = []
    for resolution in RESOLUTIONS:
        near = any(abs(1 / resolution - 1 / other) < 0.085 * highest for other in chosen)
        if 1 / resolution <= highest * 1.0001 and not near:
            chosen.append(resolution)
    top = axes.secondary_xaxis("top")
    top.set_xticks([1 / r for r in chosen], labels=[f"{r:g}" for r in chosen])
    top.tick_params(labelsize=SMALL_SIZE, color=theme.muted, labelcolor=theme.text, width=0.6)
    top.set_xlabel("resolution (Å)", fontsize=SMALL_SIZE, color=theme.text)
    top.spines["top"].set_color(theme.muted)
    top.spines["top"].set_linewidth(0.6)


def show_image(
    axes: Axes, image: NDArray[Any], limits: tuple[float, float] | None, theme: Theme, *, frame: str = ""
) -> None:
    """Show a grey image without ticks, pixel (0, 0) at the upper left; ``frame`` colours its border."""
    if limits is None:
        limits = (0.0, 1.0)
        say(axes, theme, "no finite\npixels")
    axes.imshow(image, cmap="gray", vmin=limits[0], vmax=limits[1], interpolation="nearest", origin="upper")
    height, width = image.shape
    # What is drawn on an image must not widen its axes.
    axes.set_xlim(-0.5, width - 0.5)
    axes.set_ylim(height - 0.5, -0.5)
    axes.set_autoscale_on(False)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color(frame or theme.muted)
        spine.set_linewidth(1.4 if frame else 0.5)


def scale_bar_length(width_angstrom: float) -> float:
    """Return a round length (1, 2 or 5 times a power of ten, Å) near a quarter of the image's width."""
    wanted = width_angstrom / 3
    power = 10.0 ** np.floor(np.log10(wanted))
    return float(max(step * power for step in (1, 2, 5) if step * power <= wanted * (1 + 1e-9)))


def scale_bar(axes: Axes, box_px: int, pixel_size_angstrom: float) -> None:
    """Draw a scale bar in the lower left of an image."""
    length = scale_bar_length(box_px * pixel_size_angstrom)
    x, y = 0.06 * box_px - 0.5, 0.93 * box_px - 0.5
    bar = length / pixel_size_angstrom
    box = {"facecolor": "black", "alpha": 0.55, "pad": 1.2, "linewidth": 0}
    axes.plot([x, x + bar], [y, y], color="white", linewidth=2.4, solid_capstyle="butt", gid="scale-bar")
    axes.text(x, y - 0.035 * box_px, f"{length:g} Å", color="white", fontsize=6, ha="left", va="bottom", bbox=box)


def short_name(path: str, most: int = 44) -> str:
    """Return the file name of a path, its middle cut out where it is longer than ``most`` characters."""
    name = PurePath(path).name or path
    if len(name) <= most:
        return name
    tail = (most - 1) // 2
    return f"{name[: most - 1 - tail]}…{name[-tail:]}"


def counts_of(codes: NDArray[np.int8], reasons: tuple[str, ...]) -> Mapping[str, int]:
    """Return how many rows carry each reason."""
    counts = np.bincount(codes[codes >= 0], minlength=len(reasons))
    return {reason: int(counts[code]) for code, reason in enumerate(reasons)}
