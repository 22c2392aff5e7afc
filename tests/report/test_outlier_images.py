"""Averages, spectra and examples show the arrays they claim to, at the right place and scale."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Rectangle

from napari_pickbias.jobs.outlier_stream import ChunkSums
from napari_pickbias.jobs.outliers import OutlierResult
from napari_pickbias.outliers.verdicts import REASONS
from napari_pickbias.report.outlier_images import (
    average_figure,
    averages,
    example_figure,
    radial_power,
    spectrum_figure,
)
from napari_pickbias.report.palette import REASON_COLORS

Make = Callable[..., OutlierResult]
PIXEL, RADIUS_PX, BOX = 4.0, 8.0, 33


def labelled(axes) -> dict[str, object]:
    return {line.get_label(): line for line in axes.lines if not line.get_label().startswith("_")}


def image_axes(figure: Figure) -> list:
    return [axes for axes in figure.axes if axes.images]


def test_averages_are_sums_over_counts(make_result: Make) -> None:
    group = make_result().groups[0]
    found = averages(group)
    for reason in REASONS:
        np.testing.assert_allclose(found[reason], group.sums[reason].image / group.sums[reason].count)
    total = group.sums["noise"].image + group.sums["partial"].image + group.sums["multiple"].image
    np.testing.assert_allclose(found["rejected"], total / 60)


def test_average_tiles_show_averages_over_their_rim_on_one_grey_scale(make_result: Make) -> None:
    result = make_result()
    group = result.groups[0]
    # An offset of one verdict's images must not change what is seen.
    group.sums["noise"] = replace(group.sums["noise"], image=group.sums["noise"].image + 1000.0 * 30)
    figure = average_figure(result, group)
    assert figure is not None
    tiles = image_axes(figure)
    titles = [axes.get_title() for axes in tiles]
    assert titles == [
        "kept  (n = 120)", "noise  (n = 30)", "partial  (n = 20)", "multiple  (n = 10)", "kept − all rejected",
    ]  # fmt: skip
    y, x = np.mgrid[:BOX, :BOX] - BOX // 2
    rim = np.hypot(y, x) >= 1.3 * RADIUS_PX
    shown = [np.asarray(axes.images[0].get_array()) for axes in tiles]
    found = averages(group)
    for image, reason in zip(shown[:4], REASONS, strict=True):
        np.testing.assert_allclose(image, found[reason] - found[reason][rim].mean(), atol=1e-9)
    np.testing.assert_allclose(shown[4], shown[0] - (found["rejected"] - found["rejected"][rim].mean()), atol=1e-9)
    assert len({axes.images[0].get_clim() for axes in tiles}) == 1
    frames = [axes.spines["left"].get_edgecolor() for axes in tiles[:4]]
    assert frames == [to_rgba(REASON_COLORS[reason]) for reason in REASONS]


def test_radial_profiles_run_in_angstrom_and_start_at_the_centre_pixel(make_result: Make) -> None:
    result = make_result()
    figure = average_figure(result, result.groups[0])
    assert figure is not None
    axes = figure.axes[-1]
    assert axes.get_xlabel() == "distance from the middle of the box (Å)"
    lines = labelled(axes)
    assert list(lines) == [*REASONS, "kept − all rejected"]
    tiles = image_axes(figure)
    kept = np.asarray(tiles[0].images[0].get_array())
    x, values = lines["kept"].get_data()
    np.testing.assert_allclose(x, np.arange(17) * PIXEL)
    assert values[0] == pytest.approx(kept[16, 16])
    ring = np.rint(np.hypot(*np.mgrid[-16:17, -16:17])) == 5
    assert values[5] == pytest.approx(kept[ring].mean())
    dotted = [line for line in axes.lines if line.get_linestyle() == ":" and len(set(line.get_xdata())) == 1]
    assert [line.get_xdata()[0] for line in dotted] == [RADIUS_PX * PIXEL]


def test_averages_of_few_images_set_no_scale(make_result: Make) -> None:
    result = make_result((200, 60, 1, 0))
    group = result.groups[0]
    clean = average_figure(result, group)
    group.sums["partial"] = replace(group.sums["partial"], image=group.sums["partial"].image * 100)
    wild = average_figure(result, group)
    assert clean is not None
    assert wild is not None
    assert clean.axes[-1].get_ylim() == wild.axes[-1].get_ylim()
    assert image_axes(clean)[0].images[0].get_clim() == image_axes(wild)[0].images[0].get_clim()


def test_scale_bar_has_the_length_it_names(make_result: Make) -> None:
    result = make_result()
    figure = average_figure(result, result.groups[0])
    assert figure is not None
    axes = image_axes(figure)[0]
    (bar,) = [line for line in axes.lines if line.get_gid() == "scale-bar"]
    (text,) = [t.get_text() for t in axes.texts]
    assert np.ptp(bar.get_xdata()) * PIXEL == pytest.approx(float(text.removesuffix(" Å")))
    assert text == "20 Å"


@pytest.mark.parametrize(
    ("counts", "titles"),
    [
        ((40, 0, 0, 0), ["kept  (n = 40)"]),
        ((0, 30, 0, 2), ["noise  (n = 30)", "multiple  (n = 2)"]),
        ((1, 0, 0, 0), ["kept  (n = 1)"]),
    ],
)
def test_absent_verdicts_have_no_tile(make_result: Make, counts: tuple[int, ...], titles: list[str]) -> None:
    result = make_result(counts)
    figure = average_figure(result, result.groups[0])
    assert figure is not None
    assert [axes.get_title() for axes in image_axes(figure)] == titles
    figure.draw_without_rendering()


def test_no_averages_nor_spectra_without_finite_images(make_result: Make) -> None:
    result = make_result(finite=False)
    assert average_figure(result, result.groups[0]) is None
    assert spectrum_figure(result, result.groups[0]) is None


@pytest.mark.parametrize("box", [32, 33])
def test_radial_power_equals_a_plain_loop_over_the_full_spectrum(make_result: Make, box: int) -> None:
    rng = np.random.default_rng(4)
    images = rng.standard_normal((5, box, box)) + np.linspace(0, 3, box)
    images -= images.mean(axis=(1, 2), keepdims=True)
    group = make_result().groups[0]
    half = (np.abs(np.fft.rfft2(images)) ** 2).sum(axis=0)
    group = replace(group, sums={"noise": ChunkSums(5, images.sum(axis=0), half)})
    full = (np.abs(np.fft.fft2(images)) ** 2).mean(axis=0) / box**2
    numbers = np.fft.fftfreq(box) * box
    expected = []
    for shell in range(box // 2 + 1):
        values = [
            full[i, j] for i in range(box) for j in range(box) if round(np.hypot(numbers[i], numbers[j])) == shell
        ]
        expected.append(np.mean(values))
    np.testing.assert_allclose(radial_power(group)["noise"], expected, rtol=1e-10, atol=1e-12)


def test_white_noise_has_its_variance_in_every_shell(make_result: Make) -> None:
    power = radial_power(make_result((10, 3000, 0, 0)).groups[0])["noise"]
    # The emptiest shell (4 coefficients, 2 independent ones) averages 6000 exponentials: sd 1.3 %, so 6 % is > 4 sd.
    np.testing.assert_allclose(power[1:], 1.0, atol=0.06)


def test_spectra_lie_at_their_frequencies_with_ticks_in_angstrom(make_result: Make) -> None:
    result = make_result()
    group = result.groups[0]
    figure = spectrum_figure(result, group)
    assert figure is not None
    power, ratio, noise, template = figure.axes
    assert [axes.get_ylabel() for axes in figure.axes] == [
        "power per pixel", "power, rejected / kept", "learned noise (white = 1)", "learned profile (noise SD)",
    ]  # fmt: skip
    assert power.get_yscale() == "log"
    lines = labelled(power)
    assert list(lines) == ["kept  (n = 120)", "noise  (n = 30)", "partial  (n = 20)", "multiple  (n = 10)"]
    found = radial_power(group)
    x, y = lines["noise  (n = 30)"].get_data()
    np.testing.assert_allclose(x, np.arange(1, 17) / (33 * PIXEL))
    np.testing.assert_allclose(y, found["noise"][1:])
    ratios = labelled(ratio)
    assert list(ratios) == ["noise / kept", "partial / kept", "multiple / kept"]
    np.testing.assert_allclose(ratios["noise / kept"].get_ydata(), found["noise"][1:] / found["kept"][1:])
    assert power.get_xlim() == (0, 0.5 / PIXEL)
    (top,) = power.child_axes
    assert top.get_xlabel() == "resolution (Å)"
    ticks = [
        (position, float(t.get_text())) for position, t in zip(top.get_xticks(), top.get_xticklabels(), strict=True)
    ]
    assert len(ticks) >= 4
    assert all(position == pytest.approx(1 / resolution) for position, resolution in ticks)
    np.testing.assert_allclose(noise.lines[0].get_xdata(), np.arange(34) / 66 / PIXEL)
    np.testing.assert_allclose(noise.lines[0].get_ydata(), group.summary["noise_power"])
    np.testing.assert_allclose(template.lines[0].get_xdata(), np.arange(12) * PIXEL)
    np.testing.assert_allclose(template.lines[0].get_ydata(), group.summary["template"])


def test_the_published_method_has_spectra_but_nothing_learned(make_result: Make) -> None:
    result = make_result(method="reference")
    figure = spectrum_figure(result, result.groups[0])
    assert figure is not None
    assert len(figure.axes) == 2


@pytest.mark.parametrize(
    ("counts", "text"), [((50, 0, 0, 0), "nothing was rejected"), ((0, 9, 9, 9), "nothing was kept")]
)
def test_a_ratio_that_cannot_be_formed_says_why(make_result: Make, counts: tuple[int, ...], text: str) -> None:
    result = make_result(counts)
    figure = spectrum_figure(result, result.groups[0])
    assert figure is not None
    assert [t.get_text() for t in figure.axes[1].texts] == [text]


def tile_texts(axes) -> list[str]:
    """Labels above the tiles: row and score."""
    return [t.get_text() for t in axes.texts if t.get_va() == "bottom" and not t.get_text().endswith("Å")]


def test_each_example_is_drawn_with_its_peaks(make_result: Make) -> None:
    result = make_result(examples=3)
    figure = example_figure(result)
    assert figure is not None
    (axes,) = figure.axes
    examples = result.examples
    assert len(axes.images) == len(examples) == 12
    frames = [p for p in axes.patches if isinstance(p, Rectangle)]
    peaks = [line for line in axes.lines if line.get_gid() == "peak+"]
    seconds = [line for line in axes.lines if line.get_gid() == "peakx"]
    for image, frame, peak, label, example in zip(axes.images, frames, peaks, tile_texts(axes), examples, strict=True):
        np.testing.assert_array_equal(np.asarray(image.get_array()), example.image)
        assert label.split() == [str(example.row), f"{example.columns['score']:.2f}"]
        assert frame.get_edgecolor() == to_rgba(REASON_COLORS[example.reason])
        left, right, bottom, top = image.get_extent()
        assert frame.get_xy() == (left, top)
        # From the tile's coordinates back to pixels, whose middles are whole numbers.
        x = (peak.get_xdata()[0] - left) / (right - left) * BOX - 0.5
        y = (peak.get_ydata()[0] - top) / (bottom - top) * BOX - 0.5
        middle = BOX // 2
        assert (x, y) == pytest.approx(
            (middle + example.columns["center_x_px"], middle + example.columns["center_y_px"])
        )
    circles = [p for p in axes.patches if isinstance(p, Circle)]
    assert len(seconds) == 3
    assert len(circles) == 12 + 3
    assert {p.radius for p in circles} == {RADIUS_PX / BOX}
    for line, image in zip(seconds, axes.images[9:], strict=True):
        left, _, _, top = image.get_extent()
        assert line.get_xdata()[0] == pytest.approx(left + (16 - 7 + 0.5) / BOX)
        assert line.get_ydata()[0] == pytest.approx(top + (16 + 9 + 0.5) / BOX)
    assert [t.get_text() for t in axes.texts if t.get_rotation() == 90] == list(REASONS)


def test_tiles_do_not_touch_and_all_can_be_seen(make_result: Make) -> None:
    figure = example_figure(make_result((60, 20, 20, 20), examples=12))
    assert figure is not None
    (axes,) = figure.axes
    corners = np.array([image.get_extent() for image in axes.images])
    assert len(corners) == 48
    assert len({(round(left, 6), round(top, 6)) for left, _, _, top in corners}) == 48
    assert np.diff(np.unique(corners[:, 0])).min() > 1
    assert np.diff(np.unique(corners[:, 3])).min() > 1.1
    low, high = axes.get_xlim()
    assert low < corners[:, 0].min()
    assert high > corners[:, 1].max()
    bottom, top = axes.get_ylim()
    assert top < corners[:, 3].min()
    assert bottom > corners[:, 2].max()


def test_scale_bars_of_examples_have_the_length_they_name(make_result: Make) -> None:
    figure = example_figure(make_result())
    assert figure is not None
    (axes,) = figure.axes
    bars = [line for line in axes.lines if line.get_gid() == "scale-bar"]
    names = [t.get_text() for t in axes.texts if t.get_text().endswith("Å")]
    assert len(bars) == 4
    assert names == ["20 Å"] * 4
    for bar in bars:
        assert np.ptp(bar.get_xdata()) * BOX * PIXEL == pytest.approx(20)


def test_greys_ignore_a_hot_pixel(make_result: Make) -> None:
    result = make_result()
    example = result.examples[0]
    image = example.image.copy()
    image[3, 3] = 1e6
    figure = example_figure(replace(result, examples=[replace(example, image=image)]))
    assert figure is not None
    assert figure.axes[0].images[0].get_clim()[1] < 10


def test_damaged_examples_say_so_and_have_no_marks(make_result: Make) -> None:
    result = make_result(finite=False, examples=1)
    blank = [replace(e, columns=dict.fromkeys(e.columns, float("nan"))) for e in result.examples]
    figure = example_figure(replace(result, examples=blank))
    assert figure is not None
    (axes,) = figure.axes
    assert sum("no finite" in t.get_text() for t in axes.texts) == 4
    assert not [line for line in axes.lines if str(line.get_gid()).startswith("peak")]
    assert tile_texts(axes) == [str(e.row) for e in blank]


def test_examples_of_a_group_are_its_own_rows(make_result: Make) -> None:
    result = make_result(groups=2, examples=2)
    for group in result.groups:
        figure = example_figure(result, group)
        assert figure is not None
        rows = {int(text.split()[0]) for text in tile_texts(figure.axes[0])}
        assert rows <= set(group.group.rows.tolist())
        assert len(rows) == 8


def test_no_example_figure_without_examples(make_result: Make) -> None:
    assert example_figure(replace(make_result(), examples=[])) is None
