"""What the widgets say, apart from Qt: faults in the widget's own words, counts, time left."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence

from napari_pickbias.jobs.outlier_parameters import REASONS
from napari_pickbias.report.palette import REASON_COLORS

LABELS = {
    "--particles": "Particles",
    "--out": "Output folder",
    "--radius": "Particle radius",
    "--contrast": "Contrast",
    "--method": "Method",
    "--false-keep-rate": "False keep rate",
    "--pixel-size": "Pixel size",
    "--overwrite": "Earlier results: replace",
    "--resume": "Earlier results: go on",
}
"""What the command line's options are called in the widget."""


def in_widget_words(text: str) -> str:
    """Return a fault as one line that names the widget's fields where it named options of the command line."""
    line = " ".join(text.split())
    return re.sub(r"--[a-z][a-z-]*[a-z]", lambda m: f"“{LABELS[m[0]]}”" if m[0] in LABELS else m[0], line)


def counts_html(counts: Mapping[str, int]) -> str:
    """Return particles by reason as a small table, with the colours of the verdict circles."""
    total = sum(counts.values())
    lines = []
    for reason in REASONS:
        count = counts.get(reason, 0)
        share = f"{count / total:.1%}" if total else ""
        lines.append(
            f"<tr><td style='color:{REASON_COLORS[reason]}'>●&nbsp;</td><td>{reason}&nbsp;&nbsp;</td>"
            f"<td align='right'>{count:,}&nbsp;&nbsp;</td><td align='right'>{share}</td></tr>"
        )
    return f"<table>{''.join(lines)}</table>"


def notes_html(expected_fdr: float | None, warnings: Sequence[str]) -> str:
    """Return the share of false particles expected among the kept, and what the run warned of."""
    lines = []
    if expected_fdr is not None:
        share = f"{expected_fdr:.1%}" if expected_fdr >= 0.001 else "below 0.1%"
        lines.append(f"Expected share of wrong ones among the kept: {share}.")
    lines += [f"Note: {html.escape(in_widget_words(text), quote=False)}" for text in warnings]
    return "<br>".join(lines)


def time_left(history: Sequence[tuple[float, int]], total: int) -> str:
    """Return "about 3 min left" from ``(seconds, done)`` points of one stage, the latest last; empty while unknown.

    Only the recent pace counts: pieces of an earlier run are taken over at once, and would promise too much.
    """
    if len(history) < 2:
        return ""
    (start, before), (now, done) = history[max(0, len(history) - 8)], history[-1]
    if done <= before or now <= start:
        return ""
    seconds = (now - start) / (done - before) * (total - done)
    if seconds < 10:
        return "a few seconds left"
    if seconds < 90:
        return f"about {10 * round(seconds / 10)} s left"
    if seconds < 5400:
        return f"about {round(seconds / 60)} min left"
    return f"about {seconds / 3600:.1f} h left"
