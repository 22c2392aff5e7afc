"""The convergence of a reconstruction without picking, drawn while it works, as narrow as a dock."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import pandas as pd
from numpy.typing import NDArray

from napari_pickbias.report.panels import Panel, dress, legend, whole_numbers

if TYPE_CHECKING:
    from matplotlib.figure import FigureBase

    from napari_pickbias.report.palette import Theme

COLORS = {"map": "#0072B2", "null": "#8A8A8A", "half1": "#56B4E9", "half2": "#009E73"}
WORDS = {"map": "the data", "null": "noise alone", "half1": "half 1", "half2": "half 2"}
OTHER = "#CC79A7"


@dataclass(frozen=True)
class Convergence:
    """What iterations say.

    Attributes
    ----------
    chains : dict of DataFrame
        By the chain's name; columns ``iteration``, ``log_likelihood`` (per patch, against "all empty"), ``empty``.
    agreement : list of float
        Mean over shells of the Fourier shell correlation between the halves' maps: of each iteration that both have
        finished, or of the last alone.
    volume : ndarray, shape (n, n, n), or None
        The latest map.
    """

    chains: dict[str, pd.DataFrame]
    agreement: list[float]
    volume: NDArray[object] | None

    @property
    def iteration(self) -> int:
        """Of the latest map."""
        return int(self.chains["map"]["iteration"].iloc[-1]) if len(self.chains.get("map", ())) else 0


def convergence_panel(found: Convergence) -> Panel:
    """Return log-likelihood, empty fraction and agreement of the halves by iteration."""
    text = (
        "Log-likelihood per patch above that of empty patches, of the data and of noise alone: only the distance "
        "between the two is evidence. Below, the share of empty patches, and how far the maps of the two halves agree."
    )
    return Panel("live", "Convergence", text, 4.4, partial(_draw, found))


def _draw(found: Convergence, figure: FigureBase, theme: Theme) -> None:
    above, middle, below = figure.subplots(3, 1, sharex=True, height_ratios=(1.5, 1, 1))
    for name in sorted(found.chains, key=lambda each: list(WORDS).index(each) if each in WORDS else 9):
        table = found.chains[name]
        style = {"color": COLORS.get(name, OTHER), "marker": "o", "markersize": 3, "linewidth": 1.4}
        above.plot(table["iteration"], table["log_likelihood"], label=WORDS.get(name, name), **style)
        middle.plot(table["iteration"], table["empty"], **style)
    rounds = range(1, len(found.agreement) + 1)
    if len(found.agreement) == 1 and len(found.chains.get("half1", ())):
        rounds = range(len(found.chains["half1"]), len(found.chains["half1"]) + 1)
    below.plot(list(rounds), found.agreement, color=COLORS["map"], marker="o", markersize=3)
    above.axhline(0, color=theme.muted, linewidth=0.6)
    middle.set_ylim(0, 1)
    below.set_ylim(-0.1, 1.05)
    whole_numbers(below, "x")
    dress(above, theme, y="log-likelihood\nper patch", grid="y")
    dress(middle, theme, y="empty patches", grid="y")
    dress(below, theme, x="iteration", y="mean FSC\nof the halves", grid="y")
    legend(above, theme, loc="upper left")
