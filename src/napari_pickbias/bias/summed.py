"""Sums over micrographs or tomograms that come one at a time."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Self

from numpy.typing import NDArray


@dataclass
class Summed:
    """Arrays that add, field by field; every field of a class derived from this one must be an array."""

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return all sums by name, for checkpoints."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def add(self, other: Self) -> None:
        """Add another one's sums to these."""
        for field in fields(self):
            mine = getattr(self, field.name)
            mine += getattr(other, field.name)
