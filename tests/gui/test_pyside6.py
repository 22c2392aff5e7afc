"""The other binding: where PySide6 is installed, every dock opens with it, and the canvas draws."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.gui,
    pytest.mark.skipif(importlib.util.find_spec("PySide6") is None, reason="PySide6 is not installed here"),
]
SCRIPT = """
import sys

sys.modules["PyQt6"] = None  # as where it is not installed: what asks for it gets an ImportError
import numpy as np
import napari
from napari.layers import Image
from npe2 import PluginManifest
from qtpy import API_NAME
from qtpy.QtWidgets import QApplication

assert API_NAME == "PySide6", API_NAME
viewer = napari.Viewer(show=True)
for widget in PluginManifest.from_distribution("napari-pickbias").contributions.widgets:
    dock, inner = viewer.window.add_plugin_dock_widget("napari-pickbias", widget.display_name)
    QApplication.processEvents()
    if hasattr(inner, "run"):
        inner.run()
        QApplication.processEvents()
    viewer.window.remove_dock_widget(inner)
viewer.open_sample("napari-pickbias", "picking")
shown = viewer.screenshot(canvas_only=True, flash=False)
assert len(np.unique(shown)) > 100, "the canvas is blank"
viewer.close()
print("OPENED")
"""


def test_every_dock_opens_and_the_canvas_draws(tmp_path: Path) -> None:
    environment = {**os.environ, "QT_API": "pyside6", "NAPARI_CONFIG": str(tmp_path / "settings.yaml")}
    found = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=240, env=environment, check=False
    )
    assert found.returncode == 0, found.stderr[-3000:]
    assert "OPENED" in found.stdout
    assert "Traceback" not in found.stderr, found.stderr[-3000:]
