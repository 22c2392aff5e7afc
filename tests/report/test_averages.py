"""Panels that compare sets of images."""

from __future__ import annotations

import numpy as np
import pytest

from napari_pickbias.jobs.averages import SetAverage
from napari_pickbias.report.averages import average_panels
from napari_pickbias.report.palette import DARK


def one_set(name: str, value: float) -> SetAverage:
    mean = np.full((16, 16), value)
    mean[8, 8] += 5
    return SetAverage(name, 100, mean, np.ones((16, 16)), np.full((16, 9), 7.0 + value))


@pytest.mark.parametrize("pixel_size", [2.0, None])
def test_averages_difference_and_template_stand_side_by_side(pixel_size) -> None:
    sets = [one_set("kept", 2.0), one_set("rejected", 0.5)]
    averages, profiles = average_panels(sets, pixel_size, np.zeros((8, 8)))
    figure = averages.figure(DARK)
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert titles == [
        "kept: 100",
        "rejected: 100",
        "kept - rejected",
        "template",
        "standard deviation",
        "standard deviation",
    ]
    shown = figure.axes[2].images[0].get_array()
    assert np.allclose(shown, 1.5)
    radial, power = profiles.figure(DARK).axes[:2]
    kept = radial.lines[0]
    assert kept.get_xdata()[-1] == 8 * (pixel_size or 1)
    assert kept.get_ydata()[0] == 7.0
    assert np.allclose(power.lines[1].get_ydata(), 7.5)
    assert power.lines[0].get_xdata()[-1] == pytest.approx(0.5 / (pixel_size or 1))


def test_one_set_alone_has_no_difference() -> None:
    averages, profiles = average_panels([one_set("kept", 1.0)], 2.0)
    assert len(averages.figure().axes) == 2
    assert "less" not in averages.text
    assert profiles.png(dpi=40).startswith(b"\x89PNG")
