"""What the widgets say."""

from __future__ import annotations

import pytest

from napari_pickbias.gui.messages import counts_html, in_widget_words, notes_html, time_left


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("--radius is missing: give it", "“Particle radius” is missing: give it"),
        ("--out /a-b/--x: exists", "“Output folder” /a-b/--x: exists"),
        ("give another folder, --overwrite to", "give another folder, “Earlier results: replace” to"),
        ("--phase-flip yes was ignored", "--phase-flip yes was ignored"),
        ("two\nlines", "two lines"),
        ("use --contrast white or --contrast black.", "use “Contrast” white or “Contrast” black."),
    ],
)
def test_options_are_called_as_the_widgets_fields(text: str, expected: str) -> None:
    assert in_widget_words(text) == expected


def test_counts_show_every_reason_with_its_share() -> None:
    text = counts_html({"kept": 1500, "noise": 300, "partial": 200, "multiple": 0})
    for piece in ("kept", "1,500", "75.0%", "noise", "15.0%", "partial", "10.0%", "multiple", "0.0%"):
        assert piece in text
    assert "%" not in counts_html({"kept": 0})


def test_notes_show_the_expected_share_and_escape_what_comes_from_files() -> None:
    assert notes_html(None, []) == ""
    assert notes_html(0.0234, []) == "Expected share of wrong ones among the kept: 2.3%."
    assert "below 0.1%" in notes_html(0.0, [])
    assert notes_html(None, ["<b>.star: odd", "x"]) == "Note: &lt;b&gt;.star: odd<br>Note: x"


@pytest.mark.parametrize(
    ("history", "total", "expected"),
    [
        ([], 100, ""),
        ([(0.0, 0)], 100, ""),
        ([(0.0, 10), (5.0, 10)], 100, ""),
        ([(0.0, 0), (1.0, 50)], 100, "a few seconds left"),
        ([(0.0, 0), (10.0, 20)], 100, "about 40 s left"),
        ([(0.0, 0), (60.0, 20)], 100, "about 4 min left"),
        ([(0.0, 0), (3600.0, 20)], 100, "about 4.0 h left"),
        # Pieces of an earlier run come at once; the pace of the last ones counts.
        ([(0.0, 0), (0.1, 900)] + [(60.0 * i, 900 + i) for i in range(1, 10)], 1000, "about 1.5 h left"),
    ],
)
def test_time_left_follows_the_recent_pace(history: list, total: int, expected: str) -> None:
    assert time_left(history, total) == expected
