"""Every dock opens from its menu entry, the way a user opens it."""

from __future__ import annotations

from typing import Any

import pytest
from napari._app_model import get_app_model
from npe2 import PluginManifest

from napari_pickbias.gui.docked import open_dock
from napari_pickbias.gui.preferences import DISPLAY_NAME, PLUGIN

pytestmark = pytest.mark.gui
DOCKS = ["Open project", "Curate", "Remove outliers", "Pick", "Picks and bias", "Soft modes", "Pick-free"]


def test_every_dock_is_in_our_submenu_and_opens_from_it(make_napari_viewer_proxy) -> None:
    viewer: Any = make_napari_viewer_proxy()
    contributions = PluginManifest.from_distribution(PLUGIN).contributions
    names = {widget.command: widget.display_name for widget in contributions.widgets}
    entries = [item.command for item in contributions.menus["pickbias"]]
    assert [names[command] for command in entries] == DOCKS
    app = get_app_model()
    offered = {item.command.id for item in app.menus.get_menu("pickbias") if hasattr(item, "command")}
    assert set(entries) <= offered
    for command in entries:
        app.commands.execute_command(command).result()
        title = f"{names[command]} ({DISPLAY_NAME})"
        assert title in viewer.window.dock_widgets
        open_dock(viewer, names[command])  # the one that is open, not a second one
    assert len(viewer.window.dock_widgets) == len(DOCKS)
