"""Atomic models: where their atoms are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_pickbias.errors import InputError

MODEL_SUFFIXES = (".pdb", ".ent")


def read_atoms(path: str | Path) -> NDArray[np.float64]:
    """Return the places of a PDB file's atoms but hydrogens, of its first model.

    Parameters
    ----------
    path : str or Path
        Format version 3: x, y and z in the columns 31 to 54 of ``ATOM`` and ``HETATM`` records.

    Returns
    -------
    ndarray, shape (k, 3)
        x, y, z, Å.

    Raises
    ------
    InputError
        When there is no such file, a coordinate is no number, or no atom is in it.
    """
    places = []
    try:
        text = Path(path).read_text(encoding="ascii", errors="replace")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); give a model in PDB format") from None
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("ENDMDL"):
            break
        if not line.startswith(("ATOM", "HETATM")) or _is_hydrogen(line):
            continue
        try:
            place = [float(line[start : start + 8]) for start in (30, 38, 46)]
        except ValueError:
            place = [np.nan]
        if not np.isfinite(place).all():
            raise InputError(
                f"{path}: line {number} has no coordinates in columns 31 to 54; give a model in PDB format"
            )
        places.append(place)
    if not places:
        raise InputError(f"{path}: holds no ATOM records; give a model in PDB format")
    return np.array(places)


def _is_hydrogen(line: str) -> bool:
    element = line[76:78].strip() or line[12:14].strip().lstrip("0123456789")[:1]
    return element in ("H", "D")
