"""Lines fit their width and lose nothing."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

from napari_pickbias.report.typeset import FONT, column_widths, printable, text_width, wrap


@pytest.mark.parametrize("bold", [False, True])
@pytest.mark.parametrize("text", ["false-keep rate of 1%", "WWWWiiii", "8.15 Å/px ≥ ½", "Extract/job012/µm_é.star"])
def test_widths_are_those_that_matplotlib_draws(text: str, bold: bool) -> None:
    font = FontProperties(family=FONT, weight="bold" if bold else "normal", size=20)
    drawn, _, _ = text_to_path.get_text_width_height_descent(text, font, ismath=False)
    # Kerning and the ink of the last glyph make up a few per cent; never should text be wider than reckoned.
    assert 0.93 * text_width(text, 20, bold) < drawn / 72 < 1.01 * text_width(text, 20, bold)


@given(st.text(max_size=200), st.floats(0.3, 8), st.sampled_from([6.0, 9.0, 20.0]))
@settings(deadline=None, derandomize=True, max_examples=150)
def test_lines_fit_and_nothing_is_lost(text: str, width: float, size: float) -> None:
    lines = wrap(text, width, size)
    assert lines
    for line in lines:
        assert text_width(line, size) <= width + 1e-9 or len(line) == 1
    assert "".join("".join(lines).split()) == "".join(printable(text).split())


def test_a_path_without_blanks_is_cut() -> None:
    path = "/" + "very_long_folder_name/" * 40 + "particles.star"
    lines = wrap(path, 3.0, 8.0)
    assert len(lines) > 5
    assert "".join(lines) == path


def test_what_the_font_lacks_becomes_a_sign_and_controls_vanish() -> None:
    assert printable("粒子 α\tβ\n") == "\ufffd\ufffd α β "
    assert printable("a\x00b\x1b[31m") == "a\ufffdb\ufffd[31m"


@given(
    st.lists(st.tuples(*[st.text("abcdefg ", max_size=60)] * 3), min_size=1, max_size=6),
    st.floats(3, 8),
)
@settings(deadline=None, derandomize=True, max_examples=60)
def test_columns_share_the_width(cells: list[tuple[str, ...]], total: float) -> None:
    widths = column_widths(cells, total, 8.0, 0.15)
    assert len(widths) == 3
    assert min(widths) > 0
    assert sum(widths) + 0.3 <= total + 1e-9


def test_a_narrow_column_keeps_its_width_beside_wide_ones() -> None:
    cells = [("name", "value", "meaning"), ("radius", "71.4", "x" * 500)]
    name, value, meaning = column_widths(cells, 7.4, 8.0, 0.15)
    assert name == pytest.approx(max(text_width("name", 8, bold=True), text_width("radius", 8)) + 0.05)
    assert value < 0.5
    assert meaning == pytest.approx(7.4 - 0.3 - name - value)
