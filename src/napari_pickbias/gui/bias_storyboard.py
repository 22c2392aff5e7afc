"""The story of a diagnosis in a dock: verdict, three figures, pictures, curves, a micrograph, what was assumed."""

from __future__ import annotations

import html
from collections.abc import Callable

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFrame, QLabel, QSizePolicy, QVBoxLayout, QWidget

from napari_pickbias.gui.figure_view import FigureView
from napari_pickbias.report.bias_story import BiasStory, story_facts, story_panels

STORY_DPI = 100


class Storyboard(QWidget):
    """Shows one :class:`BiasStory`; showing another replaces it.

    Parameters
    ----------
    theme : str
        Name of napari's theme.
    words : callable, optional
        Puts options of the command line into the dock's words; returns text for a label.
    """

    def __init__(self, theme: str, words: Callable[[str], str] = html.escape) -> None:
        super().__init__()
        self.words = words
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Minimum)
        self.verdict = QLabel(wordWrap=True)
        self.verdict.setFrameShape(QFrame.Shape.NoFrame)
        self.facts = [QLabel(wordWrap=True) for _ in range(3)]
        self.figures = FigureView(theme, texts=False, dpi=STORY_DPI)
        self.assumed = QLabel(wordWrap=True)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(8)
        for widget in (self.verdict, *self.facts, self.figures, self.assumed):
            column.addWidget(widget)
        for label in (self.verdict, *self.facts, self.assumed):
            label.setTextFormat(Qt.TextFormat.RichText)
            label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.story: BiasStory | None = None

    def show_story(self, story: BiasStory) -> None:
        """Show a diagnosis."""
        self.story = story
        self.verdict.setText(
            f"<p style='font-size: 15px'><b>{html.escape(story.verdict.upper())}</b></p>"
            f"<p><b>{self.words(story.headline)}</b></p>"
            f"<p>{self.words(story.next_step)}</p>"
        )
        self.verdict.setStyleSheet(
            f"QLabel {{ background: {story.color}; color: white; border-radius: 6px; padding: 8px 10px; }}"
        )
        for label, fact in zip(self.facts, story_facts(story), strict=True):
            label.setText(
                f"{html.escape(fact.name)}<br><span style='font-size: 20px'><b>{html.escape(fact.value)}</b></span>"
                f"<br>{html.escape(fact.meaning, quote=False)}"
            )
            label.setStyleSheet(f"QLabel {{ border-left: 4px solid {story.color}; padding-left: 8px; }}")
        self.figures.show_panels(story_panels(story))
        self.assumed.setText(
            "<b>What was assumed</b>" + "".join(f"<p>{self.words(text)}</p>" for text in story.assumed)
            if story.assumed
            else ""
        )
