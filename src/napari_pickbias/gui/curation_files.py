"""Saving a curation, both sets and the decisions, and taking the decisions up again. No Qt."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from napari_pickbias import __version__
from napari_pickbias.errors import InputError
from napari_pickbias.gui.curation import BY_HAND, Curation
from napari_pickbias.records.atomic import write_text
from napari_pickbias.records.pick_tables import PickSource

FORMAT = 2
"""2 has picks moved and added by hand; 1 is read too."""


@dataclass(frozen=True)
class Saved:
    """Files of a saved curation."""

    kept: Path | None
    rejected: Path | None
    decisions: Path
    files: list[Path]
    edited: str = ""
    """How many picks were moved and added, and how they stand in the files."""


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
    keep, rows = curation.keep, curation.file_rows
    if not keep.any():
        raise InputError(f"{source.path}: nothing is kept, so nothing is written; loosen the ranges")
    files = source.write_subset(keep[:rows], target, edits=curation.edits(keep))
    if (~keep).any():
        files += source.write_subset(~keep[:rows], others, edits=curation.edits(~keep))
    elif others.exists():
        others.unlink()  # of the curation that is replaced
    write_text(decisions, json.dumps(description(curation, source), indent=1) + "\n")
    return Saved(target, others if (~keep).any() else None, decisions, [*files, decisions], _edited(curation))


def _edited(curation: Curation) -> str:
    edits = curation.edits()
    said = [f"{len(edits.moved):,} moved picks have their new coordinates"] if len(edits.moved) else []
    if len(edits.added_px):
        said.append(
            f"{len(edits.added_px):,} added picks have rows of their own, with what the picks of their micrograph "
            "share and “not measured” in the other columns"
        )
    return "; ".join(said) + "." if said else ""


def description(curation: Curation, source: PickSource) -> dict[str, Any]:
    """Return everything needed to make the same choice again."""
    by_hand = {name: np.flatnonzero(curation.by_hand == code).tolist() for name, code in BY_HAND.items() if code}
    edits, names = curation.edits(), curation.table.micrograph_names
    added = zip(edits.added_micrograph.tolist(), edits.added_px.tolist(), strict=True)
    return {
        "tool": "pickbias curate",
        "version": __version__,
        "format": FORMAT,
        "source": {
            "path": str(source.path.absolute()),
            "bytes": source.path.stat().st_size,
            "rows": curation.file_rows,
        },
        "ranges": {name: list(limits) for name, limits in curation.ranges.items()},
        "rows_by_hand": by_hand,
        "moved": [[row, *xy] for row, xy in zip(edits.moved.tolist(), edits.moved_px.tolist(), strict=True)],
        "added": [[names[m], *xy] for m, xy in added],
        "flagged": [names[m] for m in np.flatnonzero(curation.flagged).tolist() if m < len(names)],
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
        moved = {int(row): (float(x), float(y)) for row, x, y in found.get("moved", [])}
        added = [(str(name), (float(x), float(y))) for name, x, y in found.get("added", [])]
        flagged = {str(name) for name in found.get("flagged", [])}
        if not all(0 <= row < rows for row in moved):
            raise ValueError("rows that are not there")
    except OSError as fault:
        raise InputError(f"{path}: cannot be read ({fault.strerror}); check the path") from None
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{path}: is no saved curation; give a file that “Save” wrote (…_curation.json)") from None
    if rows != curation.file_rows:
        raise InputError(
            f"{path}: is of {rows:,} rows, but {curation.file_rows:,} are open; open the file it was made of: "
            f"{found['source'].get('path')}"
        )
    if (moved or added) and curation.fixed:
        raise InputError(
            f"{path}: has picks moved or added by hand, but {curation.fixed}; open the file it was made of"
        )
    names = {name: index for index, name in enumerate(curation.table.micrograph_names)}
    gone = [name for name, _ in added if name not in names]
    if gone:
        raise InputError(f"{path}: has a pick on {gone[0]}, which is no micrograph of the open file; open its own file")
    notes = [f"column {name} is not here; its range is left out" for name in ranges if name not in curation.features]
    if curation.edits():
        curation.forget_edits()
    if moved:
        curation.move(np.array(list(moved)), np.array(list(moved.values())))
    if added:
        curation.add(np.array([names[name] for name, _ in added]), np.array([xy for _, xy in added]))
    for name, index in names.items():
        curation.flagged[index] = name in flagged
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
