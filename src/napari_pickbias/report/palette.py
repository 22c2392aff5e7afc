"""Colours of figures: one per verdict, the same everywhere; and the theme of what surrounds them."""

from __future__ import annotations

from dataclasses import dataclass

REASON_COLORS = {"kept": "#0072B2", "noise": "#8A8A8A", "partial": "#E69F00", "multiple": "#CC79A7"}
"""From Okabe and Ito's palette, which colour-blind readers can tell apart; noise is grey."""

REASON_LINES = {"kept": "-", "noise": ":", "partial": "--", "multiple": "-."}
"""Line styles, so that prints without colour can be read too."""

REASON_MEANINGS = {
    "kept": "one whole particle near the middle of the box",
    "noise": "no particle near the middle of the box that stands out from the noise",
    "partial": "the particle lies too far off the middle and is cut by the edge of the box",
    "multiple": "a second particle in the box",
}
"""What each verdict says, in words."""


@dataclass(frozen=True)
class Theme:
    """Colours of a figure apart from its data; a dock passes those of its window."""

    background: str = "#FFFFFF"
    text: str = "#1B1F24"
    muted: str = "#6A737D"
    grid: str = "#E3E6EA"


LIGHT = Theme()
DARK = Theme(background="#262930", text="#F0F1F2", muted="#A9B0B8", grid="#414851")
