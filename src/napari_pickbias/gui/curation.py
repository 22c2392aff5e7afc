"""Choosing among picks: ranges of scores, decisions by hand, picks moved and added, a selection, undo and redo. No Qt.

A pick is kept when it lies within every range, unless it was kept or rejected by hand, which counts more. Nothing is
ever deleted: both sets are written, and the decisions can be read back (:mod:`napari_pickbias.gui.curation_files`).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from napari_pickbias.gui.curation_rows import with_added, with_coordinates
from napari_pickbias.records.pick_edits import PickEdits
from napari_pickbias.records.pick_tables import PickTable

MOST_STEPS = 200
"""Steps that can be undone."""
BY_HAND = {"rejected": -1, "undecided": 0, "kept": 1}

Mask = NDArray[np.bool_]
Rows = NDArray[np.int64]


class Moved(NamedTuple):
    """Picks that got other coordinates (x, y in micrograph pixels)."""

    rows: Rows
    before: NDArray[np.float64]
    after: NDArray[np.float64]


class Added(NamedTuple):
    """Picks that became the last rows."""

    micrograph: NDArray[np.int64]
    coordinates_px: NDArray[np.float64]


class Step(NamedTuple):
    """One step of the history: which decisions, range or places it changed, before and after."""

    what: str
    rows: Rows
    before: NDArray[np.int8]
    after: NDArray[np.int8]
    column: str = ""
    range_before: tuple[float, float] | None = None
    range_after: tuple[float, float] | None = None
    moved: Moved | None = None
    added: Added | None = None


_NONE = np.empty(0, np.int64), np.empty(0, np.int8), np.empty(0, np.int8)


class Curation:
    """The picks of a file, and which of them are kept.

    Parameters
    ----------
    table : PickTable
        From :func:`napari_pickbias.records.pick_tables.open_picks`.
    columns : DataFrame, optional
        More columns, one row a pick, such as the scores of a job; they replace the file's of the same name.
    rejected : ndarray of bool, optional
        Picks that a job rejects: the decisions to start from.

    Attributes
    ----------
    features : DataFrame
    by_hand : ndarray of int8, shape (n,)
        1 kept, -1 rejected, 0 left to the ranges.
    ranges : dict
        Column to (low, high), both ends within.
    selected : ndarray of bool, shape (n,)
        What the next "keep" or "reject" is about; no part of the history.
    flagged : ndarray of bool
        Micrographs that the user wants to come back to; no part of the history.
    file_rows : int
        Rows of the file; those after them were added by hand.
    micrograph, coordinates_px : ndarray, shapes (n,) and (n, 2), or None
        As in the table, with picks moved and added by hand.
    places_version : int
        Rises whenever picks are moved, added, or that is undone.
    """

    def __init__(self, table: PickTable, columns: pd.DataFrame | None = None, rejected: Mask | None = None) -> None:
        self.table = table
        self.features = table.features.copy()
        for name in [] if columns is None else columns.columns:
            self.features[name] = columns[name].to_numpy() if columns[name].dtype != "category" else columns[name].array
        self.file_rows = count = len(table)
        self.micrograph, self.coordinates_px = table.micrograph, table.coordinates_px
        self.places_version = 0
        self.by_hand = np.zeros(count, np.int8)
        if rejected is not None:
            self.by_hand[rejected] = BY_HAND["rejected"]
        self.ranges: dict[str, tuple[float, float]] = {}
        self.flagged = np.zeros(max(1, len(table.micrograph_names)), np.bool_)
        self.selected = np.zeros(count, np.bool_)
        self._done: list[Step] = []
        self._undone: list[Step] = []
        self._within: dict[str, Mask] = {}

    def __len__(self) -> int:
        return len(self.by_hand)

    def snapshot(self) -> Curation:
        """Return a copy that later changes leave alone: what is saved while the user goes on."""
        copied = Curation.__new__(Curation)
        copied.__dict__ |= self.__dict__
        copied.by_hand, copied.selected = self.by_hand.copy(), self.selected.copy()
        copied.flagged = self.flagged.copy()
        copied.ranges, copied._within = dict(self.ranges), dict(self._within)
        copied._done, copied._undone = [], []
        return copied

    # -- what is there ---------------------------------------------------------------------------------------------

    @property
    def keep(self) -> Mask:
        """``(n,)`` whether each pick is kept."""
        within = np.ones(len(self), np.bool_)
        for inside in self._within.values():
            within &= inside
        return np.asarray(np.where(self.by_hand == 0, within, self.by_hand > 0))

    def numeric_columns(self) -> list[str]:
        """Return the columns that a range can be set on: numbers of which at least two differ; scores come first."""
        names = []
        for name in self.features.columns:
            column = self.features[name]
            if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
                values = column.to_numpy()
                finite = values[np.isfinite(values.astype(np.float64))]
                if finite.size and finite.min() < finite.max():
                    names.append(str(name))
        return sorted(names, key=_rank)

    def values(self, column: str) -> NDArray[np.float64]:
        """Return a numeric column; RELION's filler -999 counts as "not measured" beside other values."""
        values = self.features[column].to_numpy().astype(np.float64)
        filler = values == -999
        return np.where(filler, np.nan, values) if filler.any() and not filler.all() else values

    def extent(self, column: str) -> tuple[float, float]:
        """Return the least and largest finite value of a column."""
        values = self.values(column)
        values = values[np.isfinite(values)]
        return (float(values.min()), float(values.max())) if values.size else (0.0, 1.0)

    def counts(self) -> pd.DataFrame:
        """Return one row per micrograph: ``name``, ``picks``, ``kept``, ``flag``."""
        names = self.table.micrograph_names or ("all",)
        codes = self.micrograph if self.micrograph is not None else np.zeros(len(self), np.int64)
        total = np.bincount(codes, minlength=len(names))
        kept = np.bincount(codes[self.keep], minlength=len(names))
        return pd.DataFrame({"name": names, "picks": total, "kept": kept, "flag": self.flagged.copy()})

    def order(self, column: str, *, descending: bool = False, seed: int | None = None) -> Rows:
        """Return the rows sorted by a column (those without a value last), or at random with ``seed``."""
        if seed is not None:
            return np.random.default_rng(seed).permutation(len(self))
        if not pd.api.types.is_numeric_dtype(self.features[column]):
            return np.asarray(self.features[column].astype(str).argsort(kind="stable"), np.int64)
        values = self.values(column)
        return np.argsort(-values if descending else values, kind="stable")

    # -- changing --------------------------------------------------------------------------------------------------

    def set_range(self, column: str, limits: tuple[float, float] | None) -> bool:
        """Set the range of a column (None takes it away); tell whether anything changed.

        A pick without a value there is outside. Steps on the same column right after one another count as one.
        """
        before = self.ranges.get(column)
        if limits is not None:
            low, high = self.extent(column)
            limits = None if limits[0] <= low and limits[1] >= high else (float(limits[0]), float(limits[1]))
        if limits == before:
            return False
        last = self._done[-1] if self._done and not self._undone else None
        if last is not None and last.column == column:
            self._done.pop()
            before = last.range_before
        self._apply_range(column, limits)
        self._remember(Step(f"range of {column}", *_NONE, column, before, limits))
        return True

    def decide(self, rows: Rows | Mask, decision: str) -> bool:
        """Mark rows "kept", "rejected" or "undecided" by hand; tell whether anything changed."""
        rows = np.flatnonzero(rows) if np.asarray(rows).dtype == np.bool_ else np.asarray(rows, np.int64)
        rows = rows[self.by_hand[rows] != BY_HAND[decision]]
        if not len(rows):
            return False
        before = self.by_hand[rows].copy()
        after = np.full(len(rows), BY_HAND[decision], np.int8)
        self.by_hand[rows] = after
        self._remember(Step(f"{len(rows):,} {decision}", rows, before, after))
        return True

    # -- picks moved and added by hand -------------------------------------------------------------------------------

    @property
    def fixed(self) -> str:
        """Why picks cannot be moved or added here; empty where they can."""
        if self.coordinates_px is None or self.micrograph is None:
            return "the file has no coordinates of picks"
        if self.table.z_px is not None:
            return "picks in tomograms stay where they are"
        if self.table.has_images:
            return "the file lists extracted particles, whose images belong to their places"
        return ""

    @property
    def added(self) -> Mask:
        """``(n,)`` whether each pick was added by hand."""
        return np.arange(len(self)) >= self.file_rows

    @property
    def moved(self) -> Mask:
        """``(n,)`` whether each pick of the file was moved by hand."""
        found = np.zeros(len(self), np.bool_)
        if self.coordinates_px is not None and self.coordinates_px is not self.table.coordinates_px:
            assert self.table.coordinates_px is not None
            found[: self.file_rows] = (self.coordinates_px[: self.file_rows] != self.table.coordinates_px).any(axis=1)
        return found

    def edits(self, chosen: Mask | None = None) -> PickEdits:
        """Return what was moved and added; of the added picks only those in ``chosen``."""
        if self.coordinates_px is None or self.micrograph is None:
            return PickEdits()
        moved = np.flatnonzero(self.moved)
        added = np.flatnonzero(self.added if chosen is None else self.added & chosen)
        return PickEdits(moved, self.coordinates_px[moved], self.micrograph[added], self.coordinates_px[added])

    def move(self, rows: Rows, coordinates_px: NDArray[np.float64]) -> bool:
        """Give picks other coordinates (x, y); tell whether anything changed. Needs that nothing is :attr:`fixed`."""
        assert self.coordinates_px is not None
        before = self.coordinates_px[rows]
        differ = (before != coordinates_px).any(axis=1)
        if not differ.any():
            return False
        step = Moved(np.asarray(rows)[differ], before[differ], np.asarray(coordinates_px)[differ])
        self._place(step.rows, step.after)
        self._remember(Step(f"{len(step.rows):,} moved", *_NONE, moved=step))
        return True

    def add(self, micrograph: NDArray[np.int64], coordinates_px: NDArray[np.float64]) -> None:
        """Add picks as last rows, kept by hand; deleting one later rejects it. Needs that nothing is :attr:`fixed`."""
        added = Added(np.asarray(micrograph, np.int64), np.asarray(coordinates_px, np.float64))
        self._append(added)
        self._remember(Step(f"{len(added.micrograph):,} added", *_NONE, added=added))

    def forget_edits(self) -> None:
        """Put every pick back and drop the added ones, with the whole history."""
        self._drop_last(len(self) - self.file_rows)
        rows = np.flatnonzero(self.moved)
        assert self.table.coordinates_px is not None
        self._place(rows, self.table.coordinates_px[rows])
        self._done.clear()
        self._undone.clear()

    def _place(self, rows: Rows, coordinates_px: NDArray[np.float64]) -> None:
        # New arrays, never old ones changed: snapshots and running jobs hold those.
        assert self.coordinates_px is not None
        self.coordinates_px = self.coordinates_px.copy()
        self.coordinates_px[rows] = coordinates_px
        self._follow_places()

    def _append(self, added: Added) -> None:
        assert self.micrograph is not None
        assert self.coordinates_px is not None
        count = len(added.micrograph)
        self.features = with_added(self.features, self.micrograph, self.file_rows, added.micrograph)
        self.micrograph = np.concatenate([self.micrograph, added.micrograph])
        self.coordinates_px = np.concatenate([self.coordinates_px, added.coordinates_px])
        self.by_hand = np.concatenate([self.by_hand, np.full(count, BY_HAND["kept"], np.int8)])
        self.selected = np.concatenate([self.selected, np.zeros(count, np.bool_)])
        self._follow_places()

    def _drop_last(self, count: int) -> None:
        assert self.micrograph is not None
        assert self.coordinates_px is not None
        left = len(self) - count
        self.features = self.features.iloc[:left]
        self.micrograph, self.coordinates_px = self.micrograph[:left], self.coordinates_px[:left]
        self.by_hand, self.selected = self.by_hand[:left], self.selected[:left]
        self._follow_places()

    def _follow_places(self) -> None:
        assert self.coordinates_px is not None
        if self.table.coordinate_columns:
            self.features = with_coordinates(self.features, self.table.coordinate_columns, self.coordinates_px)
        for column, limits in list(self.ranges.items()):
            self._apply_range(column, limits)
        self.places_version += 1

    # -- selecting, undo, redo ---------------------------------------------------------------------------------------

    def flag(self, micrograph: int) -> None:
        """Flag a micrograph, or take its flag away."""
        self.flagged[micrograph] ^= True

    def toggle(self, row: int) -> None:
        """Turn one pick's verdict round."""
        self.decide(np.array([row]), "rejected" if self.keep[row] else "kept")

    def select(self, how: str, column: str = "", value: float = 0.0) -> None:
        """Change the selection.

        ``how`` is "all", "none", "invert", "kept", "rejected", "flagged" (picks of flagged micrographs), "above" or
        "below" a value of a column.
        """
        if how == "all":
            self.selected[:] = True
        elif how == "none":
            self.selected[:] = False
        elif how == "invert":
            self.selected = ~self.selected
        elif how in ("kept", "rejected"):
            self.selected = self.keep if how == "kept" else ~self.keep
        elif how == "flagged":
            self.selected = np.zeros(len(self), np.bool_) if self.micrograph is None else self.flagged[self.micrograph]
        elif how in ("above", "below"):
            values = self.values(column)
            self.selected = values > value if how == "above" else values < value
        else:
            raise ValueError(f"no way to select is called {how}")

    def undo(self) -> str:
        """Take the last step back and return what it was; empty where there is none."""
        if not self._done:
            return ""
        step = self._done.pop()
        self._undone.append(step)
        if step.added is not None:
            self._drop_last(len(step.added.micrograph))
        if step.moved is not None:
            self._place(step.moved.rows, step.moved.before)
        self.by_hand[step.rows] = step.before
        if step.column:
            self._apply_range(step.column, step.range_before)
        return step.what

    def redo(self) -> str:
        """Take the last undone step again and return what it was; empty where there is none."""
        if not self._undone:
            return ""
        step = self._undone.pop()
        self._done.append(step)
        if step.added is not None:
            self._append(step.added)
        if step.moved is not None:
            self._place(step.moved.rows, step.moved.after)
        self.by_hand[step.rows] = step.after
        if step.column:
            self._apply_range(step.column, step.range_after)
        return step.what

    @property
    def can_undo(self) -> bool:
        """Whether there is a step to take back."""
        return bool(self._done)

    @property
    def can_redo(self) -> bool:
        """Whether there is a step to take again."""
        return bool(self._undone)

    def _remember(self, step: Step) -> None:
        self._done.append(step)
        del self._done[:-MOST_STEPS]
        self._undone.clear()

    def _apply_range(self, column: str, limits: tuple[float, float] | None) -> None:
        if limits is None:
            self.ranges.pop(column, None)
            self._within.pop(column, None)
            return
        self.ranges[column] = limits
        values = self.values(column)
        self._within[column] = (values >= limits[0]) & (values <= limits[1])


def _rank(name: str) -> int:
    """Return how likely a column is what one chooses by: a job's score, the picker's score, probabilities, the rest."""
    lowered = name.lower()
    likely = (("outlier score",), ("score", "merit", "fom"), ("q_value", "qvalue", "p_value", "pvalue", "ncc", "prob"))
    return next((k for k, words in enumerate(likely) if any(word in lowered for word in words)), len(likely))
