"""A curation in napari's canvas: circles that show the verdict, stepping from micrograph to micrograph. No Qt."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
from napari.layers import Image, Layer, Points
from numpy.typing import NDArray

from napari_pickbias.gui.curation import Curation
from napari_pickbias.gui.pick_layers import (
    KEPT_COLOR,
    REJECTED_COLOR,
    SELECTED_COLOR,
    circle_px,
    micrograph_layer,
    micrograph_pixel_size,
    picks_layer,
)
from napari_pickbias.gui.tomogram_layers import places, sphere_px, tomogram_pixel_size, tomogram_points

_COLORS = np.array(
    [[int(c[i : i + 2], 16) / 255 for i in (1, 3, 5)] + [1.0] for c in (REJECTED_COLOR, KEPT_COLOR, SELECTED_COLOR)],
    np.float32,
)
SYMBOLS = ("disc", "diamond", "square")
"""Picks of the file, moved ones, added ones."""
ROLE = "pickbias_curates"
"""Key in the metadata of the layers made here; its value is the file."""


class CurationLayers:
    """The layers of one curation, kept in step with it.

    Parameters
    ----------
    viewer : napari viewer, or its model
    curation : Curation
    source : str
        The file curated.
    diameter_angstrom : float
        Of the circles; 0 guesses.
    on_selected : callable
        Called when the user selects picks in the canvas, after ``curation.selected`` was set.
    on_edited : callable
        Called with a line that says what the user did to picks in the canvas: deleted (which rejects them), moved,
        added, or tried to.
    """

    def __init__(
        self,
        viewer: Any,
        curation: Curation,
        source: str,
        diameter_angstrom: float = 0.0,
        on_selected: Callable[[], None] = lambda: None,
        on_edited: Callable[[str], None] = lambda _line: None,
    ) -> None:
        self.viewer, self.curation, self.source = viewer, curation, source
        self._on_selected, self._on_edited = on_selected, on_edited
        self._busy, self._shown_version = False, curation.places_version
        self.hide_rejected = False
        self.color_by = ""
        self._ranked: tuple[tuple[str, int], NDArray[np.uint8]] = (("", -1), np.empty(0, np.uint8))
        table = curation.table
        in_space = table.z_px is not None
        self.pixel_size = tomogram_pixel_size(table) if in_space else micrograph_pixel_size(table)
        self._diameter_of = sphere_px if in_space else circle_px
        self.diameter_px = self._diameter_of(table, self.pixel_size, diameter_angstrom)
        self.points: Points | None = None
        for layer in [x for x in viewer.layers if x.metadata.get(ROLE) == source]:
            viewer.layers.remove(layer)
        shown = [x for x in viewer.layers if x.metadata.get("micrographs_of") == source]
        self.micrographs: Image | None = shown[0] if shown else None
        if not shown and not in_space:
            made = micrograph_layer(table, source, self.pixel_size)
            if made is not None:
                made[1]["metadata"][ROLE] = source
                self.micrographs = Layer.create(*made)
                viewer.layers.append(self.micrographs)
        for layer in [x for x in viewer.layers if x.metadata.get("picks_of") == source]:
            viewer.layers.remove(layer)  # the same picks without verdicts
        if table.coordinates_px is not None and table.micrograph is not None:
            self._make_points(diameter_angstrom)
            self._thicken()

    def _make_points(self, diameter_angstrom: float) -> None:
        made = tomogram_points if self.curation.table.z_px is not None else picks_layer
        data, show, kind = made(self.curation.table, self.source, self.pixel_size, diameter_angstrom)
        show |= {"features": self._features(), "name": show["name"].replace(": picks", ": curated picks")}
        show["metadata"] |= {ROLE: self.source}
        self.points = Layer.create(data, show, kind)
        self.viewer.layers.append(self.points)
        self.points.selected_data.events.items_changed.connect(self._selection_changed)
        self.points.events.data.connect(self._data_changed)
        self.refresh()

    # -- showing -----------------------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Show the verdicts as they are now."""
        if not self.alive:
            return
        assert self.points is not None
        keep = self.curation.keep
        self._busy = True
        try:
            self._sync()
            if len(self.points.data) != len(keep):
                return  # just losing or gaining points: what follows says which
            if self.color_by:
                self._paint(self._by_column(keep))
            else:
                self._paint(_COLORS[np.where(self.curation.selected, 2, keep.astype(np.int8))])
            shown = keep if self.hide_rejected else np.ones(len(keep), np.bool_)
            if not np.array_equal(shown, self.points.shown):
                self.points.shown = shown
            # Written in place: assigning a whole new table would rebuild every colour and text.
            self.points.features["keep"] = keep
        finally:
            self._busy = False

    def _paint(self, colors: NDArray[np.float32]) -> None:
        """Colour the circles; in place, for a new array makes napari turn the whole table of features into arrays."""
        assert self.points is not None
        shown = self.points.border_color
        if shown.shape == colors.shape and shown.flags.writeable and self.points.border_color_mode == "direct":
            shown[:] = colors
            self.points.events.border_color()
        else:
            self.points.border_color = colors

    def _by_column(self, keep: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Return colours by a column's rank, rejected picks dimmed."""
        key = (self.color_by, self.curation.places_version)
        if key != self._ranked[0]:
            self._ranked = (key, self._levels())
        colors = _turbo()[self._ranked[1]]
        colors[~keep, 3] = 0.3
        colors[self.curation.selected] = _COLORS[2]
        return colors

    def _levels(self) -> NDArray[np.uint8]:
        """Return where each pick's value lies between the column's outermost per cents, 0 to 255."""
        values = self.curation.values(self.color_by)
        low, high = np.nanpercentile(values, (1, 99)) if np.isfinite(values).any() else (0.0, 1.0)
        scaled = np.clip((np.nan_to_num(values, nan=low) - low) / (high - low if high > low else 1.0), 0, 1)
        return np.rint(255 * scaled).astype(np.uint8)

    def set_diameter(self, diameter_angstrom: float) -> None:
        """Draw circles of this diameter."""
        self.diameter_px = self._diameter_of(self.curation.table, self.pixel_size, diameter_angstrom)
        if self.alive:
            assert self.points is not None
            self.points.size = self.diameter_px
            self._thicken()

    def _thicken(self) -> None:
        """In tomograms, show the spheres that a slice cuts, not only those with their middle in it."""
        if self.curation.table.z_px is not None:
            reach = self.diameter_px / 2 * (self.pixel_size or 1.0)
            margin = (0.0,) * (self.viewer.dims.ndim - 3) + (reach, 0.0, 0.0)
            self.viewer.dims.margin_left = self.viewer.dims.margin_right = margin

    @property
    def alive(self) -> bool:
        """Whether the layer of picks is there."""
        return self.points is not None and self.points in self.viewer.layers

    @property
    def micrograph(self) -> int:
        """The micrograph that is shown."""
        return int(self.viewer.dims.current_step[0]) if self.viewer.dims.ndim > 2 else 0

    def go_to_micrograph(self, index: int) -> None:
        """Show a micrograph."""
        count = max(1, len(self.curation.table.micrograph_names))
        self.viewer.dims.set_current_step(0, int(np.clip(index, 0, count - 1)))

    def go_to(self, row: int) -> None:
        """Show a pick: its micrograph, with the pick in the middle."""
        curation = self.curation
        if curation.micrograph is None or curation.coordinates_px is None:
            return
        self.go_to_micrograph(int(curation.micrograph[row]))
        x, y = curation.coordinates_px[row] * (self.pixel_size or 1.0)
        if curation.table.z_px is not None:
            self.viewer.dims.set_point(1, float(curation.table.z_px[row]) * (self.pixel_size or 1.0))
        camera_of(self.viewer).center = (0.0, float(y), float(x))

    # -- what the user does in the canvas ----------------------------------------------------------------------------

    def _selection_changed(self) -> None:
        if self._busy or not self.alive:
            return
        assert self.points is not None
        if len(self.points.data) != len(self.curation):
            return  # just losing or gaining points: the event of their data follows
        chosen = np.fromiter(self.points.selected_data, np.int64)
        self.curation.selected[:] = False
        self.curation.selected[chosen[chosen < len(self.curation)]] = True
        self.refresh()
        self._on_selected()

    def _data_changed(self, event: Any) -> None:
        """Take up what the user did to points: deleting one rejects its pick, which stays."""
        action = str(getattr(event.action, "value", event.action))
        take = {"removed": self._take_removed, "added": self._take_added, "changed": self._take_moved}.get(action)
        if take is not None and not self._busy:
            self._edit(take)

    def _edit(self, take: Callable[[], str]) -> None:
        self._busy = True
        try:
            line = take()
        finally:
            self._busy = False
        self.refresh()
        self._on_edited(line)

    def _take_removed(self) -> str:
        assert self.points is not None
        gone = np.setdiff1d(np.arange(len(self.curation)), self.points.features["row"].to_numpy())
        self._restore()
        self.curation.decide(gone, "rejected")
        return f"{len(gone):,} rejected: deleting a circle rejects its pick, which is not lost."

    def _take_added(self) -> str:
        assert self.points is not None
        new = np.asarray(self.points.data[len(self.curation) :], np.float64)
        if self.curation.fixed:
            self._restore()
            return f"No pick was added: {self.curation.fixed}."
        last = max(0, len(self.curation.table.micrograph_names) - 1)
        self.curation.add(np.clip(np.rint(new[:, 0]), 0, last).astype(np.int64), new[:, :0:-1].round(3))
        self._restore()
        return (
            f"{len(new):,} added (a square), kept. Saving writes a row of its own: what the picks of a micrograph "
            "share, and “not measured” in the other columns."
        )

    def _take_moved(self) -> str:
        assert self.points is not None
        now, before = np.asarray(self.points.data), self._place()
        if now.shape != before.shape:  # somebody set other points altogether
            self._restore()
            return "The layer got other points, which were put back: add, move and delete single picks."
        rows = np.flatnonzero((now != before).any(axis=1))
        if self.curation.fixed:
            self._restore()
            return f"No pick was moved: {self.curation.fixed}."
        self.curation.move(rows, now[rows, :0:-1].astype(np.float64).round(3))
        return f"{len(rows):,} moved (a diamond). Saving writes the new coordinates, every other column as it stands."

    # -- points as the curation has them -----------------------------------------------------------------------------

    def _place(self) -> NDArray[np.float32]:
        """Return micrograph (or tomogram, z), y, x of every pick."""
        curation = self.curation
        assert curation.coordinates_px is not None
        assert curation.micrograph is not None
        if curation.table.z_px is not None:
            return places(curation.table.z_px, curation.micrograph, curation.coordinates_px)
        return np.column_stack([curation.micrograph, curation.coordinates_px[:, ::-1]]).astype(np.float32)

    def _features(self) -> pd.DataFrame:
        features = pd.DataFrame({"row": np.arange(len(self.curation))})
        for name in self.curation.features.columns:
            features[name] = self.curation.features[name].array
        features["keep"] = self.curation.keep
        return features

    def _sync(self) -> None:
        """Bring places and symbols up to date where picks were moved or added, or that was undone."""
        if self._shown_version != self.curation.places_version:
            self._restore()

    def _restore(self) -> None:
        """Give the layer the curation's picks; only while busy, since napari tells of all that as of the user's."""
        assert self.points is not None
        self._shown_version = self.curation.places_version
        place, kept = self._place(), {x for x in self.points.selected_data if x < len(self.curation)}
        self.points.selected_data.clear()
        self.points.data = place.reshape(-1, self.points.ndim)
        self.points.features = self._features()
        self.points.size = self.diameter_px
        symbols = np.array(SYMBOLS)[np.where(self.curation.added, 2, self.curation.moved)]
        self.points.symbol = symbols.tolist() if len(symbols) else "o"
        self.points.selected_data.update(kept)

    def close(self) -> None:
        """Let go of the layers, which stay."""
        if self.points is not None:
            self.points.selected_data.events.items_changed.disconnect(self._selection_changed)
            self.points.events.data.disconnect(self._data_changed)


@lru_cache(maxsize=1)
def _turbo() -> NDArray[np.float32]:
    from napari.utils.colormaps import ensure_colormap

    return np.array(ensure_colormap("turbo").map(np.linspace(0, 1, 256)), np.float32)


def camera_of(viewer: Any) -> Any:
    """Return the camera, wherever this version of napari keeps it."""
    scene = getattr(viewer, "scene", None)
    return viewer.camera if scene is None else scene.camera
