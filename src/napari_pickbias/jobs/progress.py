"""What every job yields while it works, and where it may leave finished pieces."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray


class Progress(NamedTuple):
    """One step of a job.

    ``done`` of ``total`` units of ``stage`` are finished; ``message`` is for the log and may be empty.
    """

    stage: str
    done: int
    total: int
    message: str = ""


class Checkpoints(Protocol):
    """Finished pieces of a job, kept for ``--resume``."""

    def load(self, name: str) -> dict[str, NDArray[Any]] | None:
        """Return the arrays saved under ``name``, or None when that piece is not finished."""
        ...

    def save(self, name: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Save the arrays of a finished piece, whole or not at all."""
        ...


class NoCheckpoints:
    """Keeps nothing: for Python callers and tests."""

    def load(self, name: str) -> dict[str, NDArray[Any]] | None:
        """Return None always."""
        del name
        return None

    def save(self, name: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Do nothing."""


Array = NDArray[np.generic]
