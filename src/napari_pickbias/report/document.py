"""What a report says, before it becomes a page of HTML or PDF."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_pickbias.report.panels import Panel


@dataclass(frozen=True)
class Fact:
    """A key figure: its name, its value as text, and what it means."""

    name: str
    value: str
    meaning: str = ""
    color: str = ""


@dataclass(frozen=True)
class Table:
    """A table of texts; columns named in ``numeric`` are set flush right."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Section:
    """A chapter: a heading, paragraphs, tables and panels, in this order."""

    title: str
    paragraphs: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    panels: tuple[Panel, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """The outcome in a coloured box: its word, one sentence of why, and what to do next."""

    word: str
    why: str
    next_step: str
    color: str


@dataclass(frozen=True)
class Document:
    """A whole report.

    Attributes
    ----------
    title, subtitle : str
        What was done, and on what.
    headline : str
        The outcome in one sentence; in its place, ``outcome`` where there is one.
    program : str
        Name and version, for the foot of each page.
    warnings : tuple of str
        Shown on top, in plain words.
    facts : tuple of Fact
        The key figures.
    reading : tuple of str
        Paragraphs on what the figures mean, and what they do not.
    sections : tuple of Section
        Chapters with figures.
    appendix : tuple of Table
        Parameters, inputs, versions.
    raw : str
        The results as JSON, for whoever wants the exact numbers; in the HTML page only.
    written : datetime
        When.
    outcome : Outcome or None
        Shown first of all.
    """

    title: str
    subtitle: str
    headline: str
    program: str
    warnings: tuple[str, ...] = ()
    facts: tuple[Fact, ...] = ()
    reading: tuple[str, ...] = ()
    sections: tuple[Section, ...] = ()
    appendix: tuple[Table, ...] = ()
    raw: str = ""
    written: datetime = field(default_factory=lambda: datetime.now().astimezone())
    outcome: Outcome | None = None
