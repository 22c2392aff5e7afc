"""The pages of the report in three dimensions: maps of noise and of picks, half-set FSC, bait and controls."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_pickbias.bias.frc import Null
from napari_pickbias.imaging.fourier import shell_numbers
from napari_pickbias.report.document import Section, Table
from napari_pickbias.report.palette import Theme
from napari_pickbias.report.panels import (
    LABEL_SIZE,
    SMALL_SIZE,
    Panel,
    dress,
    legend,
    resolution_axis,
    robust_range,
    scale_bar,
    show_image,
)

if TYPE_CHECKING:
    from matplotlib.figure import FigureBase

    from napari_pickbias.bias.bait import Omega
    from napari_pickbias.jobs.bias_bait import BaitResult
    from napari_pickbias.jobs.bias_controls import Controls
    from napari_pickbias.jobs.bias_volume import VolumeResult

BLUE, ORANGE, GREEN = "#0072B2", "#D55E00", "#009E73"
COLUMNS = (
    ("template", "template"),
    ("noise", "noise,\nreconstructed"),
    ("picks", "your picks,\nreconstructed"),
    ("noise_removed", "noise,\nbias removed"),
    ("picks_removed", "your picks,\nbias removed"),
    ("unfiltered", "template\nunfiltered"),
)


def volume_section(result: VolumeResult) -> Section:
    """Return the section on maps of the picks."""
    d = result.diagnosis
    text = (
        f"The picks were put back into space at the angles of the templates they matched ({sum(d.picks)} picks, two "
        "random halves), and so were the picks of noise. A map of picked noise is the template's map, and its halves "
        "agree; only what is left when the bias is removed can come from your data. "
        f"{_evidence('Beyond the band', d.beyond)} {_agreement(result)}"
    )
    return Section("In three dimensions", (text,), (_table(result),), (map_panel(result), fsc_panel(result)))


def _evidence(where: str, null: Null) -> str:
    return (
        f"{where}, the bias-removed halves agree to {null.value:.2f}; noise gives {null.null_mean:.2f} ± "
        f"{null.null_sd:.2f}."
    )


def _agreement(result: VolumeResult) -> str:
    d = result.diagnosis
    if not np.isfinite(d.relative_agreement):
        return "There is nothing there that could be compared with the unfiltered template."
    return (
        f"The bias-removed map agrees with the equally treated unfiltered template to {d.agreement.value:.2f} (noise "
        f"{d.agreement.null_mean:.2f} ± {d.agreement.null_sd:.2f}), {d.relative_agreement:.2f} of what it could."
    )


def _table(result: VolumeResult) -> Table:
    d, ml = result.diagnosis, result.likelihood
    header = ("half-set FSC, mean of shells", "plain", "noise, plain", "bias removed", "noise, random places")

    def spread(null: Null) -> str:
        return f"{null.null_mean:.2f} ± {null.null_sd:.2f}"

    rows = (
        (
            "in the template's band", f"{d.plain[0]:.2f}", f"{np.mean(d.twin_plain_inside):.2f}",
            f"{d.inside.value:.2f}", spread(d.inside),
        ),
        ("beyond it", f"{d.plain[1]:.2f}", "–", f"{d.beyond.value:.2f}", spread(d.beyond)),
        ("beyond it, ball of 0.7 diameters", "–", "–", f"{d.small_mask.value:.2f}", spread(d.small_mask)),
        (
            "maximum likelihood, in band", f"{ml.plain:.2f}", f"{ml.twin:.2f}", f"{ml.inside.value:.2f}",
            spread(ml.inside),
        ),
        ("maximum likelihood, beyond", "–", "–", f"{ml.beyond.value:.2f}", spread(ml.beyond)),
    )  # fmt: skip
    title = (
        f"Maximum likelihood: {ml.picks} picks, {ml.rotations} rotations that are not the templates'; its plain map "
        f"correlates with the template's to {ml.template_correlation:.2f}, that of noise to "
        f"{ml.twin_template_correlation:.2f}"
    )
    return Table(title, header, rows, frozenset(header[1:]))


def map_panel(result: VolumeResult) -> Panel:
    """Return central slices of the maps."""
    text = (
        "Central slices along z, y and x. Noise picked with the template gives the template's map (second column); a "
        "good-looking map of your picks (third) proves nothing. Both bias-removed maps share one scale and one weight: "
        "noise is empty there, particles are not."
    )
    return Panel("maps", "What noise gives, and what your picks give, as maps", text, 3.7, partial(_draw_maps, result))


def _draw_maps(result: VolumeResult, figure: FigureBase, theme: Theme) -> None:
    d = result.diagnosis
    size = d.maps["picks"].shape[0]
    removed = [_weighted(d.maps[name], d.fsc_removed) for name in ("noise_removed", "picks_removed")]
    shown = {**d.maps, "noise_removed": removed[0], "picks_removed": removed[1]}
    shared = robust_range(np.stack(removed), 0.5, 99.5)
    grid = figure.subplots(3, len(COLUMNS), squeeze=False)
    for axis, row in enumerate(grid):
        for axes, (name, title) in zip(row, COLUMNS, strict=True):
            volume = np.asarray(shown[name], np.float64)
            image = np.moveaxis(volume, axis, 0)[size // 2]
            limits = shared if name.endswith("removed") else robust_range(volume, 0.5, 99.8)
            show_image(axes, image, limits, theme)
            if axis == 0:
                axes.set_title(title, fontsize=SMALL_SIZE, color=theme.text)
        row[0].set_ylabel(f"along {'zyx'[axis]}", fontsize=SMALL_SIZE, color=theme.text)
    scale_bar(grid[0][0], size, d.pixel_size)


def _weighted(volume: NDArray[np.floating], curve: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weight a map by how reliable each shell of yours is."""
    agreement = np.clip(np.nan_to_num(curve), 0, 1)
    agreement[0] = 0
    weight = np.sqrt(2 * agreement / (1 + agreement))
    numbers = shell_numbers(volume.shape)
    factor = np.where(numbers < len(weight), weight[np.minimum(numbers, len(weight) - 1)], 0.0)
    return np.asarray(np.fft.irfftn(np.fft.rfftn(volume) * factor, s=volume.shape))


def fsc_panel(result: VolumeResult) -> Panel:
    """Return plain and bias-removed half-set FSC beside those of noise."""
    text = (
        "Correlation between the maps of two halves of the picks. Plain (left), halves of picked noise agree as well "
        "as halves of particles within the template's band (grey area). With the bias removed (right), noise that was "
        "picked in the same way (broken lines) stays within the band of random places (orange)."
    )
    return Panel("fsc", "Do the maps of two halves agree?", text, 2.6, partial(_draw_fsc, result))


def _draw_fsc(result: VolumeResult, figure: FigureBase, theme: Theme) -> None:
    left, right = figure.subplots(1, 2, sharey=True)
    d, ml, frame = result.diagnosis, result.likelihood, result.frame
    last = min(frame.bands.beyond.last + 1, len(d.frequency) - 1)
    part = slice(1, last + 1)
    edge = (frame.bands.inside.last + 0.5) / (frame.box * frame.pixel_size)
    x = d.frequency[part]
    for axes, ours, noise, other, title in (
        (left, d.fsc_plain, d.twin_plain, ml.fsc_plain, "plain"),
        (right, d.fsc_removed, d.twin_removed, ml.fsc_removed, "bias removed"),
    ):
        axes.axvspan(0, edge, color=theme.grid, alpha=0.6, linewidth=0, label="template's band")
        for number, curve in enumerate(noise):
            axes.plot(
                x, curve[part], color=ORANGE, linestyle="--", linewidth=0.9, label="noise" if not number else None
            )
        axes.plot(x, other[part], color=GREEN, linewidth=0.9, label="your picks, maximum likelihood")
        axes.plot(x, ours[part], color=BLUE, marker=".", markersize=4, label="your picks, matched angles")
        axes.axhline(0, color=theme.muted, linewidth=0.5)
        axes.set_ylim(-0.5, 1.05)
        dress(axes, theme, x="spatial frequency (1/Å)", y="correlation" if axes is left else "", grid="y")
        resolution_axis(axes, theme, float(d.frequency[last]))
        axes.text(
            0.98, 0.95, title, transform=axes.transAxes, ha="right", va="top", fontsize=LABEL_SIZE, color=theme.text
        )
    right.fill_between(
        x, d.null_low[part], d.null_high[part], color=ORANGE, alpha=0.22, linewidth=0, label="noise, 95 %"
    )
    legend(right, theme, loc="upper right", bbox_to_anchor=(1.0, 0.9))


def bait_section(result: BaitResult) -> Section:
    """Return the section on what came back of a part left out of the templates."""
    bait = result.bait
    header = ("", "your picks", "noise")
    rows = (
        ("Ω: share of the omitted part that is there only with it", _share(bait.omega), _share(bait.noise_omega)),
        ("density of the omitted part over that of the rest", _share(bait.returned), _share(bait.noise_returned)),
    )
    text = (
        f"A part of the map that holds {result.share:.0%} of its mass was left out of the templates, and the picks "
        f"were made again ({result.picks['full']} with the whole map, {result.picks['baited']} with the baited one). "
        "What comes back there cannot come from the templates. Ω is the share of the density in that part that is "
        "there only because the templates had it: 0 none, 1 all. It is no absolute number: noise, treated alike, "
        "gives the value beside it, which is not always 1, and only the difference says something. It is no part of "
        "the verdict."
    )
    title = "95 % intervals from groups of picks"
    return Section("The bait", (text,), (Table(title, header, rows, frozenset(header[1:])),), (bait_panel(result),))


def _share(value: Omega) -> str:
    if not np.isfinite(value.value):
        return "–"
    return f"{value.value:.2f} ({value.low:.2f} to {value.high:.2f})"


def bait_panel(result: BaitResult) -> Panel:
    """Return slices through the omitted part."""
    text = (
        "Slices through the middle of the omitted part: the part, maps of your picks with the whole and with the "
        "baited templates, and the same of noise."
    )
    return Panel("bait", "What comes back of the omitted part", text, 1.7, partial(_draw_bait, result))


def _draw_bait(result: BaitResult, figure: FigureBase, theme: Theme) -> None:
    part = np.asarray(result.maps["omitted"], np.float64)
    level = int(np.argmax(np.maximum(part, 0).sum(axis=(1, 2))))
    names = (
        ("omitted", "left out"), ("full", "your picks,\nwhole map"), ("baited", "your picks,\nbaited"),
        ("noise_full", "noise,\nwhole map"), ("noise_baited", "noise,\nbaited"),
    )  # fmt: skip
    row = figure.subplots(1, len(names))
    for axes, (name, title) in zip(row, names, strict=True):
        volume = np.asarray(result.maps[name], np.float64)
        show_image(axes, volume[level], robust_range(volume, 0.5, 99.8), theme)
        axes.set_title(title, fontsize=SMALL_SIZE, color=theme.text)
    scale_bar(row[0], part.shape[0], result.pixel_size)


def controls_section(controls: Controls) -> Section:
    """Return the section on control templates."""
    header = ("template", "picks", "share of false picks", "beyond the band", "noise gives", "agreement", "verdict")
    rows = tuple(
        (
            row.name, str(row.picks),
            f"{row.rate.value:.0%} ({row.rate.low:.0%} to {row.rate.high:.0%})" if np.isfinite(row.rate.value) else "–",
            _number(row.beyond.value), f"{_number(row.beyond.null_mean)} ± {_number(row.beyond.null_sd)}",
            _number(row.agreement.value), row.verdict,
        )
        for row in controls.rows
    )  # fmt: skip
    text = (
        "The same search with templates that cannot be your particle. A sphere, or the map with its phases scrambled, "
        "finds particles too where there are some: a low share of false picks says that objects are there, not that "
        "they are yours. What should set your template apart is its agreement, beyond the band, with what is left "
        "when the bias is removed. Each row is compared with its own template."
    )
    masks = ""
    one, two = controls.usual_mask, controls.smaller_mask
    if one is not None and two is not None and np.isfinite(one.value) and np.isfinite(two.value):
        masks = (
            "Picks were scored under a mask of the whole box. Averaged under the usual mask, one split into halves "
            f"agrees beyond the band to {one.value:.2f} (noise {one.null_mean:.2f} ± {one.null_sd:.2f}); under a mask "
            f"of 0.7 diameters to {two.value:.2f} (noise {two.null_mean:.2f} ± {two.null_sd:.2f}). Evidence that "
            "vanishes under the smaller mask lies at the rim: edges of neighbours, not the particle."
        )
    paragraphs = (text, masks) if masks else (text,)
    return Section("Controls", paragraphs, (Table("Templates", header, rows, frozenset(header[1:6])),))


def _number(value: float) -> str:
    return f"{value:.2f}" if np.isfinite(value) else "–"
