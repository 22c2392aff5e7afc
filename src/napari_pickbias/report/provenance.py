"""Tables that every report ends with: parameters, inputs, the run, versions."""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from pydantic import BaseModel

from napari_pickbias.report.document import Table

LIBRARIES = ("numpy", "scipy", "numba", "pandas", "mrcfile", "starfile", "matplotlib")
MOST_INPUTS = 40
"""Input files listed in a report; ``summary.json`` has them all."""


def program_name(summary: Mapping[str, Any]) -> str:
    """Return name and version of the program, as the foot of each page has it."""
    return f"{summary.get('tool', 'pickbias')} · napari-pickbias {summary.get('version', 'of unknown version')}"


def parameter_table(parameters: BaseModel) -> Table:
    """Return every parameter with its value and its description."""
    values = parameters.model_dump()
    rows = tuple(
        (name, _text(values[name]), field.description or "") for name, field in type(parameters).model_fields.items()
    )
    return Table("Parameters", ("parameter", "value", "meaning"), rows)


def _text(value: Any) -> str:
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def input_table(inputs: Sequence[Mapping[str, Any]]) -> Table:
    """Return the input files with size and what identifies them."""
    rows = [(str(item.get("path", "")), _size(item.get("size")), _identity(item)) for item in inputs[:MOST_INPUTS]]
    if len(inputs) > MOST_INPUTS:
        rows.append((f"and {len(inputs) - MOST_INPUTS:,} more files, listed in summary.json", "", ""))
    return Table("Input files", ("file", "size", "identity"), tuple(rows), frozenset({"size"}))


def _size(size: Any) -> str:
    if not isinstance(size, (int, float)):
        return ""
    value, unit = float(size), "bytes"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{value:.0f} {unit}" if unit == "bytes" else f"{value:.1f} {unit}"


def _identity(item: Mapping[str, Any]) -> str:
    if "sha256" in item:
        return f"sha256 {str(item['sha256'])[:16]}…"
    if "mtime" in item:
        return f"changed {datetime.fromtimestamp(float(item['mtime']), UTC):%Y-%m-%d %H:%M} UTC"
    return ""


def run_table(summary: Mapping[str, Any]) -> Table:
    """Return times, memory and versions."""
    rows = [(f"time to {name}", f"{seconds:.1f} s") for name, seconds in dict(summary.get("seconds", {})).items()]
    speed = dict(summary.get("results", {})).get("images_per_second")
    if speed is not None:
        rows.append(("speed", f"{speed:,.0f} images/s"))
    if summary.get("peak_memory_mb"):
        rows.append(("peak memory", f"{summary['peak_memory_mb']:,.0f} MB"))
    rows.append(("system", f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"))
    libraries = []
    for name in LIBRARIES:
        with contextlib.suppress(PackageNotFoundError):
            libraries.append(f"{name} {version(name)}")
    rows.append(("libraries", ", ".join(libraries)))
    return Table("Run", ("what", "value"), tuple(rows))
