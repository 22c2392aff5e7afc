"""Opening the window from a terminal, or saying in one line why none can open."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from napari_pickbias.errors import InputError
from napari_pickbias.gui import launch


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems always have a window system")
def test_without_a_display_one_line_says_so() -> None:
    hidden = ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    run = subprocess.run(
        [sys.executable, "-m", "napari_pickbias.gui", "x.star"],
        capture_output=True, text=True, check=False, env=environment,
    )  # fmt: skip
    assert run.returncode == 2
    assert run.stdout == ""
    assert run.stderr == (
        "pickbias: display: neither DISPLAY nor WAYLAND_DISPLAY is set, so no window can open; work on a desktop or "
        "through VNC or xpra, or open the report.html that `pickbias outliers` writes\n"
    )


def test_without_a_qt_binding_one_line_says_so() -> None:
    code = (
        "import sys, importlib.abc\n"
        "class Hide(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name.split('.')[0] in ('PyQt5', 'PyQt6', 'PySide2', 'PySide6'): raise ImportError(name)\n"
        "sys.meta_path.insert(0, Hide())\n"
        "from napari_pickbias.gui.launch import main\n"
        "sys.exit(main([]))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 2, run.stderr
    assert run.stderr.startswith("pickbias: Qt: no working binding (")
    assert run.stderr.endswith(
        "); install one with pip install 'napari[pyqt6]', or open the report.html that `pickbias outliers` writes\n"
    )
    assert run.stderr.count("\n") == 1


def test_without_napari_one_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"^napari: is not installed; install it with pip install 'napari-pickbias"):
        launch.check_window_system()
