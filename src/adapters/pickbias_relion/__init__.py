"""RELION STAR files and projects to records and back; External job programs.

The names below load on first use, so that an External job's program starts without them and can report their absence.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pickbias_relion.particles import open_particles, read_particles
    from pickbias_relion.star_subset import write_subset

__all__ = ["open_particles", "read_particles", "write_subset"]

_HOMES = {
    "open_particles": "pickbias_relion.particles",
    "read_particles": "pickbias_relion.particles",
    "write_subset": "pickbias_relion.star_subset",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
