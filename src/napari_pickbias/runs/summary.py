"""``summary.json``: what was run, on what, with which result, how long it took and how much memory it needed."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from napari_pickbias import __version__
from napari_pickbias.records.atomic import write_text


def peak_memory_mb() -> float:
    """Return the largest resident size of this process so far, in MB (0 where the system does not tell)."""
    if sys.platform == "win32":
        import psutil

        return float(psutil.Process().memory_info().peak_wset) / 1e6
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux counts kilobytes, macOS bytes.
    return peak / 1e6 if sys.platform == "darwin" else peak / 1e3


def plain(value: Any) -> Any:
    """Return ``value`` as JSON can hold it: NumPy values become plain, NaN and infinities become None."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Path):
        return str(value)
    return value


def build_summary(
    tool: str,
    parameters: Mapping[str, Any],
    inputs: list[dict[str, Any]],
    results: Mapping[str, Any],
    seconds: Mapping[str, float],
) -> dict[str, Any]:
    """Return the dictionary that ``summary.json`` holds (docs/command-line.md)."""
    found: dict[str, Any] = plain(
        {
            "tool": tool,
            "version": __version__,
            "parameters": parameters,
            "inputs": inputs,
            "results": results,
            "seconds": {name: round(value, 3) for name, value in seconds.items()},
            "peak_memory_mb": round(peak_memory_mb(), 1),
        }
    )
    return found


def write_summary(target: Path, summary: Mapping[str, Any]) -> None:
    """Write ``summary.json`` whole or not at all."""
    write_text(target, json.dumps(summary, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_summary(path: Path) -> dict[str, Any]:
    """Return the ``summary.json`` of a finished run."""
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found
