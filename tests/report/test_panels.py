"""What all figures share: sizes, scales, ticks, and drawing without global state."""

from __future__ import annotations

import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import matplotlib as mpl
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from matplotlib.image import imread

from napari_pickbias.jobs.outliers import OutlierResult
from napari_pickbias.report.outliers import outlier_panels
from napari_pickbias.report.palette import DARK, LIGHT, REASON_COLORS, REASON_LINES, REASON_MEANINGS
from napari_pickbias.report.panels import (
    PANEL_WIDTH,
    Panel,
    plain_log,
    resolution_axis,
    robust_range,
    scale_bar_length,
    short_name,
)

Make = Callable[..., OutlierResult]


def luminance(color: str) -> float:
    channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


def test_every_verdict_has_one_colour_one_line_and_one_meaning() -> None:
    assert (
        list(REASON_COLORS) == list(REASON_LINES) == list(REASON_MEANINGS) == ["kept", "noise", "partial", "multiple"]
    )
    assert len(set(REASON_COLORS.values())) == len(set(REASON_LINES.values())) == 4


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_text_can_be_read_on_its_background(theme) -> None:
    for color in (theme.text, theme.muted):
        bright, dark = sorted((luminance(color), luminance(theme.background)), reverse=True)
        assert (bright + 0.05) / (dark + 0.05) > 4.5  # the WCAG's level AA


def test_a_panel_is_a_figure_of_its_size_and_a_png_of_its_pixels(make_result: Make) -> None:
    panel = outlier_panels(make_result())[0]
    figure = panel.figure()
    assert isinstance(figure, Figure)
    assert tuple(figure.get_size_inches()) == (PANEL_WIDTH, panel.height)
    image = imread(io.BytesIO(panel.png(dpi=100)), format="png")
    assert image.shape[:2] == (round(100 * panel.height), round(100 * PANEL_WIDTH))
    dark = imread(io.BytesIO(panel.png(dpi=100, theme=DARK)), format="png")
    np.testing.assert_allclose(dark[0, 0, :3], [0x26 / 255, 0x29 / 255, 0x30 / 255], atol=1e-3)


def test_threads_draw_the_same_pictures_as_one_after_another(make_result: Make) -> None:
    panels = outlier_panels(make_result(examples=1))
    alone = [panel.png(dpi=60) for panel in panels]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda panel: panel.png(dpi=60), panels))
    assert together == alone


def test_settings_that_ask_for_latex_neither_break_the_report_nor_change(make_result: Make) -> None:
    panel = outlier_panels(make_result())[0]
    plain = panel.png(dpi=60)
    with mpl.rc_context({"text.usetex": True}):
        assert panel.png(dpi=60) == plain
        assert mpl.rcParams["text.usetex"] is True


def test_drawing_leaves_all_settings_alone(make_result: Make) -> None:
    before = dict(mpl.rcParams)
    for panel in outlier_panels(make_result(examples=1)):
        panel.png(dpi=60)
    assert dict(mpl.rcParams) == before


@given(st.floats(0.1, 1e5))
@settings(deadline=None, derandomize=True)
def test_scale_bars_are_round_and_fit(width: float) -> None:
    length = scale_bar_length(width)
    assert width / 7.6 < length <= width / 3 * (1 + 1e-9)
    assert f"{length:.0e}"[0] in "125"


@pytest.mark.parametrize("highest", [0.02, 0.06, 0.125, 0.25, 0.5, 1.0])
def test_resolution_ticks_stand_apart_and_inside(highest: float) -> None:
    axes = Figure().add_subplot()
    resolution_axis(axes, LIGHT, highest)
    ticks = np.sort(axes.child_axes[0].get_xticks())
    assert len(ticks) >= 3
    assert ticks[0] > 0
    assert ticks[-1] <= highest * 1.001
    assert np.diff(ticks).min() >= 0.085 * highest


@pytest.mark.parametrize(("top", "labels"), [(40.0, ["1", "2", "5", "10", "20"]), (1e5, ["1", "10", "100", "1000"])])
def test_logarithmic_ticks_are_plain_numbers(top: float, labels: list[str]) -> None:
    axes = Figure().add_subplot()
    axes.plot([0, 1], [0.9, top])
    plain_log(axes)
    low, high = axes.get_ylim()
    shown = [t.get_text() for t in axes.get_yticklabels() if low <= t.get_position()[1] <= high]
    assert shown[: len(labels)] == labels
    assert axes.get_yticks(minor=True).size == 0


def test_ranges_ignore_what_is_not_finite_and_are_never_empty() -> None:
    assert robust_range([np.nan, np.inf]) is None
    assert robust_range([]) is None
    low, high = robust_range([5.0, 5.0, np.nan])  # type: ignore[misc]
    assert low < 5 < high
    low, high = robust_range(np.zeros(9))  # type: ignore[misc]
    assert low < 0 < high
    low, high = robust_range([*np.linspace(0, 1, 10_001), 1e9], 1, 99)  # type: ignore[misc]
    assert (low, high) == (pytest.approx(0.01, abs=1e-3), pytest.approx(0.99, abs=1e-3))


def test_names_are_cut_in_the_middle() -> None:
    assert short_name("Movies/a/b.mrc") == "b.mrc"
    assert short_name("x" * 44) == "x" * 44
    cut = short_name("abc" + "x" * 500 + "xyz.mrc")
    assert len(cut) == 44
    assert cut.startswith("abcx")
    assert cut.endswith("xyz.mrc")
    assert "…" in cut


def test_panels_of_a_result_have_unique_keys_words_and_titles(make_result: Make) -> None:
    panels = outlier_panels(make_result(groups=3))
    assert all(isinstance(panel, Panel) for panel in panels)
    keys = [panel.key for panel in panels]
    assert len(set(keys)) == len(keys) == 2 + 3 * 4
    assert {"verdicts", "micrographs", "scores_1", "spectra_3"} <= set(keys)
    for panel in panels:
        assert panel.title
        assert panel.text.endswith(".")
