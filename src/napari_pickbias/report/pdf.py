"""A document as A4 pages of PDF, by matplotlib alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from napari_pickbias.records.atomic import atomic_path
from napari_pickbias.report.document import Document, Fact, Outcome, Section, Table
from napari_pickbias.report.palette import LIGHT
from napari_pickbias.report.panels import PANEL_WIDTH, Panel, without_tex
from napari_pickbias.report.typeset import FONT, LINE, column_widths, printable, wrap

PAGE_WIDTH, PAGE_HEIGHT = 8.27, 11.69
TOP, BOTTOM = 0.6, 0.7
SIDE = (PAGE_WIDTH - PANEL_WIDTH) / 2
ROOM = PAGE_HEIGHT - TOP - BOTTOM
BODY, SMALL = 9.0, 8.0
WARNING_FILL, WARNING_LINE = "#FFF4D6", "#C98A00"


@dataclass(frozen=True)
class Item:
    """Something of a known height on a page.

    Attributes
    ----------
    height : float
        Inches.
    draw : callable
        Draws on a page, its top so many inches below the page's.
    keep : bool
        Stays on one page with the item after it.
    """

    height: float
    draw: Callable[[Figure, float], None]
    keep: bool = False


Page = list[tuple[float, Item]]


def write_pdf(document: Document, target: Path) -> int:
    """Write ``document`` to ``target``, whole or not at all, and return the number of pages."""
    pages = paginate([*_cover(document), *_rest(document)])
    metadata = {"Title": f"{document.title}: {document.subtitle}", "Creator": document.program}
    with atomic_path(target) as path, PdfPages(path, metadata=metadata) as pdf, without_tex():
        for number, items in enumerate(pages, 1):
            page = Figure(figsize=(PAGE_WIDTH, PAGE_HEIGHT), layout="constrained", facecolor="white")
            for top, item in items:
                item.draw(page, top)
            foot = PAGE_HEIGHT - 0.45
            _put(page, SIDE, foot, document.program, SMALL, LIGHT.muted)
            _put(page, PAGE_WIDTH - SIDE, foot, f"page {number} of {len(pages)}", SMALL, LIGHT.muted, align="right")
            pdf.savefig(page)
            page.clear()
    return len(pages)


def paginate(items: list[Item]) -> list[Page]:
    """Place items on pages from top to bottom.

    Items marked ``keep`` move to the next page with the item after them, unless both together exceed a page.
    """
    pages: list[Page] = []
    page: Page = []
    used, start = 0.0, 0
    while start < len(items):
        stop = start + 1
        while items[stop - 1].keep and stop < len(items):
            stop += 1
        height = sum(item.height for item in items[start:stop])
        if height > ROOM:
            stop, height = start + 1, items[start].height
        if page and used + height > ROOM + 1e-9:
            pages.append(page)
            page, used = [], 0.0
        for item in items[start:stop]:
            page.append((TOP + used, item))
            used += item.height
        start = stop
    return [*pages, page] if page else pages


def _cover(document: Document) -> list[Item]:
    """Return the beginning: what was done, what came out, warnings, key figures and how to read them."""
    items = _text(document.title, 20, bold=True)
    items += _text(document.subtitle, BODY, color=LIGHT.muted)
    items += _text(document.written.strftime("%Y-%m-%d %H:%M %z"), SMALL, color=LIGHT.muted)
    items.append(_space(0.15))
    if document.outcome:
        items += _outcome(document.outcome)
    if document.warnings:
        items += _warnings(document.warnings)
    if not document.outcome:
        items += _text(document.headline, 11.5, bold=True)
    items.append(_space(0.12))
    items += [_fact(fact) for fact in document.facts]
    if document.reading:
        items += _heading("How to read this")
        for text in document.reading:
            items += [*_text(text, BODY), _space(0.07)]
    return items


def _rest(document: Document) -> list[Item]:
    items: list[Item] = []
    for section in document.sections:
        items += _section(section)
    items += _heading("How this was made")
    for table in document.appendix:
        items += _table(table)
    return items


def _section(section: Section) -> list[Item]:
    items = _heading(section.title)
    for text in section.paragraphs:
        items += [*_text(text, BODY, keep=True), _space(0.07, keep=True)]
    for table in section.tables:
        items += _table(table)
    return items + [_panel(panel) for panel in section.panels]


def _put(
    page: Figure,
    x: float,
    top: float,
    text: str,
    size: float,
    color: str = LIGHT.text,
    *,
    bold: bool = False,
    align: str = "left",
) -> None:
    """Write one line; x and top in inches from the page's upper left."""
    page.text(
        x / PAGE_WIDTH,
        1 - top / PAGE_HEIGHT,
        printable(text),
        fontsize=size,
        color=color,
        family=FONT,
        weight="bold" if bold else "normal",
        ha=align,
        va="top",
        parse_math=False,
    )


def _space(height: float, keep: bool = False) -> Item:
    return Item(height, lambda _page, _top: None, keep)


def _line(text: str, size: float, color: str, bold: bool, keep: bool) -> Item:
    return Item(LINE * size / 72, lambda page, top: _put(page, SIDE, top, text, size, color, bold=bold), keep)


def _text(text: str, size: float, *, color: str = LIGHT.text, bold: bool = False, keep: bool = False) -> list[Item]:
    return [_line(line, size, color, bold, keep) for line in wrap(text, PANEL_WIDTH, size, bold)]


def _heading(text: str) -> list[Item]:
    return [_space(0.2, keep=True), *_text(text, 12.5, bold=True, keep=True), _space(0.06, keep=True)]


def _rectangle(page: Figure, x: float, top: float, width: float, height: float, color: str) -> None:
    page.add_artist(
        Rectangle(
            (x / PAGE_WIDTH, 1 - (top + height) / PAGE_HEIGHT),
            width / PAGE_WIDTH,
            height / PAGE_HEIGHT,
            facecolor=color,
            edgecolor="none",
            transform=page.transFigure,
            zorder=-1,
        )
    )


def _outcome(outcome: Outcome) -> list[Item]:
    """Return the outcome on a ground of its own pale colour, in one piece."""
    parts = ((outcome.word, 14.0, True), (outcome.why, BODY + 1, False), (outcome.next_step, BODY + 1, True))
    lines = [(line, size, bold) for text, size, bold in parts for line in wrap(text, PANEL_WIDTH - 0.4, size, bold)]
    gap, margin = 0.05, 0.12
    height = sum(LINE * size / 72 for _, size, _ in lines) + gap * (len(parts) - 1) + 2 * margin
    red, green, blue = (0.12 * part + 0.88 for part in to_rgb(outcome.color))
    pale = to_hex((red, green, blue))

    def draw(page: Figure, top: float) -> None:
        _rectangle(page, SIDE, top, PANEL_WIDTH, height, pale)
        _rectangle(page, SIDE, top, 0.09, height, outcome.color)
        at, before = top + margin, lines[0][1:]
        for text, size, bold in lines:
            at += gap if (size, bold) != before else 0
            _put(page, SIDE + 0.22, at, text, size, bold=bold)
            at, before = at + LINE * size / 72, (size, bold)

    return [Item(height, draw), _space(0.15)]


def _warnings(warnings: tuple[str, ...]) -> list[Item]:
    """Return the warnings on a coloured ground, line by line so that many of them run over to the next page."""
    lines = [("Please note", True)]
    for warning in warnings:
        first, *more = wrap(warning, PANEL_WIDTH - 0.5, BODY)
        lines += [(f"•  {first}", False), *((f"    {line}", False) for line in more)]
    step = LINE * BODY / 72

    def item(text: str, bold: bool, height: float) -> Item:
        def draw(page: Figure, top: float) -> None:
            _rectangle(page, SIDE, top, PANEL_WIDTH, height + 0.005, WARNING_FILL)
            _rectangle(page, SIDE, top, 0.05, height + 0.005, WARNING_LINE)
            if text:
                _put(page, SIDE + 0.15, top, text, BODY, bold=bold)

        return Item(height, draw)

    return [
        item("", False, 0.07),
        *(item(text, bold, step) for text, bold in lines),
        item("", False, 0.05),
        _space(0.15),
    ]


def _fact(fact: Fact) -> Item:
    """Return one row of the key figures."""
    columns = (SIDE + 0.18, SIDE + 3.0, SIDE + 3.15)
    names = wrap(fact.name, 1.6, BODY)
    meaning = wrap(fact.meaning, PANEL_WIDTH - 3.15, SMALL) if fact.meaning else []
    height = max(len(names) * BODY, len(meaning) * SMALL, BODY) * LINE / 72 + 0.07

    def draw(page: Figure, top: float) -> None:
        _rectangle(page, SIDE, top - 0.035, PANEL_WIDTH, 0.007, LIGHT.grid)
        if fact.color:
            _rectangle(page, SIDE, top + 0.01, 0.1, 0.1, fact.color)
        for i, line in enumerate(names):
            _put(page, columns[0], top + i * LINE * BODY / 72, line, BODY)
        _put(page, columns[1], top, fact.value, BODY, bold=True, align="right")
        for i, line in enumerate(meaning):
            _put(page, columns[2], top + i * LINE * SMALL / 72, line, SMALL, LIGHT.muted)

    return Item(height, draw)


def _table(table: Table) -> list[Item]:
    """Return a table row by row; the heading stays with the first row."""
    gap = 0.15
    widths = column_widths([table.header, *table.rows], PANEL_WIDTH, SMALL, gap)
    flush = tuple(name in table.numeric for name in table.header)
    items = _text(table.title, 10, bold=True, keep=True) if table.title else []
    items.append(_table_row(table.header, widths, gap, flush, bold=True))
    items += [_table_row(row, widths, gap, flush) for row in table.rows]
    return [*items, _space(0.18)]


def _table_row(
    cells: tuple[str, ...], widths: list[float], gap: float, flush: tuple[bool, ...], bold: bool = False
) -> Item:
    lines = [wrap(cell, width, SMALL, bold) for cell, width in zip(cells, widths, strict=True)]
    height = max(len(cell) for cell in lines) * LINE * SMALL / 72 + 0.05

    def draw(page: Figure, top: float) -> None:
        _rectangle(page, SIDE, top + height - 0.028, PANEL_WIDTH, 0.007, LIGHT.grid)
        x = SIDE
        for cell, width, right in zip(lines, widths, flush, strict=True):
            for i, line in enumerate(cell):
                at = x + width if right else x
                _put(page, at, top + i * LINE * SMALL / 72, line, SMALL, bold=bold, align="right" if right else "left")
            x += width + gap

    return Item(height, draw, keep=bold)


def _panel(panel: Panel) -> Item:
    """Return a panel with its title and text; too high a figure is made to fit its page."""
    lines = wrap(panel.text, PANEL_WIDTH, SMALL)
    title, step = 0.24, LINE * SMALL / 72
    head = title + len(lines) * step + 0.05
    height = min(panel.height, ROOM - head - 0.15)

    def draw(page: Figure, top: float) -> None:
        _put(page, SIDE, top, panel.title, 10.5, bold=True)
        for i, line in enumerate(lines):
            _put(page, SIDE, top + title + i * step, line, SMALL, LIGHT.muted)
        above = top + head
        grid = page.add_gridspec(
            3, 3, height_ratios=[above, height, PAGE_HEIGHT - above - height], width_ratios=[SIDE, PANEL_WIDTH, SIDE]
        )
        panel.draw(page.add_subfigure(grid[1, 1]), LIGHT)

    return Item(head + height + 0.15, draw)
