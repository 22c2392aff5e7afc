"""How many cores a run may use."""

from __future__ import annotations

import os


def allowed_cores() -> int:
    """Return the number of cores this process may use (a queue may allow fewer than the machine has)."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # only Linux tells what a queue allows
        return os.cpu_count() or 1
