"""The user's Preferences, with the manifest's defaults where napari keeps none."""

from __future__ import annotations

from typing import Any

from napari_pickbias.runs.cores import allowed_cores

PLUGIN = "napari-pickbias"
DISPLAY_NAME = "PickBias"
DEFAULTS: dict[str, dict[str, Any]] = {
    "particles": {"radius": 0.0, "lazy": True},
    "outliers": {"false_keep_percent": 1.0, "threads": 0},
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
    chosen = int(preference("outliers", "threads"))
    if chosen > 0:
        return chosen
    return max(1, allowed_cores() - 1)
