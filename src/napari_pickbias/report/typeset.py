"""Setting text on PDF pages: widths of glyphs, line breaks, and what a font cannot show."""

from __future__ import annotations

from functools import lru_cache

from matplotlib import font_manager, ft2font

FONT = "DejaVu Sans"
"""Comes with matplotlib, so a report looks the same on every machine."""
LINE = 1.32
"""Distance of lines in units of the font size."""


@lru_cache(maxsize=2)
def _advances(bold: bool) -> dict[str, float]:
    """Return the width of each glyph of the font in units of its size."""
    path = font_manager.findfont(font_manager.FontProperties(family=FONT, weight="bold" if bold else "normal"))
    font = ft2font.FT2Font(path)
    font.set_size(100, 72)
    # The unhinted advance comes as a 16.16 fixed-point number.
    return {chr(code): font.load_char(code).linearHoriAdvance / 65536 / 100 for code in font.get_charmap()}


def printable(text: str) -> str:
    """Return ``text`` with blanks for control characters and U+FFFD for what the font lacks."""
    known = _advances(False)
    return "".join(c if c in known and c.isprintable() else " " if c.isspace() else "\ufffd" for c in text)


def text_width(text: str, size: float, bold: bool = False) -> float:
    """Return the width of one line in inches at a font size in points."""
    advances = _advances(bold)
    fallback = advances["\ufffd"]
    return sum(advances.get(c, fallback) for c in text) * size / 72


def wrap(text: str, width: float, size: float, bold: bool = False) -> list[str]:
    """Break ``text`` into lines at most ``width`` inches wide; words wider than a line (long paths) are cut."""
    lines: list[str] = []
    line = ""
    for word in printable(text).split():
        candidate = f"{line} {word}" if line else word
        if text_width(candidate, size, bold) <= width:
            line = candidate
            continue
        if line:
            lines.append(line)
        *whole, line = _cut(word, width, size, bold)
        lines += whole
    return [*lines, line] if line or not lines else lines


def _cut(word: str, width: float, size: float, bold: bool) -> list[str]:
    """Cut a word into pieces that fit, at least one character each."""
    pieces, start, used = [], 0, 0.0
    for i, c in enumerate(word):
        step = text_width(c, size, bold)
        if i > start and used + step > width:
            pieces.append(word[start:i])
            start, used = i, 0.0
        used += step
    return [*pieces, word[start:]]


def column_widths(cells: list[tuple[str, ...]], total: float, size: float, gap: float) -> list[float]:
    """Share ``total`` inches among the columns of a table: narrow ones get what they need, wide ones the rest.

    ``cells`` are its rows, the first of them the header, which is set in bold.
    """
    count = len(cells[0])
    wanted = [
        max(text_width(printable(row[i]), size, bold=number == 0) for number, row in enumerate(cells)) + 0.05
        for i in range(count)
    ]
    left, open_columns = total - gap * (count - 1), set(range(count))
    widths = [0.0] * count
    while open_columns:
        fair = left / len(open_columns)
        fitting = {i for i in open_columns if wanted[i] <= fair}
        for i in fitting or open_columns:
            widths[i] = min(wanted[i], fair)
        left -= sum(widths[i] for i in fitting or open_columns)
        open_columns -= fitting or set(open_columns)
    return widths
