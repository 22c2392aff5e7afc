"""CryoSPARC picks moved or added by hand: the group's tables with new places and new rows."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_pickbias.errors import InputError
from napari_pickbias.records.pick_edits import PickEdits, is_shared
from pickbias_cryosparc.group import Group
from pickbias_cryosparc.tables import Table

_X, _Y, _SHAPE = "location/center_x_frac", "location/center_y_frac", "location/micrograph_shape"


def edited_group(group: Group, micrograph: NDArray[np.int64], edits: PickEdits) -> Group:
    """Return a group with moved picks at their new places and the added ones as last rows.

    Parameters
    ----------
    group : Group
    micrograph : ndarray of int, shape (n,)
        Micrograph of each row, as ``edits.added_micrograph`` counts them.
    edits : PickEdits
        An added row takes from the first row of its micrograph what picks of a micrograph share (path, shape, exposure
        group, CTF), has an uid of its own, and 0 elsewhere.

    Raises
    ------
    InputError
        When the rows have particle images, which would no longer belong to them.
    """
    if group.has("blob/path"):
        raise InputError(
            f"{group.path}: its rows are extracted particles, whose images belong to the old places; move or add picks "
            "in the group they were extracted from"
        )
    donors = np.array([np.flatnonzero(micrograph == where)[0] for where in edits.added_micrograph.tolist()], np.int64)
    uids = _new_uids(group, edits)
    shapes = group.column(_SHAPE).astype(np.float64)
    moved = edits.moved_px / shapes[edits.moved][:, ::-1]
    added = edits.added_px / shapes[donors][:, ::-1]
    tables, places = [], []
    for table, place in zip(group.tables, group.places, strict=True):
        own = np.arange(len(group)) if place is None else place
        rows = np.array(table.rows)
        new = rows[own[donors]].copy()
        for name in table.fields:
            if name != "uid" and not is_shared(_codes(rows[name][own]), micrograph):
                new[name] = np.zeros((), rows.dtype[name].base)
        new["uid"] = uids
        for field, axis in ((_X, 0), (_Y, 1)):
            if field in table.fields:
                rows[field][own[edits.moved]] = moved[:, axis]
                new[field] = added[:, axis]
        tables.append(Table(table.path, np.concatenate([rows, new]), table.form))
        places.append(None if place is None else np.concatenate([place, len(rows) + np.arange(len(new))]))
    return replace(group, tables=tuple(tables), places=tuple(places))


def _codes(values: NDArray[Any]) -> NDArray[np.int64]:
    flat = np.ascontiguousarray(values).reshape(len(values), -1)
    raw = flat.view(np.dtype((np.void, flat.dtype.itemsize * flat.shape[1]))).ravel()
    return np.unique(raw, return_inverse=True)[1].astype(np.int64)


def _new_uids(group: Group, edits: PickEdits) -> NDArray[np.uint64]:
    """Return an uid for each added pick: the same for the same pick, and none that is there already."""
    taken = set(group.column("uid").tolist())
    found = []
    for number, (where, xy) in enumerate(zip(edits.added_micrograph.tolist(), edits.added_px.tolist(), strict=True)):
        uid, salt = 0, number
        while uid in taken or not uid:
            text = f"{where} {xy} {salt}".encode()
            uid, salt = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little"), salt + 1
        taken.add(uid)
        found.append(uid)
    return np.array(found, np.uint64)
