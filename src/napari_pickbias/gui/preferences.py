"""The user's Preferences, with the manifest's defaults where napari keeps none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from napari_pickbias.runs.cores import allowed_cores

PLUGIN = "napari-pickbias"
DISPLAY_NAME = "PickBias"
OFFERS = "pickbias_offers"
"""Key in a layer's metadata; its value maps fields of docks to what suits these data."""
DEFAULTS: dict[str, dict[str, Any]] = {
    "particles": {"radius": 0.0, "lazy": True},
    "outliers": {"false_keep_percent": 1.0},
    "picking": {"fdr_percent": 5.0},
    "runs": {"threads": 0, "folder": "", "memory_mb": 512},
}
"""The same values as in napari.yaml (a test compares them)."""


def preference(section: str, name: str) -> Any:
    """Return one value of Edit > Preferences > PickBias.

    Where the plugin is not registered with napari (a script that imports these modules), the default is returned.
    """
    try:
        from napari.settings import get_plugin_settings

        return getattr(getattr(get_plugin_settings(PLUGIN), section), name)
    except (ImportError, KeyError, AttributeError):
        return DEFAULTS[section][name]


def threads() -> int:
    """Return how many threads a job may use: the Preference, or all allowed cores but one."""
    chosen = int(preference("runs", "threads"))
    if chosen > 0:
        return chosen
    return max(1, allowed_cores() - 1)


def field_defaults() -> dict[str, Any]:
    """Return what the docks' forms begin with, by the names of the parameter models."""
    offers: dict[str, Any] = {}
    diameter = 2 * float(preference("particles", "radius"))
    if diameter > 0:
        offers["diameter"] = diameter
    share = float(preference("picking", "fdr_percent"))
    if share != DEFAULTS["picking"]["fdr_percent"]:
        offers["fdr"] = share / 100
    return offers


def output_folder(source: Path, name: str) -> Path:
    """Return where results of ``source`` go: beside it, or in the folder that the Preferences name."""
    chosen = str(preference("runs", "folder")).strip()
    return (Path(chosen).expanduser() if chosen else source.parent) / name
