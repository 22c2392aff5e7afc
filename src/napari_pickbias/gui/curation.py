"""Choosing among picks: ranges of scores, decisions by hand, a selection, undo and redo, saving and reloading. No Qt.

A pick is kept when it lies within every range, unless it was kept or rejected by hand, which counts more. Nothing is
ever deleted: both sets are written, and the decisions can be read back.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from napari_pickbias import __version__
from napari_pickbias.errors import InputError
from napari_pickbias.records.atomic import write_text
from napari_pickbias.records.pick_tables import PickSource, PickTable

FORMAT = 1
MOST_STEPS = 200
"""Steps that can be undone."""
BY_HAND = {"rejected": -1, "undecided": 0, "kept": 1}

Mask = NDArray[np.bool_]
Rows = NDArray[np.int64]


class Step(NamedTuple):
    """One step of the history: which decisions and which range it changed, before and after."""

    what: str
    rows: Rows
    before: NDArray[np.int8]
    after: NDArray[np.int8]
    column: str = ""
    range_before: tuple[float, float] | None = None
    range_after: tuple[float, float] | None = None


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
    """

    def __init__(self, table: PickTable, columns: pd.DataFrame | None = None, rejected: Mask | None = None) -> None:
        self.table = table
        self.features = table.features.copy()
        for name in [] if columns is None else columns.columns:
            self.features[name] = columns[name].to_numpy() if columns[name].dtype != "category" else columns[name].array
        count = len(table)
        self.by_hand = np.zeros(count, np.int8)
        if rejected is not None:
            self.by_hand[rejected] = BY_HAND["rejected"]
        self.ranges: dict[str, tuple[float, float]] = {}
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
        """Return one row per micrograph: ``name``, ``picks``, ``kept``."""
        names = self.table.micrograph_names or ("all",)
        codes = self.table.micrograph if self.table.micrograph is not None else np.zeros(len(self), np.int64)
        total = np.bincount(codes, minlength=len(names))
        kept = np.bincount(codes[self.keep], minlength=len(names))
        return pd.DataFrame({"name": names, "picks": total, "kept": kept})

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
        none = np.empty(0, np.int64), np.empty(0, np.int8), np.empty(0, np.int8)
        if last is not None and last.column == column:
            self._done.pop()
            before = last.range_before
        self._apply_range(column, limits)
        self._remember(Step(f"range of {column}", *none, column, before, limits))
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

    def toggle(self, row: int) -> None:
        """Turn one pick's verdict round."""
        self.decide(np.array([row]), "rejected" if self.keep[row] else "kept")

    def select(self, how: str, column: str = "", value: float = 0.0) -> None:
        """Change the selection: "all", "none", "invert", "kept", "rejected", "above" or "below" a value of a column."""
        if how == "all":
            self.selected[:] = True
        elif how == "none":
            self.selected[:] = False
        elif how == "invert":
            self.selected = ~self.selected
        elif how in ("kept", "rejected"):
            self.selected = self.keep if how == "kept" else ~self.keep
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


@dataclass(frozen=True)
class Saved:
    """Files of a saved curation."""

    kept: Path | None
    rejected: Path | None
    decisions: Path
    files: list[Path]


def save(curation: Curation, source: PickSource, target: str | Path, *, overwrite: bool = False) -> Saved:
    """Write the kept picks to ``target``, the others beside it, and the decisions so that they can be read back.

    Parameters
    ----------
    curation : Curation
    source : PickSource
        The file that the curation is of; its rows are written as they stand, with all their columns.
    target : str or Path
        ``picks_kept.star`` puts the others into ``picks_kept_rejected.star`` and the decisions into
        ``picks_kept_curation.json``.
    overwrite : bool
        Replace files that are there.

    Raises
    ------
    InputError
        When a file is there already, nothing is kept, or a file cannot be written.
    """
    target = Path(target)
    if target.suffix.lower() != source.suffix:
        target = target.with_name(target.name + source.suffix)
    others = target.with_name(f"{target.stem}_rejected{source.suffix}")
    decisions = target.with_name(f"{target.stem}_curation.json")
    for path in (target, others, decisions):
        if path.exists() and path.samefile(source.path):
            raise InputError(f"{path}: is the file that is curated, which is never overwritten; choose another name")
        if path.exists() and not overwrite:
            raise InputError(f"{path}: is there already; choose another name, or tick “replace”")
    keep = curation.keep
    if not keep.any():
        raise InputError(f"{source.path}: nothing is kept, so nothing is written; loosen the ranges")
    files = source.write_subset(keep, target)
    if (~keep).any():
        files += source.write_subset(~keep, others)
    elif others.exists():
        others.unlink()  # of the curation that is replaced
    write_text(decisions, json.dumps(description(curation, source), indent=1) + "\n")
    return Saved(target, others if (~keep).any() else None, decisions, [*files, decisions])


def description(curation: Curation, source: PickSource) -> dict[str, Any]:
    """Return everything needed to make the same choice again."""
    by_hand = {name: np.flatnonzero(curation.by_hand == code).tolist() for name, code in BY_HAND.items() if code}
    return {
        "tool": "pickbias curate",
        "version": __version__,
        "format": FORMAT,
        "source": {"path": str(source.path.absolute()), "bytes": source.path.stat().st_size, "rows": len(curation)},
        "ranges": {name: list(limits) for name, limits in curation.ranges.items()},
        "rows_by_hand": by_hand,
        "kept": int(curation.keep.sum()),
    }


def load(curation: Curation, path: str | Path) -> list[str]:
    """Take up the decisions of an earlier curation of the same rows; return what is worth knowing.

    Raises
    ------
    InputError
        When the file is none of ours, or of other rows.
    """
    path = Path(path)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        rows, ranges, by_hand = int(found["source"]["rows"]), dict(found["ranges"]), dict(found["rows_by_hand"])
    except OSError as fault:
        raise InputError(f"{path}: cannot be read ({fault.strerror}); check the path") from None
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{path}: is no saved curation; give a file that “Save” wrote (…_curation.json)") from None
    if rows != len(curation):
        raise InputError(
            f"{path}: is of {rows:,} rows, but {len(curation):,} are open; open the file it was made of: "
            f"{found['source'].get('path')}"
        )
    notes = [f"column {name} is not here; its range is left out" for name in ranges if name not in curation.features]
    _take_up(curation, {n: limits for n, limits in ranges.items() if n in curation.features}, by_hand)
    return notes


def _take_up(curation: Curation, ranges: Mapping[str, Any], by_hand: Mapping[str, list[int]]) -> None:
    for name in [*curation.ranges]:
        if name not in ranges:
            curation.set_range(name, None)
    curation.decide(np.ones(len(curation), np.bool_), "undecided")
    for name, rows in by_hand.items():
        curation.decide(np.asarray(rows, np.int64), name)
    for name, (low, high) in ranges.items():
        curation.set_range(name, (low, high))
