"""Opening napari on a particle file, and one plain line where no window can open."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Sequence

from napari_pickbias.errors import InputError
from napari_pickbias.gui.preferences import PLUGIN

_NEED_NO_DISPLAY = ("offscreen", "minimal", "vnc")


def check_window_system() -> None:
    """Check that a window can open here.

    Raises
    ------
    InputError
        When napari or a Qt binding is missing, or there is no display.
    """
    if importlib.util.find_spec("napari") is None:
        raise InputError("napari: is not installed; install it with pip install 'napari-pickbias[all]'")
    try:
        import qtpy.QtWidgets  # noqa: F401
    except ImportError as fault:  # qtpy's own errors are ImportErrors; so is a binding that lacks a system library
        raise InputError(
            f"Qt: no working binding ({fault}); install one with pip install 'napari[pyqt6]', or open the report.html "
            "that `pickbias outliers` writes"
        ) from fault
    platform = os.environ.get("QT_QPA_PLATFORM", "").split(":")[0]
    displays = ("DISPLAY", "WAYLAND_DISPLAY")
    if sys.platform.startswith("linux") and platform not in _NEED_NO_DISPLAY and not any(map(os.environ.get, displays)):
        raise InputError(
            "display: neither DISPLAY nor WAYLAND_DISPLAY is set, so no window can open; work on a desktop or through "
            "VNC or xpra, or open the report.html that `pickbias outliers` writes"
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Open napari with the outlier dock on the particle files named; return the exit code."""
    paths = list(sys.argv[1:] if arguments is None else arguments)
    try:
        check_window_system()
    except InputError as fault:
        print(f"pickbias: {fault}", file=sys.stderr)
        return 2
    import napari

    viewer = napari.Viewer()
    if paths:
        viewer.open(paths, plugin=PLUGIN)
    viewer.window.add_plugin_dock_widget(PLUGIN, "Remove outliers")
    napari.run()
    return 0
