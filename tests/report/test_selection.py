"""Figures about a few chosen images."""

from __future__ import annotations

import numpy as np
import pytest

from napari_pickbias.jobs.profiles import Profiles
from napari_pickbias.report.selection import Peaks, peaks_panel, profile_panel


def test_the_band_holds_the_quantiles_and_the_mean_lies_where_it_should() -> None:
    values = np.random.default_rng(0).normal(size=(101, 9)) + np.arange(9)
    chosen = Profiles(values[:3] + 10, 3)
    axes = profile_panel(Profiles(values, 5000), chosen, 2.0).figure().axes[0]
    wide, half = (c.get_paths()[0].vertices for c in axes.collections)
    for band, low, high in ((wide, 0.05, 0.95), (half, 0.25, 0.75)):
        at = band[np.isclose(band[:, 0], 8.0)]  # ring 4 of 2 Å
        assert at[:, 1].min() == pytest.approx(np.quantile(values[:, 4], low))
        assert at[:, 1].max() == pytest.approx(np.quantile(values[:, 4], high))
    lines = {line.get_label(): line for line in axes.lines}
    assert np.allclose(lines["mean of 3 selected"].get_ydata(), chosen.values.mean(axis=0))
    assert np.allclose(lines["median of 5,000"].get_ydata(), np.median(values, axis=0))
    assert axes.get_xlabel() == "radius (Å)"


def test_without_a_selection_the_band_stands_alone() -> None:
    axes = profile_panel(Profiles(np.zeros((4, 5)), 4), None, None).figure().axes[0]
    assert [line.get_label() for line in axes.lines] == ["median of 4"]
    assert axes.get_xlabel() == "radius (px)"


def test_peaks_are_drawn_where_they_were_found() -> None:
    images = [np.random.default_rng(k).normal(size=(32, 32)).astype(np.float32) for k in range(3)]
    peaks = [
        Peaks((1.0, -2.0), (9.0, 8.0), 0.9, -3.0, "multiple"),
        Peaks((0.0, 0.0), (9.0, 8.0), 0.1, 4.0),
        Peaks((0.0, 0.0), (np.nan, np.nan), np.nan, np.nan),
    ]
    first, second, third = peaks_panel(images, peaks, 5.0).figure().axes[:3]
    assert [patch.center for patch in first.patches] == [(14.0, 17.0), (24.0, 25.0)]
    assert {patch.radius for patch in first.patches} == {5.0}
    assert [patch.get_linestyle() for patch in first.patches] == ["-", "-"]
    assert [patch.get_linestyle() for patch in second.patches] == ["-", ":"]
    assert len(third.patches) == 1
    assert first.get_title() == "multiple"
    assert first.get_xlabel() == "2nd: 0.90   odds: -3.0"


def test_without_peaks_images_alone_are_shown_and_it_says_why() -> None:
    panel = peaks_panel([np.zeros((8, 8), np.float32)], [None], None)
    assert not panel.figure().axes[0].patches
    assert "remove outliers first" in panel.text
    assert "nothing is selected" in [t.get_text() for t in peaks_panel([], [], None).figure().axes[0].texts]
