"""Histograms, bars and thresholds show the numbers of the table, all of them, where they belong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import StepPatch

from napari_pickbias.jobs.outliers import OutlierResult
from napari_pickbias.outliers.verdicts import REASONS
from napari_pickbias.report.outlier_figures import (
    micrograph_counts,
    micrograph_figure,
    reason_codes,
    score_figure,
    verdict_figure,
)
from napari_pickbias.report.palette import DARK, REASON_COLORS

Make = Callable[..., OutlierResult]


def outlines(axes) -> dict[str, np.ndarray]:
    """Counts of each drawn histogram by its label."""
    return {
        p.get_label(): p.get_data()[0] for p in axes.patches if isinstance(p, StepPatch) and p.get_label() in REASONS
    }


def test_verdict_bars_are_the_counts(make_result: Make) -> None:
    figure = verdict_figure(make_result((120, 30, 20, 10)))
    assert isinstance(figure, Figure)
    (axes,) = figure.axes
    assert [bar.get_width() for bar in axes.patches] == [120, 30, 20, 10]
    assert [bar.get_facecolor() for bar in axes.patches] == [to_rgba(REASON_COLORS[r]) for r in REASONS]
    assert [label.get_text() for label in axes.get_yticklabels()] == list(REASONS)
    assert [text.get_text() for text in axes.texts] == ["120  (66.7%)", "30  (16.7%)", "20  (11.1%)", "10  (5.6%)"]
    assert axes.get_xlabel() == "particles"


def test_verdicts_of_one_group_count_its_rows_only(make_result: Make) -> None:
    result = make_result(groups=3)
    widths = [[bar.get_width() for bar in verdict_figure(result, group).axes[0].patches] for group in result.groups]
    codes = reason_codes(result)
    assert widths == [np.bincount(codes[g.group.rows], minlength=4).tolist() for g in result.groups]
    assert np.sum(widths, axis=0).tolist() == [120, 30, 20, 10]


@pytest.mark.parametrize("log", [True, False])
def test_every_score_histogram_holds_every_row(make_result: Make, log: bool) -> None:
    result = make_result()
    figure = score_figure(result, log=log)
    assert figure is not None
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == [
        "against noise", "against a particle off the middle", "against two particles", "against all three: the score",
        "p-value of pure noise", "",
    ]  # fmt: skip
    assert [axes.get_xlabel() for axes in figure.axes[:5]] == ["log-odds"] * 3 + ["score", "p-value"]
    for axes in figure.axes[:5]:
        assert axes.get_ylabel() == "particles"
        assert axes.get_yscale() == ("log" if log else "linear")
        counts = {name: int(values.sum()) for name, values in outlines(axes).items()}
        assert counts == result.counts


def test_thresholds_stand_at_their_values(make_result: Make) -> None:
    result = make_result()
    figure = score_figure(result)
    assert figure is not None
    lines = [[line.get_xdata()[0] for line in axes.lines] for axes in figure.axes[:5]]
    assert lines == [[2.5], [0.0], [0.0], [], [pytest.approx(np.log10(0.02))]]
    for axes, values in zip(figure.axes[:5], lines, strict=True):
        low, high = axes.get_xlim()
        assert all(low < value < high for value in values)
    # The ticks of the p-value axis name the values at which they stand.
    axes = figure.axes[4]
    assert [10.0**x for x in axes.get_xticks()] == pytest.approx([float(t.get_text()) for t in axes.get_xticklabels()])


def test_values_far_out_are_counted_in_the_outermost_bins(make_result: Make) -> None:
    result = make_result((1200, 300, 200, 100))
    result.table.loc[0, "log_odds_noise"] = -1e9
    result.table.loc[1, "log_odds_noise"] = 1e9
    figure = score_figure(result)
    assert figure is not None
    axes = figure.axes[0]
    assert axes.get_xlim()[0] > -100
    assert axes.get_xlim()[1] < 100
    assert sum(values.sum() for values in outlines(axes).values()) == len(result.table)


def test_rows_without_a_score_are_left_out_and_said(make_result: Make) -> None:
    result = make_result()
    result.table.loc[:4, ["score", "log_odds_noise", "log_odds_partial", "log_odds_multiple"]] = np.nan
    figure = score_figure(result)
    assert figure is not None
    assert sum(values.sum() for values in outlines(figure.axes[0]).values()) == len(result.table) - 5
    assert "5 constant or damaged images" in figure.axes[5].get_legend().get_title().get_text()


def test_the_score_of_one_group_has_its_own_threshold(make_result: Make) -> None:
    result = make_result(groups=2)
    result.groups[1].summary["c_noise"] = 4.25
    figure = score_figure(result, result.groups[1])
    assert figure is not None
    assert figure.axes[0].lines[0].get_xdata()[0] == 4.25
    rows = result.groups[1].group.rows
    assert sum(values.sum() for values in outlines(figure.axes[0]).values()) == len(rows)


def test_no_score_figure_for_the_published_method(make_result: Make) -> None:
    assert score_figure(make_result(method="reference")) is None


def test_one_particle_has_a_histogram(make_result: Make) -> None:
    figure = score_figure(make_result((1, 0, 0, 0)))
    assert figure is not None
    assert outlines(figure.axes[0])["kept"].sum() == 1


def test_reasons_as_plain_text_count_alike(make_result: Make) -> None:
    result = make_result()
    table = result.table.assign(reason=result.table["reason"].astype(str))
    np.testing.assert_array_equal(reason_codes(replace(result, table=table)), reason_codes(result))


def test_theme_colours_the_figure(make_result: Make) -> None:
    figure = verdict_figure(make_result(), theme=DARK)
    assert figure.get_facecolor() == to_rgba(DARK.background)
    assert figure.axes[0].get_facecolor() == to_rgba(DARK.background)
    assert to_rgba(figure.axes[0].xaxis.label.get_color()) == to_rgba(DARK.text)


def test_micrographs_are_counted_as_pandas_does_and_sorted_by_loss(make_result: Make) -> None:
    result = make_result(micrographs=8)
    found = micrograph_counts(result)
    assert found is not None
    names, counts = found
    cross = pd.crosstab(result.table["micrograph"], result.table["reason"])[list(REASONS)]
    for name, row in zip(names, counts, strict=True):
        assert row.tolist() == cross.loc[name].tolist()
    share = 1 - counts[:, 0] / counts.sum(axis=1)
    assert (np.diff(share) <= 0).all()
    assert counts.sum() == len(result.table)


def test_few_micrographs_are_drawn_one_by_one(make_result: Make) -> None:
    result = make_result(micrographs=8)
    figure = micrograph_figure(result)
    assert figure is not None
    (axes,) = figure.axes
    names, counts = micrograph_counts(result)  # type: ignore[misc]
    assert [label.get_text() for label in axes.get_yticklabels()] == [name.split("/")[1] for name in names]
    drawn = np.array([[bar.get_width() for bar in container] for container in axes.containers]).T
    np.testing.assert_array_equal(drawn, counts)
    ends = [bar.get_x() + bar.get_width() for bar in axes.containers[-1]]
    assert ends == counts.sum(axis=1).tolist()


def test_many_micrographs_become_a_histogram_and_the_worst(make_result: Make) -> None:
    result = make_result((900, 200, 100, 50), micrographs=70)
    figure = micrograph_figure(result)
    assert figure is not None
    left, right = figure.axes
    (steps,) = [p for p in left.patches if isinstance(p, StepPatch)]
    assert steps.get_data()[0].sum() == result.table["micrograph"].nunique() == 70
    assert left.lines[0].get_xdata()[0] == pytest.approx(350 / 1250)
    assert left.get_xlabel() == "share of particles rejected"
    names, counts = micrograph_counts(result)  # type: ignore[misc]
    enough = np.flatnonzero(counts.sum(axis=1) >= 10)[:20]
    labels = [label.get_text() for label in right.get_yticklabels()]
    assert labels == [names[i].split("/")[1] for i in enough]


def test_no_micrograph_figure_without_micrographs(make_result: Make) -> None:
    assert micrograph_figure(make_result(micrographs=0)) is None


def test_micrograph_names_are_shortened_and_never_read_as_formulas(make_result: Make) -> None:
    result = make_result(micrographs=0)
    long = "a$b_$c{" + "x" * 300 + "_end.mrc"
    result.table.insert(0, "micrograph", long)
    figure = micrograph_figure(result)
    assert figure is not None
    (label,) = [t for t in figure.axes[0].get_yticklabels() if t.get_text()]
    assert label.get_text().startswith("a$b_$c{")
    assert label.get_text().endswith("_end.mrc")
    assert len(label.get_text()) == 44
    figure.draw_without_rendering()  # a formula with errors would raise


def test_a_million_rows_draw(make_result: Make) -> None:
    small = make_result()
    rng = np.random.default_rng(1)
    rows = rng.integers(0, len(small.table), 1_000_000)
    table = small.table.iloc[rows].reset_index(drop=True)
    group = replace(small.groups[0], group=replace(small.groups[0].group, rows=np.arange(len(table))))
    result = replace(small, table=table, groups=[group])
    figure = score_figure(result)
    assert figure is not None
    assert sum(values.sum() for values in outlines(figure.axes[3]).values()) == 1_000_000
    # Histograms only: nothing in the figure grows with the rows.
    assert max(len(p.get_data()[0]) for axes in figure.axes for p in axes.patches) < 100
