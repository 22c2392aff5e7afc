"""The report of soft modes: how far the map can be trusted, where, and why not."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_pickbias.report.document import Document, Fact, Section, Table
from napari_pickbias.report.provenance import input_table, parameter_table, program_name, run_table

if TYPE_CHECKING:
    from matplotlib.figure import FigureBase

    from napari_pickbias.jobs.softmodes import SoftmodesResult
    from napari_pickbias.report.palette import Theme
    from napari_pickbias.report.panels import Panel

SHOWN_MODES = 3
BLUE, ORANGE = "#0072B2", "#E69F00"


def write_softmodes_report(
    result: SoftmodesResult, summary: Mapping[str, Any], directory: Path, report_name: str = "report"
) -> dict[str, Path]:
    """Write ``report.html`` and ``<report_name>.pdf`` into ``directory``, each whole or not at all.

    Raises
    ------
    InputError
        When a file cannot be written.
    """
    from napari_pickbias.report.html import write_html
    from napari_pickbias.report.pdf import write_pdf

    document = softmodes_document(result, summary)
    files = {"html": Path(directory) / "report.html", "pdf": Path(directory) / f"{report_name}.pdf"}
    write_html(document, files["html"])
    write_pdf(document, files["pdf"])
    return files


def softmodes_document(result: SoftmodesResult, summary: Mapping[str, Any]) -> Document:
    """Return the report of soft modes, its figures not yet drawn."""
    found = result.found
    inputs = list(summary.get("inputs", []))
    softest = found.eigenvalues[0]
    left = softest / max(float(found.known_pose_eigenvalues[0]), 1e-300)
    why = "the freedom of the poses" if left < 0.5 else "the coverage of views and the CTF"
    return Document(
        title="Soft modes",
        subtitle=PurePath(str(inputs[0]["path"])).name if inputs else "a map from memory",
        headline=(
            f"Along its softest direction the map keeps {softest:.2g} of the information of an ideal data set, limited "
            f"by {why}; a change of {found.amplitude_fraction[0]:.2%} of the map would pass unnoticed."
        ),
        program=program_name(summary),
        warnings=tuple(result.warnings),
        facts=(
            Fact("Softest eigenvalue", f"{softest:.3g}", "1: uniform views, known poses, CTF 1"),
            Fact("with known poses", f"{found.known_pose_eigenvalues[0]:.3g}", "small: views are missing along it"),
            Fact("Amplitude", f"{found.amplitude_fraction[0]:.2%}", "of the map, at odds of 20 to 1"),
            Fact("Pose change", f"{found.pose_change_deg[0]:.2g}°", "root mean square, at that amplitude"),
            Fact(
                "Valid",
                "yes" if found.valid.all() else "not for all modes",
                "poses fitted anew at the full amplitude lose what the eigenvalue predicts, within 20 %",
            ),
        ),
        reading=(
            "A soft mode is a change of the map that its images can hardly tell from the map itself, once every "
            "particle may settle into the pose that suits the changed map best. The maps mode_NN_plus and "
            "mode_NN_minus are the two ends of what a likelihood ratio of 20 to 1 still accepts: features that differ "
            "between them are not determined by the data.",
            "Two things make a mode soft: missing views (its value is small with known poses too) and coupled poses "
            "(its value is small only when poses are free). More views mend the first; a tighter mask, or other views, "
            "mend the second. The images themselves were not read: what does not fit the model is not seen here.",
        ),
        sections=(
            Section("Spectrum", tables=(_table(result),), panels=(_spectrum_panel(result), _view_panel(result))),
            Section("Where", panels=(_slice_panel(result),)),
        ),
        appendix=(parameter_table(result.parameters), input_table(inputs), run_table(summary)),
        raw=json.dumps(summary.get("results", {}), indent=2, ensure_ascii=False),
    )


def _table(result: SoftmodesResult) -> Table:
    found = result.found
    header = ("mode", "eigenvalue", "known poses", "residual", "amplitude", "pose change", "likelihood ratio", "valid")
    rows = tuple(
        (
            str(i + 1),
            f"{found.eigenvalues[i]:.4g}",
            f"{found.known_pose_eigenvalues[i]:.4g}",
            f"{found.residuals[i]:.1e}",
            f"{found.amplitude_fraction[i]:.2%}",
            f"{found.pose_change_deg[i]:.2g}°",
            f"{found.misfit_ratio[i, 0]:.2f} / {found.misfit_ratio[i, 1]:.2f}",
            "yes" if found.valid[i] else "no",
        )
        for i in range(len(found.eigenvalues))
    )
    return Table("Modes", header, rows, frozenset(header[1:-1]))


def _spectrum_panel(result: SoftmodesResult) -> Panel:
    from napari_pickbias.report.panels import Panel

    text = (
        "Information along each mode as a share of an ideal data set's. The distance between the two marks of a mode "
        "is what not knowing the poses costs."
    )
    return Panel("spectrum", "Eigenvalues", text, 2.6, partial(_draw_spectrum, result))


def _draw_spectrum(result: SoftmodesResult, figure: FigureBase, theme: Theme) -> None:
    from napari_pickbias.report.panels import dress, legend, whole_numbers

    axes = figure.subplots()
    found = result.found
    number = np.arange(1, len(found.eigenvalues) + 1)
    axes.vlines(number, found.eigenvalues, found.known_pose_eigenvalues, color=theme.grid)
    axes.plot(number, found.known_pose_eigenvalues, "o", color=ORANGE, label="poses known")
    axes.plot(number, found.eigenvalues, "s", color=BLUE, label="poses free")
    if result.added is not None:
        axes.plot(number, result.added.eigenvalues, "^", color=theme.muted, label="poses free, views added")
    axes.set_yscale("log")
    whole_numbers(axes, "x")
    dress(axes, theme, x="mode", y="information per image", grid="y")
    legend(axes, theme)


def _view_panel(result: SoftmodesResult) -> Panel:
    from napari_pickbias.report.panels import Panel

    text = (
        "Viewing directions (opposite ones are the same view), coloured by the turn that follows mode 1 at its full "
        "amplitude; the lines show where the direction moves, drawn ten times as long."
    )
    return Panel("views", "Views and how they would turn", text, 3.4, partial(_draw_views, result))


def _draw_views(result: SoftmodesResult, figure: FigureBase, theme: Theme) -> None:
    from napari_pickbias.report.panels import dress

    rows = np.linspace(0, len(result.rotations) - 1, min(600, len(result.rotations))).astype(int)
    rotations = result.rotations[rows]
    turn = result.found.pose_change[0, rows, :3]
    direction = rotations[:, 2]
    # the rotation exp(-[w]) R has the last row R^T exp([w]) z
    moved = np.einsum("jba,jb->ja", rotations, np.cross(turn, [0.0, 0.0, 1.0]))
    flip = np.where(direction[:, 2:] < 0, -1, 1)
    direction, moved = direction * flip, moved * flip
    # Lambert's map keeps areas: the density of points is that of the views.
    scale = 1 / np.sqrt(1 + direction[:, 2:])
    place = direction[:, :2] * scale
    end = (direction + 10 * moved)[:, :2] * scale
    axes = figure.subplots()
    axes.plot(*np.stack([place, end], axis=1).transpose(2, 1, 0), color=theme.muted, linewidth=0.4, zorder=1)
    points = axes.scatter(*place.T, c=np.degrees(np.linalg.norm(turn, axis=1)), s=7, cmap="viridis", zorder=2)
    circle = np.linspace(0, 2 * np.pi, 200)
    axes.plot(np.cos(circle), np.sin(circle), color=theme.muted, linewidth=0.8)
    axes.set_aspect("equal")
    axes.set_xlim(-1.15, 1.15)
    axes.set_ylim(-1.15, 1.15)
    dress(axes, theme, x="x (pole in the middle, equator on the rim)", y="y")
    bar = figure.colorbar(points, ax=axes, shrink=0.8)
    bar.set_label("turn, degrees", color=theme.text)
    bar.ax.tick_params(colors=theme.text)


def _slice_panel(result: SoftmodesResult) -> Panel:
    from napari_pickbias.report.panels import Panel

    shown = min(SHOWN_MODES, len(result.found.modes))
    text = (
        "Central sections across z, y and x (rows of mrc files: up). First the map, then its uncertainty, then the "
        "softest modes: red and blue change in opposite ways."
    )
    return Panel(
        "sections", "Map, uncertainty and modes", text, 1.6 * (shown + 2), partial(_draw_slices, result, shown)
    )


def _draw_slices(result: SoftmodesResult, shown: int, figure: FigureBase, theme: Theme) -> None:
    found = result.found
    volumes = [result.volume, found.uncertainty, *found.modes[:shown]]
    names = ["map", "uncertainty", *(f"mode {i + 1}" for i in range(shown))]
    grid = figure.subplots(len(volumes), 3, squeeze=False)
    middle = result.box_px // 2
    for row, volume, name in zip(grid, volumes, names, strict=True):
        signed = name.startswith("mode")
        top = float(np.abs(volume).max()) or 1.0
        for axes, section in zip(row, (volume[middle], volume[:, middle], volume[:, :, middle]), strict=True):
            low = -top if signed else (0.0 if name == "uncertainty" else float(volume.min()))
            colours = "RdBu_r" if signed else "gray"
            axes.imshow(section, origin="lower", cmap=colours, vmin=low, vmax=top, interpolation="nearest")
            axes.set_xticks([])
            axes.set_yticks([])
        row[0].set_ylabel(name, color=theme.text, fontsize=7.5)
